# SPDX-License-Identifier: Apache-2.0
"""The server of containerd's snapshots and diff services, on a unix socket."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from lamella import logs
from lamella.errors import DeviceIOError
from lamella.services.containerd.calls import Calls
from lamella.services.containerd.content import Content
from lamella.services.containerd.differ import Differ
from lamella.services.containerd.listening import Listening
from lamella.services.containerd.messages import LARGEST_MESSAGE
from lamella.services.containerd.protos.diff_pb2_grpc import add_DiffServicer_to_server
from lamella.services.containerd.protos.snapshots_pb2_grpc import add_SnapshotsServicer_to_server
from lamella.services.containerd.servicer import Servicer

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.services.containerd.backend import Hosted
    from lamella.services.containerd.calls import Observe

log = logs.logger(__name__)

THREADS = 16
"""How many calls are worked on at once."""
MOST_CALLS = 256
"""How many calls may be worked on and wait; any more are answered with RESOURCE_EXHAUSTED."""
STOP_SECONDS = 60.0
"""How long calls in progress are waited for when the server stops."""
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_concurrent_streams", MOST_CALLS),
    # Clients on the same machine may ask as often as they like whether the server is there.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


class SnapshotService:
    """Serves the snapshots of *hosted* at *address* (default: ``run/containerd.sock`` in the store's folder).

    *observe* is told of each call: the method, its seconds, and the name of its code. Layers are unpacked
    from the blobs in *content*.
    """

    name = "containerd"

    def __init__(
        self,
        hosted: Hosted,
        address: Path | None = None,
        observe: Observe = lambda *_: None,
        *,
        content: Content | None = None,
    ) -> None:
        self.address = hosted.root / "run" / "containerd.sock" if address is None else address
        self._calls = Calls(observe)
        self._hosted = hosted
        self._content = content or Content()
        self._server: grpc.Server | None = None
        self._listening: Listening | None = None

    def start(self) -> None:
        """Begin to serve. Raises :class:`BusyError` if somebody listens at the address."""
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix=self.name)
        server = grpc.server(threads, options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
        add_SnapshotsServicer_to_server(Servicer(self._hosted, self._calls), server)
        add_DiffServicer_to_server(Differ(self._hosted, self._content, self._calls), server)

        def bind(path: str) -> None:
            try:
                server.add_insecure_port(f"unix:{path}")
            except RuntimeError as error:
                raise DeviceIOError(
                    f"cannot listen on {self.address}: {error}",
                    hint="with GRPC_VERBOSITY=info gRPC says more",
                ) from error
            server.start()

        try:
            self._listening = Listening(self.address, bind)
        except BaseException:
            server.stop(None)
            raise
        self._server = server
        log.info("containerd's snapshots are served on %s", self.address)

    def stop(self) -> None:
        """Take no calls any more, and let those in progress end, for up to :data:`STOP_SECONDS`."""
        if self._server is None or self._listening is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        self._listening.remove()
        self._server.stop(STOP_SECONDS).wait()
        # A call whose client is gone is over for gRPC, but not for the store.
        if not self._calls.wait(max(0.0, deadline - time.monotonic())):
            log.info("containerd: calls are still in progress after %.0f s", STOP_SECONDS)
        self._listening.close()
        self._server = self._listening = None
