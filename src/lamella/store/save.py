# SPDX-License-Identifier: Apache-2.0
"""Saving images from the store, as archives that they can be loaded from."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.errors import UsageError
from lamella.images.reference import Reference
from lamella.images.write import OutImage, OutLayer, write_docker_archive, write_oci_layout
from lamella.store.catalog import stored_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from lamella.images.write import Sink
    from lamella.progress import Progress
    from lamella.store.catalog import Catalog, Image, Layer
    from lamella.store.layers import Layers

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


def save(
    catalog: Catalog,
    layers: Layers,
    names: Sequence[str],
    out: str | os.PathLike[str] | BinaryIO,
    format: str,
    progress: Progress,
) -> None:
    """Write the images called *names*, each with those of the names that refer to it."""
    if format not in FORMATS:
        raise UsageError(f"unknown archive format {format!r}", hint=f"known: {', '.join(FORMATS)}")
    if not names:
        raise UsageError("no image was given", hint="name one or more: lamella save IMAGE")
    wanted: dict[str, tuple[Image, dict[Reference, None]]] = {}
    for name in names:
        for image, given in images_named(catalog, name):
            _, references = wanted.setdefault(image.id, (image, {}))
            references |= dict.fromkeys(given)
    chains = {image.id: catalog.chain(image.top) for image, _ in wanted.values()}
    images = [
        OutImage(
            list(references),
            image.config,
            [
                OutLayer(layer.diff_id, layer.tar_size, partial(_pack, layers, layer, progress))
                for layer in chains[image.id]
            ],
        )
        for image, references in wanted.values()
    ]
    target = Path(out) if isinstance(out, str | os.PathLike) else out
    if format == "docker-archive":
        write_docker_archive(images, target)
    else:
        write_oci_layout(images, target, format == "oci-archive")


def images_named(catalog: Catalog, name: str) -> list[tuple[Image, list[Reference]]]:
    """The images that *name* stands for, each with the names that go into the archive.

    A repository without a tag means all its tags (the manual of ``docker image save``), an id no name.
    """
    try:
        reference = Reference.parse(name, default_tag=False)
    except UsageError:
        reference = None
    if reference is not None and not reference.tag and not reference.digest:
        found = [
            (image, tags)
            for image in catalog.images()
            if (tags := [each for each in catalog.references(image.id) if _is_tag_of(each, reference)])
        ]
        if found:
            return found
    image = catalog.find_image(name)
    given = _reference(catalog, image, name)
    return [(image, [given] if given is not None else [])]


def _is_tag_of(each: Reference, repository: Reference) -> bool:
    return bool(each.tag) and not each.digest and each.name == repository.name


def _reference(catalog: Catalog, image: Image, name: str) -> Reference | None:
    """The tagged name that *name* is, or None where it is an id or a digest."""
    known = {stored_name(reference) for reference in catalog.references(image.id)}
    try:
        reference = Reference.parse(name)
    except UsageError:
        return None
    return reference if reference.tag and stored_name(reference) in known and not reference.digest else None


def _pack(layers: Layers, layer: Layer, progress: Progress, sink: Sink) -> None:
    progress.start(f"layer {layer.diff_id.partition(':')[2][:12]}: packing", layer.tar_size)
    layers.pack(layer, _WithProgress(sink, progress))
    progress.done()


class _WithProgress:
    """A sink that reports progress."""

    def __init__(self, sink: Sink, progress: Progress) -> None:
        self._write = sink.write
        self._progress = progress

    def write(self, data: bytes, /) -> None:
        self._write(data)
        self._progress.advance(len(data))
