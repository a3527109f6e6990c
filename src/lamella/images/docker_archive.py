# SPDX-License-Identifier: Apache-2.0
"""Images in what ``docker save`` writes: a tar with ``manifest.json``.

Format: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format". From
Docker 25 on the same tar is an OCI layout too; the layers' names are then ``blobs/sha256/...``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BadInputError, NotFoundError, UsageError
from lamella.images.config import check_layers, parse_config
from lamella.images.content import read_whole
from lamella.images.digest import digest_of
from lamella.images.image_source import LayerBlob, SourceImage
from lamella.images.reference import Reference
from lamella.images.resolve import check_platform
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT, Document, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.images.config import ImageConfig
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
    names: dict[str, dict[Reference, None]] = {}
    configs: dict[str, _Config] = {}
    for number, entry in enumerate(entries):
        assert isinstance(entry, dict)
        image = _read_image(index, Document(entry, f"{what}, image {number}"), configs)
        images.setdefault(image.config_digest, image)
        names.setdefault(image.config_digest, {}).update(dict.fromkeys(image.references))
    for digest, image in images.items():
        image.references = list(names[digest])
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


@dataclass(frozen=True)
class _Config:
    """A configuration's bytes, their digest, and what they say."""

    data: bytes
    digest: str
    parsed: ImageConfig


def _read_image(index: TarIndex, entry: Document, configs: dict[str, _Config]) -> SourceImage:
    """One image of ``manifest.json``; *configs* are those read so far, by their names."""
    config_name = entry.text("Config")
    if not config_name:
        raise BadInputError(f"{entry.what} names no configuration")
    found = configs.get(config_name)
    if found is None:
        found = configs[config_name] = _read_config(index, config_name)
    names = entry.texts("Layers")
    check_layers(found.parsed, _config_name(config_name), len(names))
    layers = [
        _layer(index, name, diff_id) for name, diff_id in zip(names, found.parsed.diff_ids, strict=True)
    ]
    references = parse_tags(entry.texts("RepoTags"), entry.what)
    return SourceImage(references, found.data, found.digest, found.parsed, layers)


def _config_name(name: str) -> str:
    return f"the configuration {name[:200]!r}"


def _read_config(index: TarIndex, config_name: str) -> _Config:
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
    return _Config(config, digest, parse_config(config, _config_name(config_name)))


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
    """References in an archive; a bad one is the archive's fault.

    One with a digest is left out: only a registry can say what it has under a digest, and Docker takes no
    such name from an archive either (moby, ``image/tarexport/load.go``).
    """
    found: dict[Reference, None] = {}
    for tag in tags:
        try:
            reference = Reference.parse(tag)
        except UsageError as error:
            raise BadInputError(f"{what}: {error.message}") from error
        if not reference.digest:
            found[reference] = None
    return list(found)
