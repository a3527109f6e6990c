# SPDX-License-Identifier: Apache-2.0
"""``lvconvert``: make volumes thin, thin pools of volumes, replace a pool's metadata, and repair pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import other_kind
from lamella.cli.lvm.lv_merge import merge
from lamella.cli.lvm.lv_options import clinging
from lamella.cli.lvm.lv_to_pool import find_volume, metadata_name, swap_in, to_pool
from lamella.cli.lvm.lv_to_thin import to_thin
from lamella.cli.lvm.names import require_group, volume_to_convert
from lamella.errors import UnsupportedError
from lamella.lvm.format.names import dm_name
from lamella.lvm.operations.pool_spare import spare_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block.device import BlockDevice
    from lamella.cli.lvm.context import Context
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.segments import ThinPoolSegment


def lvconvert(context: Context) -> None:
    """Carry out the conversions that Lamella supports, and refuse the others."""
    args = context.args
    kind = args.text("type")
    if args.has("repair"):
        _repair(context)
    elif args.has("swapmetadata"):
        _swap(context)
    elif args.has("merge") or args.has("mergethin"):
        merge(context)
    elif kind == "thin-pool" or (args.has("thinpool") and not args.has("thin") and kind != "thin"):
        to_pool(context)
    elif kind == "thin" or args.has("thin"):
        to_thin(context)
    else:
        what = f"to type {kind}" if kind else "in this way"
        if args.has("startpoll") or not (
            args.variant is None or args.variant.required or args.variant.any_of
        ):
            _wait(context)
        raise UnsupportedError(
            f"Lamella does not convert logical volumes {what}.",
            hint="it makes thin pools, swaps their metadata and repairs them; LVM2 does the rest",
        )


def _wait(context: Context) -> None:
    """``lvconvert LV``, which waits for a mirror. Raises :class:`Failed` for a volume that is none."""
    group, name = volume_to_convert(context.args.positionals[0])
    found = require_group(context.session, group)
    lv = find_volume(found, name)
    kind = "thinpool" if lv.thin_pool is not None else lv.kind
    if kind in ("linear", "striped", "thin", "thinpool"):
        raise other_kind(f"{group}/{name}", kind)


def _swap(context: Context) -> None:
    group, name = volume_to_convert(context.args.positionals[0])
    metadata = metadata_name(context, group)
    with context.editing(group) as found:
        swap_in(context, found, find_volume(found, name), metadata)


def _repair(context: Context) -> None:
    from lamella.lvm.operations.pool_repair import repair_pool

    group, name = volume_to_convert(context.args.positionals[0])
    with context.editing(group) as found:
        lv = find_volume(found, name)
        full = f"{group}/{name}"
        if lv.thin_pool is None:
            raise other_kind(full, lv.kind)
        repairer = _repairer(context, found.group, lv, lv.thin_pool)
        repair_pool(context.session, found, lv, repairer, clinging(context))


def _repairer(
    context: Context, group: VolumeGroup, lv: LogicalVolume, pool: ThinPoolSegment
) -> Callable[[BlockDevice, BlockDevice], None]:
    """A function that writes what can be read of a pool's metadata to another volume.

    The values of the metadata's own superblock are preferred; if that is lost, the group has most of them.
    """

    def run(damaged: BlockDevice, target: BlockDevice) -> None:
        from lamella.thin.tools.header import Overrides
        from lamella.thin.tools.repair import repair

        full, wanted = f"{group.name}/{lv.name}", pool.transaction_id
        chunks = group.lvs[pool.data].extents * group.extent_sectors // pool.chunk_sectors
        # An id of 0 says that another program than LVM counts; with messages unsent the pool is behind.
        known = wanted and not pool.messages
        fallback = Overrides(wanted if known else None, pool.chunk_sectors, chunks)
        lost = not any(damaged.read(0, min(4096, damaged.size)))
        volumes = {
            thin.thin.device_id: thin.name
            for thin in group.thin_volumes(lv)
            if thin.thin is not None and ("create", thin.name) not in pool.messages
        }
        report = repair(damaged, target, fallback=fallback, expected=volumes)
        for outcome in report.incomplete:
            context.console.warn(f"WARNING: {outcome}.")
        saved = {outcome.dev_id for outcome in report.devices}
        for device_id, name in volumes.items():
            if device_id not in saved:
                context.console.warn(
                    f"WARNING: thin device {device_id}, volume {group.name}/{name}, is lost."
                )
        own = report.header.transaction_id
        if lost and known and own == wanted:
            context.console.warn(
                f"WARNING: The superblock of pool {full} is lost: its transaction id, {own}, is that of the "
                "volume group."
            )
        behind = wanted - bool(pool.messages)
        # As LVM2 2.03.16, which lets the metadata be one ahead (tools/lvconvert.c).
        if wanted and own not in (behind, wanted, wanted + 1):
            spare = spare_of(group)
            path = f"/dev/mapper/{dm_name(group.name, spare.name)}" if spare is not None else target.name
            context.console.warn(
                f'Transaction id {wanted} from pool "{full}" does not match repaired transaction id {own} '
                f"from {path}."
            )

    return run
