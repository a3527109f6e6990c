# SPDX-License-Identifier: Apache-2.0
"""Warnings and remarks that LVM2 prints beside its results, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """One line. ``kind`` is a short word for programs; ``error`` lines go to stderr with LVM2 too."""

    kind: str
    message: str
    device: str = ""
    level: str = "warn"
    """"warn", "error", "print", or "verbose" for what LVM2 says only with ``-v``."""

    def __str__(self) -> str:
        return self.message


class Noting:
    """What keeps the notices about it."""

    __slots__ = ()
    notices: list[Notice]

    def note(self, kind: str, message: str, device: str = "", level: str = "warn") -> None:
        """Add a :class:`Notice`."""
        self.notices.append(Notice(kind, message, device, level))
