# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for the pool, and for the store as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import BusyError
from lamella.progress import QUIET
from lamella.store.lock import refuse_hosted
from lamella.store.opening import remove_kernel_devices
from lamella.store.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.driver.stack_node import Node
    from lamella.progress import Progress
    from lamella.store.gauges import Gauges
    from lamella.store.grow import Growth
    from lamella.store.open_store import OpenStore
    from lamella.store.repair_report import Repair
    from lamella.store.results import Info, StoreCheck, Usage
    from lamella.store.root import Place
    from lamella.store.unknown_devices import UnknownDevice, UnknownDevices
    from lamella.thin.health import Diagnosis


def plan(
    root: Place = None, *, mode: str | None = None, storage_options: Sequence[str] = (), engine: str = "auto"
) -> tuple[list[str], list[str]]:
    """What :meth:`setup` would find, and the equivalent commands of other tools. Writes nothing.

    Raises what would prevent the set-up.
    """
    from lamella.store.setup import plan

    return plan(Root.at(root), mode=mode, storage_options=storage_options, engine=engine)


def abandon(root: Place = None, *, wait: float = 0.0) -> list[str] | None:
    """Undo an unfinished set-up; returns what could not be removed, or None if there is none."""
    from lamella.store.setup import abandon

    return abandon(Root.at(root), wait=wait)


def repair(
    root: Place = None,
    *,
    agree: Callable[[Repair], bool],
    to: Place = None,
    wait: float = 0.0,
    progress: Progress = QUIET,
) -> Repair:
    """Check the pool's metadata and, where it is damaged, repair it into a new device.

    *agree* gets the findings and says whether to apply the repair: to replace damaged metadata, which is
    kept; on a sound pool, to clear the ``needs_check`` flag and to free leaked space. With *to* the
    result is left in that new file, and the store is not changed. Raises :class:`BusyError` while the
    pool is in use, and :class:`CorruptError` where nothing can be recovered.
    """
    from lamella.store.repair import repair

    target = Path(to).absolute() if to is not None else None
    return repair(Root.at(root), to=target, agree=agree, wait=wait, progress=progress)


def grow(
    root: Place = None,
    *,
    data: str = "",
    metadata: str = "",
    disks: Sequence[str] = (),
    force: bool = False,
    wait: float = 0.0,
    engine: str = "auto",
) -> Growth:
    """Extend the pool's files or volumes, also while it is active in device-mapper.

    *data* and *metadata* are sizes as ``200G``, ``+20G``, ``+20%`` or, in a volume group, ``+50%FREE``;
    *disks* are added to the group first (*force*: even if they are not empty), and without a size, data
    gets all their space. Raises :class:`lamella.errors.NoSpaceError` where the group is too small and
    :class:`ExistsError` for a size that is not larger than the present one.
    """
    from lamella.store.grow import grow

    return grow(
        Root.at(root), data=data, metadata=metadata, disks=disks, force=force, wait=wait, engine=engine
    )


def teardown(self: OpenStore, force: bool = False) -> list[str]:
    """Remove the store: the pool, ``state.db`` and its other files. Closes it.

    Returns messages about what could not be removed. Raises :class:`BusyError`, before anything is
    changed, if the store has images or containers, unless *force*; and if one of its devices is in use
    (with *force*, what is mounted in the store's folder is unmounted first).
    """
    refuse_hosted(self._root, "remove it")
    self._writable(matching=False)
    images, containers = len(self._catalog.images()), len(self._catalog.containers())
    snapshots = len(self._catalog.snapshots.rows())
    if (images or containers or snapshots) and not force:
        also = f", and {snapshots} snapshots of containerd's" if snapshots else ""
        raise BusyError(
            f"the store in {self.root} holds {images} images and {containers} containers{also}",
            hint="remove them first, or all at once with: lamella teardown --force",
        )
    with self._opened.lock.briefly():
        backend = self._opened.backend
        backend.engine = self.engine
        if self.engine == "kernel":
            from lamella.store.deactivate import require_unused

            require_unused(self._root, unmount=force)
        self._opened.close_devices()
        if self.engine == "kernel":
            remove_kernel_devices(backend, self._root)
        self._state.close()
        left = backend.remove()
        self._root.clear_state()
        self._root.clear_rest()
        self._opened.lock.close()
    return left


def info(self: OpenStore) -> Info:
    """The pool's state and settings, as in ``docker info``."""
    from lamella.store.info import info

    return info(self._root.path, self._catalog, self.devices)


def health(self: OpenStore) -> Diagnosis:
    """The state of the pool, what it means for containers, and the commands to run next."""
    from lamella.store.pool_health import health

    return health(self.devices)


def df(self: OpenStore) -> list[Usage]:
    """What takes the pool's space, and what removing each image and container would free."""
    from lamella.store.df import usage

    return usage(self._root.path, self._catalog, self.devices)


def gauges(self: OpenStore) -> Gauges:
    """The numbers of the pool and the store at this moment, for what watches them."""
    from lamella.store.gauges import gauges

    return gauges(self._root.path, self._catalog, self.devices)


def storage_map(self: OpenStore) -> list[Node]:
    """The storage stack: the disks or files, each with the volumes, the pool and the devices on it."""
    from lamella.store.topology import storage_stack

    return storage_stack(self._root.path, self._catalog, self.devices)


def check(self: OpenStore, *, progress: Progress = QUIET) -> StoreCheck:
    """Verify everything and change nothing; damage is reported, not raised."""
    from lamella.store.check import check

    return check(self._state, self._catalog, self._opened.backend, lambda: self.devices, progress)


def remove_unknown_devices(
    self: OpenStore, *, agree: Callable[[Sequence[UnknownDevice]], bool] = lambda _: True
) -> UnknownDevices:
    """Remove the thin devices of the pool that ``state.db`` does not have, which :meth:`check` lists.

    *agree* gets them before any is removed. One that is open stays.
    """
    from lamella.store.unknown_devices import remove_unknown

    self._writable()
    with self._opened.beside_readers():
        return remove_unknown(self.devices, agree)
