# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Read and change a compose .env file without touching a byte that is not ours."""

from __future__ import annotations

import re

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:][ \t]*(.*)", re.DOTALL)


def _closed(value: str) -> bool:
    """True unless the value opens a quote that its text does not close."""
    quote = value[:1]
    if quote not in ("'", '"'):
        return True
    escapes = r"(?:[^\\']|\\.)*" if quote == "'" else r'(?:[^\\"]|\\.)*'
    return re.match(quote + escapes + quote, value, re.DOTALL) is not None


def statements(text: str) -> list[tuple[str | None, str]]:
    """Split into (key or None, raw text) pairs; their raw texts joined are the input. Quoted values may span lines."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # not splitlines: compose ends a line at a newline only
    result: list[tuple[str | None, str]] = []
    index = 0
    while index < len(lines):
        match = _ASSIGNMENT.match(lines[index]) if not lines[index].lstrip().startswith("#") else None
        if not match:
            result.append((None, lines[index]))
            index += 1
            continue
        end = index + 1
        value = match.group(2)
        while not _closed(value) and end < len(lines):
            value += lines[end]
            end += 1
        if not _closed(value):  # a stray quote is one line's mistake, not the rest of the file's
            end = index + 1
        result.append((match.group(1), "".join(lines[index:end])))
        index = end
    return result


def value_of(raw: str) -> str:
    """The value that a statement assigns, as compose reads it for the simple values we write."""
    match = _ASSIGNMENT.match(raw)
    value = match.group(2).strip() if match else ""
    if value[:1] in ("'", '"') and _closed(value):
        return value[1 : value.index(value[0], 1)]
    return re.sub(r"\s+#.*", "", value, flags=re.DOTALL)


def read(text: str) -> dict[str, str]:
    """All keys; the last assignment wins."""
    return {key: value_of(raw) for key, raw in statements(text) if key is not None}


def change(text: str, present: dict[str, str], absent: list[str]) -> str:
    """Text with the keys set and removed; a key that already has its value keeps its spelling."""
    current = read(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    parts = [(key, raw) for key, raw in statements(text) if key is None or key not in absent]
    for key, value in present.items():
        if current.get(key) == value:
            continue
        places = [index for index, (name, _raw) in enumerate(parts) if name == key]
        if places:
            raw = parts[places[-1]][1]
            before = raw[: raw.index(key)]  # `export `, for those who also source the file
            ending = raw[len(raw.rstrip("\r\n")) :]
            parts[places[-1]] = (key, f"{before}{key}={value}{ending}")
        else:
            if parts and not parts[-1][1].endswith("\n"):
                parts[-1] = (parts[-1][0], parts[-1][1] + newline)
            parts.append((key, f"{key}={value}{newline}"))
    return "".join(raw for _key, raw in parts)


def raw(text: str, keys: list[str]) -> dict[str, str | None]:
    """How each key's last assignment is spelt, or None."""
    found: dict[str, str | None] = dict.fromkeys(keys)
    found.update({key: part for key, part in statements(text) if key in found})
    return found


def restore(text: str, spelt: dict[str, str | None]) -> str:
    """The keys as `raw` had found them; one that has its value already stays where and as it is."""
    for key, part in spelt.items():
        if part is None:
            text = change(text, {}, [key])
        elif raw(text, [key])[key] != part:
            text = change(text, {key: value_of(part)}, [])
            parts = statements(text)
            last = max(index for index, (name, _raw) in enumerate(parts) if name == key)
            ending = parts[last][1][len(parts[last][1].rstrip("\r\n")) :]
            # A last line may have had no end; in the middle it needs one.
            spelling = part if last == len(parts) - 1 else part.rstrip("\r\n") + ending
            text = "".join(spelling if index == last else old for index, (_name, old) in enumerate(parts))
    return text
