# SPDX-License-Identifier: Apache-2.0
"""Files of this machine as entries, and entries as files of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Any

from lamella.block.system import data_ranges, explain
from lamella.closing import Closing
from lamella.errors import BadInputError, UsageError
from lamella.fs.entry import KINDS, Entry, Kind, show
from lamella.interruptible import checkpoint
from lamella.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lamella.fs.reader import TreeReader

_KINDS = {bits: kind for bits, kind in KINDS.items() if kind is not Kind.SOCKET}
"""The kinds that are copied; a socket is of no use without its program."""
_NODES = {Kind.CHAR: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK}
_KEPT_XATTRS = (b"user.", b"security.capability", b"system.posix_acl_")
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)


class HostPayload(Closing):
    """A file's stored bytes, read piece by piece; *advance* gets the number of bytes of each piece."""

    def __init__(self, path: bytes, entry: Entry, advance: Callable[[int], None]) -> None:
        self._path = path
        self._advance = advance
        self._pieces = iter(entry.data if entry.data is not None else [(0, entry.size)])
        self._offset = self._left = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise explain(error, "read", show(path)) from error

    def read_into(self, buffer: memoryview, /) -> int:
        """Fill *buffer*. Raises :class:`BadInputError` if the file has become shorter meanwhile."""
        checkpoint()
        done = 0
        while done < len(buffer):
            while not self._left:
                self._offset, self._left = next(self._pieces)
            take = min(self._left, len(buffer) - done)
            try:
                got = os.preadv(self._descriptor, [buffer[done : done + take]], self._offset)
            except OSError as error:
                raise explain(error, "read", show(self._path)) from error
            if not got:
                raise BadInputError(
                    f"{show(self._path)} has become shorter while it was being copied", hint="copy it again"
                )
            done += got
            self._offset += got
            self._left -= got
        self._advance(done)
        return done

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def host_size(top: bytes) -> int:
    """Bytes of the files at and below *top*; what cannot be read counts as nothing."""
    total = 0
    waiting = [top]
    while waiting:
        with contextlib.suppress(OSError):
            where = waiting.pop()
            found = os.stat(where) if where is top else os.lstat(where)
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(where) as below:
                    waiting += [entry.path for entry in below]
            elif stat.S_ISREG(found.st_mode):
                total += min(found.st_size, found.st_blocks * 512)
    return total


def host_entries(top: bytes, *, follow: bool, keep_owner: bool) -> Iterator[tuple[Entry, bytes]]:
    """*top* (as ``b""``) and everything below it as entries with paths from there, and where each lies.

    *follow*: take what a symlink at *top* leads to. Sockets are left out, as tar does. Without
    *keep_owner* everything is root's.
    """
    seen: dict[tuple[int, int], bytes] = {}
    waiting = [(b"", top)]
    while waiting:
        path, where = waiting.pop()
        try:
            found = os.stat(where) if follow and not path else os.lstat(where)
            kind = _KINDS.get(stat.S_IFMT(found.st_mode))
            if kind is None:
                continue
            entry = _entry(path, where, kind, found, keep_owner=keep_owner)
            if kind is Kind.DIRECTORY:
                with os.scandir(where) as names:
                    below = sorted((name.name, name.path) for name in names)
                lead = path + b"/" if path else b""
                waiting += [(lead + name, place) for name, place in reversed(below)]
        except OSError as error:
            raise explain(error, "read", show(where)) from error
        if kind is not Kind.DIRECTORY and found.st_nlink > 1:
            first = seen.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                entry = Entry(
                    path, Kind.HARDLINK, entry.mode, entry.uid, entry.gid, entry.mtime_ns, target=first
                )
        yield entry, where


def _entry(path: bytes, where: bytes, kind: Kind, found: os.stat_result, *, keep_owner: bool) -> Entry:
    entry = Entry(path, kind, stat.S_IMODE(found.st_mode), mtime_ns=found.st_mtime_ns)
    if keep_owner:
        entry.uid, entry.gid = found.st_uid, found.st_gid
    if kind is Kind.FILE:
        entry.size = found.st_size
        if found.st_blocks * 512 < found.st_size:
            entry.data = _stored(where, found.st_size)
    elif kind is Kind.SYMLINK:
        entry.target = os.readlink(where)
    elif kind in _NODES:
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    if kind is not Kind.SYMLINK:
        entry.xattrs = _xattrs(where)
    return entry


def _stored(where: bytes, size: int) -> list[tuple[int, int]]:
    """The stored pieces of a sparse file."""
    descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return list(data_ranges(descriptor, 0, size))
    finally:
        os.close(descriptor)


def _xattrs(where: bytes) -> dict[bytes, bytes]:
    found = {}
    try:
        for name in os.listxattr(where, follow_symlinks=False):
            raw = os.fsencode(name)
            if raw.startswith(_KEPT_XATTRS):
                found[raw] = os.getxattr(where, name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (*_NO_XATTRS, errno.ENODATA):
            raise
    return found


def write_host_tree(
    reader: TreeReader[Any],
    source: bytes,
    target: bytes,
    *,
    into_existing: bool,
    advance: Callable[[int], None],
) -> None:
    """Write *source* of a container's tree as *target*, which its parent is there for.

    *advance* gets the number of bytes of each piece of a file.

    *into_existing*: *target* is a directory already, and keeps its attributes. Everything belongs to
    whoever runs this; modes and times are kept.
    """
    times: list[tuple[bytes, Entry]] = []
    base = reader.resolve(source, follow=False)[0]
    for entry in reader.walk(base, follow=False):
        below = entry.path[len(base) :].lstrip(b"/")
        where = os.path.join(target, below) if below else target
        if not below and into_existing:
            continue
        try:
            link_target = os.path.join(target, entry.target[len(base) :].lstrip(b"/"))
            _write(reader, entry, where, link_target, advance)
        except OSError as error:
            raise explain(error, "write", show(where)) from error
        if entry.kind is Kind.DIRECTORY:
            times.append((where, entry))
    for where, entry in reversed(times):
        try:
            os.chmod(where, entry.mode)
            os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            raise explain(error, "write", show(where)) from error


def _write(
    reader: TreeReader[Any], entry: Entry, where: bytes, link_target: bytes, advance: Callable[[int], None]
) -> None:
    present = _kind_here(where)
    if entry.kind is Kind.DIRECTORY:
        if present is None:
            os.mkdir(where, 0o700)
        elif present is not Kind.DIRECTORY:
            raise UsageError(
                f"cannot overwrite non-directory {show(where)} with directory {show(entry.path)}",
                hint="remove it first, or copy to another place",
            )
        return
    if present is Kind.DIRECTORY:
        raise UsageError(
            f"cannot overwrite directory {show(where)} with non-directory {show(entry.path)}",
            hint="remove it first, or copy to another place",
        )
    if present is not None:
        os.unlink(where)
    if entry.kind is Kind.HARDLINK:
        os.link(link_target, where, follow_symlinks=False)
        return
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.target, where)
    elif entry.kind is Kind.FIFO:
        os.mkfifo(where, 0o600)
    elif entry.kind in _NODES:
        os.mknod(where, _NODES[entry.kind] | 0o600, os.makedev(entry.major, entry.minor))
    elif entry.kind is Kind.FILE:
        _write_file(reader, entry, where, advance)
    else:
        return  # a socket: nothing without its program
    if entry.kind is not Kind.SYMLINK:
        os.chmod(where, entry.mode)
        _set_xattrs(where, entry)
    os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _write_file(reader: TreeReader[Any], entry: Entry, where: bytes, advance: Callable[[int], None]) -> None:
    descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.truncate(entry.size)
        for offset, length in entry.data if entry.data is not None else [(0, entry.size)]:
            file.seek(offset)
            for piece in counted(reader.read(entry.path, offset, length), advance):
                file.write(piece)


def _set_xattrs(where: bytes, entry: Entry) -> None:
    for name, value in entry.xattrs.items():
        try:
            os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise


def _kind_here(where: bytes) -> Kind | None:
    """What is at a place, links not followed; anything odd counts as a file."""
    with contextlib.suppress(FileNotFoundError):
        return _KINDS.get(stat.S_IFMT(os.lstat(where).st_mode), Kind.FILE)
    return None
