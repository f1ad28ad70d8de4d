# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Takes an agent off its server: what we wrote, what Docker has of it, its releases. Nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

from . import _containers, _docker, _files, _names, _release
from ._fileset import FileSet
from ._server import Server, agent_files


def remove(server: Server, name: str) -> FileSet:
    """What was, or would be, removed, which is not files alone. Releases go last of all, so that a killed removal is
    finished by the next."""
    store = _release.Store(server.root, name)
    there = os.path.isdir(store.folder)
    with store.locked(server.by) if there and server.touch else contextlib.nullcontext():
        return unlocked(server, name)


def unlocked(server: Server, name: str) -> FileSet:
    """For a transaction, which holds the lock already."""
    files = remove_files(server, name)
    files.paths += _remove_from_docker(server, name)
    folder = _release.Store(server.root, name).folder
    if os.path.isdir(folder):
        files.paths.append(os.path.relpath(folder, server.root) + "/")
        if server.touch:
            shutil.rmtree(folder)
    return files


def remove_files(server: Server, name: str) -> FileSet:
    managed = _files.Manifest(server.root).exists
    with _files.locked(server.root) if managed and server.touch else contextlib.nullcontext():
        files = FileSet(server.root, server.touch)
        if not managed:
            return files
        gone = agent_files(name)
        for listing in server.listings:
            if os.path.exists(os.path.join(server.root, listing["path"])):
                files.listing(**listing, without=gone)
        files.remove(gone[0])
        # Its line of .env before its last file: alone it would look like the owner's.
        if os.path.exists(os.path.join(server.root, ".env")):
            files.env({}, [_names.target_url_key(name)])
        for path in gone[1:]:
            files.remove(path)
        return files


def _remove_from_docker(server: Server, name: str) -> list[str]:
    """Images go last: by them a killed removal of the whole stack is taken up again."""
    containers = _containers.Containers(server.project, name).all()
    # One for each login user that there was; `cache` is from 0.1.0, whose nginx was root.
    ours = re.compile(f"{re.escape(f'{server.project}_{name}')}-(cache|assets-[0-9]+)")
    volumes = [volume for volume in _docker.checked("volume", "ls", "--quiet").split() if ours.fullmatch(volume)]
    label = f"label={_docker.AGENT_LABEL}={name}"
    form = "{{.Repository}}:{{.Tag}}"
    images = _docker.checked("image", "ls", "--filter", label, "--format", form).split()
    if server.touch:
        for container in containers:
            _docker.checked("container", "rm", "--force", "--volumes", container)
        for one in volumes:
            _docker.checked("volume", "rm", one)
        if images:
            _docker.checked("image", "prune", "--all", "--force", "--filter", label)
    return [*containers, *volumes, *sorted(images)]
