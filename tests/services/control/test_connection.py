# SPDX-License-Identifier: Apache-2.0
"""The control socket itself: who may connect, where it is, and what hostile clients send."""

from __future__ import annotations

import array
import os
import random
import socket
import stat
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lamella._version import __version__
from lamella.services.control import protocol
from tests.support.daemon import LAMELLA, LONG, environment, lamella, served
from tests.support.stores import copy_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Served


def connect(daemon: Served) -> socket.socket:
    """A connection that has been greeted."""
    folder = os.open(daemon.root / "run", os.O_PATH)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(60)
        connection.connect(protocol.folder_address(folder))
    finally:
        os.close(folder)
    greeting = connection.recv(256)
    assert greeting == f"lamella-control 1 {__version__} {daemon.process.pid}\n".encode()
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the daemon closes."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:  # it had not read all of what was sent
        pass
    return data


def request(*words: str) -> bytes:
    return protocol.Request(
        "lamella", words, {b"PATH": b"/bin"}, umask=0o22, view=protocol.view(), encodings=["utf-8"] * 3
    ).pack()


def test_the_sockets_mode(daemon: Served) -> None:
    found = os.stat(daemon.root / "run/control.sock")
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(daemon.root / "run").st_mode) == 0o700


def test_a_stranger_is_refused(daemon: Served) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    socket_there = os.stat(daemon.root / "run/control.sock")
    # As if the folder's and the socket's modes did not keep others out.
    os.chmod(daemon.root / "run/control.sock", 0o666)
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect('control.sock')\n"
        "print(b''.join(iter(lambda: s.recv(4096), b'')))"
    )
    os.chmod(daemon.root / "run", 0o711)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=daemon.root / "run", capture_output=True, text=True
    )
    assert "takes no commands of user 65534" in done.stdout, done.stderr
    assert socket_there.st_ino == os.stat(daemon.root / "run/control.sock").st_ino
    assert "of user 65534" in daemon.logged()
    assert daemon.lamella("ps", "-q").returncode == 0


def test_a_refusal_has_the_exit_code_of_its_error(root: Path, tmp_path: Path) -> None:
    """What the client makes of an error, and of a daemon of another version."""
    (root / "run").mkdir(exist_ok=True)
    for greeting, code, words in (
        (
            protocol.greeting(__version__)
            + protocol.frame(protocol.ERROR, b"14", b"no commands", b"as root"),
            14,
            b"lamella: error: no commands\n  as root\n",
        ),
        (protocol.greeting("0.0.7"), 5, b"is of Lamella 0.0.7"),
        (b"SSH-2.0-OpenSSH\n", 5, b"no daemon of Lamella"),
    ):
        with _listening(root) as listener:
            process = subprocess.Popen(
                [*LAMELLA, "ps"], env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            connection, _ = listener.accept()
            connection.sendall(greeting)
            process.wait(LONG)
            connection.close()  # with the client's descriptors, which are on their way
            _, errors = process.communicate()
        assert process.returncode == code
        assert words in errors
    with _listening(root):  # and what needs no daemon does not ask it
        assert lamella(root, "--version").returncode == 0
        assert lamella(root, "ps", "--help").returncode == 0


def _listening(root: Path) -> socket.socket:
    path = root / "run/control.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(root / "run", os.O_PATH)
    listener.bind(protocol.folder_address(folder))
    os.close(folder)
    listener.listen()
    return listener


def test_a_daemon_that_ends_before_it_begins_the_command(root: Path) -> None:
    with _listening(root) as listener:
        process = subprocess.Popen(
            [*LAMELLA, "ps", "--format", "{{.Names}}"], env=environment(root), stdout=subprocess.PIPE
        )
        connection, _ = listener.accept()
        connection.sendall(protocol.greeting(__version__))
        connection.recv(8)
        connection.close()
        out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"web\n")  # alone


def test_a_stale_socket(root: Path) -> None:
    _listening(root).close()
    assert lamella(root, "ps", "-q").returncode == 0
    with served(root) as daemon:  # and is replaced
        assert daemon.lamella("ps", "-q").returncode == 0
        assert "command 1 " in daemon.logged()
    assert not (root / "run/control.sock").exists()


def test_a_long_path(control_template: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 12) / ("longer-" * 12)
    folder.mkdir(parents=True)
    with served(copy_store(control_template, folder / "store")) as daemon:
        assert daemon.lamella("ps", "--format", "{{.Names}}").stdout == b"web\n"
        assert "command 1 " in daemon.logged()


def test_a_second_daemon(daemon: Served) -> None:
    done = daemon.lamella("serve")
    assert done.returncode == 5
    assert str(daemon.process.pid).encode() in done.stderr
    assert daemon.lamella("ps", "-q").returncode == 0


def test_another_mount_namespace(daemon: Served) -> None:
    connection = connect(daemon)
    data = protocol.Request("l", ["ps"], {}, umask=0, view="mnt:[1] 1:2", encodings=["utf-8"] * 3).pack()
    send(connection, data, [os.open("/", os.O_PATH), *(os.open(os.devnull, os.O_RDWR) for _ in range(3))])
    found = answer(connection)
    assert found[:1] == protocol.ERROR
    assert b"mount namespace" in found


def send(connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
    rights = array.array("i", descriptors)
    try:
        connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def nulls(count: int) -> list[int]:
    return [os.open(os.devnull, os.O_RDWR) for _ in range(count)]


def test_many_clients_at_once(daemon: Served) -> None:
    assert daemon.lamella("ps", "-q").returncode == 0
    before = daemon.descriptors()

    def one(number: int) -> None:
        name = f"many-{number}"
        assert daemon.lamella("create", "--name", name, "sample").returncode == 0
        assert name.encode() in daemon.lamella("ps").stdout
        assert daemon.lamella("cat", f"{name}:/nowhere").returncode == 3
        assert daemon.lamella("rm", name).stdout == f"{name}\n".encode()

    with ThreadPoolExecutor(6) as executor:
        list(executor.map(one, range(12)))
    assert daemon.lamella("ps", "--format", "{{.Names}}").stdout == b"web\n"
    assert daemon.lamella("check").returncode == 0
    daemon.wait_until_no_more(before)


HOSTILE = {
    "nothing": (b"", 0),
    "no magic": (b"GET / HTTP/1.1\r\n\r\n", 4),
    "huge": (protocol.MAGIC + b"\xff\xff\xff\xff" + bytes(64), 4),
    "no descriptors": (request("ps"), 0),
    "three descriptors": (request("ps"), 3),
    "five descriptors": (request("ps"), 5),
    "very many descriptors": (request("ps"), 250),
    "a request of nothing": (protocol.MAGIC + bytes(4), 4),
    "too few fields": (protocol.MAGIC + struct.pack("<I", 3) + b"a\0b", 4),
    "more arguments than fields": (
        protocol.MAGIC + struct.pack("<I", 17) + b"l\00022\0v\0u\0u\0u\0009999",
        4,
    ),
    "an unknown encoding": (request("ps").replace(b"utf-8", b"utf-9"), 4),
    "a variable without a name": (request("ps").replace(b"PATH=", b"=ATH="), 4),
    "a umask of letters": (request("ps").replace(b"\x0022\x00", b"\x00zz\x00"), 4),
    "a negative umask": (request("ps").replace(b"\x0022\x00", b"\x00-2\x00"), 4),
    "breaks off": (request("ps")[:-3], 4),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_requests(daemon: Served, case: str) -> None:
    assert daemon.lamella("ps", "-q").returncode == 0
    before = daemon.descriptors()
    data, count = HOSTILE[case]
    for _ in range(5):
        with connect(daemon) as connection:
            if data:
                send(connection, data, nulls(count))
            connection.shutdown(socket.SHUT_WR)
            assert answer(connection)[:1] in (b"", protocol.ERROR)
    assert daemon.lamella("ps", "-q").returncode == 0
    daemon.wait_until_no_more(before)


def test_working_folders_that_are_none(daemon: Served) -> None:
    with connect(daemon) as connection:
        send(connection, request("ps", "-q"), nulls(4))
        found = answer(connection)
    assert found.startswith(protocol.frame(protocol.ACCEPTED) + protocol.EXIT)
    assert not found.endswith(b"\x00\x00\x000")


def test_bytes_at_random(daemon: Served) -> None:
    assert daemon.lamella("ps", "-q").returncode == 0
    before = daemon.descriptors()
    chance = random.Random(7)
    good = request("ps", "-q")
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data = data[: chance.randrange(1, len(data))]
        with connect(daemon) as connection:
            send(connection, bytes(data), nulls(chance.choice((0, 1, 4, 4, 4, 6))))
            connection.shutdown(socket.SHUT_WR)
            answer(connection)
    assert daemon.lamella("ps", "-q").returncode == 0
    daemon.wait_until_no_more(before)


def test_the_request_is_read_back() -> None:
    made = protocol.Request(
        "/bin/lamella",
        ["", "a b", "\udcff", "--x=ä"],
        {b"A": b"", b"B": b"=\xff"},
        umask=0o77,
        view="v",
        encodings=["utf-8", "latin-1", "ascii"],
    )
    data = made.pack()
    assert data[:4] == protocol.MAGIC
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    found = protocol.Request.unpack(data[8:])
    assert {name: getattr(found, name) for name in protocol.Request.__slots__} == {
        name: getattr(made, name) for name in protocol.Request.__slots__
    }
