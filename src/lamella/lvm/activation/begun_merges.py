# SPDX-License-Identifier: Apache-2.0
"""Delayed merges of thin snapshots that the kernel has begun and the group's text does not know of yet.

LVM2 activates the origin of such a merge with the snapshot's device, and completes the text later, in the
background. In between, a table made from the text alone would bring the old content back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.devicemapper.table import Thin, parse_table
from lamella.lvm.format.ids import dm_uuid

if TYPE_CHECKING:
    from lamella.devicemapper.client import DeviceMapper
    from lamella.lvm.format.model import VolumeGroup


def begun_merges(dm: DeviceMapper, group: VolumeGroup) -> dict[str, int]:
    """The device that the kernel uses for each origin whose merge has begun, by the origin's name."""
    found = {}
    for snapshot in group.lvs.values():
        thin = snapshot.thin
        origin = group.lvs.get(thin.merge) if thin is not None and thin.merge else None
        info = dm.find(uuid=dm_uuid(group.uuid, origin.uuid)) if origin is not None else None
        if thin is None or origin is None or info is None or not info.live_table:
            continue
        live = parse_table("\n".join(line.line for line in dm.table(info.name)))
        if isinstance(live[0], Thin) and live[0].device_id == thin.device_id:
            found[origin.name] = thin.device_id
    return found
