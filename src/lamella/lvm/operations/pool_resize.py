# SPDX-License-Identifier: Apache-2.0
"""Extend thin pools: to sizes that are given, or by the policy of their profile.

Functions that take a session work inside :meth:`lamella.lvm.session.session.Session.editing` and commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella import logs
from lamella.block.device import SECTOR
from lamella.errors import NoSpaceError, UsageError
from lamella.lvm.operations.allocation import CLINGING
from lamella.lvm.operations.logical_volumes import require_simple
from lamella.lvm.operations.lv_changes import users_of_pool
from lamella.lvm.operations.lv_resize import GrowRequest, grow_extents
from lamella.lvm.operations.pool_spare import ensure_spare
from lamella.lvm.operations.thin_sizes import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.session.session import Session

log = logs.logger(__name__)


def resize_pool(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    *,
    data_extents: int | None = None,
    metadata_extents: int | None = None,
    request: GrowRequest | None = None,
    spare: bool = True,
    grown: Callable[[LogicalVolume, int], None] = lambda part, before: None,
) -> bool:
    """Extend a pool's data and metadata to these totals; returns whether anything changed.

    Metadata is extended along with data where its size no longer suffices, unless sizes or disks were named.
    The engine, or the kernel, reads the new sizes when the pool is next opened. *grown* is called with each
    part that was extended and its extents before. Without room for a longer spare, metadata grows alone.
    """
    group = found.group
    segment = group.pool_segment(pool_lv)
    data, metadata = group.lvs[segment.data], group.lvs[segment.metadata]
    full = f"{group.name}/{pool_lv.name}"
    for part, wanted in ((data, data_extents), (metadata, metadata_extents)):
        if wanted is not None and wanted < part.extents:
            raise UsageError(
                f"Thin pool volumes {group.name}/{part.name} cannot be reduced in size yet.",
                hint=f"{full} can only grow",
            )
        require_simple(group, part, "resize")
    if data_extents is not None and metadata_extents is None and (request is None or request.ranges is None):
        needed = estimate(data_extents, group.extent_sectors, segment.chunk_sectors)
        if needed > metadata.extents * group.extent_sectors:
            metadata_extents = -(-needed // group.extent_sectors)
    longer = metadata_extents is not None and metadata_extents > metadata.extents
    if longer and "metadata_resize" in session.environment.disabled_thin_features:
        raise UsageError(
            f"Support for online metadata resize of {group.name}/{metadata.name} not detected.",
            hint="global/thin_disabled_features has metadata_resize",
        )
    changed = False
    log.info(
        "thin pool %s: data %d to %s extents, metadata %d to %s extents",
        full,
        data.extents,
        data_extents or "as many",
        metadata.extents,
        metadata_extents or "as many",
    )
    if metadata_extents is not None and metadata_extents > metadata.extents:
        before = metadata.extents
        grow_extents(group, metadata, metadata_extents - before, request)
        grown(metadata, before)
        # As in LVM2, the spare stays as it is where disks were named.
        if request is None or request.ranges is None:
            clinging = request.clinging if request is not None else CLINGING
            try:
                ensure_spare(session, found, 0, None, wanted=spare, clinging=clinging)
            except NoSpaceError as error:
                session.note("spare", error.message)
        session.commit(found, users_of_pool(group, pool_lv))
        changed = True
    if data_extents is not None and data_extents > data.extents:
        before = data.extents
        grow_extents(group, data, data_extents - before, request)
        grown(data, before)
        segment.extent_count = data.extents
        session.commit(found, users_of_pool(group, pool_lv))
        changed = True
    return changed


def policy_growth(used: int, total: int, threshold: int, percent: int) -> int:
    """By how many per cent ``--use-policies`` extends something that is *used* of *total* full (0: not at
    all).

    The larger of *percent* and what brings it below *threshold* per cent again. As in LVM2, a threshold
    below 50 counts as 50, and 100 disables the policy.
    """
    threshold = max(threshold, 50)
    unit = 1_000_000
    share = used * 100 * unit // total if total else 0
    if threshold >= 100 or share <= 50 * unit or share <= threshold * unit:
        return 0
    step = threshold * unit // 100
    return max(percent, -(-share // step) - 100)


def metadata_threshold(metadata_extents: int, extent_sectors: int) -> int:
    """Per cent of a pool's metadata that may be used before LVM refuses new volumes in it."""
    size = metadata_extents * extent_sectors * SECTOR
    least_free = min(4 << 20, size // 4)
    return 100 - -(-least_free * 100 // max(size, 1))


def grow_by_policy(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    *,
    used_data: tuple[int, int],
    used_metadata: tuple[int, int],
    threshold: int,
    percent: int,
    request: GrowRequest | None = None,
    grown: Callable[[LogicalVolume, int], None] = lambda part, before: None,
) -> bool:
    """``lvextend --use-policies``: extend what is too full. Each pair is (used, total), in any unit."""
    group = found.group
    segment = pool_lv.thin_pool
    if segment is None:
        raise UsageError(
            "Policy-based resize is supported only for snapshot, thin pool and vdo pool volumes.",
            hint="name the pool",
        )
    if threshold < 50:
        said = f"WARNING: Thin pool autoextend threshold {threshold}% is set below minimum supported 50%."
        session.note("thin", said)
    if max(threshold, 50) < 100 and not percent:
        raise UsageError(
            f"Can't extend {group.name}/{pool_lv.name} with thin-pool autoextend percent set to 0%.",
            hint="set activation/thin_pool_autoextend_percent",
        )
    data, metadata = group.lvs[segment.data], group.lvs[segment.metadata]
    data_growth = policy_growth(*used_data, threshold, percent)
    least = min(metadata_threshold(metadata.extents, group.extent_sectors), max(threshold, 50))
    metadata_growth = policy_growth(*used_metadata, least if threshold < 100 else 100, percent)
    if metadata_growth:
        metadata_growth += 1
    if not data_growth and not metadata_growth:
        return False
    return resize_pool(
        session,
        found,
        pool_lv,
        data_extents=data.extents + -(-data.extents * data_growth // 100) if data_growth else None,
        metadata_extents=metadata.extents + -(-metadata.extents * metadata_growth // 100)
        if metadata_growth
        else None,
        request=request,
        grown=grown,
    )
