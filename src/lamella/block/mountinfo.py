# SPDX-License-Identifier: Apache-2.0
"""``/proc/PID/mountinfo`` as values: what is mounted where, in a process's mount namespace. See proc(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Mount:
    """One line. *root* is the folder of the file system that is mounted, "/" for the whole of it."""

    identity: int
    parent: int
    major: int
    minor: int
    root: str
    point: str
    options: str
    """Of the mount: "rw,relatime"."""
    filesystem: str
    source: str
    super_options: str
    """Of the file system: "rw,stripe=16"."""
    shared: bool
    """Mounts below it appear in other namespaces too."""

    @property
    def read_only(self) -> bool:
        return "ro" in self.options.split(",") or "ro" in self.super_options.split(",")


def mounts(process: int | str = "self") -> list[Mount]:
    """What the process sees mounted below its root. Raises ``OSError``."""
    with open(f"/proc/{process}/mountinfo", "rb") as file:
        return list(parse(file.read()))


def parse(text: bytes) -> Iterator[Mount]:
    """The mounts in a mountinfo; malformed lines are skipped."""
    for line in text.split(b"\n"):
        fields = line.split(b" ")
        try:
            dash = fields.index(b"-", 6)
            identity, parent = int(fields[0]), int(fields[1])
            major, _, minor = fields[2].partition(b":")
            filesystem, source, super_options = fields[dash + 1 : dash + 4]
            yield Mount(
                identity,
                parent,
                int(major),
                int(minor),
                plain(fields[3]),
                plain(fields[4]),
                plain(fields[5]),
                plain(filesystem),
                plain(source),
                plain(super_options),
                any(field.startswith(b"shared:") for field in fields[6:dash]),
            )
        except ValueError:
            continue


def plain(field: bytes) -> str:
    """A path as it is: the kernel writes spaces, tabs, line ends and backslashes in octal."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))
