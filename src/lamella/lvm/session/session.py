# SPDX-License-Identifier: Apache-2.0
"""One command's work on some disks: scan, lock, check that a change is allowed, commit, back up."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lamella.closing import Closing
from lamella.errors import BusyError, CorruptError, NotFoundError, ReadOnlyError, UnsupportedError, UsageError
from lamella.lvm.disks.disk import Disk, Opener, is_block_device, open_file, open_shared
from lamella.lvm.disks.hints import invalidated
from lamella.lvm.disks.kernel_active import refuse_active
from lamella.lvm.disks.notice import Notice
from lamella.lvm.disks.scan import FoundGroup, Scan, same_file, scan
from lamella.lvm.format import history
from lamella.lvm.format.model import WRITE
from lamella.lvm.format.segments import is_known_type
from lamella.lvm.session.backup import archive_text, backup_after, remove_backup, text_before
from lamella.lvm.session.commit import commit_group, forget_group
from lamella.lvm.session.locks import LOCK_TIMEOUT, global_lock, group_lock
from lamella.lvm.session.volume_lists import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lamella.block.device import BlockDevice
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.activator_interface import Activator
    from lamella.lvm.session.environment import Environment


EXPORTED = "Volume group {name} is exported"


class ForeignGroupError(ReadOnlyError):
    """The group belongs to another host."""


class SameNameError(UsageError):
    """Several groups have the name that was given."""


CLUSTERED_HINT = "See lvmlockd(8) for changing a clvm/clustered VG to a shared VG."
"""What LVM2 says after any message about a clustered group."""


class Session(Closing):
    """The disks that a command may use, and what was found on them.

    Parameters: *paths* of files, devices and whatever else *opener* accepts; *given*, devices that are open
    already, by path; *test* makes every commit change nothing on disk (``--test``); *say* is called with
    every notice; *activator* changes the kernel's devices along with the groups: without one, a change to a
    group that is active in the kernel is refused; *locked*: the caller holds the locks on the set of
    physical volumes and on the groups that are changed, over several sessions; *scanned* is called with the
    first scan.
    """

    def __init__(
        self,
        paths: Sequence[str],
        environment: Environment,
        *,
        opener: Opener = open_file,
        given: Mapping[str, BlockDevice] | None = None,
        test: bool = False,
        say: Callable[[Notice], None] | None = None,
        activator: Activator | None = None,
        locked: bool = False,
        scanned: Callable[[Scan], None] | None = None,
    ) -> None:
        self.paths = list(paths)
        self.environment = environment
        self.opener = open_shared if activator is not None and opener is open_file else opener
        self.given = dict(given or {})
        self.test = test
        self.notices: list[Notice] = []
        self.activator = activator
        self._lock_dir = None if test or locked else environment.lock_dir
        self._lock_wait = LOCK_TIMEOUT if environment.wait_for_locks else 0
        self._say = say
        self._scanned = scanned
        self._scan: Scan | None = None
        self.device_id: Callable[[str], tuple[str, str]] | None = None
        """What identifies a device in LVM2's devices file, where one is used: recorded in the metadata."""
        self._writers: dict[str, BlockDevice] = {}
        """Disks that are open for writing, over all scans."""
        self.unsaid: frozenset[str] = frozenset()
        """Kinds of notices that are kept but not passed on."""
        self.keep_history = False
        """Leave records of removed volumes from which none descends for the caller to remove."""
        self._global_held = False
        self._read: set[str] = set()
        """UUIDs of the groups whose notices were said; "" for those of orphans."""
        self._archived: set[str] = set()
        self._before: dict[str, tuple[str, str]] = {}
        self._changed: dict[str, VolumeGroup] = {}
        self._writes: dict[str, int] = {}

    def close(self) -> None:
        """Close every disk that was opened here; volumes opened on them cannot be used any more."""
        if self._scan is not None:
            self._scan.close()
            self._scan = None
        for device in self._writers.values():
            device.close()
        self._writers.clear()

    def say(self, notice: Notice) -> None:
        """Keep a notice and pass it on."""
        self.notices.append(notice)
        if self._say is not None and notice.kind not in self.unsaid:
            self._say(notice)

    def note(self, kind: str, message: str, device: str = "", level: str = "warn") -> None:
        """:meth:`say` a :class:`Notice`."""
        self.say(Notice(kind, message, device, level))

    # -- reading ---------------------------------------------------------------------------------

    @property
    def scan(self) -> Scan:
        """What is on the disks; read at first use."""
        return self._scan if self._scan is not None else self.rescan()

    def rescan(self) -> Scan:
        """Read the disks again. Disks that are open for writing stay open, and volumes on them usable."""
        again = self._scan is not None
        if self._scan is not None:
            for disk in self._scan.disks:
                writer = disk.take_writer()
                if writer is not None:
                    self._writers[disk.path] = writer
            self._scan.close()
            self._scan = None
        self._scan = scan(
            self.paths,
            opener=self.opener,
            given={**self._writers, **self.given},
            min_size=self.environment.pv_min_size,
            is_foreign=self.environment.is_foreign,
            device_id=self.device_id,
        )
        for found in self._scan.groups:
            self._drop_outdated(found.group)
        if not again:
            for notice in self._scan.scan_notices():
                self.say(notice)
            if self._scanned is not None:
                self._scanned(self._scan)
        return self._scan

    def _drop_outdated(self, group: VolumeGroup) -> None:
        around = self.environment
        for record in history.outdated(group.historical, around.now(), around.history_retention):
            history.remove(group.historical, record, join=around.record_history)
            said = f'Outdated record for historical logical volume "{record.name}" automatically destroyed.'
            self.note("history", said, level="verbose")

    def read(self, found: FoundGroup) -> FoundGroup:
        """Say what is wrong with the group, once; as LVM2 does for the groups that a command reads."""
        if found.group.uuid not in self._read:
            self._read.add(found.group.uuid)
            for notice in found.notices:
                if notice.kind != "size" or self.environment.check_sizes:
                    self.say(notice)
        return found

    def read_orphans(self) -> list[Disk]:
        """The physical volumes that belong to no group; says, once, what is wrong with them."""
        scan = self.scan
        if "" not in self._read:
            self._read.add("")
            for notice in scan.orphan_notices():
                self.say(notice)
        return scan.orphans

    def find(self, name: str, uuid: str = "") -> FoundGroup:
        """The group called *name* (or with that UUID), read. With *uuid*, of several of that name this one.

        Raises :class:`NotFoundError`, or :class:`SameNameError`.
        """
        found = self.scan.named(name) or [each for each in self.scan.groups if each.group.uuid == name]
        if uuid:
            found = [each for each in found if each.group.uuid == uuid]
        if not found:
            raise NotFoundError(
                f'Volume group "{name}" not found', hint="vgs lists the volume groups on these devices"
            )
        if len(found) > 1:
            own = [each for each in found if not self.is_foreign(each.group)]
            if len(own) != 1:
                raise SameNameError(
                    f"Multiple VGs found with the same name: skipping {name}\n"
                    "Use --select vg_uuid=<uuid> in place of the VG name.",
                    hint="give the UUID: vgrename UUID NEWNAME, or use fewer devices",
                )
            found = own
        return self.read(found[0])

    def find_disk(self, path: str) -> Disk:
        """The disk at *path*, scanned or not yet. Raises if it cannot be opened."""
        known = self.scan.disk(path)
        if known is not None:
            return known
        for other, error in self.scan.unreadable:
            if same_file(other, path):
                raise error
        disk = Disk.open(path, self.opener, self._writers.get(path) or self.given.get(path))
        self.scan.disks.append(disk)
        return disk

    def is_foreign(self, group: VolumeGroup) -> bool:
        """Whether the group belongs to another host."""
        return self.environment.is_foreign(group)

    # -- changing --------------------------------------------------------------------------------

    @contextmanager
    def all_locked(self, *, keep_hints: bool = False) -> Iterator[None]:
        """Hold the lock on the set of physical volumes; scan again under it.

        LVM2's hints are invalidated, also with ``--test``, as LVM2 does it; *keep_hints* is for changes
        after which each disk still has the UUID and the group that it had.
        """
        if self._global_held:
            yield
            return
        around = self.environment
        command = (around.command_line.split() or [""])[0]
        with (
            global_lock(self._lock_dir, write=True, wait=self._lock_wait),
            invalidated(None if keep_hints else around.hints_dir, command, lock=around.lock_dir is not None),
        ):
            self._global_held = True
            try:
                self.rescan()
                yield
            finally:
                self._global_held = False

    @contextmanager
    def editing(
        self,
        name: str,
        *,
        uuid: str = "",
        missing_ok: bool = False,
        exported_ok: bool = False,
        read_only_ok: bool = False,
        unknown_ok: bool = False,
        active_ok: bool = False,
    ) -> Iterator[FoundGroup]:
        """Lock the group, read it again, check that it may be changed, and write its backup at the end.

        Raises LVM2's errors: not found, foreign, shared, clustered, exported, read-only, missing disks,
        unknown segments, duplicate disks; and :class:`BusyError` for an active group where there is no
        activator.
        """
        with ExitStack() as held:
            held.enter_context(group_lock(self._lock_dir, name, write=True, wait=self._lock_wait))
            if not self._global_held:
                self.rescan()
            found = self.find(name, uuid)
            self.check_access(found, exported_ok=exported_ok)
            self._check_change(found, missing_ok, read_only_ok, unknown_ok)
            if not active_ok and self.kernel(found) is None:
                refuse_active(found.group.name, found.group.uuid, self.environment.sys_block)
            self.identify_devices(found)
            if self.environment.archive_dir is not None and not self.test:
                self._before[found.group.uuid] = (
                    found.group.name,
                    text_before(found.group, self.environment),
                )
            yield found
            self._back_up()

    def check_owner(self, found: FoundGroup, *, foreign_ok: bool = False) -> None:
        """Raise LVM2's error if the group is another host's, or managed on several by lvmlockd or clvmd."""
        group = found.group
        if group.shared:
            raise UnsupportedError(
                f"Cannot access VG {group.name} with lock type {group.lock_type} that requires lvmlockd.",
                hint="use LVM2 with lvmlockd on a host of its cluster",
            )
        if group.clustered:
            raise UnsupportedError(f"Cannot access clustered VG {group.name}.", hint=CLUSTERED_HINT)
        if self.is_foreign(group) and not foreign_ok:
            raise ForeignGroupError(
                self.environment.foreign_group(group), hint="only the host that owns the group may change it"
            )

    def check_access(self, found: FoundGroup, *, exported_ok: bool = False) -> None:
        """Raise LVM2's error if the group is foreign, managed by lvmlockd, or exported."""
        self.check_owner(found)
        group = found.group
        if group.exported and not exported_ok:
            raise ReadOnlyError(EXPORTED.format(name=group.name), hint="vgimport it first")

    def _check_change(
        self, found: FoundGroup, missing_ok: bool, read_only_ok: bool, unknown_ok: bool
    ) -> None:
        group = found.group
        if not read_only_ok and WRITE not in group.status:
            raise ReadOnlyError(f"Volume group {group.name} is read-only.", hint="it lacks the WRITE flag")
        if found.partial and not missing_ok:
            raise CorruptError(
                f"Cannot change VG {group.name} while PVs are missing.",
                hint="See vgreduce --removemissing and vgextend --restoremissing.",
            )
        if not unknown_ok:
            for lv in group.lvs.values():
                if any(not is_known_type(segment.kind) for segment in lv.segments):
                    raise UnsupportedError(
                        f"Cannot change VG {group.name} with unknown segments in it!",
                        hint=f"logical volume {lv.name} was made by a newer LVM2; change it with that",
                    )

    def _refuse_duplicates(self, group: VolumeGroup) -> None:
        if self.environment.changes_with_duplicates:
            return
        doubled = {disk.label.uuid for disk in self.scan.duplicates if disk.label is not None}
        if any(pv.uuid in doubled for pv in group.pvs):
            raise BusyError(
                f"Cannot update volume group {group.name} with duplicate PV devices.",
                hint="leave out the copies: name the right devices with --devices",
            )

    @contextmanager
    def creating(self, name: str) -> Iterator[None]:
        """Hold the global lock and that of a group that is to be created; write its backup at the end."""
        with self.all_locked(), group_lock(self._lock_dir, name, write=True, wait=self._lock_wait):
            yield
            self._back_up()

    def commit(self, found: FoundGroup, changed: Sequence[str] | None = None) -> None:
        """Write the group as it now is. The first commit of a command archives the metadata before it.

        *changed* are the volumes whose tables in the kernel have to be reloaded; None: all active ones.
        Raises :class:`BusyError` where a physical volume of the group is there twice.
        """
        group = found.group
        self._refuse_duplicates(group)
        if self.test:
            group.seqno += 1
            return
        for name in group.drop_old_history() if not self.keep_history else ():
            said = f"Automatically removing historical logical volume {group.name}/-{name}."
            self.note("history", said, level="print")
        self._archive(found)
        self.identify_devices(found)
        count = self._writes.get(group.uuid, 0) + 1
        self._writes[group.uuid] = count
        numbered = "" if count == 1 else f"[{count}]"
        header = self.environment.header(f"Write{numbered} from {self.environment.command_line}.")
        kernel = self.kernel(found) if changed is None or changed else None
        commit_group(found, header, self.say, kernel.changing(found, changed) if kernel is not None else None)
        self._changed[group.uuid] = group

    def identify_devices(self, found: FoundGroup) -> None:
        """Record how each disk is recognised where there is a devices file, as LVM2 does in each text, backup
        and archive that it writes; without one, and for a missing disk, nothing.
        """
        for pv in found.group.pvs:
            disk = found.disks.get(pv.uuid)
            if self.device_id is not None and disk is not None and is_block_device(disk.path):
                pv.device_id_type, pv.device_id = self.device_id(disk.path)
            else:
                pv.device_id_type, pv.device_id = "", ""

    # -- what the kernel has ------------------------------------------------------------------------

    def kernel(self, found: FoundGroup) -> Activator | None:
        """The activator, for a group on block devices, or one with devices in the kernel.

        Volumes on plain files are not activated just because they are created or changed.
        """
        activator = self.activator
        if activator is None or all(is_block_device(disk.path) for disk in found.disks.values()):
            return activator
        return activator if activator.active_in(found) else None

    def is_active(self, found: FoundGroup, name: str) -> bool:
        """Whether the volume is active in the kernel."""
        kernel = self.kernel(found)
        return kernel is not None and kernel.is_active(found, name)

    def has_device(self, found: FoundGroup, name: str) -> bool:
        """Whether the kernel has a device of the volume, or of a layer of it."""
        kernel = self.kernel(found)
        return kernel is not None and name in kernel.active_in(found)

    def refuse_active(self, found: FoundGroup, said: str = "") -> None:
        """Raise :class:`BusyError` if a volume of the group is active."""
        kernel = self.kernel(found)
        if kernel is not None and kernel.active_in(found):
            name = found.group.name
            raise BusyError(
                said or f'Volume group "{name}" has active logical volumes', hint=f"vgchange -an {name}"
            )

    def activate(self, found: FoundGroup, names: Sequence[str]) -> None:
        """Activate these volumes; nothing without an activator, or with ``--test``.

        Those that ``activation/volume_list`` leaves out stay inactive, and those in
        ``read_only_volume_list`` are activated read-only.
        """
        kernel = self.kernel(found)
        if kernel is None or self.test:
            return
        lists, group = self.environment.volume_lists, found.group
        for read_only in (False, True):
            chosen = []
            for name in names:
                lv = group.lvs[name]
                if not lists.may_activate(group, lv):
                    said = f"Not activating {group.name}/{name} since it does not pass activation filter."
                    if read_only:
                        self.note("filter", said, level="verbose")
                elif bool(lists.has(READ_ONLY, group, lv)) == read_only:
                    chosen.append(name)
            if chosen:
                kernel.activate(found, chosen, read_only=read_only)

    def deactivate(self, found: FoundGroup, names: Sequence[str]) -> None:
        """Deactivate those of these volumes that are active.

        If one is in use, :class:`BusyError` is raised and all stay active.
        """
        kernel = self.kernel(found)
        if kernel is None or self.test:
            return
        active = [name for name in names if kernel.is_active(found, name)]
        for name in active:
            kernel.check_unused(found, name)
        if active:
            kernel.deactivate(found, active)

    def drop_disks(self, disks: Sequence[Disk]) -> None:
        """Clear the metadata of disks that have left their group. Call it after the commit that removed
        them.
        """
        if not self.test:
            forget_group(disks)

    def remove_group(self, found: FoundGroup) -> None:
        """Remove the group from all its disks, which become orphan physical volumes."""
        if self.test:
            return
        self._archive(found)
        forget_group(found.disks.values())
        self._changed.pop(found.group.uuid, None)
        remove_backup(found.group.name, self.environment)

    def _archive(self, found: FoundGroup) -> None:
        """Archive the text of the group as it was when the command began."""
        group = found.group
        if group.uuid in self._archived:
            return
        self._archived.add(group.uuid)
        before = self._before.get(group.uuid)
        if before is not None:
            archive_text(*before, self.environment)

    def _back_up(self) -> None:
        for group in self._changed.values():
            backup_after(group, self.environment)
            if self.environment.backups_disabled:
                self.note("backup", "WARNING: This metadata update is NOT backed up.")
        self._changed.clear()
        self._writes.clear()
        self._archived.clear()
        self._before.clear()
