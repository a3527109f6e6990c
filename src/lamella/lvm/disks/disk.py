# SPDX-License-Identifier: Apache-2.0
"""One disk that may be a physical volume: its label, and every metadata area that it holds."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from lamella.block.opening import is_remote, open_device
from lamella.block.sysfs import attribute, device_folder, holders
from lamella.errors import BusyError, CorruptError, LamellaError, ReadOnlyError
from lamella.lvm.disks.notice import Notice, Noting
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.ids import DM_PREFIX
from lamella.lvm.format.label import SCAN_BYTES, Label, find_label, pack_label
from lamella.lvm.format.metadata_area import HEADER_SIZE, AreaHeader, pack_header, text_ranges, unpack_header

if TYPE_CHECKING:
    from lamella.block.device import BlockDevice
    from lamella.lvm.format.model import VolumeGroup

MAX_AREAS = 2
"""Metadata areas that LVM2 creates and reads on one disk."""
MAX_TEXT = 64 << 20
"""Longest text that is read, in bytes: room for some two hundred thousand volumes."""

Result = TypeVar("Result")

Opener = Callable[[str, bool], "BlockDevice"]
"""(path, read_only) -> an open device, locked if it is to be written."""

FIRST_READ = 4096 + HEADER_SIZE
"""Bytes that hold the label and, where LVM2 puts it, the first area's header."""


LOCK_TIMEOUT = 10.0
"""Seconds to wait for udev, which locks every block device for a moment after it was written."""

EXCLUSIVE_LOCK_TIMEOUT = 60.0
"""The same where no other process can be writing, as the exclusive open has shown: only a very busy udev
takes so long.
"""


def open_file(path: str, read_only: bool) -> BlockDevice:
    """Open a file, block device or NBD address. Readers take no lock: they may read a store in use."""
    if not is_block_device(path):
        return open_device(path, read_only=read_only, lock=not read_only)
    device = _retry_while_locked(
        lambda: open_device(path, read_only=read_only, lock=not read_only), LOCK_TIMEOUT
    )
    _forget_cached(device)
    return device


def _forget_cached(device: BlockDevice) -> None:
    """Drop the disk's page cache, which does not have what was written through volumes on it.

    The kernel drops it with the last descriptor; but other processes, such as multipathd, may have one open.
    """
    from lamella.block.file import FileDevice

    if isinstance(device, FileDevice):
        with suppress(OSError):
            os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_shared(path: str, read_only: bool) -> BlockDevice:
    """Open a disk on which volumes may be active, past the page cache, which does not have what is written
    through them.

    A disk that is in use otherwise is not opened for writing. A plain file below active volumes is locked by
    its loop device, and so written through that.
    """
    if not is_block_device(path):
        loop = _loop_below_volumes(path) if not read_only else ""
        return open_shared(loop, read_only) if loop else open_file(path, read_only)
    from lamella.block.file import FileDevice
    from lamella.block.udev_lock import lock_beside_udev

    if not read_only and is_claimed(path) and not _holds_only_volumes(path):
        raise BusyError(
            f"Can't open {path} exclusively.  Mounted filesystem?", hint=f"see what uses it: lsblk {path}"
        )
    device = FileDevice(path, read_only=read_only, direct=True, lock=False)
    try:
        if not read_only:
            _retry_while_locked(lambda: lock_beside_udev(device.fileno(), path), EXCLUSIVE_LOCK_TIMEOUT)
    except BaseException:
        device.close()
        raise
    return device


def _retry_while_locked(attempt: Callable[[], Result], timeout: float) -> Result:
    """The result of *attempt*, which is repeated for *timeout* seconds while another process's lock prevents
    it.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return attempt()
        except BusyError as error:
            if not isinstance(error.__cause__, BlockingIOError) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def is_claimed(path: str) -> bool:
    """Whether the block device is mounted, swapped to, or under another block device."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _loop_below_volumes(path: str) -> str:
    """The loop device over the whole of a plain file on which volumes are active; "" if there is none."""
    from lamella.block.loop import find

    if is_remote(path):
        return ""
    for loop in find(path):
        whole = not (loop.offset or loop.size_limit or loop.read_only or loop.deleted)
        if whole and is_block_device(loop.path) and _holds_only_volumes(loop.path):
            return loop.path
    return ""


def _holds_only_volumes(path: str) -> bool:
    """Whether all devices on top of the disk are logical volumes."""
    above = holders(device_folder(os.stat(path).st_rdev))
    return bool(above) and all(attribute(each, "dm/uuid").startswith(DM_PREFIX) for each in above)


def is_block_device(path: str) -> bool:
    """Whether *path* leads to a block device."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


@dataclass(slots=True, eq=False)
class MetadataCopy:
    """One metadata area of one disk, and the group that its committed text describes."""

    disk: Disk
    number: int
    """1 for the disk's first area, 2 for its second."""
    start: int
    size: int
    header: AreaHeader | None = None
    problem: str = ""
    """"" if good, else "header" or "text": what was damaged."""
    text: bytes = b""
    group: VolumeGroup | None = None
    ignore_next: bool | None = None
    """What the next commit makes of the ignored flag; None leaves it."""

    @property
    def will_be_ignored(self) -> bool:
        return self.ignored if self.ignore_next is None else self.ignore_next

    @property
    def ignored(self) -> bool:
        return self.header is not None and self.header.ignored

    @property
    def empty(self) -> bool:
        """Good, but holds no group."""
        return self.header is not None and not self.problem and self.header.committed.empty


@dataclass(slots=True, eq=False)
class Disk(Noting):
    """A disk at a path. ``label`` is None if it is not a physical volume."""

    path: str
    size: int
    label: Label | None = None
    copies: list[MetadataCopy] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    opener: Opener = open_file
    read_only: bool = False
    _reader: BlockDevice | None = None
    _writer: BlockDevice | None = None

    @classmethod
    def open(cls, path: str, opener: Opener = open_file, device: BlockDevice | None = None) -> Disk:
        """Read label and areas. *device* is used for reading and writing if it is given, and stays open.

        Raises what the device raises when it cannot be opened or its start cannot be read; damage is
        reported in ``notices`` and in each copy's ``problem``.
        """
        reader = device if device is not None else opener(path, True)
        disk = cls(path, reader.size, opener=opener)
        disk._reader = reader
        if device is not None:
            disk._writer = device
            disk.read_only = device.read_only
        disk.load()
        return disk

    def load(self) -> None:
        """Read label and areas (again)."""
        self.label = None
        self.copies = []
        self.notices = []
        if self.size < SCAN_BYTES:
            return
        start = self.reader.read(0, min(FIRST_READ, self.size))
        said: list[str] = []
        try:
            self.label = find_label(start, self.path, said)
        except CorruptError as error:
            self.note("label", error.message, self.path, "error")
        for line in said:
            level = "verbose" if line.startswith("Label checksum") else "warn"
            self.note("label", line, self.path, level)
        if self.label is None:
            return
        for number, (offset, size) in enumerate(self.label.metadata_areas[:MAX_AREAS], 1):
            copy = MetadataCopy(self, number, offset, size)
            self.copies.append(copy)
            self._load_copy(copy, start)

    def _load_copy(self, copy: MetadataCopy, start: bytes) -> None:
        said: list[str] = []
        try:
            if copy.start + HEADER_SIZE <= len(start):
                block = start[copy.start : copy.start + HEADER_SIZE]
            elif copy.start + HEADER_SIZE <= self.size:
                block = self.reader.read(copy.start, HEADER_SIZE)
            else:
                said.append(f"Failed to read metadata area header on {self.path} at {copy.start}")
                raise CorruptError("outside the disk")
            copy.header = unpack_header(block, copy.start, self.path, said)
        except LamellaError:
            copy.problem = "header"
            self._bad_copy(copy, said)
            return
        header = copy.header
        if header.ignored or header.committed.empty:
            return
        try:
            text = self._committed_text(copy)
            if lvm_crc(text) != copy.header.committed.checksum:
                # Another program may have been writing; what it wrote is whole by now.
                copy.header = unpack_header(
                    self.reader.read(copy.start, HEADER_SIZE), copy.start, self.path, []
                )
                text = self._committed_text(copy)
            if lvm_crc(text) != copy.header.committed.checksum:
                at = copy.start + copy.header.committed.offset
                said.append(f"WARNING: Checksum error on {self.path} at offset {at}.")
                raise CorruptError("checksum")
            copy.text = text
        except LamellaError:
            self.bad_text(copy, said)

    def _committed_text(self, copy: MetadataCopy) -> bytes:
        assert copy.header is not None
        pieces = text_ranges(copy.header, copy.header.committed, self.path)
        if copy.header.committed.size > MAX_TEXT or any(at + length > self.size for at, length in pieces):
            raise CorruptError(f"the metadata text of {self.path} lies outside the disk")
        return b"".join(self.reader.read(at, length) for at, length in pieces)

    def bad_text(self, copy: MetadataCopy, said: list[str]) -> None:
        """Record that the area's text cannot be used; *said* are the reasons."""
        at = copy.start + (copy.header.committed.offset if copy.header else 0)
        copy.problem = "text"
        copy.text = b""
        said = [
            *said,
            f"WARNING: invalid metadata text from {self.path} at {at}.",
            f"WARNING: metadata on {self.path} at {at} has invalid summary for VG.",
        ]
        # LVM2 looks twice, and says so.
        self.notices += [Notice("metadata", line, self.path) for line in said]
        self.note("metadata", "Retrying metadata scan.", self.path, "print")
        self._bad_copy(copy, [*said, f"WARNING: bad metadata text on {self.path} in mda{copy.number}"])

    def _bad_copy(self, copy: MetadataCopy, said: list[str]) -> None:
        said.append(f"WARNING: scanning {self.path} mda{copy.number} failed to read metadata summary.")
        said.append(f"WARNING: repair VG metadata on {self.path} with vgck --updatemetadata.")
        self.notices += [Notice("metadata", line, self.path) for line in said]

    # -- devices ---------------------------------------------------------------------------------

    @property
    def reader(self) -> BlockDevice:
        if self._reader is None:
            self._reader = self.opener(self.path, True)
        return self._reader

    @property
    def writer(self) -> BlockDevice:
        """The disk, open for writing and locked against other programs."""
        if self._writer is None:
            self._writer = self.opener(self.path, False)
        if self._writer.read_only:
            raise ReadOnlyError(f"{self.path} is open for reading only", hint="open it for writing")
        return self._writer

    @property
    def locked_file(self) -> int | None:
        """The descriptor with which a plain file is open for writing, and locked; None for anything else."""
        from lamella.block.file import FileDevice

        writer = self._writer
        if not isinstance(writer, FileDevice) or writer.is_block_device or writer.read_only:
            return None
        return writer.fileno()

    def take_writer(self) -> BlockDevice | None:
        """Hand over the device that was opened for writing, if any; the caller closes it."""
        taken = None if self._writer is self._reader else self._writer
        if taken is not None:
            self._writer = None
        return taken

    def close(self) -> None:
        """Close what this object opened itself."""
        given = self._reader is not None and self._reader is self._writer
        if not given:
            for device in (self._reader, self._writer):
                if device is not None:
                    device.close()
        self._reader = self._reader if given else None
        self._writer = self._writer if given else None

    # -- writing ---------------------------------------------------------------------------------

    def write_label(self) -> None:
        """Write the label's sector and flush."""
        assert self.label is not None
        self.writer.write(self.label.sector * 512, pack_label(self.label))
        self.writer.flush()

    def write_header(self, copy: MetadataCopy) -> None:
        """Write an area's header sector (no flush)."""
        assert copy.header is not None
        self.writer.write(copy.start, pack_header(copy.header))
