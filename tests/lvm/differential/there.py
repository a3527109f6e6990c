# SPDX-License-Identifier: Apache-2.0
"""What is on the disks: names that a command line may use, and every byte of metadata that counts."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.lvm.disks.scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

UUID = re.compile(r"\b[0-9A-Za-z]{6}(?:-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}\b")


@dataclass
class There:
    """Names on the disks. *text* has each disk's label, areas and metadata, in the order of the disks."""

    groups: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    """``vg/lv``, hidden ones included."""
    used: list[str] = field(default_factory=list)
    """Disks in a group."""
    orphans: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    uuids: list[str] = field(default_factory=list)
    text: str = ""


def look(devices: Sequence[str]) -> There:
    """Read the disks."""
    there = There()
    lines = []
    with closing(scan(devices)) as found:
        for disk in found.disks:
            lines.append(f"== {disk.path}")
            label = disk.label
            if label is None:
                there.empty.append(disk.path)
                continue
            owner = found.group_of(disk)
            (there.orphans if owner is None else there.used).append(disk.path)
            shown = {name: getattr(label, name) for name in label.__dataclass_fields__}
            lines += [f"label {name}: {value}" for name, value in sorted(shown.items()) if name != "crc"]
            for copy in disk.copies:
                lines.append(f"area {copy.start} {copy.size} {copy.ignored} {copy.problem}")
                lines += copy.text.decode("utf-8", "replace").rstrip("\0").splitlines()
        for one in found.groups:
            group = one.group
            there.groups.append(group.name)
            there.volumes += [f"{group.name}/{lv.name}" for lv in group.lvs.values()]
            for tags in (group.tags, *(pv.tags for pv in group.pvs), *(lv.tags for lv in group.lvs.values())):
                there.tags += tags
    there.text = "\n".join(lines)
    there.uuids = sorted(set(UUID.findall(there.text)))
    return there
