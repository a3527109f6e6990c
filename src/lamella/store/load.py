# SPDX-License-Identifier: Apache-2.0
"""Loading images into the store, from an archive or a registry."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import LamellaError
from lamella.progress import Upward
from lamella.store.catalog import Image, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.state import State
    from lamella.images.image_source import ImageSource, SourceImage
    from lamella.images.reference import Reference
    from lamella.progress import Progress
    from lamella.store.catalog import Catalog
    from lamella.store.layers import Layers

log = logs.logger(__name__)


class Loader:
    """Loads images into one open store."""

    def __init__(self, state: State, catalog: Catalog, layers: Layers) -> None:
        self._state = state
        self._catalog = catalog
        self._layers = layers

    def load(self, source: ImageSource, progress: Progress, *, also: Sequence[Reference] = ()) -> list[Image]:
        """Unpack the layers that are new, and make all the images visible together at the end.

        *also* are names that the images get in addition to those of the source. A layer that is in the store
        is not opened, unless it is damaged: then it is unpacked anew. If anything fails, everything is
        undone, except for damaged layers that are whole again.
        """
        offered = source.images()
        for image in offered:
            _check_config(image)
        try:
            with self._layers.claims.pinned(chain for image in offered for chain in image.chain_ids):
                return self._load(source, offered, progress, also)
        except BaseException:
            # Raise the original error; what cannot be undone now, the next opening undoes.
            with suppress(LamellaError):
                self._layers.drop_unused()
            raise

    def _load(
        self,
        source: ImageSource,
        offered: Sequence[SourceImage],
        progress: Progress,
        also: Sequence[Reference],
    ) -> list[Image]:
        wanted = {
            chain: layer
            for image in offered
            for chain, layer in zip(image.chain_ids, image.layers, strict=True)
            if not self._layers.is_whole(chain)
        }
        source.prefetch(list(wanted.values()), progress)
        images = [self._unpack(source, image, progress) for image in offered]
        with self._state.transaction():
            for image, made in zip(offered, images, strict=True):
                self._catalog.add_image(made)
                for reference in (*image.references, *also):
                    self._catalog.set_reference(reference, made.id)
        return images

    def _unpack(self, source: ImageSource, image: SourceImage, progress: Progress) -> Image:
        parent: str | None = None
        size = 0
        for chain, blob in zip(image.chain_ids, image.layers, strict=True):
            layer = self._catalog.layer(chain)
            if layer is None or not self._layers.is_whole(chain):
                with blob.open() as stream:  # waits for a download and reports its progress
                    progress.start(f"{blob.label}: unpacking", blob.size)
                    read = Upward(progress, partial(getattr, stream, "taken"))
                    layer = self._layers.unpack(parent, blob.diff_id, stream, read.report)
                    read.report()
                    progress.done()
                source.release(blob)
            else:
                log.info("layer %s is there already, as device %s", blob.diff_id, layer.device)
            size += layer.size
            parent = chain
        created = image.parsed.created
        return Image(image.config_digest, image.config, parent, created, size, len(image.layers), now())


def _check_config(image: SourceImage) -> None:
    """Raise, before anything is unpacked, if the configuration cannot be used for a container."""
    config = image.parsed.document.child("config")
    for name in ("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"):
        config.texts(name)
    for name in ("StopSignal", "User", "WorkingDir"):
        config.text(name)
    for name in ("ExposedPorts", "Healthcheck", "Volumes"):
        config.child(name)
    config.text_map("Labels")
