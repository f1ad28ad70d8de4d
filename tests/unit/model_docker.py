# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server's Docker in memory: what its command does, and what our entry point does in each container by itself.

Releases, `current` and `pending` are real files with real locks, and everything of ours that runs on a server is real.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _agent,
    _containers,
    _docker,
    _dotenv,
    _engine,
    _explain,
    _facts,
    _files,
    _names,
    _probe,
    _release,
    _switch,
    _visitor,
)
from ansible_collections.locki.vaettir.plugins.modules import agent_release

from .death import Killed, quiet

Said = tuple[int, str, str]  # exit status, output, errors
LOCALHOST = "127.0.0.1"
DONE: Said = (0, "", "")
NO_ROUTE = {"traefik.enable": "false"}


def is_held(stream: IO[bytes]) -> bool:
    """`flock -ns`."""
    try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(stream, fcntl.LOCK_UN)
    return False


@dataclass
class Image:
    id: str
    files: dict[str, bytes]

    @property
    def ours(self) -> bool:
        return "entrypoint.sh" in self.files

    @property
    def labels(self) -> dict[str, str]:
        if not self.ours:
            return {}
        base = self.files["Dockerfile"].decode().split()[1]
        return {_docker.AGENT_LABEL: self.files["agent"].decode(), _docker.BASE_LABEL: base}

    @property
    def program(self) -> dict[str, bytes]:
        return {name: self.files[name] for name in ("Dockerfile", "entrypoint.sh") if self.ours}

    @property
    def copies(self) -> dict[str, bytes]:
        return {name: text for name, text in self.files.items() if name not in (*self.program, "agent")}

    @property
    def knows_pending(self) -> bool:
        return b"pending" in self.files.get("entrypoint.sh", b"")


@dataclass
class Container:
    """With the entry point's commands. /run/vaettir is `made`, `drain` and `born`."""

    id: str
    name: str
    image: Image
    folder: Path  # its releases
    env: dict[str, str]
    labels: dict[str, str]
    address: str
    policy: str = "no"
    command: tuple[str, ...] = ()
    running: bool = False
    made: bool = False
    drain: bool = False
    born: str = ""
    in_force: dict[str, bytes] = field(default_factory=dict)
    secret: dict[str, bytes] = field(default_factory=dict)
    log: str = ""
    pending: IO[bytes] | None = None  # a watcher waits for its lock

    @property
    def environment(self) -> bytes:
        return _release.values(self.image.files["agent"].decode(), self.env)

    @property
    def conf(self) -> str:
        return self.in_force[f"{self.image.files['agent'].decode()}.conf.template"].decode()

    @property
    def healthy(self) -> bool:
        return not self.drain and not self.conf.startswith("sick")

    def held(self) -> bool:
        if not self.image.knows_pending or not (self.folder / "pending").exists():
            return False
        with (self.folder / "pending").open("rb") as stream:
            return is_held(stream)

    def active(self, name: str) -> _release.Current:
        content = _files.read_bytes(str(self.folder / name))
        return _release.parse_current((content or b"").decode())

    def choose(self, active: _release.Current, chosen: str) -> None:
        """What nginx reads. An ID is that release and nothing else."""
        there = bool(chosen or active.release) and (self.folder / (chosen or active.release)).is_dir()
        release = (
            {one.name: one.read_bytes() for one in (self.folder / (chosen or active.release)).iterdir()}
            if there
            else {}
        )
        files = self.image.copies
        if there and (chosen or _release.digest(self.image.copies) in active.images):
            files = {name: release[name] for name in self.image.copies if name in release}
        values = self.environment
        if there and (chosen or _files.digest(values) in active.environments):
            values = release[_release.VALUES]
        if any(text.startswith(b"nonsense") for text in files.values()):
            self.log = "agent-proxy: nginx refuses the new conf: unknown directive"
            raise ValueError(self.log)
        self.in_force = {**files, _release.VALUES: values}

    def serve(self) -> None:
        """Only one that was just made belongs to a switch."""
        name = "pending" if not self.made and self.held() else "current"
        self.made, self.drain, self.running = True, False, True
        try:
            self.choose(self.active(name), self.command[1] if self.command[:1] == ("serve",) else "")
        except ValueError:
            self.running = False
            return
        if name == "pending":
            self.born = self.active(name).switch
            self.watch()
        elif self.born:
            self.drain = self.born != self.active("current").switch
            self.born = self.born if self.drain else ""

    def watch(self) -> None:
        self.pending = (self.folder / "pending").open("rb")

    def reload(self) -> None:
        name = "pending" if self.held() else "current"
        if name == "pending":
            self.watch()
        self.choose(self.active(name), "")

    def notices(self) -> None:
        """The watcher, when its lock is free."""
        if not self.pending or is_held(self.pending):
            return
        switch = _release.parse_current(self.pending.read().decode()).switch
        self.pending.close()
        self.pending = None
        if self.active("current").switch == switch:
            self.born = ""
        elif self.born:
            self.drain = True
        else:
            self.reload()

    def state(self) -> str:
        seen = self.active("pending" if self.held() else "current").release
        lines = [
            f"image={_release.digest(self.image.copies)}",
            f"environment={_files.digest(self.environment)}",
            f"release={seen if (self.folder / seen).is_dir() else ''}",
            "draining=0",
            *(["knows=pending"] if self.image.knows_pending else []),
            *(f"{_files.digest(text)}  {name}" for name, text in self.in_force.items()),
            *(f"{_files.digest(text)}  image:{name}" for name, text in self.image.program.items()),
        ]
        return "\n".join(lines) + "\n"

    def inspected(self) -> dict[str, Any]:
        health = {"Health": {"Status": "healthy" if self.healthy else "unhealthy"}} if self.running else {}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Image": self.image.id,
            "State": {"Status": "running" if self.running else "exited", "Running": self.running, **health},
            "Config": {
                "Image": "",
                "Labels": self.labels,
                "Env": [f"{key}={value}" for key, value in self.env.items()],
                "Cmd": list(self.command),
            },
            "HostConfig": {"NetworkMode": "vaettir_default", "RestartPolicy": {"Name": self.policy}},
            "NetworkSettings": {"Networks": {"vaettir_default": {"IPAddress": self.address}}},
        }


class Docker:
    """In place of _docker.docker, _engine.request and _probe.ask. After `fuse` more of its acts the process is killed.

    `says` decides what an act answers instead of what it does; `answers` is what a conf's first word answers visitors.
    """

    def __init__(self, root: Path, agent: str) -> None:
        self.root, self.agent = root, agent
        self.folder = root / "releases" / agent
        self.tag = f"vaettir-{agent}:proxy"  # of the image that compose builds
        self.images: dict[str, Image] = {}
        self.containers: list[Container] = []
        self.volumes: list[str] = []
        self.ids = itertools.count(1)
        self.acts: list[str] = []
        self.outage: list[str] = []  # those before which no visitor was served
        self.fuse = -1
        self.says: Callable[[str], Said | None] = lambda _act: None
        self.answers: dict[str, str] = {}
        self.left: list[str] = []  # containers with somebody left behind who removes them

    # --- what is there

    def called(self, name: str) -> Container | None:
        return next((one for one in self.containers if name in (one.name, one.id)), None)

    def image(self, name: str) -> Image | None:
        return self.images.get(name) or next((one for one in self.images.values() if one.id == name), None)

    def routed(self) -> list[Container]:
        """Traefik's view."""
        there = (one for one in self.containers if {**NO_ROUTE, **one.labels} != one.labels)
        return [one for one in there if one.running and one.healthy and "-next-" not in one.name]

    @property
    def met(self) -> set[str]:
        """Confs that a visitor can meet, by their first words."""
        return {one.conf.split()[0] for one in self.routed()}

    # --- what happens by itself

    def settles(self) -> None:
        """A moment later."""
        for one in self.containers:
            if one.running:
                one.notices()

    def reboots(self) -> None:
        for one in self.containers:
            one.pending = None
            if one.running:
                one.running = False
                if one.policy != "no":
                    one.serve()

    def removes_left(self) -> None:
        """Much later."""
        self.containers = [one for one in self.containers if not {one.name, one.id} & {*self.left}]

    def passes(self, act: str) -> Said | None:
        """One act of the process, unless it is dead."""
        self.fuse -= self.fuse > 0
        if self.fuse == 0:
            raise Killed
        self.settles()
        self.outage += [] if self.met else [act]
        said = self.says(act)
        self.acts.append(act)
        return said

    # --- the docker command

    def __call__(self, *words: str, **more: Any) -> Said:
        said = self.passes(" ".join(words))
        if said:
            return said
        name = "_".join(word for word in words[:2] if words[0] in ("image", "container", "volume")) or words[0]
        done: Said | str | None = getattr(self, f"_{name}")(*words[len(name.split("_")) :], **more)
        self.settles()
        return (0, done or "", "") if isinstance(done, (str, type(None))) else done

    def _inspect(self, _type: str, kind: str, *names: str, **_more: Any) -> Said:
        found = [self._inspected(kind, name) for name in names]
        missing = [name for name, one in zip(names, found, strict=True) if not one]
        told = json.dumps([one for one in found if one])
        return (1, told, f"Error: No such {kind}: {missing[0]}") if missing else (0, told, "")

    def _inspected(self, kind: str, name: str) -> dict[str, Any] | None:
        container, image = self.called(name), self.image(name)
        if kind == "container":
            return container.inspected() if container else None
        if kind == "image" and image:
            return {"Id": image.id, "Config": {"Labels": image.labels}, "RootFS": {"Layers": [image.id]}}
        return {"Name": name} if kind == "network" else None

    def _ps(self, *_words: str, **_more: Any) -> str:
        return "".join(f"{one.id}\n" for one in self.containers)

    def _tag(self, source: str, target: str, **_more: Any) -> Said:
        image = self.image(source)
        if not image:
            return 1, "", f"No such image: {source}"
        self.images[target] = image
        return DONE

    def _image_rm(self, tag: str, **_more: Any) -> Said:
        return DONE if self.images.pop(tag, None) else (1, "", f"No such image: {tag}")

    def _image_ls(self, *words: str, **_more: Any) -> str:
        if "--filter" in words:
            return "".join(f"{tag}\n" for tag in self.images)
        return "".join(f"{tag.partition(':')[2]}\n" for tag in self.images if tag.startswith(f"{words[-1]}:"))

    def _image_prune(self, *_words: str, **_more: Any) -> None:
        self.images.clear()

    def _container_rm(self, *words: str, **_more: Any) -> Said:
        found = self.called(words[-1])
        if not found:
            return 1, "", f"No such container: {words[-1]}"
        self.containers.remove(found)
        return DONE

    def _volume_ls(self, *_words: str, **_more: Any) -> str:
        return "".join(f"{name}\n" for name in self.volumes)

    def _volume_rm(self, name: str, **_more: Any) -> None:
        self.volumes.remove(name)

    def _rename(self, name: str, new: str, **_more: Any) -> Said:
        found = self.called(name)
        if not found or self.called(new):
            return 1, "", f"cannot rename {name} to {new}"
        found.name = new
        return DONE

    def _update(self, _option: str, policy: str, name: str, **_more: Any) -> Said:
        found = self.called(name)
        if found:
            found.policy = policy
        return DONE if found else (1, "", f"No such container: {name}")

    def _logs(self, name: str, **_more: Any) -> Said:
        found = self.called(name)
        return 0, "", found.log if found else ""

    def _run(self, *words: str, **_more: Any) -> Said:
        name, (image, *command) = words[words.index("--name") + 1], words[words.index("no-new-privileges") + 1 :]
        labels = {_containers.TRIAL_LABEL: self.agent, _docker.AGENT_LABEL: self.agent, **NO_ROUTE}
        self.add(name, image, {}, labels, command=tuple(command)).serve()
        return DONE

    def _exec(self, *words: str, **_more: Any) -> Said:
        detached = words[0] == "--detach"
        name, *command = words[1:] if detached else words
        found = self.called(name)
        if not found or not found.running:
            return 1, "", f"Error response from daemon: container {name} is not running"
        if command[:2] == list(_containers.COMMAND) and not found.image.ours:
            return 127, "", "sh: /usr/local/bin/agent-proxy: not found"
        if command[:2] == list(_containers.COMMAND):
            return self._agent_proxy(found, *command[2:])
        if command[0] == "touch":
            found.drain = True
        return DONE if command[0] == "touch" or found.drain else (1, "", "")

    def _agent_proxy(self, container: Container, what: str, *_words: str) -> Said:
        if what == "state":
            return 0, container.state(), ""
        if what == "reload":
            try:
                container.reload()
            except ValueError as error:
                return 1, "", str(error)
            return 0, "reloaded\n", ""
        if what == "purge":
            return 0, "2 assets removed\n", ""
        assert what == "drain"
        container.drain = True
        return DONE

    def _compose(self, *words: str, **_more: Any) -> Said | str | None:
        name, project = words[-1], "vaettir-next" if "--project-name" in words else "vaettir"
        fragment = self.root / _names.fragment_file(self.agent)
        digest = _files.digest(fragment.read_bytes()) if fragment.exists() else ""
        if "config" in words and "--hash" in words:
            return f"{self.agent} {digest}\n" if digest else (1, "", f"no such service: {name}")
        if "config" in words:
            return json.dumps({"services": {self.agent: {}}})
        if "build" in words:
            self.build()
            return None
        if "run" in words:
            return self._trial_of_the_owners(*words)
        assert "up" in words
        return self._up(f"{project}-{name}-1", digest, start="--no-start" not in words)

    def _trial_of_the_owners(self, *words: str) -> Said:
        labels = dict(label.split("=") for option, label in itertools.pairwise(words) if option == "--label")
        project = {f"{_docker.COMPOSE}project": "vaettir"}
        self.add(words[words.index("--name") + 1], self.tag, {}, {**project, **labels}).serve()
        return DONE

    def _up(self, name: str, digest: str, start: bool) -> Said:
        existing = self.called(name)
        if existing:
            self.containers.remove(existing)
        env = dict(_dotenv.read((self.root / ".env").read_text()))
        project = name.rpartition(f"-{self.agent}-")[0]
        labels = {
            **self.images[self.tag].labels,
            f"{_docker.COMPOSE}project": project,
            _containers.CONFIG_HASH: digest,
        }
        made = self.add(name, self.tag, env, labels, policy="unless-stopped")
        if start:
            made.serve()
        return (
            DONE if made.running is start and (not start or made.healthy) else (1, "", f"container {name} is unhealthy")
        )

    def build(self) -> None:
        """Of the live files."""
        configs = self.root / "proxy-configs"
        names = (
            "Dockerfile",
            "entrypoint.sh",
            "offline.js",
            "error-offline.html.template",
            f"{self.agent}.conf.template",
        )
        files = {name: (configs / name).read_bytes() for name in names if (configs / name).exists()} | {
            "agent": self.agent.encode()
        }
        self.images[self.tag] = Image(f"sha256:{_release.digest(files)}", files)

    def add(self, name: str, image: str, env: dict[str, str], labels: dict[str, str], **more: Any) -> Container:
        found = self.image(image)
        assert found, image
        if self.called(name):
            raise _docker.DockerError(f'the container name "/{name}" is already in use')
        number = next(self.ids)
        made = Container(f"{number:08d}{'0' * 56}", name, found, self.folder, env, labels, f"172.19.0.{number}", **more)
        self.containers.append(made)
        return made

    # --- the Engine, the checks, who is left behind

    def request(self, method: str, path: str, body: Any = None) -> Any:
        said = self.passes(f"{method} {path}")
        if said:
            raise _docker.DockerError(said[2])
        _empty, _kind, name, *verb = path.partition("?")[0].split("/")
        if name == "create":
            env = dict(pair.split("=", 1) for pair in body["Env"])
            policy, command = body["HostConfig"]["RestartPolicy"]["Name"], tuple(body.get("Cmd") or ())
            name = path.rpartition("=")[2]
            image = self.tag
            return {"Id": self.add(name, image, env, body["Labels"], policy=policy, command=command).id}
        found = self.called(name)
        if not found:
            raise _docker.DockerError(f"No such container: {name}")
        if verb == ["update"]:
            found.policy = body["RestartPolicy"]["Name"]
        else:
            found.serve()
        return None

    def ask(self, address: str, **_more: Any) -> dict[str, Any]:
        """Traefik sends who asks to the oldest."""
        self.settles()
        asked = self.routed() if address == LOCALHOST else [one for one in self.containers if one.address == address]
        reason = self.answers.get(asked[0].conf.split()[0], "ok") if asked else "stopped"
        page = reason in ("offline", "maintenance")
        found = {"reason": reason, "status": 101 if reason == "ok" else 503, "state": "offline" if page else ""}
        return {**_probe.nothing(), **found, "error": "" if reason == "ok" else f"it answers {reason}"}

    def leave_behind(self, _script: str, identifier: str, _seconds: int) -> None:
        self.passes(f"leave {identifier}")
        self.left.append(identifier)


def install(monkeypatch: pytest.MonkeyPatch, docker: Docker) -> None:
    """In the place of the real one. Files are renamed and removed by a process that can die, too."""
    monkeypatch.setattr(_docker, "docker", docker)
    monkeypatch.setattr(_engine, "request", docker.request)
    monkeypatch.setattr(_probe, "ask", lambda **words: docker.ask(**words))
    monkeypatch.setattr(_visitor, "visit", lambda *_words: [])
    monkeypatch.setattr(_containers, "leave_behind", docker.leave_behind)
    monkeypatch.setattr(_containers, "use_up_kept", lambda _origin: None)
    nothing = {"broken": "", "why": "", "findings": []}
    monkeypatch.setattr(_explain.Explanation, "_diagnose", lambda _explanation, **_more: nothing)
    monkeypatch.setattr(_facts, "gather", None)
    for name in ("rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, mortal(docker, name, getattr(os, name)))
    new_id = _release.new_id
    monkeypatch.setattr(_release, "new_id", lambda _now, taken: new_id(60.0 * next(docker.ids), taken))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # it is a test's server
    patience = {
        _agent: ("SETTLE", "CONFIRM"),
        _switch: ("HEALTHY", "TRIAL", "OWNERS_MOMENT"),
        _containers: ("RETIRED", "SETTLED"),
    }
    for module, name in ((module, name) for module, names in patience.items() for name in names):
        monkeypatch.setattr(module, name, 0)


def mortal(docker: Docker, name: str, act: Callable[..., None]) -> Callable[..., None]:
    """The dead change nothing, and what they had begun to clean up stays."""

    def called(*words: Any, **more: Any) -> None:
        path = os.path.relpath(words[0], docker.root)
        if docker.fuse == 0:
            return
        if not path.startswith("..") and not path.endswith("/run"):  # which is what the lock's end removes
            docker.passes(f"{name} {path}")
        act(*words, **more)

    return called


# --- What is released on it -------------------------------------------------------------------------------------------

AGENT = "ocapistaine"
KEY = _names.target_url_key(AGENT)
CONF, FRAGMENT = _names.conf_file(AGENT), _names.fragment_file(AGENT)
LISTING = {"path": "agents.yml", "glob": "agents/*.yml", "header": "include:\n", "entry": "  - %s\n", "empty": "  []\n"}
SHARED = {
    "proxy-configs/Dockerfile": "FROM nginx:1.30\n",
    "proxy-configs/entrypoint.sh": "# pending\n",
    "proxy-configs/offline.js": "// offline\n",
    "proxy-configs/error-offline.html.template": "<p>\n",
}
SETTINGS = {
    "name": AGENT,
    "profile": "streamlit",
    "target_url": "https://one.example",
    "domain": "ocapistaine.vaettir.example",
    "public_origin": "https://ocapistaine.vaettir.example",
    "probe_path": "/ws",
    "base_image": "nginx:1.30",
}


class Machine:
    """A server, on which the module runs. `row` is of its last run."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.docker = root, Docker(root, AGENT)
        self.store = _release.Store(str(root), AGENT)
        install(monkeypatch, self.docker)

    def __call__(self, conf: str = "one", *, state: str = "present", touch: bool = True, **more: Any) -> dict[str, Any]:
        """A run that wants this conf. What is none of the module's options is a setting of the agent."""
        options: dict[str, Any] = {"managed": True, "ca_path": "", "acme": False, "stack": {}, "shared": SHARED}
        options = {name: more.pop(name, default) for name, default in options.items()}
        defaults = {name: option.get("default", "") for name, option in agent_release.AGENT_OPTIONS.items()}
        fragment = {FRAGMENT: more.pop("fragment", "services: {}\n")} if options["managed"] else {}
        files = {CONF: f"{conf}\n", **fragment}
        agent = {**defaults, **SETTINGS, "files": files, "env": {KEY: "https://one.example"}, **more}
        given = {**options, "root": str(self.root), "project": "vaettir", "server": "server1", "by": "claire@laptop"}
        self.module = agent_release.AgentRelease(
            {**given, "state": state, "listings": [LISTING], "agents": [agent]}, touch
        )
        row: dict[str, Any] = self.module.run()["agents"][0]
        return row

    def fails_for_visitors(self, conf: str) -> None:
        """It passes its trial all the same."""
        ask = self.docker.ask

        def answers(address: str, **more: Any) -> dict[str, Any]:
            found = ask(address=address, **more)
            return {**found, "reason": "proxy_error"} if address == LOCALHOST and conf in self.docker.met else found

        self.docker.ask = answers  # type: ignore[method-assign]

    def copied(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
        """The same server once more."""
        shutil.copytree(self.root, root)
        made = Machine(root, monkeypatch)
        made.docker.images = dict(self.docker.images)
        made.docker.containers = [replace(one, folder=made.docker.folder) for one in self.docker.containers]
        made.docker.ids = itertools.count(100)
        return made

    def dies(self, at: int | str, *words: Any, **more: Any) -> bool:
        """Whether a run does not come to its end: killed at its act of that number, or before the first like that."""

        def cut(act: str) -> None:
            if isinstance(at, str) and at in act:
                self.docker.fuse = 0
                raise Killed

        self.docker.fuse, self.docker.says = (at if isinstance(at, int) else -1), cut
        try:
            self(*words, **more)
        except Killed:
            return True
        finally:
            self.docker.fuse, self.docker.says = -1, lambda _act: None
            quiet()
            self.docker.settles()
        return False

    def files(self) -> dict[str, bytes]:
        """What compose, a build and the next run read."""
        paths = (*SHARED, CONF, FRAGMENT, ".env", "agents.yml")
        return {path: (self.root / path).read_bytes() for path in paths if (self.root / path).exists()}
