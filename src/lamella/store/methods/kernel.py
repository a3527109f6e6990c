# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for devices that the kernel maps, and for mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.store import arguments
from lamella.store.catalog import Container
from lamella.store.names import bare_id
from lamella.store.root import Root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.store.open_store import OpenStore
    from lamella.store.root import Place


def mount(
    self: OpenStore, name: str, folder: Place = None, *, read_only: bool = False, options: Sequence[str] = ()
) -> Path:
    """Mount a container, or an image read-only, at *folder*; returns the mount point. Kernel engine only.

    *folder* None is ``mnt/ID`` in the store's folder; *options* are those of mount(8), added to
    ``dm.mountopt``.
    """
    from lamella.store.mount import mount

    self._writable()
    thing = self._find(name)
    with self._opened.lock.briefly():
        return mount(
            self._root,
            self.devices,
            self._tree_device(name),
            name=name,
            identity=bare_id(thing.id),
            folder=folder,
            image=not isinstance(thing, Container),
            read_only=read_only,
            options=options,
        )


def unmount(name: str, *, root: Place = None, lazy: bool = False, wait: float = 0.0) -> list[str]:
    """Unmount a container or an image, by its name or its mount point, and deactivate its device.

    Returns warnings that say who holds the device. The pool is not opened, and may be damaged.
    """
    from lamella.store.umount import unmount

    return unmount(Root.at(root), name, lazy=lazy, wait=wait)


def activate(self: OpenStore, names: Sequence[str] = ()) -> list[Path]:
    """Activate the pool, and the containers and images *names*; returns their device nodes."""
    self._writable()
    things = [self._find(name) for name in arguments.texts(names, "the list of names")]
    with self._opened.lock.briefly():
        pool = self.devices.activate_pool()
        return [
            pool,
            *(
                self.devices.activate(self._device_of(thing), frozen=not isinstance(thing, Container))
                for thing in things
            ),
        ]


def node(self: OpenStore, name: str) -> Path:
    """The device node of a container or an image, which exists while it is active."""
    from lamella.devicemapper.nodes import mapper_path
    from lamella.driver.device_names import device_name

    return mapper_path(device_name(self.root, self._device_of(self._find(name))))


def deactivate(
    names: Sequence[str] = (), *, root: Place = None, unmount: bool = False, wait: float = 0.0
) -> list[str]:
    """Deactivate containers and images; without *names* all of the store, with its pool.

    With *unmount*, what is mounted in the store's folder is unmounted first. Returns messages about what
    was done. Raises :class:`BusyError`, naming who uses what, before anything is deactivated.
    """
    from lamella.store.deactivate import deactivate

    return deactivate(Root.at(root), names, unmount=unmount, wait=wait)
