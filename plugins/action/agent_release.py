# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The control node's part of the module agent_release: it renders the files, and sees an agent as a visitor does."""

from __future__ import annotations

import getpass
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.locki.vaettir.plugins.filter.diagnosis import addresses
from ansible_collections.locki.vaettir.plugins.module_utils import _names, _probe, _questions, _tunnel, _websocket
from ansible_collections.locki.vaettir.plugins.module_utils._server import PAGE
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import GOOD

VISITOR = 5  # seconds for the public name, from the control node
# What the module takes of an agent's settings as they are.
PASSED = (
    *("base_image", "require_online", "drain", "drain_window", "purge_cache", "keep_releases"),
    *("release", "instead_of"),
)
KILLED = (-9, 137)  # exit status of a process that SIGKILL ended
ENDED = (
    "the module was ended on the server before it could answer (out of memory, or by hand). Whatever it had switched "
    "to is not verified, so the agent's container goes back to the committed release by itself: run the command again, "
    "which clears up the rest."
)


class ActionModule(ActionBase):
    """Options of its own: templates (of the agents' files), visitor (how the public name is asked)."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        arguments = dict(self._task.args)
        self.templates = arguments.pop("templates", {})
        visitor, self.managed = arguments.pop("visitor", None), bool(arguments.get("managed", True))
        agents, self.env = arguments.pop("agents"), arguments.pop("env", {})
        writes = arguments.get("state", "present") in ("present", "previous") and bool(self.templates)
        arguments.update(
            agents=[self.agent(one, writes) for one in agents],
            shared=self.shared() if writes and self.managed else {},
            by=f"{getpass.getuser()}@{platform.node()}",
        )
        made = self._execute_module("locki.vaettir.agent_release", arguments, task_vars=task_vars)
        if made.get("rc") in KILLED and "agents" not in made:
            made["msg"] = ENDED
        result.update(made)
        if visitor and not result.get("failed") and "agents" in result:
            result["agents"] = see(result["agents"], {one["name"]: one for one in agents}, visitor)
        return result

    # --- what the server gets

    def agent(self, settings: dict[str, Any], writes: bool) -> dict[str, Any]:
        passed = {name: settings[name] for name in PASSED if settings.get(name) is not None}
        # A name is enough for a removal.
        known = _questions.asked(settings) if "domains" in settings else {"name": settings["name"]}
        made = {**known, **passed}
        return {**made, "files": self.files(settings), "env": self.values(settings)} if writes else made

    def values(self, settings: dict[str, Any]) -> dict[str, str]:
        """Keys of .env. A conf for the owner's image holds what an entry point of ours makes of the target."""
        url = settings["target_url"] if self.managed else settings["target_values"]["TARGET_URL"]
        return {**self.env, **({} if settings["name"] == PAGE else {settings["target_key"]: url})}

    def shared(self) -> dict[str, str]:
        """The same for every agent of a server, so nothing of one agent's own settings is in them."""
        example = self.templates["example"]
        made = {path: self.render(source, example) for path, source in self.templates["shared"].items()}
        upper = _names.env_prefix(example["name"])
        return {
            path: text.replace(example["name"], upper) if path.endswith(".example") else text
            for path, text in made.items()
        }

    def files(self, settings: dict[str, Any]) -> dict[str, str]:
        name, page = settings["name"], settings["name"] == PAGE
        conf = self.templates["page" if page else "conf"]
        if not self.managed:
            text = self.render(conf, {**settings, "core": True})
            return {_names.conf_file(name): _names.filled(text, settings["target_values"])}
        made = {_names.conf_file(name): self.render(conf, settings)}
        made[_names.fragment_file(name)] = self.render(self.templates["service"], settings)
        if settings["tunnel_key"]:
            made[_names.keys_file(name)] = _tunnel.authorized_keys(settings["tunnel_key"])
        if settings["ca_certificate"] and not page:
            made[_names.ca_file(name)] = self.text(str(Path(settings["ca_certificate"]).resolve()))
        return made

    def text(self, path: str) -> str:
        return f"{self._loader.get_text_file_contents(path).rstrip()}\n"

    def render(self, source: str, settings: dict[str, Any]) -> str:
        """A Jinja template of the role (.j2), or one of the user's own; any other file as it is."""
        kind = "files" if source.endswith(".js") else "templates"
        path = self._find_needle(kind, source)
        if kind == "files":
            return self.text(path)
        text = self._loader.get_text_file_contents(path)
        templar = self._templar.copy_with_new_env(
            searchpath=[str(Path(path).parent)], available_variables={**self.variables, "__agent_proxy": settings}
        )
        return str(templar.template(trust_as_template(text), escape_backslashes=False))


# --- as a visitor


def see(
    rows: list[dict[str, Any]], settings: dict[str, dict[str, Any]], visitor: dict[str, Any]
) -> list[dict[str, Any]]:
    """Each row with what its public name answers from here."""

    def one(row: dict[str, Any]) -> dict[str, Any]:
        agent = settings.get(row["agent"], {})
        if not row["verified"] or not row["url"] or not agent.get("from_outside"):
            return {**row, "outside": "", "seen": False}
        found = ask(agent, visitor)
        accepted = (*GOOD, *_websocket.PAGES)
        waits = not row["trusted"] and found["reason"] == "tls_pending"
        if found["reason"] in accepted or waits:
            return {**row, "outside": "", "seen": True}
        return {**row, "outside": outside(agent["domain"], found), "seen": True}

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, rows))


def ask(agent: dict[str, Any], visitor: dict[str, Any]) -> dict[str, Any]:
    """Behind another proxy the name has a certificate of the world's, so the server's own authority is tried second."""
    asked = {
        # Names below localhost are this machine's own (RFC 6761), whatever its resolver says.
        "address": addresses(agent["domain"])[0] if agent["domain"].endswith(".localhost") else "",
        "origin": agent["public_origin"],
        "websocket": _questions.upgrade(agent),
        "upgrade": _questions.upgrade(agent),
        "timeout": VISITOR,
    }
    found: dict[str, Any] = {}
    for path in dict.fromkeys([visitor.get("ca", ""), visitor.get("own_ca", "")]):
        try:
            trusted = str(Path(path).resolve()) if path else ""
            found = _probe.ask(_questions.public_url(agent), ca_path=trusted, **asked)
        except (ValueError, OSError) as error:
            return {"reason": "not_asked", "error": str(error)}
        if found["reason"] != "tls_untrusted":
            break
    return found


def outside(domain: str, found: dict[str, Any]) -> str:
    """What is wrong with the public name, and what to do where only the control node is at fault."""
    told, end = found["error"], "set agent_proxy_from_outside to false"
    if found["reason"] == "not_asked":
        return f"the control node cannot ask for its public name ({told}): fix what it says, or {end}"
    if found["reason"].startswith("tls_"):
        return (
            f"the control node does not accept the certificate of its public name ({told}): set stack_tls_ca to your "
            "own authority, or look for a proxy in front of this server; or, where only the control node is at fault, "
            f"{end}"
        )
    return (
        f"its public name does not answer from the control node ({told}): lead the DNS record of {domain} to this "
        f"server, or, where only the control node cannot reach it, {end}"
    )
