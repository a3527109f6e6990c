# SPDX-License-Identifier: Apache-2.0
"""The temporary snapshots of the kernel's engine, recorded so that those of killed processes are removed.

Under ``run/temporary`` of the state root: a file for each temporary thin device, named by its id and
locked for as long as its maker lives; ``suspended`` with the name of a device that is suspended for a
snapshot; ``held`` while the pool's metadata snapshot is held. A record that is not locked is a dead
process's.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lamella.block.atomic_file import sync_directory
from lamella.block.system import explain, explaining
from lamella.errors import LamellaError, NoSpaceError, NotFoundError, ReadOnlyError
from lamella.thin.format.limits import MAX_DEVICE_ID
from lamella.thin.kernel.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.thin.kernel.pool import KernelPool

_SUSPENDED = "suspended"
_HELD = "held"


class TemporarySnapshots(Guard):
    """Those in the pool of the store in *root*. Set ``pool`` before use."""

    pool: KernelPool

    def __init__(self, root: Path) -> None:
        self.folder = root / "run" / "temporary"

    # -- the pool's guard ------------------------------------------------------------------------

    @contextmanager
    def suspending(self, name: str) -> Iterator[None]:
        """One at a time: *name* is recorded for as long as the device is suspended."""
        with self._locked(_SUSPENDED) as file:
            self._resume_recorded(file)
            os.pwrite(file, name.encode(), 0)
            try:
                yield
            finally:
                os.ftruncate(file, 0)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """One at a time: a pool has one held metadata snapshot."""
        with self._locked(_HELD) as file:
            self._release_recorded(file)
            os.pwrite(file, b"held", 0)
            try:
                yield
            finally:
                os.ftruncate(file, 0)

    def _resume_recorded(self, file: int) -> None:
        name = os.pread(file, 4096, 0).decode()
        if name:
            with suppress(NotFoundError):
                if self.pool.dm.info(name).suspended:
                    self.pool.dm.resume(name)
            os.ftruncate(file, 0)

    def _release_recorded(self, file: int) -> None:
        if os.pread(file, 16, 0):
            with suppress(NotFoundError, ReadOnlyError, NoSpaceError):
                self.pool.release_metadata_snap()
            os.ftruncate(file, 0)

    # -- temporary snapshots ---------------------------------------------------------------------

    @contextmanager
    def snapshot(self, origin_id: int, taken: Callable[[], set[int]]) -> Iterator[int]:
        """A snapshot of *origin_id* for as long as the block lasts; gives its id.

        *taken* gives ids that may not be used; the highest free one is used.
        """
        with self._locked("lock"):
            used = taken() | {int(name) for name in self._numbers()}
            dev_id = next((number for number in range(MAX_DEVICE_ID, 0, -1) if number not in used), 0)
            if not dev_id:
                raise NoSpaceError("the pool has no free device id", hint="remove images or containers")
            path = self.folder / str(dev_id)
            file = _open(path, create=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            sync_directory(self.folder)
            self.pool.create_snap(dev_id, origin_id)
            yield dev_id
        finally:
            # What cannot be removed now stays recorded, and the next command removes it.
            with suppress(LamellaError):
                self._remove(dev_id)
                path.unlink()
            os.close(file)

    def ids(self) -> set[int]:
        """Ids of the recorded temporary devices, of living processes and dead ones."""
        return {int(name) for name in self._numbers()}

    def clear(self) -> None:
        """Remove what dead processes left; what living ones use stays."""
        if not self.folder.exists():
            return
        with self._locked(_SUSPENDED, wait=False) as file:
            if file >= 0:
                self._resume_recorded(file)
        with self._locked(_HELD, wait=False) as file:
            if file >= 0:
                self._release_recorded(file)
        if not self._numbers():
            return
        with self._locked("lock"):
            for name in self._numbers():
                with self._locked(name, wait=False) as file:
                    if file >= 0:
                        self._remove(int(name))
                        (self.folder / name).unlink(missing_ok=True)

    def _remove(self, dev_id: int) -> None:
        self.pool.release(dev_id)
        with suppress(NotFoundError):
            self.pool.delete(dev_id)

    # -- files -----------------------------------------------------------------------------------

    def _numbers(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if name.isdigit()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain(error, "list", str(self.folder)) from error

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[int]:
        """The file *name*, open and locked; without *wait* -1 if another process has it locked."""
        with explaining("create", str(self.folder)):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _open(self.folder / name, create=True)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield -1
                return
            yield file
        finally:
            os.close(file)


def _open(path: Path, *, create: bool) -> int:
    with explaining("open", str(path)):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
