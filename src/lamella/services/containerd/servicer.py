# SPDX-License-Identifier: Apache-2.0
"""The methods of containerd's snapshots service.

As with containerd's own servers of this service (``contrib/snapshotservice``), the snapshotter that a
request names does not matter, nor does a namespace in its metadata: containerd's metadata store sends keys
that begin with "NAMESPACE/NUMBER/", and those of other clients are taken as they are. Labels are stored as
they are given, by Commit too; which of them a child inherits is for the client to say
(``snapshots.FilterInheritedLabels``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty

from lamella.services.containerd import filters
from lamella.services.containerd.messages import (
    batches,
    checked_labels,
    checked_paths,
    info_message,
    mount_messages,
    named,
)
from lamella.services.containerd.protos import snapshots_pb2 as messages
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsServicer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from lamella.services.containerd.backend import Hosted
    from lamella.services.containerd.calls import Calls


class Servicer(SnapshotsServicer):
    """Answers calls out of *hosted*'s snapshots, in several threads."""

    def __init__(self, hosted: Hosted, calls: Calls) -> None:
        self._hosted = hosted
        self._call = calls.call

    def Prepare(
        self, request: messages.PrepareSnapshotRequest, context: grpc.ServicerContext
    ) -> messages.PrepareSnapshotResponse:
        with self._call("Prepare", context, request.key):
            mounts = self._hosted.snapshots.prepare(
                named(request.key), request.parent, checked_labels(request.labels)
            )
            return messages.PrepareSnapshotResponse(mounts=mount_messages(mounts))

    def View(
        self, request: messages.ViewSnapshotRequest, context: grpc.ServicerContext
    ) -> messages.ViewSnapshotResponse:
        with self._call("View", context, request.key):
            mounts = self._hosted.snapshots.view(
                named(request.key), request.parent, checked_labels(request.labels)
            )
            return messages.ViewSnapshotResponse(mounts=mount_messages(mounts))

    def Mounts(
        self, request: messages.MountsRequest, context: grpc.ServicerContext
    ) -> messages.MountsResponse:
        with self._call("Mounts", context, request.key):
            return messages.MountsResponse(
                mounts=mount_messages(self._hosted.snapshots.mounts(named(request.key)))
            )

    def Commit(self, request: messages.CommitSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        with self._call("Commit", context, request.key):
            self._hosted.snapshots.commit(
                named(request.name, "name"),
                named(request.key),
                checked_labels(request.labels),
                parent=request.parent,
            )
            return Empty()

    def Remove(self, request: messages.RemoveSnapshotRequest, context: grpc.ServicerContext) -> Empty:
        with self._call("Remove", context, request.key):
            self._hosted.snapshots.remove(named(request.key))
            return Empty()

    def Stat(
        self, request: messages.StatSnapshotRequest, context: grpc.ServicerContext
    ) -> messages.StatSnapshotResponse:
        with self._call("Stat", context, request.key):
            return messages.StatSnapshotResponse(
                info=info_message(self._hosted.snapshots.stat(named(request.key)))
            )

    def Update(
        self, request: messages.UpdateSnapshotRequest, context: grpc.ServicerContext
    ) -> messages.UpdateSnapshotResponse:
        key = request.info.name
        with self._call("Update", context, key):
            labels = checked_labels(request.info.labels)
            paths = checked_paths(named(key), request.update_mask.paths)
            return messages.UpdateSnapshotResponse(
                info=info_message(self._hosted.snapshots.update(key, labels, paths))
            )

    def List(
        self, request: messages.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.ListSnapshotsResponse]:
        with self._call("List", context, ",".join(request.filters[:3])):
            matches = filters.parse(request.filters)
            yield from batches(snapshot for snapshot in self._hosted.snapshots.walk() if matches(snapshot))

    def Usage(self, request: messages.UsageRequest, context: grpc.ServicerContext) -> messages.UsageResponse:
        with self._call("Usage", context, request.key):
            usage = self._hosted.snapshots.usage(named(request.key))
            return messages.UsageResponse(size=usage.size, inodes=usage.inodes)

    def Cleanup(self, request: messages.CleanupRequest, context: grpc.ServicerContext) -> Empty:
        with self._call("Cleanup", context, ""):
            self._hosted.snapshots.clean_up()
            return Empty()
