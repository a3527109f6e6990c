# SPDX-License-Identifier: Apache-2.0
"""The conversation with dmeventd, against a stand-in that answers as the daemon does."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError
from lamella.lvm.activation import dmeventd
from lamella.lvm.activation.dmeventd import HEADER, Monitor, listening, set_monitored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "LVM-" + "a" * 64 + "-tpool"


class Daemon:
    """Keeps who is registered, and what it was asked; *noise* is sent before each answer."""

    def __init__(self, run: Path, noise: bytes) -> None:
        self.registered: set[str] = set()
        self.asked: list[tuple[int, str]] = []
        self.noise = noise
        self._questions = os.open(run / "dmeventd-client", os.O_RDWR)
        self._answers = os.open(run / "dmeventd-server", os.O_RDWR)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += os.read(self._questions, size - len(found))
        return found

    def _serve(self) -> None:
        while True:
            command, size = HEADER.unpack(self._read(HEADER.size))
            if command == 0:
                return
            mark, _, uuid, mask, interval = self._read(size).rstrip(b"\0").decode().split()
            assert (int(mask), int(interval)) == (0x2FF00, 10)
            self.asked.append((command, uuid))
            known = uuid in self.registered
            if command == dmeventd.REGISTER:
                self.registered.add(uuid)
            elif command == dmeventd.UNREGISTER:
                self.registered.discard(uuid)
            code = 0 if known or command != dmeventd.UNREGISTER else -2
            events = 0x2FF00 if uuid in self.registered else 0
            answer = f"{mark} plugin.so {uuid} {events}".encode() + b"\0"
            os.write(self._answers, self.noise + HEADER.pack(code, len(answer)) + answer)

    def stop(self) -> None:
        os.write(self._questions, HEADER.pack(0, 0))
        self.thread.join()
        os.close(self._questions)
        os.close(self._answers)


@contextmanager
def daemon(run: Path, noise: bytes = b"") -> Iterator[Daemon]:
    os.mkfifo(run / "dmeventd-client")
    os.mkfifo(run / "dmeventd-server")
    made = Daemon(run, noise)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("noise", [b"", HEADER.pack(0, 9) + b"1:1 other"])
def test_pools_are_watched_and_not(tmp_path: Path, noise: bytes) -> None:
    with daemon(tmp_path, noise) as server:
        assert Monitor.reachable(tmp_path)
        with Monitor(tmp_path) as monitor:
            assert not monitor.is_registered(UUID)
            assert monitor.register(UUID)
            assert monitor.is_registered(UUID)
            assert monitor.unregister(UUID)
            assert not monitor.unregister(UUID)
        assert server.asked[0] == (dmeventd.GET_REGISTERED, UUID)
    assert server.registered == set()


def test_without_a_daemon_nothing_is_sent(tmp_path: Path) -> None:
    assert not Monitor.reachable(tmp_path)
    os.mkfifo(tmp_path / "dmeventd-client")
    os.mkfifo(tmp_path / "dmeventd-server")
    assert not Monitor.reachable(tmp_path), "pipes that a dead daemon left"


def test_silence_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "dmeventd-client")
    os.mkfifo(tmp_path / "dmeventd-server")
    monkeypatch.setattr(dmeventd, "ANSWER_TIMEOUT", 0.01)
    with Monitor(tmp_path) as monitor, pytest.raises(BusyError, match="did not answer"):
        monitor.register(UUID)


def test_what_is_requested_is_sent(tmp_path: Path) -> None:
    with daemon(tmp_path) as server:
        assert set_monitored(UUID, True, tmp_path) == ""
        assert server.registered == {UUID}
        assert set_monitored(UUID, False, tmp_path) == ""
        assert set_monitored(UUID, False, tmp_path) == "", "it was watched by nobody"
    assert server.registered == set()


def test_a_daemon_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Monitor, "register", lambda self, uuid: False)
    with daemon(tmp_path):
        assert "refuses" in set_monitored(UUID, True, tmp_path)


def test_a_daemon_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dmeventd-client", "dmeventd-server"):
        os.mkfifo(tmp_path / name)
    reader = os.open(tmp_path / "dmeventd-client", os.O_RDWR)
    monkeypatch.setattr(dmeventd, "ANSWER_TIMEOUT", 0.01)
    assert "did not answer" in set_monitored(UUID, True, tmp_path)
    os.close(reader)


def test_it_is_started_only_to_watch(tmp_path: Path) -> None:
    """A program that says that it was run, and listens to nothing."""
    program = tmp_path / "dmeventd"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/started\nexit 3\n")
    program.chmod(0o755)
    assert set_monitored(UUID, False, tmp_path) == ""
    assert not (tmp_path / "started").exists()
    assert "does not listen (exit code 3)" in listening(tmp_path, str(program))
    assert (tmp_path / "started").exists()
    assert "not installed" in listening(tmp_path, "no-such-dmeventd")
    program.write_text("no program")
    assert "could not be started" in listening(tmp_path, str(program))
