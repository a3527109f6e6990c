# SPDX-License-Identifier: Apache-2.0
"""A direct-lvm pool without a store: for Docker's driver, containerd's snapshotter or LVM itself."""

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
    """Create the volume group and its thin pool as a set-up does; returns the pool's device-mapper name.

    The pool is empty, with transaction id 0, as Docker requires of ``dm.thinpooldev``. *root* has the record
    of the operation while it runs, so that the next call continues an interrupted one, or
    :meth:`lamella.store.Store.abandon` undoes it; afterwards *root* has no record of the pool.
    Raises :class:`ExistsError` where *root* has a store, and what would prevent a set-up.
    """
    place = Root.at(root)
    mode, storage_options = requested(place, mode, storage_options)
    if mode != options.DIRECT:
        raise UsageError(
            "only direct-lvm can create a pool without a store", hint="name the disks: direct-lvm DISK"
        )
    store = ExistsError(f"there is a store in {place.path}", hint="give another --root")
    if seems_complete(place):
        raise store
    wanted = options.parse(storage_options, mode)
    if wanted.thin_pool_device:
        raise UsageError("dm.thinpooldev names an existing pool", hint="use only one of the two options")
    backend = DirectLvm(place.path)
    backend.release_unfinished()
    backend.preflight(wanted)
    place.make()
    with Lock(place.lock, exclusive=True, wait=wait, closing=True):
        if is_complete(place):  # by the previous holder of the lock
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
                with suppress(LamellaError):  # the next call continues from what cannot be undone now
                    backend.remove()
                    place.clear_rest()
            raise
        place.clear_rest()
        return name
