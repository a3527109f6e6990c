# SPDX-License-Identifier: Apache-2.0
"""LVM2's settings: ``--config`` before a command profile before ``lvm.conf`` before the defaults.

A setting is named by its path, ``section/name``. The defaults are those of LVM2 2.03.16; see
``known_settings``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.block import system
from lamella.errors import CorruptError, UsageError
from lamella.lvm.session.known_settings import config_folder, known_settings
from lamella.lvm.session.setting_checks import TRUE, value_fault

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.lvm.format.text import Scalar, Section, Value

FILES = ("lvm.conf", "lvmlocal.conf")
"""In LVM2's folder; the second overrides the first."""
_COMMENT_LINES = re.compile(r"(?m)^[ \t]*#.*\n?")


def parse_text(text: str) -> Section:
    """The settings in *text*. Raises :class:`UsageError` with LVM2's message."""
    if not text.strip():
        return {}
    from lamella.lvm.format.text import parse

    try:
        return parse(text, merge=True)
    except CorruptError as error:
        raise UsageError(error.message, hint="the form is: section { name=value }") from error


def read_file(path: Path) -> Section:
    """The settings in a file; none if it does not exist. Raises for what cannot be read or parsed."""
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise system.explain(error, "read the settings in", str(path)) from error
    try:
        return parse_text(_COMMENT_LINES.sub("", text))
    except UsageError:
        return parse_text(text)  # says where in the file the fault is


def read_files(folder: Path | None = None) -> list[Section]:
    """The settings in ``lvm.conf`` and ``lvmlocal.conf``, without files that have none."""
    place = folder if folder is not None else config_folder()
    return [layer for name in FILES if (layer := read_file(place / name))]


@dataclass(slots=True, eq=False, repr=False)
class Config:
    """Layers of settings; the first that has one counts."""

    layers: list[Section] = field(default_factory=list)
    above: int = 0
    """How many of the layers come before a profile."""
    above_files: int = 0
    """How many of the layers come before those of the files."""

    @classmethod
    def load(cls, override: str = "", folder: Path | None = None) -> Config:
        """``--config`` over ``lvmlocal.conf`` over ``lvm.conf``."""
        return cls.of(read_files(folder), parse_text(override))

    @classmethod
    def of(cls, files: list[Section], override: Section) -> Config:
        """*override* over the last of the files."""
        return cls(
            [*([override] if override else []), *reversed(files)], int(bool(override)), int(bool(override))
        )

    def with_layer(self, layer: Section, *, first: bool = False, profile: str = "command") -> Config:
        """A copy with *layer* below ``--config``, or above all; a "metadata" profile is below others."""
        at = 0 if first else self.above_files if profile == "metadata" else self.above
        layers = [*self.layers[:at], layer, *self.layers[at:]]
        return Config(layers, self.above + first, self.above_files + 1)

    def find(self, path: str) -> Value | Section | None:
        """The value of a setting as some layer has it; None if none does."""
        for layer in self.layers:
            at: Value | Section | None = layer
            for name in path.split("/"):
                at = at.get(name) if isinstance(at, dict) else None
                if at is None:
                    break
            if at is not None:
                return at
        return None

    def _value(self, path: str) -> Value | None:
        """As LVM2 does it, the default where no layer has the setting, or the value is of a wrong type."""
        found = self.find(path)
        setting = known_settings().by_path.get(path)
        if found is None or isinstance(found, dict) or (setting and value_fault(setting, path, found)):
            return setting.default if setting is not None else None
        return found

    def number(self, path: str) -> int:
        """A whole number; 0 for a setting that has no default."""
        value = _single(self._value(path))
        return int(value) if isinstance(value, int | float) else 0

    def flag(self, path: str) -> bool:
        """A switch: a number, or yes and no in LVM2's spellings."""
        value = _single(self._value(path))
        return value.lower() in TRUE if isinstance(value, str) else bool(value)

    def text(self, path: str) -> str:
        """A string."""
        value = _single(self._value(path))
        return "" if value is None else str(value)

    def strings(self, path: str) -> list[str]:
        """A list of strings; a single one is a list of one."""
        value = self._value(path)
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _single(value: Value | None) -> Scalar | None:
    """The first of a list, as LVM2 reads a single value."""
    return (value[0] if value else None) if isinstance(value, list) else value


def accepted_name(filters: list[str], names: list[str]) -> str:
    """Under which of these names LVM2's filter patterns accept a device; "" if they reject it.

    As in LVM2 (lib/filters/filter-regex.c): the first name that a pattern accepts, and by which the device is
    then called; a device of which no name matches is accepted, and one of which names are only rejected is
    not.
    """
    verdicts = [_verdict(filters, name) for name in names]
    if True in verdicts:
        return names[verdicts.index(True)]
    return "" if False in verdicts else names[0]


def _verdict(filters: list[str], path: str) -> bool | None:
    """Whether the patterns (``a|^/dev/sd|``, ``r|.*|``) accept *path*: the first match wins, None if none
    matches.
    """
    for pattern in filters:
        verdict, mark = pattern[:1], pattern[1:2]
        closing = {"(": ")", "[": "]", "{": "}"}.get(mark, mark)
        body = pattern[2:]
        if verdict not in ("a", "r") or not mark or not body.endswith(closing):
            raise UsageError(
                f'Invalid filter pattern "{pattern}".', hint='write it as "a|regex|" or "r|regex|"'
            )
        try:
            if re.search(body[: -len(closing)], path):
                return verdict == "a"
        except re.error as error:
            raise UsageError(f'Invalid filter pattern "{pattern}": {error}.') from error
    return None
