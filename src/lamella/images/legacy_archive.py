# SPDX-License-Identifier: Apache-2.0
"""Images that Docker before 1.10 saved: no ``manifest.json``, no digests, only a chain of layers.

Format: Docker image specification v1.0. Each layer is a folder ``<id>/`` with ``json`` (which names
its ``parent``) and ``layer.tar``; ``repositories`` maps names and tags to the topmost layer's id. The
configuration that such an image has today is made from these as Docker's migration made it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import BadInputError
from lamella.images.config import parse_config
from lamella.images.content import read_whole
from lamella.images.digest import digest_of
from lamella.images.docker_archive import for_platform, parse_tags
from lamella.images.image_source import LayerBlob, SourceImage
from lamella.images.stream import LayerStream
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT, Document

if TYPE_CHECKING:
    from lamella.images.content import Piece
    from lamella.images.platform import Platform
    from lamella.images.reference import Reference
    from lamella.images.strict_json import Json
    from lamella.images.tar_index import TarIndex

DEPTH_LIMIT = 125
"""Most layers of an image: Docker's own (moby, ``layer/layer_store.go``, maxLayerDepth)."""
_ID = re.compile(r"[0-9a-f]{64}")
_TOP_KEYS = (
    "architecture",
    "os",
    "author",
    "config",
    "container_config",
    "container",
    "created",
    "docker_version",
)


@dataclass(frozen=True)
class _Layer:
    """One layer: its ``json``, where its tar lies, and the tar's digest."""

    document: Document
    data: Piece
    diff_id: str


def legacy_images(index: TarIndex, wanted: Platform | None) -> list[SourceImage]:
    """Every image that ``repositories`` names. Reads all layers once, as their digests are not recorded."""
    piece = index.piece("repositories")
    assert piece is not None
    what = f"repositories in {index.what}"
    document = Document.parse(read_whole(piece, MANIFEST_LIMIT), what)
    tops: dict[str, list[str]] = {}
    for repository in document.members:
        tags = document.child(repository)
        for tag in tags.members:
            tops.setdefault(tags.text(tag), []).append(f"{repository}:{tag}")
    if not tops:
        raise BadInputError(f"{index.what} contains no images")
    known: dict[str, _Layer] = {}
    images = [_read_image(index, top, parse_tags(names, what), known) for top, names in tops.items()]
    return for_platform(images, wanted, index.what)


def _read_image(
    index: TarIndex, top: str, references: list[Reference], known: dict[str, _Layer]
) -> SourceImage:
    """The image whose topmost layer is *top*; *known* are the layers read so far, by their ids."""
    chain: dict[str, _Layer] = {}
    layer_id = top
    while layer_id or not chain:
        if not _ID.fullmatch(layer_id):
            raise BadInputError(f"{index.what}: {layer_id[:100]!r} is not the id of a layer")
        if layer_id in chain:
            raise BadInputError(f"{index.what}: the layers below {top} form a cycle")
        if len(chain) == DEPTH_LIMIT:
            raise BadInputError(f"{index.what}: max depth exceeded: {top} has over {DEPTH_LIMIT} layers")
        if layer_id not in known:
            known[layer_id] = _read_layer(index, layer_id)
        chain[layer_id] = known[layer_id]
        layer_id = chain[layer_id].document.text("parent")
    lowest_first = list(reversed(chain.values()))
    names = [layer.diff_id for layer in lowest_first]
    config = _make_config([layer.document for layer in lowest_first], names)
    parsed = parse_config(config, f"the configuration of {top}", layers=len(names))
    layers = [_layer(layer.data, layer.diff_id) for layer in lowest_first]
    return SourceImage(references, config, digest_of(config), parsed, layers)


def _read_layer(index: TarIndex, layer_id: str) -> _Layer:
    described, data = index.piece(f"{layer_id}/json"), index.piece(f"{layer_id}/layer.tar")
    if described is None or data is None:
        raise BadInputError(f"{index.what} does not have the layer {layer_id}")
    document = Document.parse(read_whole(described, CONFIG_LIMIT), f"{layer_id}/json in {index.what}")
    with LayerStream(data) as stream:
        stream.verify()
    assert stream.diff_id is not None
    return _Layer(document, data, stream.diff_id)


def _layer(piece: Piece, diff_id: str) -> LayerBlob:
    return LayerBlob(None, piece.size, "", diff_id, lambda layer: piece)


def _make_config(chain: list[Document], diff_ids: list[str]) -> bytes:
    history: list[Json] = []
    for document in chain:
        entry: dict[str, Json] = {"created": document.text("created")}
        command = document.child("container_config").texts("Cmd")
        if command:
            entry["created_by"] = " ".join(command)
        for key in ("author", "comment"):
            if document.text(key):
                entry[key] = document.text(key)
        history.append(entry)
    top = chain[-1].members
    config: dict[str, Json] = {key: top[key] for key in _TOP_KEYS if top.get(key) is not None}
    config.setdefault("architecture", "amd64")
    config.setdefault("os", "linux")
    config["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    config["history"] = history
    return json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
