# SPDX-License-Identifier: Apache-2.0
"""``pvck``: the headers and texts on one disk, as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.context import Failed, open_disk
from lamella.errors import LamellaError, UnsupportedError

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context


def pvck(context: Context) -> None:
    """Say what labels and areas there are, or with ``--dump`` print them."""
    args = context.args
    if args.has("repair") or args.has("repairtype"):
        raise UnsupportedError(
            "pvck repairs nothing here.",
            hint="use vgck --updatemetadata, or pvcreate --restorefile and vgcfgrestore from a backup",
        )
    if args.has("dump"):
        from lamella.lvm.format.dump import dump

        dump(context, args.positionals[0])
        return
    for path in args.positionals:
        _labels(context, path)


def _labels(context: Context, path: str) -> None:
    from lamella.lvm.disks.disk import Disk

    try:
        disk = Disk.open(path, open_disk)
    except LamellaError:
        context.warn(f"Cannot use {path}: device not found.")
        return
    try:
        context.notices(disk.notices)
        if disk.label is None:
            raise Failed(f"Could not find LVM label on {path}")
        context.print(f"Found label on {path}, sector {disk.label.sector}, type=LVM2 001")
        for copy in disk.copies:
            context.print(f"Found text metadata area: offset={copy.start}, size={copy.size}")
    finally:
        disk.close()
