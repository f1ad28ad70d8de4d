# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What must be done so that an agent runs what is wanted, by what runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _release
from ansible_collections.locki.vaettir.plugins.module_utils._plan import (
    Aim,
    Plan,
    Runs,
    built_on,
    compare,
    differing,
    nginx_differs,
)

RELEASE, OTHER = "20261123T013000Z", "20261122T013000Z"
BASE = "nginx:1.30"
CONF = "a.conf.template"
FILES = {"Dockerfile": "d1", "entrypoint.sh": "e1", CONF: "c1", "values": "v1", "compose.yml": "y1"}
AIM = Aim("vaettir-a:proxy", BASE, FILES)
NOTHING = Plan()
AGAIN = "its image is built again"


def image(*layers: str, base: str = BASE) -> dict[str, Any]:
    return {
        "Id": f"sha256:{''.join(layers)}",
        "Config": {"Labels": {_docker.BASE_LABEL: base}},
        "RootFS": {"Layers": list(layers)},
    }


def container(status: str = "running", health: str = "healthy", of: str = "sha256:123") -> dict[str, Any]:
    state = {"Status": status, "Running": status == "running", "Health": {"Status": health}}
    return {"Image": of, "State": state, "Config": {"Labels": {}}}


def says(knows: str = "pending", release: str | None = RELEASE, **files: str) -> _release.State:
    """What a container says of itself, `conf` and `values` among it; the rest of FILES as it was released."""
    in_force = {CONF: files.get("conf", "c1"), "values": files.get("values", "v1")}
    made = {"image:Dockerfile": files.get("dockerfile", "d1"), "image:entrypoint.sh": files.get("entrypoint", "e1")}
    return _release.State(knows=knows, release=release, files={**in_force, **made})


AS_WANTED = Runs(container(), image("1", "2", "3"), image("1", "2"), says(), RELEASE, FILES, "")
STOPPED = replace(AS_WANTED, container=container("exited"), state=_release.State())
ABSENT = replace(STOPPED, container=None)
OLD_PROGRAM = {**FILES, "Dockerfile": "d0", "entrypoint.sh": "e0"}
OF_0_1_0 = replace(AS_WANTED, state=says(knows="", dockerfile="d0", entrypoint="e0"), released=OLD_PROGRAM)
CANNOT_RELOAD = "its entry point is of release 0.1.0, which cannot be reloaded to another release and back"
UNKNOWN = "the container does not run, so what is in its image is not known"
ROLLBACK = Aim("vaettir-a:proxy", "", {CONF: "c1", "values": "v1", "compose.yml": "y1"})


@pytest.mark.parametrize(
    ("aim", "runs", "plan"),
    [
        pytest.param(AIM, AS_WANTED, NOTHING, id="nothing"),
        pytest.param(
            AIM,
            replace(AS_WANTED, image=None),
            Plan(build=("there is no image vaettir-a:proxy",), replace=(AGAIN,)),
            id="no image",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, image=image("1", "2", "3", base="nginx:1.28")),
            Plan(build=(f"it is not built on {BASE}",), replace=(AGAIN,)),
            id="another base by its name",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, base=image("1", "9")),
            Plan(build=(f"it is not built on {BASE}",), replace=(AGAIN,)),
            id="another base of that name",
        ),
        pytest.param(AIM, replace(AS_WANTED, base=None), NOTHING, id="a base that was not pulled"),
        pytest.param(
            replace(AIM, base_image=""),
            replace(AS_WANTED, image=image("9", base="x"), base=None),
            Plan(replace=("it does not run this image",)),
            id="whatever base",
        ),
        pytest.param(AIM, ABSENT, Plan(build=(UNKNOWN,), start=("there is no container",)), id="no container"),
        pytest.param(AIM, STOPPED, Plan(build=(UNKNOWN,), start=("it is exited",)), id="a stopped one"),
        pytest.param(
            AIM,
            replace(ABSENT, image=None),
            Plan(build=("there is no image vaettir-a:proxy",), start=("there is no container",)),
            id="nothing at all",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, container=container(of="sha256:0")),
            Plan(replace=("it does not run this image",)),
            id="an image that was built since",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, container=container(health="unhealthy")),
            Plan(replace=("it is unhealthy",)),
            id="unhealthy",
        ),
        pytest.param(AIM, replace(AS_WANTED, container=container(health="starting")), NOTHING, id="starting"),
        pytest.param(
            AIM,
            replace(AS_WANTED, service="its compose service differs"),
            Plan(replace=("its compose service differs",)),
            id="another service",
        ),
        pytest.param(
            AIM,
            replace(
                AS_WANTED,
                container=container(health="unhealthy"),
                state=says(release=""),
                service="its compose service differs",
            ),
            Plan(replace=("it is unhealthy", "its releases are gone", "its compose service differs")),
            id="several reasons",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, state=says(conf="c0", values="v0")),
            Plan(reload=(f"{CONF} differs", "values differs")),
            id="what nginx reads",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, container=container(of="sha256:0"), state=says(conf="c0")),
            Plan(replace=("it does not run this image",), reload=(f"{CONF} differs",)),
            id="a reload does not do for another image",
        ),
        # Our own program
        pytest.param(
            AIM,
            replace(AS_WANTED, state=says(dockerfile="d0", entrypoint="e0"), released=OLD_PROGRAM),
            NOTHING,
            id="an older program of ours waits",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, state=says(conf="c0", entrypoint="e0"), released={**FILES, "entrypoint.sh": "e0"}),
            Plan(reload=(f"{CONF} differs",)),
            id="also while only nginx' files differ",
        ),
        pytest.param(
            AIM,
            replace(
                AS_WANTED,
                state=says(entrypoint="e0"),
                released={**FILES, "entrypoint.sh": "e0"},
                service="its compose service differs",
            ),
            Plan(build=("entrypoint.sh differs",), replace=("its compose service differs",)),
            id="and comes with a replacement",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, state=says(entrypoint="by hand")),
            Plan(build=("entrypoint.sh differs",), replace=(AGAIN,)),
            id="a program made by hand is built again",
        ),
        pytest.param(
            AIM,
            replace(AS_WANTED, state=says(dockerfile="by hand", conf="c0"), released={}),
            Plan(build=("Dockerfile differs",), replace=(AGAIN,), reload=(f"{CONF} differs",)),
            id="one without a release, too",
        ),
        # Images of 0.1.0
        pytest.param(AIM, OF_0_1_0, NOTHING, id="0.1.0 is no reason"),
        pytest.param(AIM, replace(OF_0_1_0, state=replace(OF_0_1_0.state, release=None)), NOTHING, id="nor older ones"),
        pytest.param(
            AIM,
            replace(OF_0_1_0, state=says(knows="", conf="c0", dockerfile="d0", entrypoint="e0")),
            Plan(
                build=("Dockerfile differs", "entrypoint.sh differs"),
                replace=(CANNOT_RELOAD,),
                reload=(f"{CONF} differs",),
            ),
            id="0.1.0 is replaced, not reloaded",
        ),
        # A rollback
        pytest.param(ROLLBACK, AS_WANTED, NOTHING, id="rollback to what runs"),
        pytest.param(
            ROLLBACK,
            replace(AS_WANTED, container=container(of="sha256:0"), state=says(conf="c0", entrypoint="e9"), base=None),
            Plan(replace=("it does not run this image",), reload=(f"{CONF} differs",)),
            id="rollback never builds",
        ),
        pytest.param(
            ROLLBACK, replace(ABSENT, base=None), Plan(start=("there is no container",)), id="rollback of a stopped one"
        ),
        # What has no files is not compared
        pytest.param(
            Aim("their-a", "", {}), replace(AS_WANTED, release="", state=_release.State()), NOTHING, id="no files"
        ),
    ],
)
def test_compare(aim: Aim, runs: Runs, plan: Plan) -> None:
    assert compare(aim, runs) == plan


@pytest.mark.parametrize(
    ("current", "seen", "sees"),
    [
        (RELEASE, RELEASE, True),
        (RELEASE, "", False),
        (RELEASE, OTHER, False),
        (RELEASE, None, True),
        ("", "", False),
    ],
)
def test_whether_a_container_sees_its_release(current: str, seen: str | None, sees: bool) -> None:
    plan = compare(AIM, replace(AS_WANTED, release=current, state=says(release=seen)))
    assert plan == (NOTHING if sees else Plan(replace=("its releases are gone",)))


def test_a_container_that_dies_over_and_over_does_not_run() -> None:
    dies = container()
    dies["State"].update(Restarting=True, Status="restarting")
    assert compare(AIM, replace(AS_WANTED, container=dies)).start == ("it is restarting",)
    again = {**container(health="starting"), "RestartCount": 3}
    assert compare(AIM, replace(AS_WANTED, container=again)).start == ("it is restarting",)
    assert compare(AIM, replace(AS_WANTED, container={**again, "RestartCount": 0})) == NOTHING
    assert compare(AIM, replace(AS_WANTED, container={**container(), "RestartCount": 3})) == NOTHING


def test_differing() -> None:
    wanted, found = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}
    assert differing(wanted, found) == ["b differs", "c differs", "d goes"]
    assert differing(wanted, wanted) == []


def test_nginx_reads_nothing_of_the_image() -> None:
    assert nginx_differs(AIM, says(dockerfile="d0")) == []
    assert nginx_differs(AIM, _release.State()) == [f"{CONF} differs", "values differs"]
    files = {**says().files, "a.ca.pem": "p"}
    assert nginx_differs(AIM, _release.State(files=files)) == ["a.ca.pem goes"]


@pytest.mark.parametrize(
    ("layers", "below", "built"),
    [
        (["1", "2", "3"], ["1", "2"], True),
        (["1", "3"], ["1", "2"], False),
        (["1"], ["1", "2"], False),
        (["1"], ["1"], True),
    ],
)
def test_built_on(layers: list[str], below: list[str], built: bool) -> None:
    assert built_on(image(*layers), image(*below)) is built


@pytest.mark.parametrize(
    ("plan", "action"),
    [
        (Plan(), ""),
        (Plan(build=("x",)), ""),
        (Plan(reload=("x",)), "reload"),
        (Plan(replace=("x",), reload=("x",)), "replace"),
        (Plan(start=("x",), replace=("x",), reload=("x",)), "start"),
    ],
)
def test_the_action_of_a_plan(plan: Plan, action: str) -> None:
    assert plan.action == action


def test_reasons() -> None:
    assert Plan(("a",), ("b",), ("c",), ("d", "e")).reasons == (
        "build the image: a",
        "start the container: b",
        "replace the container: c",
        "reload: d",
        "reload: e",
    )
