# SPDX-License-Identifier: Apache-2.0
"""The command line's side of the control socket.

Whoever types a command waits for this to start, so it imports the interpreter's own modules alone: without
:mod:`socket`, :mod:`signal` and :mod:`typing`, which take a third of the time that the command takes.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in an enum
import _socket
import os
import sys

from lamella._version import __version__
from lamella.services.control import protocol

TYPE_CHECKING = False  # typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.errors import LamellaError

PATIENCE = 60.0
"""Seconds for a daemon that is just starting, or busy, to greet."""

_OWN_FILES = ("/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/", "/proc/thread-self/")
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def run(run_folder: str, arguments: Sequence[str]) -> int | None:
    """Have the daemon of the store whose ``run`` folder this is carry out *arguments*; the exit code.

    None if there is no daemon that answers, and nothing was done. Raises :class:`LamellaError` where it
    refuses, or ends before the command does.
    """
    _open_closed_streams()  # first: the connection would take their place
    connection = _connect(run_folder)
    if connection is None:
        return None
    try:
        return _Conversation(connection).hold(arguments)
    finally:
        connection.close()


def _connect(run_folder: str) -> _socket.socket | None:
    path = f"{run_folder}/{protocol.SOCKET}"
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    folder = -1
    try:
        if len(os.fsencode(path)) > protocol.LONGEST_ADDRESS:
            folder = os.open(run_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = protocol.folder_address(folder)
        connection.settimeout(PATIENCE)
        connection.connect(path)
    except OSError:
        # None is there, it has gone, or it is somebody else's: the command says so itself, if that is wrong.
        connection.close()
        return None
    finally:
        if folder >= 0:
            os.close(folder)
    return connection


class _Conversation:
    def __init__(self, connection: _socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._pid = ""

    def hold(self, arguments: Sequence[str]) -> int | None:
        if not self._greeted():
            return None
        self._send_request(arguments)
        self._connection.settimeout(None)
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            if _signal.getsignal(number) != _signal.SIG_IGN:  # such as nohup's
                _signal.signal(number, self._cancel)
        accepted = False
        while True:
            kind, fields = self._frame()
            if kind == protocol.ACCEPTED:
                accepted = True
            elif kind == protocol.EXIT:
                return int(fields[0])
            elif kind == protocol.ERROR:
                raise _error(int(fields[0]), *(field.decode("utf-8", "replace") for field in fields[1:3]))
            elif not accepted:
                return None  # it is ending, and has begun nothing
            else:
                raise _error(
                    1,
                    f"the daemon (process {self._pid}) ended before the command did",
                    "what was unfinished is rolled back when the store is next opened; see the daemon's log",
                )

    def _greeted(self) -> bool:
        """Read the daemon's first line; False if it is ending."""
        try:
            while b"\n" not in self._received and len(self._received) < protocol.LONGEST_GREETING:
                data = self._connection.recv(protocol.LONGEST_GREETING)
                if not data:
                    return False
                self._received += data
        except TimeoutError:
            raise _error(
                5,
                f"the daemon of the store does not answer within {PATIENCE:g} seconds",
                "see its log; restart it (systemctl restart lamella)",
            ) from None
        except OSError:
            return False
        line, _, self._received = self._received.partition(b"\n")
        words = line.decode("utf-8", "replace").split(" ")
        if len(words) != 4 or words[0] != "lamella-control":
            raise _error(5, "what answers at the store's control socket is no daemon of Lamella", "see run/")
        self._pid = words[3]
        if words[1] != str(protocol.PROTOCOL) or words[2] != __version__:
            raise _error(
                5,
                f"the daemon (process {self._pid}) is of Lamella {words[2]}, this command of {__version__}",
                f"restart the daemon: systemctl restart lamella, or kill {self._pid} and start it again",
            )
        return True

    def _send_request(self, arguments: Sequence[str]) -> None:
        umask = os.umask(0)
        os.umask(umask)
        log = b"LAMELLA_LOG"
        environment = dict(os.environb)
        if log in environment:
            level, _, file = os.fsdecode(environment[log]).partition(":")
            environment[log] = os.fsencode(f"{level}:{_reachable(file)}" if file else level)
        request = protocol.Request(
            sys.argv[0],
            [_reachable(word) for word in arguments],
            environment,
            umask=umask,
            view=protocol.view(),
            encodings=[getattr(each, "encoding", "utf-8") for each in (sys.stdin, sys.stdout, sys.stderr)],
        )
        try:
            folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
        except OSError:  # it was deleted, or may not be entered
            folder = os.open("/proc/self/cwd", os.O_PATH | os.O_CLOEXEC)
        data = request.pack()
        rights = b"".join(each.to_bytes(4, sys.byteorder) for each in (folder, 0, 1, 2))
        try:
            sent = self._connection.sendmsg(
                [data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_NOSIGNAL
            )
            self._connection.sendall(data[sent:], _socket.MSG_NOSIGNAL)
        except OSError:  # it is ending: what it said before that is still to be read
            pass
        finally:
            os.close(folder)

    def _frame(self) -> tuple[bytes, list[bytes]]:
        """The next answer; an empty kind if there is none any more."""
        head = self._take(5)
        size = int.from_bytes(head[1:], "little")
        if len(head) < 5 or size > protocol.LONGEST_FRAME:
            return b"", []
        body = self._take(size)
        return (head[:1], body.split(b"\0")) if len(body) == size else (b"", [])

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                data = self._connection.recv(4096)
            except OSError:
                data = b""
            if not data:
                break
            self._received += data
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def _cancel(self, number: int, frame: object) -> None:
        """Pass a signal on. A second one ends this process; the command is rolled back all the same."""
        _signal.signal(number, _signal.SIG_DFL)
        try:
            self._connection.send(bytes([number]), _socket.MSG_NOSIGNAL)
        except OSError:
            pass


def _reachable(word: str) -> str:
    """*word*, where it names a file of this process by a path that means another file in the daemon."""
    option, equals, path = word.partition("=")
    if not word.startswith("-") or not equals:
        option, equals, path = "", "", word
    if not path.startswith(_OWN_FILES):
        return word
    own = f"/proc/{os.getpid()}"
    if path in _STREAMS:
        path = f"{own}/fd/{_STREAMS[path]}"
    elif path.startswith("/dev/fd/"):
        path = f"{own}/fd/{path.removeprefix('/dev/fd/')}"
    elif path.startswith("/proc/self/"):
        path = f"{own}/{path.removeprefix('/proc/self/')}"
    return option + equals + path


def _open_closed_streams() -> None:
    """As :func:`lamella.cli.process.prepare` does: closed ones are opened so that using them is an error."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)


def _error(code: int, message: str, hint: str = "") -> LamellaError:
    from lamella.errors import LamellaError

    kinds = {kind.exit_code: kind for kind in LamellaError.__subclasses__()}
    return kinds.get(code, LamellaError)(message, hint=hint or None)
