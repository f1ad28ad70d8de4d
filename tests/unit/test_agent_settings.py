# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An agent's entry, the role's variables and the profile become one checked dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.module_utils import _arguments
from ansible_collections.locki.vaettir.plugins.plugin_utils._agent_settings import agent_settings
from hypothesis import given
from hypothesis import strategies as st

ROLE = Path(__file__).parents[2] / "roles" / "agent_proxy"


def load(path: str) -> Any:
    return yaml.safe_load((ROLE / path).read_text(encoding="utf-8"))


OPTIONS = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
for name in ("agent_proxy_agents", "agent_proxy_only", "agent_proxy_page"):
    OPTIONS.pop(name)
PROFILES = load("vars/main.yml")["__agent_proxy_profiles"]
# Templated defaults as they come out where nothing is set.
VALUES = {
    **{
        name: None if "{{" in str(value) else value
        for name, value in load("defaults/main.yml").items()
        if name in OPTIONS
    },
    "agent_proxy_parent_domain": "example.org",
    "agent_proxy_public_port": 443,
    "agent_proxy_tunnel_port": 2222,
    "agent_proxy_from_outside": True,
    "agent_proxy_maintenance": False,
}


def settings(entry: dict[str, Any], siblings: Any = None, **values: Any) -> Any:
    own = {f"agent_proxy_{key}": value for key, value in values.items()}
    return agent_settings({"name": "a", **entry}, {**VALUES, **own}, OPTIONS, PROFILES, siblings)


def good(entry: dict[str, Any], **values: Any) -> dict[str, Any]:
    found = settings(entry, **values)
    assert found["errors"] == []
    return found["settings"]


def test_what_follows_from_the_name() -> None:
    found = good({"name": "my-agent"})
    assert found["target_url"] == "https://my-agent.ngrok-free.app"
    assert found["target_key"] == "MY_AGENT_TARGET_URL"
    assert found["target_values"]["TARGET_HOST"] == "my-agent.ngrok-free.app"
    assert found["domains"] == [found["domain"]] == ["my-agent.example.org"]
    assert found["public_origin"] == "https://my-agent.example.org"


def test_port_is_part_of_the_origin() -> None:
    assert good({"public_port": 8443})["public_origin"] == "https://a.example.org:8443"


def test_entry_wins_over_variable_wins_over_profile() -> None:
    assert good({})["max_body_size"] == PROFILES["streamlit"]["max_body_size"]
    assert good({}, max_body_size="5m")["max_body_size"] == "5m"
    assert good({"max_body_size": "7m"}, max_body_size="5m")["max_body_size"] == "7m"


def test_empty_value_in_an_entry_is_nobodys_choice() -> None:
    assert good({"read_timeout": None})["read_timeout"] == 3600
    assert good({"max_body_size": None}, max_body_size="5m")["max_body_size"] == "5m"


def test_profile_may_be_asked_for_again() -> None:
    assert good({"profile": "n8n"}, origin_mode="rewrite")["origin_mode"] == "rewrite"
    assert good({"profile": "n8n", "origin_mode": "profile"}, origin_mode="rewrite")["origin_mode"] == "preserve"


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles(profile: str) -> None:
    found = good({"profile": profile})
    assert {key: found[key] for key in PROFILES[profile]} == PROFILES[profile]


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"extra_domains": ["x.example", "x.example"]}, "extra_domains of agent a 'x.example' is there already"),
        ({"extra_domains": ["a.example.org"]}, "extra_domains of agent a 'a.example.org' is there already"),
        ({"extra_origins": ["https://A.example.org"]}, "extra_origins of agent a 'https://A.example.org' is there"),
        ({"resolver": ["10.0.0.1", "10.0.0.1"]}, "resolver of agent a '10.0.0.1' is there already: keep it once."),
        ({"resolver": []}, "resolver of agent a is empty"),
        ({"extra_domains": [f"x{n}.example" for n in range(101)]}, "has 101 elements: use 100 at most."),
        ({"domain": None, "parent_domain": ""}, "domain of agent a is missing: set vaettir_domain in the inventory"),
        ({"parent_domain": "under_score.example"}, "parent_domain of agent a 'under_score.example' is not valid"),
        ({"worker_shutdown_timeout": "1M"}, "use a time of nginx from 1s to 30d"),
        ({"cache_size": "99999999999g"}, "use a size of nginx from 1m to 1024g"),
        ({"base_image": 1.30}, "base_image of agent a '1.3' is not valid: use text."),
        ({"worker_processes": 65}, "use a whole number from 1 to 64."),
    ],
)
def test_refused(entry: dict[str, Any], part: str) -> None:
    (error,) = settings(entry)["errors"]
    assert part in error


def test_a_number_of_jinjas_is_one() -> None:
    assert good({"read_timeout": 60.0})["read_timeout"] == 60


def test_an_unquoted_choice_is_one() -> None:
    assert good({"ngrok": True})["ngrok"] == "true"


def test_forgotten_blank_shows_no_secret() -> None:
    (error,) = settings({"tunnel_secret:s3cret-behind-a-colon": None})["errors"]
    assert error.startswith("agent a has unknown settings tunnel_secret***: ")


def test_an_image_by_digest() -> None:
    """The tag stays readable for people and for the rules; Docker goes by the digest."""
    image = f"registry.example:5000/nginx:1.30.6@sha256:{'0123456789abcdef' * 4}"
    assert good({"base_image": image})["base_image"] == image


def test_types() -> None:
    found = good({"read_timeout": "60", "resolver_ipv6": "yes", "max_body_size": 5, "extra_domains": "x.example"})
    assert (found["read_timeout"], found["resolver_ipv6"], found["max_body_size"]) == (60, True, "5")
    assert found["domains"] == ["a.example.org", "x.example"]


@pytest.mark.parametrize(
    "key", [name.removeprefix("agent_proxy_") for name, o in OPTIONS.items() if o["type"] == "int"]
)
@pytest.mark.parametrize("value", [0, -1, "many", [1], {"a": 1}, 1.5])
def test_no_number_of_none(key: str, value: object) -> None:
    if (key, value) == ("hsts_max_age", 0):
        return  # takes back what browsers were told
    found = settings({key: value})
    assert len(found["errors"]) == 1
    assert f"{key} of agent a " in found["errors"][0]


def test_what_a_worker_takes() -> None:
    """Two connections for each request, the tunnel's idle ones, an eighth to spare; half of that for one visitor."""
    assert good({})["worker_requests"] == (4096 - 512 - 64) // 2
    few = good({"worker_connections": 256, "visitor_requests": 10})
    assert (few["worker_requests"], few["most_websockets"], few["most_requests"]) == (80, 40, 10)
    assert good({"worker_connections": 250_000})["worker_requests"] <= 65535  # that nginx counts


@pytest.mark.parametrize("value", [64, 100])
def test_too_few_connections(value: int) -> None:
    (error,) = settings({"worker_connections": value})["errors"]
    assert error.startswith(f"worker_connections of agent a is {value}, too few next to the 64 of upstream_keepalive: ")


def test_more_than_nginx_can_count() -> None:
    (error,) = settings({"visitor_websockets": 70_000})["errors"]
    assert error == "visitor_websockets of agent a '70000' is not valid: use a whole number from 1 to 9999."


STRINGS = [name.removeprefix("agent_proxy_") for name, o in OPTIONS.items() if o["type"] in ("str", "list")]


# A path on the control node reaches no file of the server, and the parent is looked at as part of the domain.
@pytest.mark.parametrize("key", sorted({*STRINGS} - {"name", "ca_certificate", "page"}))
@pytest.mark.parametrize("value", ["a; evil", "a\nevil", '"evil', "${evil}", "{evil}"])
def test_nothing_reaches_another_files_syntax(key: str, value: str) -> None:
    assert settings({key: value})["errors"], f"{key} takes {value!r}"


def test_refused_settings_are_not_given_away() -> None:
    assert settings({"target_url": "https://u:s3cret@x"})["settings"] == {}


@pytest.mark.parametrize("value", ["short", "s3cret with a space", ["s3cret-in-a-list-of-one"]])
def test_refused_secret_is_not_shown(value: object) -> None:
    (error,) = settings({"tunnel_secret": value})["errors"]
    assert "tunnel_secret of agent a '***' is not valid" in error
    assert "s3cret" not in error
    assert "short" not in error


def test_unknown_setting() -> None:
    (error,) = settings({"colour": 1})["errors"]
    assert error.startswith("agent a has unknown settings colour: use those there are, ")
    assert "target_url" in error


def test_unknown_profile_is_one_mistake() -> None:
    assert len(settings({"profile": "django"})["errors"]) == 1


@pytest.mark.parametrize(
    ("entry", "sibling"),
    [
        ({}, {"domain": "a.example.org"}),
        ({"extra_domains": ["b.example.org"]}, {}),
        ({"domain": "x.example"}, {"extra_domains": ["x.example"]}),
    ],
)
def test_domain_of_another(entry: dict[str, Any], sibling: dict[str, Any]) -> None:
    siblings = [{"name": "a", **entry}, {"name": "b", **sibling}]
    (error,) = settings(entry, siblings)["errors"]
    assert "is agent b's too" in error


def test_one_domain_for_all() -> None:
    (error,) = settings({}, [{"name": "a"}, {"name": "b"}], domain="x.example")["errors"]
    assert "is agent b's too" in error


@pytest.mark.parametrize(
    "siblings", [None, [], [{"name": "a"}], [{"name": "b"}], ["odd"], [{"name": "b", "domain": ["x"]}]]
)
def test_siblings_that_do_no_harm(siblings: Any) -> None:
    assert settings({}, siblings)["errors"] == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)


@given(st.sampled_from(sorted(OPTIONS)), anything)
def test_any_value_is_accepted_or_refused_in_a_sentence(name: str, value: Any) -> None:
    for error in settings({name.removeprefix("agent_proxy_"): value})["errors"]:
        assert error.endswith(".")
        assert "\n" not in error


@pytest.mark.parametrize(
    ("value", "option", "sentence"),
    [
        ("x", {"type": "int"}, "it 'x' is not valid: use a whole number."),
        ("x", {"type": "bool"}, "it 'x' is not valid: use true or false."),
        ("x", {"type": "str", "choices": ["a", "b"]}, "it 'x' is not valid: use one of a, b."),
        (["x"], {"type": "str"}, "it is a list: use text."),
        ({"x": 1}, {"type": "list", "elements": "str"}, "it is a dictionary: use a list."),
        (1.5, {"type": "str"}, "it '1.5' is not valid: use text."),
        (True, {"type": "int"}, "it 'True' is not valid: use a whole number."),
        (123, {"type": "str", "no_log": True}, "it '***' is not valid: use text."),
        (None, {"type": "int", "default": 1}, "it is empty: use a whole number, or leave it out."),
    ],
)
def test_sentence_for_a_wrong_type(value: object, option: dict[str, Any], sentence: str) -> None:
    assert _arguments.check({"it": value}, {"it": option}, {})[1] == [sentence]
