# SPDX-License-Identifier: Apache-2.0
"""The store as one object: everything that the command line can do, for programs.

The class lists its methods; each is in the module of ``lamella.store.methods`` before its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.progress import QUIET
from lamella.store.default_root import default_root
from lamella.store.methods import containers as of_containers
from lamella.store.methods import files as of_files
from lamella.store.methods import images as of_images
from lamella.store.methods import kernel as in_kernel
from lamella.store.methods import pool as of_pool
from lamella.store.methods import snapshots as of_containerd
from lamella.store.open_store import OpenStore
from lamella.store.opening import Opened
from lamella.store.root import Root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.progress import Progress
    from lamella.store.root import Place


class Store(OpenStore):
    """Images and containers on one thin pool. Use :meth:`setup` or :meth:`open`, and close it after.

    One writer at a time; any number of readers may share a store, also while a writer is in one of its
    methods, and see the last commit. Changes are durable when a method returns. A method that raises
    (:class:`lamella.errors.LamellaError`) leaves the store unchanged. An instance is not thread-safe.
    """

    @staticmethod
    def default_root() -> Path:
        """``$LAMELLA_ROOT``; else ``/var/lib/lamella`` for root, the user's data folder for others."""
        return default_root()

    @staticmethod
    def exists(root: Place = None) -> bool:
        """Whether there is a store at *root*."""
        return Root.at(root).config.exists()

    @classmethod
    def setup(
        cls,
        root: Place = None,
        *,
        mode: str | None = None,
        storage_options: Sequence[str] = (),
        engine: str = "auto",
        progress: Progress = QUIET,
        wait: float = 0.0,
    ) -> Store:
        """Create a store and open it for writing; or open the existing one, changed as the options ask.

        *mode* is "loop-lvm" or "direct-lvm"; None is that of the existing store or the one that the options
        imply, else loop-lvm. *storage_options* are Docker's ``dm.*`` options. On an existing store
        ``dm.basesize`` and the sizes of the pool's files may be increased, and options of behaviour changed;
        anything else raises. *engine* is as for :meth:`open`, and is recorded if it is not "auto".
        An interrupted set-up is started again or continued.
        """
        from lamella.store.setup import set_up

        opened = set_up(
            Root.at(root),
            mode=mode,
            storage_options=storage_options,
            engine=engine,
            progress=progress,
            wait=wait,
        )
        return cls(opened)

    @classmethod
    def open(
        cls, root: Place = None, *, read_only: bool = False, wait: float = 0.0, engine: str = "auto"
    ) -> Store:
        """Open a store, waiting up to *wait* seconds for its lock.

        *engine* is the thin-pool engine: "user" (this process), "kernel" (device-mapper; needs root) or
        "auto", which takes ``LAMELLA_ENGINE``, else the engine recorded by set-up, else the kernel's where it
        can be used. Opening for writing first cleans up after interrupted commands. Raises
        :class:`NotFoundError` where there is no store, :class:`BusyError` naming who holds the lock, and
        :class:`CorruptError` where the pool and ``state.db`` do not match.
        """
        return cls(Opened.open(Root.at(root), read_only=read_only, wait=wait, engine=engine))

    # the pool, and the store as a whole
    plan = staticmethod(of_pool.plan)
    abandon = staticmethod(of_pool.abandon)
    repair = staticmethod(of_pool.repair)
    grow = staticmethod(of_pool.grow)
    teardown = of_pool.teardown
    info = of_pool.info
    health = of_pool.health
    df = of_pool.df
    gauges = of_pool.gauges
    map = of_pool.storage_map
    check = of_pool.check
    remove_unknown_devices = of_pool.remove_unknown_devices

    # images
    images = of_images.images
    history = of_images.history
    prune = of_images.prune
    load = of_images.load
    open_archive = staticmethod(of_images.open_archive)
    look_up = staticmethod(of_images.look_up)
    pull = of_images.pull
    save = of_images.save
    tag = of_images.tag
    remove_image = of_images.remove_image
    inspect = of_images.inspect

    # containers
    create = of_containers.create
    rename = of_containers.rename
    containers = of_containers.containers
    remove_container = of_containers.remove_container
    resize = of_containers.resize
    diff = of_containers.diff
    commit = of_containers.commit

    # containerd's snapshots
    snapshots = of_containerd.snapshots
    inspect_snapshot = of_containerd.inspect_snapshot
    remove_snapshot = of_containerd.remove_snapshot

    # files in containers and images
    tree = of_files.tree
    place = of_files.place
    copy_in = of_files.copy_in
    copy_out = of_files.copy_out
    export = of_files.export

    # with the kernel's engine
    mount = in_kernel.mount
    unmount = staticmethod(in_kernel.unmount)
    activate = in_kernel.activate
    node = in_kernel.node
    deactivate = staticmethod(in_kernel.deactivate)
