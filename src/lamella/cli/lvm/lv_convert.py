# SPDX-License-Identifier: Apache-2.0
"""``lvconvert``: make thin pools of volumes, replace a pool's metadata, and repair pools."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import read_ahead
from lamella.cli.lvm.lv_sizes import named_ranges
from lamella.cli.lvm.names import volume_name, volume_to_convert
from lamella.cli.lvm.processing import each_chosen
from lamella.cli.lvm.targets import choose_volumes, volumes_of
from lamella.cli.lvm.vg_options import metadata_profile
from lamella.errors import LamellaError, UnsupportedError
from lamella.lvm.format.names import dm_name
from lamella.lvm.operations.pool_spare import spare_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block.device import BlockDevice
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
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
        _merge(context)
    elif kind == "thin-pool" or (args.has("thinpool") and not args.has("thin") and kind != "thin"):
        _to_pool(context)
    elif kind == "thin" or args.has("thin"):
        raise UnsupportedError(
            "Lamella does not convert a volume in use into a thin one.",
            hint="lvchange -pr it and make a snapshot: lvcreate -s --thinpool VG/POOL VG/LV",
        )
    else:
        what = f"to type {kind}" if kind else "in this way"
        raise UnsupportedError(
            f"Lamella does not convert logical volumes {what}.",
            hint="it makes thin pools, swaps their metadata and repairs them; LVM2 does the rest",
        )


def _find(found: FoundGroup, name: str) -> LogicalVolume:
    lv = found.group.lvs.get(name)
    if lv is None:
        raise Failed(f'Failed to find logical volume "{found.group.name}/{name}"')
    return lv


def _metadata_name(context: Context, group: str) -> str:
    if not context.args.has("poolmetadata"):
        return ""
    named = volume_name(context.args.text("poolmetadata"))
    if named.lv and named.vg != group:
        raise BadCommand(f'Please use a single volume group name ("{named.vg}" or "{group}").')
    return named.lv or named.vg


def _to_pool(context: Context) -> None:
    args = context.args
    if args.has("thinpool"):
        text, disks = args.text("thinpool"), args.positionals
    else:
        text, disks = args.positionals[0], args.positionals[1:]
    group, name = volume_to_convert(text)
    metadata = _metadata_name(context, group)
    profile = metadata_profile(context) or ""
    with context.editing(group) as found:
        lv = _find(found, name)
        if lv.thin_pool is not None:
            if not metadata:
                raise Failed(f"LV {group}/{name} is already a thin pool.")
            _swap_in(context, found, lv, metadata)
            return
        _convert(context, found, lv, metadata, profile, disks)


def _convert(
    context: Context, found: FoundGroup, lv: LogicalVolume, metadata: str, profile: str, disks: list[str]
) -> None:
    from lamella.lvm.operations.thin_pools import convert_to_pool

    group = found.group
    request = pool_options.pool_request(context, found, profile, named_ranges(context, found, disks))
    request = replace(request, read_ahead=read_ahead(context))
    other = _find(found, metadata) if metadata else None
    full = f"{group.name}/{lv.name}"
    both = f"{full} and {group.name}/{metadata}" if metadata else full

    def agree() -> None:
        target = "thin pool's data and metadata volumes" if metadata else "thin pool's data volume"
        context.console.warn(f"WARNING: Converting {both} to {target} with metadata wiping.")
        context.console.warn("THIS WILL DESTROY CONTENT OF LOGICAL VOLUME (filesystem etc.)")
        if not context.console.ask(f"Do you really want to convert {both}? [y/n]: "):
            raise Failed("Conversion aborted.")

    pool = convert_to_pool(context.session, found, lv, other, request, agree=agree)
    context.console.notices(pool_options.overprovisioning(context, found, pool))
    context.console.print(f"Converted {both} to thin pool.")


def _swap(context: Context) -> None:
    group, name = volume_to_convert(context.args.positionals[0])
    metadata = _metadata_name(context, group)
    with context.editing(group) as found:
        _swap_in(context, found, _find(found, name), metadata)


def _swap_in(context: Context, found: FoundGroup, pool: LogicalVolume, metadata: str) -> None:
    from lamella.lvm.operations.pool_repair import swap_metadata

    full = f"{found.group.name}/{pool.name}"
    other = _find(found, metadata)
    volume = f"{found.group.name}/{metadata}"
    if not context.console.ask(
        f"Do you want to swap metadata of {full} pool with metadata volume {volume}? [y/n]: "
    ):
        raise Failed("Conversion aborted.")
    swap_metadata(context.session, found, pool, other)


def _merge(context: Context) -> None:
    """``--merge``: thin snapshots take the place of their origins."""
    args = context.args
    if args.has("mergethin"):
        for text in args.positionals:
            if not text.startswith("@"):
                volume_to_convert(text)
    for chosen in each_chosen(context, choose_volumes(context, args.positionals)):
        names = [lv.name for lv in volumes_of(context, chosen)]
        if not names:
            continue
        with context.editing(chosen.found.group.name) as found:
            for name in names:
                if name in found.group.lvs:
                    _merge_one(context, found, found.group.lvs[name])


def _merge_one(context: Context, found: FoundGroup, lv: LogicalVolume) -> None:
    from lamella.lvm.operations.thin_volumes import merge_snapshot

    full = f"{found.group.name}/{lv.name}"
    try:
        if lv.thin_pool is not None or (lv.thin is None and context.args.has("mergethin")):
            kind = "thinpool" if lv.thin_pool is not None else "linear"
            raise Failed(
                f"Command on LV {full} does not accept LV type {kind}.\nCommand not permitted on LV {full}."
            )
        if lv.thin is None:
            raise Failed(f"{full} cannot be merged because --trackchanges was not used.")
        origin = merge_snapshot(context.session, found, lv)
    except LamellaError as error:
        context.console.fail_with(error)
        return
    context.console.print(f"Volume {full} replaced origin {found.group.name}/{origin.name}.")


def _repair(context: Context) -> None:
    from lamella.lvm.operations.pool_repair import repair_pool

    group, name = volume_to_convert(context.args.positionals[0])
    with context.editing(group) as found:
        lv = _find(found, name)
        full = f"{group}/{name}"
        if lv.thin_pool is None:
            raise Failed(
                f"Command on LV {full} does not accept LV type {lv.kind}.\n"
                f"Command not permitted on LV {full}."
            )
        repair_pool(context.session, found, lv, _repairer(context, found.group, lv, lv.thin_pool))


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
