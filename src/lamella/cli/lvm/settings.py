# SPDX-License-Identifier: Apache-2.0
"""What the options and ``lvm.conf`` together set: the configuration, profiles, units, folders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.disks_to_scan import state_root
from lamella.cli.lvm.errors import BadCommand, BadFiles, Failed
from lamella.errors import NotFoundError, UsageError
from lamella.lvm.report.units import Units, parse_units
from lamella.lvm.session.config import FILES, Config, parse_text, read_file
from lamella.lvm.session.known_settings import config_folder
from lamella.lvm.session.setting_checks import setting_faults
from lamella.lvm.session.setting_trees import merge_all

if TYPE_CHECKING:
    from lamella.cli.lvm.syntax.parse import Arguments
    from lamella.lvm.format.text import Section
    from lamella.lvm.session.environment import Environment

PROFILE_IS_ATTACHED = ("vgchange", "lvchange", "lvcreate", "vgcreate")
"""Commands whose ``--profile`` is attached to the group or volume instead of applying to the command."""
SHOWING = ("lvmconfig", "config", "dumpconfig")
"""Commands that show the settings, and load a ``--profile`` themselves."""
ACTIVATION_DISABLED = "WARNING: Activation disabled. No device-mapper interaction will be attempted."
UPDATE_INVALID = "Updated config file invalid. Aborting."
COMMAND_PROFILE = "LVM_COMMAND_PROFILE"
"""Environment variable with the name of a command profile, for want of ``--commandprofile``."""


@dataclass(slots=True)
class Files:
    """``lvm.conf`` and ``lvmlocal.conf``, and what is wrong with them."""

    layers: list[Section]
    config: Config
    faults: list[str]


def read_and_report() -> Files:
    """The settings in files; says what is wrong with them. Raises :class:`BadFiles`."""
    layers = _read_files()
    config = Config.of(layers, {})
    faults = setting_faults(merge_all(layers)) if config.flag("config/checks") else []
    _say(faults, config)
    if faults and config.flag("config/abort_on_errors"):
        raise BadFiles("LVM_ configuration invalid.")
    if unknown := _unknown_units(config):
        raise BadFiles(unknown)
    if not config.flag("global/activation"):
        _say([ACTIVATION_DISABLED], config)
    return Files(layers, config, faults)


def load_config(args: Arguments) -> tuple[Config, list[str]]:
    """``lvm.conf`` with ``--config`` and the command's profile on top. Raises :class:`Failed`.

    Also what LVM2 says again once a command with ``--config`` has ended: what is wrong with the files.
    """
    files = read_and_report()
    override = _override(args)
    config = Config.of(files.layers, override)
    if args.text("driverloaded") == "n":
        config = config.with_layer({"global": {"activation": 0}}, first=True)
    again = files.faults if override else []
    if override and config.flag("config/checks"):
        faults = setting_faults(override) or again
        _say(faults, config)
        if faults and config.flag("config/abort_on_errors"):
            raise Failed(f"LVM_ configuration invalid.\n{UPDATE_INVALID}")
    if override and (unknown := _unknown_units(config)):
        raise Failed(f"{unknown}\n{UPDATE_INVALID}")
    if files.config.flag("global/activation") and not config.flag("global/activation"):
        _say([ACTIVATION_DISABLED], config)
    for name, kind, failed in _profiles(args):
        checks = config.flag("config/checks")
        layer = load_profile_of(name, kind, failed, profile_folders(args, config), checks=checks)
        config = config.with_layer(layer, profile=kind)
    return config, again


def _unknown_units(config: Config) -> str:
    """What LVM2 says of units that it does not know; with them it runs no command. "" for known ones."""
    units = config.text("global/units")
    try:
        parse_units(units)
    except UsageError:
        return f"Unrecognised configuration setting for global/units: {units}"
    return ""


def _say(lines: list[str], config: Config) -> None:
    prefix = config.text("log/prefix")
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines))


def _override(args: Arguments) -> Section:
    try:
        found = parse_text(args.text("config"))
    except UsageError as error:
        raise BadCommand(f"{error.message}\nFailed to set overridden configuration entries.") from error
    if args.has("config") and not args.text("config").strip():
        raise BadCommand("Failed to set overridden configuration entries.")
    return found


def _read_files() -> list[Section]:
    """Those of LVM2's folder, and those for the tags that the files before give this host."""
    folder = config_folder()
    found = []
    names = list(FILES)
    for name in names:
        try:
            layer = read_file(folder / name)
        except UsageError as error:
            sys.stderr.write(f"{error.message}\n")  # without a prefix, which is not known yet
            raise BadFiles(f"Failed to load config file {folder / name}") from error
        if layer:
            found.append(layer)
        if "tags" in layer:
            from lamella.lvm.session.host_tags import file_of, tags_of

            try:
                names += [more for tag in tags_of(layer) if (more := file_of(tag)) not in names]
            except UsageError as error:
                raise BadFiles(error.message) from error
    return found


def _profiles(args: Arguments) -> list[tuple[str, str, str]]:
    """The profiles to load for the command, in LVM2's order: name, kind, and what is said of a failure."""
    command = args.command.name
    found = []
    applied = args.has("profile") and command not in (*PROFILE_IS_ATTACHED, *SHOWING)
    if applied and args.has("commandprofile"):
        raise Failed("Only one of --profile or --commandprofile allowed.")
    if command in SHOWING and args.has("profile"):
        found.append((args.text("profile"), "command", "Failed to load profile"))
    elif args.has("commandprofile"):
        found.append((args.text("commandprofile"), "command", "Failed to apply command profile"))
    elif os.environ.get(COMMAND_PROFILE):
        found.append((os.environ[COMMAND_PROFILE], "command", "Failed to apply command profile"))
    if command in SHOWING and args.has("metadataprofile"):
        found.append((args.text("metadataprofile"), "metadata", "Failed to apply metadata profile"))
    elif applied:
        found.append((args.text("profile"), "command", "Failed to apply command profile"))
    return found


def load_profile_of(
    name: str, kind: str, failed: str, folders: list[Path], *, checks: bool = True
) -> Section:
    """The settings of a profile of this kind, "command" or "metadata".

    Raises :class:`Failed`, with *failed* and the name as the last line, where it cannot be used. Without
    *checks* its faults are not named.
    """
    from lamella.lvm.session.profile import load_profile, name_fault

    if fault := name_fault(name):
        failed = failed.replace("apply", "add")
        raise Failed(f"{fault}\n{failed} {name}.")
    try:
        layer = load_profile(name, folders)
    except NotFoundError as error:
        raise Failed(f"{error.message}\n{failed} {name}.") from error
    if faults := setting_faults(layer, kind):
        faults = faults if checks else []
        lines = (*faults, f"Ignoring invalid {kind} profile {name}.", f"{failed} {name}.")
        raise Failed("\n".join(lines))
    return layer


def profile_folders(args: Arguments, config: Config) -> list[Path]:
    """The folders that are searched for profiles, in order."""
    return [Path(config.text("config/profile_dir")), state_root(args) / "lvm" / "profile"]


def report_units(args: Arguments, config: Config) -> Units:
    """How sizes are printed. Raises :class:`BadCommand`."""
    suffix = not args.has("nosuffix") and config.flag("global/suffix")
    try:
        found = parse_units(args.text("units") or config.text("global/units"), suffix=suffix)
        found.consistent = config.flag("global/si_unit_consistency")
        return found
    except UsageError as error:
        raise BadCommand(error.message) from error


def report_format(args: Arguments, config: Config) -> str:
    """The format of reports: basic, json or json_std. The long displays take the option and ignore it."""
    given = "" if args.command.name.endswith("display") else args.text("reportformat")
    return given or config.text("report/output_format")


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
