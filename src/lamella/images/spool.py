# SPDX-License-Identifier: Apache-2.0
"""Archives that cannot be read at any place (a pipe, a compressed file) are first copied to a file."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import TYPE_CHECKING

from lamella.block.system import explain, explaining, write_all
from lamella.closing import on_error
from lamella.errors import LamellaError
from lamella.images.content import READ_SIZE, OpenFile
from lamella.images.decompress import MAGIC_SIZE, Output, bad_stream, decompressor, format_errors, sniff
from lamella.interruptible import read
from lamella.progress import Upward

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.progress import Progress


class _DescriptorInput:
    """A descriptor's bytes in order, after the first few that were read already."""

    def __init__(self, descriptor: int, name: str, ahead: bytes) -> None:
        self._descriptor = descriptor
        self._name = name
        self._ahead = ahead
        self.position = 0
        """Bytes that were read so far."""

    def read(self, size: int = -1, /) -> bytes:
        size = size if size > 0 else READ_SIZE
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            try:
                data = read(self._descriptor, size)
            except OSError as error:
                raise explain(error, "read", self._name) from error
        self.position += len(data)
        return data

    def readinto(self, target: memoryview, /) -> int:
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)


def readable_anywhere(descriptor: int, name: str, folder: Path | None, progress: Progress) -> OpenFile:
    """*descriptor*'s content as a file with no compression around it.

    That is the file itself where it can be; else a copy, which has no name any more (so nothing is
    left behind, whatever happens) and lies in *folder*, by default the system's temporary folder.
    Takes over *descriptor*.
    """
    regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    with on_error(lambda: os.close(descriptor)), explaining("read", name):
        start = os.pread(descriptor, MAGIC_SIZE, 0) if regular else _read_start(descriptor)
    kind = sniff(start)
    if regular and kind == "plain":
        return OpenFile(name, descriptor)
    try:
        if regular:
            os.lseek(descriptor, 0, os.SEEK_SET)
        source = _DescriptorInput(descriptor, name, b"" if regular else start)
        progress.start("archive: reading", os.fstat(descriptor).st_size if regular else None)
        read = Upward(progress, lambda: source.position)
        copy = _copy(decompressor(kind, source), kind, name, folder, read.report)
        progress.done()
        return copy
    finally:
        os.close(descriptor)


def _read_start(descriptor: int) -> bytes:
    start = b""
    while len(start) < MAGIC_SIZE and (more := read(descriptor, MAGIC_SIZE - len(start))):
        start += more
    return start


def _copy(output: Output, kind: str, name: str, folder: Path | None, report: Callable[[], None]) -> OpenFile:
    errors = format_errors()
    where = f"a temporary copy in {folder or tempfile.gettempdir()}"
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        copy = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # its descriptor lives on
    except OSError as error:
        raise explain(error, "make", where) from error
    with copy:
        while True:
            try:
                data = output.read(1 << 20)
            except LamellaError:
                raise
            except errors as error:
                raise bad_stream(error, kind, name) from error
            if not data:
                break
            try:
                write_all(copy.fileno(), data)
            except OSError as error:
                raise explain(error, "write", where) from error
            report()
        report()
        return OpenFile(name, os.dup(copy.fileno()))
