# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One agent's container as the role makes it, but without a server: templates, image, container, address."""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2.nativetypes
import yaml
from ansible_collections.locki.vaettir.plugins.module_utils import _names
from ansible_collections.locki.vaettir.plugins.plugin_utils._agent_settings import agent_settings

from tests.rig.shell import LABEL, ROOT, run, wait_for

ROLE = ROOT / "roles" / "agent_proxy"
TEMPLATES = ROLE / "templates"
DOMAIN = "vaettir.example"
DISCORD = "https://discord.gg/vaettir"


def _yaml(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROLE / path).read_text(encoding="utf-8")))


PROFILES = _yaml("vars/main.yml")["__agent_proxy_profiles"]


def settings(**entry: Any) -> dict[str, Any]:
    """The settings of one agent, completed from the role's own defaults and profiles."""
    jinja = jinja2.nativetypes.NativeEnvironment()
    values = {
        key: jinja.from_string(value).render(vaettir_domain=DOMAIN) if "{{" in str(value) else value
        for key, value in _yaml("defaults/main.yml").items()
    }
    options = _yaml("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    for name in ("agent_proxy_agents", "agent_proxy_only", "agent_proxy_page"):  # of all agents together
        options.pop(name)
        values.pop(name)
    values = {**dict.fromkeys(options), **values}
    made = agent_settings({"name": "ocapistaine", **entry}, values, options, PROFILES)
    assert not made["errors"], made["errors"]
    return dict(made["settings"])


def example(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that agent.conf.template.example is rendered with."""
    domain = f"AGENT_NAME.{DOMAIN}"
    return {**agent, "name": "AGENT_NAME", "domain": domain, "domains": [domain]}


def render(template: str, agent: Mapping[str, Any], **more: Any) -> str:
    """One template, as Ansible renders it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        __agent_proxy=agent,
        __agent_proxy_name_regex=_names.AGENT_NAME_REGEX,
        __agent_proxy_target_regex=_names.TARGET_URL_REGEX,
        __agent_proxy_discord_regex=_names.DISCORD_REGEX,
        __agent_proxy_secret_regex=_names.SECRET_REGEX,
        **more,
    )


def write_context(folder: Path, agent: Mapping[str, Any], conf: str | None = None) -> None:
    """What the role puts into ~/vaettir/proxy-configs."""
    name = agent["name"]
    for target, template in {
        "Dockerfile": "Dockerfile.j2",
        "entrypoint.sh": "entrypoint.sh.j2",
        "error-offline.html.template": "error-offline.html.template.j2",
    }.items():
        (folder / target).write_text(render(template, agent), encoding="utf-8")
    (folder / "entrypoint.sh").chmod(0o755)
    (folder / "offline.js").write_text((ROLE / "files" / "offline.js").read_text(encoding="utf-8"), encoding="utf-8")
    conf = render("agent.conf.template.j2", agent) if conf is None else conf
    (folder / f"{name}.conf.template").write_text(conf, encoding="utf-8")
    if agent["ca_certificate"]:
        (folder / f"{name}.ca.pem").write_text(
            Path(agent["ca_certificate"]).read_text(encoding="utf-8"), encoding="utf-8"
        )


@dataclass(frozen=True)
class Proxy:
    """A running container of one agent."""

    container: str
    ip: str
    agent: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.ip}"

    @property
    def origin(self) -> str:
        return str(self.agent["public_origin"])

    def exec(
        self, *command: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = [word for key, value in (env or {}).items() for word in ("-e", f"{key}={value}")]
        return run(["docker", "exec", *options, self.container, *command], check=check)

    def state(self) -> dict[str, str]:
        return parse_state(self.exec("agent-proxy", "state").stdout)

    def health(self) -> str:
        """In Docker's word."""
        return run(["docker", "inspect", "-f", "{{.State.Health.Status}}", self.container]).stdout.strip()

    def healthy(self) -> bool:
        """What Docker's health check finds now."""
        written = run(["docker", "inspect", "-f", "{{json .Config.Healthcheck.Test}}", self.container]).stdout
        self.exec("rm", "-f", "/run/good")  # else it would wait for half a minute
        return self.exec(*json.loads(written)[1:], check=False).returncode == 0

    def logs(self) -> str:
        done = run(["docker", "logs", self.container])
        return done.stdout + done.stderr


def build(agent: Mapping[str, Any], conf: str | None = None) -> str:
    """The agent's image; its tag."""
    tag = f"vaettir-test-{agent['name']}:{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as folder:
        write_context(Path(folder), agent, conf)
        command = [
            "docker",
            "build",
            "-q",
            "-t",
            tag,
            "--label",
            f"{LABEL}=proxy-test",
            "--build-arg",
            f"AGENT_NAME={agent['name']}",
        ]
        run([*command, folder])
    return tag


def write_release(
    releases: Path, release: str, agent: Mapping[str, Any], *, discord: str = DISCORD, more: str = ""
) -> None:
    """A release as the role keeps it; `more` goes to the end of its conf."""
    folder = releases / release
    folder.mkdir()
    write_context(folder, agent, render("agent.conf.template.j2", agent) + more)
    values = f"TARGET_URL={agent['target_url']}\nDISCORD_INVITE_URL={discord}\n"
    (folder / "values").write_text(values, encoding="utf-8")


def make_current(releases: Path, release: str, image: str, environment: str) -> None:
    """From now on it is the one that containers of that image digest, with that environment, are to take."""
    text = f"release={release}\nimage={image}\nenvironment={environment}\n"
    (releases / "new").write_text(text, encoding="ascii")
    (releases / "new").replace(releases / "current")


def parse_state(text: str) -> dict[str, str]:
    """`agent-proxy state`: what stands before = , and digests by the name of their file."""
    return dict(line.split("=", 1) if "=" in line else line.split("  ")[::-1] for line in text.splitlines())


def remove_image(tag: str) -> None:
    run(["docker", "rmi", "-f", tag], check=False)


def environment(agent: Mapping[str, Any], discord: str = DISCORD) -> dict[str, str]:
    """What compose passes on from .env."""
    return {_names.target_url_key(agent["name"]): agent["target_url"], "DISCORD_INVITE_URL": discord}


@contextmanager
def container(
    tag: str, agent: Mapping[str, Any], env: Mapping[str, str], *options: str, command: Sequence[str] = ()
) -> Iterator[Proxy]:
    """The container, healthy."""
    name = f"vaettir-test-{uuid.uuid4().hex[:12]}"
    words = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
    run(["docker", "run", "-d", "--name", name, "--label", f"{LABEL}=proxy-test", *words, *options, tag, *command])
    try:

        def state(template: str) -> str:
            return run(["docker", "inspect", "-f", template, name]).stdout.strip()

        def ready() -> bool:
            assert state("{{.State.Running}}") == "true", run(["docker", "logs", name]).stderr
            # The conf's own health, sooner than Docker asks for it. `nginx -t` listens there, too.
            check = "grep -qx nginx /proc/1/comm && exec 3<>/dev/tcp/127.0.0.1/8081"
            return run(["docker", "exec", name, "bash", "-c", check], check=False).returncode == 0

        wait_for("the agent's nginx", ready, 20, 0.1)
        yield Proxy(name, state("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), agent)
    finally:
        run(["docker", "rm", "-fv", name])


@contextmanager
def proxy(agent: Mapping[str, Any], *options: str, conf: str | None = None, **env: str) -> Iterator[Proxy]:
    """Image and container of one agent."""
    tag = build(agent, conf)
    try:
        with container(tag, agent, environment(agent) | env, *options) as running:
            yield running
    finally:
        remove_image(tag)
