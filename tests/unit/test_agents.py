# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The agents of a run: which they are, and what is wrong with their settings, before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.filter import agents

ROLE_FOLDER = Path(agents.__file__).parents[2] / "roles" / "agent_proxy"
OPTIONS = yaml.safe_load((ROLE_FOLDER / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
OWN = ("agent_proxy_agents", "agent_proxy_only", "agent_proxy_page")
ROLE: dict[str, Any] = {
    "options": {name: option for name, option in OPTIONS.items() if name not in OWN},
    "values": {name: option.get("default") for name, option in OPTIONS.items() if name not in OWN},
    "profiles": yaml.safe_load((ROLE_FOLDER / "vars/main.yml").read_text())["__agent_proxy_profiles"],
}
ROLE["values"].update(
    agent_proxy_parent_domain="vaettir.example",
    agent_proxy_public_port=443,
    agent_proxy_tunnel_port=2222,
    agent_proxy_from_outside=True,
    agent_proxy_maintenance=False,
)
OWNERS = {"built": ["one"], "named": {}, "services": {"one": "vaettir-one"}}
STACK: dict[str, Any] = {
    "root": "/srv/vaettir",
    "owners_services": ["www"],
    "compose_files": ["docker-compose.yml"],
    "owners": OWNERS,
}


def settings(*entries: Any, **more: Any) -> dict[str, Any]:
    return agents.agents_settings(list(entries), ROLE, "server", **more)


def error(*entries: Any, **more: Any) -> str:
    """The only one."""
    (found,) = settings(*entries, **more)["errors"].values()
    return str(found)


def test_good_ones_are_completed() -> None:
    made = settings({"name": "one"}, {"name": "two", "domain": "two.example"}, stack=STACK)
    assert made["errors"] == {}
    assert [one["public_origin"] for one in made["agents"]] == ["https://one.vaettir.example", "https://two.example"]


def test_a_bad_one_leaves_the_others() -> None:
    made = settings({"name": "one", "domain": "Upper.Example"}, {"name": "two"})
    assert [one["name"] for one in made["agents"]] == ["two"]
    assert "'Upper.Example'" in made["errors"]["one"]


@pytest.mark.parametrize(
    ("entry", "more", "words"),
    [
        ({"name": "one", "ca_certificate": "/nowhere.pem"}, {}, "'/nowhere.pem' is not a file on the control node"),
        ({"name": "www"}, {"stack": STACK}, "agent name 'www' is a service of the owner's in /srv/vaettir on server"),
        ({"name": "two"}, {"stack": STACK, "manage": False}, "has no service 'two' with a `build` (there are one)"),
        (
            {"name": "one", "tunnel_secret": "a-secret-of-the-tunnel"},
            {"stack": STACK, "manage": False},
            "tunnel_secret of agent one cannot reach the image on server",
        ),
        (
            {"name": "one"},
            {"stack": {**STACK, "owners": {**OWNERS, "named": {"one": "mine"}}}, "manage": False},
            "container_name 'mine' of service one",
        ),
        ({"name": "one", "break_lock": True}, {}, "break_lock of agent one is gone: leave it out"),
        ({"name": "one", "lock_timeout": 3}, {}, "lock_timeout of agent one is gone"),
        ({"name": "one"}, {"page": "/nowhere.html"}, "agent_proxy_page '/nowhere.html' is not a file"),
        (
            {"name": "one"},
            {"gone": {"break_lock": True}},
            "server: agent_proxy_break_lock is gone: leave it out",
        ),
        ({"name": "one"}, {"gone": {"name": "one"}}, "agent_proxy_name is gone: put the agent into"),
        ({"colour": "red"}, {}, "server: entry 1 of vaettir_agents has no name"),
    ],
)
def test_refused_in_a_sentence(entry: dict[str, Any], more: dict[str, Any], words: str) -> None:
    assert words in error(entry, **more)


@pytest.mark.parametrize("entries", [[], [{"name": "one", "read_timeout": 5}]])
def test_variable_that_every_agent_has_differently(entries: list[Any]) -> None:
    role = {**ROLE, "values": {**ROLE["values"], "agent_proxy_read_timeout": "long"}}
    (told,) = agents.agents_settings(entries, role, "server")["errors"].values()
    assert told == "server: agent_proxy_read_timeout 'long' is not valid: use a whole number."


def test_names_elsewhere_show_no_secret() -> None:
    everywhere = [[{"name": {"tunnel_secret": "s3cret"}}, {"name": "b"}]]
    assert agents.selection_error([], "nobody", everywhere, "server").endswith("(b).")


def test_page_is_one(tmp_path: Path) -> None:
    page, other = tmp_path / "page.html", tmp_path / "id_ed25519"
    page.write_text("<h1>${AGENT_NAME}</h1>", encoding="utf-8")
    other.write_text("-----BEGIN", encoding="utf-8")
    assert settings({"name": "one"}, page=str(page))["errors"] == {}
    assert "is not HTML: set it to the path of a page or template in UTF-8." in error({"name": "one"}, page=str(other))


def test_the_role_asks_for_all_that_is_gone() -> None:
    role = yaml.safe_load((ROLE_FOLDER / "vars/main.yml").read_text())
    assert role["__agent_proxy_gone"] == sorted(agents.GONE)


def test_what_is_not_set_is_not_gone() -> None:
    assert settings({"name": "one"}, gone={"name": "", "break_lock": ""})["errors"] == {}


def test_the_chosen_ones() -> None:
    there = [{"name": "one"}, {"name": "two"}, {"name": "three"}]
    assert agents.chosen(there, "one, three") == [there[0], there[2]]
    assert agents.chosen(there, "") == there
    assert agents.chosen(cast("list[dict[str, str]]", ["no entry", *there]), "two") == [there[1]]


@pytest.mark.parametrize(
    ("only", "more", "words"),
    [
        (None, {}, ""),
        ("one", {}, ""),
        ("one,elsewhere", {}, ""),
        ("", {}, "agent '' is not declared for any server of this run"),
        ("nobody", {}, "agent 'nobody' is not declared for any server of this run: add it to vaettir_agents"),
        ("one,nobody", {}, "those there are (elsewhere, one)"),
        (
            None,
            {"one": True},
            "agent is not set: say which one, as in `-e agent=ocapistaine`. There are elsewhere, one.",
        ),
    ],
)
def test_whether_the_chosen_ones_are_there(only: str | None, more: dict[str, Any], words: str) -> None:
    everywhere = [[{"name": "one"}], [{"name": "elsewhere"}], "no list"]
    found = agents.selection_error([{"name": "one"}], only, everywhere, "server", **more)
    assert words in found
    assert bool(found) is bool(words)


def test_a_list_that_is_none_comes_first() -> None:
    assert agents.selection_error("one", "nobody", [], "server").startswith(
        "server: vaettir_agents is text, not a list"
    )


def test_removed_ones_need_no_declaration() -> None:
    (made,) = agents.removed_agents("gone", ROLE)
    assert (made["name"], made["public_origin"]) == ("gone", "https://gone.vaettir.example")
    without = {**ROLE, "values": {**ROLE["values"], "agent_proxy_parent_domain": ""}}
    assert agents.removed_agents("gone", without)[0]["domain"] == "gone.invalid"
