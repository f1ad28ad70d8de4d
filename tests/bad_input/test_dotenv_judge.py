# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Compose itself says what a .env means; we read the same, or compare a running container with the wrong value."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _dotenv

from . import stand

KEY = "OCAPISTAINE_TARGET_URL"
URL = "https://ocapistaine.ngrok-free.app"
TEXTS = {
    "plain": f"{KEY}={URL}\n",
    "no-final-newline": f"A=1\n{KEY}={URL}",
    "crlf": f"A=1\r\n{KEY}={URL}\r\nB=2\r\n",
    "export": f"export {KEY}={URL}\n",
    "double-quotes": f'{KEY}="{URL}"\n',
    "single-quotes": f"{KEY}='{URL}'\n",
    "spaces": f"  {KEY} = {URL}  \n",
    "colon": f"{KEY}: {URL}\n",
    "comment-behind": f"{KEY}={URL} # my tunnel\n",
    "comment-behind-quotes": f'{KEY}="{URL}" # my tunnel\n',
    "hash-inside": f"{KEY}={URL}#x\n",
    "commented-out": f"#{KEY}=no\n{KEY}={URL}\n",
    "twice": f"{KEY}=old\n{KEY}={URL}\n",
    "empty": f"{KEY}=\n",
    "missing": "A=1\n",
    "lines-in-quotes": f'A="one\n{KEY}=no\n"\n{KEY}={URL}\n',
    "lines-in-single-quotes": f"A='one\n{KEY}=no\n'\n{KEY}={URL}\n",
    "line-separator-inside": f"A=1\u2028{KEY}=no\n",
    "escaped-quote-before": f'A="\\"{KEY}=no"\n{KEY}={URL}\n',
    "blank-lines": f"\n\n{KEY}={URL}\n\n",
}


@pytest.fixture(scope="module")
def judged(server: str) -> dict[str, str]:
    """What compose reads of every text, and of every text after a change by us, in one call."""
    assert server == stand.SERVER
    texts = dict(TEXTS)
    texts |= {f"{name}-changed": _dotenv.change(text, {KEY: f"{URL}.new"}, []) for name, text in TEXTS.items()}
    compose = f"services: {{it: {{image: x, environment: {{V: '${{{KEY}-}}'}}}}}}\n"
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    script = f"""
import base64, json, os, subprocess, tempfile
folder = tempfile.mkdtemp()
open(folder + "/compose.yaml", "w").write({compose!r})
result = {{}}
for name, text in {encoded!r}.items():
    with open(folder + "/.env", "wb") as stream:
        stream.write(base64.b64decode(text))
    command = ["docker", "compose", "config", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    value = json.loads(done.stdout)["services"]["it"]["environment"]["V"] if not done.returncode else done.stderr
    result[name] = value.replace("$$", "$")
print(json.dumps(result))
"""
    found: dict[str, str] = json.loads(stand.inside("python3", "-", user="deploy", text=script))
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_read_as_compose_reads_it(name: str, judged: dict[str, str]) -> None:
    assert _dotenv.read(TEXTS[name]).get(KEY, "") == judged[name]


@pytest.mark.parametrize("name", TEXTS)
def test_compose_reads_what_we_wrote(name: str, judged: dict[str, str]) -> None:
    assert judged[f"{name}-changed"] == f"{URL}.new"
