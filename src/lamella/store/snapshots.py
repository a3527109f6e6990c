# SPDX-License-Identifier: Apache-2.0
"""containerd's snapshots on a store's pool: made, mounted, committed and removed.

What each method has to do: containerd v2.4.2, ``core/snapshots/snapshotter.go``. A snapshot is a thin device:
an active one is a snapshot of its parent's, or of the base device; a committed one keeps the device that it
had; a view shows its parent's, which nobody writes to. All of them may be called by several threads.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import SECTOR
from lamella.driver.options import BASE_MAX
from lamella.driver.state import BASE, SNAPSHOT_BASE
from lamella.errors import BusyError, LamellaError, UnsupportedError, UsageError
from lamella.store.layers import read_to_end
from lamella.store.mount import READ_ONLY_OPTIONS, REQUIRED_OPTIONS
from lamella.store.names import new_id
from lamella.store.snapshot_catalog import SnapshotCatalog, merged_labels
from lamella.store.snapshot_model import Kind, Mount, Snapshot, Usage
from lamella.units import human_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from lamella.driver.device_nodes import DeviceNodes
    from lamella.driver.device_set import DeviceSet
    from lamella.images.stream import LayerStream
    from lamella.store.claims import Claims
    from lamella.store.snapshot_catalog import Row
    from lamella.thin.interface import ThinVolume

log = logs.logger(__name__)

SIZE_LABELS = ("containerd.io/snapshot/lamella/size", "containerd.io/snapshot/max-size")
"""Labels of a new snapshot with the size of its file system, as ``20G`` or in bytes; the first one counts."""


class Snapshots:
    """The snapshots of one open store. *devices* are shared by threads, and *nodes* give them block devices.

    *use* keeps the store open while a method runs. *later* is called when a device could not be deleted, as
    somebody has it open: :meth:`clean_up` is to be tried again. With *async_remove* :meth:`remove` only marks
    the device as deleted, and :meth:`clean_up` deletes it.
    """

    def __init__(
        self,
        devices: DeviceSet,
        claims: Claims,
        nodes: DeviceNodes,
        *,
        use: Callable[[], AbstractContextManager[object]] = nullcontext,
        later: Callable[[], object] = lambda: None,
        async_remove: bool = False,
    ) -> None:
        self.nodes = nodes
        self._devices = devices
        self._state = devices.state
        self._claims = claims
        self._catalog = SnapshotCatalog(devices.state)
        self._async_remove = async_remove
        self._use = use
        self._later = later

    # -- making ----------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        """Make the active snapshot *key* upon the committed *parent*, or upon an empty file system for "".

        Gives how it is mounted. Raises :class:`ExistsError`, :class:`NotFoundError` for the parent, and
        :class:`UsageError` for a parent that is not committed, or a size that is smaller than the parent's.
        """
        with self._claimed(key):
            self._catalog.refuse_existing(key)
            below = self._catalog.parent(parent)
            device = new_id()

            def record(*_: object) -> None:
                self._catalog.add(key, parent, Kind.ACTIVE, device, labels)
                self._state.set_mapped({device: None})  # whoever mounts it may discard

            upon = below.device if below else self.base()
            self._devices.add(device, upon, size=self._size(labels), record=record)
            return self._attached(key, device, Kind.ACTIVE)

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]:
        """Make the view *key* of the committed *parent*; raises as :meth:`prepare`."""
        with self._claimed(key):
            base = "" if parent else self.base()
            with self._state.transaction():
                below = self._catalog.parent(parent)
                device = below.device if below else base
                self._catalog.add(key, parent, Kind.VIEW, device, labels)
            return self._attached(key, device, Kind.VIEW)

    def base(self) -> str:
        """The device of which a snapshot without a parent is one: the base device without ``lost+found``.

        It is made when it is missing or damaged, or when the base device has become larger. No image expects
        the folder, which e2fsck makes when it needs it.
        """
        devices = self._devices
        with self._claims.claimed("base of snapshots"):
            old = self._state.device(SNAPSHOT_BASE)
            size = devices.get(BASE).size
            if old is not None and old.size >= size and not devices.damage(SNAPSHOT_BASE):
                return SNAPSHOT_BASE
            name = SNAPSHOT_BASE if old is None else new_id()

            def record(*_: object) -> None:
                if old is not None:
                    self._state.exchange(SNAPSHOT_BASE, name)
                    self._state.mark_deleted(name)

            devices.add(name, BASE, fill=self._remove_lost_and_found, record=record)
            if old is not None:
                devices.retry_deletions()
            return SNAPSHOT_BASE

    def _remove_lost_and_found(self, volume: ThinVolume) -> None:
        with self._devices.filesystem.tree(volume) as tree:
            if tree.kind_of(b"lost+found") is not None:
                tree.remove(b"lost+found", recursive=True)

    def _attached(self, key: str, device: str, kind: Kind) -> list[Mount]:
        try:
            return [self._mount(device, kind)]
        except BaseException:
            with suppress(LamellaError):
                self._remove(self._catalog.get(key))
            raise

    def _size(self, labels: Mapping[str, str]) -> int | None:
        """The size in bytes that *labels* ask for."""
        for name in SIZE_LABELS:
            if name in labels:
                size = parse_size(labels[name])
                if not 0 < size <= BASE_MAX:
                    raise UsageError(
                        f"the label {name} asks for {size} bytes", hint=f"give up to {human_size(BASE_MAX)}"
                    )
                return -(-size // SECTOR) * SECTOR
        return None

    # -- mounting --------------------------------------------------------------------------------

    def mounts(self, key: str) -> list[Mount]:
        """How the active snapshot or the view *key* is mounted. Raises :class:`BusyError` for others."""
        with self._claimed(key):
            row = self._catalog.get(key)
            if row.kind == Kind.COMMITTED.value:
                raise BusyError(
                    f"snapshot {key} is neither active nor a view", hint="prepare one upon it, or view it"
                )
            return [self._mount(row.device, Kind(row.kind))]

    def _mount(self, device: str, kind: Kind) -> Mount:
        filesystem = self._devices.filesystem.kind
        options = [*REQUIRED_OPTIONS.get(filesystem, ()), *self._devices.options.mount_options]
        read_only = kind is Kind.VIEW
        if read_only:
            options += ["ro", *READ_ONLY_OPTIONS.get(filesystem, ())]
        path = self.nodes.attach(device, read_only=read_only)
        return Mount(filesystem, str(path), tuple(options))

    # -- unpacking -------------------------------------------------------------------------------

    def apply(self, source: str, layer: LayerStream) -> None:
        """Unpack *layer* into the active snapshot whose block device is *source*, which nobody has mounted.

        Its digest is verified at the end; where that, or anything else, fails, what is in the snapshot is of
        no use, and whoever prepared it removes it. Raises :class:`UnsupportedError`, with nothing changed,
        where this cannot do it.
        """
        name = self.nodes.name_of(source)
        row = self._catalog.of_device(name) if name is not None else None
        if row is None:
            raise UnsupportedError(
                f"{source} is not the block device of an active snapshot", hint="let another differ do it"
            )
        with self._claimed(row.key):
            row = self._catalog.of_device(row.device)
            if row is None or self.nodes.is_open(row.device) or self._needs_recovery(row.device):
                raise UnsupportedError(
                    f"the snapshot at {source} is mounted, or was written to", hint="let another differ do it"
                )
            self._devices.check_free_space()
            log.info("unpacking %s into snapshot %s", layer.name, row.key)
            with self._devices.engine.filling(self._devices.get(row.device)) as volume:
                self._devices.filesystem.apply_layer(volume, layer)
                read_to_end(layer)
            self.nodes.forget_cached(row.device)

    # -- committing ------------------------------------------------------------------------------

    def commit(self, name: str, key: str, labels: Mapping[str, str], *, parent: str = "") -> None:
        """Make the active snapshot *key* the committed *name*, with *labels* in place of its own.

        Where it is still mounted, the committed one is a snapshot of this moment. Raises
        :class:`ExistsError` for the name, :class:`BusyError` for one that is not active, and
        :class:`UnsupportedError` where another *parent* than the present one is asked for.
        """
        with self._claimed(key), self._claimed(name):
            row = self._catalog.get(key)
            self._catalog.refuse_existing(name)
            if row.kind != Kind.ACTIVE.value:
                raise BusyError(f"snapshot {key} is not active", hint="only an active snapshot is committed")
            if parent and parent != row.parent_key:
                raise UnsupportedError(
                    f"snapshot {key} cannot be moved upon {parent}, as it was not prepared upon it",
                    hint="prepare it upon its parent: the capability to rebase is not announced",
                )
            if self.nodes.is_open(row.device):
                self._commit_copy(row, name, labels)
                return
            self._complete(row)
            with self._state.transaction():
                self._catalog.commit(row, name, labels, row.device)

    def _commit_copy(self, row: Row, name: str, labels: Mapping[str, str]) -> None:
        """Commit a snapshot of a device that is mounted; the device goes when it is unmounted."""
        log.info("snapshot %s is committed while it is mounted: with what is on the disk now", row.key)
        os.sync()
        device = new_id()

        def record(*_: object) -> None:
            self._catalog.commit(row, name, labels, device)
            self._state.mark_deleted(row.device)

        self._devices.add(device, row.device, record=record)
        self._replay_journal(device)
        self.nodes.detach(row.device)
        self._devices.retry_deletions()
        self._later()

    def _complete(self, row: Row) -> None:
        """Detach the device, whose file system is whole then without its journal."""
        dirty = self._needs_recovery(row.device)
        self.nodes.detach(row.device)
        if dirty:
            self._replay_journal(row.device)

    def _needs_recovery(self, device: str) -> bool:
        engine, found = self._devices.engine, self._devices.get(device)
        with engine.pool.open_volume(found.device_id, found.size, read_only=True) as volume:
            return engine.needs_recovery(volume)

    def _replay_journal(self, device: str) -> None:
        """As each mount would do it, which a view may not: its mount is read-only."""
        with self._devices.volume(device, read_only=False):
            pass

    # -- removing --------------------------------------------------------------------------------

    def remove(self, key: str) -> None:
        """Remove *key*. Raises :class:`BusyError` if another snapshot was made upon it.

        What is still mounted goes when it is unmounted.
        """
        with self._claimed(key):
            row = self._catalog.get(key)
            self._catalog.refuse_parent(row)
            self._remove(row)

    def _remove(self, row: Row) -> None:
        if row.kind == Kind.VIEW.value:
            with self._state.transaction():
                self._catalog.remove(row)
                others = self._catalog.views(row.device)
            if not others and not self.nodes.detach(row.device):
                self._later()
            return
        self.nodes.detach(row.device)

        def record(*_: object) -> None:
            self._catalog.remove(row)
            if self._async_remove:
                self._state.mark_deleted(row.device)

        if self._async_remove:
            with self._state.transaction():
                record()
        else:
            self._devices.delete([row.device], record=record)
            if self._state.device(row.device) is not None:
                self._later()

    def clean_up(self) -> bool:
        """Delete what is marked as deleted and not in use any more; whether nothing is left of that."""
        with self._use():
            self.nodes.finish_detaching()
            self._devices.retry_deletions()
            return not self._state.devices(deleted=True)

    # -- looking ---------------------------------------------------------------------------------

    def stat(self, key: str) -> Snapshot:
        """The record of *key*. Raises :class:`NotFoundError`."""
        with self._use():
            return self._catalog.get(key).snapshot

    def walk(self) -> list[Snapshot]:
        """All records, the oldest first."""
        with self._use():
            return [row.snapshot for row in self._catalog.rows()]

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot:
        """Change the labels of *key*: all, or those that the field mask *paths* names; gives the record."""
        with self._claimed(key), self._state.transaction():
            row = self._catalog.get(key)
            self._catalog.set_labels(row, merged_labels(row.snapshot, labels, paths))
            return self._catalog.get(key).snapshot

    def usage(self, key: str) -> Usage:
        """What *key* takes that its parent does not. A view takes nothing."""
        with self._use():
            return self._usage(key)

    def _usage(self, key: str) -> Usage:
        row = self._catalog.get(key)
        if row.kind == Kind.VIEW.value:
            return Usage(0, 0)
        known = row.usage
        if known is not None:
            return known
        found = self._measured(row)
        if row.kind == Kind.COMMITTED.value:
            with self._state.transaction():
                self._catalog.set_usage(row, found)
        return found

    def _measured(self, row: Row) -> Usage:
        devices = self._devices
        below = self._catalog.find(row.parent_key) if row.parent_key else None
        one, two = devices.get(below.device if below else self.base()), devices.get(row.device)
        chunks = devices.pool.chunks_beyond(one.device_id, two.device_id)
        inodes = []
        for each in (one, two):
            with devices.pool.open_volume(each.device_id, each.size, read_only=True) as volume:
                inodes.append(devices.filesystem.condition(volume).used_inodes)
        return Usage(chunks * devices.pool.chunk_size, max(0, inodes[1] - inodes[0]))

    @contextmanager
    def _claimed(self, key: str) -> Iterator[None]:
        """One at a time for each key."""
        if not key:
            raise UsageError("a snapshot needs a key", hint="give one")
        with self._use(), self._claims.claimed(f"snapshot {key}"):
            yield
