# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells a service manager, and takes from one."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lamella.errors import LamellaError, UsageError
from lamella.services.daemon.activation import passed_descriptor, passed_sockets
from lamella.services.daemon.descriptor_store import DescriptorStore
from lamella.services.daemon.notify import Notifier
from lamella.services.daemon.records import JournalLines, default_format, formatter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path: Path, abstract: bool) -> None:
    address = f"@lamella-test-{os.getpid()}" if abstract else f"/tmp/lamella-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if abstract else address)
        try:
            notifier = Notifier(address, "3000000")
            assert notifier.watchdog == 3.0
            notifier.tell(READY=1, STATUS="two\nlines")
            assert manager.recv(100) == b"READY=1\nSTATUS=two lines"
        finally:
            if not abstract:
                os.unlink(address)
    notifier.tell(STOPPING=1)  # nobody listens any more


def test_no_manager() -> None:
    notifier = Notifier("")
    notifier.tell(READY=1)
    assert notifier.watchdog is None


@pytest.mark.parametrize(
    ("interval", "process", "expected"),
    [("1000000", "", 1.0), ("1000000", "1", None), ("x", "", None), ("0", "", None)],
)
def test_watchdog(interval: str, process: str, expected: float | None) -> None:
    assert Notifier("/none", interval, process).watchdog == expected
    assert Notifier("/none", interval, str(os.getpid())).watchdog == (1.0 if interval == "1000000" else None)


def take(known: list[str], *names: str, first: int) -> dict[str, socket.socket]:
    """What this process is passed as *names*."""
    return passed_sockets(known, str(len(names)), str(os.getpid()), ":".join(names), first=first)


def passed(*sockets: socket.socket) -> int:
    """The first of neighbouring descriptors with copies of *sockets*."""
    first = 200
    for number, each in enumerate(sockets):
        os.dup2(each.fileno(), first + number)
    return first


def test_sockets_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first = passed(one, two)
        found = take(["a", "b"], "b", "a", first=first)
        assert found["b"].getsockname() == one.getsockname()
        assert found["a"].getsockname() == two.getsockname()
        assert not os.get_inheritable(first)
        for each in found.values():
            each.close()


def test_one_socket_needs_no_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        found = take(["control", "b"], "lamella.socket", first=passed(one))
        assert list(found) == ["control"]
        found["control"].close()


def test_sockets_of_another_process() -> None:
    assert passed_sockets(["control"], "1", "1", "control") == {}
    assert passed_sockets(["control"], "", "") == {}


def test_sockets_that_are_not_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as idle:
        for names, sockets in ((("a", "unknown"), (one, one)), (("a", "a"), (one, one)), (("a",), (idle,))):
            first = passed(*sockets)
            with pytest.raises(UsageError):
                take(["a"], *names, first=first)
        with open(os.devnull) as file:
            os.dup2(file.fileno(), 200)
            with pytest.raises(UsageError, match="no socket"):
                take(["a"], "a", first=200)
    for number in (200, 201):
        try:
            os.close(number)
        except OSError:
            pass


def test_what_was_kept_is_no_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, open(os.devnull) as file:
        os.dup2(one.fileno(), 200)
        os.dup2(file.fileno(), 201)
        arguments = "2", str(os.getpid()), "lamella.socket:fuse"
        found = passed_sockets(["control"], *arguments, kept="fuse", first=200)
        assert found["control"].getsockname() == one.getsockname()
        assert passed_descriptor("fuse", *arguments, first=200) == 201
        assert not os.get_inheritable(201)
        found["control"].close()
        os.close(201)


def test_what_was_kept_is_there_once() -> None:
    assert passed_descriptor("fuse", "", "", "") is None
    assert passed_descriptor("fuse", "1", "1", "fuse") is None
    with open(os.devnull) as file:
        for number in 200, 201:
            os.dup2(file.fileno(), number)
        assert passed_descriptor("fuse", "2", str(os.getpid()), "fuse:fuse", first=200) is None
        for number in 200, 201:
            with pytest.raises(OSError):
                os.fstat(number)


def test_a_descriptor_is_given_to_the_manager(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(os.devnull) as file:
        address = f"\0lamella-test-{os.getpid()}"
        manager.bind(address)
        store = DescriptorStore(Notifier(f"@{address[1:]}"), "fuse", None)
        with ThreadPoolExecutor() as pool:
            keeping = pool.submit(store.keep, file.fileno(), "token")
            data, (given,), _, _ = socket.recv_fds(manager, 100, 1)
            assert data == b"FDSTORE=1\nFDNAME=fuse"
            assert os.path.samestat(os.fstat(given), os.fstat(file.fileno()))
            os.close(given)
            data, (barrier,), _, _ = socket.recv_fds(manager, 100, 1)
            assert data == b"BARRIER=1"
            assert not keeping.done()  # it waits until the manager has come to it
            os.close(barrier)
            keeping.result()
        assert store.take("token") is None
        assert manager.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=fuse"


def test_a_manager_that_does_not_listen_keeps_nothing() -> None:
    with pytest.raises(LamellaError, match="service manager"):
        DescriptorStore(Notifier("/nowhere/notify"), "fuse", None).keep(0, "token")


def test_where_the_journal_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        assert default_format(stream, file.fileno()) == "journal"
        assert default_format("1:2", file.fileno()) == "text"
        assert default_format("", file.fileno()) == "text"
    assert default_format(stream, 9_999) == "text"


def record(level: int) -> logging.LogRecord:
    try:
        raise ValueError("it\nis")
    except ValueError:
        return logging.LogRecord("lamella.x", level, "f", 1, "hello %s", ("you",), sys.exc_info())


def test_records() -> None:
    journal = formatter("journal", lambda text: text.replace("\n", " "))
    assert isinstance(journal, JournalLines)
    for level, priority in ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)):
        line = journal.format(record(level))
        assert line.startswith(f"<{priority}>lamella.x: hello you: Traceback")
        assert "\n" not in line
    lines = formatter("json", lambda text: text.upper())
    assert lines is not None
    found = json.loads(lines.format(record(logging.INFO)))
    assert found.pop("time").endswith("Z")
    assert found.pop("message").startswith("HELLO YOU: TRACEBACK")
    assert found == {"level": "info", "logger": "lamella.x", "process": os.getpid(), "thread": "MainThread"}
    assert formatter("text", str) is None
