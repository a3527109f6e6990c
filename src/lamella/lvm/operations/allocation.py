# SPDX-License-Identifier: Apache-2.0
"""Which extents a volume gets: LVM2's policies, giving the same layout as LVM2 for the same request.

The policies are tried from the strictest to the one asked for: *contiguous* (behind the volume's
last extent, or one run), *cling* (on disks that the volume is on already), *cling by tags* (on disks
that share a tag with those), *normal* (anywhere, parallel areas on different disks), *anywhere*.
What a policy finds is kept, and the next one goes on from there. (lib/metadata/lv_manip.c, pv_map.c)

All lengths and places are in extents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lamella import logs
from lamella.errors import UsageError
from lamella.lvm.operations.allocation_search import ORDER, Search
from lamella.lvm.operations.free_space import free_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.allocation_result import Allocation

log = logs.logger(__name__)


class Clinging(NamedTuple):
    """What LVM2's settings say about disks that belong together."""

    tags: tuple[str, ...] = ()
    """Tags ("@site", "@*") that hold disks together (``allocation/cling_tag_list``)."""
    maximise: bool = True
    """Stay on disks that are used already as long as there is room (``allocation/maximise_cling``)."""


CLINGING = Clinging()
"""The defaults."""


def allocate(
    group: VolumeGroup,
    extents: int,
    *,
    stripes: int = 1,
    policy: str = "",
    ranges: Sequence[tuple[PhysicalVolume, Sequence[tuple[int, int]] | None]] | None = None,
    volume: LogicalVolume | None = None,
    metadata_extents: int = 0,
    approximate: bool = False,
    clinging: Clinging = CLINGING,
    separate_metadata: bool = False,
    parallel: Sequence[tuple[int, Sequence[PhysicalVolume]]] = (),
    name: str = "",
) -> Allocation:
    """Find *extents* more for *volume* (None: a new one, called *name*).

    Parameters: *stripes*, parallel areas, which *extents* must be a multiple of; *policy*, one of
    LVM's or "" for the group's; *ranges*, the disks that may be used, each with (first extent, count)
    pairs or None for all of it; *metadata_extents*, length of a pool's metadata, found on another
    disk where there is one; *approximate*, take less if there is not enough; *clinging*, what holds disks
    together; *parallel*, (extents, disks) one after another: no run reaches from one of these parts into the
    next, and until *anywhere* is tried the part is kept off those disks.

    Nothing is changed: the caller adds the segments. Raises :class:`NoSpaceError` with LVM2's message.
    """
    name = volume.name if volume is not None else name
    policy = policy if policy not in ("", "inherit") else group.policy
    if policy not in ORDER:
        raise UsageError(f"{policy!r} is not an allocation policy", hint="one of " + ", ".join(ORDER))
    if stripes > 1 and extents % stripes:
        raise UsageError(
            f"Number of extents requested ({extents}) needs to be divisible by {stripes}.",
            hint="round the size to a multiple of the stripes",
        )
    search = Search(
        spaces=free_space(group, ranges),
        volume=volume if volume is not None and volume.segments else None,
        needed=extents,
        stripes=stripes,
        metadata_needed=metadata_extents,
        cling_tags=tuple(tag[1:] for tag in clinging.tags if tag.startswith("@") and len(tag) > 1),
        maximise_cling=clinging.maximise,
        separate_metadata=separate_metadata,
        parallel=tuple(parallel),
        can_split=policy != "contiguous",
        approximate=approximate,
    )
    result = search.run(policy, name)
    if log.debugging:
        log.debug("%d extents by policy %s: %s", extents, policy, result.stripes)
    return result
