# SPDX-License-Identifier: Apache-2.0
"""Which names LVM2 allows, and how device-mapper writes them. Authority: lib/misc/lvm-string.c."""

from __future__ import annotations

import re

MAX_NAME = 127
MAX_GROUP_PATH = 121
"""Longest name that vgrename gives a group."""
MAX_TAG = 1023
_NAME = re.compile(r"[a-zA-Z0-9_.+-]+")
_TAG = re.compile(r"[a-zA-Z0-9_.+\-/=!:&#]+")
RESERVED_PREFIXES = ("snapshot", "pvmove")
RESERVED_PARTS = (
    "_cdata",
    "_cmeta",
    "_corig",
    "_cpool",
    "_cvol",
    "_wcorig",
    "_mimage",
    "_mlog",
    "_rimage",
    "_rmeta",
    "_tdata",
    "_tmeta",
    "_vdata",
    "_vorigin",
    "_pmspare",
    "_imeta",
    "_iorig",
)


def name_problem(name: str, what: str = "name") -> str:
    """Why *name* cannot name a volume or a group, with LVM's message; "" if it can."""
    if not name:
        return f"New {what} is zero length" if what == "name" else f"{what} is zero length"
    if len(name) > MAX_NAME:
        return f'{what.capitalize()} "{name}" is too long (maximum {MAX_NAME} characters)'
    if name[0] == "-":
        return f'{what.capitalize()} "{name}" has an invalid hyphen at its start'
    if name in (".", ".."):
        return f'{what.capitalize()} "{name}" is reserved'
    if not _NAME.fullmatch(name):
        return f'{what.capitalize()} "{name}" has a character other than [a-zA-Z0-9+_.-]'
    return ""


def longest_volume_name(group: str) -> int:
    """How long the name of a volume in *group* may be, hidden ones included. Authority: vg_validate."""
    return MAX_NAME - len(group) - 3


def length_problem(group: str, name: str) -> str:
    """Why a volume of *group* cannot have a name as long as *name*, with LVM's message; "" if it can."""
    if len(name) <= longest_volume_name(group):
        return ""
    return f'LV name "{group}/{name}" length {len(group) + len(name) + 3} is not supported.'


def is_valid_name(name: str) -> bool:
    """Whether *name* may name a volume or a group."""
    return not name_problem(name)


def is_valid_tag(tag: str) -> bool:
    """Whether *tag* (without its "@") may be a tag. Unlike a name, it may begin with a hyphen."""
    return len(tag) <= MAX_TAG and _TAG.fullmatch(tag) is not None


def reserved_reason(name: str) -> str:
    """Why LVM keeps *name* for itself; "" if it does not."""
    for prefix in RESERVED_PREFIXES:
        if name.startswith(prefix):
            return f'Names starting "{prefix}" are reserved. Please choose a different LV name.'
    for part in RESERVED_PARTS:
        if part in name:
            return f'Names including "{part}" are reserved. Please choose a different LV name.'
    return ""


def dm_name(group: str, volume: str, layer: str = "") -> str:
    """The device-mapper name: hyphens doubled, ``VG-LV`` or ``VG-LV-layer``."""
    parts = [group.replace("-", "--"), volume.replace("-", "--")]
    if layer:
        parts.append(layer)
    return "-".join(parts)


def split_dm_name(name: str) -> tuple[str, str, str]:
    """(group, volume, layer) of a device-mapper name, as :func:`dm_name` writes it; "" for what it lacks."""
    parts = [part.replace("\0", "-") for part in name.replace("--", "\0").split("-", 2)]
    group, volume, layer = (*parts, "", "")[:3]
    return group, volume, layer
