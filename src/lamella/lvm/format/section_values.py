# SPDX-License-Identifier: Apache-2.0
"""Single values of a parsed section of LVM2's text, with LVM2's complaints about wrong ones.

All raise :class:`CorruptError`, with the message *problem* where one is given, for a value of the wrong type
and for one that is missing without a default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import CorruptError
from lamella.lvm.format.ids import is_uuid
from lamella.lvm.format.model import POLICIES, WRITE, WRITE_LOCKED

if TYPE_CHECKING:
    from lamella.lvm.format.text import Section


def section(body: Section, key: str) -> Section:
    """The section *key*; empty where there is none."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def uuid_value(body: Section, problem: str) -> str:
    """The identifier ``id``."""
    value = body.get("id")
    if not isinstance(value, str) or not is_uuid(value):
        raise CorruptError(problem)
    return value


def text_value(body: Section, key: str, default: str | None = "", problem: str = "") -> str:
    """A string."""
    value = body.get(key, default)
    if not isinstance(value, str):
        raise CorruptError(problem or f"'{key}' must be a string.")
    return value


def number_value(body: Section, key: str, default: int | None, problem: str = "") -> int:
    """A number that is not negative."""
    value = body.get(key, default)
    if not isinstance(value, int) or value < 0:
        raise CorruptError(problem or f"'{key}' must be a number.")
    return value


def optional_number(body: Section, key: str) -> int | None:
    """A number, or None where there is none."""
    value = body.get(key)
    return value if isinstance(value, int) else None


def strings_value(body: Section, key: str, problem: str | None = None) -> list[str]:
    """A list of strings, or one string by itself; without *problem* it may be missing."""
    value = body.get(key)
    if value is None and problem is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorruptError(problem or f"Found an item that is not a string in '{key}'.")
    return [str(item) for item in value]


def writable_words(status: list[str], flags: list[str]) -> tuple[list[str], list[str]]:
    """The two lists with WRITE for WRITE_LOCKED, which LVM2 takes for the same (lib/format_text/flags.c)."""
    if WRITE_LOCKED not in flags and WRITE_LOCKED not in status:
        return status, flags
    status = [word for word in status if word not in (WRITE, WRITE_LOCKED)] + [WRITE]
    return status, [word for word in flags if word != WRITE_LOCKED]


def policy_value(body: Section, default: str) -> str:
    """The allocation policy; "" for *default* and for words that LVM2 does not know."""
    value = body.get("allocation_policy")
    if isinstance(value, str) and value in POLICIES and value != default:
        return value
    return ""
