# SPDX-License-Identifier: Apache-2.0
"""What LVM2 says about settings that it does not know, and about values of a wrong type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.lvm.session.known_settings import OWN_SECTION, Setting, known_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.format.text import Scalar, Section, Value

TRUE = ("y", "yes", "on", "true")
FALSE = ("n", "no", "off", "false")
EXPECTED = {
    "bool": "boolean",
    "int": "integer",
    "string": "string",
    "strings": "array with values of type: string",
    "mixed": "array with values of type: integer string",
    "section": "section",
}
"""The types of the table in LVM2's words."""


def setting_faults(tree: Section, profile: str = "") -> list[str]:
    """LVM2's lines about the settings of *tree*, in its order.

    With *profile*, "command" or "metadata", also about settings that a profile of this kind cannot have.
    """
    return list(_faults(tree, "", (), profile))


def value_fault(setting: Setting, path: str, value: Value | Section) -> str:
    """LVM2's line about a *value* that the setting cannot have; "" for one that it can."""
    if isinstance(value, dict):
        return "" if setting.is_section else _wrong_type(path, "section", setting)
    many = setting.type in ("strings", "mixed")
    if isinstance(value, list) and not many and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and not many:
        return _wrong_type(path, "array", setting)
    items = value if isinstance(value, list) else [value]
    if not items and "e" not in setting.flags:
        return f'Configuration setting "{path}" invalid. Empty value not allowed.'
    return next((fault for item in items if (fault := _item_fault(setting, path, item))), "")


def _faults(tree: Section, section: str, names: tuple[str, ...], profile: str) -> Iterator[str]:
    known = known_settings()
    for name, value in tree.items():
        here = (*names, name)
        # As LVM2 has it: of longer paths only the first two parts.
        path = "/".join(here[:2])
        setting = known.inside(section, name, is_section=isinstance(value, dict))
        if setting is None:
            if not names and name == OWN_SECTION:
                continue
            if not names and not isinstance(value, dict):
                yield f'Configuration setting "{name}" invalid. It\'s not part of any section.'
            else:
                yield f'Configuration {"section" if isinstance(value, dict) else "setting"} "{path}" unknown.'
        elif not names and not isinstance(value, dict):
            yield f'Configuration setting "{name}" invalid. It\'s not part of any section.'
        elif fault := value_fault(setting, path, value):
            yield fault
        elif isinstance(value, dict):
            if not known.is_free(setting.path):
                yield from _faults(value, setting.path, here, profile)
            elif profile and (fault := _misplaced(setting, path, profile)):
                yield fault.replace(" option ", " section ", 1)
        elif profile and (fault := _misplaced(setting, path, profile)):
            yield fault


def _item_fault(setting: Setting, path: str, value: Scalar) -> str:
    kind = setting.type
    if isinstance(value, float):
        return _wrong_type(path, "float", setting)
    if isinstance(value, int):
        return _wrong_type(path, "integer", setting) if kind in ("string", "strings", "section") else ""
    if kind in ("int", "section"):
        return _wrong_type(path, "string", setting)
    if kind == "bool":
        if value.lower() in (*TRUE, *FALSE):
            return ""
        return (
            f'Configuration setting "{path}" invalid. Found string value "{value}", expected boolean value: '
            '0/1, "y/n", "yes/no", "on/off", "true/false".'
        )
    if not value and "e" not in setting.flags:
        return f'Configuration setting "{path}" invalid. It cannot be set to an empty value.'
    return ""


def _wrong_type(path: str, found: str, setting: Setting) -> str:
    return (
        f'WARNING: Configuration setting "{path}" has invalid type. Found {found} but expected '
        f"{EXPECTED[setting.type]}."
    )


def _misplaced(setting: Setting, path: str, profile: str) -> str:
    if profile[0] in setting.flags:
        return ""
    if other := {"c": "command", "m": "metadata"}.get("".join(set(setting.flags) & {"c", "m"})):
        return (
            f'Configuration option "{path}" is customizable by {other} profile only, not {profile} profile.'
        )
    return f'Configuration option "{path}" is not customizable by a profile.'
