# SPDX-License-Identifier: Apache-2.0
"""Which processes hold a ``flock``, from the kernel's list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def held_locks() -> Iterator[tuple[int, str, int]]:
    """(process, "MAJOR:MINOR" in hexadecimal, inode) of each ``flock`` that is held.

    The process is 0 or -1 for one of another namespace. Raises :class:`OSError` where there is no list. Lines
    are such as "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" (proc_locks(5)).
    """
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK":
            device, _, inode = words[5].rpartition(":")
            yield int(words[4]), device, int(inode)
