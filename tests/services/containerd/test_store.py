# SPDX-License-Identifier: Apache-2.0
"""The service with a real store behind it; its devices are not mounted here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.services.containerd.protos.snapshots_pb2 import (
    COMMITTED,
    CleanupRequest,
    CommitSnapshotRequest,
    Info,
    ListSnapshotsRequest,
    MountsRequest,
    PrepareSnapshotRequest,
    RemoveSnapshotRequest,
    StatSnapshotRequest,
    UpdateSnapshotRequest,
    UsageRequest,
    ViewSnapshotRequest,
)
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from lamella.services.containerd.service import SnapshotService
from lamella.store.hosting import HostedStore
from tests.support.nodes import Nodes
from tests.support.stores import KERNEL, assert_sound, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(KERNEL, reason="test_conformance.py does this with the kernel's engine")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SnapshotsStub]:
    root = tmp_path / "store"
    set_up(root, "loop-lvm").close()
    with HostedStore.open(root, make_nodes=Nodes) as host:
        service = SnapshotService(host)
        service.start()
        with grpc.insecure_channel(f"unix:{root}/run/containerd.sock") as channel:
            yield SnapshotsStub(channel)
        service.stop()
    assert_sound(root)


def code(caught: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details()


def test_a_life(client: SnapshotsStub) -> None:
    (mount,) = client.Prepare(PrepareSnapshotRequest(key="default/1/a", labels={"k": "v", "e": ""})).mounts
    assert mount.type == "ext4"
    assert client.Mounts(MountsRequest(key="default/1/a")).mounts == [mount]
    assert client.Usage(UsageRequest(key="default/1/a")).size >= 0
    client.Commit(CommitSnapshotRequest(name="default/2/base", key="default/1/a", labels={"kept": "1"}))
    (view,) = client.View(ViewSnapshotRequest(key="default/3/view", parent="default/2/base")).mounts
    assert "ro" in view.options
    client.Prepare(PrepareSnapshotRequest(key="default/4/b", parent="default/2/base"))
    (listed,) = client.List(ListSnapshotsRequest(filters=["kind==committed", "name~=/view$/"]))
    assert [info.name for info in listed.info] == ["default/2/base", "default/3/view"]
    info = client.Stat(StatSnapshotRequest(key="default/2/base")).info
    assert (info.kind, dict(info.labels)) == (COMMITTED, {"kept": "1"})
    with pytest.raises(grpc.RpcError) as caught:
        client.Remove(RemoveSnapshotRequest(key="default/2/base"))
    assert code(caught)[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert "remove" in code(caught)[1]  # containerd's own tests look for that
    for key in ("default/4/b", "default/3/view", "default/2/base"):
        client.Remove(RemoveSnapshotRequest(key=key))
    client.Cleanup(CleanupRequest())
    assert list(client.List(ListSnapshotsRequest())) == []


def test_an_update_removes_labels(client: SnapshotsStub) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a", labels={"one": "1", "two": "2", "three": "3"}))
    request = UpdateSnapshotRequest(info=Info(name="a", labels={"one": "new", "three": ""}))
    request.update_mask.paths.extend(["labels.one", "labels.two", "labels.three"])
    updated = client.Update(request).info
    assert dict(updated.labels) == {"one": "new"}
    assert client.Stat(StatSnapshotRequest(key="a")).info == updated
    (listed,) = client.List(ListSnapshotsRequest(filters=["labels.one==new", "labels.two"]))
    assert list(listed.info) == [updated]


def test_codes(client: SnapshotsStub) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a"))
    for call, expected in (
        (lambda: client.Prepare(PrepareSnapshotRequest(key="a")), grpc.StatusCode.ALREADY_EXISTS),
        (lambda: client.View(ViewSnapshotRequest(key="v", parent="n")), grpc.StatusCode.NOT_FOUND),
        (lambda: client.View(ViewSnapshotRequest(key="v", parent="a")), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda: client.Commit(CommitSnapshotRequest(name="x", key="y")), grpc.StatusCode.NOT_FOUND),
        (
            lambda: client.Commit(CommitSnapshotRequest(name="x", key="a", parent="y")),
            grpc.StatusCode.UNIMPLEMENTED,
        ),
        (lambda: client.Usage(UsageRequest(key="x")), grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert code(caught)[0] is expected


def test_eight_threads(client: SnapshotsStub) -> None:
    def work(thread: int) -> None:
        parent = ""
        for number in range(6):
            key = f"{thread}-{number}"
            client.Prepare(PrepareSnapshotRequest(key=f"{key}-work", parent=parent))
            client.Commit(CommitSnapshotRequest(name=key, key=f"{key}-work"))
            parent = key
        client.View(ViewSnapshotRequest(key=f"{thread}-view", parent=parent))
        client.Remove(RemoveSnapshotRequest(key=f"{thread}-view"))
        client.Remove(RemoveSnapshotRequest(key=parent))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    names = {info.name for answer in client.List(ListSnapshotsRequest()) for info in answer.info}
    assert names == {f"{thread}-{number}" for thread in range(8) for number in range(5)}
