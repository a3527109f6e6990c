# SPDX-License-Identifier: Apache-2.0
"""Answers of registries and of NBD servers, as bytes that arrive on a socket."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from scripts.fuzz.mutate import mutate_json
from scripts.fuzz.target import Target
from tests.support.images import Sample, compact, sha256

from lamella.block import nbd_protocol as nbd
from lamella.block.nbd import NbdDevice
from lamella.errors import LamellaError
from lamella.images.authorization import parse_challenges
from lamella.images.credentials import Credentials
from lamella.images.download import Downloader
from lamella.images.image_source import LayerBlob
from lamella.images.reference import Reference
from lamella.images.registry_client import RegistryClient
from lamella.images.resolve import Resolver
from lamella.images.transport import Transport

if TYPE_CHECKING:
    from random import Random

_BETWEEN = b"\n=====\n"
"""Between the answers to one request and to the next, each on a connection of its own."""


class _Answers:
    """Connections on which the given bytes have arrived, and then the end."""

    def __init__(self, data: bytes, between: bytes = _BETWEEN) -> None:
        self._left = data.split(between)
        self._peers: list[socket.socket] = []

    def connect(self, *_args: object, **_named: object) -> socket.socket:
        if not self._left:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            theirs.send(self._left.pop(0))
            theirs.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._peers.append(theirs)
        return ours

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


def _answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _registry_seeds() -> list[bytes]:
    sample = Sample()
    described, blobs = sample.manifest()
    manifest = compact(described)
    first = _answer("200 OK", manifest, f"Content-Type: {sample.manifest_type()}")
    config = _answer("200 OK", blobs[0])
    challenge = 'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/token?a=1,2",service="s",scope="x"'
    token = _answer("200 OK", b'{"token":"t","expires_in":300}')
    layer, half = blobs[1], len(blobs[1]) // 2
    cut = _answer("200 OK", layer)[:-half]
    rest = _answer(
        "206 Partial Content",
        layer[half + len(layer) % 2 :],
        f"Content-Range: bytes {len(layer) - half}-{len(layer) - 1}/{len(layer)}",
    )
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks += b"%x\r\n%s\r\n0\r\n\r\n" % (len(layer), layer)
    failure = _answer(
        "429 Too Many", b'{"errors":[{"code":"TOOMANYREQUESTS","message":"m"}]}', "Retry-After: 1"
    )
    moved = _answer("307 Moved", b"", "Location: http://127.0.0.1:2/elsewhere?x")
    ways = [
        [first, config, _answer("200 OK", layer)],
        [_answer("401 No", b"", challenge), token, first, config, cut, rest],
        [failure, first, config, moved, chunks],
        [first, config, cut, _answer("416 Range"), chunks],
        [_answer("404 Not", b'{"errors":[{"code":"NAME_UNKNOWN"}]}')],
    ]
    return [_BETWEEN.join(way) for way in ways]


def _change_answer(random: Random, data: bytes) -> bytes:
    """Other headers or another body in one to three answers, with the right length and digests or not."""
    answers = data.split(_BETWEEN)
    for _ in range(random.randrange(1, 4)):
        place, kind = random.randrange(len(answers)), random.randrange(8)
        if kind == 0:
            answers.insert(place, random.choice(answers))
            continue
        head, gap, body = answers[place].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        if kind == 1:
            lines[0] = b"HTTP/1.1 " + random.choice(_STATUS)
        elif kind == 2:
            lines.insert(random.randrange(1, len(lines) + 1), random.choice(_HEADERS))
        elif kind == 3 and len(lines) > 1:
            name, _, _ = lines[at := random.randrange(1, len(lines))].partition(b":")
            lines[at] = name + b": " + random.choice(_FIELDS)
        elif kind == 4:
            body = body[: random.randrange(len(body) + 1)]
        else:
            changed = mutate_json(random, body)
            lines = [line for line in lines if not line.startswith(b"Content-Length")]
            lines.append(b"Content-Length: %d" % len(changed))
            if kind < 7:  # what named the old body names the new one
                old, new = sha256(body).encode(), sha256(changed).encode()
                answers = [each.replace(old, new) for each in answers]
            body = changed
        answers[place] = b"\r\n".join(lines) + gap + body
    return _BETWEEN.join(answers)


def _pull(data: bytes) -> object:
    """The manifest, the configuration and one layer, from a registry that sends *data*."""
    answers = _Answers(data)
    folder = Path("downloads")
    client = RegistryClient(
        Reference.parse("127.0.0.1:1/a:1"),
        insecure=True,
        find_credentials=lambda: Credentials("user", "password"),
        transport=Transport(verify=False, sleep=lambda seconds: None),
    )
    client._base = "http://127.0.0.1:1"
    try:
        with (
            patch("urllib3.util.connection.create_connection", answers.connect),
            # All has arrived: nothing to wait for, and a thread for each request takes a third of the time.
            patch("threading.Timer", _NoTimer),
        ):
            top, body = client.manifest("1")
            image = Resolver(client, None, "it").resolve_body(top, body)
            layer = image.manifest.layers[0]
            blob = LayerBlob(layer.digest, layer.size, "", sha256(b""), lambda each: loader.fetch(each))
            loader = Downloader(client, folder, parallel=1, sleep=lambda seconds: None)
            try:
                size = loader.fetch(blob).size
            finally:
                loader.close()
            return size
    finally:
        client.close()
        answers.close()
        for left in folder.glob("*") if folder.exists() else ():
            left.unlink()


def _read_challenge(data: bytes) -> object:
    return tuple(found.scheme for found in parse_challenges(data.decode("latin-1"))[:20])


def _long_challenges() -> list[bytes]:
    pieces = (b"a", b"\\", b'"', b"a=", b"a=b,", b"Basic ", b", ", b'Bearer realm="', b'x="\\', b" ")
    return [b"Bearer " + (piece * 60_000)[:60_000] + end for piece in pieces for end in (b"", b"!", b'"')]


def _nbd_seeds() -> list[bytes]:
    hello = nbd.HELLO.pack(nbd.SERVER_MAGIC, nbd.OPTION_MAGIC, nbd.FIXED_NEWSTYLE | nbd.NO_ZEROES)

    def reply(kind: int, body: bytes = b"", option: int = nbd.OPT_GO) -> bytes:
        return nbd.OPTION_REPLY.pack(nbd.OPTION_REPLY_MAGIC, option, kind, len(body)) + body

    export = struct.pack(">H", nbd.INFO_EXPORT) + nbd.EXPORT.pack(1 << 20, nbd.CAN_FLUSH | 1)
    sizes = struct.pack(">H", nbd.INFO_BLOCK_SIZE) + nbd.BLOCK_SIZES.pack(512, 4096, 1 << 20)
    opened = hello + reply(nbd.REP_INFO, export) + reply(nbd.REP_INFO, sizes) + reply(nbd.REP_ACK)
    read = b"".join(nbd.REPLY.pack(nbd.REPLY_MAGIC, 0, cookie) + bytes(4096) for cookie in (1, 2))
    old = hello + reply(0x80000001) + nbd.EXPORT.pack(1 << 20, 1) + bytes(124)
    failed = nbd.REPLY.pack(nbd.REPLY_MAGIC, 5, 1)
    return [
        opened + read,
        old + read,
        opened + failed,
        opened,
        opened + read[:100] + _BETWEEN + opened + read,
    ]


def _read_nbd(data: bytes) -> object:
    answers = _Answers(data)
    try:
        with (
            patch("lamella.block.nbd.socket.create_connection", lambda *_a, **_n: _Plain(answers.connect())),
            patch("lamella.block.nbd.time.sleep", lambda seconds: None),
            NbdDevice("nbd://127.0.0.1:1/x", read_only=True, timeout=0.001) as device,
        ):
            ends: list[object] = [min(device.size, 1 << 21)]
            for offset in (0, 4096):
                try:
                    ends.append(len(device.read(offset, min(4096, device.size))))
                except (LamellaError, ValueError) as error:
                    ends.append(type(error).__name__)
            return tuple(ends)
    finally:
        answers.close()


class _NoTimer:
    """A timer that does not go off."""

    daemon = True

    def __init__(self, *_args: object) -> None: ...

    def start(self) -> None: ...

    def cancel(self) -> None: ...


class _Plain(socket.socket):
    """A socket that takes TCP's options, though it is of another family."""

    def __init__(self, made: socket.socket) -> None:
        super().__init__(fileno=os.dup(made.fileno()))
        made.close()

    def setsockopt(self, *_args: object) -> None:  # type: ignore[override]  # whatever its forms are
        pass


_HTTP = b"HTTP/1.1 200 206 401 416 503 chunked Content-Length: Content-Range: bytes Transfer-Encoding:"
_HTTP += b" Location: Retry-After: WWW-Authenticate: Bearer Basic realm= Content-Encoding: gzip \r\n\r\n"

_STATUS = (
    b"200 OK",
    b"206 x",
    b"204 x",
    b"301 x",
    b"302 x",
    b"308 x",
    b"401 x",
    b"403 x",
    b"404 x",
    b"416 x",
)
_STATUS += (b"429 x", b"500 x", b"503 x", b"100 Continue", b"999 x", b"0 x", b"-1 x", b"x", b"")
_FIELDS = (
    b"",
    b"0",
    b"-1",
    b"1",
    b"9" * 30,
    b"bytes 0-0/1",
    b"bytes 5-4/3",
    b"bytes */9",
    b"bytes 0-/9",
    b"x/y",
)
_FIELDS += (
    b"/",
    b"//",
    b"http://",
    b"http://[",
    b"http://127.0.0.1:1/",
    b"http://127.0.0.1:99999/",
    b"file:///x",
)
_FIELDS += (
    b"gzip",
    b"zstd, br",
    b"chunked",
    b'Bearer realm="',
    b'Bearer realm="//x"',
    b"Basic",
    b"=?utf-8?q?x?=",
)
_FIELDS += (
    b"Wed, 21 Oct 2015 07:28:00 GMT",
    b"\xff",
    b"a\x00b",
    b"sha256:" + b"0" * 64,
    b"sha1:x",
    b"a" * 9000,
)
_NAMES = (
    b"Location Content-Length Content-Range Content-Encoding Transfer-Encoding WWW-Authenticate Retry-After "
)
_NAMES += b"Content-Type Docker-Content-Digest Connection Date Link Set-Cookie Content-Disposition"
_HEADERS = tuple(name + b": " + field for name in _NAMES.split() for field in _FIELDS)

TARGETS = [
    Target(
        "registry",
        _registry_seeds,
        _pull,
        words=(*_HTTP.split(b" "), _BETWEEN),
        mutate=_change_answer,
        memory=1 << 30,
    ),
    Target(
        "challenge",
        lambda: [b'Bearer realm="https://a/t?x=1,y",service="s", Basic realm=x', b"Negotiate YQ=="],
        _read_challenge,
        large=_long_challenges,
        words=tuple(_HTTP.split(b" ")),
        seconds=0.5,
    ),
    Target("nbd", _nbd_seeds, _read_nbd, words=(nbd.SERVER_MAGIC, _BETWEEN)),
]
