# SPDX-License-Identifier: Apache-2.0
"""What every command has at hand: options, settings, the disks, and LVM2's way of speaking."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.device_list import find_devices, state_root
from lamella.errors import (
    BusyError,
    ExistsError,
    LamellaError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
    UsageError,
)
from lamella.lvm.report.units import Units, parse_units
from lamella.lvm.session.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lamella.block.device import BlockDevice
    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.activation.activator import KernelActivator
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.report.view import GroupView, Surroundings
    from lamella.lvm.session.environment import Environment
    from lamella.lvm.session.session import Session

INDENT = "  "
OWN_WORDS = (UsageError, NotFoundError, NoSpaceError, ExistsError, BusyError, ReadOnlyError)
"""Errors whose message is all that LVM2 says; others get their hint as a second line."""


class BadCommand(UsageError):
    """The options make no sense together. Exit code 3; LVM2 then points at ``--help``."""

    exit_code = 3


class Failed(LamellaError):
    """The command failed and has said why already. Exit code 5."""

    exit_code = 5

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class Context:
    """One run of one command."""

    def __init__(self, name: str, args: Arguments, argv: Sequence[str]) -> None:
        self.name = name
        self.args = args
        self.argv = list(argv)
        self.failures = 0
        """Things that went wrong without ending the command."""
        self.extra_devices: list[str] = []
        """Disks named as arguments, looked at beside the listed ones."""
        self._session: Session | None = None
        self.config = self._load_config()

    # -- settings --------------------------------------------------------------------------------

    def _load_config(self) -> Config:
        config = Config.load(self.args.text("config"))
        if self.args.has("config"):
            for name in config.unknown_sections():
                self.warn(f'Configuration section "{name}" unknown.')
        name = self.args.text("commandprofile") or self.args.text("profile")
        is_for_group = self.args.command.name in ("vgchange", "lvchange", "lvcreate", "vgcreate")
        if name and not (is_for_group and not self.args.has("commandprofile")):
            from lamella.lvm.session.profile import load_profile

            try:
                layer = load_profile(name, self._folders(config))
            except NotFoundError as error:
                raise BadCommand(f"{error.message}\nFailed to apply command profile {name}.") from error
            config = config.with_layer(layer)
        return config

    def _folders(self, config: Config) -> list[Path]:
        return [Path(config.text("config/profile_dir")), state_root(self.args) / "lvm" / "profile"]

    @property
    def profile_folders(self) -> list[Path]:
        """Where profiles are looked for."""
        return self._folders(self.config)

    @cached_property
    def units(self) -> Units:
        """How sizes are printed. Raises :class:`BadCommand`."""
        suffix = not self.args.has("nosuffix") and self.config.flag("global/suffix")
        text = self.args.text("units") or self.config.text("global/units")
        try:
            return parse_units(text, suffix=suffix)
        except UsageError as error:
            raise BadCommand(error.message) from error

    @property
    def test(self) -> bool:
        return self.args.has("test") or self.config.flag("global/test")

    @property
    def activation(self) -> bool:
        """False with ``global/activation=0``: device-mapper is not looked at."""
        return self.config.flag("global/activation")

    @property
    def verbosity(self) -> int:
        return self.args.count("verbose") + self.config.number("log/verbose") - self.args.count("quiet")

    @cached_property
    def folders(self) -> Environment:
        """Host, and the folders for backups whether backups are wanted or not."""
        from lamella.lvm.session.environment import Environment

        return Environment.located(self.config, state_root(self.args), self.command_line)

    @cached_property
    def environment(self) -> Environment:
        """Host, folders and what the settings say of them."""
        found = replace(self.folders)
        found.set_up(self.config)
        if self.args.has("nolocking"):
            found.lock_dir = None
        if not self.args.yes("autobackup", default=True):
            found.backup_dir = found.archive_dir = None
        return found

    @property
    def command_line(self) -> str:
        """As typed, for backups and for the description in metadata."""
        return " ".join([self.name, *self.argv])

    # -- disks -----------------------------------------------------------------------------------

    @cached_property
    def activator(self) -> KernelActivator | None:
        """The kernel's device-mapper, where we may use it and ``global/activation`` lets us; else None."""
        from lamella.cli.lvm.activation import make_activator

        return make_activator(self)

    @property
    def session(self) -> Session:
        """The disks and what is on them."""
        if self._session is None:
            from lamella.lvm.disks.disk import open_shared
            from lamella.lvm.disks.scan import same_file
            from lamella.lvm.session.session import Session

            paths = find_devices(self.args, self.config, self.environment)
            paths += [path for path in self.extra_devices if not any(same_file(path, each) for each in paths)]
            self._session = Session(
                paths,
                self.environment,
                opener=open_shared if self.activator is not None else open_disk,
                test=self.test,
                say=self.notice,
                activator=self.activator,
            )
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def groups(self) -> list[FoundGroup]:
        """Every group on the disks that this host may look at; the last found comes first, as with LVM2."""
        found = []
        for each in reversed(self.session.scan.groups):
            if self.session.is_foreign(each.group) and not self.args.has("foreign"):
                continue
            found.append(each)
        return found

    def find_group(self, name: str) -> FoundGroup:
        """The group called *name*. LVM2 says so twice where there is none."""
        return self.session.find(name)

    @contextmanager
    def editing(self, name: str, **allowed: bool) -> Iterator[FoundGroup]:
        """:meth:`Session.editing`, with LVM2's two lines where there is no such group."""
        with ExitStack() as held:
            try:
                found = held.enter_context(self.session.editing(name, **allowed))
            except NotFoundError as error:
                raise Failed(f"{error.message}\nCannot process volume group {name}") from error
            yield found

    @cached_property
    def around(self) -> Surroundings:
        """Where reports get what is not in the metadata."""
        from lamella.lvm.report.sources import make

        return make(self)

    def view(self, found: FoundGroup) -> GroupView:
        """A group for a report."""
        from lamella.lvm.report.sources import group_view

        return group_view(found, self.around)

    # -- speaking --------------------------------------------------------------------------------

    def print(self, text: str = "") -> None:
        """A line of the result."""
        if self.args.count("quiet") < 1 or not self.args.has("quiet"):
            sys.stdout.write(f"{INDENT}{text}\n")

    def write(self, text: str) -> None:
        """A report, laid out already."""
        sys.stdout.write(text)

    def warn(self, text: str) -> None:
        """A warning or an error; each line is indented as LVM2 does it."""
        sys.stdout.flush()
        for line in text.split("\n"):
            sys.stderr.write(f"{INDENT}{line}\n")

    def fail(self, text: str) -> None:
        """Say what went wrong, go on, and exit with 5 at the end."""
        self.failures += 1
        self.warn(text)

    def warn_with(self, error: LamellaError) -> None:
        """An error's message, and its hint where LVM2 has no word of its own."""
        if error.message:
            self.warn(error.message)
        if error.hint and not isinstance(error, OWN_WORDS):
            self.warn(error.hint)

    def fail_with(self, error: LamellaError) -> None:
        """Say what went wrong, go on, and exit with 5 at the end."""
        self.failures += 1
        self.warn_with(error)

    def verbose(self, text: str) -> None:
        """Only with ``-v``."""
        if self.verbosity > 0:
            self.warn(text)

    def notice(self, notice: Notice) -> None:
        """What the floor below has to say."""
        if notice.level == "print":
            self.print(notice.message)
        elif notice.level == "verbose":
            self.verbose(notice.message)
        else:
            self.warn(notice.message)

    def notices(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self.notice(notice)

    def confirm(self, question: str) -> bool:
        """Ask; ``-y`` and ``-f`` say yes. Without a terminal, the answer is no."""
        if self.args.has("yes") or self.args.has("force"):
            return True
        return self.ask(question)

    def ask(self, question: str) -> bool:
        """Ask, with ``-y`` alone as yes."""
        if self.args.has("yes"):
            return True
        sys.stdout.flush()
        sys.stderr.write(question)
        sys.stderr.flush()
        answer = sys.stdin.readline() if sys.stdin is not None else ""
        if not answer:
            sys.stderr.write("[n]\n")
        return answer.strip().lower() in ("y", "yes")


def open_disk(path: str, read_only: bool) -> BlockDevice:
    """Files, block devices and NBD addresses. Readers take no lock."""
    from lamella.block.opening import open_device

    return open_device(path, read_only=read_only, lock=not read_only)
