# SPDX-License-Identifier: Apache-2.0
"""Trees of settings as text, as ``lvmconfig`` prints them, with comments about each setting."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lamella.lvm.format.text import Bare, write_value
from lamella.lvm.session.known_settings import Setting, known_settings, summaries
from lamella.lvm.session.setting_trees import VERSION, Tree, is_outdated, look_up, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.format.text import Value

REMARKS = {
    "a": "is advanced",
    "u": "is not officially supported",
    "v": "has variable name",
    "d": "has an automatic default value",
    "n": "does not have a default value defined",
}


@dataclass(slots=True)
class Style:
    """How settings are printed."""

    comments: bool = False
    versions: bool = False
    spaces: bool = False
    """Around "=" and inside brackets, of defaults only."""
    unconfigured: bool = False
    commented: bool = False
    """Whether defaults that are built into LVM2 are printed as comments."""
    at_version: int = packed(VERSION)
    """Settings that were deprecated by then are called so."""
    current: Tree = field(default_factory=dict)
    """Where not empty: comments say which values come from this tree."""


def tree_lines(tree: Tree, style: Style) -> list[str]:
    """The whole tree."""
    return list(_lines(tree, "", 0, style))


def node_lines(tree: Tree, path: str, style: Style) -> list[str] | None:
    """One section or setting at *path* of the tree; None where the tree has none."""
    found = look_up(tree, path)
    if found is None:
        return None
    parts = [part for part in path.split("/") if part]
    section: str | None = ""
    for part in parts[:-1]:
        setting = known_settings().inside(section, part, is_section=True) if section is not None else None
        section = setting.path if setting is not None else None
    return list(_node(parts[-1], found, section, 0, style))


def _lines(tree: Tree, section: str | None, depth: int, style: Style) -> Iterator[str]:
    for name, value in tree.items():
        yield from _node(name, value, section, depth, style)


def _node(name: str, value: Any, section: str | None, depth: int, style: Style) -> Iterator[str]:
    """The lines of a node in the table's *section*; None: in one that LVM2 does not know."""
    setting: Setting | None = None
    is_section = isinstance(value, dict)
    if isinstance(value, Setting):
        setting = value
    elif section is not None and (section or is_section):
        setting = known_settings().inside(section, name, is_section=is_section)
        free = not section or known_settings().is_free(section)
        if setting is None and not is_section and not free:
            return  # LVM2 leaves out settings that it does not know
    tabs = "\t" * depth
    if setting is not None:
        yield from (line and tabs + line for line in _remarks(setting, style))
    mark = "# " if style.commented and setting is not None and "d" in setting.flags else ""
    if not is_section:
        text = _assignment(name, value, style)
        if text:
            yield f"{tabs}{mark}{text}"
        return
    # As LVM2 prints it, a section that it does not know has no first and last line.
    framed = setting is not None or section is None
    if framed:
        yield f"{tabs}{mark}{name} {{"
    inner = setting.path if setting is not None and setting.is_section else None
    yield from _lines(value, inner, depth + 1, style)
    if framed:
        yield f"{tabs}{mark}}}"


def _assignment(name: str, value: Any, style: Style) -> str:
    if not isinstance(value, Setting):
        return f"{name}={_configured(value)}"
    text = (style.unconfigured and value.unconfigured) or value.default_text
    if not text:
        return ""
    if not style.spaces:
        return f"{name}={text}"
    if text.startswith("["):
        text = " ".join(("[", *([", ".join(re.findall(r'"[^"]*"', text))] if text != "[]" else []), "]"))
    return f"{name} = {text}"


def _configured(value: Value) -> str:
    """A value as LVM2 prints it: no brackets around a single one, and words in quotes."""
    if isinstance(value, list):
        items = [str(item) if isinstance(item, Bare) else item for item in value]
        return write_value(items[0] if len(items) == 1 else items, separator=",")
    return write_value(str(value) if isinstance(value, Bare) else value)


def _remarks(setting: Setting, style: Style) -> Iterator[str]:
    kind = "section" if setting.is_section else "option"
    if style.comments:
        yield ""
        yield f"# Configuration {kind} {setting.path}."
        yield f"# {summaries()[setting.path]}"
        if is_outdated(setting, style.at_version):
            yield f"# This configuration {kind} is deprecated."
        for flag, remark in REMARKS.items():
            if flag in setting.flags:
                yield f"# This configuration {kind} {remark}."
        if style.current and look_up(style.current, setting.path) is not None:
            yield "# Value defined in existing configuration has been used for this setting."
    if style.versions:
        yield f"# Available since version {setting.since}."
        if is_outdated(setting, style.at_version):
            yield f"# Deprecated since version {setting.deprecated}."
