# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is hand-made: values in .env, edits of the conf, the recipe's own steps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.rig.edge_client import Edge
from tests.rig.shell import LABEL, run

from . import stand
from .conftest import ECHO
from .visitor import ask, handshake_headers, shake_hands

HOST = "ocapistaine.vaettir.example"


def start(image: str, *command: str, **env: str) -> tuple[int, str, str]:
    words = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
    done = run(["docker", "run", "--rm", *words, image, *(command or ("render", "/tmp"))], check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def idle(image: str) -> Iterator[str]:
    """A container of the image without nginx, to try values in."""
    name = run(
        ["docker", "run", "-d", "--label", f"{LABEL}=proxy-test", "--entrypoint", "sleep", image, "300"]
    ).stdout.strip()
    yield name
    run(["docker", "rm", "-f", name])


def test_a_bad_value_ends_the_container(image: str) -> None:
    status, _, error = start(image, "serve", OCAPISTAINE_TARGET_URL="https://a b")
    assert status == 1
    assert error.startswith("agent-proxy: OCAPISTAINE_TARGET_URL 'https://a b' is not valid: ")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ocapistaine.ngrok-free.app",
        "ftp://ocapistaine.ngrok-free.app",
        "https://",
        "https://user:hunter2@ocapistaine.ngrok-free.app",
        "https://ocapistaine.ngrok-free.app/path",
        "https://ocapistaine.ngrok-free.app?x",
        "https://ocapistaine.ngrok-free.app:0",
        "https://ocapistaine.ngrok-free.app:65536",
        "https://ocapistaine.ngrok-free.app:port",
        "https://ocapistaine.ngrok-free.app:",
        "https://oca pistaine.ngrok-free.app",
        'https://ocapistaine".ngrok-free.app',
        "https://ocapistaine'.ngrok-free.app",
        "https://ocapistaine.ngrok-free.app;return 200",
        "https://ocapistaine.ngrok-free.app}",
        "https://{ocapistaine",
        "https://$host",
        "https://ocapistaine.ngrok-free.app\nevil",
        "evil\nhttps://ocapistaine.ngrok-free.app",
        "https://ocapistaine.ngrok-free.app\\",
        "https://`id`.ngrok-free.app",
        "https://[::1]",
        "https://user:hunter2/x@a.example",
        "https://ocapistäine.ngrok-free.app",
    ],
)
def test_bad_target(idle: str, url: str) -> None:
    done = run(
        ["docker", "exec", "-e", f"OCAPISTAINE_TARGET_URL={url}", idle, "agent-proxy", "render", "/tmp"], check=False
    )
    assert done.returncode == 1
    error = done.stderr
    assert error.startswith("agent-proxy: OCAPISTAINE_TARGET_URL ")
    assert error.count("\n") == 1
    assert "hunter2" not in error
    assert ("is not valid: use https://HOST" if url else "is empty: set it in .env") in error


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.gg/",
        "http://discord.gg/abc",
        "https://discord.gg.evil.example/abc",
        'https://discord.gg/a"b',
        "https://discord.gg/<script>",
        "https://evil.example/discord.gg/abc",
        "javascript:alert(1)",
        "https://discord.gg/abc\nx",
    ],
)
def test_bad_invite(idle: str, url: str) -> None:
    """An error line, and the page goes without the button."""
    values = ["-e", f"OCAPISTAINE_TARGET_URL=https://{ECHO}", "-e", f"DISCORD_INVITE_URL={url}"]
    done = run(["docker", "exec", *values, idle, "sh", "-c", "agent-proxy render /tmp && cat /tmp/page.html"])
    assert done.stderr.startswith("agent-proxy: DISCORD_INVITE_URL '")
    assert done.stderr.count("\n") == 1
    assert "is offline" in done.stdout
    assert "iscord" not in done.stdout
    assert "<a " not in done.stdout


def test_bad_invite_is_no_outage(image: str, agent: Callable[..., dict[str, Any]]) -> None:
    settings = agent()
    with stand.container(image, settings, stand.environment(settings, "javascript:alert(1)")) as proxy:
        assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200
        assert "agent-proxy: DISCORD_INVITE_URL 'javascript:alert(1)' is not a Discord invite" in proxy.logs()


@pytest.mark.parametrize("url", ["https://discord.gg/vaettir", "https://discord.com/invite/a-B9", ""])
def test_good_invite(idle: str, url: str) -> None:
    values = ["-e", f"OCAPISTAINE_TARGET_URL=https://{ECHO}", "-e", f"DISCORD_INVITE_URL={url}"]
    done = run(["docker", "exec", *values, idle, "sh", "-c", "agent-proxy render /tmp && cat /tmp/page.html"])
    assert done.stderr == ""
    assert (f'href="{url}"' in done.stdout) == bool(url)


def test_unknown_command(image: str) -> None:
    status, _, error = start(image, "sh", "-c", "id", OCAPISTAINE_TARGET_URL=f"https://{ECHO}")
    assert status == 1
    assert error.startswith("agent-proxy: unknown command 'sh'")


def test_nginx_variables_survive_and_nothing_is_left(image: str) -> None:
    words = ["-e", f"OCAPISTAINE_TARGET_URL=https://{ECHO}", "--entrypoint", "sh", image]
    conf = run(["docker", "run", "--rm", *words, "-c", "agent-proxy render /tmp && cat /tmp/nginx.conf"]).stdout
    assert "${" not in conf
    assert "$http_upgrade" in conf
    assert re.search(rf"Origin.*https://{re.escape(ECHO)}|https://{re.escape(ECHO)}.*Origin", conf)


def test_recipe_order_of_replacements(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    """`cp` the example, AGENT_NAME -> my-agent, then AGENT_NAME_TARGET_URL, which then matches nothing."""
    settings = agent(name="my-agent")
    conf = stand.render("agent.conf.template.j2", stand.example(settings))
    assert conf.count("${AGENT_NAME_TARGET_URL}") >= 1
    conf = conf.replace("AGENT_NAME", "my-agent").replace("AGENT_NAME_TARGET_URL", "MY_AGENT_TARGET_URL")
    assert "${my-agent_TARGET_URL}" in conf
    with stand.proxy(settings, conf=conf) as proxy:
        public = "my-agent.vaettir.example"
        assert ask(proxy.ip, "GET", "/", [("Host", public)]).status == 200
        edge.reset()
        assert shake_hands(proxy.ip, "/ws", handshake_headers(public, f"https://{public}")).status == 101
        assert edge.requests()[0].headers["origin"] == f"https://{ECHO}"
        assert shake_hands(proxy.ip, "/ws", handshake_headers(public, "https://other.vaettir.example")).status == 403


@pytest.mark.parametrize("spelling", ["MY_AGENT", "my_agent", "my-agent"])
def test_every_spelling_of_the_placeholder(agent: Callable[..., dict[str, Any]], spelling: str) -> None:
    settings = agent(name="my-agent")
    conf = stand.render("agent.conf.template.j2", settings).replace("${MY_AGENT_", f"${{{spelling}_")
    with stand.proxy(settings, conf=conf) as proxy:
        assert f'"https://{ECHO}"' in proxy.exec("cat", "/etc/nginx/nginx.conf").stdout


def test_placeholder_of_another_agent(agent: Callable[..., dict[str, Any]]) -> None:
    settings = agent()
    conf = stand.render("agent.conf.template.j2", settings).replace("${OCAPISTAINE_", "${OTHER_")
    tag = stand.build(settings, conf)
    try:
        status, _, error = start(tag, OCAPISTAINE_TARGET_URL=f"https://{ECHO}")
        assert status == 1
        assert "${OTHER_TARGET_URL}" in error
        assert "${OCAPISTAINE_TARGET_URL}" in error
    finally:
        stand.remove_image(tag)


def test_stops_at_once(image: str, agent: Callable[..., dict[str, Any]]) -> None:
    settings = agent()
    with stand.container(image, settings, stand.environment(settings)) as proxy:
        begin = time.monotonic()
        run(["docker", "stop", proxy.container])
        assert time.monotonic() - begin < 5
        assert run(["docker", "inspect", "-f", "{{.State.ExitCode}}", proxy.container]).stdout.strip() == "0"
