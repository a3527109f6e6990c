# SPDX-License-Identifier: Apache-2.0
"""The store as one object: everything that the command line can do, for programs."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.closing import Closing
from lamella.errors import BusyError, LamellaError, NotFoundError, ReadOnlyError, UsageError
from lamella.progress import QUIET
from lamella.store import arguments
from lamella.store.catalog import Container
from lamella.store.damaged import require_whole, require_whole_container, require_whole_layers
from lamella.store.names import AmbiguousNameError, bare_id
from lamella.store.opening import Opened, remove_kernel_devices
from lamella.store.root import Root, default_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from lamella.driver.backend import Engine
    from lamella.driver.device_set import DeviceSet
    from lamella.driver.stack_node import Node
    from lamella.fs.difference import Change
    from lamella.images.image_source import ImageSource
    from lamella.progress import Progress
    from lamella.store.catalog import Image
    from lamella.store.grow import Growth
    from lamella.store.layers import Layers
    from lamella.store.load import Loader
    from lamella.store.repair_report import Repair
    from lamella.store.results import (
        ContainerSummary,
        HistoryStep,
        ImageSummary,
        Info,
        Pruned,
        StoreCheck,
        Usage,
    )
    from lamella.store.tree import Tree
    from lamella.store.unknown_devices import UnknownDevice, UnknownDevices
    from lamella.thin.health import Diagnosis

    Place = str | os.PathLike[str] | None


class Store(Closing):
    """Images and containers on one thin pool. Use :meth:`setup` or :meth:`open`, and close it after.

    One writer at a time; any number of readers may share a store, also while a writer is in one of its
    methods, and see the last commit. Changes are durable when a method
    returns. A method that raises (:class:`lamella.errors.LamellaError`) leaves the store unchanged. An
    instance is not thread-safe.
    """

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

    # -- setting up, opening, closing, tearing down ----------------------------------------------

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

    @classmethod
    def plan(
        cls,
        root: Place = None,
        *,
        mode: str | None = None,
        storage_options: Sequence[str] = (),
        engine: str = "auto",
    ) -> tuple[list[str], list[str]]:
        """What :meth:`setup` would find, and the equivalent commands of other tools. Writes nothing.

        Raises what would prevent the set-up.
        """
        from lamella.store.setup import plan

        return plan(Root.at(root), mode=mode, storage_options=storage_options, engine=engine)

    @classmethod
    def abandon(cls, root: Place = None, *, wait: float = 0.0) -> list[str] | None:
        """Undo an unfinished set-up; returns what could not be removed, or None if there is none."""
        from lamella.store.setup import abandon

        return abandon(Root.at(root), wait=wait)

    @classmethod
    def repair(
        cls,
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

    @classmethod
    def grow(
        cls,
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

    def close(self) -> None:
        """Close the store and release its lock. Closing twice is harmless."""
        self._opened.close()

    def teardown(self, force: bool = False) -> list[str]:
        """Remove the store: the pool, ``state.db`` and its other files. Closes it.

        Returns messages about what could not be removed. Raises :class:`BusyError`, before anything is
        changed, if the store has images or containers, unless *force*; and if one of its devices is in use
        (with *force*, what is mounted in the store's folder is unmounted first).
        """
        self._writable(matching=False)
        images, containers = len(self._catalog.images()), len(self._catalog.containers())
        if (images or containers) and not force:
            raise BusyError(
                f"the store in {self.root} holds {images} images and {containers} containers",
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

    # -- what the parts share --------------------------------------------------------------------

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

    # -- images ----------------------------------------------------------------------------------

    def images(self, filters: Sequence[str] = ()) -> list[ImageSummary]:
        """All images, the newest first; or those that fit Docker's *filters*, such as "dangling=true"."""
        from lamella.store import filters as rules
        from lamella.store.images import labels, summary

        wanted = rules.Filters(filters, rules.IMAGE_KEYS)
        found = rules.images(self._catalog, wanted, labels)
        return [summary(self._catalog, image, names=names) for image, names in found]

    def history(self, name: str) -> list[HistoryStep]:
        """How an image was made, the latest step first."""
        from lamella.store.history import history

        return history(self._catalog, self._catalog.find_image(name))

    def prune(
        self, filters: Sequence[str] = (), *, named: bool = False, agree: Callable[[], bool] = lambda: True
    ) -> Pruned:
        """Remove the images without a name that nothing uses; with *named* also those that have names.

        *filters* are Docker's "until" and "label". *agree* is asked before anything is removed.
        """
        from lamella.driver.active_devices import present
        from lamella.store.prune import unused
        from lamella.store.results import Pruned

        self._writable()
        with self._opened.beside_readers():
            mounted = {device for device, here in present(self._root.path).items() if here.points}
            wanted = unused(self._catalog, filters, mounted, named=named)
            if not agree():
                return Pruned([], 0)
            before = self.devices.pool.status().used_data
            lines = [line for image in wanted for line in self.remove_image(image.id, force=True)]
            freed = max(0, before - self.devices.pool.status().used_data)
            return Pruned(lines, freed * self.devices.pool.chunk_size)

    def remove_unknown_devices(
        self, *, agree: Callable[[Sequence[UnknownDevice]], bool] = lambda _: True
    ) -> UnknownDevices:
        """Remove the thin devices of the pool that ``state.db`` does not have, which :meth:`check` lists.

        *agree* gets them before any is removed. One that is open stays.
        """
        from lamella.store.unknown_devices import remove_unknown

        self._writable()
        with self._opened.beside_readers():
            return remove_unknown(self.devices, agree)

    def load(
        self, path: Place | ImageSource = None, *, platform: str | None = None, progress: Progress = QUIET
    ) -> list[ImageSummary]:
        """Unpack the images of a docker-archive, oci-archive or OCI layout; None reads standard input.

        Instead of a path it takes what :meth:`open_archive` returned; the caller closes that.
        The ``references`` of what is returned are the archive's, not all that the store has for the image.
        Every digest is verified before anything is visible; an error undoes everything. Raises
        :class:`lamella.errors.BadInputError`, :class:`lamella.errors.NoSpaceError` and others.
        """
        from lamella.images.image_source import ImageSource

        self._writable()
        if path is not None and not isinstance(path, ImageSource):
            arguments.place(path, "the archive")
        with self._opened.beside_readers():
            if isinstance(path, ImageSource):
                return self._load(path, progress)
            with self.open_archive(path, root=self.root, platform=platform, progress=progress) as source:
                return self._load(source, progress)

    def _load(self, source: ImageSource, progress: Progress) -> list[ImageSummary]:
        from lamella.store.images import summary

        loaded = self._loader.load(source, progress)
        return [
            replace(summary(self._catalog, image), references=[str(name) for name in offered.references])
            for offered, image in zip(source.images(), loaded, strict=True)
        ]

    @classmethod
    def open_archive(
        cls,
        path: Place = None,
        *,
        root: Place = None,
        platform: str | None = None,
        progress: Progress = QUIET,
    ) -> ImageSource:
        """Read and verify what an archive says that it holds, for :meth:`load`; None reads standard input.

        No store is opened, and there need not be one at *root*. Close it after. Raises as :meth:`load`.
        """
        from lamella.images.archive import open_archive

        folder = Root.at(root).make_scratch() if cls.exists(root) else None
        return open_archive(path, platform=platform, spool_folder=folder, progress=progress)

    @classmethod
    def look_up(cls, reference: str, *, insecure_registry: bool = False, platform: str | None = None) -> str:
        """The digest of the manifest that a registry has for *reference*; raises as :meth:`pull` does.

        Nothing is downloaded but the image's documents, and no store is needed.
        """
        from tempfile import TemporaryDirectory

        from lamella.images.registry import RegistrySource

        with (
            TemporaryDirectory(prefix="lamella-") as folder,
            RegistrySource(reference, Path(folder), insecure=insecure_registry, platform=platform) as source,
        ):
            source.images()
            return source.digest

    def pull(
        self,
        reference: str,
        *,
        insecure_registry: bool = False,
        platform: str | None = None,
        progress: Progress = QUIET,
    ) -> ImageSummary:
        """Fetch an image from its registry and unpack it; verified and undone as with :meth:`load`."""
        from lamella.images.registry import RegistrySource
        from lamella.store.images import summary

        self._writable()
        arguments.text(reference, "an image's name")
        folder = self._root.make_downloads()
        try:
            with (
                self._opened.beside_readers(),
                RegistrySource(
                    reference, folder, insecure=insecure_registry, platform=platform, progress=progress
                ) as source,
            ):
                source.images()
                by_digest = replace(source.reference, tag="", digest=source.digest)
                loaded = self._loader.load(source, progress, also=[by_digest])
        finally:
            with suppress(OSError):  # an interrupted pull has left something to go on with
                folder.rmdir()
        names = [str(name) for name in source.images()[0].references if not name.digest]
        return replace(summary(self._catalog, loaded[0], digest=source.digest), references=names)

    def save(
        self,
        names: Sequence[str],
        out: str | os.PathLike[str] | BinaryIO,
        *,
        format: str = "docker-archive",
        progress: Progress = QUIET,
    ) -> None:
        """Write images with all their layers, bit for bit as they were loaded, to an archive or a layout.

        *format* is "docker-archive", "oci-archive" or "oci-dir".
        """
        from lamella.store.save import images_named, save

        arguments.place_or_stream(out, "the output", "write")
        for name in arguments.texts(names, "the list of images"):
            for image, _ in images_named(self._catalog, name):
                require_whole_layers(self._catalog, self.devices, image, "cannot save", name)
        save(self._catalog, self._layers, names, out, format, progress)

    def tag(self, source: str, target: str) -> None:
        """Add the name *target* to the image *source*."""
        from lamella.store.images import tag

        self._writable()
        with self._opened.lock.briefly():
            tag(self._state, self._catalog, source, target)

    def remove_image(self, name: str, force: bool = False) -> list[str]:
        """Remove a name or a whole image, by Docker's rules; returns the lines that Docker prints."""
        from lamella.store import umount
        from lamella.store.rmi import Removal

        self._writable()
        removal = Removal(self._catalog, name, force=force)
        if removal.image is None:
            with self._opened.lock.briefly(), self._state.transaction():
                removal.carry_out(self._catalog)
            return removal.lines

        def record(_: object) -> None:
            for layer in removal.carry_out(self._catalog):
                self._state.mark_deleted(layer.device)

        device = self._catalog.device_of(removal.image.top)
        with self._opened.beside_readers():
            if force:
                umount.unmount_store_mount(self._root, device)
            else:
                umount.require_unmounted(self._root, device, f"image {name}")
            self.devices.delete([], record=record)
        return removal.lines

    def inspect(self, name: str, *, kind: str | None = None) -> dict[str, Any]:
        """The details of a container or an image, as ``docker inspect`` prints them.

        *kind* "image" or "container" takes only one of these.
        """
        from lamella.driver.active_devices import present_device
        from lamella.driver.device_names import device_name
        from lamella.store import containers, images

        if kind is None:
            thing = self._find(name)
        elif kind == "container":
            thing = self._catalog.find_container(name)
        else:
            thing = self._catalog.find_image(name)
        hash_ = thing.device if isinstance(thing, Container) else self._catalog.device_of(thing.top)
        driver = containers.driver_data(
            self._state.device(hash_),
            device_name(self._root.path, hash_),
            present_device(self._root.path, hash_),
        )
        if isinstance(thing, Container):
            return containers.inspect(thing, driver)
        return images.inspect(self._catalog, thing, driver)

    # -- containers ------------------------------------------------------------------------------

    def create(
        self, image: str, *, name: str | None = None, size: int | None = None, activate: bool = False
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
        with self._opened.beside_readers():
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
                    self.remove_container(made.id)
                raise
        return containers.summary(self._state, made)

    def rename(self, name: str, new: str) -> None:
        """Give a container another name. Raises :class:`ExistsError` for one that another container has."""
        from lamella.store.containers import rename

        self._writable()
        with self._opened.lock.briefly(), self._state.transaction():
            rename(self._catalog, name, new)

    def containers(self, filters: Sequence[str] = ()) -> list[ContainerSummary]:
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

    def remove_container(self, name: str, force: bool = False) -> list[str]:
        """Remove a container and everything in it; with *force*, one that does not exist is not an error.

        Raises :class:`BusyError` if it is mounted; with *force* it is first unmounted from the store's own
        folder. A device that is still open is deleted later (``dm.use_deferred_deletion``); the messages that
        this returns say who holds it.
        """
        from lamella.store.rm import remove_container

        self._writable()
        with self._opened.beside_readers():
            return remove_container(self._root, self.devices, self._catalog, name, force=force)

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

    # -- device-mapper and mounts ----------------------------------------------------------------

    def mount(
        self, name: str, folder: Place = None, *, read_only: bool = False, options: Sequence[str] = ()
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

    @classmethod
    def unmount(cls, name: str, *, root: Place = None, lazy: bool = False, wait: float = 0.0) -> list[str]:
        """Unmount a container or an image, by its name or its mount point, and deactivate its device.

        Returns warnings that say who holds the device. The pool is not opened, and may be damaged.
        """
        from lamella.store.umount import unmount

        return unmount(Root.at(root), name, lazy=lazy, wait=wait)

    def activate(self, names: Sequence[str] = ()) -> list[Path]:
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

    def node(self, name: str) -> Path:
        """The device node of a container or an image, which exists while it is active."""
        from lamella.devicemapper.nodes import mapper_path
        from lamella.driver.device_names import device_name

        return mapper_path(device_name(self.root, self._device_of(self._find(name))))

    @classmethod
    def deactivate(
        cls, names: Sequence[str] = (), *, root: Place = None, unmount: bool = False, wait: float = 0.0
    ) -> list[str]:
        """Deactivate containers and images; without *names* all of the store, with its pool.

        With *unmount*, what is mounted in the store's folder is unmounted first. Returns messages about what
        was done. Raises :class:`BusyError`, naming who uses what, before anything is deactivated.
        """
        from lamella.store.deactivate import deactivate

        return deactivate(Root.at(root), names, unmount=unmount, wait=wait)

    def resize(self, name: str, size: int, *, more: bool = False) -> int:
        """Extend a container to *size* bytes, or by that if *more*, also while mounted; returns its size."""
        from lamella.store.resize import resize

        self._writable()
        arguments.whole(size, "the size")
        container = self._catalog.find_container(name)
        with self._opened.beside_readers():
            if more:
                size += self.devices.get(container.device).size
            resize(self.root, self.devices, container.device, size, name=name)
        return size

    def _device_of(self, thing: Container | Image) -> str:
        return thing.device if isinstance(thing, Container) else self._catalog.device_of(thing.top)

    # -- files -----------------------------------------------------------------------------------

    def tree(self, name: str) -> Tree:
        """The files of a container or an image, for reading; use it as a context manager."""
        from lamella.store.tree import Tree

        return Tree(self.devices, self._tree_device(name), name)

    def place(self, text: str) -> tuple[str, bytes]:
        """Name and absolute path that *text* stands for: ``NAME``, ``NAME:/PATH`` or ``NAME:PATH``.

        In the last form the path begins at the root, and the longest name before a colon that there is
        counts, so that ``debian:12:etc`` is a path in an image with a tag.
        """
        name, slash, tail = text.partition(":/")
        if slash:
            return name, b"/" + os.fsencode(tail)
        end = len(text)
        while end > 0:
            with suppress(NotFoundError, UsageError):
                self._find(text[:end])
                return text[:end], b"/" + os.fsencode(text[end + 1 :])
            end = text.rfind(":", 0, end)
        name, _, tail = text.partition(":")
        return name, b"/" + os.fsencode(tail)

    def copy_in(
        self,
        container: str,
        source: str | os.PathLike[str] | BinaryIO,
        path: bytes | str,
        *,
        keep_owner: bool = False,
        follow_link: bool = False,
        progress: Progress = QUIET,
    ) -> None:
        """Copy a file, a folder, or the content of a tar stream into a container, as ``docker cp`` does.

        *path* is absolute in the container, as bytes or text; symlinks in it are followed inside the
        container, those that lead to nothing too. The owner is root unless *keep_owner*; a tar stream always
        keeps its owners. A *source* that is a symlink is copied as one unless *follow_link*.
        """
        from lamella.store.copy import copy_in

        self._writable()
        arguments.place_or_stream(source, "the source", "read")
        where = arguments.inside(path)
        device = self._catalog.find_container(container).device
        with self._opened.beside_readers():
            copy_in(
                self.devices,
                device,
                container,
                source,
                where,
                keep_owner=keep_owner,
                follow_link=follow_link,
                progress=progress,
            )

    def copy_out(
        self,
        name: str,
        path: bytes | str,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        follow_link: bool = False,
        progress: Progress = QUIET,
    ) -> None:
        """Copy a file or a folder out of a container or an image, to a local path or as a tar stream.

        A *path* that is a symlink is copied as one unless *follow_link*.
        """
        from lamella.store.copy import copy_out

        arguments.place_or_stream(target, "the target", "write")
        where = arguments.inside(path)
        copy_out(
            self.devices, self._tree_device(name), name, where, target, progress, follow_link=follow_link
        )

    def diff(self, container: str) -> list[Change]:
        """The differences between a container and its image: kind "A", "C" or "D", and the path."""
        from lamella.store.diff import container_changes

        found = self._catalog.find_container(container)
        require_whole(self._catalog, self.devices, found.top, "cannot compare with its image", container)
        self._tree_device(found.id)
        return container_changes(self.devices, self._catalog.device_of(found.top), found.device)

    def commit(
        self,
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
        require_whole_container(
            self._catalog, self.devices, self._catalog.find_container(container), "cannot commit"
        )
        with self._opened.beside_readers():
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

    def export(
        self, name: str, out: str | os.PathLike[str] | BinaryIO, *, progress: Progress = QUIET
    ) -> None:
        """Write the whole tree of a container or an image as one tar."""
        from lamella.fs.difference import tree_size, write_tree
        from lamella.images.output import output

        arguments.place_or_stream(out, "the output", "write")
        with (
            self.devices.volume(self._tree_device(name)) as volume,
            self.devices.filesystem.reader(volume) as reader,
            output(out) as file,
        ):
            progress.start(f"from {name}", None if progress is QUIET else tree_size(reader))
            write_tree(reader, file, advance=progress.advance)
            progress.done()

    # -- the pool --------------------------------------------------------------------------------

    def info(self) -> Info:
        """The pool's state and settings, as in ``docker info``."""
        from lamella.store.info import info

        return info(self._root.path, self._catalog, self.devices)

    def health(self) -> Diagnosis:
        """The state of the pool, what it means for containers, and the commands to run next."""
        from lamella.store.pool_health import health

        return health(self.devices)

    def df(self) -> list[Usage]:
        """What takes the pool's space, and what removing each image and container would free."""
        from lamella.store.df import usage

        return usage(self._root.path, self._catalog, self.devices)

    def map(self) -> list[Node]:
        """The storage stack: the disks or files, each with the volumes, the pool and the devices on it."""
        from lamella.store.topology import storage_stack

        return storage_stack(self._root.path, self._catalog, self.devices)

    def check(self, *, progress: Progress = QUIET) -> StoreCheck:
        """Verify everything and change nothing; damage is reported, not raised."""
        from lamella.store.check import check

        return check(self._state, self._catalog, self._opened.backend, lambda: self.devices, progress)
