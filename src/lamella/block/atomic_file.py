# SPDX-License-Identifier: Apache-2.0
"""Files replaced atomically: a crash leaves the old content or the new, which is then on disk."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path, *, temporary: Path | None = None, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of *path* when the block ends without an exception.

    It is *temporary* until then, in the same folder; by default a name that no other writer has. A new
    file has *mode*, less the umask. Raises ``OSError``.
    """
    fresh = temporary or temporary_name(path)
    try:
        with open(fresh, "wb", 1 << 18, opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(fresh, path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def replace_file(path: Path, text: str) -> None:
    """Replace the content of *path* by *text*, in UTF-8 (surrogates stand for other bytes).

    A crash may leave :func:`unfinished` behind. Raises ``OSError``.
    """
    with replacing(path, temporary=unfinished(path)) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def unfinished(path: Path) -> Path:
    """Where :func:`replace_file` writes before it replaces *path*."""
    return path.with_name(f"{path.name}.new")


def temporary_name(path: Path) -> Path:
    """A unique name in the folder of *path*; a short one, as that of *path* may be of any length."""
    return path.with_name(f".lamella-{os.urandom(6).hex()}.tmp")


def publish(temporary: Path, path: Path) -> None:
    """Give a file or folder that is complete and on disk its name, durably. Raises ``OSError``."""
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make names created, renamed or removed in a directory durable. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
