# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What must be done so that an agent runs what is wanted, by a look at what runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from . import _docker, _release

IMAGE_FILES = ("Dockerfile", "entrypoint.sh")  # what makes an image; compose's own matter; all others are nginx's
FRAGMENT = "compose.yml"


@dataclass(frozen=True)
class Plan:
    """Why the image must be built, and why the container must be started, replaced or only reloaded."""

    build: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        groups = (
            ("build the image", self.build),
            ("start the container", self.start),
            ("replace the container", self.replace),
            ("reload", self.reload),
        )
        return tuple(f"{what}: {reason}" for what, reasons in groups for reason in reasons)

    @property
    def action(self) -> str:
        """How the release is switched to: start, replace, reload, or nothing to do."""
        return "start" if self.start else "replace" if self.replace else "reload" if self.reload else ""


@dataclass(frozen=True)
class Runs:
    """What there is of an agent on the server."""

    container: dict[str, Any] | None  # `docker inspect`
    image: dict[str, Any] | None
    base: dict[str, Any] | None
    state: _release.State
    release: str  # the committed one
    released: Mapping[str, str]  # digests of that release's files
    service: str  # why compose's service is not the wanted one; empty where it is

    @property
    def running(self) -> dict[str, Any] | None:
        return self.container if _docker.running(self.container) else None


@dataclass(frozen=True)
class Aim:
    """What is wanted, by digests."""

    image: str
    base_image: str  # empty: whatever the image was built on
    files: Mapping[str, str]  # name in a release -> SHA-256; empty: nothing is compared


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A sentence for each name whose digest is another one, or is there on one side only."""
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return [f"{name} {'differs' if name in wanted else 'goes'}" for name in names]


def built_on(image: dict[str, Any], base: dict[str, Any]) -> bool:
    """An image begins with the layers of the image that it was built on."""
    layers, below = image["RootFS"]["Layers"], base["RootFS"]["Layers"]
    return bool(layers[: len(below)] == below)


def compare(aim: Aim, runs: Runs) -> Plan:
    program, hand_made = _program(aim, runs)
    reload = nginx_differs(aim, runs.state) if runs.running and aim.files else []
    build = _build(aim, runs) + hand_made
    replace = _replace(aim, runs, build)
    if reload and not replace and runs.state.knows != "pending":
        replace = ["its entry point is of release 0.1.0, which cannot be reloaded to another release and back"]
    # Our own program, where it alone is older, waits for the next change: nobody's WebSocket ends for it.
    if program and (build or replace or not runs.running):
        build += program
        replace = replace or (["its image is built again"] if runs.running else [])
    start = (
        []
        if runs.running
        else [f"it is {_docker.status(runs.container)}" if runs.container else "there is no container"]
    )
    return Plan(tuple(build), tuple(start), tuple(replace), tuple(reload))


def _program(aim: Aim, runs: Runs) -> tuple[list[str], list[str]]:
    """Differences of what makes the image: those of an older release of ours, and hand-made ones."""
    wanted = {name: digest for name, digest in aim.files.items() if name in IMAGE_FILES}
    if not runs.running or not wanted:
        return [], []
    found = {name: runs.state.files.get(f"image:{name}", "") for name in wanted}
    released = {name: runs.released.get(name, "") for name in wanted}
    differs = differing(wanted, found)
    return (differs, []) if found == released else ([], differs)


def _build(aim: Aim, runs: Runs) -> list[str]:
    if not runs.image:
        return [f"there is no image {aim.image}"]
    if aim.base_image and _other_base(aim.base_image, runs.image, runs.base):
        return [f"it is not built on {aim.base_image}"]
    if not runs.running and aim.base_image:
        return ["the container does not run, so what is in its image is not known"]
    return []


def _other_base(wanted: str, image: dict[str, Any], base: dict[str, Any] | None) -> bool:
    """By its name, which may not have been pulled yet; or because that name is another image by now."""
    return _docker.labels(image).get(_docker.BASE_LABEL) != wanted or bool(base and not built_on(image, base))


def _replace(aim: Aim, runs: Runs, build: list[str]) -> list[str]:
    if not runs.running:
        return []
    reasons = []
    if build:
        reasons.append("its image is built again")
    elif runs.image and runs.running["Image"] != runs.image["Id"]:
        reasons.append("it does not run this image")
    if _docker.health(runs.running) == "unhealthy":
        reasons.append("it is unhealthy")
    # What is mounted is the folder that was there when it started, even when that was deleted and made again.
    if aim.files and not (runs.release and runs.state.release in (runs.release, None)):
        reasons.append("its releases are gone")
    if runs.service:
        reasons.append(runs.service)
    return reasons


def nginx_differs(aim: Aim, state: _release.State) -> list[str]:
    """What nginx reads, against what it should read."""
    wanted = {name: digest for name, digest in aim.files.items() if name not in (*IMAGE_FILES, FRAGMENT)}
    return differing(wanted, {name: found for name, found in state.files.items() if ":" not in name})
