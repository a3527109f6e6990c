# SPDX-License-Identifier: Apache-2.0
"""An open store: what the methods of :class:`lamella.store.Store` have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lamella.closing import Closing
from lamella.errors import NotFoundError, ReadOnlyError, UsageError
from lamella.store.catalog import Container
from lamella.store.names import AmbiguousNameError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.driver.backend import Engine
    from lamella.driver.device_set import DeviceSet
    from lamella.store.catalog import Image
    from lamella.store.layers import Layers
    from lamella.store.load import Loader
    from lamella.store.opening import Opened


class OpenStore(Closing):
    """A store that is open, until :meth:`close`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._root = opened.root
        self._state = opened.state
        self._catalog = opened.catalog
        self.read_only = opened.read_only
        self.on_warning: Callable[[str], object] | None = None
        """Called with what a user should know at once: that what is read is damaged, who is waited for."""
        opened.lock.tell = self._warn

    def _warn(self, warning: str) -> None:
        if self.on_warning is not None:
            self.on_warning(warning)

    def close(self) -> None:
        """Close the store and release its lock. Closing twice is harmless."""
        self._opened.close()

    def let_readers_wait(self) -> None:
        """Have readers wait, and not be refused, as long as it is open: for what does one thing and ends."""
        self._opened.lock.let_readers_wait()

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._root.path

    @property
    def warnings(self) -> list[str]:
        """What a user should know about this store; also what happened while it was opened."""
        return self._opened.warnings

    @property
    def engine(self) -> Engine:
        """What maps the pool's blocks: "user" or "kernel"."""
        return self._opened.engine

    @property
    def devices(self) -> DeviceSet:
        """The named devices on the pool, which is opened on first use."""
        return self._opened.devices

    @property
    def _layers(self) -> Layers:
        return self._opened.layers

    @cached_property
    def _loader(self) -> Loader:
        from lamella.store.load import Loader

        return Loader(self._state, self._catalog, self._layers)

    def _writable(self, *, matching: bool = True) -> None:
        if self.read_only:
            raise ReadOnlyError(f"the store {self.root} is open for reading only", hint="open it for writing")
        if matching and self._opened.mismatch is not None:
            raise self._opened.mismatch

    @property
    def mismatch(self) -> str:
        """Why the pool is not of the same moment as ``state.db``, so that nothing is changed; "" if it is."""
        return self._opened.mismatch.message if self._opened.mismatch is not None else ""

    def _find(self, name: str) -> Container | Image:
        """The container or, if there is none, the image called *name*."""
        try:
            return self._catalog.find_container(name)
        except NotFoundError:
            pass
        try:
            return self._catalog.find_image(name)
        except AmbiguousNameError:
            raise
        except (NotFoundError, UsageError) as error:
            raise NotFoundError(
                f"No such object: {name}", hint="see what there is: lamella images, lamella ps"
            ) from error

    def _tree_device(self, name: str) -> str:
        device = self._device_of(self._find(name))
        damage = self.devices.damage(device)
        if damage:
            self._warn(f"{name} is damaged, and what is lost reads as zeros or is missing: {damage}")
        return device

    def _device_of(self, thing: Container | Image) -> str:
        return thing.device if isinstance(thing, Container) else self._catalog.device_of(thing.top)
