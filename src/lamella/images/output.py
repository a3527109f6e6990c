# SPDX-License-Identifier: Apache-2.0
"""Output files and folders that get their name when they are complete and on disk, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lamella.block.atomic_file import publish, replacing, temporary_name
from lamella.block.system import explain, explaining
from lamella.errors import ExistsError, LamellaError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name *path* when the block has ended well and all is on disk.

    A symlink stays, and what it leads to is replaced. What is not a regular file (``/dev/stdout``, a pipe, a
    disk) is never replaced but written into. Raises :class:`ExistsError` for a folder.
    """
    real = Path(os.path.realpath(path))
    with explaining("write", str(path)):
        if path.is_dir():
            raise ExistsError(f"cannot write the archive {path}: it is a folder", hint="name a file")
        if path.exists() and not path.is_file():
            with open(path, "wb") as file:
                yield file
            return
        with replacing(real) as file:
            yield file


@contextlib.contextmanager
def output(target: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """The stream *target* as it is, or the file of that name as :func:`output_file` makes it."""
    if isinstance(target, str | os.PathLike):
        with output_file(Path(target)) as file:
            yield file
    else:
        yield target


@contextlib.contextmanager
def output_archive(out: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A stream for a tar, ended properly; a path gets its file only when it is whole and on disk."""
    if isinstance(out, Path):
        with output_file(out) as file:
            yield file
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        return
    with explaining("write to", str(getattr(out, "name", "the output"))):
        yield out
        out.write(bytes(2 * tarfile.BLOCKSIZE))
        out.flush()


@contextlib.contextmanager
def output_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes *target* at the end; that must not exist, or be empty."""
    temporary = temporary_name(target)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ExistsError(
                f"cannot write the OCI layout {target}: there is something already", hint="name a new folder"
            )
        temporary.mkdir()
        yield temporary
        publish(temporary, target)  # over an empty folder too
    except LamellaError:
        raise
    except OSError as error:
        raise explain(error, "write", str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
