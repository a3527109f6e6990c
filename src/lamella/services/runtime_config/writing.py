# SPDX-License-Identifier: Apache-2.0
"""Reading and writing configuration files: a copy of what was there is kept, each is replaced as a whole."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import clock
from lamella.block.atomic_file import replacing, sync_directory
from lamella.block.programs import run
from lamella.block.system import explaining
from lamella.services.runtime_config.model import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.services.runtime_config.model import File


def read(path: Path) -> str | None:
    """A file's text, None where there is none. Raises a :class:`lamella.errors.LamellaError`."""
    try:
        with explaining("read", str(path)), suppress(FileNotFoundError):
            return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise refuse(path, f"it is no text in UTF-8: {error}") from error
    return None


def difference(file: File) -> Iterator[str]:
    """The change as lines of a unified diff."""
    return (
        line.rstrip("\n")
        for line in difflib.unified_diff(
            (file.before or "").splitlines(keepends=True),
            file.after.splitlines(keepends=True),
            "/dev/null" if file.before is None else str(file.path),
            str(file.path),
        )
    )


def write(file: File) -> Path | None:
    """Write a file that is changed; gives where its old content is, None where there was none.

    The new one has the old one's owner and mode; a symbolic link stays, and what it leads to is replaced.
    Raises a :class:`lamella.errors.LamellaError`; the file is unchanged then.
    """
    path = Path(os.path.realpath(file.path))
    with explaining("write", str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if read(path) != file.before:
            raise refuse(path, "somebody else has just changed it")
        kept = _keep(path) if file.before is not None else None
        with replacing(path, mode=0o644) as new:
            if kept is not None:
                old = path.stat()
                os.fchmod(new.fileno(), old.st_mode & 0o7777)
                with suppress(PermissionError):  # of a file that is somebody else's
                    os.fchown(new.fileno(), old.st_uid, old.st_gid)
            new.write(file.after.encode())
    return kept


def _keep(path: Path) -> Path:
    """A copy beside *path*, with the time in its name, which no program takes for a configuration file."""
    stamp = clock.utc().strftime("%Y%m%dT%H%M%SZ")
    for number in range(1000):
        copy = path.with_name(f"{path.name}.before-lamella-{stamp}{f'-{number}' if number else ''}")
        with suppress(FileExistsError):
            mode = path.stat().st_mode & 0o777
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(path.read_bytes())
                file.flush()
                os.fsync(file.fileno())
            sync_directory(path.parent)
            return copy
    raise refuse(path, "there is no free name for a copy of it")


def containerd_version() -> int:
    """The major version of the containerd that is installed; 2 where there is none, or it does not tell."""
    try:
        told = run(["containerd", "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return 2
    found = re.search(r"\bv?(\d+)\.\d+\.\d+", told)
    return int(found[1]) if found else 2
