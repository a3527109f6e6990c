# SPDX-License-Identifier: Apache-2.0
"""Manifests and manifest lists (indexes), of Docker's and of OCI's kind.

Formats: OCI image specification 1.1 (``manifest.md``, ``image-index.md``, ``descriptor.md``) and
Docker's "Image Manifest Version 2, Schema 2". Schema 1 is recognised, and refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lamella.errors import BadInputError, UnsupportedError
from lamella.images.digest import check_digest
from lamella.images.platform import Platform
from lamella.images.strict_json import MANIFEST_LIMIT, Document

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

MANIFEST_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST)
INDEX_TYPES = (DOCKER_LIST, OCI_INDEX)
ACCEPT = (*MANIFEST_TYPES, *INDEX_TYPES)
"""Media types to ask a registry for."""

CONFIG_TYPES = (DOCKER_CONFIG, OCI_CONFIG, "application/octet-stream", "")
"""The last two stand in manifests that Docker 1.10 pushed through old registries."""

_FOREIGN = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
)
_LAYER_BASES = (DOCKER_LAYER, OCI_LAYER, *_FOREIGN)
_COMPRESSION_SUFFIXES = ("", ".gzip", "+gzip", ".zstd", "+zstd")
LAYER_TYPES = frozenset(base + suffix for base in _LAYER_BASES for suffix in _COMPRESSION_SUFFIXES)

_ARTIFACT = "it may be a chart, a plugin, a signature or another artifact kept in a registry"

ATTESTATION = "vnd.docker.reference.type"
"""Annotation of manifests that speak about another one (BuildKit's provenance); no image."""
NAME_ANNOTATION = "io.containerd.image.name"
REF_NAME_ANNOTATION = "org.opencontainers.image.ref.name"

SIZE_LIMIT = 1 << 50
"""No blob is larger than this: 1 PiB. A size beyond it is a lie or an error."""


@dataclass(frozen=True)
class Descriptor:
    """A pointer to a blob: what it is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict, compare=False)
    urls: tuple[str, ...] = ()

    @classmethod
    def read(cls, document: Document) -> Descriptor:
        """Check and take over a descriptor."""
        size = document.number("size", -1)
        if not 0 <= size <= SIZE_LIMIT:
            raise BadInputError(f"{document.what} has an impossible size: {size} bytes")
        platform = None
        if "platform" in document:
            inner = document.child("platform")
            platform = Platform.normal(inner.text("os"), inner.text("architecture"), inner.text("variant"))
        return cls(
            media_type=document.text("mediaType"),
            digest=check_digest(document.text("digest"), document.what),
            size=size,
            platform=platform,
            annotations=document.text_map("annotations"),
            urls=tuple(document.texts("urls")),
        )

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def is_attestation(self) -> bool:
        """Whether it describes another manifest instead of being an image of its own."""
        return ATTESTATION in self.annotations or (
            self.platform is not None
            and (self.platform.os, self.platform.architecture) == ("unknown", "unknown")
        )

    @property
    def is_foreign(self) -> bool:
        """Whether registries and archives may leave the blob out (Windows base layers)."""
        return self.media_type.startswith(_FOREIGN)


@dataclass(frozen=True)
class Manifest:
    """One image for one platform: its configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Index:
    """A list of manifests (or further lists): one image for several platforms, or several images.

    ``others`` are the media types of the entries that are neither, which have to be ignored (OCI image
    specification, ``image-index.md``: "MUST NOT generate an error").
    """

    media_type: str
    manifests: tuple[Descriptor, ...]
    others: tuple[str, ...] = ()

    def holds_no_image(self, what: str) -> NotAnImageError:
        """The error for the index called *what*, whose entries are all something else."""
        kinds = ", ".join(sorted({repr(kind[:100]) for kind in self.others})[:5])
        return NotAnImageError(f"{what} holds no image: its entries are of the types {kinds}")


class NotAnImageError(UnsupportedError):
    """A manifest of something else that is kept beside images: a signature, an SBOM, a chart."""


def parse_manifest(data: bytes, what: str, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index.

    *media_type* is what the descriptor or the registry's Content-Type called it; with "" the
    document itself must say. *what* names the document in errors: :class:`BadInputError` where it
    is malformed, :class:`UnsupportedError` where it is of a kind that holds no image for us.
    """
    if len(data) > MANIFEST_LIMIT:
        raise BadInputError(f"{what} is larger than the {MANIFEST_LIMIT >> 20} MiB that a manifest may have")
    document = Document.parse(data, what)
    own_type = document.text("mediaType")
    version = document.number("schemaVersion")
    if version == 1 or media_type in SCHEMA1 or own_type in SCHEMA1:
        raise UnsupportedError(
            f"{what} is a schema 1 manifest: this format was retired in 2016 and cannot be verified",
            hint="push the image again with a current tool, for example `skopeo copy --format v2s2`",
        )
    # One body must not be readable as two things (CVE-2021-41190).
    is_list, is_single = "manifests" in document, "config" in document or "layers" in document
    if is_list and is_single:
        raise BadInputError(f"{what} is both a manifest and a list of manifests")
    known = (*MANIFEST_TYPES, *INDEX_TYPES)
    if media_type in known and own_type and own_type != media_type:
        raise BadInputError(f"{what} is called {media_type} but calls itself {own_type[:100]!r}")
    actual = media_type if media_type in known else own_type or (OCI_INDEX if is_list else OCI_MANIFEST)
    if actual not in known:
        raise UnsupportedError(f"{what} is of the unknown type {actual[:100]!r}")
    if version != 2:
        raise BadInputError(f"{what} has the schema version {version} instead of 2")
    if is_list != (actual in INDEX_TYPES):
        raise BadInputError(f"{what} does not hold what its type {actual} says")
    if is_list:
        return _read_index(document, actual)
    return _read_manifest(document, actual)


def _read_index(document: Document, media_type: str) -> Index:
    manifests, others = [], []
    for child in document.children("manifests"):
        kind = child.text("mediaType")
        if kind in ("", *MANIFEST_TYPES, *INDEX_TYPES, *SCHEMA1):
            manifests.append(Descriptor.read(child))
        else:
            others.append(kind)
    return Index(media_type, tuple(manifests), tuple(others))


def _read_manifest(document: Document, media_type: str) -> Manifest:
    what = document.what
    if "config" not in document:
        raise BadInputError(f"{what} has no configuration")
    config = Descriptor.read(document.child("config"))
    if config.media_type not in CONFIG_TYPES:
        raise NotAnImageError(
            f"{what} is not a container image: its configuration is of the type {config.media_type[:100]!r}",
            hint=_ARTIFACT,
        )
    layers = tuple(Descriptor.read(child) for child in document.children("layers"))
    for layer in layers:
        if layer.media_type in LAYER_TYPES or not layer.media_type:
            continue
        if not layer.media_type.startswith(_LAYER_BASES):
            raise NotAnImageError(
                f"{what} is not a container image: its layer {layer.digest} is of the type "
                f"{layer.media_type[:100]!r}",
                hint=_ARTIFACT,
            )
        encrypted = layer.media_type.endswith("+encrypted")
        raise UnsupportedError(
            f"{what}: the layer {layer.digest} "
            + ("is encrypted" if encrypted else f"is of the unknown type {layer.media_type[:100]!r}")
        )
    return Manifest(media_type, config, layers)


def choose(
    candidates: list[tuple[Descriptor, Platform]], wanted: Platform
) -> list[tuple[Descriptor, Platform]]:
    """Those of *candidates* that suit the platform *wanted*, the best first (the order kept among equals)."""
    ranks = {platform: wanted.rank(platform) for platform in {platform for _, platform in candidates}}
    ranked = [(rank, pair) for pair in candidates if (rank := ranks[pair[1]]) is not None]
    ranked.sort(key=lambda item: item[0])
    return [pair for _, pair in ranked]
