# SPDX-License-Identifier: Apache-2.0
"""One run of one of LVM2's commands: its options and settings, and the disks it works on."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lamella.block.opening import is_remote
from lamella.cli.lvm import settings
from lamella.cli.lvm.console import Console, error_lines
from lamella.cli.lvm.disks_to_scan import ENTERING, MAKING, find_devices, system_devices
from lamella.cli.lvm.errors import Unusable
from lamella.cli.lvm.names import check_group_name
from lamella.cli.lvm.output import Output
from lamella.errors import LamellaError
from lamella.lvm.disks.disk import is_block_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup, Scan
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.report.units import Units
    from lamella.lvm.report.view import GroupView, Sources
    from lamella.lvm.session.environment import Environment
    from lamella.lvm.session.session import Session
    from lamella.lvm.session.system_devices import SystemDevices


SHOWING = (
    *("pvs", "vgs", "lvs", "pvdisplay", "vgdisplay", "lvdisplay"),
    *("pvscan", "vgscan", "lvscan", "lvmdiskscan", "fullreport"),
)
"""Commands that say which devices of the devices file are not there."""


class Context:
    """One run of one command; what its options do not ask for is never opened or read."""

    def __init__(self, name: str, args: Arguments, argv: Sequence[str]) -> None:
        self.name = name
        self.args = args
        self.command_line = " ".join([name, *argv])
        """As typed, for backups and for the description in metadata."""
        self.console = Console(args)
        self.extra_devices: list[str] = []
        """Disks named as arguments, scanned beside the listed ones."""
        self.config, self._faults = settings.load_config(args)
        self.console.silent |= self.config.flag("log/silent")
        self.console.verbosity += self.config.number("log/verbose")
        self.output = Output(self)
        """Where reports go."""
        self._session: Session | None = None
        self._had_groups: bool | None = None
        """Whether there were groups when the command began; None before it looked."""
        self._refused: set[str] = set()
        """UUIDs of groups of other hosts that were reported."""

    @property
    def test(self) -> bool:
        """``--test``: nothing is written to disks, and no device in the kernel is changed."""
        return self.args.has("test") or self.config.flag("global/test")

    @property
    def profile_folders(self) -> list[Path]:
        """The folders that are searched for profiles, in order."""
        return settings.profile_folders(self.args, self.config)

    @cached_property
    def units(self) -> Units:
        """How sizes are printed. Raises :class:`BadCommand`."""
        return settings.report_units(self.args, self.config)

    @cached_property
    def environment(self) -> Environment:
        """The host and the folders for locks, backups and archives."""
        made = settings.make_environment(self.args, self.config, self.command_line)
        for warning in made.warnings:
            self.console.warn(warning)
        return made

    @cached_property
    def activator(self) -> KernelActivator | None:
        """The kernel's device-mapper, where it can be used and ``global/activation`` allows it; else None."""
        from lamella.cli.lvm.kernel import make_activator

        return make_activator(self.config, self.args, self.console)

    @property
    def session(self) -> Session:
        """The disks and what is on them."""
        if self._session is None:
            from lamella.lvm.disks.disk import open_file, open_shared
            from lamella.lvm.disks.scan import same_file
            from lamella.lvm.session.session import Session

            paths = find_devices(self.args, self.config, self.environment, self.system_devices)
            if self.args.has("devices"):
                for path in paths:
                    if not is_remote(path) and not os.path.exists(path):
                        self.console.warn(f"Device not found for {path}.")
            paths += [path for path in self.extra_devices if not any(same_file(path, each) for each in paths)]
            self._session = Session(
                paths,
                self.environment,
                opener=open_shared if self.activator is not None else open_file,
                test=self.test,
                say=self.console.notice,
                activator=self.activator,
                scanned=self._compare_devices_file,
            )
            listed = self.system_devices
            if listed is not None and not listed.is_list and (listed.path.is_file() or self._makes_list):
                self._session.device_id = listed.device_id
        return self._session

    @cached_property
    def system_devices(self) -> SystemDevices | None:
        """LVM2's devices file, where one is used; see :func:`disks_to_scan.system_devices`."""
        found = system_devices(self.args, self.config)
        shows = self.name == "lvmdevices" and not any(map(self.args.has, ("adddev", "check", "update")))
        if (
            found is not None
            and (found.path.is_file() or self._makes_list)
            and not shows
            and self.name != "vgimportdevices"
        ):
            for name in ("filter", "global_filter"):
                if self.config.find(f"devices/{name}") is not None:
                    said = f"Please remove the lvm.conf {name}, it is ignored with the devices file."
                    self.console.warn(said)
        return found

    @property
    def _makes_list(self) -> bool:
        """Whether the command makes the devices file that ``--devicesfile`` names, if there is none yet."""
        return self.args.has("devicesfile") and self.name in MAKING

    def _compare_devices_file(self, scan: Scan) -> None:
        self._had_groups = bool(scan.groups)
        listed = self.system_devices
        if listed is not None and listed.path.is_file() and self.name != "vgimportdevices":
            from lamella.lvm.session.devname_search import unknown_setting

            unfound = listed.unfound if self.name in SHOWING else []
            for line in (
                *unknown_setting(self.config.text("devices/search_for_devnames")),
                *listed.foreign(self.environment.system_id),
                *unfound,
                *listed.disagreements(scan),
                *listed.renamed,
            ):
                self.console.warn(line)

    def exclusion(self, path: str) -> str:
        """Why the device at *path* is not used, in LVM2's words; "" if it is."""
        if is_remote(path) or self.session.scan.disk(path) is not None:
            return ""
        if not (is_block_device(path) or os.path.isfile(path)):
            return "device not found"
        if self.args.has("devices"):
            return "device is not in devices list"
        listed = self.system_devices
        if listed is not None and listed.path.is_file() and not listed.has(path):
            return "device is not in devices file"
        filtered = any(
            self.config.find(f"devices/{name}") is not None for name in ("filter", "global_filter")
        )
        return "device is rejected by filter config" if filtered and is_block_device(path) else ""

    def _update_devices_file(self) -> None:
        """Enter the physical volumes that were made, and bring the other entries up to date."""
        listed: SystemDevices | None = self.__dict__.get("system_devices")
        if listed is None or listed.is_list or self._session is None or self.test or self._had_groups is None:
            return
        from lamella.lvm.session.locks import devices_file_lock
        from lamella.lvm.session.system_devices import SystemDevices

        scan = self._session.scan
        made = [path for path in self.extra_devices if (disk := scan.disk(path)) is not None and disk.label]
        added = made if self.name in ENTERING else []
        if not listed.path.is_file():
            if not added or (self.args.has("devicesfile") and self.name == "vgextend"):
                return
            if not self.args.has("devicesfile") and self.name != "vgimportdevices":
                if self._had_groups:
                    self.console.print("Not creating system devices file due to existing VGs.")
                    return
                self.console.print(f"Creating devices file {listed.path}")
        with devices_file_lock(self.environment.lock_dir, listed.path.name):
            now = SystemDevices.read(listed.path)
            if now.count != listed.count:  # another command wrote it meanwhile, and its entries stay
                now.find(self.environment.sys_block)
                listed = now
            if listed.update(scan, added):
                listed.count += listed.wrong and listed.found_again  # LVM2 writes it for each
                listed.write(self.name)

    def end(self) -> None:
        """Say again what LVM2 repeats at the end of a command."""
        for line in self._faults:
            self.console.warn(line)

    def close(self) -> None:
        """Close the disks."""
        try:
            self._update_devices_file()
        except LamellaError as error:
            self.console.fail_with(error)
        if self._session is not None:
            self._session.close()
            self._session = None

    def groups(self, *, foreign_said: bool = True) -> list[FoundGroup]:
        """Every group on the disks that this host may access; the last found comes first, as with LVM2.

        Without *foreign_said*, nothing is said of those of other hosts, as where only disks are named.
        """
        every = reversed(self.session.scan.groups)
        there = [each for each in every if self._accessible(each, said=foreign_said)]
        return [self.session.read(each) for each in there]

    def _accessible(self, found: FoundGroup, *, said: bool) -> bool:
        """Whether this host may use the group; says so of clustered ones, and if it has no system ID."""
        group = found.group
        if group.clustered:
            if group.uuid not in self._refused:
                from lamella.lvm.session.session import CLUSTERED_HINT

                self._refused.add(group.uuid)
                self.console.warn(f"Skipping clustered VG {group.name}.\n{CLUSTERED_HINT}")
            return False
        if group.shared and not self.args.has("shared"):
            return False
        if self.args.has("foreign") or not self.session.is_foreign(found.group):
            return True
        if said and not self.environment.system_id and found.group.uuid not in self._refused:
            self._refused.add(found.group.uuid)
            self.console.warn(self.environment.foreign_group(found.group))
        return False

    def processing_group(self, found: FoundGroup) -> AbstractContextManager[None]:
        """What is said meanwhile is about this group, in the command log."""
        return self.processing("vg", found.group.name, found.group.uuid)

    def processing_volume(self, found: FoundGroup, lv: LogicalVolume) -> AbstractContextManager[None]:
        """Likewise about a volume of the group."""
        group = found.group
        return self.processing("lv", lv.name, lv.uuid, group=group.name, group_uuid=group.uuid)

    def processing_disk(self, found: FoundGroup | None, path: str, uuid: str) -> AbstractContextManager[None]:
        """Likewise about a physical volume, of the group or of none."""
        if found is None:
            return self.processing("pv", path, uuid)
        return self.processing("pv", path, uuid, group=found.group.name, group_uuid=found.group.uuid)

    def processing(self, *names: str, **more: Any) -> AbstractContextManager[None]:
        """See :meth:`CommandLog.processing`."""
        log = self.console.log
        return log.processing(*names, **more) if log is not None else nullcontext()

    @contextmanager
    def editing(self, name: str, uuid: str = "", **allowed: bool) -> Iterator[FoundGroup]:
        """:meth:`Session.editing`, with LVM2's last line where the group cannot be used or changed."""
        from lamella.lvm.session.session import EXPORTED, ForeignGroupError, SameNameError

        check_group_name(name)
        with ExitStack() as held:
            held.enter_context(self.processing("vg", name, uuid, lingers=True))
            try:
                found = held.enter_context(self.session.editing(name, uuid=uuid, **allowed))
            except LamellaError as error:
                exported = error.message == EXPORTED.format(name=name)
                if exported or isinstance(error, SameNameError | ForeignGroupError):
                    raise
                lines = (*error_lines(error), f"Cannot process volume group {name}")
                raise Unusable("\n".join(lines)) from error
            if self.console.log is not None:
                self.console.log.identify(found.group.uuid)
            yield found

    @cached_property
    def sources(self) -> Sources:
        """Where reports get what is not in the metadata."""
        from lamella.lvm.report.sources import make

        return make(self.session, self.config, self.activator)

    def view(self, found: FoundGroup) -> GroupView:
        """A group for a report."""
        from lamella.cli.lvm.targets import with_history
        from lamella.lvm.report.sources import group_view

        view = group_view(found, self.sources)
        view.with_history = with_history(self)
        return view
