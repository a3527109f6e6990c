# SPDX-License-Identifier: Apache-2.0
"""Errors as the codes that containerd makes its own errors of."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from lamella import errors
from lamella.services.containerd import codes
from lamella.services.containerd.protos.snapshots_pb2 import (
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

if TYPE_CHECKING:
    from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
    from tests.support.memory_snapshots import MemoryHosted

BUSY, INVALID = "FAILED_PRECONDITION", "INVALID_ARGUMENT"


@pytest.fixture
def filled(client: SnapshotsStub) -> SnapshotsStub:
    """A committed snapshot, an active one on it, and another one that has no parent."""
    client.Prepare(PrepareSnapshotRequest(key="made"))
    client.Commit(CommitSnapshotRequest(name="base", key="made"))
    client.Prepare(PrepareSnapshotRequest(key="active", parent="base"))
    client.View(ViewSnapshotRequest(key="view", parent="base"))
    return client


CASES = [
    ("Prepare", PrepareSnapshotRequest(), INVALID, "a snapshot's key is empty"),
    ("Prepare", PrepareSnapshotRequest(key="active"), "ALREADY_EXISTS", "active exists"),
    ("Prepare", PrepareSnapshotRequest(key="x", parent="none"), "NOT_FOUND", "none"),
    ("Prepare", PrepareSnapshotRequest(key="x", parent="active"), INVALID, "not committed"),
    ("Prepare", PrepareSnapshotRequest(key="x", labels={"": "v"}), INVALID, "label's key is empty"),
    ("View", ViewSnapshotRequest(parent="base"), INVALID, "a snapshot's key is empty"),
    ("View", ViewSnapshotRequest(key="view", parent="base"), "ALREADY_EXISTS", "view exists"),
    ("View", ViewSnapshotRequest(key="x", labels={"k": "v" * 4096}), INVALID, "4097 bytes"),
    ("Mounts", MountsRequest(key="x"), "NOT_FOUND", "x"),
    ("Mounts", MountsRequest(key="base"), BUSY, "committed"),
    ("Commit", CommitSnapshotRequest(key="active"), INVALID, "a snapshot's name is empty"),
    ("Commit", CommitSnapshotRequest(name="x"), INVALID, "a snapshot's key is empty"),
    ("Commit", CommitSnapshotRequest(name="x", key="y"), "NOT_FOUND", "y"),
    ("Commit", CommitSnapshotRequest(name="base", key="active"), "ALREADY_EXISTS", "base"),
    ("Commit", CommitSnapshotRequest(name="x", key="view"), BUSY, "not active"),
    ("Commit", CommitSnapshotRequest(name="x", key="active", parent="y"), INVALID, "another parent"),
    ("Remove", RemoveSnapshotRequest(key="x"), "NOT_FOUND", "x"),
    ("Remove", RemoveSnapshotRequest(key="base"), BUSY, "cannot remove"),
    ("Stat", StatSnapshotRequest(), INVALID, "a snapshot's key is empty"),
    ("Stat", StatSnapshotRequest(key="made"), "NOT_FOUND", "made"),
    ("Usage", UsageRequest(key="x"), "NOT_FOUND", "x"),
    ("Update", UpdateSnapshotRequest(), INVALID, "a snapshot's key is empty"),
    ("Update", UpdateSnapshotRequest(info=Info(name="x")), "NOT_FOUND", "x"),
    (
        "Update",
        UpdateSnapshotRequest(info=Info(name="active"), update_mask={"paths": ["parent"]}),
        INVALID,
        'cannot update "parent" field on snapshot "active"',
    ),
    (
        "Update",
        UpdateSnapshotRequest(info=Info(name="active"), update_mask={"paths": ["labels."]}),
        INVALID,
        'cannot update "labels." field on snapshot "active"',
    ),
]


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"), CASES, ids=[f"{case[0]} {case[3]}" for case in CASES]
)
def test_what_is_refused(
    filled: SnapshotsStub, hosted: MemoryHosted, method: str, request_: Any, code: str, text: str
) -> None:
    before = hosted.snapshots.walk()
    with pytest.raises(grpc.RpcError) as caught:
        getattr(filled, method)(request_)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code().name == code
    assert text in caught.value.details()
    assert hosted.snapshots.walk() == before


def test_a_bad_filter_is_refused_in_containerds_words(client: SnapshotsStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(client.List(ListSnapshotsRequest(filters=["kind==active", "name=~x"])))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(
        'filters: parse error: [name >|=|< ~x]: unsupported operator "=~" ('
    )


def test_each_class_of_errors_has_a_code() -> None:
    classes = {
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.LamellaError)
    }
    assert set(codes.CODES) == classes - {errors.LamellaError}


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NoSpaceError("full", hint="grow it"), "RESOURCE_EXHAUSTED", "full (grow it)"),
        (errors.CorruptError("bad", steps=[errors.Remedy.REPAIR]), "DATA_LOSS", "bad (lamella repair)"),
        (errors.UnsupportedError("no"), "UNIMPLEMENTED", "no"),
        (errors.LamellaError("odd"), "INTERNAL", "odd"),
        (OSError(errno.EACCES, "x", "/f"), "PERMISSION_DENIED", "cannot use /f: Permission denied (run as"),
        (MemoryError(), "RESOURCE_EXHAUSTED", "there is not enough memory"),
        (ZeroDivisionError("by 0"), "INTERNAL", "internal error: ZeroDivisionError: by 0"),
    ],
)
def test_errors_of_a_store(
    client: SnapshotsStub,
    hosted: MemoryHosted,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
    text: str,
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(hosted.snapshots, "remove", fail)
    with pytest.raises(grpc.RpcError) as caught:
        client.Remove(RemoveSnapshotRequest(key="a"))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code().name == code
    assert caught.value.details().startswith(text)


def test_a_long_text_is_cut(client: SnapshotsStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.Stat(StatSnapshotRequest(key="\u2603" * 100_000))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    details = caught.value.details()
    assert details.startswith("there is no snapshot \u2603")
    assert details.endswith("\u2603...")
    assert 1900 < len(details.encode()) <= 2000


def test_labels_up_to_the_limit(client: SnapshotsStub) -> None:
    client.Prepare(PrepareSnapshotRequest(key="a", labels={"k": "v" * 4095, "\u2603" * 1000: "v" * 1096}))
    with pytest.raises(grpc.RpcError) as caught:
        client.Prepare(PrepareSnapshotRequest(key="b", labels={"\u2603" * 1000: "v" * 1097}))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "(4097 bytes) greater than maximum size (4096 bytes)" in caught.value.details()
