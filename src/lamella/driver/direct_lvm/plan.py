# SPDX-License-Identifier: Apache-2.0
"""What a direct-lvm set-up will make, in extents and as the LVM commands that it equals.

The commands are those of Docker's manual ("Configure direct-lvm mode manually"), in its order.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import UsageError
from lamella.lvm.format.names import dm_name
from lamella.lvm.operations.sizes import percent_of
from lamella.lvm.operations.volume_groups import DEFAULT_EXTENT
from lamella.lvm.session.profile import SUFFIX, profile_text
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.driver.options import Options

META_SUFFIX = "meta"
"""The metadata volume is called as the pool with this after it, until the pool is made of the two."""


@dataclass(frozen=True)
class Plan:
    """Sizes in extents of *extent_size* bytes."""

    group: str
    pool: str
    disks: tuple[str, ...]
    extents: int
    data: int
    metadata: int
    options: Options
    profile_path: Path

    @property
    def metadata_name(self) -> str:
        return self.pool + META_SUFFIX

    @property
    def profile(self) -> str:
        """The name of the profile that extends the pool."""
        return f"{self.group}-{self.pool}"

    @property
    def profile_text(self) -> str:
        return profile_text(self.options.autoextend_threshold, self.options.autoextend_percent)

    def commands(self) -> list[str]:
        """One command, or here-document, each."""
        options = self.options
        force = "-f -y " if options.force else ""
        disks = [shlex.quote(disk) for disk in self.disks]
        volume = f"{self.group}/{self.pool}"
        create = "lvcreate --wipesignatures y"
        folder = self.profile_path.parent
        return [
            *(f"pvcreate {force}{disk}" for disk in disks),
            f"vgcreate {self.group} {' '.join(disks)}",
            f"{create} -n {self.pool} {self.group} -l {options.data_percent}%VG",
            f"{create} -n {self.metadata_name} {self.group} -l {options.metadata_percent}%VG",
            f"lvconvert -y --zero {'y' if options.zero else 'n'} -c {options.chunk_size >> 10}K "
            f"--thinpool {volume} --poolmetadata {self.group}/{self.metadata_name}",
            *([] if folder.is_dir() else [f"mkdir -p {shlex.quote(str(folder))}"]),
            f"cat > {shlex.quote(str(self.profile_path))} <<'END'\n{self.profile_text}END",
            f"lvchange --metadataprofile {self.profile} {volume}",
        ]

    def sizes(self) -> str:
        """The sizes of what will be made, in one line."""
        data, metadata, rest = (
            human_size(count * DEFAULT_EXTENT)
            for count in (self.data, self.metadata, self.extents - self.data - 2 * self.metadata)
        )
        return (
            f"{dm_name(self.group, self.pool)}: {data} for data, {metadata} for metadata, "
            f"as much as a spare for repairs, and {rest} left for growing"
        )


def make_plan(options: Options, disks: Sequence[tuple[str, int]], profile_folder: Path) -> Plan:
    """The plan for *disks*, each a name and a number of extents.

    Raises :class:`UsageError` where the percentages leave no room for the metadata or its spare.
    """
    extents = sum(count for _, count in disks)
    data = percent_of(options.data_percent, extents)
    metadata = percent_of(options.metadata_percent, extents)
    if not data or not metadata:
        least = -(-100 // min(options.data_percent, options.metadata_percent))
        raise UsageError(
            f"cannot set up direct-lvm: of {extents} extents of 4 MiB, {options.data_percent} and "
            f"{options.metadata_percent} per cent make {data} for data and {metadata} for metadata",
            hint=f"give disks of {human_size((least + 1) * DEFAULT_EXTENT)} together, or other "
            "--data-percent and --metadata-percent",
        )
    if data + 2 * metadata > extents:
        raise UsageError(
            f"cannot set up direct-lvm: {data} extents of data and {metadata} of metadata leave no room for "
            f"a spare as large as the metadata among {extents}",
            hint="lower --data-percent or --metadata-percent; the defaults are 95 and 1",
        )
    path = profile_folder / f"{options.group}-{options.pool}{SUFFIX}"
    names = tuple(name for name, _ in disks)
    return Plan(options.group, options.pool, names, extents, data, metadata, options, path)
