# SPDX-License-Identifier: Apache-2.0
"""Settings merged into a TOML text, of which everything else stays: comments, order, other settings.

Whatever way the text has for its tables (headers, dotted keys, inline tables), the result is parsed again by
:mod:`tomllib` and compared with what the settings and the old text should give together.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lamella.services.runtime_config.model import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import tomlkit

Values = dict[str, str | bool | int | list[str]]
Place = tuple[str, ...]

_LINE_FEED = re.compile(r"(?<!\r)\n")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Settings:
    """What a text must have."""

    tables: dict[Place, Values] = field(default_factory=dict)
    """For each table, the keys to set."""
    entries: dict[Place, list[Values]] = field(default_factory=dict)
    """For each array of tables, the entries that it must have among its others. The first key tells which
    entry one is: another with the same value there is left as it is."""

    def text(self) -> str:
        """All of it as TOML."""
        blocks = [_block(place, values) for place, values in self.tables.items()]
        blocks += [_block(place, values, "[[]]") for place, all_ in self.entries.items() for values in all_]
        return "\n".join(blocks)

    def applied_to(self, parsed: Mapping[str, Any]) -> dict[str, Any]:
        """*parsed* with all of it. Raises ``TypeError`` where something else is in a table's place."""
        wanted: dict[str, Any] = copy.deepcopy(dict(parsed))
        for place, values in self.tables.items():
            _table_at(wanted, place).update(copy.deepcopy(values))
        for place, all_ in self.entries.items():
            array = _table_at(wanted, place[:-1]).setdefault(place[-1], [])
            if not isinstance(array, list):
                raise TypeError
            array += [dict(values) for values in all_ if not _has(array, values)]
        return wanted


def _has(array: Sequence[object], entry: Values) -> bool:
    key, value = next(iter(entry.items()))
    return any(isinstance(each, dict) and each.get(key) == value for each in array)


def _table_at(parsed: dict[str, Any], place: Place) -> dict[str, Any]:
    for key in place:
        parsed = parsed.setdefault(key, {})
        if not isinstance(parsed, dict):
            raise TypeError
    return parsed


def parse(path: Path, text: str) -> dict[str, Any]:
    """The content of *text*. Raises :class:`lamella.errors.BadInputError` for what is no TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"it is no valid TOML: {str(error)[:300]}") from error


def merge(path: Path, text: str, settings: Settings) -> str:
    """*text* with the settings. Raises :class:`lamella.errors.BadInputError` where that cannot be done."""
    of_windows = "\n" in text and not _LINE_FEED.search(text)
    for place, values in settings.tables.items():
        block = Settings({place: values})
        set_ = partial(_set_in_table, place=place, values=values)
        text = _first_right(path, text, block, set_, partial(_appended, block=block.text()))
    for place, entries in settings.entries.items():
        for entry in entries:
            block = Settings(entries={place: [entry]})
            add = partial(_add_to_array, place=place, entry=entry)
            text = _first_right(path, text, block, partial(_appended, block=block.text()), add)
    return _LINE_FEED.sub("\r\n", text) if of_windows else text


def _first_right(path: Path, text: str, settings: Settings, *ways: Callable[[str], str]) -> str:
    """The result of the first way that leads to the settings, and changes nothing else."""
    before = parse(path, text)
    try:
        wanted = settings.applied_to(before)
    except TypeError as error:
        place = next(iter({**settings.tables, **settings.entries}))
        raise refuse(path, f"{_dotted(place)} is no table in it") from error
    if wanted == before:
        return text
    for way in ways:
        try:
            made = way(text)
            if tomllib.loads(made) == wanted:
                return made
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):  # this way leads nowhere
            continue
    place = next(iter({**settings.tables, **settings.entries}))
    raise refuse(path, f"{_dotted(place)} is written in a form that cannot be changed safely")


def _appended(text: str, block: str) -> str:
    gap = "" if not text.strip() else "\n" if text.endswith("\n") else "\n\n"
    return text + gap + block


def _set_in_table(text: str, place: Place, values: Values) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    table = _found(document, place)
    for key, value in values.items():
        if table.get(key) != value:
            table[key] = value
    return tomlkit.dumps(document)


def _add_to_array(text: str, place: Place, entry: Values) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    inline = tomlkit.inline_table()
    inline.update(entry)
    _found(document, place).append(inline)
    return tomlkit.dumps(document)


def _found(document: tomlkit.TOMLDocument, place: Place) -> Any:
    at: Any = document
    for key in place:
        at = at[key]
    return at


# -- writing -------------------------------------------------------------------------------------


def _block(place: Place, values: Values, brackets: str = "[]") -> str:
    half = len(brackets) // 2
    lines = [f"{brackets[:half]}{_dotted(place)}{brackets[half:]}"]
    lines += [f"  {_key(key)} = {_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _dotted(place: Sequence[str]) -> str:
    return ".".join(map(_key, place))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: str | bool | int | list[str]) -> str:
    """As TOML has it: a basic string has JSON's escapes, but for those of characters above U+FFFF."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
