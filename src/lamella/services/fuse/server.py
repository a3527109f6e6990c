# SPDX-License-Identifier: Apache-2.0
"""Block devices as regular files, which the kernel's loop driver, QEMU and others can open.

Calls of this process that reach its own files must release the interpreter's lock while they wait, since
the threads that serve them need it. open(2), stat(2), flock(2), close(2), mount(2) and ioctl(2) with at
most 1024 bytes do so in Python; page faults in mapped files do not. And where a process is killed while a
thread of it waits for its own file, the kernel waits for an answer that never comes. So a process that serves
files attaches and mounts them, and leaves all else that is done with them to other processes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import MemoryDevice, loop
from lamella.block.system import explaining
from lamella.closing import Closing
from lamella.errors import BusyError, NotFoundError, UsageError
from lamella.printable import printable
from lamella.services.fuse import protocol
from lamella.services.fuse.connection import Connection
from lamella.services.fuse.file_table import FileTable
from lamella.services.fuse.operations import Operations
from lamella.services.fuse.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Self

    from lamella.block import BlockDevice

log = logs.logger(__name__)

_THREADS = 6
"""One is nearly as fast where nothing waits for a disk. Some may wait in flushes while others go on."""
_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes gives the interpreter's lock to one that waits for it. A request
takes it two or three times; Python's own 5 ms would let a single busy thread of the process slow each down to
some 6 ms."""
_CLOSE_TIMEOUT = 1.0
"""Seconds that the kernel may need to tell that a file was closed."""
_END_TIMEOUT = 5.0
"""Seconds in which threads end once the file system is unmounted, unless a device does not answer."""
_SUSPEND_TIMEOUT = 20.0
"""Seconds in which requests end that were read, unless a device does not answer."""
_SIGNAL_INTERVAL = 0.01
"""Seconds after which a thread is sent the signal again, which may just have been going to wait."""
_PROBE = ".probe"


class FuseServer(Closing):
    """One FUSE file system mounted at *mountpoint*, served by *threads* threads of this process.

    The folder is made if it is missing; what a killed server left mounted there is detached. Raises
    :class:`lamella.errors.MissingError` without FUSE, :class:`lamella.errors.PermissionDeniedError` without
    root, and :class:`BusyError` where another process serves it. Methods may be called from any thread.

    Python's switch interval is shortened for the whole process, and stays so.
    """

    def __init__(self, mountpoint: Path, *, threads: int = _THREADS) -> None:
        point = without_links(mountpoint)
        self._begin(Connection.mounted(point), FileTable(), threads)
        try:
            self._teach_that_close_does_not_wait()
        except BaseException:
            self.close()
            raise

    @classmethod
    def resumed(
        cls,
        mountpoint: Path,
        descriptor: int,
        number: tuple[int, int],
        agreed: protocol.Agreed,
        files: FileTable,
        *,
        threads: int = _THREADS,
    ) -> Self:
        """Go on with the file system of *descriptor*, which another server has suspended with *files*.

        Requests that came meanwhile are answered now. Raises as usual; *descriptor* is closed then.
        """
        made = cls.__new__(cls)
        made._begin(Connection(without_links(mountpoint), descriptor, number, agreed), files, threads)
        return made

    def _begin(self, connection: Connection, files: FileTable, threads: int) -> None:
        self.mountpoint = connection.point
        self._files = files
        self._closing = threading.Lock()
        self._closed = False
        self._connection = connection
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        self._workers: list[Worker] = []
        try:
            operations = Operations(self._files)
            max_write = self._connection.agreed.max_write
            for number in range(threads):
                descriptor = self._connection.clone()
                self._workers.append(Worker(number, descriptor, max_write, self._files, operations))
            for worker in self._workers:
                worker.start()
        except BaseException:
            self.close()
            raise

    def _teach_that_close_does_not_wait(self) -> None:
        """Let the kernel ask for FLUSH once, while nothing can go wrong; it is told that there is none."""
        path = self.add(_PROBE, MemoryDevice(protocol.PAGE), read_only=True)
        with explaining("open", str(path)):
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self.remove(_PROBE)

    def add(self, name: str, device: BlockDevice, *, read_only: bool = False) -> Path:
        """Serve *device* as the file *name*, and give its path.

        The device is used by several threads at once, until it is removed, and is not closed here. Raises
        :class:`lamella.errors.ExistsError`, and :class:`BusyError` where it is not mounted now.
        """
        self._check_open()
        file = self._files.add(name, device, read_only=read_only)
        log.debug("serve %s as %s", device.name, self.mountpoint / file.name)
        return self.mountpoint / file.name

    def remove(self, name: str, *, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Serve the file no longer. When this returns, nothing uses its device.

        *timeout*: seconds to wait where it is open, as the kernel tells of a close a little later. Raises
        :class:`BusyError` naming who has it open, and :class:`NotFoundError`.
        """
        openers = self._try_remove(name, timeout)
        if openers:
            raise _busy(self.mountpoint / name, openers)

    def try_remove(self, name: str, *, timeout: float) -> bool:
        """As :meth:`remove`; False where it is open, and who has it does not matter."""
        return not self._try_remove(name, timeout)

    def _try_remove(self, name: str, timeout: float) -> Collection[int]:
        openers = self._files.remove(name, timeout=timeout)
        if not openers:
            log.debug("serve %s no longer", self.mountpoint / name)
        return openers

    def resized(self, name: str) -> None:
        """Let the kernel read the file's size, which is its device's, again. A loop device over it has to be
        told by itself. Raises :class:`NotFoundError`."""
        self._check_open()
        file = self._files.named(name)
        self._connection.notify(protocol.forget_attributes(file.node))
        path = self.mountpoint / name
        with explaining("look at", str(path)):
            os.stat(path)  # which makes the kernel ask

    @property
    def agreed(self) -> protocol.Agreed:
        """What was agreed on with the kernel."""
        return self._connection.agreed

    @property
    def number(self) -> tuple[int, int] | None:
        """The (major, minor) of the mount, if the kernel shows it."""
        return self._connection.number

    @property
    def descriptor(self) -> int:
        """The one that the file system lives by."""
        return self._connection.descriptor

    def suspend(self) -> FileTable:
        """Stop serving: requests that were read are answered, and others wait for the next server.

        Gives what is served. To be called by the main thread, and followed by :meth:`release` or
        :meth:`close`. Raises :class:`BusyError` where a device does not answer.
        """
        self._check_open()
        for worker in self._workers:
            worker.stop()
        end = time.monotonic() + _SUSPEND_TIMEOUT
        # The signal does no more than to end a thread's waiting for a request.
        before = signal.signal(signal.SIGURG, lambda *_: None)
        try:
            while left := [worker for worker in self._workers if not worker.stopped.is_set()]:
                if time.monotonic() > end:
                    raise BusyError(
                        f"requests of {self.mountpoint} do not end", hint="see whether the disk below answers"
                    )
                for worker in left:
                    assert worker.ident is not None
                    signal.pthread_kill(worker.ident, signal.SIGURG)
                left[0].stopped.wait(_SIGNAL_INTERVAL)
        finally:
            signal.signal(signal.SIGURG, before or signal.SIG_DFL)
            for worker in self._workers:
                worker.end()
        for worker in self._workers:
            worker.join()
        return self._files

    def release(self) -> int:
        """After :meth:`suspend`: the descriptor that the file system lives by, which is the caller's then.
        This server is closed."""
        with self._closing:
            self._closed = True
        return self._connection.release()

    def close(self) -> None:
        """Unmount, and end the threads. Who still has a file open gets errors from then on.

        Takes a few seconds at most; a thread whose device does not answer is then left to itself. So are all
        where another program has unmounted the file system lazily, until nobody has a file open.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        for file in self._files.wait_closed(_CLOSE_TIMEOUT):
            log.info("%s is cut off while it is open", self.mountpoint / file.name)
        self._files.clear()  # also where the kernel keeps the file system, unmounted but in use
        self._connection.abort()
        end = time.monotonic() + _END_TIMEOUT
        started = [worker for worker in self._workers if worker.ident is not None]
        for worker in started:
            worker.join(max(end - time.monotonic(), 0))
        stuck = [worker.name for worker in started if worker.is_alive()]
        if stuck:  # a number that is closed could become another file's
            log.info("threads of %s have not ended: %s", self.mountpoint, ", ".join(stuck))
        else:
            self._connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the server of {self.mountpoint} is closed", hint="start another one")
        if not any(worker.is_alive() for worker in self._workers):
            raise BusyError(
                f"{self.mountpoint} was unmounted by another program", hint="restart what serves it"
            )


def without_links(mountpoint: Path) -> Path:
    """The absolute path as the kernel shows it."""
    path = Path(os.path.abspath(mountpoint))
    return Path(os.path.realpath(path.parent)) / path.name


def _busy(path: Path, threads: Collection[int]) -> BusyError:
    """Names the loop devices over the file; if none, the processes whose *threads* opened it."""
    try:
        loops = [info.path for info in loop.find(path)]
    except NotFoundError:
        loops = []
    if loops:
        return BusyError(
            f"{path} is attached to {', '.join(loops)}", hint=f"detach it: losetup -d {' '.join(loops)}"
        )
    named = ", ".join(dict.fromkeys(_process(thread) for thread in threads))
    return BusyError(f"{path} is open in process {named}", hint="end that, or let it close the file")


def _process(thread: int) -> str:
    """The process of a thread, and what it runs."""
    try:
        text = Path(f"/proc/{thread}/status").read_text(errors="replace")
    except OSError:
        return f"{thread} (which has ended, and has given it to another)"
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return printable(f"{fields.get('Tgid', thread)} ({fields.get('Name', '')})")
