# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Another's .env: our keys change, every other byte stays."""

from __future__ import annotations

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _dotenv
from hypothesis import example, given
from hypothesis import strategies as st

KEY = "OCAPISTAINE_TARGET_URL"
VALUE = "https://ocapistaine.ngrok-free.app"
PIECES = [
    "A=1",
    f"{KEY}=x",
    f"export {KEY}='y'",
    f'{KEY}="',
    '"',
    "'",
    "# comment",
    "B='two",
    "lines'",
    "$X",
    "é",
    "\x0b",
    "\u2028",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "=",
    ":",
    "export ",
    "C : d",
    "#",
    f"#{KEY}=no",
    "\\",
    "\ufeff",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))
values = st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True) | st.just("")


def others(text: str) -> str:
    return "".join(raw for key, raw in _dotenv.statements(text) if key != KEY)


@given(texts)
def test_statements_are_the_whole_text(text: str) -> None:
    assert "".join(raw for _key, raw in _dotenv.statements(text)) == text


@given(texts, values)
@example(f"{KEY}=1\n{KEY}=2\n", VALUE)
@example(f'A="never closed\n{KEY}=1', VALUE)
@example(f"A=1\u2028{KEY}=1", VALUE)
def test_set(text: str, value: str) -> None:
    after = _dotenv.change(text, {KEY: value}, [])
    assert _dotenv.read(after)[KEY] == value
    assert _dotenv.change(after, {KEY: value}, []) == after
    kept = others(after)
    # A new line needs the last one to end.
    assert kept in (others(text), others(text) + "\n", others(text) + "\r\n")


@given(texts)
def test_remove(text: str) -> None:
    after = _dotenv.change(text, {}, [KEY])
    assert after == others(text)


@given(texts)
def test_nothing_to_do_is_nothing_done(text: str) -> None:
    assert _dotenv.change(text, {}, []) == text


@pytest.mark.parametrize(
    "line",
    [
        f"{KEY}={VALUE}",
        f"export {KEY}={VALUE}",
        f'{KEY}="{VALUE}"',
        f"{KEY}='{VALUE}'",
        f"{KEY} = {VALUE}",
        f"{KEY}: {VALUE}",
        f"{KEY}={VALUE} # mine",
        f'{KEY}="{VALUE}" # mine',
        f"  {KEY}={VALUE}  ",
        f"{KEY}={VALUE}\r",
    ],
)
def test_spelling_of_the_same_value_stays(line: str) -> None:
    text = f"A=1\n{line}\nB=2\n"
    assert _dotenv.change(text, {KEY: VALUE}, []) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{KEY}={VALUE}\n"),
        ("A=1", f"A=1\n{KEY}={VALUE}\n"),
        ("A=1\r\n", f"A=1\r\n{KEY}={VALUE}\r\n"),
        ("A=1\r\nB=2", f"A=1\r\nB=2\r\n{KEY}={VALUE}\r\n"),
        (f"export {KEY}=old\nA=1", f"export {KEY}={VALUE}\nA=1"),
        (f"{KEY}=old", f"{KEY}={VALUE}"),
        (f"{KEY}=old\r\nA=1\r\n", f"{KEY}={VALUE}\r\nA=1\r\n"),
        (f'{KEY}="two\nlines"\nA=1\n', f"{KEY}={VALUE}\nA=1\n"),
        (f'A="{KEY}=not me\n"\n', f'A="{KEY}=not me\n"\n{KEY}={VALUE}\n'),
        (f"# {KEY}=example\n", f"# {KEY}=example\n{KEY}={VALUE}\n"),
        (f"{KEY}=1\nA=1\n{KEY}=2\n", f"{KEY}=1\nA=1\n{KEY}={VALUE}\n"),
        (f"A=1\u2028{KEY}={VALUE}\n", f"A=1\u2028{KEY}={VALUE}\n{KEY}={VALUE}\n"),
        (f"X{KEY}=1\n", f"X{KEY}=1\n{KEY}={VALUE}\n"),
    ],
)
def test_exact_bytes(before: str, after: str) -> None:
    assert _dotenv.change(before, {KEY: VALUE}, []) == after


@given(texts, texts)
@example(f"A=1\nexport {KEY}='x y'", f"A=1\n{KEY}={VALUE}\nB=2\n")
@example("A=1\r\n", f"A=1\r\n{KEY}={VALUE}\r\n")
def test_restored(before: str, after: str) -> None:
    spelt = _dotenv.raw(before, [KEY])
    restored = _dotenv.restore(after, spelt)
    assert _dotenv.read(restored).get(KEY) == _dotenv.read(before).get(KEY)
    assert _dotenv.restore(restored, spelt) == restored


@given(texts, values)
def test_a_change_is_taken_back_byte_for_byte(text: str, value: str) -> None:
    spelt = _dotenv.raw(text, [KEY])
    back = _dotenv.restore(_dotenv.change(text, {KEY: value}, []), spelt)
    assert back in (text, text + "\n", text + "\r\n")
