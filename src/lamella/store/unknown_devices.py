# SPDX-License-Identifier: Apache-2.0
"""Thin devices in the pool that ``state.db`` does not have, and their removal.

They are there where a pool and a ``state.db`` of two moments were put together, or where another program made
them. No image and no container refers to them, and nothing but their content says what they are.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamella.driver.state import Device
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.driver.device_set import DeviceSet


@dataclass(frozen=True)
class UnknownDevice:
    """One of them, as the pool describes it."""

    device_id: int
    mapped: int
    """Bytes that it maps, of which other devices may map some too."""
    transaction_id: int
    """The pool's transaction in which it was created."""

    def __str__(self) -> str:
        return (
            f"thin device {self.device_id}: maps {human_size(self.mapped)}, created in transaction "
            f"{self.transaction_id}"
        )


@dataclass(frozen=True)
class UnknownDevices:
    """What was found, and what became of it."""

    found: Sequence[UnknownDevice]
    removed: Sequence[int]
    """The ids of those that were removed."""
    freed: int
    """Bytes of the pool's data that became free."""

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "devices": [vars(device) for device in self.found],
            "removed": list(self.removed),
            "freed": self.freed,
        }


def remove_unknown(devices: DeviceSet, agree: Callable[[Sequence[UnknownDevice]], bool]) -> UnknownDevices:
    """Remove them from the pool in one transaction, if there are any and *agree* says so.

    Those that somebody has open stay.
    """
    pool = devices.pool
    details = pool.devices()
    numbers, _ = devices.unknown_devices()
    found = [
        UnknownDevice(number, details[number].mapped_blocks * pool.chunk_size, details[number].transaction_id)
        for number in numbers
    ]
    if not found or not agree(found):
        return UnknownDevices(found, [], 0)
    with devices.state.lock:
        still = set(devices.unknown_devices()[0])  # other threads may have made or removed some meanwhile
        return _remove(devices, [each for each in found if each.device_id in still])


def _remove(devices: DeviceSet, found: Sequence[UnknownDevice]) -> UnknownDevices:
    pool = devices.pool
    before = pool.status().used_data
    # Under names of their own for the note, by which an interrupted removal is completed.
    left = devices.delete_unnamed([Device(secrets.token_hex(32), each.device_id, 0, 0) for each in found])
    freed = max(0, before - pool.status().used_data) * pool.chunk_size
    return UnknownDevices(found, [each.device_id for each in found if each.device_id not in left], freed)
