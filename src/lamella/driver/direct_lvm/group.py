# SPDX-License-Identifier: Apache-2.0
"""Finding the volume group that holds a store's pool, and opening the pool's two volumes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from lamella.closing import on_error
from lamella.driver.backend import PoolDevices
from lamella.driver.stack_node import Node
from lamella.errors import BusyError, CorruptError, ExistsError, UnsupportedError
from lamella.lvm.disks.disk import open_file
from lamella.lvm.disks.kernel_active import refuse_active
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.names import dm_name
from lamella.lvm.session.config import Config
from lamella.lvm.session.devices_file import (
    NAME,
    devices_file,
    disks_of_machine,
    enter_disks,
    named_in_environment,
    read_devices_file,
)
from lamella.lvm.session.environment import Environment, uses_lvm_folders
from lamella.lvm.session.session import Session
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.driver.direct_lvm.record import Record
    from lamella.lvm.disks.disk import Opener
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.segments import ThinPoolSegment
    from lamella.lvm.session.system_devices import SystemDevices
    from lamella.thin.status import PoolStatus

COMMAND = "lamella setup direct-lvm"
COPIED_AT_ONCE = 4 << 20


def open_disk(path: str, read_only: bool) -> BlockDevice:
    """Files, block devices and NBD addresses. Readers take no lock; the store has its own."""
    return open_file(path, read_only)


@dataclass(frozen=True)
class VolumeDevices(PoolDevices):
    """The two volumes, and the disks below them, which are closed with them."""

    session: Session
    found: FoundGroup

    def close(self) -> None:
        self.session.close()


class Disks:
    """Where the store in *root* looks for physical volumes, and LVM2's settings that apply to it."""

    def __init__(self, root: Path, opener: Opener = open_disk) -> None:
        self.root = root
        self.opener = opener
        self.locked = False
        """Whether LVM2's locks are held already, so that sessions take none."""

    @cached_property
    def config(self) -> Config:
        return Config.load()

    @cached_property
    def environment(self) -> Environment:
        return Environment.configured(self.config, self.root, COMMAND)

    @property
    def list_path(self) -> Path:
        return self.root / NAME

    @property
    def profile_folder(self) -> Path:
        """Where LVM2 looks for profiles; without LVM2, where Lamella's own commands look."""
        if uses_lvm_folders():
            from pathlib import Path

            return Path(self.config.text("config/profile_dir"))
        return self.root / "lvm" / "profile"

    def listed(self, known: Iterable[str] = ()) -> list[str]:
        """The disks to look at first: *known* ones, the environment's, the state root's."""
        named = [*known, *named_in_environment(), *read_devices_file(self.list_path)]
        return list(dict.fromkeys(named))

    def of_machine(self) -> list[str]:
        """For root, every disk that LVM2 would look at."""
        return disks_of_machine(self.config, self.environment.sys_block) if os.geteuid() == 0 else []

    def session(self, paths: Iterable[str], warn: Callable[[Notice], None] | None = None) -> Session:
        """A session on those disks; close it."""
        made = Session(list(paths), self.environment, opener=self.opener, say=warn, locked=self.locked)
        if devices_file(self.config) is not None:
            made.device_id = self._device_ids()
        return made

    def _device_ids(self) -> Callable[[str], tuple[str, str]]:
        """What LVM2 records of physical volumes where a devices file is used, which is read once."""

        @cache
        def listed() -> SystemDevices | None:
            found = devices_file(self.config)
            if found is not None:
                found.find(self.environment.sys_block)
            return found

        def of_path(path: str) -> tuple[str, str]:
            found = listed()
            return found.device_id(path) if found is not None else ("", "")

        return of_path

    def enter(self, paths: Iterable[str], *, made: bool = True) -> None:
        """:func:`enter_disks`: LVM2 finds what it has a devices file for only through that."""
        enter_disks(self.config, self.environment, paths, COMMAND.split()[0], made=made)

    def find(self, group: str, known: Iterable[str] = ()) -> tuple[Session, FoundGroup]:
        """A session and the group in it; all the machine's disks are looked at only if need be.

        Raises :class:`NotFoundError`, or what opening a disk raised if the group may lie on it.
        """
        paths = self.listed(known)
        session = self.session(paths)
        with on_error(lambda: session.close()):
            complete = [each for each in session.scan.named(group) if not each.partial]
            more = [path for path in self.of_machine() if path not in paths] if not complete else []
            if more:
                session.close()
                session = self.session([*paths, *more])
            if not session.scan.named(group):
                known_paths = set(paths)
                for path, error in session.scan.unreadable:
                    if path in known_paths:
                        raise error
            return session, session.find(group)


def pool_of(found: FoundGroup, name: str) -> tuple[LogicalVolume, ThinPoolSegment]:
    """The thin pool called *name*. Raises :class:`NotFoundError` or :class:`UnsupportedError`."""
    group = found.group
    lv = group.find_lv(name)
    if lv.thin_pool is None:
        raise UnsupportedError(
            f"{group.name}/{name} is not a thin pool but of type {lv.kind}",
            hint=f"make it one: lvconvert --thinpool {group.name}/{name} --poolmetadata ...",
        )
    return lv, lv.thin_pool


def has_older_copies(found: FoundGroup) -> bool:
    """Whether some disks have an older text of the group, as an interrupted change leaves it, and all else is
    in order. LVM2 writes the newest one to them with its next change of the group."""
    older = [copy for copy in found.stale if copy.group and copy.group.seqno < found.group.seqno]
    odd = found.outdated or found.damaged or found.partial or len(older) < len(found.stale)
    return bool(older) and not odd


def check_unused_by_lvm(found: FoundGroup, lv: LogicalVolume, segment: ThinPoolSegment) -> None:
    """Raise :class:`UnsupportedError` where LVM itself has thin volumes in the pool, which has one owner."""
    own = [volume.name for volume in found.group.thin_volumes(lv)]
    if own or segment.transaction_id or segment.messages:
        what = f"thin volumes of LVM ({', '.join(own[:3])})" if own else "a transaction id of LVM's own"
        raise UnsupportedError(
            f"the pool {found.group.name}/{lv.name} has {what}: it has one owner, and that is LVM",
            hint="use another pool; in a pool for containers LVM keeps transaction id 0 and no volumes",
        )


def check_never_used(devices: PoolDevices, record: Record, *, again: bool) -> None:
    """Raise :class:`ExistsError`, in Docker's words, for an open pool that was used before.

    *again*: it is taken over once more, and may have the base device that this store has made in it.
    """
    from lamella.thin.engine.pool import Pool, PoolOptions

    if not any(devices.metadata.read(0, BLOCK_SIZE)):
        return  # as lvconvert leaves it
    options = PoolOptions(zero=False)
    with Pool.open(devices.metadata, devices.data, options=options, read_only=True) as pool:
        used, transaction, found = pool.status().used_data, pool.transaction_id, pool.devices()
        # Made in the pool's last transaction, whose id is a random number: it has had no other.
        made = all(device.transaction_id in (0, transaction) for device in found.values())
        if again and found.keys() <= {1} and made:
            return
    if used or transaction:
        name = dm_name(record.group, record.pool)
        why = "that already has used data blocks" if used else "with non-zero transaction ID"
        raise ExistsError(
            f"devmapper: Unable to take ownership of thin-pool ({name}) {why}",
            hint="somebody's data is in it. Use an empty pool; or, if nothing in it is needed, make it "
            f"anew: lvremove {record.group}/{record.pool}, then lvcreate and lvconvert",
        )


def open_pool(
    session: Session, found: FoundGroup, name: str, *, read_only: bool, shared: bool = False
) -> VolumeDevices:
    """Open data and metadata of the pool; the session is closed with them, also if this fails.

    Raises :class:`BusyError` where the kernel has anything of the group, unless *shared*: the pool is not
    active then; and LVM2's refusals.
    """
    with on_error(session.close):
        group = found.group
        session.check_access(found)
        if not shared:
            refuse_active(group.name, group.uuid, session.environment.sys_block)
        members = {pv.uuid for pv in group.pvs}
        for disk in session.scan.duplicates:
            if disk.label is not None and disk.label.uuid in members:
                raise BusyError(
                    f"{disk.path} is a copy of another disk of volume group {group.name}",
                    hint="remove the copy, or leave it out of the list of devices",
                )
        lv, segment = pool_of(found, name)
        check_unused_by_lvm(found, lv, segment)
        for part in (segment.metadata, segment.data):
            if part not in group.lvs:
                raise CorruptError(
                    f"the pool {group.name}/{name} lacks its volume {part}", hint=f"vgcfgrestore {group.name}"
                )
        metadata = open_lv(found, segment.metadata, read_only=read_only)
        data = open_lv(found, segment.data, read_only=read_only)
    return VolumeDevices(metadata, data, session, found)


def copy_data(source: BlockDevice, target: BlockDevice) -> None:
    """Write what *source* holds to *target*, which reads as zeros."""
    for offset, length in source.data_ranges():
        for start in range(offset, offset + length, COPIED_AT_ONCE):
            target.write(start, source.read(start, min(COPIED_AT_ONCE, offset + length - start)))


def copy_metadata(source: BlockDevice, target: BlockDevice) -> None:
    """Write the sound metadata on *source* over *target*, which reads as zeros, and check it there."""
    from lamella.thin.tools.check import check

    copy_data(source, target)
    target.flush()
    found = check(target)
    if not found.ok:
        raise CorruptError(
            f"{target.name} does not return what was written to it: {found.problems[0]}",
            hint="see dmesg for errors of the disk; the damaged metadata is still in its place",
        )


def missing_disks(found: FoundGroup, pool: str) -> tuple[list[str], bool]:
    """The group's disks that are not there, by where they last were; and whether *pool* lies on one."""
    if not found.missing:
        return [], False
    return [pv.device or pv.uuid for pv in found.missing], pool in found.partial_lvs()


def disks_and_volumes(found: FoundGroup, pool: str, status: PoolStatus) -> tuple[list[Node], list[Node]]:
    """The group's disks with the volumes on each, and of these the pool's data and metadata."""
    group = found.group
    _, segment = pool_of(found, pool)
    used = {
        segment.data: status.used_data * segment.chunk_size,
        segment.metadata: status.used_metadata * BLOCK_SIZE,
    }
    volumes = {
        name: Node("lv", f"{group.name}/{name}", group.size_of(lv), used.get(name))
        for name, lv in group.lvs.items()
        if any(area.pv is not None for part in lv.segments for area in part.areas())
    }
    disks = []
    for pv in group.pvs:
        runs = group.used_ranges(pv)
        taken = sum(count for _, count, _, _ in runs) * group.extent_size
        path = found.disks[pv.uuid].path if pv.uuid in found.disks else pv.device
        disk = Node("disk", path, pv.size, taken, f"physical volume of {group.name}")
        disk.children = [volumes[name] for name in dict.fromkeys(lv.name for _, _, lv, _ in runs)]
        disks.append(disk)
    return disks, [volumes[segment.data], volumes[segment.metadata]]


def sparse_remark(paths: Sequence[str]) -> list[str]:
    """A warning for each plain file whose file system cannot hold all that it may grow to."""
    warnings = []
    for path in paths:
        try:
            status, space = os.stat(path), os.statvfs(path)
        except OSError:
            continue  # a remote disk, or one that is not there: reported elsewhere
        missing = status.st_size - status.st_blocks * 512
        free = space.f_bfree * space.f_frsize
        if os.major(status.st_rdev) == os.minor(status.st_rdev) == 0 and missing > free:
            warnings.append(
                f"{path} is a sparse file that may take another {human_size(missing)}, and its file "
                f"system has {human_size(free)} left"
            )
    return warnings
