# SPDX-License-Identifier: Apache-2.0
"""Replace a thin pool's metadata: swap it for another volume, or repair it into the spare (``lvconvert``).

Every function works inside :meth:`lamella.lvm.session.session.Session.editing` and commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError, LamellaError, NotFoundError, UsageError
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.format.model import VISIBLE, LogicalVolume
from lamella.lvm.operations.allocation import CLINGING, Clinging
from lamella.lvm.operations.logical_volumes import require_simple
from lamella.lvm.operations.lv_resize import GrowRequest, grow_extents
from lamella.lvm.operations.lv_wipe import clear_lv
from lamella.lvm.operations.pool_spare import ensure_spare, spare_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.block.device import BlockDevice
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.session.session import Session


def swap_metadata(session: Session, found: FoundGroup, pool_lv: LogicalVolume, other: LogicalVolume) -> None:
    """Make *other* the pool's metadata, hidden and under its name; the old volume gets *other*'s name.

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
    if group.users().get(other.name):
        raise BusyError(
            f"Pool metadata LV {group.name}/{other.name} is of an unsupported type.",
            hint="another volume is built on it: lvs -a shows which",
        )
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
    clinging: Clinging = CLINGING,
) -> LogicalVolume:
    """``lvconvert --repair``: let *repair* write repaired metadata from the old volume (its first argument)
    into the spare (the second), and make the spare the pool's metadata. The old volume stays as
    ``POOL_metaN``, and is returned.
    """
    group = found.group
    segment = group.pool_segment(pool_lv)
    if session.has_device(found, pool_lv.name):
        raise BusyError(
            "Active pools cannot be repaired.  Use lvchange -an first.",
            hint=f"lvchange -an {group.name}/{pool_lv.name}",
        )
    if spare_of(group) is None:
        ensure_spare(session, found, 0, None, wanted=True, clinging=clinging)
    spare = spare_of(group)
    if spare is None:
        raise NotFoundError(
            f"volume group {group.name} has no spare metadata volume", hint="make room for one: vgextend"
        )
    old = group.lvs[segment.metadata]
    if spare.extents < old.extents:
        grow_extents(group, spare, old.extents - spare.extents, GrowRequest(clinging=clinging))
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
    session.note(
        "thin",
        f"WARNING: LV {group.name}/{old.name} holds a backup of the unrepaired metadata. "
        "Use lvremove when no longer required.",
    )
    try:
        ensure_spare(session, found, 0, None, wanted=True, clinging=clinging)
    except LamellaError as error:
        session.note("thin", f"WARNING: no new pool metadata spare: {error.message}")
    return old
