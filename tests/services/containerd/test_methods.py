# SPDX-License-Identifier: Apache-2.0
"""Each method of the service, and what its answers say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lamella.services.containerd.messages import LARGEST_MESSAGE, batches
from lamella.services.containerd.protos.snapshots_pb2 import (
    ACTIVE,
    COMMITTED,
    VIEW,
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
from lamella.store.snapshot_model import Kind, Snapshot

if TYPE_CHECKING:
    from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
    from tests.support.memory_snapshots import MemoryHosted


def commit(client: SnapshotsStub, name: str, parent: str = "", **labels: str) -> None:
    client.Prepare(PrepareSnapshotRequest(key=f"{name} in work", parent=parent))
    client.Commit(CommitSnapshotRequest(name=name, key=f"{name} in work", labels=labels))


def stat(client: SnapshotsStub, key: str) -> Info:
    return client.Stat(StatSnapshotRequest(key=key)).info


def test_prepare_gives_mounts(client: SnapshotsStub) -> None:
    answer = client.Prepare(
        PrepareSnapshotRequest(snapshotter="lamella", key="a", labels={"one": "1", "none": ""})
    )
    (mount,) = answer.mounts
    assert (mount.type, mount.source, mount.target) == ("ext4", "/dev/a", "")
    assert list(mount.options) == ["rw", "discard"]
    assert client.Mounts(MountsRequest(key="a")).mounts == answer.mounts
    info = stat(client, "a")
    assert (info.name, info.parent, info.kind, dict(info.labels)) == ("a", "", ACTIVE, {"one": "1"})


def test_view_of_a_committed_one(client: SnapshotsStub) -> None:
    commit(client, "base", kept="yes")
    answer = client.View(ViewSnapshotRequest(key="v", parent="base", labels={"seen": "1"}))
    assert list(answer.mounts[0].options) == ["ro"]
    info = stat(client, "v")
    assert (info.parent, info.kind, dict(info.labels)) == ("base", VIEW, {"seen": "1"})
    info = stat(client, "base")
    assert (info.kind, dict(info.labels)) == (COMMITTED, {"kept": "yes"})


def test_commit_with_a_parent(client: SnapshotsStub) -> None:
    commit(client, "base")
    client.Prepare(PrepareSnapshotRequest(key="alone"))
    client.Commit(CommitSnapshotRequest(name="upper", key="alone", parent="base"))
    assert stat(client, "upper").parent == "base"


def test_remove(client: SnapshotsStub) -> None:
    commit(client, "base")
    client.Remove(RemoveSnapshotRequest(key="base"))
    assert list(client.List(ListSnapshotsRequest())) == []


def test_times_are_whole(client: SnapshotsStub) -> None:
    before = time.time_ns()
    client.Prepare(PrepareSnapshotRequest(key="a"))
    info = stat(client, "a")
    assert before <= info.created_at.ToNanoseconds() <= time.time_ns()
    assert info.updated_at == info.created_at
    updated = client.Update(UpdateSnapshotRequest(info=Info(name="a", labels={"x": "y"}))).info
    assert updated.created_at == info.created_at
    assert updated.updated_at.ToNanoseconds() > info.created_at.ToNanoseconds()
    assert stat(client, "a") == updated


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], {"l1": "new", "l4": "v4"}),
        (["labels"], {"l1": "new", "l4": "v4"}),
        (["labels.l1", "labels.l2"], {"l1": "new", "l3": "v3"}),
        (["labels.l4"], {"l1": "v1", "l2": "v2", "l3": "v3", "l4": "v4"}),
        (["labels.l3"], {"l1": "v1", "l2": "v2"}),
    ],
)
def test_update_by_field_mask(client: SnapshotsStub, paths: list[str], expected: dict[str, str]) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a", labels={"l1": "v1", "l2": "v2", "l3": "v3"}))
    request = UpdateSnapshotRequest(
        info=Info(name="a", parent="other", kind=VIEW, labels={"l1": "new", "l3": "", "l4": "v4"})
    )
    request.update_mask.paths.extend(paths)
    info = client.Update(request).info
    assert (info.parent, info.kind, dict(info.labels)) == ("", ACTIVE, expected)


def test_list_comes_in_batches(client: SnapshotsStub) -> None:
    for number in range(250):
        client.Prepare(
            PrepareSnapshotRequest(key=f"key {number}", labels={"odd": "yes"} if number % 2 else {})
        )
    answers = list(client.List(ListSnapshotsRequest()))
    assert [len(answer.info) for answer in answers] == [100, 100, 50]
    assert {info.name for answer in answers for info in answer.info} == {f"key {n}" for n in range(250)}
    answers = list(client.List(ListSnapshotsRequest(filters=["labels.odd", 'name=="key 0"'])))
    assert [len(answer.info) for answer in answers] == [100, 26]


def test_batches_are_bounded_by_their_size() -> None:
    labels = {f"key {number}": "v" * 4000 for number in range(1000)}
    snapshots = [Snapshot(f"{number}", "", Kind.ACTIVE, 0, 0, labels) for number in range(7)]
    answers = list(batches(snapshots))
    assert sum(len(answer.info) for answer in answers) == 7
    assert all(answer.ByteSize() < LARGEST_MESSAGE for answer in answers)


def test_usage(client: SnapshotsStub) -> None:
    client.Prepare(PrepareSnapshotRequest(key="abc"))
    answer = client.Usage(UsageRequest(key="abc"))
    assert (answer.size, answer.inodes) == (3 << 20, 11)


def test_clean_up(client: SnapshotsStub, hosted: MemoryHosted) -> None:
    client.Cleanup(CleanupRequest(snapshotter="lamella"))
    assert hosted.snapshots.cleaned == 1


def test_a_namespace_changes_nothing(client: SnapshotsStub) -> None:
    metadata = (("containerd-namespace", "default"),)
    client.Prepare(PrepareSnapshotRequest(key="default/1/a"), metadata=metadata)
    client.Prepare(PrepareSnapshotRequest(key="other/1/a"), metadata=(("containerd-namespace", "other"),))
    (answer,) = client.List(ListSnapshotsRequest(), metadata=metadata)
    assert [info.name for info in answer.info] == ["default/1/a", "other/1/a"]


def test_calls_are_observed(client: SnapshotsStub, observed: list[tuple[str, float, str]]) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a"))
    client.Stat(StatSnapshotRequest(key="a"))
    with pytest.raises(Exception, match="there is no snapshot b"):
        client.Stat(StatSnapshotRequest(key="b"))
    # A call is counted before its answer is sent, if it is an error or a stream, or after that.
    client.Prepare(PrepareSnapshotRequest(key="c"))
    assert [(method, code) for method, _, code in observed][:3] == [
        ("Prepare", "OK"),
        ("Stat", "OK"),
        ("Stat", "NOT_FOUND"),
    ]
    assert all(0 <= seconds < 60 for _, seconds, _ in observed)
