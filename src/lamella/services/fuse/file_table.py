# SPDX-License-Identifier: Apache-2.0
"""Which files there are, by name and by node, and who has them open."""

from __future__ import annotations

import errno
import os
import threading
from itertools import count
from typing import TYPE_CHECKING

from lamella.errors import ExistsError, NotFoundError, UsageError
from lamella.services.fuse import protocol
from lamella.services.fuse.failures import Refused
from lamella.services.fuse.served_file import ServedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lamella.block import BlockDevice

_NAME_LIMIT = 255


class FileTable:
    """The files of one file system. Numbers of nodes and handles are never used again."""

    def __init__(self) -> None:
        self.nodes: dict[int, ServedFile] = {}
        """By node; to be looked at without the lock, by a single ``get``."""
        self._names: dict[bytes, ServedFile] = {}
        self._handles: dict[int, ServedFile] = {}
        self._numbers = count(protocol.ROOT_ID + 1)
        self._changed = threading.Condition()

    def add(self, name: str, device: BlockDevice, *, read_only: bool) -> ServedFile:
        """A new file. Raises :class:`ExistsError`, and :class:`UsageError` for what is no name."""
        key = os.fsencode(name)
        if name in ("", ".", "..") or b"/" in key or b"\0" in key or len(key) > _NAME_LIMIT:
            raise UsageError(f"{name!r} is no file's name", hint="give one without / of at most 255 bytes")
        with self._changed:
            if key in self._names:
                raise ExistsError(f"a file {name} is served already", hint="remove it first")
            file = ServedFile(next(self._numbers), name, device, read_only=read_only)
            self.nodes[file.node] = self._names[key] = file
            return file

    def restore(
        self, name: str, device: BlockDevice, *, node: int, handles: Mapping[int, int], read_only: bool
    ) -> None:
        """A file that an earlier server has served as *node*, with the thread that opened it by open handle.

        Nothing may be served yet.
        """
        with self._changed:
            file = ServedFile(node, name, device, read_only=read_only)
            file.openers.update(handles)
            self.nodes[node] = self._names[os.fsencode(name)] = file
            self._handles.update(dict.fromkeys(handles, file))

    def continue_from(self, number: int) -> None:
        """Number nodes and handles from *number* on."""
        self._numbers = count(number)

    @property
    def following(self) -> int:
        """A number that no node and no handle has had. Nothing may be served any more."""
        return next(self._numbers)

    def remove(self, name: str, *, timeout: float) -> Collection[int]:
        """Remove the file; or if it is still open after *timeout* seconds, give the threads that opened it.

        The kernel tells of a close when it has happened, but does not let who closes wait for that.
        """
        key = os.fsencode(name)
        with self._changed:
            file = self._named(name)
            self._changed.wait_for(lambda: not file.openers, timeout)
            if file.openers:
                return sorted(set(file.openers.values()))
            if self._names.get(key) is file:
                del self._names[key], self.nodes[file.node]
            return ()

    def named(self, name: str) -> ServedFile:
        """The file. Raises :class:`NotFoundError`."""
        with self._changed:
            return self._named(name)

    def _named(self, name: str) -> ServedFile:
        file = self._names.get(os.fsencode(name))
        if file is None:
            raise NotFoundError(f"no file {name} is served", hint="add it first")
        return file

    def look_up(self, name: bytes) -> ServedFile:
        """The file, for the kernel. Raises :class:`Refused`."""
        with self._changed:
            file = self._names.get(name)
        if file is None:
            raise Refused(errno.ENOENT)
        return file

    def node(self, number: int) -> ServedFile:
        """The file, for the kernel. Raises :class:`Refused`."""
        file = self.nodes.get(number)
        if file is None:
            raise Refused(errno.ENOENT)
        return file

    def all(self) -> list[ServedFile]:
        """All files, in the order in which they were added."""
        with self._changed:
            return sorted(self.nodes.values(), key=lambda file: file.node)

    def open(self, node: int, thread: int) -> int:
        """A new handle of the file. Raises :class:`Refused`."""
        with self._changed:
            file = self.node(node)
            handle = next(self._numbers)
            file.openers[handle] = thread
            self._handles[handle] = file
            return handle

    def release(self, handle: int) -> None:
        """The handle is closed; one that is unknown is no error."""
        with self._changed:
            file = self._handles.pop(handle, None)
            if file is not None:
                file.openers.pop(handle, None)
                self._changed.notify_all()

    def clear(self) -> None:
        """From now on there are no files: requests for them are refused."""
        with self._changed:
            self.nodes.clear()
            self._names.clear()

    def wait_closed(self, timeout: float) -> list[ServedFile]:
        """The files that are still open after *timeout* seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._handles, timeout)
            return [file for file in self.nodes.values() if file.openers]
