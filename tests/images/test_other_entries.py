# SPDX-License-Identifier: Apache-2.0
"""Indexes that hold more than images: signatures, SBOMs, charts, attestations, and what nobody knows.

OCI image specification, ``image-index.md``: implementations that meet an unknown media type "MUST NOT
generate an error"; ``image-layout.md`` itself shows an ``application/xml`` entry beside an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import UnsupportedError
from lamella.images.archive import open_archive
from lamella.images.manifest import REF_NAME_ANNOTATION, NotAnImageError
from tests.images.pulling import pull
from tests.support.images import OCI, Sample, compact, put_blob, sha256, write_index

if TYPE_CHECKING:
    from pathlib import Path

    from tests.images.fake_registry import Server

Entry = dict[str, Any]
CONFIG, MANIFEST, INDEX = f"{OCI}.config.v1+json", f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
HERE = {"os": "linux", "architecture": "amd64"}


def put(layout: Path, kind: str, data: bytes, **more: Any) -> Entry:
    return {"mediaType": kind, "digest": put_blob(layout, data), "size": len(data), **more}


def manifest(layout: Path, config: Entry, layers: list[Entry], **more: Any) -> Entry:
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    return put(layout, MANIFEST, compact(body), **more)


def image(layout: Path, **more: Any) -> Entry:
    described, blobs = Sample().manifest()
    for blob in blobs:
        put_blob(layout, blob)
    return put(layout, MANIFEST, compact(described), **more)


def xml(layout: Path) -> Entry:
    return put(layout, "application/xml", b"<component/>", annotations={"a": "b"})


def unknown_digest(layout: Path) -> Entry:
    return {"mediaType": "application/x", "digest": "blake9:" + "0" * 64, "size": 1}


def sbom(layout: Path) -> Entry:
    """As ``oras attach`` makes them: OCI 1.1's guidance for artifacts."""
    empty = put(layout, "application/vnd.oci.empty.v1+json", b"{}")
    return manifest(
        layout, empty, [put(layout, "application/spdx+json", b"{}")], artifactType="application/spdx+json"
    )


def chart(layout: Path) -> Entry:
    config = put(layout, "application/vnd.cncf.helm.config.v1+json", b"{}")
    return manifest(
        layout, config, [put(layout, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")]
    )


def signature(layout: Path) -> Entry:
    """As ``cosign save`` writes it: with an image's configuration, which names no platform."""
    payload = b'{"critical":{}}'
    root = {"type": "layers", "diff_ids": [sha256(payload)]}
    config = put(layout, CONFIG, compact({"architecture": "", "os": "", "rootfs": root, "config": {}}))
    return manifest(
        layout, config, [put(layout, "application/vnd.dev.cosign.simplesigning.v1+json", payload)]
    )


def attestation(layout: Path) -> Entry:
    return sbom(layout) | {"platform": {"os": "unknown", "architecture": "unknown"}}


OTHERS = [xml, unknown_digest, sbom, chart, signature, attestation]


def nested(layout: Path, entries: list[Entry], **more: Any) -> Entry:
    return put(layout, INDEX, compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), **more)


def ids(layout: Path) -> list[str]:
    with open_archive(layout) as source:
        return [found.config_digest for found in source.images()]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", [True, False])
def test_beside_an_image_in_a_layout(tmp_path: Path, other: Any, first: bool) -> None:
    named = image(tmp_path, annotations={REF_NAME_ANNOTATION: "v1.0"})
    entries = [other(tmp_path), named] if first else [named, other(tmp_path)]
    write_index(tmp_path, entries)
    assert ids(tmp_path) == [Sample().image_id]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("platform", [{"platform": HERE}, {}])
def test_in_a_list_of_platforms(tmp_path: Path, other: Any, platform: Any) -> None:
    inner = nested(tmp_path, [other(tmp_path), image(tmp_path, **platform)])
    write_index(tmp_path, [inner | {"annotations": {REF_NAME_ANNOTATION: "v1"}}])
    assert ids(tmp_path) == [Sample().image_id]


@pytest.mark.parametrize("other", [sbom, chart, signature])
def test_one_that_claims_the_same_platform(tmp_path: Path, other: Any) -> None:
    inner = nested(tmp_path, [other(tmp_path) | {"platform": HERE}, image(tmp_path, platform=HERE)])
    write_index(tmp_path, [inner])
    assert ids(tmp_path) == [Sample().image_id]


@pytest.mark.parametrize("other", [sbom, chart, signature])
def test_nothing_takes_the_place_of_the_image_for_a_platform(tmp_path: Path, other: Any) -> None:
    """386 runs on amd64, but it is not what stands there for amd64."""
    old = image(tmp_path, platform={"os": "linux", "architecture": "386"})
    write_index(tmp_path, [nested(tmp_path, [other(tmp_path) | {"platform": HERE}, old])])
    with (
        pytest.raises(NotAnImageError, match="is not a container image"),
        open_archive(tmp_path, platform="linux/amd64"),
    ):
        pass


def test_a_layer_of_an_unknown_compression_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    described, _ = Sample().manifest()
    described["layers"][0]["mediaType"] = f"{OCI}.layer.v1.tar+brotli"
    good = image(tmp_path, annotations={REF_NAME_ANNOTATION: "v1.0"})
    write_index(tmp_path, [good, put(tmp_path, MANIFEST, compact(described))])
    with pytest.raises(UnsupportedError, match=r"unknown type .*\+brotli"):
        ids(tmp_path)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (xml, "application/xml"),
        (sbom, "is not a container image"),
        (chart, "is not a container image"),
        (signature, "is not a container image"),
    ],
)
def test_alone_it_is_named(tmp_path: Path, other: Any, words: str) -> None:
    write_index(tmp_path, [nested(tmp_path, [other(tmp_path)])])
    with pytest.raises(NotAnImageError, match=words):
        ids(tmp_path)
    write_index(tmp_path, [other(tmp_path)])
    with pytest.raises(NotAnImageError, match=words):
        ids(tmp_path)


@pytest.mark.parametrize("other", OTHERS)
def test_pulled(tmp_path: Path, server: Server, other: Any) -> None:
    layout = tmp_path / "layout"
    body = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other(layout), image(layout)]})
    server.behaviour.add(Sample())
    for path in (layout / "blobs/sha256").iterdir():
        data = path.read_bytes()
        server.behaviour.blobs[sha256(data)] = data
        server.behaviour.manifests[sha256(data)] = (MANIFEST, data)
    server.behaviour.manifests["1"] = (INDEX, body)
    pull(server, tmp_path / "dl")
