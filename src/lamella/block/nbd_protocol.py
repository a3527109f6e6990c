# SPDX-License-Identifier: Apache-2.0
"""The NBD protocol's numbers and messages, and an export's address. Touches no socket.

Source: the NBD project's ``doc/proto.md`` (messages) and ``doc/uri.md`` (addresses). All numbers on
the wire are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from lamella.errors import UsageError

SERVER_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_STARTTLS, OPT_GO = 1, 5, 7
REP_ACK, REP_INFO = 1, 3
REP_ERRORS = {
    0x80000001: "the server does not know that option",
    0x80000002: "the server's policy forbids it",
    0x80000003: "the server found the request invalid",
    0x80000004: "the server's platform does not support it",
    0x80000005: "the server requires TLS",
    0x80000006: "no such export",
    0x80000007: "the server is shutting down",
    0x80000008: "the server requires block sizes to be negotiated",
    0x80000009: "the request is too large for the server",
}
REP_ERR_UNSUPPORTED = 0x80000001
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3

CAN_READ_ONLY, CAN_FLUSH, CAN_TRIM, CAN_ZERO = 2, 4, 32, 64
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6

HELLO = struct.Struct(">8sQH")
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")
EXPORT = struct.Struct(">QH")
BLOCK_SIZES = struct.Struct(">III")
REQUEST = struct.Struct(">IHHQQI")
REPLY = struct.Struct(">IIQ")

DEFAULT_PORT = 10809


@dataclass(frozen=True)
class Address:
    """Where an export is: a TCP host and port, or a unix socket; the export's name; TLS or not."""

    uri: str
    host: str
    port: int
    socket_path: str
    export: str
    tls: bool


def parse_address(uri: str) -> Address:
    """An ``nbd://HOST[:PORT]/EXPORT``, ``nbds://`` (TLS), or ``nbd+unix:///EXPORT?socket=PATH`` address.

    Raises :class:`UsageError`.
    """
    hint = "write it as nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{uri!r} is not an NBD address: {error}", hint=hint) from error
    if parts.scheme not in ("nbd", "nbds", "nbd+unix", "nbds+unix"):
        raise UsageError(f"{uri!r} is not an NBD address", hint=hint)
    socket_path = parse_qs(parts.query).get("socket", [""])[0]
    unix = parts.scheme.endswith("+unix")
    if unix != bool(socket_path) or (not unix and not parts.hostname):
        raise UsageError(f"{uri!r} lacks its {'socket' if unix else 'host'}", hint=hint)
    return Address(
        uri=uri,
        host=parts.hostname or "",
        port=port or DEFAULT_PORT,
        socket_path=socket_path,
        export=unquote(parts.path.removeprefix("/")),
        tls=parts.scheme.startswith("nbds"),
    )


def option(number: int, data: bytes = b"") -> bytes:
    """One option of the handshake, as the client sends it."""
    return OPTION.pack(OPTION_MAGIC, number, len(data)) + data


def go(export: str) -> bytes:
    """NBD_OPT_GO for *export*, asking for its block sizes too."""
    name = export.encode()
    return option(
        OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">HHH", 2, INFO_EXPORT, INFO_BLOCK_SIZE)
    )


def request(kind: int, cookie: int, offset: int, length: int) -> bytes:
    """One request of the transmission phase; offset and length in bytes."""
    return REQUEST.pack(REQUEST_MAGIC, 0, kind, cookie, offset, length)
