# SPDX-License-Identifier: Apache-2.0
"""direct-lvm: a pool on logical volumes, made here from bare disks, or an existing one that is taken over.

What is made is what Docker's manual makes by hand, and what its ``dm.directlvm_device`` makes; an existing
pool is taken over by Docker's rules (moby v24.0.9, ``deviceset.go``, ``checkThinPool``).
"""

from __future__ import annotations

import contextlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.block.atomic_file import unfinished
from lamella.driver.backend import PoolBackend, PoolDevices
from lamella.driver.direct_lvm.activation import PoolActivation
from lamella.driver.direct_lvm.group import (
    Disks,
    VolumeDevices,
    check_never_used,
    check_unused_by_lvm,
    copy_metadata,
    disks_and_volumes,
    has_older_copies,
    missing_disks,
    open_disk,
    open_pool,
    pool_of,
    sparse_remark,
)
from lamella.driver.direct_lvm.option_checks import (
    check_chunk_size,
    check_same_set_up,
    check_unchanged,
    named_pool,
)
from lamella.driver.direct_lvm.record import NAME, Record
from lamella.driver.options import DIRECT
from lamella.errors import BusyError, CorruptError, ExistsError, LamellaError, NotFoundError, UsageError
from lamella.lvm.disks.kernel_active import active_in, refuse_active
from lamella.lvm.format.names import dm_name
from lamella.thin.format.checksum import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.backend import DeviceTree
    from lamella.driver.direct_lvm.plan import Plan
    from lamella.driver.direct_lvm.preflight import DiskReport
    from lamella.driver.options import Options
    from lamella.driver.stack_node import Node
    from lamella.lvm.disks.disk import Opener
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.thin.status import PoolStatus

MAPPER = "/dev/mapper/"


class DirectLvm(PoolBackend):
    """The pool of the store in *root*. *opener* opens disks; tests record through it."""

    mode = DIRECT

    def __init__(self, root: Path, *, opener: Opener = open_disk) -> None:
        self.root = root
        self.disks = Disks(root, opener)
        self.record_path = root / NAME
        self._notes: list[str] = []
        self.activation = PoolActivation(self.disks, self._notes.append)
        self._found: tuple[str, str, list[str]] | None = None
        self._opened: VolumeDevices | None = None

    # -- before making ---------------------------------------------------------------------------

    def preflight(self, options: Options) -> list[str]:
        if options.thin_pool_device:
            from lamella.driver.direct_lvm.preflight import absolute

            group, pool = named_pool(options.thin_pool_device)
            session, found = self.disks.find(group, map(absolute, options.devices))
            with session:
                session.check_access(found)
                if self.engine != "kernel":
                    refuse_active(group, found.group.uuid, session.environment.sys_block)
                check_unused_by_lvm(found, *pool_of(found, pool))
                check_chunk_size(found, pool, options)
            return [f"{group}/{pool}: a thin pool on {', '.join(pv.device for pv in found.group.pvs)}"]
        reports, plan = self._examine(options)
        return [*(report.line() for report in reports), plan.sizes()]

    def plan(self, options: Options) -> list[str]:
        if options.thin_pool_device:
            return []
        return self._examine(options)[1].commands()

    def _examine(self, options: Options) -> tuple[list[DiskReport], Plan]:
        from lamella.driver.direct_lvm.plan import make_plan
        from lamella.driver.direct_lvm.preflight import (
            absolute,
            check,
            check_free_to_write,
            extents_on,
            look_at_all,
        )

        record = self._record()
        paths = [absolute(path) for path in options.devices]
        reports = look_at_all(paths, self.disks.opener)
        if record is not None:
            check_same_set_up(record, options, paths)
        own = list(record.disks.values()) if record is not None else []
        check(reports, force=options.force, own=own)
        for report in reports:
            check_free_to_write(report.path, self.disks.opener)
        sized = [(report.path, extents_on(report)) for report in reports]
        for path, extents in sized:
            if not extents:
                raise UsageError(f"{path} is too small: it has no room for an extent of 4 MiB", hint="8 MiB")
        plan = make_plan(options, sized, self.disks.profile_folder)
        with self.disks.session([*self.disks.listed(paths)]) as session:
            taken = [each.group for each in session.scan.named(plan.group)]
            for group in taken:
                if not {pv.uuid for pv in group.pvs} & set(own):
                    raise ExistsError(
                        f"there is a volume group {group.name} already, on "
                        f"{', '.join(pv.device for pv in group.pvs)}",
                        hint="choose another name: --vg NAME",
                    )
        return reports, plan

    def check_unchanged(self, before: Options, new: Options) -> None:
        check_unchanged(self._existing(), before, new)

    # -- making ----------------------------------------------------------------------------------

    def create(self, options: Options) -> None:
        with self.exclusive(options):
            if options.thin_pool_device:
                record = self._take_over(options)
            else:
                record = self._make(options)
            self._blank(record)
            record.ready = True
            record.save(self.record_path)

    def make_pool(self, options: Options) -> str:
        """Make group and pool as :meth:`create` does, for other programs; gives its device-mapper name.

        The metadata is as ``lvconvert`` leaves it: the kernel formats it on the first activation.
        """
        with self.exclusive(options):
            record = self._make(options)
            self._blank(record)
            self.record_path.unlink()
        return dm_name(record.group, record.pool)

    @contextlib.contextmanager
    def exclusive(self, options: Options | None = None) -> Iterator[None]:
        """Hold LVM2's locks, so that its commands wait, also those that udev runs for a new disk.

        Without them, LVM2's event-based activation would activate a group between two steps of a set-up.
        """
        from lamella.lvm.session.locks import global_lock, group_lock

        record, folder = self._record(), self.disks.environment.lock_dir
        group = record.group if record is not None else ""
        if options is not None:
            name = options.thin_pool_device
            group = named_pool(name)[0] if name else options.group
        if self.disks.locked or not group:
            yield
            return
        with global_lock(folder, write=True), group_lock(folder, group, write=True):
            self.disks.locked = True
            try:
                yield
            finally:
                self.disks.locked = False

    def _blank(self, record: Record) -> None:
        """Zero the superblock of an empty pool, or of our own of an interrupted set-up."""
        with self._open(record, read_only=False) as devices:
            if any(devices.metadata.read(0, BLOCK_SIZE)):
                devices.metadata.write_zeros(0, BLOCK_SIZE)
                devices.metadata.flush()

    def _make(self, options: Options) -> Record:
        from lamella.driver.direct_lvm.setup import Builder
        from lamella.lvm.format.ids import new_uuid
        from lamella.lvm.session.devices_file import change_list

        _, plan = self._examine(options)
        kept = record = self._record() or Record(
            plan.group, plan.pool, True, {path: new_uuid() for path in plan.disks}
        )

        def keep() -> None:
            kept.save(self.record_path)

        keep()
        change_list(self.disks.list_path, record.disks)
        with self.disks.session(self.disks.listed(record.disks), self._note) as session:
            Builder(session, plan, record, keep).run()
        self.disks.enter(record.disks)
        keep()
        self._check_never_used(record, again=True)
        return record

    def _take_over(self, options: Options) -> Record:
        from lamella.lvm.session.devices_file import change_list

        group, pool = named_pool(options.thin_pool_device)
        session, found = self.disks.find(group)
        with session:
            lv, _ = pool_of(found, pool)
            check_chunk_size(found, pool, options)
            disks = {disk.path: uuid for uuid, disk in found.disks.items()}
            if self.engine == "kernel":
                self.activation.deactivate_found(found, pool)
        record = self._record()
        again = record is not None and not record.made and record.pool_uuid == lv.uuid
        fresh = Record(group, pool, False, disks, found.group.uuid, lv.uuid)
        self._check_never_used(fresh, again=again)
        fresh.save(self.record_path)
        change_list(self.disks.list_path, disks)
        return fresh

    def release_unfinished(self) -> None:
        with self.exclusive():
            record = self._record()
            if record is not None and record.made and not record.ready:
                self.activation.deactivate_made(record)
        if record is not None and record.made:
            self._release_files(record)

    def _release_files(self, record: Record) -> None:
        """Detach the loop devices that an interrupted set-up has left over its files, where nothing uses
        them.
        """
        from lamella.block import loop
        from lamella.lvm.activation.pv_numbers import wait_for_loop_devices
        from lamella.lvm.disks.disk import is_claimed

        if not loop.available():
            return
        files = [path for path in record.disks if os.path.isfile(path)]
        for each in (each for path in files for each in loop.find(path)):
            if not (each.offset or each.size_limit or each.deleted or is_claimed(each.path)):
                loop.detach(each)
        wait_for_loop_devices(files)

    def _check_never_used(self, record: Record, *, again: bool) -> None:
        with self._open(record, read_only=True) as devices:
            check_never_used(devices, record, again=again)

    def _note(self, notice: Notice) -> None:
        if notice.level not in ("print", "verbose"):
            self._notes.append(notice.message)

    # -- opening ---------------------------------------------------------------------------------

    def exists(self) -> bool:
        record = self._record()
        return record is not None and record.ready

    def begun(self) -> bool:
        return self._record() is not None

    def restart(self) -> None:
        record = self._record()
        if record is not None and record.ready:
            record.ready = False
            record.save(self.record_path)

    def chunk_size(self, options: Options) -> int:
        record = self._existing()
        session, found = self.disks.find(record.group, record.disks)
        with session:
            return pool_of(found, record.pool)[1].chunk_size

    def open(self, *, read_only: bool = False) -> PoolDevices:
        record = self._existing()
        if record.group_uuid and (names := active_in(record.group_uuid, self.disks.environment.sys_block)):
            raise BusyError(
                f"the pool's volume group {record.group} is active in the kernel ({', '.join(names[:3])})",
                hint="as root use --engine kernel, or deactivate the pool: lamella deactivate",
            )
        return self._open(record, read_only=read_only, shared=read_only and self.beside_writer)

    def transaction_id(self) -> int | None:
        from lamella.devicemapper.client import DeviceMapper
        from lamella.thin.kernel.active_pool import ActivePool

        record = self._record()
        if record is None:
            return None
        if active_in(record.group_uuid, self.disks.environment.sys_block):
            # What is on the disks is not read: pages of them may be older than what device-mapper wrote.
            with suppress(LamellaError), DeviceMapper() as dm:
                name = self.active(dm)
                return ActivePool(dm, name).transaction_id if name is not None else None
            return None
        return super().transaction_id()

    # -- the kernel's engine ---------------------------------------------------------------------

    def open_inactive(self) -> PoolDevices:
        record = self._existing()
        parts = record.group_uuid and active_in(record.group_uuid, self.disks.environment.sys_block)
        return self._open(record, read_only=True, shared=bool(parts))

    def unfit_for_kernel(self, options: Options | None = None) -> str:
        from lamella.block.opening import is_remote

        record = self._record()
        disks = [*(record.disks if record else ()), *(options.devices if options else ())]
        remote = [path for path in disks if is_remote(path)]
        return f"{remote[0]} is an NBD address, not a block device of this machine" if remote else ""

    def active(self, dm: DeviceMapper) -> str | None:
        record = self._record()
        if record is None:
            return None
        return self.activation.active(dm, record)

    def activate(self, dm: DeviceMapper) -> str:
        return self.activation.activate(dm, self._existing())

    def emulate(self, tree: DeviceTree, devices: PoolDevices, chunk_size: int) -> None:
        from lamella.lvm.activation.activator import threshold
        from lamella.lvm.activation.device_tree import Settings, resolved, wanted_devices

        record = self._existing()
        with self._group_below(devices, record) as found:
            disks = {
                pv.uuid: tree.attach(found.disks[pv.uuid].path)
                for pv in found.group.pvs
                if pv.uuid in found.disks
            }
            numbers: dict[str, str] = {}
            for device in wanted_devices(found.group, [record.pool], disks, Settings(threshold)):
                table = resolved(device.table, numbers)
                numbers[device.uuid] = tree.add(device.name, device.uuid, table, read_only=device.read_only)

    def deactivate(self, dm: DeviceMapper) -> None:
        record = self._record()
        if record is not None:
            self.activation.deactivate(dm, record)

    def _open(self, record: Record, *, read_only: bool, shared: bool = False) -> VolumeDevices:
        disks = self.activation.shared_disks() if shared else self.disks
        session, found = disks.find(record.group, record.disks)
        if found.stale and not read_only:
            session.close()
            self._renew_older_copies(record)
            session, found = disks.find(record.group, record.disks)
        group = found.group
        devices = open_pool(session, found, record.pool, read_only=read_only, shared=shared)
        self._found = (group.uuid, group.lvs[record.pool].uuid, [disk.path for disk in found.disks.values()])
        self._opened = devices
        return devices

    def _renew_older_copies(self, record: Record) -> None:
        """Write the group's text over older copies of it, as an interrupted change leaves them.

        LVM2 does so with the next change of the group. Where there is anything else that is odd, it is left
        to the administrator.
        """
        from lamella.lvm.operations.group_restore import update_metadata

        session, _ = self.disks.find(record.group, record.disks)
        with contextlib.suppress(LamellaError), session, session.editing(record.group) as found:
            if has_older_copies(found):
                update_metadata(session, found)

    def replace_metadata(self, repaired: Path) -> str:
        from lamella.lvm.operations.pool_repair import repair_pool

        record = self._existing()

        def copy(_: BlockDevice, target: BlockDevice) -> None:
            with FileDevice(repaired, read_only=True) as source:
                copy_metadata(source, target)

        session, _ = self.disks.find(record.group, record.disks)
        with session, session.editing(record.group) as found:
            old = repair_pool(session, found, pool_of(found, record.pool)[0], copy)
        return f"{record.group}/{old.name}"

    def extend(
        self, *, data: str, metadata: str, disks: Sequence[str], force: bool
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        from lamella.devicemapper.client import DeviceMapper
        from lamella.driver.direct_lvm.grow import GroupGrowth
        from lamella.driver.direct_lvm.preflight import absolute

        record, paths = self._existing(), [absolute(disk) for disk in disks]
        if not active_in(record.group_uuid, self.disks.environment.sys_block):
            growth = GroupGrowth(self.disks, record, None)
            return growth.run(data=data, metadata=metadata, paths=paths, force=force)
        with DeviceMapper() as dm:
            growth = GroupGrowth(self.activation.shared_disks(), record, self.activation.activator(dm))
            return growth.run(data=data, metadata=metadata, paths=paths, force=force)

    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        return []  # by LVM's commands; the driver resizes the pool to the volumes whenever it opens them

    def _record(self) -> Record | None:
        return Record.load(self.record_path)

    def _existing(self) -> Record:
        record = self._record()
        if record is None:
            raise NotFoundError(
                f"cannot open the pool: {self.record_path} is missing",
                hint="restore it from a backup; it names the volume group and the disks of the store",
            )
        return record

    # -- reports ---------------------------------------------------------------------------------

    def missing_disks(self, devices: PoolDevices) -> tuple[list[str], bool]:
        record = self._existing()
        try:
            with self._group_below(devices, record) as found:
                return missing_disks(found, record.pool)
        except LamellaError:  # the kernel has the pool, and nothing below it can be read any more
            return list(record.disks), True

    def group_free(self, devices: PoolDevices) -> int | None:
        with contextlib.suppress(LamellaError), self._group_below(devices, self._existing()) as found:
            return found.group.free_extents() * found.group.extent_size
        return None  # a disk is missing, and nobody can tell

    def structure(self, devices: PoolDevices, status: PoolStatus) -> tuple[list[Node], list[Node]]:
        record = self._existing()
        with self._group_below(devices, record) as found:
            return disks_and_volumes(found, record.pool, status)

    @contextlib.contextmanager
    def _group_below(self, devices: PoolDevices, record: Record) -> Iterator[FoundGroup]:
        """The group that the open pool is in, whichever engine has it open."""
        if devices is self._opened:
            yield self._opened.found
            return
        session, found = self.activation.find(record)
        with session:
            yield found

    def names(self) -> dict[str, str]:
        return {}

    def pool_name(self, root: Path) -> str:
        record = self._existing()
        return dm_name(record.group, record.pool)

    def how_to_grow(self, what: str) -> str:
        record = self._existing()
        volume = f"{record.group}/{record.pool}"
        option = "-L" if what == "data" else "--poolmetadatasize"
        return f"lamella vgextend {record.group} DISK, and lamella lvextend {option} +SIZE {volume}"

    def warnings(self) -> list[str]:
        paths = self._found[2] if self._found is not None else []
        return [*self._notes, *sparse_remark(paths)]

    def differences(self) -> str:
        record = self._record()
        if record is None or self._found is None or not record.group_uuid:
            return ""
        for what, there, known in (
            (f"volume group {record.group}", self._found[0], record.group_uuid),
            (f"pool {record.group}/{record.pool}", self._found[1], record.pool_uuid),
        ):
            if there != known:
                return f"the {what} was recreated: its UUID is {there}, and the store's was {known}. "
        return ""

    def problems(self) -> list[str]:
        record = self._record()
        if record is None:
            return []
        session, found = self.disks.find(record.group, record.disks)
        with session:
            notices = [*session.scan.notices, *found.notices]
            if has_older_copies(found):
                notices = [notice for notice in notices if notice.kind != "stale"]
            return [notice.message for notice in notices]

    def interrupted(self) -> str:
        record = self._record()
        if record is None:
            return ""
        session, found = self.disks.find(record.group, record.disks)
        with session:
            disks = sorted({copy.disk.path for copy in found.stale})
            if not has_older_copies(found):
                return ""
        return (
            f"a change of volume group {record.group}, whose earlier state is still on {', '.join(disks)}; "
            "the next command that changes the store writes the present one there"
        )

    # -- removing --------------------------------------------------------------------------------

    def remove(self) -> list[str]:
        record = self._record()
        if record is None:
            return []
        with self.exclusive():
            return self._remove(record)

    def _remove(self, record: Record) -> list[str]:
        from lamella.driver.direct_lvm.setup import remove_archives, unmake
        from lamella.lvm.session.devices_file import change_list

        listed = self.disks.listed(record.disks)
        left: list[str] = []
        if record.made:
            if not record.ready or self.engine == "kernel":
                self.activation.deactivate_made(record)
            more = [path for path in self.disks.of_machine() if path not in listed]
            with self.disks.session([*listed, *more]) as session:
                left = unmake(session, record)
            self.disks.enter(record.disks, made=False)
            remove_archives(record, self.disks.environment, self.root)
        else:
            self._empty_again(record)
        change_list(self.disks.list_path, [], list(record.disks))
        self.record_path.unlink(missing_ok=True)
        unfinished(self.record_path).unlink(missing_ok=True)
        # An interrupted command leaves its lock files; the group that they were for is gone.
        for lock in (f"V_{record.group}", "P_global"):
            (self.root / "run/lvm" / lock).unlink(missing_ok=True)
        for folder in ("lvm/profile", "lvm/backup", "lvm/archive", "lvm", "run/lvm"):
            with contextlib.suppress(OSError):  # it has other files, or is not there
                (self.root / folder).rmdir()
        return left

    def _empty_again(self, record: Record) -> None:
        """Empty the pool that was taken over, as it was then; another pool of its name is not touched."""
        try:
            devices = self._open(record, read_only=False)
        except (NotFoundError, CorruptError):
            return
        with devices:
            if self._found is not None and self._found[:2] == (record.group_uuid, record.pool_uuid):
                devices.metadata.write_zeros(0, BLOCK_SIZE)
                devices.metadata.flush()
