# SPDX-License-Identifier: Apache-2.0
"""direct-lvm: a pool on logical volumes, made here from bare disks or taken over from whoever made it.

What is made is what Docker's manual makes by hand, and what its ``dm.directlvm_device`` makes; a pool
made by hand is taken over by Docker's rules (moby v24.0.9, ``deviceset.go``, ``checkThinPool``).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.block.atomic_file import unfinished
from lamella.driver.backend import PoolBackend, PoolDevices
from lamella.driver.direct_lvm.group import (
    Disks,
    VolumeDevices,
    check_unused_by_lvm,
    copy_metadata,
    disks_and_volumes,
    open_disk,
    open_pool,
    pool_of,
    sparse_remark,
)
from lamella.driver.direct_lvm.record import NAME, Record
from lamella.driver.options import DIRECT
from lamella.errors import BusyError, CorruptError, ExistsError, LamellaError, NotFoundError, UsageError
from lamella.lvm.disks.disk import open_shared
from lamella.lvm.disks.kernel_active import active_in, refuse_active
from lamella.lvm.format.ids import dm_uuid
from lamella.lvm.format.names import dm_name, split_dm_name
from lamella.remedies import hint_of
from lamella.thin.format.checksum import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.backend import DeviceTree
    from lamella.driver.direct_lvm.plan import Plan
    from lamella.driver.direct_lvm.preflight import DiskReport
    from lamella.driver.options import Options
    from lamella.driver.topology import Node
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.disk import Opener
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session
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
        self._found: tuple[str, str, list[str]] | None = None
        self._opened: VolumeDevices | None = None

    # -- before making ---------------------------------------------------------------------------

    def preflight(self, options: Options) -> list[str]:
        if options.thin_pool_device:
            from lamella.driver.direct_lvm.preflight import absolute

            group, pool = self._named_pool(options.thin_pool_device)
            session, found = self.disks.find(group, map(absolute, options.devices))
            with session:
                session.check_access(found)
                if self.engine != "kernel":
                    refuse_active(group, found.group.uuid, session.environment.sys_block)
                check_unused_by_lvm(found, *pool_of(found, pool))
                self._check_chunk(found, pool, options)
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
            _check_same(record, options, paths)
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

    def _named_pool(self, text: str) -> tuple[str, str]:
        """Group and pool of ``VG/POOL``, or of a device-mapper name, in which hyphens are doubled."""
        name = text.removeprefix(MAPPER).removeprefix("/dev/")
        group, slash, pool = name.partition("/")
        if not slash:
            group, pool, layer = split_dm_name(name)
            pool = "" if layer else pool
        if not group or not pool:
            raise UsageError(
                f"dm.thinpooldev={text} names no thin pool of LVM", hint="write it as VG/POOL or VG-POOL"
            )
        return group, pool

    def _check_chunk(self, found: FoundGroup, pool: str, options: Options) -> None:
        size = pool_of(found, pool)[1].chunk_size
        if "dm.blocksize" in options.given and size != options.chunk_size:
            raise ExistsError(
                f"the pool {found.group.name}/{pool} has a block size of {size} bytes, not "
                f"{options.chunk_size}",
                hint="leave dm.blocksize out",
            )

    def check_unchanged(self, before: Options, new: Options) -> None:
        from lamella.driver.direct_lvm.preflight import absolute

        record = self._existing()
        for key, name, shown in (
            ("dm.directlvm_device", "devices", "disks"),
            ("dm.thinp_percent", "data_percent", "share of data"),
            ("dm.thinp_metapercent", "metadata_percent", "share of metadata"),
            ("dm.thinp_autoextend_threshold", "autoextend_threshold", "autoextend threshold"),
            ("dm.thinp_autoextend_percent", "autoextend_percent", "autoextend percent"),
            ("lamella.vg", "group", "volume group"),
            ("lamella.pool", "pool", "pool"),
            ("lamella.zero", "zero", "zeroing"),
            ("dm.thinpooldev", "thin_pool_device", "pool"),
        ):
            there, wanted = getattr(before, name), getattr(new, name)
            if name == "devices":
                there, wanted = list(record.disks), [absolute(path) for path in wanted]
                # Disks that were added since need not be named.
                there, wanted = ((), ()) if set(wanted) <= set(there) else (there, wanted)
            if name == "thin_pool_device" and wanted:
                there, wanted = (record.group, record.pool), self._named_pool(wanted)
                if record.made:
                    there = ("", "")
            if (key in new.given or name == "devices") and there != wanted:
                raise ExistsError(
                    f"direct-lvm is set up with another {shown}: {_shown(there)}, not {_shown(wanted)}",
                    hint="leave it out; disks are added with vgextend, and the pool is grown with lvextend; "
                    f"the profile {record.group}-{record.pool} may be edited",
                )

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
        """Make group and pool as :meth:`create` does, for others to use; gives its device-mapper name.

        What is left is what ``lvconvert`` leaves: metadata that the kernel formats on the first activation.
        """
        with self.exclusive(options):
            record = self._make(options)
            self._blank(record)
            self.record_path.unlink()
        return dm_name(record.group, record.pool)

    @contextlib.contextmanager
    def exclusive(self, options: Options | None = None) -> Iterator[None]:
        """Hold LVM2's locks, so that its commands wait; those that udev has it run for a new disk among them.

        Without them, LVM2's event-based activation puts a group up between two steps of a set-up.
        """
        from lamella.lvm.session.locks import global_lock, group_lock

        record, folder = self._record(), self.disks.environment.lock_dir
        group = record.group if record is not None else ""
        if options is not None:
            name = options.thin_pool_device
            group = self._named_pool(name)[0] if name else options.group
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
        """Zero the superblock of an empty pool, or of our own of a set-up that was cut short."""
        devices = self._open(record, read_only=False)
        try:
            if any(devices.metadata.read(0, BLOCK_SIZE)):
                devices.metadata.write_zeros(0, BLOCK_SIZE)
                devices.metadata.flush()
        finally:
            devices.close()

    def _make(self, options: Options) -> Record:
        from lamella.driver.direct_lvm.setup import Builder
        from lamella.lvm.format.ids import new_uuid
        from lamella.lvm.session.device_list import change_list

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
        keep()
        self._check_pool_is_free(record, again=True)
        return record

    def _take_over(self, options: Options) -> Record:
        from lamella.lvm.session.device_list import change_list

        group, pool = self._named_pool(options.thin_pool_device)
        session, found = self.disks.find(group)
        with session:
            lv, _ = pool_of(found, pool)
            self._check_chunk(found, pool, options)
            disks = {disk.path: uuid for uuid, disk in found.disks.items()}
            if self.engine == "kernel":
                self._take_out(found, pool)
        record = self._record()
        again = record is not None and not record.made and record.pool_uuid == lv.uuid
        fresh = Record(group, pool, False, disks, found.group.uuid, lv.uuid)
        self._check_pool_is_free(fresh, again=again)
        fresh.save(self.record_path)
        change_list(self.disks.list_path, disks)
        return fresh

    def release_unfinished(self) -> None:
        with self.exclusive():
            record = self._record()
            if record is not None and record.made and not record.ready:
                self._deactivate_made(record)

    def _deactivate_made(self, record: Record) -> None:
        """Deactivate what LVM2 has activated, by itself, of the group that a set-up made."""
        with Disks(self.root, open_shared).session(self.disks.listed(record.disks)) as session:
            for found in session.scan.named(record.group):
                if {pv.uuid for pv in found.group.pvs} & set(record.disks.values()):
                    self._take_out(found, record.pool)

    def _take_out(self, found: FoundGroup, pool: str) -> None:
        """Deactivate a pool that LVM2 has active, as it does after making one: it is looked at from here, and
        then activated again. Raises :class:`BusyError` for one that is in use."""
        if not active_in(found.group.uuid, self.disks.environment.sys_block):
            return
        from lamella.devicemapper.client import DeviceMapper

        with DeviceMapper() as dm:
            self._put_down(self._activator(dm), found, pool)

    def _put_down(self, activator: KernelActivator, found: FoundGroup, pool: str) -> None:
        from lamella.driver.direct_lvm.setup import parts_of

        active = activator.active_in(found)
        # The parts by name as well: of a pool that was half up, or half down, they may be all that is.
        activator.deactivate(found, [name for name in parts_of(found.group, pool) if name in active])

    def _check_pool_is_free(self, record: Record, *, again: bool) -> None:
        """Raise, in Docker's words, for a pool that somebody has used; *again*: not if it was ourselves."""
        from lamella.thin.engine.pool import Pool, PoolOptions

        devices = self._open(record, read_only=True)
        try:
            if not any(devices.metadata.read(0, BLOCK_SIZE)):
                return  # as lvconvert leaves it
            with Pool.open(
                devices.metadata, devices.data, options=PoolOptions(zero=False), read_only=True
            ) as pool:
                used, transaction = pool.status().used_data, pool.transaction_id
                if again and transaction <= 1 and set(pool.devices()) <= {1}:
                    return
        finally:
            devices.close()
        if used or transaction:
            name = dm_name(record.group, record.pool)
            why = "that already has used data blocks" if used else "with non-zero transaction ID"
            raise ExistsError(
                f"devmapper: Unable to take ownership of thin-pool ({name}) {why}",
                hint="somebody's data is in it. Use an empty pool; or, if nothing in it is needed, make it "
                f"anew: lvremove {record.group}/{record.pool}, then lvcreate and lvconvert",
            )

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
                hint="use --engine kernel, or take the pool out of the kernel: lamella deactivate",
            )
        return self._open(record, read_only=read_only)

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
        prefix = dm_uuid(record.group_uuid, record.pool_uuid)
        info = dm.find(dm_name(record.group, record.pool))
        if info is None or not info.live_table or not info.uuid.startswith(prefix):
            return None
        return info.name

    def _activator(self, dm: DeviceMapper) -> KernelActivator:
        """As LVM2's own commands would activate: with its daemon watching the pool, unless set otherwise."""
        from lamella.lvm.activation.activator import KernelActivator

        wanted = self.disks.config.flag("activation/monitoring")
        return KernelActivator(dm, monitor=wanted, warn=self._notes.append)

    def activate(self, dm: DeviceMapper) -> str:
        name = self.active(dm)
        if name is not None:
            return name
        record = self._existing()
        with self._group_locked(record):
            name = self.active(dm)  # LVM2's event-based activation may have been at it
            return name if name is not None else self._activate(dm, record)

    def _group_locked(self, record: Record) -> AbstractContextManager[None]:
        """Keep LVM2's commands off the group, and wait for those that are at work on it."""
        from lamella.lvm.session.locks import group_lock

        if self.disks.locked:
            return contextlib.nullcontext()

        return group_lock(self.disks.environment.lock_dir, record.group, write=True)

    def _activate(self, dm: DeviceMapper, record: Record) -> str:
        session, found = self._find_shared(record)
        with session:
            session.check_access(found)
            check_unused_by_lvm(found, *pool_of(found, record.pool))
            self._put_down(self._activator(dm), found, record.pool)  # parts that a killed process left
            try:
                self._activator(dm).activate(found, [record.pool])
            except CorruptError as error:
                raise CorruptError(
                    error.message,
                    hint=f"mend its metadata into a new place: lamella repair ({hint_of(error)})",
                ) from error
        return dm_name(record.group, record.pool)

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
        from lamella.lvm.activation.pv_numbers import wait_for_loop_devices

        record = self._record()
        if record is None or not record.group_uuid:
            return
        prefix = dm_uuid(record.group_uuid)
        # As device-mapper knows them: a device that has no table yet is not in /sys.
        here = [dm.find(name) for name, _, _ in dm.list()]
        if not any(info is not None and info.uuid.startswith(prefix) for info in here):
            return
        with self._group_locked(record):
            session, found = self._find_shared(record)
            with session:
                self._put_down(self._activator(dm), found, record.pool)
        wait_for_loop_devices(record.disks)  # again, without LVM's lock

    def _find_shared(self, record: Record) -> tuple[Session, FoundGroup]:
        """The group on disks that the kernel may be using: read past the page cache, not locked."""
        return Disks(self.root, open_shared).find(record.group, record.disks)

    def _open(self, record: Record, *, read_only: bool, shared: bool = False) -> VolumeDevices:
        disks = Disks(self.root, open_shared) if shared else self.disks
        session, found = disks.find(record.group, record.disks)
        group = found.group
        devices = open_pool(session, found, record.pool, read_only=read_only, shared=shared)
        self._found = (group.uuid, group.lvs[record.pool].uuid, [disk.path for disk in found.disks.values()])
        self._opened = devices
        return devices

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
            shared = Disks(self.root, open_shared)
            growth = GroupGrowth(shared, record, self._activator(dm))
            return growth.run(data=data, metadata=metadata, paths=paths, force=force)

    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        return []  # by LVM's commands; the driver takes note of the volumes' sizes whenever it opens them

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

    # -- what can be told ------------------------------------------------------------------------

    def missing_disks(self, devices: PoolDevices) -> tuple[list[str], bool]:
        record = self._existing()
        try:
            with self._group_below(devices, record) as found:
                return _missing(found, record.pool)
        except LamellaError:  # the kernel has the pool, and nothing below it can be read any more
            return list(record.disks), True

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
        session, found = self._find_shared(record)
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
                return f"the {what} was made anew: its UUID is {there}, and the store's was {known}. "
        return ""

    def problems(self) -> list[str]:
        record = self._record()
        if record is None:
            return []
        session, found = self.disks.find(record.group, record.disks)
        with session:
            return [notice.message for notice in (*session.scan.notices, *found.notices)]

    # -- taking away -----------------------------------------------------------------------------

    def remove(self) -> list[str]:
        record = self._record()
        if record is None:
            return []
        with self.exclusive():
            return self._remove(record)

    def _remove(self, record: Record) -> list[str]:
        from lamella.driver.direct_lvm.setup import unmake
        from lamella.lvm.session.device_list import change_list

        listed = self.disks.listed(record.disks)
        left: list[str] = []
        if record.made:
            if not record.ready or self.engine == "kernel":
                self._deactivate_made(record)
            more = [path for path in self.disks.of_machine() if path not in listed]
            with self.disks.session([*listed, *more]) as session:
                left = unmake(session, record)
            self._remove_copies(record)
        else:
            self._give_back(record)
        change_list(self.disks.list_path, [], list(record.disks))
        self.record_path.unlink(missing_ok=True)
        unfinished(self.record_path).unlink(missing_ok=True)
        # A command that was cut off leaves its lock files; the group that they were for is gone.
        for lock in (f"V_{record.group}", "P_global"):
            (self.root / "run/lvm" / lock).unlink(missing_ok=True)
        for folder in ("lvm/profile", "lvm/backup", "lvm/archive", "lvm", "run/lvm"):
            with contextlib.suppress(OSError):  # something of somebody else's is in it, or it is not there
                (self.root / folder).rmdir()
        return left

    def _give_back(self, record: Record) -> None:
        """Leave a pool that was taken over as empty as it was; one that is not that pool is not touched."""
        try:
            devices = self._open(record, read_only=False)
        except (NotFoundError, CorruptError):
            return
        try:
            if self._found is not None and self._found[:2] == (record.group_uuid, record.pool_uuid):
                devices.metadata.write_zeros(0, BLOCK_SIZE)
                devices.metadata.flush()
        finally:
            devices.close()

    def _remove_copies(self, record: Record) -> None:
        """LVM's archives of the group, where they are kept in the state root."""
        from lamella.lvm.session.backup import list_backups

        environment = self.disks.environment
        folder = environment.archive_dir
        if folder is None or self.root not in folder.parents:
            return
        for file in list_backups(record.group, environment):
            file.path.unlink(missing_ok=True)


def _check_same(record: Record, options: Options, paths: list[str]) -> None:
    """Raise unless a set-up that was cut short asked for the same."""
    for there, wanted in (
        (list(record.disks) if record.made else [f"{record.group}/{record.pool}"], paths),
        ([f"{record.group}/{record.pool}"], [f"{options.group}/{options.pool}"]),
    ):
        if there != wanted:
            raise ExistsError(
                f"a set-up that was not finished uses {', '.join(there)}, not {', '.join(wanted)}",
                hint="run it as the first time, or undo it first: lamella teardown",
            )


def _missing(found: FoundGroup, pool: str) -> tuple[list[str], bool]:
    """The group's disks that are not there, by where they last were; and whether *pool* lies on one."""
    if not found.missing:
        return [], False
    return [pv.device or pv.uuid for pv in found.missing], pool in found.partial_lvs()


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)
