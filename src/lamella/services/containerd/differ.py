# SPDX-License-Identifier: Apache-2.0
"""containerd's diff service, which unpacks layers into our snapshots by our own writer.

The writer builds directories and extents whole, without a mount. What is not for it (a mount that is not of
an unused snapshot of ours, an encrypted layer, a blob that is not in a content store that we can read, and
differences of two mounts) is answered with UNIMPLEMENTED, and containerd asks its next differ. Authority:
containerd v2.4.2, ``plugins/services/diff/local.go`` and ``core/diff/apply/apply.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import UnsupportedError
from lamella.images.manifest import LAYER_TYPES, OCI_LAYER
from lamella.images.stream import LayerStream
from lamella.services.containerd.protos import diff_pb2 as messages
from lamella.services.containerd.protos.descriptor_pb2 import Descriptor
from lamella.services.containerd.protos.diff_pb2_grpc import DiffServicer

if TYPE_CHECKING:
    import grpc

    from lamella.services.containerd.backend import Hosted
    from lamella.services.containerd.calls import Calls
    from lamella.services.containerd.content import Content

_OTHER = 'let another differ do it: default = ["lamella-diff", "walking"] of containerd\'s diff-service'


class Differ(DiffServicer):
    """Unpacks blobs of *content* into the snapshots of *hosted*, in several threads."""

    def __init__(self, hosted: Hosted, content: Content, calls: Calls) -> None:
        self._hosted = hosted
        self._content = content
        self._calls = calls

    def Apply(self, request: messages.ApplyRequest, context: grpc.ServicerContext) -> messages.ApplyResponse:
        with self._calls.call("Apply", context, request.diff.digest):
            return messages.ApplyResponse(applied=self._apply(request))

    def _apply(self, request: messages.ApplyRequest) -> Descriptor:
        layer, mounts = request.diff, request.mounts
        if request.payloads or layer.media_type not in LAYER_TYPES:
            raise UnsupportedError(
                f"a layer of the type {layer.media_type[:200]!r} is not unpacked here", hint=_OTHER
            )
        if len(mounts) != 1 or mounts[0].target:
            raise UnsupportedError("a layer is unpacked here into one mount's root only", hint=_OTHER)
        piece = self._content.find(layer.digest)
        if piece is None:
            raise UnsupportedError(
                f"the blob {layer.digest} is in no content store here",
                hint=f"name the folder of containerd's: lamella serve --content DIR; or {_OTHER}",
            )
        with LayerStream(piece, digest=layer.digest, size=layer.size) as stream:
            self._hosted.snapshots.apply(mounts[0].source, stream)
        return Descriptor(media_type=OCI_LAYER, digest=stream.diff_id or "", size=stream.position)

    def Diff(self, request: messages.DiffRequest, context: grpc.ServicerContext) -> messages.DiffResponse:
        with self._calls.call("Diff", context, request.media_type):
            raise UnsupportedError("differences of mounts are not made here", hint=_OTHER)
