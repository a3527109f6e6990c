# SPDX-License-Identifier: Apache-2.0
"""Where the service listens: whose socket it is, what it replaces, and what it leaves."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import grpc
import pytest

from lamella.errors import BusyError, DeviceIOError, ExistsError, NotFoundError, UsageError
from lamella.services.containerd import service as service_module
from lamella.services.containerd.listening import LONGEST_NAME, Listening
from lamella.services.containerd.protos.snapshots_pb2 import PrepareSnapshotRequest
from lamella.services.containerd.protos.snapshots_pb2_grpc import SnapshotsStub
from lamella.services.containerd.service import SnapshotService
from tests.support.memory_snapshots import MemoryHosted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    targets = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in set(os.listdir("/proc/self/fd")) - before
        if os.path.lexists(f"/proc/self/fd/{fd}")
    }
    assert not [target for target in targets if target.startswith("/") and not target.startswith("/dev/")]


def serves(address: str) -> bool:
    with grpc.insecure_channel(f"unix:{address}") as channel:
        SnapshotsStub(channel).Prepare(PrepareSnapshotRequest(key=os.urandom(8).hex()))
    return True


def test_the_default_is_in_the_stores_folder(hosted: MemoryHosted, service: SnapshotService) -> None:
    assert service.address == hosted.root / "run" / "containerd.sock"
    assert serves(str(service.address))
    found = os.stat(service.address)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(service.address.parent).st_mode) == 0o700
    service.stop()
    assert os.listdir(service.address.parent) == []


def test_mode_whatever_the_umask(hosted: MemoryHosted) -> None:
    before = os.umask(0)
    try:
        service = SnapshotService(hosted)
        service.start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(service.address).st_mode) == 0o600
    service.stop()


def test_a_socket_of_nobody_is_replaced(hosted: MemoryHosted, tmp_path: Path) -> None:
    address = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address))
        left.listen()
    assert address.is_socket()
    service = SnapshotService(hosted, address)
    service.start()
    assert serves(str(address))
    service.stop()
    assert not address.exists()


def test_a_socket_that_is_listened_on_is_left_alone(hosted: MemoryHosted, service: SnapshotService) -> None:
    with pytest.raises(BusyError, match="another server listens on") as caught:
        SnapshotService(hosted, service.address).start()
    assert caught.value.hint is not None
    assert serves(str(service.address))
    assert os.listdir(service.address.parent) == ["containerd.sock"]


def test_so_is_one_whose_server_is_slow(hosted: MemoryHosted, tmp_path: Path) -> None:
    address = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(address))
        other.listen(0)
        waiting = []
        while True:  # until its queue is full
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(str(address))
            except BlockingIOError:
                break
        with pytest.raises(BusyError, match="another server listens on"):
            SnapshotService(hosted, address).start()
        for each in waiting:
            each.close()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(hosted: MemoryHosted, tmp_path: Path, what: str) -> None:
    address = tmp_path / "c.sock"
    if what == "file":
        address.write_text("kept")
    elif what == "folder":
        address.mkdir()
    else:
        address.symlink_to(tmp_path / "nowhere")
    before = os.lstat(address)
    with pytest.raises(ExistsError, match="is no socket"):
        SnapshotService(hosted, address).start()
    assert os.lstat(address) == before


def test_a_long_path(hosted: MemoryHosted, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 200) / ("e" * 200)
    service = SnapshotService(hosted, folder / "containerd.sock")
    service.start()
    opened = os.open(folder, os.O_RDONLY)
    assert serves(f"/proc/self/fd/{opened}/containerd.sock")
    os.close(opened)
    service.stop()
    assert os.listdir(folder) == []


def test_a_long_name(hosted: MemoryHosted, tmp_path: Path) -> None:
    service = SnapshotService(hosted, tmp_path / ("s" * LONGEST_NAME))
    service.start()
    service.stop()
    with pytest.raises(UsageError, match="too long for the name of a socket"):
        SnapshotService(hosted, tmp_path / ("s" * (LONGEST_NAME + 1))).start()


def test_what_a_killed_server_left_is_no_hindrance(hosted: MemoryHosted, tmp_path: Path) -> None:
    address = tmp_path / "c.sock"
    left = tmp_path / ".c.sock.new"
    left.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(left / "s"))
    service = SnapshotService(hosted, address)
    service.start()
    assert serves(str(address))
    service.stop()
    assert not left.exists()


def test_a_folder_that_others_can_enter_is_not_used(hosted: MemoryHosted, tmp_path: Path) -> None:
    left = tmp_path / ".c.sock.new"
    left.mkdir()
    left.chmod(0o755)
    with pytest.raises(ExistsError, match="others can enter it"):
        SnapshotService(hosted, tmp_path / "c.sock").start()


def test_a_folder_that_cannot_be_made(hosted: MemoryHosted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((NotFoundError, ExistsError), match="cannot listen on"):
        SnapshotService(hosted, tmp_path / "file" / "c.sock").start()


def test_what_fails_leaves_nothing(
    hosted: MemoryHosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Listening(tmp_path / "c.sock", fail)

    def elsewhere(address: Path, bind: Callable[[str], None]) -> Listening:
        return Listening(address, lambda _: bind("/nowhere/s"))

    monkeypatch.setattr(service_module, "Listening", elsewhere)
    with pytest.raises(DeviceIOError, match="cannot listen on"):
        SnapshotService(hosted, tmp_path / "c.sock").start()
    assert os.listdir(tmp_path) == []


def test_another_ones_socket_is_not_removed(hosted: MemoryHosted, service: SnapshotService) -> None:
    os.unlink(service.address)
    other = SnapshotService(MemoryHosted(hosted.root))
    other.start()
    service.stop()
    assert serves(str(other.address))
    other.stop()


def test_started_again(hosted: MemoryHosted) -> None:
    for _ in range(3):
        service = SnapshotService(hosted)
        service.stop()
        service.start()
        assert serves(str(service.address))
        service.stop()
        service.stop()
    assert len(hosted.snapshots.walk()) == 3
