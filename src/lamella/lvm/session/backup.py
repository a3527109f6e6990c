# SPDX-License-Identifier: Apache-2.0
"""LVM2's backup and archive files: the metadata of a group after, and before, each command.

A backup is ``<folder>/<group>``; archives are ``<folder>/<group>_<number>-<random>.vg``, of which at least a
minimum, and all younger than a number of days, are kept (lib/format_text/archive.c).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import clock
from lamella.block import system
from lamella.block.atomic_file import replacing
from lamella.errors import LamellaError
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.format.group_writer import write_readable

if TYPE_CHECKING:
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.session.environment import Environment

_ARCHIVE = re.compile(r"(?P<group>.+)_(?P<number>\d+)(?:-\d+)?\.vg")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A backup or archive on disk; ``number`` is -1 for a backup."""

    path: Path
    number: int
    group: str
    description: str
    creation_time: int


def write_backup(group: VolumeGroup, path: Path, environment: Environment, description: str = "") -> None:
    """Write *group* to *path*, whole or not at all. Raises what the file system refuses."""
    text = write_readable(group, environment.header(description or environment.command_line))
    _write(path, text)


def backup_after(group: VolumeGroup, environment: Environment) -> None:
    """Write the backup that every changing command makes. Nothing without a backup folder."""
    if environment.backup_dir is not None:
        _folder(environment.backup_dir)
        text = f"Created *after* executing '{environment.command_line}'"
        write_backup(group, environment.backup_dir / group.name, environment, text)


def text_before(group: VolumeGroup, environment: Environment) -> str:
    """The text for :func:`archive_text`: *group* before a command changes it."""
    return write_readable(
        group, environment.header(f"Created *before* executing '{environment.command_line}'")
    )


def archive_text(group_name: str, text: str, environment: Environment) -> None:
    """Write *text* as the group's newest archive. Nothing without an archive folder."""
    folder = environment.archive_dir
    if folder is None:
        return
    _folder(folder)
    import secrets

    numbers = [number for number, _path in _archives(folder, group_name)]
    following = max(numbers, default=-1) + 1
    _write(folder / f"{group_name}_{following:05}-{secrets.randbelow(1 << 31)}.vg", text)
    _expire(folder, group_name, environment)


def remove_backup(group_name: str, environment: Environment) -> None:
    """Remove the backup of a group that was removed or renamed."""
    if environment.backup_dir is not None:
        try:
            (environment.backup_dir / group_name).unlink(missing_ok=True)
        except OSError as error:
            raise system.explain(error, "remove the backup of", group_name) from error


def read_backup(path: str | os.PathLike[str]) -> VolumeGroup:
    """The group in a backup, archive or any file of either text form."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise system.explain(error, "read the backup", os.fspath(path)) from error
    return read_group(content.decode("utf-8", "surrogateescape"), source=os.fspath(path))


def list_backups(group_name: str, environment: Environment) -> list[ArchiveFile]:
    """Archives of a group from the oldest on, then its backup. Files that cannot be read are left out."""
    candidates: list[tuple[int, Path]] = []
    if environment.archive_dir is not None:
        candidates += _archives(environment.archive_dir, group_name)
    if environment.backup_dir is not None:
        candidates.append((-1, environment.backup_dir / group_name))
    found = []
    for number, path in candidates:
        try:
            group = read_backup(path)
        except LamellaError:
            continue
        found.append(ArchiveFile(path, number, group.name, group.description, group.creation_time))
    return found


def _archives(folder: Path, group_name: str) -> list[tuple[int, Path]]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = []
    for name in names:
        match = _ARCHIVE.fullmatch(name)
        if match and match["group"] == group_name:
            found.append((int(match["number"]), folder / name))
    return sorted(found)


def _expire(folder: Path, group_name: str, environment: Environment) -> None:
    archives = _archives(folder, group_name)
    keep_from = clock.now() - environment.retain_days * 86400
    left = len(archives)
    for _number, path in archives:
        if left <= environment.retain_min:
            return
        try:
            if path.stat().st_mtime <= keep_from:
                path.unlink()
                left -= 1
        except OSError:
            continue  # another process cleans up too


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise system.explain(error, "make the folder", str(folder)) from error


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path, mode=0o600) as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise system.explain(error, "write", str(path)) from error
