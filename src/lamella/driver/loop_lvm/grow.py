# SPDX-License-Identifier: Apache-2.0
"""Extending an active loop-lvm pool: the file, its loop device, and the pool's table.

The kernel uses a larger data device when it loads a longer table, and a larger metadata device whenever the
pool is resumed; both make a pool that was full writable again.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import SECTOR, FileDevice
from lamella.block.loop import find, set_capacity
from lamella.devicemapper.table import ThinPool, parse_target
from lamella.errors import LamellaError
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.format.space_map import MAX_METADATA_BLOCKS
from lamella.thin.status import PoolMode, parse_status
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.devicemapper.client import DeviceMapper
    from lamella.driver.options import Options

log = logs.logger(__name__)


def grow_active(dm: DeviceMapper, name: str, data: Path, metadata: Path, options: Options) -> list[str]:
    """Make the files of the pool that is active as *name* as large as *options* ask for; gives warnings.

    Also finishes what an interrupted call left: a file or a loop device that is larger than the pool.
    """
    warnings = []
    with ExitStack() as stack:
        larger = []
        for path, key, size in (
            (metadata, "dm.loopmetadatasize", options.loop_metadata_size),
            (data, "dm.loopdatasize", options.loop_data_size),
        ):
            now = path.stat().st_size
            if key in options.given and size < now:
                warnings.append(shrinking(str(path), now, key, size))
            if key in options.given and size > now:
                file = stack.enter_context(FileDevice(path, lock=False))  # the loop device has the lock
                larger.append((file, size))
        resize_all(larger)
    for path in (metadata, data):
        for loop in find(path):
            set_capacity(loop)
    target = parse_target(dm.table(name)[0].line)
    assert isinstance(target, ThinPool)
    length = data.stat().st_size // SECTOR
    blocks = min(metadata.stat().st_size // BLOCK_SIZE, MAX_METADATA_BLOCKS)
    status = parse_status(dm.status(name, flush=False)[0].text)
    if status.mode is not PoolMode.FAIL and (length > target.length or blocks > status.total_metadata):
        log.info("extending the active pool %s to %d sectors of data", name, max(length, target.length))
        dm.reload(name, [replace(target, length=max(length, target.length))], freeze=False)
    return warnings


def resize_all(larger: Sequence[tuple[FileDevice, int]]) -> None:
    """Make each file as many bytes large; if that fails for one, none."""
    done: list[tuple[FileDevice, int]] = []
    try:
        for file, size in larger:
            log.info("extending %s from %d to %d bytes", file.name, file.size, size)
            done.append((file, file.size))
            file.resize(size)
    except BaseException:
        for file, size in done:
            with suppress(LamellaError):
                file.resize(size)
        raise


def shrinking(name: str, now: int, key: str, wanted: int) -> str:
    """The warning about a file that would have to become smaller."""
    asked = f"{key} asks for {human_size(wanted)}"
    return f"Can't shrink loopback file {name}: it has {human_size(now)}, and {asked}"
