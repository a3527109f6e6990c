# SPDX-License-Identifier: Apache-2.0
"""A remote disk, reached by the NBD protocol: whatever nbdkit, qemu-nbd or qemu-storage-daemon serves.

Requests go out in batches, answers are read as they come. When the connection breaks, the client
connects again and repeats what was not answered; and because a server that died may have lost
writes that it had answered but not flushed, those are kept here until the next flush and written
again. So a flush that returned means durable, across any number of restarts of the server.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

from lamella.block import nbd_protocol as protocol
from lamella.block.device import BlockDevice
from lamella.errors import (
    BadInputError,
    BusyError,
    DeviceIOError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    ReadOnlyError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

MAX_IN_FLIGHT = 64
"""Requests sent before the first of them must be answered."""
MAX_BYTES_IN_FLIGHT = 4 << 20
MAX_UNFLUSHED = 64 << 20
"""Bytes of written, not yet flushed data that are kept for repeating; beyond it a flush is sent."""
MAX_PAUSE = 0.25
"""Seconds between two attempts to connect again: a server that dies again may not be there for long."""
MAX_RECONNECTS = 100
"""How often a connection may be restored and break again over the same requests, after the timeout too."""
MAX_REQUEST = 32 << 20
"""What a server must accept where it names no limit of its own (``proto.md``)."""
SMALLEST_LIMIT = 64 << 10
"""Most bytes of the smallest block that a server may ask for (``proto.md``, "Block size constraints")."""

_Request = tuple[int, int, int, "memoryview | None"]
"""(kind, offset, length, data to send or place to fill)."""


class _Broken(Exception):
    """The connection ended or the answer was malformed; reconnecting may help."""


class NbdDevice(BlockDevice):
    """An NBD export as a block device.

    Parameters: *uri* (``nbd_protocol.parse_address``); *read_only*; *timeout*, the seconds for
    which a broken connection may stay down before :class:`NetworkError`.
    """

    def __init__(self, uri: str, *, read_only: bool = False, timeout: float = 30.0) -> None:
        self.address = protocol.parse_address(uri)
        self.name = uri
        self.read_only = read_only
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._cookies = itertools.count(1)
        self._unflushed: list[list[_Request]] = []
        self._unflushed_bytes = 0
        self._flags = 0
        self._smallest, self._largest = 1, MAX_REQUEST
        self.size = 0
        try:
            self._connect()
        except (_Broken, OSError) as error:
            raise NetworkError(f"cannot reach {uri}: {error}", hint="is the NBD server running?") from error
        if self._flags & protocol.CAN_READ_ONLY and not read_only:
            self.close()
            raise ReadOnlyError(f"{uri} is served read-only", hint="restart the server without its -r option")

    # -- connection ------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Connect and negotiate. Raises ``OSError``, ``_Broken`` or a final LamellaError."""
        self._hang_up()
        where = self.address
        if where.socket_path:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            target: str | tuple[str, int] = where.socket_path
        else:
            link = socket.create_connection((where.host, where.port), timeout=10)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            target = ""
        self._socket = link
        link.settimeout(max(self._timeout, 1.0))
        if target:
            link.connect(target)
        magic, version, flags = protocol.HELLO.unpack(self._receive(protocol.HELLO.size))
        if magic != protocol.SERVER_MAGIC or version != protocol.OPTION_MAGIC:
            raise BadInputError(
                f"{self.name} does not speak the NBD protocol", hint="check the host, port and socket"
            )
        link.sendall(struct.pack(">I", flags & (protocol.FIXED_NEWSTYLE | protocol.NO_ZEROES)))
        if where.tls:
            self._start_tls()
        size = self._choose_export(bool(flags & protocol.NO_ZEROES))
        if self.size and size != self.size:
            raise BadInputError(
                f"{self.name} has {size} bytes after reconnecting instead of {self.size}",
                hint="it is not the same disk; nothing further was written to it",
            )
        self.size = size

    def _start_tls(self) -> None:
        assert self._socket is not None
        self._socket.sendall(protocol.option(protocol.OPT_STARTTLS))
        kind, _ = self._option_reply(protocol.OPT_STARTTLS)
        if kind != protocol.REP_ACK:
            raise NetworkError(
                f"{self.name} does not accept TLS", hint="use nbd:// if the network to it is trusted"
            )
        try:
            self._socket = ssl.create_default_context().wrap_socket(
                self._socket, server_hostname=self.address.host or "localhost"
            )
        except ssl.SSLCertVerificationError as error:
            raise NetworkError(
                f"the certificate of {self.name} is not trusted: {error.verify_message}",
                hint="add its authority to the system's (or to SSL_CERT_FILE)",
            ) from error

    def _choose_export(self, no_zeroes: bool) -> int:
        assert self._socket is not None
        self._socket.sendall(protocol.go(self.address.export))
        size: int | None = None
        while True:
            kind, data = self._option_reply(protocol.OPT_GO)
            if kind == protocol.REP_ACK and size is not None:
                return size - size % self._smallest  # what is left of a block cannot be read or written
            if kind == protocol.REP_INFO and len(data) >= 2:
                (what,) = struct.unpack_from(">H", data)
                if what == protocol.INFO_EXPORT and len(data) == 2 + protocol.EXPORT.size:
                    size, self._flags = protocol.EXPORT.unpack_from(data, 2)
                elif what == protocol.INFO_BLOCK_SIZE and len(data) == 2 + protocol.BLOCK_SIZES.size:
                    self._smallest, _, largest = protocol.BLOCK_SIZES.unpack_from(data, 2)
                    if self._smallest & self._smallest - 1 or not 1 <= self._smallest <= SMALLEST_LIMIT:
                        raise BadInputError(
                            f"{self.name} asks for blocks of {self._smallest} bytes, which no block can have",
                            hint="the server is faulty: NBD's proto.md allows powers of two up to 64 KiB",
                        )
                    if 0 < largest < self._smallest:
                        raise BadInputError(
                            f"{self.name} takes requests of {largest} bytes at most, "
                            f"and of {self._smallest} at least",
                            hint="the server is faulty",
                        )
                    self._largest = min(largest, MAX_REQUEST) or MAX_REQUEST
            elif kind == protocol.REP_ERR_UNSUPPORTED:
                return self._export_name(no_zeroes)
            elif kind in protocol.REP_ERRORS:
                raise NotFoundError(
                    f"cannot open the export {self.address.export!r} of {self.name}: "
                    f"{protocol.REP_ERRORS[kind]}",
                    hint="list what is served with 'nbdinfo --list' and correct the address",
                )
            else:
                raise _Broken(f"unexpected answer {kind:#x} in the handshake")

    def _export_name(self, no_zeroes: bool) -> int:
        """The older way to choose an export, for servers without NBD_OPT_GO."""
        assert self._socket is not None
        self._socket.sendall(protocol.option(protocol.OPT_EXPORT_NAME, self.address.export.encode()))
        size, self._flags = protocol.EXPORT.unpack(self._receive(protocol.EXPORT.size))
        if not no_zeroes:
            self._receive(124)
        return int(size)

    def _option_reply(self, asked: int) -> tuple[int, bytes]:
        magic, number, kind, length = protocol.OPTION_REPLY.unpack(self._receive(protocol.OPTION_REPLY.size))
        if magic != protocol.OPTION_REPLY_MAGIC or number != asked or length > 1 << 20:
            raise _Broken("the handshake is invalid")
        return kind, self._receive(length)

    def _receive(self, length: int) -> bytes:
        buffer = bytearray(length)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, view: memoryview) -> None:
        assert self._socket is not None
        while view:
            got = self._socket.recv_into(view)
            if got == 0:
                raise _Broken("the server closed the connection")
            view = view[got:]

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- requests --------------------------------------------------------------------------------

    def _run(self, requests: list[_Request]) -> None:
        """Carry out all requests, reconnecting until the timeout has passed."""
        away_since = first_break = 0.0
        reconnects = 0
        pause = 0.05
        while True:
            try:
                if self._socket is None:
                    self._connect()
                    away_since, pause = 0.0, 0.05
                    reconnects += 1
                    # Batch by batch: a later one may have written over an earlier one.
                    for batch in self._unflushed:
                        self._exchange(batch)
                self._exchange(requests)
                return
            except (_Broken, OSError) as error:
                self._hang_up()
                now = time.monotonic()
                away_since = away_since or now
                first_break = first_break or now
                if now + pause > away_since + self._timeout:
                    raise NetworkError(
                        f"the connection to {self.name} broke and could not be restored within "
                        f"{self._timeout:g} seconds: {error}",
                        hint="start the NBD server again, then repeat the command",
                    ) from error
                if reconnects > MAX_RECONNECTS and now > first_break + self._timeout:
                    raise NetworkError(
                        f"the connection to {self.name} was restored {reconnects} times, and broke again "
                        f"before it had answered: {error}",
                        hint="look for the cause in the NBD server's log",
                    ) from error
                time.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)

    def _exchange(self, requests: list[_Request]) -> None:
        """Send everything and take every answer, keeping a bounded number under way."""
        assert self._socket is not None
        waiting: dict[int, _Request] = {}
        bytes_under_way = 0
        position = 0
        failed: tuple[int, _Request] | None = None
        while position < len(requests) or waiting:
            batch: list[bytes | memoryview] = []
            while (
                position < len(requests)
                and len(waiting) < MAX_IN_FLIGHT
                and (not waiting or bytes_under_way + requests[position][2] <= MAX_BYTES_IN_FLIGHT)
            ):
                kind, offset, length, data = requests[position]
                cookie = next(self._cookies)
                waiting[cookie] = requests[position]
                bytes_under_way += length
                batch.append(protocol.request(kind, cookie, offset, length))
                if kind == protocol.WRITE and data is not None:
                    batch.append(data)
                position += 1
            if batch:
                self._socket.sendall(b"".join(batch) if len(batch) > 1 else batch[0])
            magic, error, cookie = protocol.REPLY.unpack(self._receive(protocol.REPLY.size))
            if magic != protocol.REPLY_MAGIC or cookie not in waiting:
                raise _Broken("an answer is invalid")
            done = waiting.pop(cookie)
            bytes_under_way -= done[2]
            if error:
                if error == errno.ESHUTDOWN:
                    raise _Broken("the server is shutting down")
                failed = failed or (error, done)
            elif done[0] == protocol.READ and done[3] is not None:
                self._receive_into(done[3])
        if failed:
            self._fail(*failed)

    def _fail(self, error: int, request: _Request) -> None:
        names = {protocol.READ: "read", protocol.WRITE: "write", protocol.FLUSH: "flush"}
        doing = names.get(request[0], "discard part of")
        reason = os.strerror(error) if error < 1 << 16 else f"the unknown error {error}"
        message = f"cannot {doing} {self.name} at {request[1]}: {reason}"
        if error == errno.ENOSPC:
            raise NoSpaceError(message, hint="make room where the server keeps the disk")
        if error == errno.EPERM:
            raise ReadOnlyError(message, hint="the server does not allow writing")
        if error == errno.EBUSY:
            raise BusyError(message, hint="another client uses the disk")
        raise DeviceIOError(message, hint="look at the NBD server's log")

    def _split(self, kind: int, offset: int, view: memoryview) -> Iterator[_Request]:
        for start in range(0, len(view), self._largest):
            part = view[start : start + self._largest]
            yield kind, offset + start, len(part), part

    def _aligned(self, offset: int, length: int) -> bool:
        return offset % self._smallest == 0 and length % self._smallest == 0

    def _outward(self, offset: int, length: int) -> tuple[int, int]:
        unit = self._smallest
        return offset // unit * unit, min(-(-(offset + length) // unit) * unit, self.size)

    # -- the device ------------------------------------------------------------------------------

    def read_into(self, offset: int, buffer: Buffer) -> None:
        self.read_many([(offset, buffer)])

    def read_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        batch: list[_Request] = []
        for offset, buffer in requests:
            view = memoryview(buffer).cast("B")
            self.check_range(offset, len(view))
            if not len(view):
                continue
            if self._aligned(offset, len(view)):
                batch.extend(self._split(protocol.READ, offset, view))
                continue
            start, end = self._outward(offset, len(view))
            whole = self.read(start, end - start)
            view[:] = whole[offset - start : offset - start + len(view)]
        if batch:
            self._run(batch)

    def write(self, offset: int, data: Buffer) -> None:
        self.write_many([(offset, data)])

    def write_many(self, pieces: Iterable[tuple[int, Buffer]]) -> None:
        self._check_writable()
        batch: list[_Request] = []
        for offset, data in pieces:
            view = memoryview(data).cast("B")
            self.check_range(offset, len(view))
            if not len(view):
                continue
            start, end = self._outward(offset, len(view))
            if (start, end) != (offset, offset + len(view)):
                if batch:
                    self._write_batch(batch)
                    batch = []
                whole = bytearray(self.read(start, end - start))
                whole[offset - start : offset - start + len(view)] = view
                offset, view = start, memoryview(whole)
            # A copy: the caller may reuse its buffer, and a broken connection needs the bytes again.
            batch.extend(self._split(protocol.WRITE, offset, memoryview(bytes(view))))
        if batch:
            self._write_batch(batch)

    def _write_batch(self, batch: list[_Request]) -> None:
        self._run(batch)
        self._unflushed.append(batch)
        self._unflushed_bytes += sum(request[2] for request in batch if request[0] == protocol.WRITE)
        if self._unflushed_bytes > MAX_UNFLUSHED:
            self.flush()

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.name} is open for reading only", hint="open it for writing")

    def flush(self) -> None:
        if self._flags & protocol.CAN_FLUSH and self._unflushed:
            self._run([(protocol.FLUSH, 0, 0, None)])
        self._unflushed = []
        self._unflushed_bytes = 0

    @property
    def discard_zeroes(self) -> bool:
        return bool(self._flags & protocol.CAN_ZERO)

    def discard(self, offset: int, length: int) -> None:
        """WRITE_ZEROES where the server has it (it frees blocks), else TRIM, else nothing: it is advice."""
        self._check_writable()
        self.check_range(offset, length)
        if self._flags & protocol.CAN_ZERO:
            self.write_zeros(offset, length)
        elif self._flags & protocol.CAN_TRIM:
            unit = self._smallest
            start, end = -(-offset // unit) * unit, (offset + length) // unit * unit
            if end > start:
                self._write_batch(list(self._ranges(protocol.TRIM, start, end - start)))

    def write_zeros(self, offset: int, length: int) -> None:
        self._check_writable()
        self.check_range(offset, length)
        unit = self._smallest
        start, end = -(-offset // unit) * unit, (offset + length) // unit * unit
        if not self._flags & protocol.CAN_ZERO or end <= start:
            super().write_zeros(offset, length)
            return
        super().write_zeros(offset, start - offset)
        self._write_batch(list(self._ranges(protocol.WRITE_ZEROES, start, end - start)))
        super().write_zeros(end, offset + length - end)

    @staticmethod
    def _ranges(kind: int, offset: int, length: int) -> Iterator[_Request]:
        step = 1 << 30
        for start in range(0, length, step):
            yield kind, offset + start, min(step, length - start), None

    def close(self) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(protocol.request(protocol.DISCONNECT, 0, 0, 0))
            except OSError:
                pass  # It is closing anyway; what was not flushed was never promised.
            self._hang_up()
