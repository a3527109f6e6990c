# SPDX-License-Identifier: Apache-2.0
"""Images in what ``docker save`` writes: a tar with ``manifest.json``.

Format: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format". From
Docker 25 on the same tar is an OCI layout too; the layers' names are then ``blobs/sha256/...``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.errors import BadInputError, NotFoundError, UsageError
from lamella.images.config import parse_config
from lamella.images.content import read_whole
from lamella.images.digest import digest_of
from lamella.images.image_source import LayerBlob, SourceImage
from lamella.images.reference import Reference
from lamella.images.resolve import check_platform
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT, Document, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.images.content import Piece
    from lamella.images.platform import Platform
    from lamella.images.tar_index import TarIndex

_CONTENT_NAME = re.compile(r"(?:(?:.*/)?blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_BLOB_NAME = re.compile(r"blobs/sha256/([0-9a-f]{64})")


def archive_images(index: TarIndex, wanted: Platform | None) -> list[SourceImage]:
    """Every image that ``manifest.json`` lists; only those for *wanted*, if that was asked for."""
    piece = index.piece("manifest.json")
    assert piece is not None
    what = f"manifest.json in {index.what}"
    entries = parse_json(read_whole(piece, MANIFEST_LIMIT), what)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadInputError(f"{what} is not a list of images")
    if not entries:
        raise BadInputError(f"{index.what} contains no images")
    images: dict[str, SourceImage] = {}
    for number, entry in enumerate(entries):
        assert isinstance(entry, dict)
        image = _read_image(index, Document(entry, f"{what}, image {number}"))
        known = images.setdefault(image.config_digest, image)
        if known is not image:
            known.references += [name for name in image.references if name not in known.references]
    return for_platform(list(images.values()), wanted, index.what)


def for_platform(images: list[SourceImage], wanted: Platform | None, what: str) -> list[SourceImage]:
    """Those of *images* that suit *wanted*; :class:`NotFoundError` where none does."""
    if wanted is not None and len(images) > 1:
        suitable = [image for image in images if wanted.rank(image.parsed.platform) is not None]
        if not suitable:
            listed = ", ".join(sorted({str(image.parsed.platform) for image in images}))
            raise NotFoundError(f"{what} has no image for {wanted}; available: {listed}")
        images = suitable
    for image in images:
        check_platform(image.parsed.platform, wanted, what)
    return images


def _read_image(index: TarIndex, entry: Document) -> SourceImage:
    config_name = entry.text("Config")
    if not config_name:
        raise BadInputError(f"{entry.what} names no configuration")
    piece = index.piece(config_name)
    if piece is None:
        raise BadInputError(f"{index.what} does not have the configuration {config_name[:200]!r}")
    config = read_whole(piece, CONFIG_LIMIT)
    digest = digest_of(config)
    named = _CONTENT_NAME.fullmatch(config_name)
    if named and digest != f"sha256:{named[1]}":
        raise BadInputError(
            f"{piece.name} does not have the digest it should have: "
            f"sha256:{named[1]} expected, {digest} found"
        )
    names = entry.texts("Layers")
    parsed = parse_config(config, f"the configuration {config_name[:200]!r}", layers=len(names))
    layers = [_layer(index, name, diff_id) for name, diff_id in zip(names, parsed.diff_ids, strict=True)]
    references = parse_tags(entry.texts("RepoTags"), entry.what)
    return SourceImage(references, config, digest, parsed, layers)


def _layer(index: TarIndex, name: str, diff_id: str) -> LayerBlob:
    piece = index.piece(name, f"the layer {name[:200]!r} in {index.what}")
    if piece is None:
        raise BadInputError(
            f"{index.what} does not have the layer {name[:200]!r}",
            hint="the archive is incomplete; save the image again",
        )
    found: Piece = piece
    blob = _BLOB_NAME.fullmatch(name)
    digest = f"sha256:{blob[1]}" if blob else None
    return LayerBlob(digest, piece.size, "", diff_id, lambda layer: found)


def parse_tags(tags: Iterable[str], what: str) -> list[Reference]:
    """References in an archive; a bad one is the archive's fault."""
    found: list[Reference] = []
    for tag in tags:
        try:
            reference = Reference.parse(tag)
        except UsageError as error:
            raise BadInputError(f"{what}: {error.message}") from error
        if reference not in found:
            found.append(reference)
    return found
