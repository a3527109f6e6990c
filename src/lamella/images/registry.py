# SPDX-License-Identifier: Apache-2.0
"""Images in a registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.images.credentials import Credentials, find_credentials
from lamella.images.download import PARALLEL, Downloader
from lamella.images.image_source import ImageSource
from lamella.images.platform import Platform
from lamella.images.reference import DEFAULT_TAG, Reference
from lamella.images.registry_client import RegistryClient
from lamella.images.resolve import Resolver
from lamella.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lamella.images.content import Piece
    from lamella.images.image_source import LayerBlob, SourceImage
    from lamella.images.manifest import Descriptor
    from lamella.images.transport import Transport
    from lamella.progress import Progress


class _Counted:
    """The documents of a registry, each reported."""

    def __init__(self, client: RegistryClient, progress: Progress) -> None:
        self._client = client
        self._progress = progress

    def document(self, descriptor: Descriptor, limit: int) -> bytes | None:
        found = self._client.document(descriptor, limit)
        self._progress.advance(1)
        return found


class RegistrySource(ImageSource):
    """The image that *reference* names in its registry.

    *folder* is where layers are downloaded to, and where an interrupted download is resumed; *insecure*
    allows plain HTTP and unknown certificates; *platform* chooses from manifest lists (default: this
    machine's); *credentials* None looks them up as Docker does. ``digest`` is, once
    :meth:`images` was called, that of the manifest or index that the reference stands for. *progress* is told
    of what is waited for until then.

    Errors: :class:`~lamella.errors.NotFoundError` where there is no such image or platform,
    :class:`~lamella.errors.NetworkError` where the registry cannot be reached or refuses,
    :class:`~lamella.errors.BadInputError` for anything that is not what its digest says.
    """

    def __init__(
        self,
        reference: Reference | str,
        folder: Path,
        *,
        insecure: bool = False,
        platform: Platform | str | None = None,
        credentials: Credentials | None = None,
        parallel: int = PARALLEL,
        transport: Transport | None = None,
        progress: Progress = QUIET,
    ) -> None:
        self.reference = Reference.parse(reference) if isinstance(reference, str) else reference
        self.name = str(self.reference)
        self.digest = ""
        self._platform = Platform.parse(platform) if isinstance(platform, str) else platform
        self._client = RegistryClient(
            self.reference,
            insecure=insecure,
            find_credentials=lambda: credentials or find_credentials(self.reference.registry),
            transport=transport,
        )
        self._downloader = Downloader(self._client, folder, parallel=parallel)
        self._images: list[SourceImage] | None = None
        self._progress = progress

    def images(self) -> list[SourceImage]:
        """The one image; its manifest and configuration are fetched (once) and verified."""
        if self._images is None:
            self._progress.start(f"{self.name}: asking the registry", None, unit="documents")
            self._client.tell(self._progress.waiting)
            try:
                top, body = self._client.manifest(self.reference.digest or self.reference.tag or DEFAULT_TAG)
                self.digest = top.digest
                self._progress.advance(1)
                documents = _Counted(self._client, self._progress)
                resolved = Resolver(documents, self._platform, self.name).resolve_body(top, body)
            finally:
                self._client.tell(lambda why: None)  # downloads tell of themselves
            self._progress.done()
            # As with Docker, a digest names the image, and a tag beside it is only a remark.
            name = replace(self.reference, tag="") if self.reference.digest else self.reference
            self._images = [resolved.image([name], self._fetch)]
        return self._images

    def _fetch(self, layer: LayerBlob) -> Piece:
        return self._downloader.fetch(layer)

    def prefetch(self, layers: Sequence[LayerBlob], progress: Progress | None = None) -> None:
        self._downloader.start(layers, progress or QUIET)

    def release(self, layer: LayerBlob) -> None:
        self._downloader.release(layer)

    def close(self) -> None:
        self._downloader.close()
        self._client.close()
