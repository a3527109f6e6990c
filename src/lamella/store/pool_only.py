# SPDX-License-Identifier: Apache-2.0
"""A direct-lvm pool and no store on it: for Docker's driver, containerd's snapshotter or LVM itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.driver import options
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.errors import ExistsError, LamellaError, UsageError
from lamella.store.config import Config
from lamella.store.lock import Lock
from lamella.store.root import Root
from lamella.store.set_up_state import is_complete, requested, require_no_remains, seems_complete

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


def make_pool(
    root: str | os.PathLike[str] | None = None,
    *,
    mode: str | None = None,
    storage_options: Sequence[str] = (),
    wait: float = 0.0,
) -> str:
    """Make the volume group and its thin pool as a set-up does, and stop; gives its device-mapper name.

    The pool is empty, with transaction id 0, as Docker demands of ``dm.thinpooldev``. *root* keeps the record
    of the work while it goes on, so that a pool that was cut short is finished by the next call, or removed
    by :meth:`lamella.store.Store.abandon`; afterwards it knows nothing of the pool.
    Raises :class:`ExistsError` where *root* has a store, and what stands in the way of a set-up.
    """
    place = Root.at(root)
    mode, storage_options = requested(place, mode, storage_options)
    if mode != options.DIRECT:
        raise UsageError(
            "only direct-lvm makes a pool without a store", hint="name the disks: direct-lvm DISK"
        )
    store = ExistsError(f"there is a store in {place.path}", hint="give another --root")
    if seems_complete(place):
        raise store
    wanted = options.parse(storage_options, mode)
    if wanted.thin_pool_device:
        raise UsageError("dm.thinpooldev names a pool that is there already", hint="leave one of the two out")
    backend = DirectLvm(place.path)
    backend.release_unfinished()
    backend.preflight(wanted)
    place.make()
    lock = Lock(place.lock, exclusive=True, wait=wait)
    try:
        if is_complete(place):  # by whoever had the lock before us
            raise store
        require_no_remains(place, backend)
        continued = backend.begun()
        backend.restart()
        place.clear_state()
        Config(mode, tuple(storage_options)).save(place.config)
        try:
            name = backend.make_pool(wanted)
        except BaseException:
            if not continued:
                with suppress(LamellaError):  # what cannot be undone now, the next call goes on from
                    backend.remove()
                    place.clear_rest()
            raise
        place.clear_rest()
        return name
    finally:
        lock.release()
