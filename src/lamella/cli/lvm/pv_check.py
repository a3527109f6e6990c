# SPDX-License-Identifier: Apache-2.0
"""``pvck``: the headers and texts on a disk, as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import Failed
from lamella.cli.lvm.pv_repair import repair
from lamella.errors import LamellaError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def pvck(context: Context) -> None:
    """Report labels and metadata areas, or with ``--dump`` print their content."""
    args = context.args
    if args.has("repair") or args.has("repairtype"):
        repair(context, args.positionals[0])
        return
    if args.has("dump"):
        _dump(context, args.positionals[0])
        return
    for path in args.positionals:
        _labels(context, path)


def _dump(context: Context, path: str) -> None:
    """Print what ``--dump`` asks for; its content goes to ``--file`` where that is given."""
    from lamella.lvm.disks.disk import open_file
    from lamella.lvm.format.dump import dump, parse_settings

    args, what = context.args, context.args.text("dump")
    settings = parse_settings(args.text("settings"))
    if args.has("pvmetadatacopies"):
        if not args.number("pvmetadatacopies"):
            return
        settings["mda_num"] = args.number("pvmetadatacopies")
    try:
        device = open_file(path, True)
    except LamellaError as error:
        raise Failed(f"Cannot access {path}.") from error
    with device:
        content = dump(device, what, settings, context.console.print, _sector(context))
    if content is None:
        return
    if args.has("file"):
        _write(args.text("file"), content)
    elif what in ("metadata", "metadata_area"):
        text = content.decode("utf-8", "replace")
        if what == "metadata":
            context.console.print("---")
        sys.stdout.write(text)
        if what == "metadata":
            context.console.print("---")


def _write(path: str, content: bytes) -> None:
    try:
        with open(path, "xb") as stream:
            stream.write(content)
    except OSError as error:
        raise Failed(f"Failed to write {path}: {error.strerror}") from error


def _sector(context: Context) -> int | None:
    return context.args.number("labelsector") if context.args.has("labelsector") else None


def _labels(context: Context, path: str) -> None:
    from lamella.lvm.disks.disk import Disk
    from lamella.lvm.format.dump import show_label_problems

    try:
        disk = Disk.open(path)
    except LamellaError as error:
        raise Failed(f"Cannot access device {path}.") from error
    try:
        context.console.notices(disk.notices)
        sector = _sector(context)
        if disk.label is None or sector not in (None, disk.label.sector):
            show_label_problems(disk.reader, context.console.print, sector)
            raise Failed(f"Could not find LVM label on {path}")
        context.console.print(f"Found label on {path}, sector {disk.label.sector}, type=LVM2 001")
        for copy in disk.copies:
            context.console.print(f"Found text metadata area: offset={copy.start}, size={copy.size}")
    finally:
        disk.close()
