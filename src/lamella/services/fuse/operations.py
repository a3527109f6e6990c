# SPDX-License-Identifier: Apache-2.0
"""What each operation is answered with, other than reads and writes.

The file system is one flat folder. Its files cannot be made, removed, renamed, resized or given away through
it; that is the server's.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from lamella import clock
from lamella.services.fuse import protocol
from lamella.services.fuse.failures import Refused
from lamella.services.fuse.protocol import Opcode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.services.fuse.file_table import FileTable
    from lamella.services.fuse.protocol import Request

_ROOT_MODE = stat.S_IFDIR | 0o500
_PUNCH = protocol.FALLOC_PUNCH_HOLE | protocol.FALLOC_KEEP_SIZE
_ZERO = protocol.FALLOC_ZERO_RANGE | protocol.FALLOC_KEEP_SIZE
_NAMESPACE = frozenset(
    {
        Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME, Opcode.LINK,
        Opcode.CREATE, Opcode.RENAME2,
    }
)  # fmt: skip


class Operations:
    """Answers the requests of one file system."""

    def __init__(self, files: FileTable) -> None:
        self._files = files
        self._made = clock.now_ns()
        self._by_opcode = {
            Opcode.LOOKUP: self._look_up,
            Opcode.GETATTR: self._get_attributes,
            Opcode.SETATTR: self._set_attributes,
            Opcode.OPEN: self._open,
            Opcode.RELEASE: self._release,
            Opcode.STATFS: self._statistics,
            Opcode.FSYNC: self._flush,
            Opcode.OPENDIR: self._open_directory,
            Opcode.READDIR: self._read_directory,
            Opcode.RELEASEDIR: self._nothing,
            Opcode.ACCESS: self._access,
            Opcode.DESTROY: self._nothing,
            Opcode.FALLOCATE: self._allocate,
            Opcode.LSEEK: self._seek,
        }

    def answer(self, request: Request) -> bytes:
        """The answer's body. Raises :class:`Refused` with the errno."""
        known = self._by_opcode.get(Opcode(request.opcode)) if request.opcode in _KNOWN else None
        if known is not None:
            return known(request)
        # For ENOSYS the kernel does without, and most operations it never asks for again. One of them is
        # FLUSH, which close(2) waits for: no file system promises a durable close, and waiting for it could
        # stop a process that serves its own files. Where Python starts a program by vfork, the thread waits,
        # with the interpreter's lock, until the child has closed what is open here.
        raise Refused(errno.EPERM if request.opcode in _NAMESPACE else errno.ENOSYS)

    def _attributes(self, node: int) -> protocol.Attributes:
        if node == protocol.ROOT_ID:
            return protocol.Attributes(node, _ROOT_MODE, changed=self._made)
        return self._files.node(node).attributes

    def _nothing(self, request: Request) -> bytes:
        return b""

    def _look_up(self, request: Request) -> bytes:
        if request.node != protocol.ROOT_ID:
            raise Refused(errno.ENOENT)
        return protocol.entry(self._files.look_up(request.name()).attributes)

    def _get_attributes(self, request: Request) -> bytes:
        return protocol.attributes_answer(self._attributes(request.node))

    def _set_attributes(self, request: Request) -> bytes:
        """Times are accepted, and not kept."""
        now = self._attributes(request.node)
        owned, size = protocol.set_attributes(request)
        if owned or (size is not None and size != now.size):
            raise Refused(errno.EPERM)
        return protocol.attributes_answer(now)

    def _access(self, request: Request) -> bytes:
        self._attributes(request.node)
        return b""  # the kernel looks at modes itself

    def _open(self, request: Request) -> bytes:
        file = self._files.node(request.node)
        if file.read_only and protocol.open_flags(request) & os.O_ACCMODE != os.O_RDONLY:
            raise Refused(errno.EROFS)
        # The page cache is passed by: what is mounted on a file, or the guest that has it for a disk, has
        # one of its own. Writes to different places need no order.
        flags = protocol.FOPEN_DIRECT_IO | protocol.FOPEN_PARALLEL_DIRECT_WRITES
        return protocol.opened(self._files.open(request.node, request.pid), flags)

    def _release(self, request: Request) -> bytes:
        self._files.release(protocol.released_handle(request))
        return b""

    def _flush(self, request: Request) -> bytes:
        # For each file the kernel sends one at a time. Those of several files in one pool meet at its lock,
        # and find everything committed when they get it.
        self._files.node(request.node).device.flush()
        return b""

    def _statistics(self, request: Request) -> bytes:
        if request.node == protocol.ROOT_ID:
            files = self._files.all()
            return protocol.statistics(sum(file.device.size for file in files), protocol.PAGE, len(files))
        file = self._files.node(request.node)
        return protocol.statistics(file.device.size, file.unit, 1)

    def _open_directory(self, request: Request) -> bytes:
        if request.node != protocol.ROOT_ID:
            raise Refused(errno.ENOTDIR)
        return protocol.opened(0)

    def _read_directory(self, request: Request) -> bytes:
        cookie, size = protocol.read_directory(request)
        return protocol.directory(self._entries(cookie), min(size, 64 << 10))

    def _entries(self, cookie: int) -> Iterator[tuple[int, int, int, bytes]]:
        """From *cookie* on. A file's is its node and 1: files added or removed meanwhile change none."""
        root = protocol.ROOT_ID
        for following, name in ((1, b"."), (2, b"..")):
            if cookie < following:
                yield root, following, _ROOT_MODE, name
        for file in self._files.all():
            if file.node + 1 > cookie:
                yield file.node, file.node + 1, stat.S_IFREG, os.fsencode(file.name)

    def _allocate(self, request: Request) -> bytes:
        file = self._files.node(request.node)
        offset, length, mode = protocol.fallocate(request)
        if mode not in (_PUNCH, _ZERO):
            raise Refused(errno.EOPNOTSUPP)
        if file.read_only:
            raise Refused(errno.EROFS)
        file.zero(offset, length)
        return b""

    def _seek(self, request: Request) -> bytes:
        file = self._files.node(request.node)
        return protocol.found_offset(file.seek(*protocol.lseek(request)))


_KNOWN = frozenset(int(opcode) for opcode in Opcode)
