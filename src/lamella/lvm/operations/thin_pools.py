# SPDX-License-Identifier: Apache-2.0
"""Create thin pools, or convert volumes into them.

Every function works inside :meth:`lamella.lvm.session.session.Session.editing` and commits as often, and in
the order, that LVM2 does. The volumes in a pool: :mod:`lamella.lvm.operations.thin_volumes`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, UsageError
from lamella.lvm.format.model import VISIBLE, WRITE, LogicalVolume
from lamella.lvm.format.segments import VIRTUAL_TYPES, Area, StripedSegment, ThinPoolSegment, merged
from lamella.lvm.operations.allocation import CLINGING, Clinging, allocate
from lamella.lvm.operations.logical_volumes import (
    check_disks,
    check_free,
    check_length,
    check_new_name,
    check_volume_count,
    free_name,
    new_lv,
    removed_on_error,
    require_simple,
)
from lamella.lvm.operations.lv_wipe import clear_lv
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.lvm.operations.pool_spare import ensure_spare
from lamella.lvm.operations.thin_sizes import PoolSizes, pool_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.lvm.disks.notice import Notice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import VolumeGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """Options of a thin pool; 0 leaves sizes to LVM's rules. ``chunk_size`` in bytes."""

    chunk_size: int = 0
    metadata_extents: int = 0
    zero: bool = True
    discards: str = "passdown"
    error_when_full: bool = False
    spare: bool = True
    """Keep a spare volume for the repair of metadata (``--poolmetadataspare``)."""
    chunk_policy: str = "generic"
    crop_metadata: bool = False
    policy: str = ""
    ranges: PvRanges | None = None
    tags: Sequence[str] = ()
    profile: str = ""
    stripes: int = 1
    stripe_size: int = 64 << 10
    autoactivation: bool = True
    zero_metadata: bool = True
    separate_metadata: bool = False
    activate: bool = True
    """Activate it, where the session has an activator."""
    read_ahead: int | None = None
    """Sectors; None is auto, 0 none."""
    activation_skip: bool = False
    clinging: Clinging = CLINGING

    def sizes(
        self,
        group: VolumeGroup,
        data_extents: int,
        say: Callable[[Notice], None],
        metadata: LogicalVolume | None = None,
    ) -> PoolSizes:
        """The sizes of a pool with *data_extents* and, where it exists already, this *metadata* volume."""
        return pool_sizes(
            data_extents,
            group.extent_sectors,
            say,
            chunk_sectors=self.chunk_size // SECTOR,
            metadata_extents=metadata.extents if metadata is not None else self.metadata_extents,
            existing_metadata=f"{group.name}/{metadata.name}" if metadata is not None else "",
            chunk_policy=self.chunk_policy,
            crop=self.crop_metadata,
            zero=self.zero,
        )


def create_pool(
    session: Session, found: FoundGroup, name: str, extents: int, request: PoolRequest | None = None
) -> LogicalVolume:
    """A new thin pool with *extents* of data; *name* "" for the next ``lvolN``."""
    request = request or PoolRequest()
    group = found.group
    if name:
        check_new_name(group, name)
    check_volume_count(group)
    sizes = request.sizes(group, extents, session.say)
    check_length(group, f"{name or free_name(group)}_tmeta")
    spare = ensure_spare(
        session,
        found,
        sizes.metadata_extents,
        request.ranges,
        wanted=request.spare,
        clinging=request.clinging,
    )
    name = name or free_name(group)
    # LVM too makes the spare first, and removes a new one again if there is no room for the pool.
    with removed_on_error(session, found, spare) if spare is not None else nullcontext():
        check_disks(group, request.stripes, request.policy, request.ranges)
        check_free(group, extents)
        result = allocate(
            group,
            extents,
            stripes=request.stripes,
            policy=request.policy,
            ranges=request.ranges,
            metadata_extents=sizes.metadata_extents,
            separate_metadata=request.separate_metadata,
            clinging=request.clinging,
            name=name,
        )
    assert result.metadata is not None
    pool_lv = new_lv(session, name)
    pool_lv.allocation_policy = "" if request.policy == "inherit" else request.policy
    pool_lv.read_ahead = request.read_ahead
    pool_lv.flags = ["ACTIVATION_SKIP"] * request.activation_skip
    change_tags(pool_lv.tags, request.tags, ())
    metadata = new_lv(session, f"{name}_tmeta", visible=False)
    metadata.segments = [_linear(result.metadata.pv, result.metadata.start, sizes.metadata_extents)]
    # As LVM does it: the metadata's extents are written down and cleared before the pool exists.
    pool_lv.segments = metadata.segments
    group.lvs[name] = pool_lv
    session.commit(found, ())
    with removed_on_error(session, found, pool_lv):
        clear_lv(session, found, pool_lv, whole=request.zero_metadata)
    group.lvs[metadata.name] = metadata
    data = new_lv(session, f"{name}_tdata", visible=False)
    data.segments = merged(result.segments(0, request.stripe_size // SECTOR if request.stripes > 1 else 0))
    group.lvs[data.name] = data
    _make_pool(pool_lv, data, metadata, sizes, request)
    session.commit(found, ())
    if request.activate:
        session.activate(found, [name])
    return pool_lv


def convert_to_pool(
    session: Session,
    found: FoundGroup,
    data: LogicalVolume,
    metadata: LogicalVolume | None,
    request: PoolRequest | None = None,
    *,
    agree: Callable[[], None] | None = None,
) -> LogicalVolume:
    """Make *data* a thin pool over *metadata* (None: a new volume by LVM's rules). Both lose their content.

    ``lvconvert --thinpool data --poolmetadata metadata``; the pool takes the data volume's name. *agree* is
    called when all has been checked and nothing changed yet; it raises to stop. The pool is active
    afterwards if the data volume was.
    """
    request = request or PoolRequest()
    group = found.group
    _check_convertible(found, data)
    if metadata is not None:
        _check_given_metadata(found, data, metadata, request)
    sizes = request.sizes(group, data.extents, session.say, metadata)
    check_length(group, f"{data.name}_tmeta")
    if agree is not None:
        agree()
    active = session.is_active(found, data.name)
    session.deactivate(found, [part.name for part in (data, metadata) if part is not None])
    name = data.name
    made = (
        [] if metadata is not None else [_new_metadata(session, group, name, sizes.metadata_extents, request)]
    )
    metadata = metadata or made[0]
    with removed_on_error(session, found, *made):
        ensure_spare(
            session, found, metadata.extents, request.ranges, wanted=request.spare, clinging=request.clinging
        )
        clear_lv(session, found, metadata, whole=request.zero_metadata)
    pool_lv = new_lv(session, name)
    pool_lv.allocation_policy = data.allocation_policy
    pool_lv.tags, data.tags = data.tags, []
    pool_lv.profile = request.profile or data.profile
    data.profile = ""
    group.rename_lv(data, f"{name}_tdata")
    if metadata.name != f"{name}_tmeta":
        group.rename_lv(metadata, f"{name}_tmeta")
    for part in (data, metadata):
        part.status = [word for word in part.status if word != VISIBLE]
        if WRITE not in part.status:
            part.status.append(WRITE)
    group.lvs[name] = pool_lv
    _make_pool(pool_lv, data, metadata, sizes, request)
    session.commit(found, ())
    if active:
        session.activate(found, [name])
    return pool_lv


def _check_given_metadata(
    found: FoundGroup, data: LogicalVolume, metadata: LogicalVolume, request: PoolRequest
) -> None:
    if metadata is data:
        raise UsageError(
            f"Can't use same LV {found.group.name}/{data.name} for thin pool data and metadata.",
            hint="give another --poolmetadata",
        )
    _check_convertible(found, metadata)
    if request.metadata_extents:
        raise UsageError(
            "Please specify either metadata logical volume or its size.", hint="leave one of them out"
        )


def _new_metadata(
    session: Session, group: VolumeGroup, name: str, extents: int, request: PoolRequest
) -> LogicalVolume:
    check_free(group, extents)
    metadata = new_lv(session, f"{name}_tmeta")
    metadata.read_ahead = request.read_ahead
    # While it is searched for, LVM calls it by the next free name.
    run = allocate(
        group,
        extents,
        policy=request.policy,
        ranges=request.ranges,
        clinging=request.clinging,
        name=free_name(group),
    )
    metadata.segments = merged(run.segments(0, 0))
    group.lvs[metadata.name] = metadata
    return metadata


def _check_convertible(found: FoundGroup, lv: LogicalVolume) -> None:
    group = found.group
    if lv.thin_pool is not None:
        raise UsageError(f"LV {group.name}/{lv.name} is already a thin pool.", hint="nothing was changed")
    if any(segment.kind in VIRTUAL_TYPES for segment in lv.segments):
        raise UsageError(
            f"Command on LV {group.name}/{lv.name} is invalid on LV with properties: lv_is_virtual .\n"
            f"Command not permitted on LV {group.name}/{lv.name}.",
            hint="a part of it lies on no disk: make the pool of another volume",
        )
    require_simple(group, lv, "convert")
    if not group.is_visible(lv):
        raise UsageError(
            f"Can't convert internal LV {group.name}/{lv.name}.", hint="give a volume that lvs shows"
        )
    if group.users().get(lv.name):
        raise BusyError(
            f"Can't convert {group.name}/{lv.name}: another volume is built on it", hint="lvs -a shows it"
        )


def _make_pool(
    pool_lv: LogicalVolume,
    data: LogicalVolume,
    metadata: LogicalVolume,
    sizes: PoolSizes,
    request: PoolRequest,
) -> None:
    crop = sizes.crop_metadata
    segment = ThinPoolSegment("thin-pool" if crop is None else "thin-pool+CROP_METADATA", 0, data.extents)
    segment.metadata, segment.data = metadata.name, data.name
    segment.chunk_sectors = sizes.chunk_sectors
    segment.discards = request.discards
    segment.zero = request.zero
    segment.crop_metadata = crop
    pool_lv.segments = [segment]
    if request.profile:
        pool_lv.profile = request.profile
    if request.error_when_full:
        pool_lv.flags.append("ERROR_WHEN_FULL")
    if not request.autoactivation:
        pool_lv.flags.append("NOAUTOACTIVATE")


def _linear(pv: PhysicalVolume, start: int, count: int) -> StripedSegment:
    segment = StripedSegment("striped", 0, count)
    segment.mapped = [Area(pv, start)]
    return segment
