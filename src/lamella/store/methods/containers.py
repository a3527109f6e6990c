# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for containers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.errors import LamellaError
from lamella.progress import QUIET
from lamella.store import arguments
from lamella.store.damaged import require_whole, require_whole_container

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.fs.difference import Change
    from lamella.progress import Progress
    from lamella.store.open_store import OpenStore
    from lamella.store.results import ContainerSummary


def create(
    self: OpenStore, image: str, *, name: str | None = None, size: int | None = None, activate: bool = False
) -> ContainerSummary:
    """Create a container: a snapshot of *image*, extended to *size* bytes if that is larger.

    With *activate* its block device is activated (:meth:`node`); if that fails, no container is created.
    """
    from lamella.store import containers

    self._writable()
    if name is not None:
        arguments.text(name, "a container's name")
    if size is not None:
        arguments.whole(size, "the size")
    with self._opened.beside_readers(), self._opened.turn():
        if activate:
            self.devices.activate_pool()  # raises with the user engine, before anything is created
        found = self._catalog.find_image(image)
        require_whole(self._catalog, self.devices, found.top, "cannot create a container from", image)
        made = containers.plan(self._catalog, found, image, name)
        self.devices.add(
            made.device,
            self._catalog.device_of(made.top),
            size=size,
            record=lambda _, __: self._catalog.add_container(made),
        )
    if activate:
        try:
            self.devices.activate(made.device)
        except BaseException:
            with suppress(LamellaError):
                remove_container(self, made.id)
            raise
    return containers.summary(self._state, made)


def rename(self: OpenStore, name: str, new: str) -> None:
    """Give a container another name. Raises :class:`ExistsError` for one that another container has."""
    from lamella.store.containers import rename

    self._writable()
    with self._opened.lock.briefly(), self._state.transaction():
        rename(self._catalog, name, new)


def containers(self: OpenStore, filters: Sequence[str] = ()) -> list[ContainerSummary]:
    """All containers, the newest first; or those that fit Docker's *filters*, such as "name=web"."""
    from lamella.driver.active_devices import present
    from lamella.store import filters as rules
    from lamella.store.containers import labels, summary

    here = present(self._root.path)
    wanted = rules.Filters(filters, rules.CONTAINER_KEYS)
    return [
        summary(self._state, each, here[each.device].points if each.device in here else ())
        for each in rules.containers(self._catalog, wanted, labels)
    ]


def remove_container(self: OpenStore, name: str, force: bool = False) -> list[str]:
    """Remove a container and everything in it; with *force*, one that does not exist is not an error.

    Raises :class:`BusyError` if it is mounted; with *force* it is first unmounted from the store's own
    folder. A device that is still open is deleted later (``dm.use_deferred_deletion``); the messages that
    this returns say who holds it.
    """
    from lamella.store.rm import remove_container

    self._writable()
    with self._opened.beside_readers(), self._opened.turn():
        return remove_container(self._root, self.devices, self._catalog, name, force=force)


def resize(self: OpenStore, name: str, size: int, *, more: bool = False) -> int:
    """Extend a container to *size* bytes, or by that if *more*, also while mounted; returns its size."""
    from lamella.store.resize import resize

    self._writable()
    arguments.whole(size, "the size")
    container = self._catalog.find_container(name)
    with self._opened.beside_readers(), self._opened.turn():
        if more:
            size += self.devices.get(container.device).size
        resize(self.root, self.devices, container.device, size, name=name)
    return size


def diff(self: OpenStore, container: str) -> list[Change]:
    """The differences between a container and its image: kind "A", "C" or "D", and the path."""
    from lamella.store.diff import container_changes

    found = self._catalog.find_container(container)
    require_whole(self._catalog, self.devices, found.top, "cannot compare with its image", container)
    self._tree_device(found.id)
    return container_changes(self.devices, self._catalog.device_of(found.top), found.device)


def commit(
    self: OpenStore,
    container: str,
    reference: str | None = None,
    *,
    message: str = "",
    author: str = "",
    changes: Sequence[str] = (),
    progress: Progress = QUIET,
) -> str:
    """Create an image from a container: its image's layers, and one of its changes. Returns the id.

    *changes* are Dockerfile instructions for the new image's configuration.
    """
    from lamella.store.commit import commit

    self._writable()
    arguments.texts(changes, "the list of changes")
    with self._opened.beside_readers():
        require_whole_container(
            self._catalog, self.devices, self._catalog.find_container(container), "cannot commit"
        )
        return commit(
            self._state,
            self._catalog,
            self._layers,
            self.devices,
            self._root.make_scratch(),
            self._catalog.find_container(container),
            reference,
            message=message,
            author=author,
            changes=changes,
            progress=progress,
        )
