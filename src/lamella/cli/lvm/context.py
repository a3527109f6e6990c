# SPDX-License-Identifier: Apache-2.0
"""One run of one of LVM2's commands: its options and settings, and the disks it works on."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from lamella.cli.lvm import settings
from lamella.cli.lvm.console import Console, error_lines
from lamella.cli.lvm.disks_to_scan import find_devices
from lamella.cli.lvm.errors import Unusable
from lamella.cli.lvm.names import check_group_name
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.report.units import Units
    from lamella.lvm.report.view import GroupView, Sources
    from lamella.lvm.session.environment import Environment
    from lamella.lvm.session.session import Session


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
        self.config = settings.load_config(args, self.console.warn)
        self.console.verbosity += self.config.number("log/verbose")
        self._session: Session | None = None
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

            paths = find_devices(self.args, self.config, self.environment)
            paths += [path for path in self.extra_devices if not any(same_file(path, each) for each in paths)]
            self._session = Session(
                paths,
                self.environment,
                opener=open_shared if self.activator is not None else open_file,
                test=self.test,
                say=self.console.notice,
                activator=self.activator,
            )
        return self._session

    def close(self) -> None:
        """Close the disks."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def groups(self) -> list[FoundGroup]:
        """Every group on the disks that this host may access; the last found comes first, as with LVM2."""
        there = [each for each in reversed(self.session.scan.groups) if self._accessible(each)]
        return [self.session.read(each) for each in there]

    def _accessible(self, found: FoundGroup) -> bool:
        """Whether this host may use the group. If it does not know its own system ID, it says so."""
        if self.args.has("foreign") or not self.session.is_foreign(found.group):
            return True
        if not self.environment.system_id and found.group.uuid not in self._refused:
            self._refused.add(found.group.uuid)
            self.console.warn(self.environment.foreign_group(found.group))
        return False

    @contextmanager
    def editing(self, name: str, uuid: str = "", **allowed: bool) -> Iterator[FoundGroup]:
        """:meth:`Session.editing`, with LVM2's last line where the group cannot be used or changed."""
        from lamella.lvm.session.session import EXPORTED, ForeignGroupError, SameNameError

        check_group_name(name)
        with ExitStack() as held:
            try:
                found = held.enter_context(self.session.editing(name, uuid=uuid, **allowed))
            except LamellaError as error:
                exported = error.message == EXPORTED.format(name=name)
                if exported or isinstance(error, SameNameError | ForeignGroupError):
                    raise
                lines = (*error_lines(error), f"Cannot process volume group {name}")
                raise Unusable("\n".join(lines)) from error
            yield found

    @cached_property
    def sources(self) -> Sources:
        """Where reports get what is not in the metadata."""
        from lamella.lvm.report.sources import make

        return make(self.session, self.config, self.activator)

    def view(self, found: FoundGroup) -> GroupView:
        """A group for a report."""
        from lamella.lvm.report.sources import group_view

        return group_view(found, self.sources)
