# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Thousands of hostile values over all public variables: refused in one sentence, or inert in every file."""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.filter import agents, stack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .test_agents import OPTIONS as ALL_AGENT_OPTIONS
from .test_agents import OWN, ROLE
from .test_stack import OPTIONS as STACK_OPTIONS
from .test_templates import COMPOSE, NOT_JINJA, ROLES, SERVICE, filled, load, variables

GENERATED = 6000
SECRET = "hunter2-very-secret"
INFINITE = [math.inf, -math.inf, math.nan]
NESTED = [{"tunnel_secret": SECRET}, [{"tunnel_secret": SECRET}], [[SECRET]]]
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJnmK1PoZKmPq4UFVN8/EO4C8OMqJcNIVQIdjz1M1Jh2"
DATE = datetime.date(2026, 11, 28)

# --- what a value is mutated from, and what it can never mean

GOOD: dict[str, list[Any]] = {
    "agents": [[{"name": "b"}], []],
    "only": ["one"],
    "page": [""],
    "profile": ALL_AGENT_OPTIONS["agent_proxy_profile"]["choices"],
    "tunnel": ["ngrok", None],
    "tunnel_key": [[], [PUBLIC_KEY], [f"{PUBLIC_KEY} me@laptop"]],
    "tunnel_port": [2222, "2222"],
    "target_url": ["https://a.example", "http://app:8501", None, ""],
    "domain": ["a.example", None, ""],
    "parent_domain": ["example.org"],
    "extra_domains": [[], ["b.example"], ["b.example", "c.example"]],
    "public_port": [443, 8443, "8443"],
    "base_image": ["nginx:1.30.6", f"x.example:5000/a/nginx@sha256:{'0' * 64}"],
    "probe_path": ["/ws", "", None],
    "stream_path": ["/events?a=1", "", None],
    "origin_mode": ["rewrite", "preserve", "profile", None],
    "extra_origins": [[], ["https://b.example"], ["https://b.example", "http://c:81"]],
    "max_body_size": ["201m", "5", None],
    "ca_certificate": [""],
    "tunnel_secret": ["0123456789abcdef", ""],
    "resolver": [["127.0.0.11"], ["127.0.0.11", "[fd00::53]:53"]],
    "ngrok": ["auto", "true", "false"],
    "trusted_proxies": [["10.0.0.0/8"], ["10.0.0.0/8", "fc00::/7"], []],
    "cache_size": ["256m", "1g"],
    "memory": ["1g"],
    "worker_shutdown_timeout": ["12h", "30"],
    "drain": ["window", "now"],
    "stack_dir": ["~/vaettir", "/srv/vaettir"],
    "stack_discord_invite_url": ["https://discord.gg/vaettir", "", None],
    "stack_docker_api_image": ["nginx:1.30.6"],
    "stack_traefik_image": ["traefik:v3.7.15"],
    "stack_traefik_memory": ["1g"],
    "stack_traefik_log_level": ["INFO", "DEBUG"],
    "stack_tunnel": [True, False],
    "stack_tunnel_port": [2222],
    "stack_tunnel_base_image": ["debian:13.2-slim"],
    "stack_tls": ["acme"],
    "stack_acme_email": ["a@b.example"],
    "stack_acme_server": ["https://acme.example:14000/dir"],
    "stack_acme_challenge": ["tls", "http"],
    "stack_acme_ca_certificate": [""],
    "stack_tls_certificate": [""],
    "stack_tls_key": [""],
    "stack_tls_ca": [""],
    "stack_insist": [[], ["disk_full"]],
    "vaettir_hosts": ["vaettir", "a,b"],
    "vaettir_serial": [1, [1, "25%", "100%"]],
    "agent": ["one", None],
    "release": ["20261123T013000Z", None],
    "report_file": ["report.json", None],
    "status_file": ["status.json", None],
    "textfile": ["/var/lib/agents.prom", None],
    "confirm": [True, None],
}
NUMBERS: list[Any] = [
    *INFINITE,
    True,
    -1,
    10**12,
    10**30,
    1.5,
    "1e3",
    "１２",
    " 5",
    "5 ",
    "0x10",
    "1_000",
    "05",
    "",
    "many",
    DATE,
]
URLS: list[Any] = [
    "javascript:alert(1)",
    "ftp://x",
    "file:///etc/passwd",
    "//x.example",
    "https://",
    -1,
    True,
    DATE,
    *INFINITE,
]
URLS += [f"https://u:{SECRET}@x.example", "https://x y.example", "https://x.example:0", "https://x.example:70000"]
SIZES: list[Any] = [
    "99999999999g",
    "0",
    "0m",
    "1T",
    "-1m",
    "1.5m",
    "1 m",
    "m",
    "1mb",
    "1e3m",
    "01m",
    True,
    1.5,
    DATE,
    *INFINITE,
]
IMAGES: list[Any] = [
    1.30,
    True,
    DATE,
    "",
    "a@b:",
    "nginx:",
    ":1",
    "a::b",
    "NGINX:1",
    "nginx: 1",
    "nginx:1\nRUN evil",
    "a//b",
    "-x",
]
IMAGES += ["nginx@sha256:12", "https://x.example/nginx", "nginx:1 # x", "x" * 300, "nginx:" + "1" * 200, *INFINITE]
FILES: list[Any] = [
    "/proc/self/environ",
    "/dev/zero",
    "/dev/null",
    "/etc",
    "/nowhere",
    "/etc/passwd",
    "/" + "a" * 5000,
    "\0",
    "a\0b",
]
FILES += [True, 1.5, DATE, *INFINITE]
LISTS: list[Any] = [*INFINITE, True, DATE, 1.5, [""], [None], [True], ["a b"], ["x\n"]]
MEANINGLESS: dict[str, list[Any]] = {
    "agents": [
        f"tunnel_secret {SECRET}",
        NESTED[0],
        f"[{{name: a, tunnel_secret: {SECRET}}}]",
        1,
        True,
        None,
        *INFINITE,
    ],
    "only": [],
    "page": FILES,
    "profile": ["Streamlit", "", "streamlit\n"],
    "tunnel": ["", "wireguard", True],
    "tunnel_key": [
        *LISTS,
        [PUBLIC_KEY] * 2,
        [f'command="id" {PUBLIC_KEY}'],
        [f"{PUBLIC_KEY}\n{PUBLIC_KEY}"],
        ["ssh-ed25519 AAAA"],
        [PUBLIC_KEY.replace("ssh-ed25519", "ssh-rsa")],
        ["-----BEGIN OPENSSH PRIVATE KEY-----\n" + SECRET],
    ],
    "target_url": [*URLS, "https://a.example/x", "https://a.example//"],
    "domain": [True, 1, DATE, "Upper.example", "a_b.example", "a", "x" * 300, "a.example.", *INFINITE],
    "parent_domain": [True, DATE, "Upper.example", "a..b", ".a", *INFINITE],
    "extra_domains": [*LISTS, ["b.example"] * 2, ["one.vaettir.example"], [f"x{n}.example" for n in range(500)]],
    "base_image": IMAGES,
    "probe_path": ["no-slash", "/" + "a" * 5000, "/a b", True, 1, DATE, *INFINITE],
    "stream_path": ["no-slash", "/" + "a" * 5000, "/a?b#c", True, 1, DATE, *INFINITE],
    "origin_mode": ["any", "", True],
    "extra_origins": [
        *LISTS,
        ["https://b.example"] * 2,
        ["https://B.example", "https://b.example"],
        ["https://one.vaettir.example"],
        [f"https://x{n}.example" for n in range(500)],
        ["*"],
        ["null"],
        *([url] for url in URLS),
    ],
    "max_body_size": SIZES,
    "ca_certificate": FILES,
    "tunnel_secret": [SECRET + " ", "short", 1234567890123456, True, DATE, *INFINITE, *NESTED],
    "resolver": [*LISTS, [], ["127.0.0.11"] * 2, ["dns.example"], [f"10.0.0.{n % 200}:{n + 1}" for n in range(500)]],
    "ngrok": ["maybe", "", 2],
    "trusted_proxies": [
        *LISTS,
        ["10.0.0.0/8"] * 2,
        ["any"],
        ["10.0.0.1/8"],
        [f"10.0.{n // 250}.{n % 250}" for n in range(500)],
    ],
    "cache_size": [*SIZES, "1"],
    "memory": [*SIZES, "1"],
    "worker_shutdown_timeout": [
        "1M",
        "1y",
        "99999999999h",
        "0s",
        "0",
        "1 h",
        "1h30m",
        "-1h",
        "1.5h",
        True,
        DATE,
        *INFINITE,
    ],
    "drain": ["later", "", True],
    "stack_dir": [
        *(
            "/",
            "~",
            "~/",
            "//",
            "/.",
            "/..",
            "~/..",
            "~/../x",
            "/srv/../etc",
            "/srv/./x",
            "/proc/self",
            "/dev/x",
            "/etc",
            "a",
        ),
        *(
            "",
            "./a",
            "/srv/a\nb",
            "/srv/'a",
            '/srv/"a',
            "/srv/$HOME",
            "/srv/a:b",
            "/srv/\0",
            "/srv/" + "a" * 5000,
            "/srv/a\\b",
        ),
        *(True, 1, DATE, *INFINITE),
    ],
    "stack_tunnel_base_image": IMAGES,
    "stack_discord_invite_url": [*URLS, "https://discord.gg/", "https://discord.gg/a b"],
    "stack_docker_api_image": IMAGES,
    "stack_traefik_image": IMAGES,
    "stack_traefik_memory": [*SIZES, "1"],
    "stack_traefik_log_level": ["info", "", True, -1],
    "stack_tls": ["", "both", True],
    "stack_acme_email": [
        *(
            "a@b:",
            'a"@b.example',
            "a'@b.example",
            "a@b.example\n",
            "a@",
            "@b.example",
            "a b@c.example",
            "a@b@c.example",
        ),
        *(
            "${X}@b.example",
            "{{ x }}@b.example",
            "a@b.example,c@d.example",
            "a" * 300 + "@b.example",
            -1,
            True,
            DATE,
            *INFINITE,
        ),
    ],
    "stack_acme_server": [*URLS, "http://x.example/dir", "https://x.example/a b", "https://x.example/$a"],
    "stack_acme_challenge": ["dns", "", True],
    "stack_acme_ca_certificate": FILES,
    "stack_tls_certificate": [],
    "stack_tls_key": [],
    "stack_tls_ca": FILES,
    "stack_insist": [["everything"], [True], [None], *INFINITE],
    "vaettir_hosts": ["", [], ["a"], {"a": 1}, True, 1, "a\nb", *INFINITE],
    "vaettir_serial": [*INFINITE, True, [True], [], "", 0, -1, "0%", "101%", 10**12, [[1]], {"a": 1}, "1\n", 1.5, DATE],
    "agent": [["one"], {"one": 1}, 7, True, "nobody", "", "one\n", "../x"],
    "release": [["20261123T013000Z"], True, "../x", "latest", "20261123T013000Z\n", 7, DATE],
    "report_file": ["", True, ["x"], "a\0b", "a\nb", DATE],
    "status_file": ["", True, ["x"], "a\0b", "a\nb", DATE],
    "textfile": ["", True, ["x"], "a\0b", "a\nb", DATE],
    "confirm": ["perhaps", 2, [True], *INFINITE],
}
FRAGMENTS = [
    *(
        "\n",
        "\r",
        "\t",
        "\0",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "'",
        '"',
        "`",
        "\\",
        "$",
        "${HOME}",
        "$$",
        "{",
        "}",
        ";",
        "#",
    ),
    *(
        " #",
        ": ",
        ":",
        "- ",
        "*",
        "&a",
        "!!python/object",
        "%",
        "@",
        "|",
        ">",
        "?",
        ",",
        "[",
        "]",
        "(",
        ")",
        "<script>",
        "\u202e",
    ),
    *(
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{#",
        "`) || Host(`evil.example",
        "; return 200 x",
        '"; evil; "',
        "\nRUN evil",
        " evil",
    ),
    *(
        "\n    privileged: true",
        "\n      - --api.insecure=true",
        '"\n    privileged: true\n    x: "',
        "../../etc",
        "//",
        "é",
        "a" * 400,
    ),
]
HOSTILE_TEXT = st.text(
    st.one_of(st.sampled_from("\n\r\t\0'\"`\\${};#:,-[]()<>|&*!%@?=/ .aé0"), st.characters(codec="utf-8")), max_size=40
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    HOSTILE_TEXT,
    st.sampled_from(FRAGMENTS),
    st.sampled_from(
        ["null", "~", "true", "no", "off", "1e3", ".inf", "0x1f", "0o17", "1:30", "2026-11-28", "=", "<<", "-"]
    ),
)
ANYTHING = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(HOSTILE_TEXT, SCALARS, max_size=3),
    st.sampled_from(NESTED),
)


@dataclass(frozen=True)
class Case:
    name: str
    value: Any
    meaningless: bool = False  # whatever it looks like in a file, it must be refused


PLAYBOOK = ("vaettir_hosts", "vaettir_serial", "agent", "release", "report_file", "status_file", "textfile", "confirm")
AGENT = {name.removeprefix("agent_proxy_"): option for name, option in ALL_AGENT_OPTIONS.items()}
TYPES = {**{name: option["type"] for name, option in {**AGENT, **STACK_OPTIONS}.items()}, **dict.fromkeys(PLAYBOOK, "")}
for every, kind in TYPES.items():
    if kind == "int":
        MEANINGLESS.setdefault(every, NUMBERS)
        option = {**AGENT, **STACK_OPTIONS}[every]
        default = option["default"]
        GOOD.setdefault(every, [None, 64] if default is None else [default, str(default)])
    if kind == "bool":
        MEANINGLESS.setdefault(every, ["perhaps", "", 2, 1.5, DATE, *INFINITE])
        GOOD.setdefault(every, [True, False, "yes"])


@st.composite
def mutated(draw: st.DrawFn, name: str) -> Any:
    """A good value with something hostile in it."""
    good = draw(st.sampled_from(GOOD[name]))
    hostile = draw(st.one_of(st.sampled_from(FRAGMENTS), HOSTILE_TEXT))
    if isinstance(good, list):
        return [*good, hostile] if draw(st.booleans()) else [f"{one}{hostile}" for one in good]
    text = str(good)
    at = draw(st.sampled_from([0, len(text) // 2, len(text)]))
    return text[:at] + hostile + text[at:]


def _cases(name: str) -> st.SearchStrategy[Case]:
    return st.one_of(mutated(name), mutated(name), ANYTHING).map(lambda value: Case(name, value))


def corpus() -> dict[str, Case]:
    """Those that can mean nothing, all; and generated ones, the same in every run."""
    found = {}
    for name, values in MEANINGLESS.items():
        for value in [*values, *(NESTED if TYPES[name] not in ("list", "") else [])]:
            found[f"{name} {value!r}"] = Case(name, value, True)

    @settings(max_examples=GENERATED, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(TYPES)).flatmap(_cases))
    def collect(case: Case) -> None:
        found.setdefault(f"{case.name} {case.value!r}", case)

    collect()
    return found


# --- how a value is refused


def agent_checked(name: str, value: Any, way: bool) -> tuple[str, Any]:
    """Error, or what the templates get; the `way` is the agent's entry or the role's variable."""
    if name == "page":
        found = agents.agents_settings([{"name": "one"}], ROLE, "server", page=value)
    elif name == "agents":
        found = agents.agents_settings(value, ROLE, "server")
    elif way:
        found = agents.agents_settings([{"name": "one", name: value}], ROLE, "server")
    else:
        role = {**ROLE, "values": {**ROLE["values"], f"agent_proxy_{name}": value}}
        found = agents.agents_settings([{"name": "one"}], role, "server")
    errors = list(found["errors"].values())
    return (errors[0], None) if errors else ("", found["agents"][0] if name not in ("page", "agents") else None)


def stack_checked(name: str, value: Any) -> tuple[str, Any]:
    values = {**{key: option["default"] for key, option in STACK_OPTIONS.items()}, **NOT_JINJA}
    values.update({"stack_acme_email": "a@b.example", name: value})
    errors = stack.stack_errors(values, STACK_OPTIONS)
    error = " ".join(errors) or stack.stack_files_error(values)
    return (error, None) if error else ("", values)


def checked(case: Case, way: bool) -> tuple[str, Any]:
    if case.name == "only":
        return agents.selection_error([{"name": "one"}], case.value, [[{"name": "one"}]], "server"), None
    if case.name in PLAYBOOK:
        given_ = {"vaettir_hosts": "vaettir", "vaettir_serial": 1, case.name: case.value}
        error = stack.run_error(given_, ["one"])
        if case.name == "agent" and not error:
            error = agents.selection_error([{"name": "one"}], case.value, [[{"name": "one"}]], "server")
        return error, None
    return (
        stack_checked(case.name, case.value)
        if case.name.startswith("stack_")
        else agent_checked(case.name, case.value, way)
    )


def sentence_fault(error: str, name: str) -> str:
    """What keeps it from being one good sentence."""
    named = {"agents": "vaettir_agents", "only": "agent", "parent_domain": "domain"}.get(name, name)
    bare = re.sub(r"'.*'|`[^`]*`|\([^)]*\)|https?://\S*[^\s.,]", "x", error)
    wrong = {
        "more than one line": not error.isprintable() or "  " in bare,
        "no end": not error.endswith("."),
        "more than one sentence": len(re.findall(r"[.!?](?:\s|$)", bare)) != 1,
        "does not name its variable": named not in error and error.find("agent name") < 0,
        "shows the secret": SECRET in error,
        "too long": len(error) > 1000,
    }
    return next((fault for fault, there in wrong.items() if there), "")


# --- what it is in a file, where it is not refused


def conf_shape(text: str, folder: Path) -> Any:
    path = folder / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    found = crossplane.parse(str(path), single=True, check_ctx=False, check_args=False, comments=True)
    assert found["errors"] == [], found["errors"]
    return blocks(found["config"][0]["parsed"], "")


def blocks(directives: list[dict[str, Any]], context: str) -> tuple[Any, ...]:
    """Names, numbers of words and what is below; those that are repeated for a list's elements count once."""
    result: list[Any] = []
    for one in directives:
        name, words = one["directive"], one["args"]
        count = 1 if name == "resolver" else len(words)
        if context == "map" and name not in ("default", "#", "hostnames"):
            name = "entry"
        shape = (name, count, blocks(one["block"], name) if "block" in one else None)
        if not result or result[-1] != shape:
            result.append(shape)
    return tuple(result)


def yaml_shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub("-[0-9a-f]{8}", "-DIGEST", str(key)): yaml_shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [yaml_shape(one) for one in value]
    if isinstance(value, str):
        return (value.split("=")[0] if value.startswith("--") else "text", value.count("$"), "\n" in value)
    return type(value).__name__


class Renderer:
    """One templar and each template's text once: thousands of files in some seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Any] = {}
        self.texts = {path: (ROLES / path).read_text(encoding="utf-8") for path in (CONF, SERVICE, COMPOSE)}
        self.stack = load("stack/vars/main.yml")

    def render(self, path: str, values: dict[str, Any]) -> str:
        return filled(path, self.texts[path], {**self.stack, **values})

    def shape(self, name: str, values: dict[str, Any]) -> Any:
        key = repr(sorted(values.items()))
        if key not in self.known:
            self.known[key] = self.made(name, values)
        return self.known[key]

    def made(self, name: str, values: dict[str, Any]) -> Any:
        if name.startswith("stack_"):
            return yaml_shape(yaml.safe_load(self.render(COMPOSE, values)))
        given_ = variables(values)
        conf = conf_shape(self.render(CONF, given_), self.folder)
        return conf, yaml_shape(yaml.safe_load(self.render(SERVICE, given_)))


CONF = "agent_proxy/templates/agent.conf.template.j2"


def outcome(case: Case, way: bool, renderer: Renderer, shapes: dict[str, list[Any]]) -> str:
    try:
        error, values = checked(case, way)
    except Exception as raised:
        return f"raises {type(raised).__name__}"
    if error:
        return sentence_fault(error, case.name) or "refused"
    if case.meaningless:
        return "taken although it means nothing"
    if values is None:
        return "inert"
    try:
        shape = renderer.shape(case.name, values)
    except Exception as raised:
        return f"a file that cannot be parsed ({type(raised).__name__})"
    return "inert" if shape in shapes[case.name] else "another structure"


def good_shapes(renderer: Renderer) -> Iterator[tuple[str, list[Any]]]:
    for name, values in GOOD.items():
        found = [checked(Case(name, value), True) for value in values]
        assert [error for error, _values in found if error] == [], name
        yield name, [renderer.shape(name, values) for _error, values in found if values is not None]


def test_every_variable_has_its_hostile_values() -> None:
    assert set(GOOD) == set(MEANINGLESS) == set(TYPES)
    assert set(OWN) <= set(ALL_AGENT_OPTIONS)


@pytest.mark.usefixtures("plugin_loader")
def test_hostile_values_are_refused_or_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Renderer(tmp_path)
    shapes = dict(good_shapes(renderer))
    cases = corpus()
    found = {key: outcome(case, number % 2 == 0, renderer, shapes) for number, (key, case) in enumerate(cases.items())}
    counts = Counter(found.values())
    other = {key: what for key, what in found.items() if what not in ("refused", "inert")}
    with capsys.disabled():
        print(
            f"\nhostile values: {len(cases)}, refused {counts['refused']}, inert {counts['inert']}, other {len(other)}"
        )
        for what, count in counts.most_common():
            print(f"  {count:5} {what}")
    assert len(cases) >= 5000
    assert not other, "\n".join(f"{what}: {key[:160]}" for key, what in other.items())
