# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, as proc(5) shows them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """What a process belongs to."""

    parent: int
    group: int


def running(number: int) -> Process | None:
    """A process that has not ended. One that nobody has waited for yet has."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Process(int(fields[1]), int(fields[2]))


def in_group(group: int) -> list[int]:
    """The numbers of a process group's processes that have not ended."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if (found := running(number)) and found.group == group]
