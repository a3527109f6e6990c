# SPDX-License-Identifier: Apache-2.0
"""Opening an image archive of any kind; which kind it is, its content says."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lamella.block.system import explaining
from lamella.closing import on_error
from lamella.errors import BadInputError
from lamella.images.docker_archive import archive_images
from lamella.images.image_source import ImageSource
from lamella.images.legacy_archive import legacy_images
from lamella.images.oci_layout import Folder, layout_images
from lamella.images.platform import Platform
from lamella.images.spool import readable_anywhere
from lamella.images.tar_index import TarIndex
from lamella.interruptible import STANDARD_INPUT
from lamella.progress import QUIET

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.images.content import OpenFile
    from lamella.images.image_source import SourceImage
    from lamella.progress import Progress

_HINT = "give the output of `docker save`, an OCI archive, or an OCI layout folder"


class ArchiveSource(ImageSource):
    """Images in a file or folder; ``kind`` is ``docker-archive``, ``oci-archive`` or ``oci-dir``."""

    def __init__(self, name: str, kind: str, images: list[SourceImage], file: OpenFile | None) -> None:
        self.name = name
        self.kind = kind
        self._images = images
        self._file = file

    def images(self) -> list[SourceImage]:
        return self._images

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def open_archive(
    path: str | os.PathLike[str] | int | None,
    *,
    platform: Platform | str | None = None,
    spool_folder: Path | None = None,
    progress: Progress = QUIET,
) -> ArchiveSource:
    """Open the archive or layout at *path* (None or ``-``: standard input; a number: that descriptor).

    *platform* (``linux/arm64``) chooses from manifest lists, this machine's otherwise. An archive
    that comes through a pipe or is compressed as a whole is first copied to an unnamed file in
    *spool_folder* (default: the system's folder for temporary files). All documents are read and
    verified here; layers are not touched.

    Errors: :class:`BadInputError` for what is not an image archive, or is damaged or hostile;
    :class:`~lamella.errors.NotFoundError` for a path or platform that is not there;
    :class:`~lamella.errors.UnsupportedError` for kinds of images that cannot be used.
    """
    wanted = Platform.parse(platform) if isinstance(platform, str) else platform
    if path is None or path == "-":
        path = 0
    if isinstance(path, int):
        name = "standard input" if path == 0 else f"file descriptor {path}"
        with explaining("read", name):
            descriptor = os.dup(STANDARD_INPUT.get() if path == 0 else path)
    else:
        name = os.fspath(path)
        with explaining("open", name):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        os.close(descriptor)
        return _open_folder(name, wanted)
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        os.close(descriptor)
        raise BadInputError(f"{name} is not a file with an image in it", hint=_HINT)
    file = readable_anywhere(descriptor, name, spool_folder, progress)
    with on_error(file.close):
        return _open_tar(file, name, wanted)


def _open_folder(name: str, wanted: Platform | None) -> ArchiveSource:
    content = Folder(name)
    if content.piece("index.json") is None:
        raise BadInputError(f"{name} is a folder without an index.json, so not an OCI layout", hint=_HINT)
    return ArchiveSource(name, "oci-dir", layout_images(content, wanted), None)


def _open_tar(file: OpenFile, name: str, wanted: Platform | None) -> ArchiveSource:
    if file.size == 0:
        raise BadInputError(f"{name} is empty", hint=_HINT)
    index = TarIndex(file, name)
    is_layout = "index.json" in index
    # Both: Docker 25 and later. manifest.json then holds what was asked to be saved; the index may
    # list platforms that the archive does not have, and it alone offers a choice.
    if "manifest.json" in index and not (is_layout and wanted is not None):
        return ArchiveSource(name, "docker-archive", archive_images(index, wanted), file)
    if is_layout:
        return ArchiveSource(name, "oci-archive", layout_images(index, wanted), file)
    if "repositories" in index:
        return ArchiveSource(name, "docker-archive", legacy_images(index, wanted), file)
    raise BadInputError(f"{name} is a tar, but holds neither manifest.json nor index.json", hint=_HINT)
