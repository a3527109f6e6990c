# SPDX-License-Identifier: Apache-2.0
"""What goes over the control socket ``run/control.sock``, a stream of AF_UNIX.

The daemon begins with one line: ``lamella-control PROTOCOL VERSION PID``. The client sends ``LAMC``, the
length of the rest (4 bytes, little-endian) and the request; with the first byte go four descriptors by
SCM_RIGHTS: the working folder (O_PATH) and the three standard streams. A request is fields of bytes with a
NUL byte between them, which no argument and no variable can contain: see :class:`Request`.

The daemon answers with frames of one letter, a length (4 bytes) and so many bytes: ``A`` when the command
begins; ``X`` with the exit code in decimal digits when it has ended; or, in place of both, ``E`` with the
exit code, the message and the hint of an error, with NUL bytes between them. What the command prints goes
straight to the client's descriptors. A client may send one byte, the number of a signal, at any time after
its request: the command is then interrupted and rolled back, as it also is when the client is gone.

Imports little: the client's start is what a user waits for.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOCOL = 1
SOCKET = "control.sock"
MAGIC = b"LAMC"
DESCRIPTORS = 4
LONGEST_GREETING = 256
LONGEST_REQUEST = 16 << 20
"""Bytes. The kernel passes at most 6 MiB of arguments and variables to a program."""
LONGEST_FRAME = 1 << 20

ACCEPTED, EXIT, ERROR = b"A", b"X", b"E"

LONGEST_ADDRESS = 107
"""Bytes of a path that fit into a socket's address, without the NUL byte at its end."""


class MalformedError(ValueError):
    """What came is not what the protocol says."""


class Request:
    """What the client is: its command line, and what of its process the command sees.

    *program* is its ``argv[0]``, *view* names its mount namespace and root folder, *encodings* are those of
    its three standard streams.
    """

    __slots__ = ("arguments", "encodings", "environment", "program", "umask", "view")

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[bytes, bytes],
        *,
        umask: int,
        view: str,
        encodings: Sequence[str],
    ) -> None:
        self.program = program
        self.arguments = list(arguments)
        self.environment = environment
        self.umask = umask
        self.view = view
        self.encodings = list(encodings)

    def pack(self) -> bytes:
        """The request as it is sent, with what comes before it."""
        head = [self.program, f"{self.umask:o}", self.view, *self.encodings, f"{len(self.arguments)}"]
        fields = [os.fsencode(field) for field in (*head, *self.arguments)]
        fields += [name + b"=" + value for name, value in self.environment.items() if name]
        body = b"\0".join(fields)
        return MAGIC + len(body).to_bytes(4, "little") + body

    @classmethod
    def unpack(cls, body: bytes) -> Request:
        """The reverse of :meth:`pack`, from what comes after the length. Raises :class:`MalformedError`."""
        fields = body.split(b"\0")
        try:
            program, umask, view, *encodings = (os.fsdecode(field) for field in fields[:6])
            count, rest = int(fields[6]), fields[7:]
            mask = int(umask, 8)
            for encoding in encodings:
                "".encode(encoding)
            if not 0 <= count <= len(rest) or not 0 <= mask <= 0o777:
                raise MalformedError("a number in the request is out of range")
        except (ValueError, IndexError, LookupError) as error:
            raise MalformedError(f"the request is malformed: {error}") from error
        environment = {}
        for field in rest[count:]:
            name, equals, value = field.partition(b"=")
            if not name or not equals:
                raise MalformedError("the request has a variable without a name or a value")
            environment[name] = value
        arguments = [os.fsdecode(field) for field in rest[:count]]
        return cls(program, arguments, environment, umask=mask, view=view, encodings=encodings)


def greeting(version: str) -> bytes:
    """The daemon's first line."""
    return f"lamella-control {PROTOCOL} {version} {os.getpid()}\n".encode()


def frame(kind: bytes, *fields: bytes) -> bytes:
    """One of the daemon's answers."""
    body = b"\0".join(fields)
    return kind + len(body).to_bytes(4, "little") + body


def view() -> str:
    """This process's mount namespace and root folder: paths mean the same where both are the same."""
    root = os.stat("/")
    try:
        namespace = os.readlink("/proc/self/ns/mnt")
    except OSError:
        namespace = ""
    return f"{namespace} {root.st_dev}:{root.st_ino}"


def folder_address(folder: int) -> str:
    """A path to the socket in the open *folder*, short enough for any address."""
    return f"/proc/self/fd/{folder}/{SOCKET}"
