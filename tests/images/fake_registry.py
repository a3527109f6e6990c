# SPDX-License-Identifier: Apache-2.0
"""A registry in this process that misbehaves on demand, with a token service and a blob storage beside it."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import re
import socketserver
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.images import Sample, compact, sha256

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

USER, PASSWORD, REFRESH = "user", "pass word", "identity-token"


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: str = ""


@dataclass
class Behaviour:
    """What the server does; tests change it. *faults* are used up one by one, for matching paths."""

    auth: str = ""
    anonymous_ok: bool = True
    ranges: bool = True
    redirect_blobs: bool = False
    token_lifetime: int = 300
    faults: list[tuple[str, Callable[[Handler], bool]]] = field(default_factory=list)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    tokens: int = 0
    storage: str = ""

    def add(self, sample: Sample, tag: str = "1") -> str:
        """Put an image in; gives its manifest's digest."""
        manifest, blobs = sample.manifest()
        self.blobs |= {sha256(blob): blob for blob in blobs}
        body = compact(manifest)
        self.manifests[tag] = self.manifests[sha256(body)] = (sample.manifest_type(), body)
        return sha256(body)

    def paths(self, part: str) -> list[str]:
        return [asked.path for asked in self.asked if part in asked.path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    @property
    def it(self) -> Behaviour:
        return self.server.behaviour

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def error(self, status: int, code: str, **headers: str) -> None:
        message = code.lower().replace("_", " ")
        self.reply(status, compact({"errors": [{"code": code, "message": message}]}), **headers)

    def do_GET(self) -> None:
        self._note()
        for number, (part, fault) in enumerate(self.it.faults):
            if re.search(part, self.path):
                del self.it.faults[number]
                if fault(self):
                    return
                break
        path = urllib.parse.urlsplit(self.path).path
        if path == "/token":
            self._token_get()
        elif path.startswith("/storage/"):
            self._send_blob(self.it.blobs.get("sha256:" + path.rpartition("/")[2]))
        elif not self._allowed():
            return
        elif path == "/v2/":
            self.reply(200, b"{}")
        elif "/manifests/" in path:
            found = self.it.manifests.get(path.rpartition("/")[2])
            if found is None:
                self.error(404, "NAME_UNKNOWN" if "/unknown/" in path else "MANIFEST_UNKNOWN")
            else:
                self.reply(200, found[1], Content_Type=found[0], **self.it.headers)
        elif "/blobs/" in path:
            digest = path.rpartition("/")[2]
            if self.it.redirect_blobs:
                self.reply(307, Location=f"{self.it.storage}/storage/{digest.partition(':')[2]}?signature=x")
            else:
                self._send_blob(self.it.blobs.get(digest))
        else:
            self.reply(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._note(body)
        form = dict(urllib.parse.parse_qsl(body))
        if form.get("grant_type") == "refresh_token" and form.get("refresh_token") == REFRESH:
            self.it.tokens += 1
            self.reply(200, compact({"access_token": f"token-{self.it.tokens}"}))
        else:
            self.error(401, "UNAUTHORIZED")

    def _note(self, body: str = "") -> None:
        self.it.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))

    def _basic(self) -> bool:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _token_get(self) -> None:
        if "Authorization" in self.headers:
            allowed = self._basic()
        else:
            allowed = self.it.anonymous_ok
        if not allowed:
            self.error(401, "UNAUTHORIZED")
            return
        self.it.tokens += 1
        self.reply(
            200,
            json.dumps({"token": f"token-{self.it.tokens}", "expires_in": self.it.token_lifetime}).encode(),
        )

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.it.auth == "basic" and not self._basic():
            self.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="here, there"')
            return False
        if self.it.auth == "bearer" and given != f"Bearer token-{self.it.tokens}":
            realm = f"{self.server.url}/token"
            challenge = f'Bearer realm="{realm}",service="the registry",scope="repository:lib/it:pull"'
            self.error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
            return False
        return True

    def _send_blob(self, blob: bytes | None) -> None:
        if blob is None:
            self.error(404, "BLOB_UNKNOWN")
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.it.ranges:
            start = int(wanted[1])
            if start >= len(blob):
                self.reply(416)
                return
            self.reply(206, blob[start:], Content_Range=f"bytes {start}-{len(blob) - 1}/{len(blob)}")
        else:
            self.reply(200, blob)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    behaviour: Behaviour
    scheme = "http"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def fake_registry(
    behaviour: Behaviour | None = None, context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server on a loopback port; with *context* it speaks TLS."""
    server = Server(("127.0.0.1", 0), Handler)
    server.behaviour = behaviour or Behaviour()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, **headers: str) -> Callable[[Handler], bool]:
    """A fault: answer with *code*."""

    def fault(handler: Handler) -> bool:
        handler.error(code, "TOOMANYREQUESTS" if code == 429 else "UNKNOWN", **headers)
        return True

    return fault


def broken_after(count: int) -> Callable[[Handler], bool]:
    """A fault: promise the whole blob, send *count* bytes of what was asked for, and hang up."""

    def fault(handler: Handler) -> bool:
        blob = handler.it.blobs["sha256:" + re.findall(r"[0-9a-f]{64}", handler.path)[-1]]
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and handler.it.ranges else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(blob) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(blob) - 1}/{len(blob)}")
        handler.end_headers()
        handler.wfile.write(blob[start : start + count])
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.close()
        return True

    return fault


def raw(data: bytes) -> Callable[[Handler], bool]:
    """A fault: send *data* as it is, and hang up."""

    def fault(handler: Handler) -> bool:
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.close()
        return True

    return fault


def body(data: bytes, **headers: str) -> Callable[[Handler], bool]:
    """A fault: answer 200 with *data*."""

    def fault(handler: Handler) -> bool:
        handler.reply(200, data, **headers)
        return True

    return fault
