# SPDX-License-Identifier: Apache-2.0
"""Images in an OCI layout: a folder, or the same folder as a tar (an oci-archive).

Format: OCI image specification, ``image-layout.md``. Names are found in the annotations
``io.containerd.image.name`` and ``org.opencontainers.image.ref.name`` of ``index.json``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from lamella.errors import BadInputError, UnsupportedError
from lamella.images.content import PathPiece, Piece, read_whole
from lamella.images.docker_archive import parse_tags
from lamella.images.manifest import (
    NAME_ANNOTATION,
    OCI_INDEX,
    REF_NAME_ANNOTATION,
    Descriptor,
    Index,
    NotAnImageError,
    parse_manifest,
)
from lamella.images.resolve import Known, Resolver
from lamella.images.strict_json import MANIFEST_LIMIT, Document

if TYPE_CHECKING:
    from lamella.images.image_source import LayerBlob, SourceImage
    from lamella.images.platform import Platform
    from lamella.images.reference import Reference


class Content(Protocol):
    """Files by their names in the layout; ``what`` names the whole in errors."""

    what: str

    def piece(self, name: str, what: str = "") -> Piece | None: ...


class Folder:
    """A layout that is a folder. Blobs may be links, as some stores keep them; their content is verified."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.what = path

    def piece(self, name: str, what: str = "") -> Piece | None:
        path = os.path.join(self.path, name)
        return PathPiece(path, f"{what} ({path})" if what else path) if os.path.exists(path) else None


class LayoutBlobs:
    """Blobs by digest in a layout's ``blobs`` folder."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def piece(self, digest: str, what: str) -> Piece | None:
        algorithm, _, value = digest.partition(":")
        return self._content.piece(f"blobs/{algorithm}/{value}", what)

    def document(self, descriptor: Descriptor, limit: int) -> bytes | None:
        piece = self.piece(descriptor.digest, f"the blob {descriptor.digest}")
        return read_whole(piece, limit) if piece is not None else None

    def fetch(self, layer: LayerBlob) -> Piece:
        assert layer.digest is not None
        piece = self.piece(layer.digest, layer.name)
        if piece is None:
            if layer.urls or "foreign" in layer.media_type or "nondistributable" in layer.media_type:
                raise UnsupportedError(
                    f"{self._content.what} leaves out {layer.name}, which is not distributable",
                    hint="pull the image from its registry instead",
                )
            raise BadInputError(f"{self._content.what} does not have {layer.name}")
        return piece


def layout_images(content: Content, wanted: Platform | None) -> list[SourceImage]:
    """Every image that ``index.json`` names, in its order; of a multi-platform list the one that suits."""
    marker = content.piece("oci-layout")
    if marker is not None:
        document = Document.parse(read_whole(marker, 4096), f"oci-layout in {content.what}")
        version = document.text("imageLayoutVersion")
        if not version.startswith("1."):
            raise UnsupportedError(f"{content.what} is an OCI layout of the unknown version {version[:50]!r}")
    piece = content.piece("index.json")
    if piece is None:
        raise BadInputError(f"{content.what} has no index.json")
    what = f"index.json in {content.what}"
    index = parse_manifest(read_whole(piece, MANIFEST_LIMIT), what, OCI_INDEX)
    assert isinstance(index, Index)
    blobs = LayoutBlobs(content)
    images: dict[str, SourceImage] = {}
    names: dict[str, dict[Reference, None]] = {}
    shared = Known()
    refused: NotAnImageError | None = None
    for name, descriptors in _groups(index):
        resolver = Resolver(blobs, wanted, f"{content.what}" + (f" ({name[:300]})" if name else ""), shared)
        try:
            resolved = resolver.resolve_group(descriptors)
        except NotAnImageError as error:  # a signature or an SBOM lies beside the images
            refused = refused or error
            continue
        references, tag = _naming(name, what)
        key = resolved.manifest.config.digest
        if key not in images:
            images[key] = resolved.image([], blobs.fetch, tag)
        names.setdefault(key, {}).update(dict.fromkeys(references))
        images[key].tag = images[key].tag or tag
    if not images and index.others and refused is None:
        raise index.holds_no_image(content.what)
    if not images:
        raise refused or BadInputError(f"{content.what} contains no images")
    for key, image in images.items():
        image.references = list(names[key])
    return list(images.values())


def _groups(index: Index) -> list[tuple[str, list[Descriptor]]]:
    """The entries by name. Several without a name are one image if each is for its own platform."""
    named: dict[str, list[Descriptor]] = {}
    unnamed: list[Descriptor] = []
    for descriptor in index.manifests:
        if descriptor.is_attestation:
            continue
        name = descriptor.annotations.get(NAME_ANNOTATION) or descriptor.annotations.get(REF_NAME_ANNOTATION)
        if name:
            named.setdefault(name, []).append(descriptor)
        else:
            unnamed.append(descriptor)
    platforms = {descriptor.platform for descriptor in unnamed}
    if None not in platforms and len(platforms) == len(unnamed) and unnamed:
        return [*named.items(), ("", unnamed)]
    return [*named.items(), *(("", [descriptor]) for descriptor in unnamed)]


def _naming(name: str, what: str) -> tuple[list[Reference], str]:
    """A name is a reference, or (umoci, skopeo) a tag with no repository."""
    if not name:
        return [], ""
    if not any(sign in name for sign in "/:@"):
        return [], name
    return parse_tags([name], what), ""
