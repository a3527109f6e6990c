# SPDX-License-Identifier: Apache-2.0
"""The control socket's daemon side: who may connect, and one thread for each command."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from lamella import logs
from lamella._version import __version__
from lamella.block.system import explain, explaining
from lamella.errors import BusyError, LamellaError, PermissionDeniedError
from lamella.services.control import context, protocol
from lamella.services.control.command import Command, keep_interruptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.services.control.command import Runner
    from lamella.services.control.protocol import Request

log = logs.logger(__name__)

REQUEST_TIME = 30.0
"""Seconds in which a client has to send its request."""
INTERRUPTED = 128
"""The least exit code of a command that was interrupted."""
MOST_CONNECTIONS = 128
BACKLOG = 128
ROLL_BACK_TIME = 30.0
"""Seconds that interrupted commands get to roll back when the daemon ends."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of <sys/socket.h>: process, user and group."""


class ControlService:
    """Serves ``control.sock`` in *folder*, or the socket *listening* that is bound there already.

    *stop_timeout*: seconds for which :meth:`stop` lets commands run on before it interrupts them. *observe*
    is told of each command that has ended: its request, its seconds and its exit code.
    """

    name = "control"

    def __init__(
        self,
        folder: Path,
        runner: Runner,
        *,
        listening: socket.socket | None = None,
        stop_timeout: float = 30.0,
        observe: Callable[[Request, float, int], object] = lambda *_: None,
    ) -> None:
        self._folder = folder
        self._runner = runner
        self._listener = listening
        self._own = listening is None
        self._stop_timeout = stop_timeout
        self._observe = observe
        self._view = protocol.view()
        self._changed = threading.Condition()
        self._commands: dict[Command, socket.socket] = {}
        self._connections = 0
        self._stopping = False
        self._count = 0
        self._acceptor: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1

    def start(self) -> None:
        """Begin to accept commands. Raises the error of an address that cannot be bound."""
        context.install()
        keep_interruptions()
        if self._listener is None:
            self._listener = _bound(self._folder)
        self._listener.setblocking(False)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._acceptor = threading.Thread(target=self._accept, name="lamella-control", daemon=True)
        self._acceptor.start()
        log.info("commands are taken at %s", self._folder / protocol.SOCKET)

    @property
    def running(self) -> int:
        """How many commands run now."""
        return len(self._commands)

    def stop(self) -> None:
        """Accept no more, and let the commands that run come to their end; interrupt them after a while."""
        with self._changed:
            self._stopping = True
        if self._acceptor is None:
            return
        os.write(self._wake_write, b"x")
        self._acceptor.join()
        if self._own:
            (self._folder / protocol.SOCKET).unlink(missing_ok=True)
        if self._listener is not None:
            self._listener.close()
        with self._changed:
            if self._commands:
                log.info("waiting for %d commands to end", len(self._commands))
            if not self._changed.wait_for(lambda: not self._commands, self._stop_timeout):
                self._interrupt_all()
                self._changed.wait_for(lambda: not self._commands, ROLL_BACK_TIME)
            for command in self._commands:
                log.info("%s has not ended", command.name)
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._acceptor = None

    def interrupt(self) -> None:
        """Interrupt all commands now, as :meth:`stop` does after its time: for the second SIGTERM."""
        self._stop_timeout = 0.0
        with self._changed:
            self._interrupt_all()

    def _interrupt_all(self) -> None:
        for command in self._commands:
            log.info("%s is interrupted: the daemon ends", command.name)
            command.cancel(15)

    # -- connections -----------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping:
                selector.select()
                try:
                    connection, _ = self._listener.accept()
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError as error:  # no descriptors or no memory left: some will be given back
                    log.info("cannot accept: %s", error)
                    time.sleep(0.1)
                    continue
                try:
                    threading.Thread(
                        target=self._serve, args=(connection,), name="lamella-connection", daemon=True
                    ).start()
                except RuntimeError:  # no more threads
                    connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            with self._changed:
                self._connections += 1
                crowded = self._connections > MOST_CONNECTIONS
            try:
                self._converse(connection, crowded=crowded)
            except LamellaError as error:
                _send(connection, _error(error))
            except protocol.MalformedError as error:
                log.info("a client sent what is no request: %s", error)
                _send(connection, _error(LamellaError(str(error), hint="is it a client of this version?")))
            except OSError as error:
                log.info("the connection to a client failed: %s", error)
            except Exception as error:
                log.info("internal error with a client: %s: %s", type(error).__name__, error)
            finally:
                with self._changed:
                    self._connections -= 1

    def _converse(self, connection: socket.socket, *, crowded: bool) -> None:
        connection.settimeout(REQUEST_TIME)
        connection.sendall(protocol.greeting(__version__))
        user = _check_peer(connection)
        if crowded:
            raise BusyError("the daemon has too many connections", hint="try again when some have ended")
        received = _receive(connection)
        if received is None:
            return
        request, descriptors = received
        try:
            if request.view != self._view:
                raise BusyError(
                    f"the store is in use by the daemon (process {os.getpid()}), for which paths mean other "
                    "files: its mount namespace or root folder is another one",
                    hint="run the command where the daemon runs, or stop the daemon",
                )
            with self._changed:
                if self._stopping:
                    return
                self._count += 1
                name = f"command {self._count} (lamella {' '.join(request.arguments)[:200]})"
                command = Command(request, descriptors, self._runner, name)
                self._commands[command] = connection
        except BaseException:
            _close_all(descriptors)
            raise
        log.info("%s begins, of user %d", name, user)
        self._carry_out(command, connection)

    def _carry_out(self, command: Command, connection: socket.socket) -> None:
        connection.settimeout(None)
        worker = threading.Thread(
            target=self._work, args=(command, connection), name="lamella-command", daemon=True
        )
        try:
            connection.sendall(protocol.frame(protocol.ACCEPTED))
            worker.start()
        except BaseException:
            self._finish(command)
            raise
        # Until the command has ended: a byte is a signal, and the end of the stream a client that is gone.
        with contextlib.suppress(OSError):
            while not command.ended:
                data = connection.recv(1)
                if not command.ended:
                    command.cancel(data[0] if data and data[0] in (1, 2, 15) else 1)
                if not data:
                    break
        worker.join()

    def _work(self, command: Command, connection: socket.socket) -> None:
        begun = time.monotonic()
        code = 1
        try:
            code = command.run()
        finally:
            command.close()
            if code >= INTERRUPTED:
                gc.collect()  # what it had open, which the frames of its exception refer to, is closed
            seconds = time.monotonic() - begun
            log.info("%s ended with exit code %d after %.3f s", command.name, code, seconds)
            self._observe(command.request, seconds, code)
            _send(connection, protocol.frame(protocol.EXIT, b"%d" % code))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes who waits for a signal
            self._forget(command)  # last: the process may end when there is no command left

    def _finish(self, command: Command) -> None:
        command.close()
        self._forget(command)

    def _forget(self, command: Command) -> None:
        with self._changed:
            del self._commands[command]
            self._changed.notify_all()


def _bound(folder: Path) -> socket.socket:
    """A listening socket in *folder*, for its owner alone. Who holds the store's lock replaces an old one."""
    path = folder / protocol.SOCKET
    with explaining("make the control socket", str(path)):
        os.chmod(folder, 0o700)
        path.unlink(missing_ok=True)
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(protocol.folder_address(descriptor))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
            os.close(descriptor)
    return listener


def _check_peer(connection: socket.socket) -> int:
    """The user at the other end. Raises :class:`PermissionDeniedError` for another than ours and root.

    The store's owner is no other than these: as root, the daemon would do for the owner of a folder what
    only root may do, such as write to any file.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(data)
    if user in (0, os.geteuid()):
        return int(user)
    log.info("refused: process %d of user %d", process, user)
    raise PermissionDeniedError(
        f"the daemon (process {os.getpid()}) of user {os.geteuid()} takes no commands of user {user}",
        hint="run the command as that user or as root",
    )


def _receive(connection: socket.socket) -> tuple[protocol.Request, list[int]] | None:
    """The request and its descriptors; None if the client left. The descriptors are the caller's to close."""
    room = socket.CMSG_SPACE(protocol.DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, flags, _ = connection.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = _descriptors(ancillary)
    try:
        if not data and not descriptors:
            return None
        end = time.monotonic() + REQUEST_TIME
        received = bytearray(data)
        _fill(connection, received, len(protocol.MAGIC) + 4, end)
        size = int.from_bytes(received[4:8], "little")
        if received[:4] != protocol.MAGIC or size > protocol.LONGEST_REQUEST:
            raise protocol.MalformedError("the request has no proper beginning")
        if flags & socket.MSG_CTRUNC or len(descriptors) != protocol.DESCRIPTORS:
            raise protocol.MalformedError(
                f"a request comes with {protocol.DESCRIPTORS} descriptors, and not with others"
            )
        _fill(connection, received, 8 + size, end)
        return protocol.Request.unpack(bytes(received[8 : 8 + size])), descriptors
    except BaseException:
        _close_all(descriptors)
        raise


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _fill(connection: socket.socket, received: bytearray, size: int, end: float) -> None:
    """Receive until there are *size* bytes. No descriptor comes in here: recv(2) drops what was sent."""
    while len(received) < size:
        connection.settimeout(max(0.01, end - time.monotonic()))
        data = connection.recv(min(1 << 20, size - len(received)))
        if not data:
            raise protocol.MalformedError("the request breaks off")
        received += data


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _error(error: LamellaError) -> bytes:
    texts = (text.encode("utf-8", "surrogateescape") for text in (error.message, error.hint or ""))
    return protocol.frame(protocol.ERROR, b"%d" % error.exit_code, *texts)


def _send(connection: socket.socket, data: bytes) -> None:
    """Send *data* if the client is still there."""
    try:
        connection.settimeout(REQUEST_TIME)
        connection.sendall(data)
    except OSError as error:
        log.debug("a client has gone: %s", explain(error, "answer", "it"))
