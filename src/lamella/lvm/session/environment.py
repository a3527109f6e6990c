# SPDX-License-Identifier: Apache-2.0
"""The machine that a command on volume groups runs on: host, folders, system ID."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import clock
from lamella.lvm.session.system_id import local_system_id
from lamella.lvm.session.volume_lists import VolumeLists

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.format.group_writer import Header
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.config import Config

LVM_ETC = Path("/etc/lvm")
LVM_LOCKS = Path("/run/lock/lvm")
LVM_RUN = Path("/run/lvm")


def _now() -> int:
    return int(clock.now())


@dataclass(slots=True)
class Environment:
    """Host, folders and defaults; the command line sets what its options and ``lvm.conf`` say.

    A folder that is None is not used: no locks are taken there, no backups written, no hints emptied.
    Sizes are sectors where named so, else bytes.
    """

    command_line: str = "lamella"
    """As typed, for the description in metadata and backups."""
    host: str = field(default_factory=lambda: os.uname().nodename)
    lock_dir: Path | None = None
    hints_dir: Path | None = None
    """The folder of LVM2's hints (:mod:`lamella.lvm.disks.hints`); None where none are to be invalidated."""
    backup_dir: Path | None = None
    archive_dir: Path | None = None
    backups_disabled: bool = False
    """Whether an option or a setting, and not the lack of a folder, disables backups."""
    retain_min: int = 10
    retain_days: int = 30
    """How many archives of a group to keep at least, and for how many days."""
    system_id: str = ""
    """This host's system ID; groups that carry another one are foreign."""
    extra_system_ids: frozenset[str] = frozenset()
    """Others whose groups this host, if it has one itself, may use as well."""
    warnings: list[str] = field(default_factory=list)
    """What LVM2 says about these settings."""
    wait_for_locks: bool = True
    """Whether a lock that another command holds is waited for; if not, the command fails at once."""
    changes_with_duplicates: bool = False
    """Whether a group may change while one of its physical volumes is on two devices."""
    pv_min_size: int = 2 << 20
    check_sizes: bool = True
    """Whether a disk that is smaller than its physical volume is reported."""
    record_history: bool = False
    """Whether removed thin volumes are kept as records (:mod:`lamella.lvm.format.history`)."""
    history_retention: int = 0
    """For how many seconds records are kept; 0 or less: as long as a volume descends from them."""
    disabled_thin_features: frozenset[str] = frozenset()
    """Features of the kernel's thin targets that are to be treated as missing."""
    volume_lists: VolumeLists = field(default_factory=VolumeLists)
    sys_block: Path = Path("/sys/block")
    now: Callable[[], int] = _now

    @classmethod
    def detect(cls, state_root: Path | None = None, command_line: str = "lamella") -> Environment:
        """LVM2's own folders where it is installed and we are root, else folders under *state_root*."""
        if uses_lvm_folders():
            return cls(
                command_line,
                lock_dir=LVM_LOCKS,
                backup_dir=LVM_ETC / "backup",
                archive_dir=LVM_ETC / "archive",
                hints_dir=LVM_RUN,
            )
        if state_root is None:
            return cls(command_line)
        return cls(
            command_line,
            lock_dir=state_root / "run" / "lvm",
            backup_dir=state_root / "lvm" / "backup",
            archive_dir=state_root / "lvm" / "archive",
        )

    @classmethod
    def located(cls, config: Config, state_root: Path | None, command_line: str) -> Environment:
        """:meth:`detect`, with the folders that LVM2's settings name, whether they are used or not."""
        found = cls.detect(state_root, command_line)
        if found.lock_dir == LVM_LOCKS:
            found.lock_dir = Path(config.text("global/locking_dir"))
            found.backup_dir = Path(config.text("backup/backup_dir"))
            found.archive_dir = Path(config.text("backup/archive_dir"))
        return found

    @classmethod
    def configured(cls, config: Config, state_root: Path | None, command_line: str) -> Environment:
        """:meth:`located`, with LVM2's settings for backups, hints, sizes and the system ID."""
        found = cls.located(config, state_root, command_line)
        found.set_up(config)
        return found

    def set_up(self, config: Config) -> None:
        """Apply LVM2's settings, and drop the folders that they disable."""
        if not config.flag("backup/backup"):
            self.backup_dir = None
            self.backups_disabled = True
        if not config.flag("backup/archive"):
            self.archive_dir = None
        if config.text("devices/hints") == "none":
            self.hints_dir = None
        self.retain_min = config.number("backup/retain_min")
        self.retain_days = config.number("backup/retain_days")
        self.pv_min_size = config.number("devices/pv_min_size") * 1024
        self.check_sizes = config.flag("metadata/check_pv_device_sizes")
        self.volume_lists = VolumeLists.configured(config)
        self.changes_with_duplicates = config.flag("devices/allow_changes_with_duplicate_pvs")
        self.system_id, self.warnings = local_system_id(config)
        self.extra_system_ids = frozenset(config.strings("local/extra_system_ids"))
        self.wait_for_locks = config.flag("global/wait_for_locks")
        self.disabled_thin_features = frozenset(config.strings("global/thin_disabled_features"))
        self.record_history = config.flag("metadata/record_lvs_history")
        self.history_retention = config.number("metadata/lvs_history_retention_time")

    @property
    def removal_time(self) -> int:
        """When a volume that is removed now is recorded to be removed; 0 where nothing is recorded."""
        return self.now() if self.record_history else 0

    def is_foreign(self, group: VolumeGroup) -> bool:
        """Whether the group belongs to another host."""
        own = {self.system_id, *self.extra_system_ids} if self.system_id else ()
        return bool(group.system_id) and group.system_id not in own

    def foreign_group(self, group: VolumeGroup) -> str:
        """LVM2's message about a group that belongs to another host."""
        own = f"local system ID {self.system_id}" if self.system_id else "unknown local system ID"
        return f"Cannot access VG {group.name} with system ID {group.system_id} with {own}."

    def header(self, description: str) -> Header:
        """The header of a text that is written now."""
        from lamella.lvm.format.group_writer import Header

        names = os.uname()
        system = " ".join((names.sysname, self.host, names.release, names.version, names.machine))
        return Header(description, self.host, system, self.now(), system_id=self.system_id)


def uses_lvm_folders() -> bool:
    """Whether LVM2's own folders are used: we are root, and it is installed."""
    if os.geteuid() != 0:
        return False
    if LVM_ETC.is_dir():
        return True
    import shutil

    return shutil.which("lvm", path=_search_path()) is not None


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
