# SPDX-License-Identifier: Apache-2.0
"""Whether a pool is the one that its store was set up with: the check of its base device, in Docker's words.

Authority for the wording: moby v24.0.9, ``daemon/graphdriver/devmapper/deviceset.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver.state import BASE
from lamella.errors import CorruptError, NotFoundError, UsageError
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.units import human_size

if TYPE_CHECKING:
    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.state import State
    from lamella.fs.filesystem import FileSystem
    from lamella.thin.interface import ThinPool

_FAILED = "devmapper: Base Device UUID and Filesystem verification failed: "

_LOOKED_AT = 1 << 20
"""Bytes of metadata in which a pool that has been used has more than its superblock."""

_DIFFERENT_POOL = (
    "the pool's devices are not the ones this store was set up with (restored, copied or recreated): put the "
    "right ones back; or, if the images can be loaded again, clear the store with 'lamella teardown --force' "
    "and set it up again. Nothing was changed"
)


def verify(pool: ThinPool, filesystem: FileSystem, state: State, backend: PoolBackend) -> None:
    """Raise :class:`CorruptError` unless the base device has the file system that ``state.db`` records."""
    base = state.device(BASE)
    if base is None:
        raise CorruptError(f"{_FAILED}devmapper: Unknown device base", hint="run lamella setup again")
    if base.damage:
        return  # a repair lost some of it; the next lowest layer makes it anew
    try:
        opened = pool.open_volume(base.device_id, base.size, read_only=True)
    except NotFoundError as error:
        raise _lacks_base(state, backend) from error
    with opened as volume:
        try:
            uuid = filesystem.uuid(volume)
        except (CorruptError, NotFoundError) as error:
            raise CorruptError(f"{_FAILED}{error.message}", hint=_different_pool(backend)) from error
    stored = state.pool().base_uuid
    if uuid != stored:
        raise CorruptError(
            f"{_FAILED}devmapper: Current Base Device UUID:{uuid} does not match with stored UUID:"
            f"{stored}. Possibly using a different thin pool than last invocation",
            hint=_different_pool(backend),
        )


def refuse_smaller(state: State, size: int) -> None:
    """Raise :class:`UsageError`, in Docker's words, where *size* is less than the base device has."""
    base = state.device(BASE)
    if base is not None and size < base.size:
        raise UsageError(
            f"devmapper: Base device size cannot be smaller than {human_size(base.size)}",
            hint=f"give dm.basesize={base.size} or more, or leave it out",
        )


def refuse_unformatted(devices: PoolDevices, state: State, backend: PoolBackend) -> None:
    """Raise :class:`CorruptError` for metadata that begins with zeros, as ``lvconvert`` leaves it.

    The kernel would format it on activation, and then miss the base device. Where something is left behind
    the zeros, only the superblock is lost, and a repair finds the rest.
    """
    start = devices.metadata.read(0, min(_LOOKED_AT, devices.metadata.size))
    if len(start) < BLOCK_SIZE or any(start[:BLOCK_SIZE]):
        return
    if any(start):
        raise CorruptError(
            f"{_FAILED}the pool's metadata {devices.metadata.name} begins with zeros: its superblock is lost",
            hint="rebuild it from what is left, which keeps the original: lamella repair",
        )
    raise _lacks_base(state, backend)


def _lacks_base(state: State, backend: PoolBackend) -> CorruptError:
    base = state.device(BASE)
    number = f" {base.device_id}" if base else ""
    return CorruptError(
        f"{_FAILED}devicemapper: Error running deviceCreate (ActivateDevice) dm_task_run failed",
        hint=f"the pool has no device{number}, which is the base device: {_different_pool(backend)}",
    )


def _different_pool(backend: PoolBackend) -> str:
    return backend.differences() + _DIFFERENT_POOL
