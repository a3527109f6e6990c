# SPDX-License-Identifier: Apache-2.0
"""Make the physical volumes, the group, the pool and its profile; or remove them again.

Every step first checks whether it is done, so that an interrupted set-up continues where it stopped. Raises
an error that names the difference for anything that is there and is not as planned.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block.atomic_file import replace_file
from lamella.block.system import explain
from lamella.errors import ExistsError
from lamella.lvm.operations.group_restore import update_metadata
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv, remove_lv
from lamella.lvm.operations.lv_changes import LvChanges, change_lv
from lamella.lvm.operations.physical_volumes import PvOptions, create_pv, remove_pv
from lamella.lvm.operations.pool_spare import SPARE_SUFFIX
from lamella.lvm.operations.thin_pools import PoolRequest, convert_to_pool
from lamella.lvm.operations.thin_volumes import remove_pool
from lamella.lvm.operations.volume_groups import DEFAULT_EXTENT, create_group, remove_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.driver.direct_lvm.plan import Plan
    from lamella.driver.direct_lvm.record import Record
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.environment import Environment
    from lamella.lvm.session.session import Session


class Builder:
    """One run of the plan. *keep* saves the record; it is called before what it records is made."""

    def __init__(self, session: Session, plan: Plan, record: Record, keep: Callable[[], None]) -> None:
        self.session = session
        self.plan = plan
        self.record = record
        self.keep = keep

    def run(self) -> None:
        """Do what is not done yet. Raises :class:`ExistsError` for what differs from the plan."""
        self._check_group()
        for path, uuid in self.record.disks.items():
            self._physical_volume(path, uuid)
        if self._group() is None:
            with self.session.creating(self.plan.group):
                create_group(self.session, self.plan.group, self.plan.disks)
        self._volumes()

    def _group(self) -> FoundGroup | None:
        return next(iter(self.session.scan.named(self.plan.group)), None)

    def _check_group(self) -> None:
        """No other group may have the name, and our disks may be in no other group."""
        ours = set(self.record.disks.values())
        for found in self.session.scan.groups:
            group = found.group
            members = {pv.uuid for pv in group.pvs}
            if group.name == self.plan.group and not ours & members:
                raise ExistsError(
                    f"there is a volume group {group.name} already, on "
                    f"{', '.join(pv.device for pv in group.pvs)}",
                    hint="choose another name with --vg; a thin pool in it is taken over with --storage-opt "
                    f"dm.thinpooldev={group.name}/POOL",
                )
            if group.name != self.plan.group and ours & members:
                raise ExistsError(
                    f"the disks of this set-up are in volume group {group.name}, not {self.plan.group}",
                    hint=f"vgrename or vgremove {group.name}, and run it again",
                )

    def _physical_volume(self, path: str, uuid: str) -> None:
        disk = self.session.find_disk(path)
        label = disk.label
        ours = label is not None and label.uuid == uuid
        if label is not None and ours and (not label.used or self.session.scan.group_of(disk)):
            return
        force = 2 if ours else int(self.plan.options.force)
        with self.session.all_locked():
            create_pv(self.session, path, PvOptions(uuid=uuid, zero=True, force=force, yes=force > 0))

    def _volumes(self) -> None:
        plan, session = self.plan, self.session
        with session.editing(plan.group) as found:
            group = found.group
            self._compare("extents of", "bytes", group.extent_size, DEFAULT_EXTENT)
            if plan.pool not in group.lvs:
                create_lv(session, found, LvRequest(plan.data, name=plan.pool), yes=True)
            lv = group.lvs[plan.pool]
            if lv.thin_pool is None:
                self._compare(f"{plan.pool} with", "extents", lv.extents, plan.data)
                if plan.metadata_name not in group.lvs:
                    create_lv(session, found, LvRequest(plan.metadata, name=plan.metadata_name), yes=True)
                metadata = group.lvs[plan.metadata_name]
                self._compare(f"{metadata.name} with", "extents", metadata.extents, plan.metadata)
                request = PoolRequest(chunk_size=plan.options.chunk_size, zero=plan.options.zero)
                lv = convert_to_pool(session, found, lv, metadata, request)
            pool = lv.thin_pool
            assert pool is not None
            self._compare("chunks of", "bytes", pool.chunk_size, plan.options.chunk_size)
            self._compare("data of", "extents", group.lvs[pool.data].extents, plan.data)
            self._compare("metadata of", "extents", group.lvs[pool.metadata].extents, plan.metadata)
            self._compare("zeroing", "", int(pool.zero), int(plan.options.zero))
            self._profile()
            if lv.profile != plan.profile:
                change_lv(session, found, lv, LvChanges(profile=plan.profile))
            if found.stale:  # a cut between two disks' commits: one still has the text before
                update_metadata(session, found)
            self.record.group_uuid, self.record.pool_uuid = group.uuid, lv.uuid

    def _compare(self, what: str, unit: str, there: int, wanted: int) -> None:
        if there != wanted:
            raise ExistsError(
                f"volume group {self.plan.group} differs from what was asked for: it has {what} {there} "
                f"{unit}, not {wanted}",
                hint="run setup with the options of the first time; or remove the group with vgremove",
            )

    def _profile(self) -> None:
        path, text = self.plan.profile_path, self.plan.profile_text
        try:
            there = path.read_text("utf-8") if path.exists() else None
            if there == text:
                return
            if there is not None and self.record.profile != str(path):
                raise ExistsError(
                    f"{path} exists and differs from what was asked for",
                    hint="remove it, or give the values in it: --autoextend-threshold, --autoextend-percent",
                )
            self.record.profile = str(path)
            self.keep()
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            replace_file(path, text)
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError):
                raise explain(error, "write the profile", str(path)) from error
            raise ExistsError(f"{path} exists and is not a profile", hint="remove it") from error


# -- removing ----------------------------------------------------------------------------------------


def unmake(session: Session, record: Record) -> list[str]:
    """Remove the pool, the group and the physical volumes that set-up made; gives what was left.

    A group in which somebody has made other volumes stays, without the pool. A disk that is not there,
    or that has become something else, is left alone.
    """
    left: list[str] = []
    ours = set(record.disks.values())
    found = _our_group(session, record, ours)
    if found is not None:
        name = found.group.name
        with session.all_locked(), session.editing(name, missing_ok=True) as found:
            _remove_pool(session, found, record.pool)
            others = [lv.name for lv in found.group.lvs.values()]
            if others:
                left.append(
                    f"volume group {name} has other volumes ({', '.join(others[:3])}): it stays, without "
                    f"{record.pool}"
                )
                return left
            remove_group(session, found, force=True)
    session.rescan()
    for path, uuid in record.disks.items():
        disk = next((each for each in session.scan.disks if _uuid(each) == uuid), None)
        owner = session.scan.group_of(disk) if disk is not None else None
        if disk is None:
            if not session.scan.disk(path):
                left.append(f"{path} is missing: if it returns, run pvremove -ff on it")
        elif owner is not None:
            left.append(f"{disk.path} is in volume group {owner.group.name}, which set-up did not make")
        else:
            with session.all_locked():
                remove_pv(session, disk.path, force=2, confirm=lambda question: True)
    if record.profile:
        Path(record.profile).unlink(missing_ok=True)
    return left


def remove_archives(record: Record, environment: Environment, root: Path) -> None:
    """Remove LVM's archives of the group, where they are kept in the state root."""
    from lamella.lvm.session.backup import list_backups

    folder = environment.archive_dir
    if folder is None or root not in folder.parents:
        return
    for file in list_backups(record.group, environment):
        file.path.unlink(missing_ok=True)


def _our_group(session: Session, record: Record, ours: set[str]) -> FoundGroup | None:
    for found in session.scan.groups:
        group = found.group
        members = {pv.uuid for pv in group.pvs}
        if group.name == record.group and ours & members and record.group_uuid in ("", group.uuid):
            return found
    return None


def _remove_pool(session: Session, found: FoundGroup, name: str) -> None:
    """The pool and its parts, finished or not."""
    group = found.group
    lv = group.lvs.get(name)
    if lv is not None and lv.thin_pool is not None:
        if not group.thin_volumes(lv):
            remove_pool(session, found, lv)
            for old in [each for each in group.lvs if re.fullmatch(rf"{re.escape(name)}_meta\d+", each)]:
                remove_lv(session, found, group.lvs[old])  # what a repair of the pool left
        return
    for part in parts_of(group, name):
        remove_lv(session, found, group.lvs[part])


def parts_of(group: VolumeGroup, name: str) -> list[str]:
    """The volumes of a pool, finished or not: itself, its data and metadata, and the spare."""
    from lamella.driver.direct_lvm.plan import META_SUFFIX

    pool = group.lvs[name].thin_pool if name in group.lvs else None
    own = [name, name + META_SUFFIX] if pool is None else [name, pool.data, pool.metadata]
    return [
        part for part in (*own, *(lv for lv in group.lvs if lv.endswith(SPARE_SUFFIX))) if part in group.lvs
    ]


def _uuid(disk: Disk) -> str:
    return disk.label.uuid if disk.label is not None else ""
