# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of metrics: ``/metrics`` and ``/healthz``, each request in a thread of its own."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from lamella import logs
from lamella.services.metrics.address import Address

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

log = logs.logger(__name__)

TIMEOUT = 10.0
"""Seconds that a client may take for its request, and between two reads of the answer."""
MOST_REQUESTS = 16
"""At a time: more of them wait, so that clients that send nothing cannot take all memory."""

_TEXT = [("Content-Type", "text/plain; charset=utf-8")]
_INDEX = b"Lamella: /metrics for Prometheus, /healthz for a probe.\n"


def application(registry: CollectorRegistry, health: Callable[[], tuple[bool, str]]) -> WSGIApplication:
    """``/metrics`` of *registry*, and ``/healthz``: 200 or 503 with a reason, as *health* says."""
    metrics = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [*_TEXT, ("Allow", "GET, HEAD")])
            return [b"only GET and HEAD\n"]
        status, body = "404 Not Found", b"there are /metrics and /healthz\n"
        if path == "/healthz":
            well, reason = health()
            status, body = ("200 OK" if well else "503 Service Unavailable"), f"{reason}\n".encode()
        elif path == "/":
            status, body = "200 OK", _INDEX
        start(status, [*_TEXT, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    return answer


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT

    def address_string(self) -> str:
        return str(self.client_address[0]) if self.client_address else "a local process"

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("metrics: %s: %s", self.address_string(), format % args)


class MetricsServer(ThreadingHTTPServer, WSGIServer):
    """Serves *app* on *address* from :meth:`serve` to :meth:`shut`. Raises what listening there raises."""

    daemon_threads = True

    def __init__(self, address: Address, app: WSGIApplication) -> None:
        listening = address.listen()
        self.address_family = listening.family
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()  # the base class has made one, and not bound it
        self.socket = listening
        self.address = address
        if not address.path:
            self.address = Address(address.host, listening.getsockname()[1])
        self.server_address = (address.host, self.address.port)
        self.server_name, self.server_port = address.host or "localhost", self.address.port
        self.setup_environ()
        self.set_app(app)
        self._slots = threading.BoundedSemaphore(MOST_REQUESTS)
        self._thread = threading.Thread(target=self.serve_forever, name="metrics: server", daemon=True)

    def serve(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("metrics: a request was broken off")

    def shut(self) -> None:
        """End: no new requests; those in progress end with the process, or before."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.address.forget()

    def server_close(self) -> None:
        """Close the socket, and wait for nobody."""
        self.socket.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next client; one of a Unix socket has no address."""
        request, client = self.socket.accept()
        return request, client or ("a local process", 0)
