# SPDX-License-Identifier: Apache-2.0
"""What an archive, a layout or a registry offers: images, each with its layers ready to be opened."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lamella.closing import Closing
from lamella.images.chain import chain_ids
from lamella.images.stream import LayerStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.images.config import ImageConfig
    from lamella.images.content import Piece
    from lamella.images.reference import Reference
    from lamella.progress import Progress


class Fetch(Protocol):
    """Gives a layer's bytes; a registry downloads them first, an archive has them already."""

    def __call__(self, layer: LayerBlob) -> Piece: ...


@dataclass(eq=False)
class LayerBlob:
    """One layer. ``diff_id`` is the digest of its tar, ``digest`` that of the blob (None: unknown).

    ``size`` is the blob's size in bytes; ``urls`` are other places that a foreign layer may be had from.
    """

    digest: str | None
    size: int
    media_type: str
    diff_id: str
    fetch: Fetch = field(repr=False)
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The layer's name in errors."""
        return f"the layer {self.digest or self.diff_id}"

    @property
    def label(self) -> str:
        """The layer's name in reports of progress, the same while it is downloaded and unpacked."""
        return f"layer {(self.diff_id or self.digest or '').partition(':')[2][:12]}"

    def open(self, *, max_size: int | None = None) -> LayerStream:
        """The uncompressed tar as a verifying stream (see :class:`~lamella.images.stream.LayerStream`).

        A layer of a registry is downloaded first, if :meth:`ImageSource.prefetch` has not done so.
        """
        return LayerStream(
            self.fetch(self), digest=self.digest, size=self.size, diff_id=self.diff_id, max_size=max_size
        )


@dataclass
class SourceImage:
    """One image for one platform.

    ``config`` is the configuration's exact bytes and ``config_digest`` their digest, which is the
    image's id. ``references`` are the names that the source gives it, often none. ``tag`` is what an
    OCI layout calls it where that is a mere tag, with no repository.
    """

    references: list[Reference]
    config: bytes
    config_digest: str
    parsed: ImageConfig
    layers: list[LayerBlob]
    tag: str = ""

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    @property
    def chain_ids(self) -> list[str]:
        return chain_ids(self.diff_ids)


class ImageSource(Closing):
    """Base of all sources; a context manager, closed at the end.

    Nothing that a source offers has been verified except what its documents say of each other
    (manifest and configuration by their digests); a layer is verified by reading its stream.
    """

    name: str

    @abstractmethod
    def images(self) -> list[SourceImage]:
        """All images in it."""

    def prefetch(self, layers: Sequence[LayerBlob], progress: Progress | None = None) -> None:
        """These layers will be opened, in this order: begin to fetch them. Returns at once."""

    def release(self, layer: LayerBlob) -> None:
        """*layer* is not needed again: what was fetched for it may be deleted."""

    def close(self) -> None:
        """Close files and connections. Closing twice does nothing."""
