# SPDX-License-Identifier: Apache-2.0
"""Extend and reduce linear, striped and thin volumes.

:func:`resize_lv` works inside :meth:`lamella.lvm.session.session.Session.editing` and commits, the others
do not commit. Sizes are extents where named so, else bytes. Messages are LVM2's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, NoSpaceError, UsageError
from lamella.lvm.format.segments import VIRTUAL_TYPES, Segment, StripedSegment, merged
from lamella.lvm.operations.allocation import CLINGING, Clinging, allocate
from lamella.lvm.operations.extent_ranges import free_in
from lamella.lvm.operations.logical_volumes import DEFAULT_STRIPE, require_simple

if TYPE_CHECKING:
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.segments import ThinSegment
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session


@dataclass(frozen=True, slots=True)
class GrowRequest:
    """How to find further extents; 0 stripes means "as the last segment has them"."""

    stripes: int = 0
    stripe_size: int = 0
    policy: str = ""
    ranges: PvRanges | None = None
    approximate: bool = False
    clinging: Clinging = CLINGING
    kind: str = ""
    """Segment type of what is added; "" for that of the last segment."""


def grow_extents(
    group: VolumeGroup, lv: LogicalVolume, extents: int, request: GrowRequest | None = None
) -> int:
    """Add *extents* to a linear, striped or virtual volume; returns how many it got. Does not commit."""
    request = request or GrowRequest()
    last = lv.segments[-1]
    kind = request.kind or last.kind
    if kind in VIRTUAL_TYPES:
        if kind == last.kind:
            last.extent_count += extents
        else:
            lv.segments.append(Segment(kind, lv.extents, extents))
        return extents
    shapes = {
        (len(each.mapped), each.stripe_size) for each in lv.segments if isinstance(each, StripedSegment)
    }
    if (not request.stripes and len({count for count, _size in shapes}) > 1) or (
        not request.stripe_size and len({size for _count, size in shapes if size}) > 1
    ):
        raise UsageError(
            "Please specify number of stripes (-i) and stripesize (-I)",
            hint="the volume's segments differ in these",
        )
    stripes = request.stripes or max(len(last.areas()), 1)
    stripe_size = 0
    if stripes > 1:
        own = last.stripe_size * SECTOR if isinstance(last, StripedSegment) else 0
        stripe_size = min(request.stripe_size or own or DEFAULT_STRIPE, group.extent_size)
        if stripe_size & (stripe_size - 1):
            raise UsageError("Stripe size must be power of 2.", hint="give another --stripesize")
    free = free_in(group, request.ranges)
    if not request.approximate and free < extents:
        raise NoSpaceError(
            f"Insufficient free space: {extents} extents needed, but only {free} available",
            hint="ask for less, or add a physical volume with vgextend",
        )
    result = allocate(
        group,
        extents,
        stripes=stripes,
        policy=request.policy or lv.allocation_policy,
        ranges=request.ranges,
        volume=lv,
        approximate=request.approximate,
        clinging=request.clinging,
    )
    lv.segments = merged([*lv.segments, *result.segments(lv.extents, stripe_size // SECTOR)])
    return result.extents


def shrink_extents(lv: LogicalVolume, extents: int) -> None:
    """Remove *extents* from the end of a linear or striped volume. Does not commit."""
    left = extents
    while left:
        last = lv.segments[-1]
        if last.extent_count <= left:
            left -= last.extent_count
            lv.segments.pop()
            continue
        stripes = max(len(last.mapped), 1)
        if left % stripes:
            raise UsageError(
                f"Segment extent reduction {left} not divisible by #stripes {stripes}",
                hint="round the size to a multiple of the stripes",
            )
        last.extent_count -= left
        left = 0


def check_resizable(group: VolumeGroup, lv: LogicalVolume) -> None:
    """Raise LVM2's errors for a volume that is not to be resized."""
    for user, segment, role in group.users().get(lv.name, ()):
        if role == "external_origin":
            raise BusyError(
                f"Cannot resize external origin logical volume {group.name}/{lv.name}.",
                hint=f"the thin volume {user.name} reads from it",
            )
        if segment.kind == "thin-pool" and role in ("metadata", "pool"):
            raise UsageError(
                f"Can't resize internal logical volume {group.name}/{lv.name}.",
                hint=f"resize the pool {group.name}/{user.name}",
            )
    if not group.is_visible(lv):
        raise UsageError(
            f"Can't resize internal logical volume {group.name}/{lv.name}.",
            hint="lvs -a shows what it is for",
        )
    if "LOCKED" in lv.status:
        raise BusyError(f"Can't resize locked logical volume {group.name}/{lv.name}.", hint="finish pvmove")


def _check_external_origin(session: Session, group: VolumeGroup, thin: ThinSegment, extents: int) -> None:
    origin = group.lvs.get(thin.external_origin)
    if origin is None or extents <= max(origin.extents, thin.extent_count):
        return
    if "external_origin_extend" in session.environment.disabled_thin_features:
        raise UsageError(
            "Thin target does not support external origin smaller then thin volume.",
            hint="global/thin_disabled_features has external_origin_extend",
        )


def resize_lv(
    session: Session, found: FoundGroup, lv: LogicalVolume, extents: int, request: GrowRequest | None = None
) -> int:
    """Make a linear, striped or thin volume *extents* long; returns its length now.

    A thin pool is resized with :func:`lamella.lvm.operations.pool_resize.resize_pool`. What lies after the
    new end is lost; the caller has made sure that nothing is needed.
    """
    group = found.group
    check_resizable(group, lv)
    if extents <= 0:
        raise UsageError("New size of 0 not permitted.", hint="lvremove removes it")
    now = lv.extents
    if extents == now:
        return now
    thin = lv.thin
    if thin is not None:
        _check_external_origin(session, group, thin, extents)
        thin.extent_count = extents
    else:
        require_simple(group, lv, "resize", virtual_ok=True)
        if extents > now:
            grow_extents(group, lv, extents - now, request)
        else:
            shrink_extents(lv, now - extents)
    session.commit(found, [lv.name])
    return lv.extents
