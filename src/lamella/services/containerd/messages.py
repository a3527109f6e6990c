# SPDX-License-Identifier: Apache-2.0
"""Between the service's messages and the store's types, with the checks that containerd makes.

Authority: containerd v2.4.2: ``pkg/labels/validate.go``, ``core/metadata/boltutil/helpers.go``
(``writeMap``), ``core/snapshots/storage/bolt.go`` (``UpdateInfo``), ``core/snapshots/proxy/convert.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from lamella.errors import UsageError
from lamella.services.containerd.protos import mount_pb2, snapshots_pb2
from lamella.store.snapshot_model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lamella.store.snapshot_model import Mount, Snapshot

LONGEST_LABEL = 4096
"""Bytes that a label's key and value may have together."""
MOST_IN_BATCH = 100
"""Snapshots in one message of a list; containerd's service has it so."""
LARGEST_MESSAGE = 16 << 20
"""Bytes of a message; containerd's own limit, also for what it takes (``defaults.DefaultMaxRecvMsgSize``)."""
_KINDS = {
    Kind.VIEW: snapshots_pb2.VIEW,
    Kind.ACTIVE: snapshots_pb2.ACTIVE,
    Kind.COMMITTED: snapshots_pb2.COMMITTED,
}
_BATCH_BYTES = 1 << 20
"""From this size on a message of a list is sent, however few snapshots are in it."""


def named(key: str, what: str = "key") -> str:
    """*key*, which must not be empty."""
    if not key:
        raise UsageError(f"a snapshot's {what} is empty", hint=f"give a {what}")
    return key


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels to store. As in containerd, an empty value means that there is no such label."""
    for key, value in labels.items():
        size = len(key.encode()) + len(value.encode())
        if size > LONGEST_LABEL:
            shown = key.encode()[:64].decode(errors="ignore")
            raise UsageError(
                f"label key and value length ({size} bytes) greater than maximum size "
                f"({LONGEST_LABEL} bytes), key: {shown}",
                hint="shorten the value",
            )
        if not key:
            raise UsageError("a label's key is empty", hint="give each label a key")
    return {key: value for key, value in labels.items() if value}


def checked_paths(key: str, paths: Sequence[str]) -> list[str]:
    """The fields that an update of the snapshot *key* is about: labels alone can be changed."""
    for path in paths:
        if path != "labels" and not (path.startswith("labels.") and path != "labels."):
            raise UsageError(
                f'cannot update "{path}" field on snapshot "{key}"',
                hint='"labels" and "labels.KEY" can be updated',
            )
    return list(paths)


def info_message(snapshot: Snapshot) -> snapshots_pb2.Info:
    """*snapshot* as the service sends it."""
    return snapshots_pb2.Info(
        name=snapshot.key,
        parent=snapshot.parent,
        kind=_KINDS[snapshot.kind],
        created_at=_timestamp(snapshot.created),
        updated_at=_timestamp(snapshot.updated),
        labels=snapshot.labels,
    )


def mount_messages(mounts: Iterable[Mount]) -> list[mount_pb2.Mount]:
    """*mounts* as the service sends them."""
    return [mount_pb2.Mount(type=mount.type, source=mount.source, options=mount.options) for mount in mounts]


def batches(snapshots: Iterable[Snapshot]) -> Iterator[snapshots_pb2.ListSnapshotsResponse]:
    """*snapshots* in messages of a bounded size."""
    batch = snapshots_pb2.ListSnapshotsResponse()
    size = 0
    for snapshot in snapshots:
        info = info_message(snapshot)
        batch.info.append(info)
        size += info.ByteSize()
        if len(batch.info) >= MOST_IN_BATCH or size >= _BATCH_BYTES:
            yield batch
            batch = snapshots_pb2.ListSnapshotsResponse()
            size = 0
    if batch.info:
        yield batch


def _timestamp(nanoseconds: int) -> Timestamp:
    made = Timestamp()
    made.FromNanoseconds(nanoseconds)
    return made
