# SPDX-License-Identifier: Apache-2.0
"""LVM2's identifiers: 32 characters, shown in groups of 6-4-4-4-4-4-6. Authority: lib/uuid/uuid.c."""

from __future__ import annotations

LENGTH = 32
_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEGAL = frozenset(_CHARACTERS + "!#")
_GROUPS = (6, 4, 4, 4, 4, 4, 6)


def new_uuid() -> str:
    """A fresh random identifier, with dashes."""
    import secrets  # loads hashes and more: not for those who only read

    return with_dashes("".join(secrets.choice(_CHARACTERS) for _ in range(LENGTH)))


def with_dashes(plain: str) -> str:
    """``obvvV4lD...`` as people see it: ``obvvV4-lDV9-...``."""
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
