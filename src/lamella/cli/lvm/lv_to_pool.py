# SPDX-License-Identifier: Apache-2.0
"""``lvconvert --type thin-pool``: make a volume a thin pool, or exchange the metadata of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.cli.lvm import pool_options
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import read_ahead
from lamella.cli.lvm.lv_sizes import named_ranges
from lamella.cli.lvm.names import volume_name, volume_to_convert
from lamella.cli.lvm.vg_options import metadata_profile

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume


def find_volume(found: FoundGroup, name: str) -> LogicalVolume:
    """The volume called *name*. Raises :class:`Failed`."""
    lv = found.group.lvs.get(name)
    if lv is None:
        raise Failed(f'Failed to find logical volume "{found.group.name}/{name}"')
    return lv


def metadata_name(context: Context, group: str) -> str:
    """The volume in the group that ``--poolmetadata`` names; "" without it. Raises :class:`BadCommand`."""
    if not context.args.has("poolmetadata"):
        return ""
    named = volume_name(context.args.text("poolmetadata"))
    if named.lv and named.vg != group:
        raise BadCommand(f'Please use a single volume group name ("{named.vg}" or "{group}").')
    return named.lv or named.vg


def to_pool(context: Context) -> None:
    """Make a volume a thin pool."""
    args = context.args
    if args.has("thinpool"):
        text, disks = args.text("thinpool"), args.positionals
    else:
        text, disks = args.positionals[0], args.positionals[1:]
    group, name = volume_to_convert(text)
    metadata = metadata_name(context, group)
    profile = metadata_profile(context) or ""
    with context.editing(group) as found:
        lv = find_volume(found, name)
        if lv.thin_pool is not None:
            if not metadata:
                raise Failed(f"LV {group}/{name} is already a thin pool.")
            swap_in(context, found, lv, metadata)
            return
        make_pool(context, found, lv, metadata, profile, disks)


def make_pool(
    context: Context, found: FoundGroup, lv: LogicalVolume, metadata: str, profile: str, disks: list[str]
) -> LogicalVolume:
    """Make *lv* the data of a thin pool, which takes its name, after asking."""
    from lamella.lvm.operations.thin_pools import convert_to_pool

    group = found.group
    request = pool_options.pool_request(context, found, profile, named_ranges(context, found, disks))
    request = replace(request, read_ahead=read_ahead(context))
    other = find_volume(found, metadata) if metadata else None
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
    return pool


def swap_in(context: Context, found: FoundGroup, pool: LogicalVolume, metadata: str) -> None:
    """Exchange the pool's metadata volume for the volume *metadata*, after asking."""
    from lamella.lvm.operations.pool_repair import swap_metadata

    full = f"{found.group.name}/{pool.name}"
    other = find_volume(found, metadata)
    volume = f"{found.group.name}/{metadata}"
    if not context.console.ask(
        f"Do you want to swap metadata of {full} pool with metadata volume {volume}? [y/n]: "
    ):
        raise Failed("Conversion aborted.")
    swap_metadata(context.session, found, pool, other)
