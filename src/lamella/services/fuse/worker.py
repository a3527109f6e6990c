# SPDX-License-Identifier: Apache-2.0
"""A thread that reads one request at a time from the kernel and answers it.

Reads and writes take a short way, as they are nearly all of the requests: the request is read into memory
that was allocated once, the data of a write is handed on where it lies, and that of a read goes to the
kernel by the system call that sends the answer's header. Each step that waits releases the interpreter's
lock.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import BadInputError
from lamella.services.fuse import protocol
from lamella.services.fuse.connection import flush_without_throttling
from lamella.services.fuse.failures import Failures, Refused
from lamella.services.fuse.protocol import HEAD, IN_HEADER, OUT_HEADER, WRITE_OUT, Opcode, Request

if TYPE_CHECKING:
    from lamella.services.fuse.file_table import FileTable
    from lamella.services.fuse.operations import Operations

log = logs.logger(__name__)

_READ, _WRITE = int(Opcode.READ), int(Opcode.WRITE)
_UNANSWERED = frozenset((Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT))
"""The first two have no answer. An interrupted request is answered when it is done, which is soon."""
_ENDED = (errno.ENODEV, errno.ECONNABORTED)
"""Reading says so when the file system is unmounted."""
_GONE = (errno.ENOENT, *_ENDED)
"""Answering says so when nobody waits for the answer any more."""


class Worker(threading.Thread):
    """Serves *descriptor* until the file system is unmounted. *max_write*: most bytes of data in one."""

    def __init__(
        self, number: int, descriptor: int, max_write: int, files: FileTable, operations: Operations
    ) -> None:
        super().__init__(name=f"fuse-{number}", daemon=True)
        self._descriptor = descriptor
        self._nodes = files.nodes
        self._operations = operations
        self._failures = Failures("FUSE file system")
        # A header and the data, which begins at a page, are read into a buffer each.
        self._stopping = False
        self.stopped = threading.Event()
        """Set when it reads no more requests, and has answered those that it has read."""
        self._may_end = threading.Event()
        self._head = bytearray(HEAD)
        self._data = memoryview(mmap.mmap(-1, max_write))

    def stop(self) -> None:
        """Read no more requests. To be sent a signal until :attr:`stopped` is set: it may wait for one.

        The thread lives until :meth:`end`, as a signal must not be sent to one that does not.
        """
        self._stopping = True
        os.set_blocking(self._descriptor, False)

    def end(self) -> None:
        """Let a thread that has stopped end."""
        self._may_end.set()

    def run(self) -> None:
        self._serve_all()
        self.stopped.set()
        if self._stopping:
            self._may_end.wait()

    def _serve_all(self) -> None:
        flush_without_throttling()
        buffers: list[bytearray | memoryview] = [self._head, self._data]
        while not self._stopping:
            try:
                length = os.readv(self._descriptor, buffers)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):  # the request was ended before we had it
                    continue
                if error.errno not in _ENDED:
                    log.info("cannot read from /dev/fuse: %s", error)
                return
            if not length:
                return
            self._serve(length)

    def _serve(self, length: int) -> None:
        """Answer the request of *length* bytes that is in the buffers. Never raises."""
        said, opcode, unique, node, _, offset, size = protocol.TRANSFER.unpack_from(self._head)
        file = self._nodes.get(node)
        answer: tuple[bytes | memoryview, ...]
        try:
            if said != length or length < IN_HEADER.size:
                raise BadInputError(f"a FUSE request of {length} bytes says that it has {said}")
            if opcode == _READ:
                if file is None:
                    raise Refused(errno.ENOENT)
                if length != HEAD or size > len(self._data):
                    raise Refused(errno.EINVAL)
                found = file.read(offset, size, self._data)
                answer = OUT_HEADER.pack(OUT_HEADER.size + len(found), 0, unique), found
            elif opcode == _WRITE:
                if file is None:
                    raise Refused(errno.ENOENT)
                if length != HEAD + size:
                    raise Refused(errno.EINVAL)
                written = file.write(offset, self._data[:size])
                answer = (WRITE_OUT.pack(WRITE_OUT.size, 0, unique, written, 0),)
            elif opcode in _UNANSWERED:
                return
            else:
                answer = (protocol.answer(unique, self._operations.answer(self._request(length))),)
        except Refused as refused:
            answer = (protocol.answer(unique, error=refused.number),)
        except Exception as error:
            failures = file.failures if file is not None else self._failures
            answer = (protocol.answer(unique, error=failures.answer(error)),)
        try:
            os.writev(self._descriptor, answer)
        except OSError as error:
            if error.errno not in _GONE:
                log.info("cannot answer a FUSE request: %s", error)

    def _request(self, length: int) -> Request:
        """The request in the buffers, as a whole."""
        return Request.parse(self._head[: min(length, HEAD)] + self._data[: max(length - HEAD, 0)])
