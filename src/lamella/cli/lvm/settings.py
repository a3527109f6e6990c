# SPDX-License-Identifier: Apache-2.0
"""What the options and ``lvm.conf`` together set: the configuration, profiles, units, folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.disks_to_scan import state_root
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.errors import NotFoundError, UsageError
from lamella.lvm.report.units import Units, parse_units
from lamella.lvm.session.config import Config, parse_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.session.environment import Environment

PROFILE_IS_ATTACHED = ("vgchange", "lvchange", "lvcreate", "vgcreate")
"""Commands whose ``--profile`` is attached to the group or volume instead of applying to the command."""


def load_config(args: Arguments, warn: Callable[[str], None]) -> Config:
    """``lvm.conf`` with ``--config`` and the command's profile on top. Raises :class:`Failed`."""
    try:
        parse_text(args.text("config"))
    except UsageError as error:
        raise BadCommand(f"{error.message}\nFailed to set overridden configuration entries.") from error
    config = Config.load(args.text("config"))
    if args.has("config"):
        for name in config.unknown_sections():
            if isinstance(config.find(name), dict):
                warn(f'Configuration section "{name}" unknown.')
            else:
                warn(f'Configuration setting "{name}" invalid. It\'s not part of any section.')
    name = args.text("commandprofile")
    attached = args.command.name in PROFILE_IS_ATTACHED
    if not name and not attached:
        name = args.text("profile")
    if name or args.has("commandprofile") or (args.has("profile") and not attached):
        from lamella.lvm.session.profile import load_profile, misplaced, name_fault

        if fault := name_fault(name):
            raise Failed(f"{fault}\nFailed to add command profile {name}.")
        try:
            layer = load_profile(name, profile_folders(args, config))
        except NotFoundError as error:
            raise Failed(f"{error.message}\nFailed to apply command profile {name}.") from error
        if faults := misplaced(layer, "command"):
            lines = (*faults, f"Ignoring invalid command profile {name}.")
            raise Failed("\n".join((*lines, f"Failed to apply command profile {name}.")))
        config = config.with_layer(layer)
    return config


def profile_folders(args: Arguments, config: Config) -> list[Path]:
    """The folders that are searched for profiles, in order."""
    return [Path(config.text("config/profile_dir")), state_root(args) / "lvm" / "profile"]


def report_units(args: Arguments, config: Config) -> Units:
    """How sizes are printed. Raises :class:`BadCommand`."""
    suffix = not args.has("nosuffix") and config.flag("global/suffix")
    try:
        return parse_units(args.text("units") or config.text("global/units"), suffix=suffix)
    except UsageError as error:
        raise BadCommand(error.message) from error


def make_environment(args: Arguments, config: Config, command_line: str) -> Environment:
    """The host and the folders that this command uses for locks, backups and archives."""
    from lamella.lvm.session.environment import Environment

    found = Environment.configured(config, state_root(args), command_line)
    if args.has("nolocking"):
        found.lock_dir = None
    if not args.yes("autobackup", default=True):
        found.backup_dir = found.archive_dir = None
        found.backups_disabled = True
    return found
