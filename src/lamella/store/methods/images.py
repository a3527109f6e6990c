# SPDX-License-Identifier: Apache-2.0
"""Methods of :class:`lamella.store.Store` for images, and ``inspect``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.progress import QUIET
from lamella.store import arguments
from lamella.store.catalog import Container
from lamella.store.damaged import require_whole_layers
from lamella.store.root import Root

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from lamella.images.image_source import ImageSource
    from lamella.progress import Progress
    from lamella.store.open_store import OpenStore
    from lamella.store.results import HistoryStep, ImageSummary, Pruned
    from lamella.store.root import Place


def images(self: OpenStore, filters: Sequence[str] = ()) -> list[ImageSummary]:
    """All images, the newest first; or those that fit Docker's *filters*, such as "dangling=true"."""
    from lamella.store import filters as rules
    from lamella.store.images import labels, summary

    wanted = rules.Filters(filters, rules.IMAGE_KEYS)
    found = rules.images(self._catalog, wanted, labels)
    return [summary(self._catalog, image, names=names) for image, names in found]


def history(self: OpenStore, name: str) -> list[HistoryStep]:
    """How an image was made, the latest step first."""
    from lamella.store.history import history

    return history(self._catalog, self._catalog.find_image(name))


def prune(
    self: OpenStore,
    filters: Sequence[str] = (),
    *,
    named: bool = False,
    agree: Callable[[], bool] = lambda: True,
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
        lines = [line for image in wanted for line in remove_image(self, image.id, force=True)]
        freed = max(0, before - self.devices.pool.status().used_data)
        return Pruned(lines, freed * self.devices.pool.chunk_size)


def load(
    self: OpenStore,
    path: Place | ImageSource = None,
    *,
    platform: str | None = None,
    progress: Progress = QUIET,
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
            return _load(self, path, progress)
        with open_archive(path, root=self.root, platform=platform, progress=progress) as source:
            return _load(self, source, progress)


def _load(self: OpenStore, source: ImageSource, progress: Progress) -> list[ImageSummary]:
    from lamella.store.images import summary

    loaded = self._loader.load(source, progress)
    return [
        replace(summary(self._catalog, image), references=[str(name) for name in offered.references])
        for offered, image in zip(source.images(), loaded, strict=True)
    ]


def open_archive(
    path: Place = None, *, root: Place = None, platform: str | None = None, progress: Progress = QUIET
) -> ImageSource:
    """Read and verify what an archive says that it holds, for :meth:`load`; None reads standard input.

    No store is opened, and there need not be one at *root*. Close it after. Raises as :meth:`load`.
    """
    from lamella.images.archive import open_archive

    folder = Root.at(root).make_scratch() if Root.at(root).config.exists() else None
    return open_archive(path, platform=platform, spool_folder=folder, progress=progress)


def look_up(reference: str, *, insecure_registry: bool = False, platform: str | None = None) -> str:
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
    self: OpenStore,
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
    self: OpenStore,
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


def tag(self: OpenStore, source: str, target: str) -> None:
    """Add the name *target* to the image *source*."""
    from lamella.store.images import tag

    self._writable()
    with self._opened.lock.briefly():
        tag(self._state, self._catalog, source, target)


def remove_image(self: OpenStore, name: str, force: bool = False) -> list[str]:
    """Remove a name or a whole image, by Docker's rules; returns the lines that Docker prints."""
    self._writable()
    with self._opened.turn():
        return _remove_image(self, name, force)


def _remove_image(self: OpenStore, name: str, force: bool) -> list[str]:
    from lamella.store import umount
    from lamella.store.rmi import Removal

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


def inspect(self: OpenStore, name: str, *, kind: str | None = None) -> dict[str, Any]:
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
        self._state.device(hash_), device_name(self._root.path, hash_), present_device(self._root.path, hash_)
    )
    if isinstance(thing, Container):
        return containers.inspect(thing, driver)
    return images.inspect(self._catalog, thing, driver)
