# SPDX-License-Identifier: Apache-2.0
"""One thin device of a running pool: its record in the metadata, and what is open of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.thin.format.details import DeviceDetails

if TYPE_CHECKING:
    from lamella.thin.engine.device_map import DeviceMap


class Device:
    """One thin device of a running pool."""

    __slots__ = (
        "changed", "creation_time", "dev_id", "gone", "map", "mapped", "opens", "snapshotted_time",
        "transaction_id",
    )  # fmt: skip

    def __init__(self, dev_id: int, details: DeviceDetails) -> None:
        self.dev_id = dev_id
        self.opens = 0
        self.gone = False
        self.map: DeviceMap | None = None
        self.load(details)

    def load(self, details: DeviceDetails) -> None:
        self.mapped = details.mapped_blocks
        self.transaction_id = details.transaction_id
        self.creation_time = details.creation_time
        self.snapshotted_time = details.snapshotted_time
        self.changed = False

    def details(self) -> DeviceDetails:
        return DeviceDetails(self.mapped, self.transaction_id, self.creation_time, self.snapshotted_time)
