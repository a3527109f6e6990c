# SPDX-License-Identifier: Apache-2.0
"""Trees of settings as ``lvmconfig`` shows them: configured ones, LVM2's defaults, or both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamella.lvm.session.known_settings import Setting, known_settings
from lamella.lvm.session.setting_checks import value_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.text import Section, Value

Tree = dict[str, Any]
"""As a :data:`Section`; a :class:`Setting` in place of a value stands for the setting's default."""

FREE = ("allocation/cache_settings", "metadata/disk_areas")
"""Sections that LVM2 leaves out where it compares settings with defaults, or joins both."""
VERSION = (2, 3, 16)
"""The LVM2 whose settings these are."""


def merge(base: Tree, above: Tree, *, tags: bool = False) -> Tree:
    """*above* merged into *base*, in the order that LVM2 arrives at: what is new comes after the first.

    The section ``tags`` of *above* is left out, as LVM2 does it, unless *tags* is given.
    """
    items = list(base.items())
    places = {name: at for at, (name, _value) in enumerate(items)}
    new: list[tuple[str, Any]] = []
    for name, value in above.items():
        if name == "tags" and not tags:
            continue
        if name not in places:
            new.append((name, value))
            continue
        at = places[name]
        old = items[at][1]
        both = isinstance(old, dict) and isinstance(value, dict)
        items[at] = (name, merge(old, value, tags=True) if both else value)
    if not items and new:
        items.append(new.pop(0))
    return dict([*items[:1], *reversed(new), *items[1:]])


def merge_all(layers: list[Section]) -> Tree:
    """Layers merged into one tree, the lowest first."""
    found: Tree = {}
    for layer in layers:
        found = merge(found, layer)
    return found


def without_free(current: Tree) -> Tree:
    """A copy without the sections in :data:`FREE` and those of tags."""

    def kept(name: str, key: str, inner: Any) -> bool:
        return f"{name}/{key}" not in FREE and (name != "tags" or not isinstance(inner, dict))

    return {
        name: {key: inner for key, inner in value.items() if kept(name, key, inner)}
        if isinstance(value, dict)
        else value
        for name, value in current.items()
    }


@dataclass(slots=True)
class Wanted:
    """Which settings of the table a tree of defaults has."""

    at_version: int
    """As :func:`packed`: settings of later versions, and what was deprecated before, are left out."""
    later: bool = False
    """Settings of this version and of later ones, instead of earlier ones."""
    deprecated: bool = False
    unsupported: bool = False
    advanced: bool = True
    local: bool = True
    variable: bool = True
    """Those below a name that the user chooses."""
    which: Callable[[Setting], bool] | None = None

    def has(self, setting: Setting) -> bool:
        """Whether this setting, or section with a name of the user's choice, is wanted."""
        since = packed(setting.since)
        return (
            (since >= self.at_version if self.later else since <= self.at_version)
            and (self.deprecated or not is_outdated(setting, self.at_version))
            and (self.unsupported or "u" not in setting.flags)
            and (self.advanced or "a" not in setting.flags)
            and (self.local or not setting.path.startswith("local/"))
            and (self.variable or "<" not in setting.path)
            and (self.which is None or self.which(setting))
        )


def is_outdated(setting: Setting, at_version: int) -> bool:
    """Whether a version of LVM2, as :func:`packed`, no longer heeds the setting."""
    return bool(setting.deprecated) and packed(setting.deprecated) <= at_version


def packed(version: str | tuple[int, int, int]) -> int:
    """A version as LVM2 compares it: numbers of 3, 4 and 9 bits, and larger ones run into each other."""
    parts = tuple(int(part) for part in version.split(".")) if isinstance(version, str) else version
    major, minor, patch = parts
    return (major << 13 | minor << 9 | patch) & 0xFFFF


def wanted_settings(wanted: Wanted) -> list[Setting]:
    """The settings that are wanted, in the table's order."""
    return [each for each in known_settings().by_path.values() if not each.is_section and wanted.has(each)]


def default_tree(wanted: Wanted, present: Tree | None = None) -> Tree:
    """The defaults that are wanted, but for settings that *present* has.

    A section is there for what it holds; ``cache_settings`` for the policies, which have no settings that
    LVM2 knows.
    """
    known = known_settings()
    tree: Tree = {}
    for setting in known.by_path.values():
        is_policy = setting.is_section and known.is_free(setting.path)
        if (setting.is_section and not is_policy) or not wanted.has(setting):
            continue
        if present is not None and look_up(present, setting.path) is not None:
            continue
        at = tree
        for part in setting.path.split("/")[:-1]:
            at = at.setdefault(part.strip("<>"), {})
        if not is_policy:
            at[setting.name] = setting
    return tree


def changed_tree(current: Tree, wanted: Wanted, section: str = "") -> Tree:
    """The settings of *current* that differ from LVM2's defaults, and are wanted."""
    known = known_settings()
    found: Tree = {}
    for name, value in current.items():
        setting = known.inside(section, name, is_section=isinstance(value, dict))
        if setting is None or setting.path in FREE or value_fault(setting, setting.path, value):
            continue
        if isinstance(value, dict):
            if inner := changed_tree(value, wanted, setting.path):
                found[name] = inner
        elif section and wanted.has(setting) and not _is_default(setting, value):
            found[name] = value
    return found


def _is_default(setting: Setting, value: Value) -> bool:
    default = setting.default
    if default is None:
        return False
    return _as_list(default) == _as_list(value)


def _as_list(value: Value) -> list[Any]:
    return value if isinstance(value, list) else [value]


def look_up(tree: Tree, path: str) -> Any:
    """What is at ``section/name`` in *tree*; None for nothing. Slashes may be doubled, but not at the end."""
    parts = [part for part in path.split("/") if part]
    if not parts or path.endswith("/"):
        return None
    at: Any = tree
    for part in parts:
        at = at.get(part) if isinstance(at, dict) else None
        if at is None:
            return None
    return at
