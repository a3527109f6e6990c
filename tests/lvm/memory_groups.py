# SPDX-License-Identifier: Apache-2.0
"""Volume groups on disks in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import MemoryDevice
from lamella.lvm.format.group_writer import Header, write_compact
from lamella.lvm.operations.physical_volumes import PvOptions
from lamella.lvm.operations.volume_groups import GroupOptions, create_group
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

    Edit = tuple[Session, FoundGroup]

SIZE = 8 << 20
EXTENT = 128 << 10


def environment(folder: Path | None = None) -> Environment:
    """No locks, and backups only in *folder*; time stands still."""
    return Environment(
        command_line="test",
        host="host",
        pv_min_size=512 << 10,
        backup_dir=folder / "backup" if folder else None,
        archive_dir=folder / "archive" if folder else None,
        now=lambda: 1795341835,
    )


def memory_disks(count: int = 3, size: int = SIZE) -> dict[str, MemoryDevice]:
    return {f"disk{number}": MemoryDevice(size, name=f"disk{number}") for number in range(count)}


def session_on(disks: Mapping[str, BlockDevice], folder: Path | None = None) -> Session:
    return Session([], environment(folder), given=disks)


def group_on(
    disks: Mapping[str, BlockDevice], name: str = "vg", *, copies: int = 1, metadata_copies: int = 0
) -> None:
    """A group over all the disks."""
    with session_on(disks) as session, session.creating(name):
        create_group(
            session,
            name,
            list(disks),
            GroupOptions(extent_size=EXTENT, metadata_copies=metadata_copies),
            PvOptions(metadata_copies=copies),
        )


def text_of(group: VolumeGroup) -> str:
    """The group as text, with a header that is always the same."""
    return write_compact(group, Header("", "", "", 0))


def find_lv(found: FoundGroup, name: str) -> LogicalVolume:
    """The volume called *name*."""
    return found.group.find_lv(name)
