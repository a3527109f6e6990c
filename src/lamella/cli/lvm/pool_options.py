# SPDX-License-Identifier: Apache-2.0
"""The options, settings and profiles of thin pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.cli.lvm.lv_options import clinging, policy
from lamella.errors import LamellaError
from lamella.lvm.operations.sizes import to_extents
from lamella.lvm.operations.thin_sizes import MAX_CHUNK, MIN_CHUNK
from lamella.lvm.report.units import human

if TYPE_CHECKING:
    from lamella.cli.lvm.context import Context
    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.operations.thin_pools import PoolRequest
    from lamella.lvm.session.profile import AutoExtend


def check_pool_options(context: Context) -> None:
    """Raise :class:`BadCommand` for a chunk size or a size of metadata that no pool can have."""
    args = context.args
    chunk = args.size("chunksize") // SECTOR
    problems = []
    if args.has("poolmetadatasize") and not args.size("poolmetadatasize"):
        problems.append("--poolmetadatasize may not be zero.")
    elif args.has("chunksize"):
        shown, step = human(chunk * SECTOR), human(MIN_CHUNK * SECTOR)
        if not MIN_CHUNK <= chunk <= MAX_CHUNK:
            limit = human(MAX_CHUNK * SECTOR)
            problems.append(f"Thin pool chunk size {shown} is not in the range {step} to {limit}.")
        if chunk % MIN_CHUNK:
            problems.append(f"Thin pool chunk size {shown} must be a multiple of {step}.")
    if problems:
        raise BadCommand("\n".join(problems))


def pool_request(
    context: Context,
    found: FoundGroup,
    profile: str,
    ranges: PvRanges | None,
    stripes: tuple[int, int] = (1, 64 << 10),
) -> PoolRequest:
    """The options of a new pool: from the command line, else its profile, else the configuration.

    *stripes* is as :func:`lamella.cli.lvm.lv_options.stripe_options` has it.
    """
    from lamella.lvm.operations.thin_pools import PoolRequest
    from lamella.lvm.session.profile import with_profile

    args = context.args
    config = with_profile(context.config, profile or found.group.profile, context.profile_folders)
    chunk = args.size("chunksize", config.number("allocation/thin_pool_chunk_size") * 1024)
    if "block_size" in context.environment.disabled_thin_features and chunk & (chunk - 1):
        raise Failed("Chunk size must be a power of 2 for this thin target version.")
    metadata = 0
    if args.has("poolmetadatasize"):
        metadata = to_extents(
            args.size("poolmetadatasize"), found.group.extent_size, say=context.console.print
        )
    error_when_full = config.flag("activation/error_when_full")
    return PoolRequest(
        chunk,
        metadata,
        args.yes("zero", default=config.flag("allocation/thin_pool_zero")),
        args.text("discards") or config.text("allocation/thin_pool_discards"),
        args.yes("errorwhenfull", default=error_when_full),
        args.yes("poolmetadataspare", default=True),
        config.text("allocation/thin_pool_chunk_size_policy"),
        config.flag("allocation/thin_pool_crop_metadata"),
        policy(context),
        ranges,
        args.tags("addtag") if args.has("addtag") else (),
        profile,
        *stripes,
        args.yes("setautoactivation", default=True),
        config.flag("allocation/zero_metadata"),
        config.flag("allocation/thin_pool_metadata_require_separate_pvs"),
        clinging=clinging(context),
    )


def leave_room(context: Context, found: FoundGroup, extents: int, request: PoolRequest) -> int:
    """Extents for data where all free space is asked for: what metadata and its spare leave.

    What there is to say about the sizes is said when the pool is made, or with the error here.
    """
    said: list[Notice] = []
    try:
        taken = 2 * request.sizes(found.group, extents, said.append).metadata_extents
    except LamellaError:
        context.console.notices(said)
        raise
    if extents <= taken:
        raise Failed("Not enough space for thin pool creation.")
    return extents - taken


def auto_extend(context: Context, found: FoundGroup, pool: LogicalVolume) -> AutoExtend:
    """When and by how much a pool is extended by policy."""
    from lamella.lvm.session.profile import auto_extend as of_profile

    return of_profile(context.config, pool.profile or found.group.profile, context.profile_folders)


def check_room(context: Context, found: FoundGroup, pool_lv: LogicalVolume) -> None:
    """Refuse a new volume in a pool that is too full by the policy for its extension."""
    from lamella.lvm.operations.pool_resize import metadata_threshold
    from lamella.lvm.operations.thin_messages import pool_status

    if context.test:
        return
    pool, status = pool_lv.thin_pool, pool_status(context.session, found, pool_lv)
    if pool is None or status is None or not status.total_data or not status.total_metadata:
        return
    threshold = auto_extend(context, found, pool_lv).threshold
    metadata = metadata_threshold(found.group.lvs[pool.metadata].extents, found.group.extent_sectors)
    # A pool that has grown takes note of its size when it is next opened for writing.
    chunks = pool_lv.extents * found.group.extent_sectors // pool.chunk_sectors
    data_used = 100 * status.used_data / max(status.total_data, chunks)
    metadata_used = 100 * status.used_metadata / status.total_metadata
    if data_used > threshold or data_used >= 100 or metadata_used > threshold or metadata_used >= metadata:
        raise Failed(
            "Cannot create new thin volume, free space in thin pool "
            f"{found.group.name}/{pool_lv.name} reached threshold."
        )


def overprovisioning(context: Context, found: FoundGroup, lv: LogicalVolume | None) -> list[Notice]:
    """LVM2's warnings when thin volumes promise more than there is."""
    if not any(one.thin_pool is not None for one in found.group.lvs.values()):
        return []
    from lamella.lvm.operations.thin_volumes import overprovisioning as of_group

    def settings(pool: LogicalVolume) -> tuple[int, int]:
        found_settings = auto_extend(context, found, pool)
        return found_settings.threshold, found_settings.percent

    return of_group(found.group, lv, settings)
