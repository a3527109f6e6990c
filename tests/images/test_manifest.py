# SPDX-License-Identifier: Apache-2.0
"""Manifests, indexes and configurations: the good, the wrong and the random."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import BadInputError, LamellaError, UnsupportedError
from lamella.images.chain import chain_ids
from lamella.images.config import parse_config
from lamella.images.manifest import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Index, Manifest, parse_manifest
from lamella.images.strict_json import CONFIG_LIMIT, MANIFEST_LIMIT
from tests.support.images import Sample, compact, sha256


def _manifest() -> dict[str, Any]:
    return Sample().manifest()[0]


def _index() -> dict[str, Any]:
    body = compact(_manifest())
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": sha256(body),
        "size": len(body),
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
    }
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}


@pytest.mark.parametrize(
    "sample", [Sample(), Sample(docker_types=True), Sample(compression="zstd")], ids=["OCI", "Docker", "zstd"]
)
def test_a_manifest_is_read(sample: Sample) -> None:
    manifest, blobs = sample.manifest()
    found = parse_manifest(compact(manifest), "it")
    assert isinstance(found, Manifest)
    assert found.config.digest == sample.image_id
    assert [layer.size for layer in found.layers] == [len(blob) for blob in blobs[1:]]


def test_an_index_is_read() -> None:
    index = parse_manifest(compact(_index()), "it", OCI_INDEX)
    assert isinstance(index, Index)
    assert str(index.manifests[0].platform) == "linux/arm64"


def _changed(path: str, value: Any, base: dict[str, Any] | None = None) -> bytes:
    document = copy.deepcopy(base if base is not None else _manifest())
    *way, last = path.split(".")
    place: Any = document
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    return compact(document)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("schemaVersion", 3, "schema version 3"),
        ("schemaVersion", "2", "should be a whole number"),
        ("schemaVersion", True, "should be a whole number"),
        ("schemaVersion", 2.5, "should be a whole number"),
        ("mediaType", 5, "should be a string"),
        ("mediaType", OCI_INDEX, "does not hold what its type"),
        ("config", None, "no configuration"),
        ("config", [], "should be an object"),
        ("config.digest", "sha256:12", "needs 64"),
        ("config.digest", "md5:" + "a" * 32, "unsupported digest algorithm"),
        ("config.digest", "../../../etc/passwd", "invalid digest"),
        ("config.digest", "sha256:" + "A" * 64, "lower-case"),
        ("config.size", -1, "impossible size"),
        ("config.size", 1 << 60, "impossible size"),
        ("config.size", 1 << 70, "64 bits"),
        ("config.size", None, "impossible size"),
        ("layers", {}, "should be a list"),
        ("layers.0", "x", "should be an object"),
        ("layers.0.urls", [1], "should be a string"),
        ("layers.0.annotations", {"a": 1}, "should be a string"),
        ("manifests", [], "both a manifest and a list"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        parse_manifest(_changed(path, value), "the manifest")


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("config.mediaType", "application/vnd.cncf.helm.config.v1+json", "not a container image"),
        ("layers.0.mediaType", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
        ("layers.0.mediaType", "text/plain", "is of the type 'text/plain'"),
        ("mediaType", "text/plain", "unknown type"),
        ("schemaVersion", 1, "schema 1"),
    ],
)
def test_what_cannot_be_used_is_distinguished(path: str, value: Any, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        parse_manifest(_changed(path, value), "the manifest")


def test_the_types_must_agree() -> None:
    with pytest.raises(BadInputError, match="calls itself"):
        parse_manifest(compact(_manifest()), "it", DOCKER_LIST)
    with pytest.raises(UnsupportedError, match="schema 1"):
        parse_manifest(b'{"schemaVersion":1,"name":"x"}', "it")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"{",
        b"\xff\xfe",
        b'{"a":NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion":' + b"9" * 6000 + b"}",
        b'{"schemaVersion":2,"mediaType":"\\ud800"}',
        b" " * (MANIFEST_LIMIT + 1),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(BadInputError):
        parse_manifest(data, "the manifest")


def test_attestations_are_known() -> None:
    index = _index()
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    index["manifests"].append(index["manifests"][0] | unknown)
    index["manifests"].append(
        index["manifests"][0] | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    )
    found = parse_manifest(compact(index), "it")
    assert isinstance(found, Index)
    assert [entry.is_attestation for entry in found.manifests] == [False, True, True]


def test_configurations() -> None:
    sample = Sample(architecture="arm64", variant="v8")
    found = parse_config(sample.config, "it", layers=3)
    assert str(found.platform) == "linux/arm64"
    assert list(found.diff_ids) == sample.diff_ids
    with pytest.raises(BadInputError, match="3 diff ids, but 2 layers"):
        parse_config(sample.config, "it", layers=2)
    more = json.loads(sample.config)
    more["history"].append({"created_by": "another"})
    with pytest.raises(BadInputError, match="too many non-empty layers"):
        parse_config(compact(more), "it")
    changes: list[dict[str, Any]] = [
        {"rootfs": {"type": "zfs"}},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": []},
        {"os": 1},
        {"history": {}},
    ]
    for change in changes:
        with pytest.raises(BadInputError):
            parse_config(compact(json.loads(sample.config) | change), "it")
    with pytest.raises(BadInputError, match="MiB"):
        parse_config(b" " * (CONFIG_LIMIT + 1), "it")


def test_chain_ids() -> None:
    ids = [sha256(b"a"), sha256(b"b"), sha256(b"c")]
    second = "sha256:" + hashlib.sha256(f"{ids[0]} {ids[1]}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {ids[2]}".encode()).hexdigest()
    assert chain_ids(ids) == [ids[0], second, third]
    assert chain_ids([]) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(sha256(b"x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _paths(value: Any, way: str = "") -> list[str]:
    pairs = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    found = []
    for key, inner in pairs:
        found.append(f"{way}{key}")
        if "." not in str(key):
            found += _paths(inner, f"{way}{key}.")
    return found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_document_is_read_or_refused(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([_manifest(), _index(), json.loads(Sample().config)]))
    path = data.draw(st.sampled_from([path for path in _paths(base) if "." not in path.rpartition(".")[2]]))
    body = _changed(path, data.draw(_JSON), base)
    with contextlib.suppress(LamellaError):
        parse_manifest(body, "it")
    with contextlib.suppress(LamellaError):
        parse_config(body, "it", layers=3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_damaged_bytes_are_read_or_refused(noise: bytes, place: int) -> None:
    for body in (compact(_manifest()), compact(_index()), Sample().config):
        damaged = body[:place] + noise + body[place + len(noise) :]
        with contextlib.suppress(LamellaError):
            parse_manifest(damaged, "it")
        with contextlib.suppress(LamellaError):
            parse_config(damaged, "it")
