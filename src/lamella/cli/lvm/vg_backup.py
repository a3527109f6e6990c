# SPDX-License-Identifier: Apache-2.0
"""``vgcfgbackup`` and ``vgcfgrestore``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm.disks_to_scan import state_root
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.names import skip_dev
from lamella.cli.lvm.processing import each_group
from lamella.cli.lvm.targets import choose_groups
from lamella.errors import LamellaError
from lamella.lvm.format.names import is_valid_name

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.backup import ArchiveFile
    from lamella.lvm.session.environment import Environment

UNREADABLE = "WARNING: couldn't read volume group metadata from file."


def vgcfgbackup(context: Context) -> None:
    """Write the metadata of groups to files."""
    from lamella.lvm.session.backup import write_backup

    args = context.args
    groups = choose_groups(context, args.positionals)
    template = args.text("file")
    if template and "%s" not in template and len(groups) > 1:
        raise Failed("Must specify %s in filename template to backup more than one VG to file.")
    for found in each_group(context, groups):
        name = found.group.name
        if found.partial and not template:
            context.console.fail("No backup taken: specify filename with -f to backup with missing PVs.")
            continue
        if template:
            path = Path(template.replace("%s", name))
        elif (folder := _folders(context).backup_dir) is not None:
            path = folder / name
        else:
            context.console.fail(f"No folder for the backup of {name}: name a file with -f.")
            continue
        description = "" if template else f"Created *after* executing '{context.command_line}'"
        context.session.identify_devices(found)
        try:
            if not template:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not path.parent.is_dir():
                raise Failed("Couldn't create temporary text file name.")
            write_backup(found.group, path, context.environment, description)
        except LamellaError as error:
            context.console.fail_with(error)
            continue
        context.console.print(f'Volume group "{name}" successfully backed up.')


def _folders(context: Context) -> Environment:
    """The folders for backups and archives, whether the settings enable these or not."""
    from lamella.lvm.session.environment import Environment

    return Environment.located(context.config, state_root(context.args), context.command_line)


def vgcfgrestore(context: Context) -> None:
    """Restore a group from a backup onto its disks; ``-l`` lists backups."""
    args = context.args
    if args.has("list"):
        _list(context)
        return
    if len(args.positionals) != 1:
        raise BadCommand("Please specify a *single* volume group to restore.")
    name = _valid_group_name(args.positionals[0])
    path = args.text("file")
    if not path:
        place = context.environment.backup_dir or Path(context.config.text("backup/backup_dir"))
        path = str(place / name)
    backup = _read(context, name, path)
    from lamella.lvm.operations.group_restore import restore_group
    from lamella.lvm.session.locks import group_lock

    folder = None if context.test else context.environment.lock_dir
    with context.session.all_locked(), group_lock(folder, name, write=True):
        try:
            restore_group(context.session, backup, force=args.has("force"), confirm=context.console.ask)
        except LamellaError as error:
            context.console.warn_with(error)
            said = error.message in ("Restore failed.", "Restore aborted.")
            raise Failed("" if said else "Restore failed.") from error
    context.console.print(f"Restored volume group {name}.")


def _valid_group_name(text: str) -> str:
    name = skip_dev(text)
    if not is_valid_name(name):
        raise BadCommand(f'Volume group name "{name}" is invalid.')
    return name


def _read(context: Context, name: str, path: str) -> VolumeGroup:
    from lamella.lvm.session.backup import read_backup

    failed = f"{UNREADABLE}\nFailed to read VG {name} from {path}\nRestore failed."
    if not os.path.exists(path):
        raise Failed(f"{path}: stat failed: No such file or directory\n{failed}")
    if not os.path.isfile(path):
        raise Failed(f"{path} is not a regular file\n{failed}")
    try:
        backup = read_backup(path)
    except LamellaError as error:
        raise Failed(f"{_reason(path, error)}\n{failed}") from error
    _warn(context, backup)
    if backup.name != name:
        raise Failed(f"'{path}' does not contain volume group '{name}'.\nRestore failed.")
    return backup


def _warn(context: Context, group: VolumeGroup) -> None:
    for line in group.remarks:
        context.console.warn(line)


def _reason(path: str, error: LamellaError) -> str:
    return error.message.removeprefix(f"{path}: Couldn't read volume group metadata: ")


def _list(context: Context) -> None:
    from lamella.lvm.session.backup import ArchiveFile, list_backups, read_backup

    args = context.args
    if args.has("file"):
        path = args.text("file")
        if not os.path.exists(path):
            raise Failed(f"Archive file {path} not found.")
        try:
            group = read_backup(path)
        except LamellaError as error:
            said = f"{_reason(path, error)}\n{UNREADABLE}\nUnable to read archive file."
            raise Failed(said) from error
        _warn(context, group)
        found = [ArchiveFile(Path(path), -1, group.name, group.description, group.creation_time)]
    else:
        found = list_backups(_valid_group_name(args.positionals[0]), _folders(context))
        if not found:
            context.console.print(f"No archives found in {_folders(context).archive_dir}.")
    for one in found:
        _describe(context, one)


def _describe(context: Context, one: ArchiveFile) -> None:
    say = context.console.print
    say(" ")
    say(f"File:\t\t{one.path}")
    say(f"VG name:    \t{one.group}")
    say(f"Description:\t{one.description}")
    say(f"Backup Time:\t{time.ctime(one.creation_time)}\n")
