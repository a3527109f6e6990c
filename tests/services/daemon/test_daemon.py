# SPDX-License-Identifier: Apache-2.0
"""The process of the daemon: how it starts, stops and says what it does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from lamella.errors import LamellaError
from lamella.services.daemon.daemon import Daemon
from lamella.services.daemon.notify import Notifier
from lamella.store import Store
from tests.support.daemon import LAMELLA, LONG, environment, lamella, served, wait_until
from tests.support.stores import SMALL, assert_sound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Store.setup(tmp_path / "store", storage_options=SMALL, engine="user").close()
    return tmp_path / "store"


def test_there_is_no_store(tmp_path: Path) -> None:
    done = lamella(tmp_path / "none", "serve")
    assert done.returncode == 3
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it(root: Path, number: int) -> None:
    with served(root) as daemon:
        assert daemon.stop(number) == 0
        assert "STOPPING" in daemon.manager.wait_for("STOPPING")
        assert not (root / "run/control.sock").exists()
    assert_sound(root)


def test_what_the_manager_is_told(root: Path) -> None:
    with served(root, variables={"WATCHDOG_USEC": "100000"}) as daemon:
        assert daemon.manager.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
        assert daemon.manager.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
        assert daemon.lamella("ps", "-q").returncode == 0


def loading(daemon: Served) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*LAMELLA, "load"], env=environment(daemon.root), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    daemon.wait_for_log("(lamella load) begins")
    return process


def test_a_command_may_end_first(root: Path) -> None:
    with served(root) as daemon:
        process = loading(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_log("waiting for 1 command")
        assert not (root / "run/control.sock").exists()
        late = daemon.lamella("ps")  # it finds no daemon, and a store that is in use
        assert late.returncode == 5
        process.communicate(b"no archive", LONG)
        assert process.returncode == 9
        assert daemon.process.wait(LONG) == 0


def test_but_not_for_ever(root: Path) -> None:
    with served(root, "--stop-timeout", "0.2") as daemon:
        process = loading(daemon)
        assert daemon.stop() == 0
        assert process.wait(LONG) == 143
        _, errors = process.communicate(timeout=LONG)
        assert b"terminated; the interrupted operation was rolled back" in errors
    assert_sound(root)


def test_a_second_signal_does_not_wait(root: Path) -> None:
    with served(root) as daemon:
        process = loading(daemon)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for_log("waiting for 1 command")
        assert daemon.stop() == 0
        assert process.wait(LONG) == 143
        process.communicate(timeout=LONG)


def test_the_log(root: Path) -> None:
    with served(root, "--log-format", "json") as daemon:
        daemon.lamella("ps", "-q")
        assert daemon.stop() == 0
        records = [json.loads(line) for line in daemon.logged().splitlines()]
    assert any("(lamella ps -q) ended with exit code 0" in record["message"] for record in records)
    with served(root, "--log-format", "journal", variables={"LAMELLA_LOG": "debug"}) as daemon:
        daemon.wait_for_log("ready, process")
        lines = daemon.logged().splitlines()
    assert any(line.startswith("<6>lamella.services.daemon.daemon: ready") for line in lines)
    assert any(line.startswith("<7>lamella.") for line in lines)


def test_sockets_of_the_manager(root: Path) -> None:
    """As systemd starts it: the socket is bound by the manager, and stays when the daemon has ended."""
    folder = os.open(root / "run", os.O_PATH)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"/proc/self/fd/{folder}/control.sock")
    listener.listen()
    start = (
        f"import os, sys; os.dup2({listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.environ['LISTEN_FDS'] = '1'; os.environ['LISTEN_FDNAMES'] = 'control';"
        "os.execv(sys.executable, [sys.executable, '-m', 'lamella', 'serve'])"
    )
    os.set_inheritable(listener.fileno(), True)
    early = subprocess.Popen([*LAMELLA, "ps", "-q"], env=environment(root))  # waits until it is there
    daemon = subprocess.Popen(
        [sys.executable, "-c", start], env=environment(root), stderr=subprocess.PIPE, close_fds=False
    )
    try:
        assert early.wait(LONG) == 0
        assert lamella(root, "ps", "-q").returncode == 0
        daemon.send_signal(signal.SIGTERM)
        _, log = daemon.communicate(timeout=LONG)
        assert daemon.returncode == 0
        assert b"(lamella ps -q)" in log
        assert (root / "run/control.sock").exists()
    finally:
        daemon.kill()
        daemon.wait()
        listener.close()
        os.close(folder)


def test_what_else_it_serves(root: Path, tmp_path: Path) -> None:
    with served(root, "--metrics", "127.0.0.1:0", "--containerd") as daemon:
        assert daemon.lamella("ps", "-q").returncode == 0
        assert daemon.lamella("cat", "none:/file").returncode == 3
        address = re.search(r"serving metrics on (\S+)", daemon.logged())
        assert address is not None
        with urllib.request.urlopen(f"http://{address[1]}/metrics", timeout=LONG) as answer:
            found = answer.read().decode()
        assert 'lamella_control_commands_total{command="ps",result="ok"} 1.0' in found
        assert 'lamella_control_commands_total{command="cat",result="error"} 1.0' in found
        assert 'lamella_errors_total{error="NotFoundError"} 1.0' in found
        assert (root / "run/containerd.sock").is_socket()
    assert not (root / "run/containerd.sock").exists()
    with served(root, f"--containerd={tmp_path}/other.sock"):
        assert (tmp_path / "other.sock").is_socket()


class Recorded:
    """A service that says what becomes of it."""

    def __init__(self, name: str, told: list[str], *, failing: str = "") -> None:
        self.name = name
        self._told = told
        self._failing = failing

    def start(self) -> None:
        if self._failing == "start":
            raise LamellaError(f"{self.name} does not start")
        self._told.append(f"{self.name} starts")

    def stop(self) -> None:
        self._told.append(f"{self.name} stops")
        if self._failing == "stop":
            raise LamellaError(f"{self.name} does not stop")


def run(*services: Recorded) -> None:
    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    Daemon(services, Notifier(""), answers=lambda: None, hurry=lambda: None, ready=end).run()


def test_services_stop_in_reverse() -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    run(Recorded("a", told), Recorded("b", told))
    assert told == ["a starts", "b starts", "b stops", "a stops"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_service_that_does_not_start() -> None:
    told: list[str] = []
    with pytest.raises(LamellaError, match="b does not start"):
        run(Recorded("a", told), Recorded("b", told, failing="start"), Recorded("c", told))
    assert told == ["a starts", "a stops"]


def test_a_service_that_does_not_stop() -> None:
    told: list[str] = []
    with pytest.raises(LamellaError, match="b does not stop"):
        run(Recorded("a", told), Recorded("b", told, failing="stop"))
    assert told == ["a starts", "b starts", "b stops", "a stops"]


def test_no_watchdog_where_the_store_does_not_answer(tmp_path: Path) -> None:
    """The manager hears nothing until it does."""
    answered = threading.Event()
    asked = []

    def answers() -> None:
        asked.append(1)
        if not answered.is_set():
            raise LamellaError("the store is lost")

    address = f"@lamella-watchdog-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}")
        manager.settimeout(LONG)
        notifier = Notifier(address, "20000")
        heard: list[bytes] = []

        def listen() -> None:
            heard.append(manager.recv(200))  # READY
            wait_until(lambda: len(asked) > 3)
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(200)
            manager.settimeout(LONG)
            answered.set()
            heard.append(manager.recv(200))
            os.kill(os.getpid(), signal.SIGTERM)

        listener = threading.Thread(target=listen)
        listener.start()
        Daemon([], notifier, answers=answers, hurry=lambda: None).run()
        listener.join(LONG)
    assert heard[1] == b"WATCHDOG=1"
