# SPDX-License-Identifier: Apache-2.0
"""The options that pvcreate, vgcreate and vgextend share: how a disk becomes a physical volume."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.block.opening import is_remote
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.errors import LamellaError
from lamella.lvm.disks.disk import is_block_device
from lamella.lvm.disks.scan import same_file
from lamella.lvm.format.label import SCAN_SECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.operations.physical_volumes import PvOptions

BAD_OFFSET = "must not be less than pe_align_offset"
NO_PLACE = ("must not exceed device size", "must exceed minimum", BAD_OFFSET)
"""Parts of the errors after which LVM2 says that it could not set the disk up."""


def pv_options(context: Context, *, uuid: str = "", restore: VolumeGroup | None = None) -> PvOptions:
    """The options and settings for new physical volumes."""
    from lamella.lvm.operations.physical_volumes import PvOptions

    args, config = context.args, context.config
    copies = config.number("metadata/pvmetadatacopies")
    if args.has("pvmetadatacopies"):
        copies = args.number("pvmetadatacopies")
    ignore = config.flag("metadata/pvmetadataignore")
    if args.has("metadataignore"):
        ignore = args.yes("metadataignore")
    alignment = args.size("dataalignment", config.number("devices/data_alignment") * 1024)
    if not alignment and config.number("devices/default_data_alignment") > 1:
        alignment = config.number("devices/default_data_alignment") << 20
    return PvOptions(
        uuid=uuid,
        restore=restore,
        metadata_copies=copies,
        metadata_size=args.size("metadatasize", config.number("metadata/pvmetadatasize") * 512),
        metadata_ignore=ignore,
        data_alignment=alignment,
        data_alignment_offset=args.size("dataalignmentoffset"),
        boot_size=args.size("bootloaderareasize"),
        size=args.size("setphysicalvolumesize"),
        zero=args.yes("zero") if args.has("zero") else None,
        label_sector=_label_sector(context),
        force=args.count("force"),
        yes=args.has("yes"),
    )


def _label_sector(context: Context) -> int:
    sector = context.args.number("labelsector", 1)
    if sector >= SCAN_SECTORS:
        raise BadCommand(f"labelsector must be less than {SCAN_SECTORS}.")
    return sector


@contextmanager
def setting_up() -> Iterator[None]:
    """Add to an error of a disk's layout that the disk could not be set up."""
    try:
        yield
    except LamellaError as error:
        fault = re.match(f"(.+): .*({'|'.join(NO_PLACE)})", error.message)
        if fault is None:
            raise
        lines = [error.message]
        if fault[2] == BAD_OFFSET:
            lines.append(f"Format-specific initialisation of physical volume {fault[1]} failed.")
        raise Failed("\n".join((*lines, f'Failed to setup physical volume "{fault[1]}".'))) from error


def disks_there(context: Context, paths: list[str]) -> list[str]:
    """Those of *paths* that may be used, which are scanned as well; reports and counts the others.

    Raises :class:`Failed` with the reports where none is left.
    """
    faults = _disk_faults(context, paths)
    usable = [path for path in paths if path not in faults]
    if not usable:
        raise Failed("\n".join(faults.values()))
    for fault in faults.values():
        context.console.fail(fault)
    scan_also(context, usable)
    return usable


def require_disks(context: Context, paths: list[str]) -> None:
    """Scan *paths* as well; ends the command with LVM2's message where one cannot be used."""
    if faults := _disk_faults(context, paths):
        lines = list(faults.values())
        if len(faults) < len(set(paths)) or not lines[0].startswith("No device"):
            lines.append("Command requires all devices to be found.")
        raise Failed("\n".join(lines))
    scan_also(context, paths)


def _disk_faults(context: Context, paths: list[str]) -> dict[str, str]:
    """What is wrong with disks that cannot be used, by path: first those that do not exist."""
    faults = {
        path: f"No device found for {path}."
        for path in paths
        if not (is_remote(path) or os.path.isfile(path) or is_block_device(path))
    }
    if context.args.has("devices"):
        named = [one for text in context.args.texts("devices") for one in text.split(",")]
        for path in paths:
            if path not in faults and not any(same_file(path, one) for one in named):
                faults[path] = f"Cannot use {path}: device is not in devices list"
    return faults


def scan_also(context: Context, paths: list[str]) -> None:
    context.extra_devices += [path for path in paths if path not in context.extra_devices]


def check_uuid_options(context: Context) -> None:
    """Raise :class:`BadCommand` where ``--uuid`` and ``--restorefile`` do not go together."""
    args = context.args
    if args.has("restorefile") and not args.has("uuid"):
        raise BadCommand("--uuid is required with --restorefile")
    required = context.config.flag("devices/require_restorefile_with_uuid")
    if args.has("uuid") and required and not args.has("restorefile") and not args.has("norestorefile"):
        raise BadCommand("--restorefile is required with --uuid")
    if args.has("uuid") and len(args.positionals) != 1:
        raise BadCommand("Can only set uuid on one volume at once")


def read_restore_file(context: Context) -> VolumeGroup | None:
    """The group in ``--restorefile``."""
    if not context.args.has("restorefile"):
        return None
    from lamella.lvm.session.backup import read_backup

    try:
        return read_backup(context.args.text("restorefile"))
    except LamellaError as error:
        path = context.args.text("restorefile")
        reason = error.message
        if not os.path.exists(path):
            reason = f"{path}: stat failed: No such file or directory"
        raise BadCommand(
            f"{reason}\nWARNING: couldn't read volume group metadata from file.\n"
            f"Failed to read VG (null) from {path}\nUnable to read volume group from {path}"
        ) from error
