# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the recipe has a person write, as the contestants roll it out that are not ours: a conf, an image and a compose
service for each agent, a Traefik in front. The same files for pyinfra and for the shell script."""

from __future__ import annotations

import json
from pathlib import Path

from tests.rig import ca, images
from tests.rig.shell import ROOT

PARENT = "vaettir.example"
FOLDER = "recipe"  # in the home folder on a server
BUILD_AND_UP = "docker compose build -q && docker compose up -d --quiet-pull"
_ADOPTED = ROOT / "molecule" / "adopt" / "files" / "vaettir"  # a server that was made by the recipe
_PLAIN = {
    "docker/agent-proxy.Dockerfile": _ADOPTED / "docker" / "agent-proxy.Dockerfile",
    "proxy-configs/error-offline.html.template": _ADOPTED / "proxy-configs" / "error-offline.html.template",
    "traefik/dynamic/tls.yml": _ADOPTED / "traefik" / "dynamic" / "tls.yml",
    "tunnel-ca.pem": ca.FOLDER / "ca.pem",
    "traefik/certs/fullchain.pem": ca.FOLDER / "public.pem",
    "traefik/certs/privkey.pem": ca.FOLDER / "public.key",
}


def project(folder: Path, agents: list[str], target: str, change: int) -> None:
    """All files; `change` is the value that a run changes in every conf."""
    example = (_ADOPTED / "proxy-configs" / "agent.conf.template.example").read_text(encoding="utf-8")
    start = (_ADOPTED / "docker" / "start.sh").read_text(encoding="utf-8")
    host = target.partition("://")[2]
    made = {path: source.read_text(encoding="utf-8") for path, source in _PLAIN.items()}
    made["docker/start.sh"] = start.replace("OCAPISTAINE_TARGET_URL", "TARGET_URL")
    made["docker-compose.yml"] = _compose(agents, target)
    for agent in agents:
        conf = example.replace("AGENT_NAME_TARGET_URL", "TARGET_URL").replace("AGENT_NAME.ngrok-free.app", host)
        conf = conf.replace("8.8.8.8 8.8.4.4", "127.0.0.11")
        made[f"proxy-configs/{agent}.conf.template"] = conf.replace("3600;", f"{change};")
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def _compose(agents: list[str], target: str) -> str:
    """JSON is YAML."""
    flags = ("providers.docker=true", "providers.docker.exposedbydefault=false", "entrypoints.websecure.address=:443")
    traefik = {
        "image": images.TRAEFIK,
        "restart": "unless-stopped",
        "command": [f"--{flag}" for flag in (*flags, "providers.file.directory=/etc/traefik/dynamic")],
        "ports": ["443:443"],
        "volumes": [
            "/var/run/docker.sock:/var/run/docker.sock:ro",
            "./traefik/dynamic:/etc/traefik/dynamic:ro",
            "./traefik/certs:/etc/traefik/certs:ro",
        ],
    }
    services = {agent: _service(agent, target) for agent in agents}
    return json.dumps({"name": FOLDER, "services": {"traefik": traefik, **services}}, indent=2) + "\n"


def _service(agent: str, target: str) -> dict[str, object]:
    router = f"traefik.http.routers.{agent}"
    labels = {
        "traefik.enable": "true",
        f"{router}.rule": f"Host(`{agent}.{PARENT}`)",
        f"{router}.entrypoints": "websecure",
        f"{router}.tls": "true",
        f"traefik.http.services.{agent}.loadbalancer.server.port": "80",
    }
    build = {"context": ".", "dockerfile": "docker/agent-proxy.Dockerfile", "args": {"AGENT_NAME": agent}}
    environment = {"TARGET_URL": target, "DISCORD_INVITE_URL": ""}
    return {"build": build, "restart": "unless-stopped", "environment": environment, "labels": labels}


def asked(agents: list[str]) -> str:
    """The check with curl: every agent's page, with some patience for a container that has just started."""
    patience = "--retry 20 --retry-delay 1 --retry-all-errors"
    names = " ".join(f"{agent}.{PARENT}" for agent in agents)
    curl = f'curl -fsk -o /dev/null {patience} --resolve "$name:443:127.0.0.1" "https://$name/"'
    return f"for name in {names}; do {curl} || exit 1; done"
