# SPDX-License-Identifier: Apache-2.0
"""LVM2's identifiers: 32 characters, shown in groups of 6-4-4-4-4-4-6. Authority: lib/uuid/uuid.c."""

from __future__ import annotations

LENGTH = 32
_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEGAL = frozenset(_CHARACTERS + "!#")
DM_PREFIX = "LVM-"
"""The start of the UUIDs of LVM's device-mapper devices."""
_GROUPS = (6, 4, 4, 4, 4, 4, 6)


def new_uuid() -> str:
    """A fresh random identifier, with dashes."""
    import secrets  # loads hashes and more: not for those who only read

    return with_dashes("".join(secrets.choice(_CHARACTERS) for _ in range(LENGTH)))


def with_dashes(plain: str) -> str:
    """``obvvV4lD...`` as LVM shows it: ``obvvV4-lDV9-...``."""
    parts, at = [], 0
    for width in _GROUPS:
        parts.append(plain[at : at + width])
        at += width
    return "-".join(parts)


def without_dashes(uuid: str) -> str:
    """The 32 characters as a label or a device-mapper name holds them."""
    return uuid.replace("-", "")


def is_uuid(text: str) -> bool:
    """Whether *text*, dashes left out, is a legal identifier ('!' and '#' are read but never made)."""
    plain = without_dashes(text)
    return len(plain) == LENGTH and _LEGAL.issuperset(plain)


def dm_uuid(group: str, volume: str = "", layer: str = "") -> str:
    """The device-mapper UUID of a volume's device, from the identifiers of group and volume.

    *layer* is "tdata", "pool" and the like, "" for the volume itself. Without *volume*, what the UUIDs of all
    devices of the group begin with. Authority: lib/activate/dev_manager.c.
    """
    found = DM_PREFIX + without_dashes(group) + without_dashes(volume)
    return f"{found}-{layer}" if layer else found


def split_dm_uuid(uuid: str) -> tuple[str, str, str]:
    """(group, volume, layer) of a UUID that :func:`dm_uuid` made; the identifiers are without dashes."""
    start = len(DM_PREFIX)
    volume = start + LENGTH
    return uuid[start:volume], uuid[volume : volume + LENGTH], uuid[volume + LENGTH :].removeprefix("-")
