# SPDX-License-Identifier: Apache-2.0
"""Thin pools: make them, convert volumes into them, grow them, mend their metadata.

Every function works inside :meth:`lamella.lvm.session.session.Session.editing` and commits as often, and in
the order, that LVM2 does. The volumes in a pool: :mod:`lamella.lvm.operations.thin_volumes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.block.device import SECTOR
from lamella.errors import BusyError, LamellaError, NotFoundError, UsageError
from lamella.lvm.disks.notice import Notice
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.model import VISIBLE, WRITE, LogicalVolume, VolumeGroup
from lamella.lvm.format.segments import Area, StripedSegment, ThinPoolSegment, merged
from lamella.lvm.operations.allocation import allocate
from lamella.lvm.operations.logical_volumes import (
    GrowRequest,
    check_new_name,
    check_volume_count,
    forget_lv,
    free_name,
    grow_extents,
    new_lv,
    require_simple,
)
from lamella.lvm.operations.lv_changes import users_of_pool
from lamella.lvm.operations.physical_volumes import change_tags
from lamella.lvm.operations.thin_sizes import MAX_SPARE, estimate, pool_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.block.device import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.physical_volume import PhysicalVolume
    from lamella.lvm.operations.extent_ranges import PvRanges
    from lamella.lvm.session.session import Session

SPARE_SUFFIX = "_pmspare"


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
    """Let the kernel have it, where the session has an activator."""


# -- pools -------------------------------------------------------------------------------------------


def create_pool(
    session: Session, found: FoundGroup, name: str, extents: int, request: PoolRequest | None = None
) -> LogicalVolume:
    """A new thin pool with *extents* of data; *name* "" for the next ``lvolN``."""
    request = request or PoolRequest()
    group = found.group
    if name:
        check_new_name(group, name)
    check_volume_count(group)
    sizes = pool_sizes(
        extents,
        group.extent_sectors,
        session.say,
        chunk_sectors=request.chunk_size // SECTOR,
        metadata_extents=request.metadata_extents,
        chunk_policy=request.chunk_policy,
        crop=request.crop_metadata,
        zero=request.zero,
    )
    need_spare = request.spare
    ensure_spare(session, found, sizes.metadata_extents, request.ranges, wanted=need_spare)
    name = name or free_name(group)
    result = allocate(
        group,
        extents,
        stripes=request.stripes,
        policy=request.policy,
        ranges=request.ranges,
        metadata_extents=sizes.metadata_extents,
        separate_metadata=request.separate_metadata,
        name=name,
    )
    assert result.metadata is not None
    pool_lv = new_lv(session, name)
    pool_lv.allocation_policy = "" if request.policy == "inherit" else request.policy
    change_tags(pool_lv.tags, request.tags, ())
    metadata = new_lv(session, f"{name}_tmeta", visible=False)
    metadata.segments = [_linear(result.metadata.pv, result.metadata.start, sizes.metadata_extents)]
    # As LVM does it: the metadata's extents are written down and cleared before the pool exists.
    pool_lv.segments = metadata.segments
    group.lvs[name] = pool_lv
    session.commit(found, ())
    clear_lv(session, found, pool_lv, whole=request.zero_metadata)
    group.lvs[metadata.name] = metadata
    data = new_lv(session, f"{name}_tdata", visible=False)
    data.segments = merged(result.segments(0, request.stripe_size // SECTOR if request.stripes > 1 else 0))
    group.lvs[data.name] = data
    _make_pool(pool_lv, data, metadata, sizes.chunk_sectors, sizes.crop_metadata, request)
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
        if metadata is data:
            raise UsageError(
                f"Can't use same LV {group.name}/{data.name} for thin pool data and metadata.",
                hint="give another --poolmetadata",
            )
        _check_convertible(found, metadata)
        if request.metadata_extents:
            raise UsageError(
                "Please specify either metadata logical volume or its size.", hint="leave one of them out"
            )
    sizes = pool_sizes(
        data.extents,
        group.extent_sectors,
        session.say,
        chunk_sectors=request.chunk_size // SECTOR,
        metadata_extents=metadata.extents if metadata is not None else request.metadata_extents,
        existing_metadata=f"{group.name}/{metadata.name}" if metadata is not None else "",
        chunk_policy=request.chunk_policy,
        crop=request.crop_metadata,
        zero=request.zero,
    )
    if agree is not None:
        agree()
    active = session.is_active(found, data.name)
    session.deactivate(found, [part.name for part in (data, metadata) if part is not None])
    name = data.name
    if metadata is None:
        metadata = new_lv(session, f"{name}_tmeta")
        run = allocate(group, sizes.metadata_extents, policy=request.policy, ranges=request.ranges, name=name)
        metadata.segments = merged(run.segments(0, 0))
        group.lvs[metadata.name] = metadata
    ensure_spare(session, found, metadata.extents, request.ranges, wanted=request.spare)
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
    _make_pool(pool_lv, data, metadata, sizes.chunk_sectors, sizes.crop_metadata, request)
    session.commit(found, ())
    if active:
        session.activate(found, [name])
    return pool_lv


def _check_convertible(found: FoundGroup, lv: LogicalVolume) -> None:
    group = found.group
    if lv.thin_pool is not None:
        raise UsageError(f"LV {group.name}/{lv.name} is already a thin pool.", hint="nothing was changed")
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
    chunk_sectors: int,
    crop: bool | None,
    request: PoolRequest,
) -> None:
    segment = ThinPoolSegment("thin-pool" if crop is None else "thin-pool+CROP_METADATA", 0, data.extents)
    segment.metadata, segment.data = metadata.name, data.name
    segment.chunk_sectors = chunk_sectors
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


def clear_lv(session: Session, found: FoundGroup, lv: LogicalVolume, *, whole: bool) -> None:
    """Write zeros over a volume's first 4096 bytes, or over all of it. Does not commit."""
    if session.test:
        return
    device = open_lv(found, lv.name)
    device.write_zeros(0, device.size if whole else min(4096, device.size))
    device.flush()


def spare_of(group: VolumeGroup) -> LogicalVolume | None:
    """The group's spare metadata volume."""
    for lv in group.lvs.values():
        if SPARE_SUFFIX in lv.name and not lv.visible:
            return lv
    return None


def pool_metadata_names(group: VolumeGroup) -> list[str]:
    names = []
    for lv in group.lvs.values():
        if lv.thin_pool is not None:
            names.append(lv.thin_pool.metadata)
        elif lv.segments and lv.segments[0].kind == "cache-pool":
            name = lv.segments[0].extra.get("metadata")
            names += [name] if isinstance(name, str) else []
    return names


def ensure_spare(
    session: Session, found: FoundGroup, extents: int, ranges: PvRanges | None, *, wanted: bool
) -> None:
    """Make the spare, or lengthen it, to be as long as metadata of *extents* (0: of any pool).

    Commits a new one; the caller commits the rest.
    """
    group = found.group
    if not extents:
        sizes = [group.lvs[name].extents for name in pool_metadata_names(group) if name in group.lvs]
        extents = max(sizes, default=0)
    if not wanted:
        if extents:
            said = "WARNING: recovery of pools without pool metadata spare LV is not automated."
            session.say(Notice("thin", said))
        return
    spare = spare_of(group)
    if not extents:
        if spare is not None:
            forget_lv(group, spare)
        return
    extents = min(extents, -(-MAX_SPARE // group.extent_sectors))
    if spare is not None:
        if spare.extents < extents:
            grow_extents(session, group, spare, extents - spare.extents, GrowRequest(ranges=ranges))
        return
    spare = new_lv(session, free_name(group) + SPARE_SUFFIX, visible=False)
    result = allocate(group, extents, ranges=ranges, name=spare.name)
    spare.segments = merged(result.segments(0, 0))
    group.lvs[spare.name] = spare
    session.commit(found, ())
    clear_lv(session, found, spare, whole=False)


# -- growing -----------------------------------------------------------------------------------------


def resize_pool(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    *,
    data_extents: int | None = None,
    metadata_extents: int | None = None,
    request: GrowRequest | None = None,
    spare: bool = True,
) -> bool:
    """Grow a pool's data and metadata to these totals; whether anything changed.

    Metadata grows along with data where its size no longer suffices, unless sizes or disks were named.
    The engine, or the kernel, takes note of the new sizes when the pool is next opened.
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
    changed = False
    if metadata_extents is not None and metadata_extents > metadata.extents:
        grow_extents(session, group, metadata, metadata_extents - metadata.extents, request)
        ensure_spare(session, found, 0, None, wanted=spare)
        session.commit(found, users_of_pool(group, pool_lv))
        changed = True
    if data_extents is not None and data_extents > data.extents:
        grow_extents(session, group, data, data_extents - data.extents, request)
        segment.extent_count = data.extents
        session.commit(found, users_of_pool(group, pool_lv))
        changed = True
    return changed


def policy_growth(used: int, total: int, threshold: int, percent: int) -> int:
    """By how many per cent ``--use-policies`` grows something that is *used* of *total* full (0: not).

    The larger of *percent* and what brings it below *threshold* per cent again. As in LVM2, a threshold
    below 50 counts as 50, and 100 switches the policy off.
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
) -> bool:
    """``lvextend --use-policies``: grow what is too full. Each pair is (used, total), in any unit."""
    group = found.group
    segment = pool_lv.thin_pool
    if segment is None:
        raise UsageError(
            "Policy-based resize is supported only for snapshot, thin pool and vdo pool volumes.",
            hint="name the pool",
        )
    if threshold < 50:
        said = f"WARNING: Thin pool autoextend threshold {threshold}% is set below minimum supported 50%."
        session.say(Notice("thin", said))
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
    )


# -- repairing ---------------------------------------------------------------------------------------


def swap_metadata(session: Session, found: FoundGroup, pool_lv: LogicalVolume, other: LogicalVolume) -> None:
    """Let *other* be the pool's metadata, hidden and under its name; the old volume gets *other*'s name.

    ``lvconvert --thinpool POOL --poolmetadata OTHER`` on an existing pool.
    """
    group = found.group
    segment = group.pool_segment(pool_lv)
    if session.has_device(found, pool_lv.name):
        raise BusyError(
            f"Cannot convert pool {group.name}/{pool_lv.name} with active volumes.",
            hint=f"lvchange -an {group.name} first",
        )
    require_simple(group, other, "swap")
    old = group.lvs[segment.metadata]
    if other is old:
        raise UsageError(f"{group.name}/{old.name} is the pool's metadata already", hint="give another")
    if not group.is_visible(other):
        raise UsageError(f"Can't convert internal LV {group.name}/{other.name}.", hint="give another")
    session.deactivate(found, [other.name])
    inside, outside = old.name, other.name
    group.rename_lv(other, "pvmove_tmeta")
    group.rename_lv(old, outside)
    group.rename_lv(other, inside)
    segment.metadata = inside
    old.status.append(VISIBLE)
    other.status.remove(VISIBLE)
    session.commit(found)


def repair_pool(
    session: Session,
    found: FoundGroup,
    pool_lv: LogicalVolume,
    repair: Callable[[BlockDevice, BlockDevice], None],
) -> LogicalVolume:
    """``lvconvert --repair``: let *repair* write mended metadata from the old volume (first argument) into
    the spare (second), then put the spare in its place. The old one stays as ``POOL_metaN``, and is returned.
    """
    group = found.group
    segment = group.pool_segment(pool_lv)
    if session.has_device(found, pool_lv.name):
        raise BusyError(
            "Active pools cannot be repaired.  Use lvchange -an first.",
            hint=f"lvchange -an {group.name}/{pool_lv.name}",
        )
    if spare_of(group) is None:
        ensure_spare(session, found, 0, None, wanted=True)
    spare = spare_of(group)
    if spare is None:
        raise NotFoundError(
            f"volume group {group.name} has no spare metadata volume", hint="make room for one: vgextend"
        )
    old = group.lvs[segment.metadata]
    if spare.extents < old.extents:
        grow_extents(session, group, spare, old.extents - spare.extents)
        session.commit(found)
    clear_lv(session, found, spare, whole=True)
    repair(open_lv(found, old.name, read_only=True), open_lv(found, spare.name))
    number = 0
    while f"{pool_lv.name}_meta{number}" in group.lvs:
        number += 1
    name = old.name
    group.rename_lv(old, f"{pool_lv.name}_meta{number}")
    old.status.append(VISIBLE)
    group.rename_lv(spare, name)
    segment.metadata = name
    session.commit(found)
    session.say(
        Notice(
            "thin",
            f"WARNING: LV {group.name}/{old.name} holds a backup of the unrepaired metadata. "
            "Use lvremove when no longer required.",
        )
    )
    try:
        ensure_spare(session, found, 0, None, wanted=True)
    except LamellaError as error:
        session.say(Notice("thin", f"WARNING: no new pool metadata spare: {error.message}"))
    return old
