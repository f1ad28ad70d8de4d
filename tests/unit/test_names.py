# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The rules of names and URLs, and that no message shows a password."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _names
from hypothesis import given
from hypothesis import strategies as st

GOOD_NAMES = ["a", "a1", "ocapistaine", "my-agent", "a" * 31]
BAD_NAMES: list[object] = [
    *("", "A", "a.b", "../x", "${x}", "1a", "-a", "a-", "a" * 32, "a_b", "a b", "a\n", "é"),
    *(None, 7, ["a"], {"a": 1}, True),
]
GOOD_TARGETS = ["https://a.example", "http://app:8501", "https://a_b.example", "https://10.0.0.1:65535", "http://x"]
BAD_TARGETS: list[object] = [
    "",
    None,
    1,
    [],
    "a.example",
    "ftp://a",
    "https://",
    "https://a b",
    "https://a'b",
    'https://a"b',
    "https://a;b",
    "https://`id`",
    "https://a{",
    "https://$a",
    "https://u:p@a",
    "https://a/",
    "https://a?b",
    "https://a#b",
    "https://a:0",
    "https://a:65536",
    "https://a:123456",
    "https://a:",
    "https://a\n",
    "https://-a",
    "https://a.",
    "https://ä.example",
]
GOOD_DOMAINS = ["a.example", "a-b.c.example", "xn--bcher-kva.example", "1.example"]
BAD_DOMAINS = [
    "a",
    "A.example",
    "a..b",
    ".a.b",
    "a.b.",
    "a b.c",
    "a_b.c",
    "a.b:1",
    "a.b\n",
    f"{'a' * 64}.b",
    "a." * 127 + "a",
]
GOOD_INVITES = ["https://discord.gg/Abc-1", "https://discord.com/invite/x", "https://discordapp.com/invite/x"]
BAD_INVITES = [
    "http://discord.gg/x",
    "https://discord.gg/",
    "https://discord.gg/a b",
    "https://discord.gg.evil/x",
    "https://discord.gg/x\n",
    "https://discordxgg/x",
    7,
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_name(name: str) -> None:
    assert _names.agent_name_error(name) is None


@pytest.mark.parametrize("name", [*BAD_NAMES, *sorted(_names.RESERVED_NAMES)])
def test_bad_name(name: object) -> None:
    sentence = _names.agent_name_error(name) or ""
    assert (_names.kind(name) if isinstance(name, (dict, list)) else _names.masked(name)) in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("url", GOOD_TARGETS)
def test_good_target(url: str) -> None:
    assert _names.target_url_error("it", url) is None


@pytest.mark.parametrize("url", BAD_TARGETS)
def test_bad_target(url: object) -> None:
    assert re.fullmatch(
        r"it ('.*' is not valid|is a list): use https://HOST .*\.", _names.target_url_error("it", url) or ""
    )
    assert _names.origin_error("it", url)


@pytest.mark.parametrize("url", ["https://unix", "http://UNIX:80"])
def test_socket_is_no_target(url: str) -> None:
    assert "is not valid: use https://HOST" in (_names.target_url_error("it", url) or "")


@pytest.mark.parametrize("domain", GOOD_DOMAINS)
def test_good_domain(domain: str) -> None:
    assert _names.domain_error("it", domain) is None


@pytest.mark.parametrize("domain", BAD_DOMAINS)
def test_bad_domain(domain: str) -> None:
    assert "is not valid" in (_names.domain_error("it", domain) or "")


@pytest.mark.parametrize("url", [*GOOD_INVITES, "", None])
def test_good_invite(url: object) -> None:
    assert _names.discord_error("it", url) is None


@pytest.mark.parametrize("url", BAD_INVITES)
def test_bad_invite(url: object) -> None:
    assert "is not a Discord invite" in (_names.discord_error("it", url) or "")


@pytest.mark.parametrize("port", [1, 443, "65535"])
def test_good_port(port: object) -> None:
    assert _names.port_error("it", port) is None


@pytest.mark.parametrize("port", [0, -1, 65536, "", None, "https", 1.5, True, "1 "])
def test_bad_port(port: object) -> None:
    assert _names.port_error("it", port)


@pytest.mark.parametrize(
    "image",
    ["nginx", "nginx:1.30.6", "me/my_nginx", "x.example:5000/a/b:v1", "nginx@sha256:" + "0" * 64, "localhost:5000/x"],
)
def test_good_image(image: str) -> None:
    assert _names.image_error("it", image) is None


@pytest.mark.parametrize(
    "image",
    ["", "nginx:", ":1", "a::b", "NGINX:1", "a//b", "a/", "nginx@sha256:0", "nginx 1", "a\n", "x" * 256, "a@b:"],
)
def test_bad_image(image: str) -> None:
    assert "is not valid: use an image's name" in (_names.image_error("it", image) or "")


@pytest.mark.parametrize("folder", ["~/vaettir", "~/a b/c", "~deploy/x", "/srv", "/srv/.hidden.d/x/", "/etc/vaettir"])
def test_good_folder(folder: str) -> None:
    assert _names.folder_error("it", folder) is None


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "x",
        "/",
        "~",
        "~/",
        "/.",
        "/..",
        "~/..",
        "/a/../b",
        "/a//b",
        "/etc",
        "/usr/",
        "/proc/self",
        "/dev",
        "/a:b",
        "/$a",
    ],
)
def test_bad_folder(folder: str) -> None:
    assert "is not a path on the server: use one like ~/vaettir" in (_names.folder_error("it", folder) or "")


@pytest.mark.parametrize(
    "url", ["https://a.example", "https://a.example:14000/dir", "https://ca.example/acme/acme/directory"]
)
def test_good_acme_server(url: str) -> None:
    assert _names.acme_server_error("it", url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a.example",
        "javascript:x",
        "ftp://x",
        "https://u:p@a",
        "https://a:0/x",
        "https://a/b?c",
        "https://a b",
    ],
)
def test_bad_acme_server(url: str) -> None:
    assert "use the directory URL of an authority" in (_names.acme_server_error("it", url) or "")


@pytest.mark.parametrize("address", ["", "a@b.example", "a.b+c@d.example"])
def test_good_email(address: str) -> None:
    assert _names.email_error("it", address) is None


@pytest.mark.parametrize(
    "address", ["a", "a@b:", "a@", "@b", 'a"@b.example', "a@b.example\n", "a@b@c", "a b@c.example"]
)
def test_bad_email(address: str) -> None:
    assert "is not an e-mail address" in (_names.email_error("it", address) or "")


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (_names.number(1, 64), [1, 64], [0, 65, -1]),
        (_names.size("1m", "1g"), ["1m", "1024K", "1g", "1048576"], ["1023k", "1025m", "1t", "0", "", "1 m", "1.5m"]),
        (_names.time("1s", "30d"), ["1", "30s", "12h", "30d"], ["31d", "1M", "1ms", "0s", "1w", "1h30m", ""]),
    ],
)
def test_amount(rule: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if rule("it", value)] == []
    assert [value for value in bad if not rule("it", value)] == []


@pytest.mark.parametrize("server", ["127.0.0.11", "10.0.0.53:5353", "[fd00::53]", "[fd00::53]:53"])
def test_good_resolver(server: str) -> None:
    assert _names.resolver_error("it", server) is None


@pytest.mark.parametrize(
    "server",
    ["", "dns.example", "10.0.0", "10.0.0.256", "10.0.0.1:0", "10.0.0.1:65536", "fd00::53", "[fd00::53", "[fd00:::1]"],
)
def test_bad_resolver(server: str) -> None:
    assert "use an address like" in (_names.resolver_error("it", server) or "")


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.1.2.3", "fc00::/7", "::1", "0.0.0.0/0"])
def test_good_network(network: str) -> None:
    assert _names.network_error("it", network) is None


@pytest.mark.parametrize(
    "network", ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "fc00::/129", "10.0.0.0/255.0.0.0", "x", "fe80::1%a"]
)
def test_bad_network(network: str) -> None:
    assert "use a network like" in (_names.network_error("it", network) or "")


# Not for the entry point's own sake: both must accept the same, or a deploy that preflight accepts dies at start.
@pytest.mark.parametrize(
    ("regex", "values"),
    [
        (_names.AGENT_NAME_REGEX, [*GOOD_NAMES, *BAD_NAMES]),
        (_names.TARGET_URL_REGEX, [*GOOD_TARGETS, *BAD_TARGETS]),
        (_names.DISCORD_REGEX, [*GOOD_INVITES, *BAD_INVITES]),
    ],
)
def test_patterns_mean_the_same_to_grep(regex: str, values: list[object]) -> None:
    assert "'" not in regex, "it stands between single quotes in the entry point"
    for value in values:
        if not isinstance(value, str) or "\n" in value:
            continue
        grep = subprocess.run(
            ["grep", "-Eqx", "-e", regex], input=f"{value}\n", text=True, check=False, env={"LC_ALL": "C"}
        )
        assert (grep.returncode == 0) is _names.matches(regex, value), value


@given(st.sampled_from(["https://", "http://", "ftp://", "", "x+y://"]), st.text(min_size=1), st.text())
def test_no_message_shows_a_password(scheme: str, user: str, rest: str) -> None:
    secret = "hunter2-very-secret"
    for url in (f"{scheme}{user}:{secret}@{rest}", f"{scheme}{secret}@x", f"{scheme}u:{rest}{secret}/{user}@{rest}"):
        assert secret not in _names.masked(url)
        assert secret not in (_names.target_url_error("it", url) or "")
        assert secret not in (_names.domain_error("it", url) or "")
        assert secret not in (_names.discord_error("it", url) or "")


@given(st.text())
def test_shown_on_one_short_line(text: str) -> None:
    shown = _names.masked(text)
    assert shown.isascii()
    assert shown.isprintable() or shown == ""
    assert len(shown) <= 120


def test_key_in_env() -> None:
    assert _names.target_url_key("my-agent") == "MY_AGENT_TARGET_URL"


@pytest.mark.parametrize("agents", [[], [{"name": "a"}], [{"name": "a", "profile": "n8n"}, {"name": "b"}]])
def test_good_list_of_agents(agents: object) -> None:
    assert _names.agents_error(agents) is None


@pytest.mark.parametrize(
    ("agents", "part"),
    [
        ("a", "vaettir_agents is text, not a list"),
        ({"name": "a", "tunnel_secret": "s3cret"}, "vaettir_agents is a dictionary, not a list"),
        (None, "vaettir_agents is null, not a list"),
        (1.5, "vaettir_agents is a number, not a list"),
        (True, "vaettir_agents is true, not a list"),
        (["a"], "entry 1 of vaettir_agents is text, not a dictionary"),
        ([["s3cret"]], "entry 1 of vaettir_agents is a list, not a dictionary"),
        ([{"name": "a"}, {}], "entry 2 of vaettir_agents has no name"),
        ([{"name": ["s3cret"]}], "agent name is a list: use 1 to 31"),
        ([{"name": "a"}, {"name": "b"}, {"name": "a"}], "agent 'a' stands twice"),
        ([{"name": "traefik"}], "is reserved"),
    ],
)
def test_bad_list_of_agents(agents: object, part: str) -> None:
    error = _names.agents_error(agents) or ""
    assert part in error
    assert "s3cret" not in error


def test_values_of_a_target() -> None:
    """Those of our own entry point: tests/proxy compares the two."""
    found = _names.target_values("https://A.b.example:8443")
    assert (found["TARGET_URL"], found["TARGET_HOST"]) == ("https://a.b.example:8443", "a.b.example")
    assert (found["TARGET_PORT"], found["TARGET_HOST_REGEX"]) == ("8443", r"a\.b\.example")
    assert _names.target_values("http://app")["FORWARDED_PROTO"] == "https"


def test_only_the_named_values_are_filled_in() -> None:
    text = "${TARGET_HOST} $host ${OCAPISTAINE_TARGET_URL} $TARGET_HOST"
    assert _names.filled(text, {"TARGET_HOST": "a"}) == "a $host ${OCAPISTAINE_TARGET_URL} $TARGET_HOST"
