# SPDX-License-Identifier: Apache-2.0
"""The state root: the folder of a store, and the paths inside it."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.block.atomic_file import unfinished
from lamella.block.system import explaining
from lamella.store.default_root import default_root as default_root

if TYPE_CHECKING:
    import os

    Place = str | os.PathLike[str] | None
    """Where a store or a file is: None is the default, which is said where it is taken."""


@dataclass(frozen=True)
class Root:
    """The paths of one store."""

    path: Path

    @classmethod
    def at(cls, path: Path | str | os.PathLike[str] | None) -> Root:
        """The store at *path*, or at the default place."""
        return cls(Path(path).absolute() if path is not None else default_root())

    @property
    def config(self) -> Path:
        """The settings. Written first and removed last: without it there is no store."""
        return self.path / "config.toml"

    @property
    def state(self) -> Path:
        return self.path / "state.db"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def scratch(self) -> Path:
        """For files that no command needs after it ends; emptied when the store is opened for writing."""
        return self.path / "tmp"

    @property
    def downloads(self) -> Path:
        """Layers that are being downloaded; an interrupted pull continues with them."""
        return self.path / "downloads"

    @property
    def mounts(self) -> Path:
        """The default mount points of containers and images, each named by an id."""
        return self.path / "mnt"

    def make(self) -> None:
        """The folder itself and :attr:`run`, so that the lock can be taken."""
        with explaining("create", str(self.path)):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.run.mkdir(mode=0o700, exist_ok=True)

    def make_scratch(self) -> Path:
        """:attr:`scratch`, made if need be."""
        return _made(self.scratch)

    def make_downloads(self) -> Path:
        """:attr:`downloads`, made if need be."""
        return _made(self.downloads)

    def clear_state(self) -> None:
        """Remove ``state.db`` and what SQLite may have left beside it."""
        for name in ("state.db", "state.db.new"):
            for end in ("", "-journal", "-wal", "-shm"):
                (self.path / f"{name}{end}").unlink(missing_ok=True)

    def clear_rest(self) -> None:
        """Remove the other files of a store, and the folder if nothing else is in it."""
        for folder in (self.scratch, self.downloads, self.run / "temporary"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (unfinished(self.config), self.config, self.lock, self.lock.with_name("writer")):
            path.unlink(missing_ok=True)
        for folder in (self.mounts, self.run, self.path):
            with contextlib.suppress(OSError):  # it has other files
                folder.rmdir()


def _made(folder: Path) -> Path:
    with explaining("create", str(folder)):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder
