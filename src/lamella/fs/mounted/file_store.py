# SPDX-License-Identifier: Apache-2.0
"""Writing files' bytes and all kinds of attributes into a mounted tree."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from lamella.block.system import explain
from lamella.errors import BadInputError, LamellaError, NoSpaceError
from lamella.fs.attributes import ACLS, storable
from lamella.fs.entry import Entry, Kind, show, stored_pieces
from lamella.fs.tar.source import BUFFER, Payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lamella.fs.layer import FilePayload

_TOO_LARGE = (errno.ENOSPC, errno.E2BIG, errno.ERANGE)
_LARGER = "make the file system larger (dm.basesize, or --size of a container), or the pool"


def write_file(descriptor: int, entry: Entry, payload: FilePayload) -> int:
    """Write a file's stored bytes, leaving its holes; returns how many.

    Raises ``OSError``, and as :func:`stored_pieces`.
    """
    if entry.data is None:
        done = 0
        for piece in _pieces(payload, entry.size):
            done += _write(descriptor, piece, done)
        if done != entry.size:
            raise ValueError(f"a payload gave {done} bytes where {entry.size} were promised")
        return done
    done = 0
    stream = _pieces(payload, entry.stored)
    piece = memoryview(b"")
    for offset, length in stored_pieces(entry):
        reached = offset + length
        while offset < reached:
            if not piece:
                piece = next(stream)
            step = min(len(piece), reached - offset)
            _write(descriptor, piece[:step], offset)
            piece = piece[step:]
            offset += step
            done += step
    os.ftruncate(descriptor, entry.size)
    return done


def _pieces(payload: FilePayload, length: int) -> Iterator[memoryview]:
    """A payload's bytes as views, each valid until the next is asked for."""
    if isinstance(payload, Payload):
        return payload.pieces()  # straight from its stream's buffer
    return _filled(payload, length)


def _filled(payload: FilePayload, length: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(length, BUFFER)))
    while length:
        got = payload.read_into(buffer[: min(length, len(buffer))])
        if not got:
            return
        yield buffer[:got]
        length -= got


def _write(descriptor: int, piece: memoryview, offset: int) -> int:
    done = os.pwrite(descriptor, piece, offset)
    while done < len(piece):
        done += os.pwrite(descriptor, piece[done:], offset + done)
    return done


def replace_xattrs(where: int | bytes, xattrs: Mapping[bytes, bytes], path: bytes) -> None:
    """Give what *where* leads to exactly these attributes. Raises ``OSError``."""
    link = isinstance(where, bytes)
    for text in os.listxattr(where, follow_symlinks=not link):
        name = os.fsencode(text)
        if name not in xattrs and storable(name) and not is_kernel_owned(name):
            os.removexattr(where, name, follow_symlinks=not link)
    set_xattrs(where, Kind.DIRECTORY, xattrs, path)


def set_xattrs(where: int | bytes, kind: Kind, xattrs: Mapping[bytes, bytes], path: bytes) -> None:
    """Set attributes of an open file, or of a path that may itself be a link. Raises ``OSError``."""
    link = isinstance(where, bytes)
    for name, value in xattrs.items():
        if not storable(name):
            continue
        try:
            os.setxattr(where, name, value, follow_symlinks=not link)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                continue
            if error.errno == errno.EPERM and kind not in (Kind.FILE, Kind.DIRECTORY):
                continue  # a kernel keeps user.* for files and directories
            which = f"the extended attribute {show(name)} ({len(value)} bytes) of {show(path)}"
            if error.errno in _TOO_LARGE:
                raise NoSpaceError(
                    f"{which} cannot be stored", hint="remove some of them from the image"
                ) from error
            if error.errno == errno.EINVAL:
                what = "is not a valid POSIX ACL" if name in ACLS else "is refused by the kernel"
                raise BadInputError(
                    f"{which} {what}", hint="the layer is damaged; build the image again"
                ) from error
            raise


def is_kernel_owned(name: bytes) -> bool:
    """Whether an attribute that a kernel lists is its own and does not belong in an image.

    SELinux labels everything that is made where it is on. XFS keeps ACLs in attributes of the trusted
    namespace, and lists them beside the ACLs themselves.
    """
    return name == b"security.selinux" or name.startswith(b"trusted.SGI_ACL_")


def failure(error: OSError, doing: str, path: bytes, where: str) -> LamellaError:
    """What an ``OSError`` stands for that was met while *doing* something to *path* of the tree *where*."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceError(f"no space is left in {where} for {show(path)}", hint=_LARGER)
        case errno.EFBIG:
            return NoSpaceError(
                f"{show(path)} is larger than any file can be in {where}", hint="split the file"
            )
        case errno.EMLINK:
            return NoSpaceError(
                f"{show(path)} has more hard links than {where} supports",
                hint="the image has more hard links to one file than this file system can hold",
            )
        case errno.ENAMETOOLONG:
            return NoSpaceError(
                f"{show(path)}: its name or its target is too long for {where}",
                hint="use another file system (dm.fs), or a shorter name",
            )
    return explain(error, doing, f"{show(path)} in {where}")
