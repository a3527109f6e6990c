# SPDX-License-Identifier: Apache-2.0
"""Every setting that LVM2 2.03.16 knows: type, default, since when, and what may set it.

The table is ``settings_table.txt`` beside this module, made by ``scripts/lvm_settings.py`` from what
``lvmconfig`` of LVM2 prints; a line describing each in our words is in ``settings_summaries.txt``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.lvm.format.text import Value

COLUMNS = ("path", "type", "since", "deprecated", "flags", "default", "unconfigured")
TABLE = Path(__file__).with_name("settings_table.txt")
SUMMARIES = Path(__file__).with_name("settings_summaries.txt")
OWN_SECTION = "lamella"
"""A section that LVM2 does not know and that is never reported as unknown."""

_VARIABLE = re.compile(r"<\w+>$")


@dataclass(slots=True, eq=False, repr=False)
class Setting:
    """A section or a setting of ``lvm.conf``."""

    path: str
    type: str
    """"section", "bool", "int", "string", "strings" (a list) or "mixed" (a list of numbers and strings)."""
    since: str
    """The first version of LVM2 that has it."""
    deprecated: str
    """The first version that no longer heeds it; "" for none."""
    flags: str
    """Letters: advanced, profilable by commands or in metadata ("c", "m"), default is built in ("d": a
    generated file has it as a comment), may be empty ("e"), no default ("n"), unsupported, and a name that
    the user chooses ("v")."""
    raw_default: str
    unconfigured: str
    """The default before LVM2 was configured for a machine; "" where it is the same."""

    @property
    def is_section(self) -> bool:
        return self.type == "section"

    @property
    def name(self) -> str:
        """The last part of the path; without brackets where the user chooses the name."""
        return self.path.rpartition("/")[2].strip("<>")

    @property
    def default_text(self) -> str:
        """The default as ``lvm.conf`` has it (octal where it is octal); "" for none."""
        return self.raw_default.replace("{etc}", str(config_folder()))

    @property
    def default(self) -> Value | None:
        """The default's value; sizes are in the unit of the setting's name or description."""
        text = self.default_text
        return _value(text) if text else None


def config_folder() -> Path:
    """LVM2's folder: ``$LVM_SYSTEM_DIR``, or ``/etc/lvm``."""
    return Path(os.environ.get("LVM_SYSTEM_DIR") or "/etc/lvm")


@cache
def _value(text: str) -> Value:
    if text.isdigit() and (text == "0" or text[0] != "0"):
        return int(text)
    from lamella.lvm.format.text import parse

    found = parse(f"x={text}")["x"]
    assert not isinstance(found, dict)
    return found


class KnownSettings:
    """The table, in the order in which LVM2 lists it."""

    def __init__(self, lines: str) -> None:
        self.by_path: dict[str, Setting] = {}
        for line in lines.splitlines():
            if line.startswith("#"):
                continue
            cells = line.split("\t")
            cells += [""] * (len(COLUMNS) - len(cells))
            path, kind, since, deprecated, flags, default, unconfigured = cells
            self.by_path[path] = Setting(
                path, kind, since, deprecated.strip("-"), flags.strip("-"), default, unconfigured
            )

    @cached_property
    def children(self) -> dict[str, list[Setting]]:
        """What each section holds; the sections at the top under ""."""
        found: dict[str, list[Setting]] = {"": []}
        for path, setting in self.by_path.items():
            found.setdefault(path.rpartition("/")[0], []).append(setting)
            if setting.is_section:
                found.setdefault(path, [])
        return found

    @cached_property
    def _variable(self) -> dict[str, Setting]:
        return {
            path.rpartition("/")[0]: setting
            for path, setting in self.by_path.items()
            if _VARIABLE.search(path)
        }

    def inside(self, section: str, name: str, *, is_section: bool) -> Setting | None:
        """What *name* in the section of this path of the table is; None where LVM2 knows nothing of it."""
        known = self.by_path.get(f"{section}/{name}" if section else name)
        if known is None and is_section:
            return self._variable.get(section)
        return known

    def is_free(self, section: str) -> bool:
        """Whether the section may hold anything: a cache policy's settings are the policy's own."""
        return "v" in self.by_path[section].flags and not self.children[section]


@cache
def known_settings() -> KnownSettings:
    """The table, read once."""
    return KnownSettings(TABLE.read_text("utf-8"))


@cache
def summaries() -> dict[str, str]:
    """A line about each section and setting, by path."""
    lines = SUMMARIES.read_text("utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if not line.startswith("#"))
