# SPDX-License-Identifier: Apache-2.0
"""A program that holds a descriptor of ``/dev/fuse`` until another process asks for it.

``keeper.py DESCRIPTOR LISTENER SOCKET`` is started with both descriptors open; the token that it is asked
with comes by its standard input. It goes on in the background, as a session of its own. It ends when it has
given the descriptor away or is told to end, when the file system was unmounted or aborted, and when its
socket is gone, which lies in the store's folder. It uses Python's own library alone, as it must not need
anything that an upgrade replaces.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

_INTERVAL = 2000
"""Milliseconds after which it looks whether its socket is there."""
_PATIENCE = 5.0
"""Seconds that who connects may take."""
GIVE, END = b"give ", b"end"
"""What it is asked: the first is followed by the token."""


def keep(descriptor: int, listener: socket.socket, path: str, token: bytes) -> None:
    """Hold *descriptor* as long as it is wanted."""
    ours = os.stat(path)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(descriptor, 0)  # which tells when the file system has ended
    while True:
        ready = dict(poll.poll(_INTERVAL))
        if not _is_there(path, ours):
            return
        if descriptor in ready:
            os.unlink(path)
            return
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                try:
                    if _answer(connection, descriptor, path, token):
                        return
                except OSError:
                    pass


def _is_there(path: str, ours: os.stat_result) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _answer(connection: socket.socket, descriptor: int, path: str, token: bytes) -> bool:
    """Whether it is all over."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if struct.unpack("=iII", peer)[1] != os.geteuid():
        return False
    asked = connection.recv(100)
    if asked != END and asked != GIVE + token:
        return False
    os.unlink(path)  # before it is answered: the next server may make its own
    if asked != END:
        socket.send_fds(connection, [b"given"], [descriptor])
    return True


def main() -> None:
    """Run the program."""
    descriptor, listener = (int(word) for word in sys.argv[1:3])
    token = sys.stdin.buffer.read()
    with socket.socket(fileno=listener) as listening:
        if os.fork():
            os._exit(0)  # which tells who has started this that it is held
        os.setsid()
        keep(descriptor, listening, sys.argv[3], token)


if __name__ == "__main__":
    main()
