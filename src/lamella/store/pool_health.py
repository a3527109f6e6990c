# SPDX-License-Identifier: Apache-2.0
"""The state of a store's pool, with the facts about this machine that it depends on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.thin.health import Facts, diagnose

if TYPE_CHECKING:
    from lamella.driver.device_set import DeviceSet
    from lamella.thin.health import Diagnosis
    from lamella.thin.status import PoolStatus

NO_SPACE_TIMEOUT = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")


def health(devices: DeviceSet, status: PoolStatus | None = None) -> Diagnosis:
    """The diagnosis of the open pool; *status* is its status, if known."""
    return diagnose(status or devices.pool.status(), facts(devices))


def facts(devices: DeviceSet) -> Facts:
    """The facts about the open pool that are not in its status."""
    missing, lies_on_them = devices.backend.missing_disks(devices.devices)
    return Facts(
        chunk_size=devices.pool.chunk_size,
        kernel=devices.in_kernel,
        min_free_percent=devices.options.min_free_percent,
        no_space_timeout=no_space_timeout() if devices.in_kernel else None,
        host_free=devices.backend.host_space(),
        suspended=devices.engine.is_suspended(),
        missing_disks=tuple(missing),
        lies_on_missing=lies_on_them,
    )


def no_space_timeout() -> float | None:
    """Seconds that the kernel queues writes to a full pool, 0 for no limit; None if it is unknown."""
    with suppress(OSError, ValueError):
        return float(NO_SPACE_TIMEOUT.read_text())
    return None
