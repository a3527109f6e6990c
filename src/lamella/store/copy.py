# SPDX-License-Identifier: Apache-2.0
"""Copying between this machine and a container, by the rules of ``docker cp``.

Which target a source is copied to: moby v24.0.9, ``pkg/archive/copy.go``; links: docker/cli,
``cli/command/container/cp.go``. A link is copied as one, unless the path can only be a directory (``LINK/``,
``LINK/.``) or links are to be followed; a link that is the target is always followed. A source that ends in
``/.`` stands for the content of a directory; a target that ends in ``/`` has to be a directory.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lamella.block.system import explaining
from lamella.errors import NotFoundError, UsageError
from lamella.fs.entry import Entry, Kind, show
from lamella.fs.reader import LINK_LIMIT
from lamella.fs.tar.read import read_tar
from lamella.fs.tar.write import TarWriter
from lamella.progress import QUIET, CountedStream, counted
from lamella.store.host_files import HostPayload, host_entries, host_size, write_host_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from lamella.driver.device_set import DeviceSet
    from lamella.fs.filesystem import FileSystem
    from lamella.fs.layer import ChangingTree, FilePayload
    from lamella.fs.reader import TreeReader
    from lamella.progress import Progress
    from lamella.thin.interface import ThinVolume


def copy_in(
    devices: DeviceSet,
    device: str,
    name: str,
    source: str | os.PathLike[str] | BinaryIO,
    path: bytes,
    *,
    keep_owner: bool,
    follow_link: bool = False,
    progress: Progress = QUIET,
) -> None:
    """Copy a file, folder or tar stream to *path* of the container *name*; all of it or nothing.

    *follow_link* takes what the source leads to where it is a symlink.
    """
    path = _clean(path)
    with devices.volume(device, read_only=False) as volume:
        if isinstance(source, str | os.PathLike):
            place = os.fsencode(source)
            progress.start(f"to {name}", None if progress is QUIET else host_size(place))
            _copy_host_in(
                devices.filesystem,
                volume,
                name,
                place,
                path,
                progress.advance,
                keep_owner=keep_owner,
                follow=follow_link or _asserts_directory(place),
            )
        else:
            progress.start(f"to {name}", None)
            _copy_tar_in(devices.filesystem, volume, name, CountedStream(source, progress.advance), path)
    progress.done()


def _copy_host_in(
    filesystem: FileSystem,
    volume: ThinVolume,
    name: str,
    source: bytes,
    path: bytes,
    advance: Callable[[int], None],
    *,
    keep_owner: bool,
    follow: bool,
) -> None:
    contents_only = _is_contents(source)
    with explaining("read", show(source)):
        found = os.stat(source) if follow else os.lstat(source)
    is_directory = stat.S_ISDIR(found.st_mode)
    base = os.path.basename(os.path.abspath(source))
    source = os.path.realpath(source) if follow else source
    with filesystem.reader(volume) as reader:
        target, existing = _place(reader, name, path, base, is_directory, contents_only)
    with filesystem.tree(volume) as tree:
        for entry, where in host_entries(source, follow=follow, keep_owner=keep_owner):
            if not entry.path and existing and is_directory:
                continue  # a directory that is there keeps its attributes
            moved = _moved(entry, target)
            if entry.kind is Kind.FILE and entry.stored:
                with HostPayload(where, entry, advance) as payload:
                    _put(tree, moved, payload)
            else:
                _put(tree, moved, None)


def _copy_tar_in(
    filesystem: FileSystem, volume: ThinVolume, name: str, stream: CountedStream, path: bytes
) -> None:
    with filesystem.reader(volume) as reader:
        target, inode = reader.resolve(path)
    if inode.kind is not Kind.DIRECTORY:
        raise UsageError(
            f"destination {name}:{show(path)} must be a directory",
            hint="a tar stream is unpacked into a directory",
        )
    with filesystem.tree(volume) as tree:
        for entry, payload in read_tar(stream, name="the tar stream"):
            if not entry.path:
                continue
            moved = _moved(entry, target)
            _put(tree, moved, payload)


def _moved(entry: Entry, target: bytes) -> Entry:
    """The entry with its path in the container instead of that in its source."""
    moved = replace(entry, path=_join(target, entry.path))
    if entry.kind is Kind.HARDLINK:
        moved.target = _join(target, entry.target)
    return moved


def _put(tree: ChangingTree, entry: Entry, payload: FilePayload | None) -> None:
    """Write one entry; a directory never replaces something else, nor the reverse."""
    present = tree.kind_of(entry.path)
    if present is not None and (present is Kind.DIRECTORY) != (entry.kind is Kind.DIRECTORY):
        old, new = (
            ("directory", "non-directory") if present is Kind.DIRECTORY else ("non-directory", "directory")
        )
        raise UsageError(
            f"cannot overwrite {old} {show(entry.path)!r} with {new}",
            hint="remove it first, or copy to another place",
        )
    tree.put(entry, payload)


def _place(
    reader: TreeReader[Any], name: str, path: bytes, base: bytes, is_directory: bool, contents_only: bool
) -> tuple[bytes, bool]:
    """The real path that a source called *base* is copied to, and whether that is a directory already."""
    wanted, path = path, _end_of_links(reader, path)
    try:
        target, inode = reader.resolve(path.rstrip(b"/"))
    except NotFoundError:
        head, _, last = path.rstrip(b"/").rpartition(b"/")
        try:
            parent, above = reader.resolve(head)
        except NotFoundError as error:
            raise NotFoundError(
                f"Could not find the file {show(head) or '/'} in container {name}",
                hint="the directory to copy into has to be there",
            ) from error
        if above.kind is not Kind.DIRECTORY or last in (b".", b".."):
            raise
        if not is_directory and _asserts_directory(wanted):
            raise NotFoundError(
                f"destination directory {show(wanted)} does not exist in container {name}",
                hint="leave out the slash to copy to a file of that name",
            ) from None
        return _join(parent, last), False
    if inode.kind is not Kind.DIRECTORY:
        if is_directory:
            raise UsageError(
                f"cannot copy a directory to the file {name}:{show(wanted)}", hint="choose another target"
            )
        if _asserts_directory(wanted):
            raise NotFoundError(
                f"destination {name}:{show(wanted)} is not a directory", hint="leave out the slash after it"
            )
        return target, False
    if is_directory and contents_only:
        return target, True
    return _join(target, base), False


def _end_of_links(reader: TreeReader[Any], path: bytes) -> bytes:
    """Where *path* leads, its last component followed also where the last link of all leads to nothing."""
    for _ in range(LINK_LIMIT):
        try:
            real, inode = reader.resolve(path.rstrip(b"/"), follow=False)
        except NotFoundError:
            return path
        if inode.kind is not Kind.SYMLINK:
            return path
        target = reader.target(inode)
        path = target if target.startswith(b"/") else _join(real.rpartition(b"/")[0], target)
    raise NotFoundError(f"{show(path)}: more than {LINK_LIMIT} symbolic links on the way")


def copy_out(
    devices: DeviceSet,
    device: str,
    name: str,
    path: bytes,
    target: str | os.PathLike[str] | BinaryIO,
    progress: Progress = QUIET,
    *,
    follow_link: bool = False,
) -> None:
    """Copy *path* of the container or image *name* to *target* here, or as a tar stream into *target*.

    *follow_link* takes what *path* leads to where that is a symlink.
    """
    path = _clean(path)
    with devices.volume(device) as volume, devices.filesystem.reader(volume) as reader:
        directory = _asserts_directory(path)
        try:
            real, inode = reader.resolve(path, follow=directory or follow_link)
        except NotFoundError as error:
            raise NotFoundError(
                f"Could not find the file {show(path)} in container {name}", hint=f"see: lamella ls {name}:/"
            ) from error
        is_directory = inode.kind is Kind.DIRECTORY
        base = path.rstrip(b"/").rpartition(b"/")[2]
        contents_only = _is_contents(path) or not real
        entries = () if progress is QUIET else reader.walk(real, follow=False)
        size = None if progress is QUIET else sum(e.stored for e in entries if e.kind is Kind.FILE)
        if isinstance(target, str | os.PathLike):
            place, existing = _place_here(os.fsencode(target), base, is_directory, contents_only)
            progress.start(f"from {name}", size)
            write_host_tree(reader, real, place, into_existing=existing, advance=progress.advance)
        else:
            progress.start(f"from {name}", size)
            _write_tar(reader, real, b"" if contents_only else base, target, progress.advance)
        progress.done()


def _place_here(target: bytes, base: bytes, is_directory: bool, contents_only: bool) -> tuple[bytes, bool]:
    """As :func:`_place`, for a target on this machine."""
    wanted = target
    target = _end_of_links_here(target)
    if os.path.isdir(target):
        if is_directory and contents_only:
            return target, True
        return os.path.join(target, base), False
    if os.path.lexists(target):
        if is_directory:
            raise UsageError(
                f"cannot copy a directory to the file {show(wanted)}", hint="choose another target"
            )
        if _asserts_directory(wanted):
            raise NotFoundError(f"{show(wanted)} is not a directory", hint="leave out the slash after it")
        return target, False
    parent = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(parent) or (_asserts_directory(wanted) and not is_directory):
        missing = parent if not os.path.isdir(parent) else wanted
        raise NotFoundError(f"there is no directory {show(missing)}", hint="create it first")
    return target.rstrip(b"/") or b"/", False


def _end_of_links_here(path: bytes) -> bytes:
    """As :func:`_end_of_links`, on this machine; without slashes at the end, or ``/.``, but for the root."""
    path = (path[:-1] if _is_contents(path) and len(path) > 1 else path).rstrip(b"/") or b"/"
    for _ in range(LINK_LIMIT):
        if not os.path.islink(path):
            return path
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise NotFoundError(f"{show(path)}: more than {LINK_LIMIT} symbolic links on the way")


def _write_tar(
    reader: TreeReader[Any], real: bytes, base: bytes, out: BinaryIO, advance: Callable[[int], None]
) -> None:
    """*real* and what is below it as a tar in which it is called *base*."""
    with TarWriter(out) as tar:
        for entry in reader.walk(real, follow=False):
            if entry.kind is Kind.SOCKET:
                continue
            moved = replace(entry, path=_join(base, entry.path[len(real) :].lstrip(b"/")))
            if entry.kind is Kind.HARDLINK:
                moved.target = _join(base, entry.target[len(real) :].lstrip(b"/"))
            tar.add(moved, counted(reader.read(entry.path), advance) if entry.kind is Kind.FILE else ())


def _join(head: bytes, tail: bytes) -> bytes:
    return head + b"/" + tail if head and tail else head or tail


def _clean(path: bytes) -> bytes:
    """A path in a container as Docker takes it: from the root, ``..`` by the text; ``/`` and ``/.`` kept."""
    cleaned = b"/" + os.path.normpath(b"/" + path).lstrip(b"/")
    end = b"/." if _is_contents(path) else b"/" if path.endswith(b"/") else b""
    return cleaned if cleaned.endswith(b"/") and end != b"/." else cleaned.rstrip(b"/") + end


def _is_contents(path: bytes) -> bool:
    """Whether the last component is ``.``: the content of a directory, not the directory itself."""
    return path.rpartition(b"/")[2] == b"."


def _asserts_directory(path: bytes) -> bool:
    """Whether the path can only name a directory."""
    return path.endswith(b"/") or path.rpartition(b"/")[2] in (b".", b"..")
