# SPDX-License-Identifier: Apache-2.0
"""The process that holds a descriptor between two servers; here one of a pipe's or a socket's."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError
from lamella.services.fuse.keeping import KeeperProcess
from tests.support.daemon import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[KeeperProcess, socket.socket]]:
    """A keeper of one end of a pair of sockets, and the other end."""
    (tmp_path / "run").mkdir()
    keeping = KeeperProcess(tmp_path / "run")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            keeping.keep(theirs.fileno(), "token")
        yield keeping, ours
        keeping.discard()


def test_a_keeper_gives_it_away_once(kept: tuple[KeeperProcess, socket.socket], tmp_path: Path) -> None:
    keeping, ours = kept
    assert (tmp_path / "run/fuse.sock").stat().st_mode & 0o777 == 0o600
    assert keeping.take("another") is None
    descriptor = keeping.take("token")
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"x")
    assert ours.recv(1) == b"x"
    os.close(descriptor)
    assert ours.recv(1) == b""  # the keeper has it no more
    assert keeping.take("token") is None
    assert not (tmp_path / "run/fuse.sock").exists()


def test_a_keeper_ends_with_the_folder(kept: tuple[KeeperProcess, socket.socket], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run")
    assert kept[1].recv(1) == b""
    (tmp_path / "run").mkdir()


def test_a_keeper_ends_with_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    reading, writing = os.pipe()
    KeeperProcess(tmp_path / "run").keep(writing, "token")
    os.close(writing)
    assert (tmp_path / "run/fuse.sock").exists()
    os.close(reading)  # poll(2) tells of an error now, as it does when a connection of FUSE is aborted
    wait_until(lambda: not (tmp_path / "run/fuse.sock").exists())


def test_a_keeper_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    reading, writing = os.pipe()
    with pytest.raises(BusyError, match="does not start"):
        KeeperProcess(tmp_path / "run").keep(reading, "token")
    os.close(reading)
    os.close(writing)
