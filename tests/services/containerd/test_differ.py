# SPDX-License-Identifier: Apache-2.0
"""The diff service: layers out of a content store, unpacked into snapshots of a real store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.any_pb2 import Any

from lamella.images.manifest import DOCKER_LAYER, OCI_LAYER
from lamella.services.containerd.content import Content
from lamella.services.containerd.protos.descriptor_pb2 import Descriptor
from lamella.services.containerd.protos.diff_pb2 import ApplyRequest, DiffRequest
from lamella.services.containerd.protos.diff_pb2_grpc import DiffStub
from lamella.services.containerd.protos.mount_pb2 import Mount
from lamella.services.containerd.service import SnapshotService
from lamella.store.hosting import HostedStore
from tests.support.images import COMPRESSIONS, SAMPLE_LAYERS, compress, sha256
from tests.support.nodes import Nodes
from tests.support.stores import set_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.user_engine  # with the kernel's, the devices are real: tests/guest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HostedStore]:
    set_up(tmp_path / "store", "loop-lvm").close()
    with HostedStore.open(tmp_path / "store", make_nodes=Nodes) as hosted:
        yield hosted


@pytest.fixture
def differ(store: HostedStore, tmp_path: Path) -> Iterator[DiffStub]:
    service = SnapshotService(store, content=Content([tmp_path / "empty", tmp_path / "content"]))
    service.start()
    with grpc.insecure_channel(f"unix:{service.address}") as channel:
        yield DiffStub(channel)
    service.stop()


def put(folder: Path, blob: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    """Put *blob* into the content store, as containerd does."""
    digest = sha256(blob)
    path = folder / "content" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    return Descriptor(media_type=media_type, digest=digest, size=len(blob))


def mounts_of(store: HostedStore, key: str) -> list[Mount]:
    found = store.snapshots.mounts(key)
    return [Mount(type=each.type, source=each.source, options=each.options) for each in found]


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_chain(store: HostedStore, differ: DiffStub, tmp_path: Path, how: str) -> None:
    parent = ""
    suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[how]
    for number, tar in enumerate(SAMPLE_LAYERS):
        store.snapshots.prepare(f"work {number}", parent, {})
        blob = put(tmp_path, compress(tar, how), OCI_LAYER + suffix)
        request = ApplyRequest(diff=blob, mounts=mounts_of(store, f"work {number}"), sync_fs=True)
        applied = differ.Apply(request).applied
        assert (applied.digest, applied.size, applied.media_type) == (sha256(tar), len(tar), OCI_LAYER)
        parent = f"layer {number}"
        store.snapshots.commit(parent, f"work {number}", {})
    assert store.snapshots.usage(parent).size > 0


def test_what_is_left_to_others(store: HostedStore, differ: DiffStub, tmp_path: Path) -> None:
    """UNIMPLEMENTED has containerd ask its next differ; so nothing may have been written."""
    store.snapshots.prepare("work", "", {})
    blob = put(tmp_path, compress(SAMPLE_LAYERS[0], "gzip"), DOCKER_LAYER + ".gzip")
    mounts = mounts_of(store, "work")
    for request in (
        ApplyRequest(diff=blob, mounts=mounts, payloads={"key": Any()}),
        ApplyRequest(diff=Descriptor(media_type="text/plain", digest=blob.digest), mounts=mounts),
        ApplyRequest(diff=Descriptor(media_type=OCI_LAYER + "+encrypted", digest=blob.digest), mounts=mounts),
        ApplyRequest(diff=blob, mounts=[]),
        ApplyRequest(diff=blob, mounts=[*mounts, *mounts]),
        ApplyRequest(diff=blob, mounts=[Mount(type="ext4", source=mounts[0].source, target="/below")]),
        ApplyRequest(diff=blob, mounts=[Mount(type="overlay", source="overlay")]),
        ApplyRequest(diff=Descriptor(media_type=OCI_LAYER, digest=sha256(b"elsewhere")), mounts=mounts),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            differ.Apply(request)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        differ.Diff(DiffRequest(left=mounts, right=mounts))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert store.snapshots.usage("work").size == 0
    assert differ.Apply(ApplyRequest(diff=blob, mounts=mounts)).applied.digest == sha256(SAMPLE_LAYERS[0])


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "no digest"])
def test_a_damaged_blob(store: HostedStore, differ: DiffStub, tmp_path: Path, damage: str) -> None:
    store.snapshots.prepare("work", "", {})
    good = compress(SAMPLE_LAYERS[0], "gzip")
    blob = put(tmp_path, good, OCI_LAYER + "+gzip")
    path = tmp_path / "content" / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
    if damage == "no digest":
        blob.digest = "sha256:../../../../etc/passwd"
    else:
        bad = {"cut": good[:-20], "changed": b"\x1f\x8b" + good[3:] + b"!", "longer": good + good}[damage]
        path.write_bytes(bad)
    with pytest.raises(grpc.RpcError) as caught:
        differ.Apply(ApplyRequest(diff=blob, mounts=mounts_of(store, "work")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    store.snapshots.remove("work")
    assert store.snapshots.walk() == []
