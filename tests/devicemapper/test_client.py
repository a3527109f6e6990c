# SPDX-License-Identifier: Apache-2.0
"""The client against a stand-in for the kernel: what it asks, and what it makes of answers of any kind."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper import client as client_module
from lamella.devicemapper.client import GONE, DeviceMapper
from lamella.devicemapper.cookies import Udev
from lamella.devicemapper.ioctl import Command
from lamella.devicemapper.table import Error, Linear
from lamella.errors import (
    BusyError,
    CorruptError,
    ExistsError,
    LamellaError,
    MissingError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    UsageError,
)
from lamella.lvm.activation.device_changes import Changes
from tests.support.fake_kernel import FakeKernel, fake_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with fake_kernel() as made:
        yield made


@pytest.fixture
def dm(kernel: FakeKernel) -> DeviceMapper:
    return kernel.client


class Counted:
    """In place of a cookie: how many events are yet to come."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, flags: Udev = Udev.NONE) -> int:
        self.count += 1
        return 1

    def drop(self) -> None:
        self.count -= 1


def test_udev_is_waited_for_only_where_the_kernel_asks_for_it(dm: DeviceMapper) -> None:
    """A device that was killed in the making has no table, and nobody hears of its end."""
    cookie = Counted()
    changes = Changes(dm, cookie)  # type: ignore[arg-type]  # it is asked for no more
    changes.remove(dm.create("one"))
    assert cookie.count == 0
    dm.create("two")
    dm.load("two", [Error(0, 8)])
    changes.resume("two", Udev.NONE)
    assert cookie.count == 1
    changes.resume("two", Udev.NONE)  # it was going on
    assert cookie.count == 1
    changes.remove(dm.info("two"))
    assert cookie.count == 2
    with pytest.raises(NotFoundError):
        changes.resume("two", Udev.NONE)
    assert cookie.count == 2


def test_a_device_from_creation_to_removal(dm: DeviceMapper) -> None:
    table = [Linear(0, 8, device="7:0", offset=0), Error(8, 8)]
    info = dm.create_with_table("one", table, "U-1")
    assert (info.number, info.node, info.live_table, info.target_count) == ("253:0", "/dev/dm-0", True, 2)
    assert [line.line for line in dm.table("one")] == ["0 8 linear 7:0 0", "8 8 error "]
    assert [line.line for line in dm.status("one")] == ["0 8 linear ", "8 8 error "]
    assert dm.deps("one") == [(7, 0)]
    assert dm.info(uuid="U-1") == dm.info(number=(253, 0)) == dm.info("one")
    dm.reload("one", table[:1])
    assert dm.info("one").target_count == 1
    dm.rename("one", "two")
    dm.set_uuid("two", "U-2")
    assert dm.find("one") is None
    assert dm.list() == [("two", 253, 0)]
    assert dm.info("two").uuid == "U-2"
    with dm.suspended("two"):
        assert dm.info("two").suspended
    assert not dm.info("two").suspended
    assert dm.remove("two")
    assert dm.list() == []
    assert dm.targets() == {"linear": (1, 4, 0), "error": (1, 5, 0)}


@pytest.mark.parametrize("name", ["devices", "device-mapper", "targets", "events"])
def test_devices_that_are_called_as_our_own_words(dm: DeviceMapper, name: str) -> None:
    dm.create(name)
    assert dm.info(name).name == name


def test_a_large_answer_is_asked_for_again_with_more_room(dm: DeviceMapper, kernel: FakeKernel) -> None:
    table = [Linear(number * 8, 8, device="7:0", offset=number) for number in range(4000)]
    dm.create_with_table("large", table)
    assert [line.line for line in dm.table("large")] == [target.line for target in table]
    assert kernel.commands.count(Command.TABLE_STATUS) > 1


def test_calls_that_may_have_to_wait_let_other_threads_run(dm: DeviceMapper, kernel: FakeKernel) -> None:
    """``fcntl.ioctl`` holds the interpreter's lock with buffers of more than 1024 bytes."""
    dm.create_with_table("one", [Linear(0, 8, device="7:0", offset=0)])
    with dm.suspended("one"):
        dm.message("one", "create_snap 1 2")
    dm.status("one")
    dm.wait("one", 0)
    dm.remove("one")
    waiting = set(Command) - {Command.LIST_DEVICES, Command.LIST_VERSIONS}
    assert max(kernel.largest[command] for command in waiting & kernel.largest.keys()) <= 1024


def test_an_answer_without_end_is_refused(
    dm: DeviceMapper, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm.create_with_table("large", [Linear(number * 8, 8, device="7:0", offset=0) for number in range(4000)])
    monkeypatch.setattr(client_module, "LARGEST_BUFFER", 64 << 10)
    with pytest.raises(LamellaError, match="large"):
        dm.table("large")


def test_a_call_that_a_signal_broke_off_is_made_again(dm: DeviceMapper, kernel: FakeKernel) -> None:
    kernel.interrupted = 3
    assert dm.create("one").name == "one"
    assert kernel.commands.count(Command.DEV_CREATE) == 4


def test_a_failed_creation_leaves_nothing(dm: DeviceMapper, kernel: FakeKernel) -> None:
    kernel.fail.add(("load", "one"))
    with pytest.raises(UsageError, match="load a table into one") as caught:
        dm.create_with_table("one", [Error(0, 8)])
    assert isinstance(caught.value.__cause__, OSError)
    assert kernel.devices == {}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "control", "x" * 128, "ä" * 64, "a\0b", "\ud800"])
def test_impossible_names_do_not_reach_the_kernel(dm: DeviceMapper, kernel: FakeKernel, name: str) -> None:
    with pytest.raises(UsageError):
        dm.create(name)
    dm.create("one")
    with pytest.raises(UsageError):
        dm.rename("one", name)
    assert list(kernel.devices) == [b"one"]


def test_names_of_any_bytes_survive(dm: DeviceMapper, kernel: FakeKernel) -> None:
    odd = os.fsdecode(b"caf\xe9 \xff" + "ü".encode())
    dm.create(odd)
    assert list(kernel.devices) == [b"caf\xe9 \xff" + "ü".encode()]
    assert dm.list()[0][0] == odd
    assert dm.info(odd).name == odd
    dm.create("y" * 127, "u" * 128)
    assert dm.info(uuid="u" * 128).name == "y" * 127
    with pytest.raises(UsageError):
        dm.create("one", "u" * 129)
    with pytest.raises(UsageError):
        dm.info()


def test_a_busy_device_is_tried_again(
    dm: DeviceMapper, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm.create("one")
    device = kernel.devices[b"one"]
    device.opened = 1
    with pytest.raises(BusyError, match="one"):
        dm.remove("one")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        device.opened = len(pauses) < 3

    monkeypatch.setattr("time.sleep", pause)
    assert dm.remove("one", retry=60)
    assert len(pauses) == 3


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda dm: dm.create("one"), id="create"),
        pytest.param(lambda dm: dm.create("three", "U-1"), id="create with a UUID"),
        pytest.param(lambda dm: dm.rename("two", "one"), id="rename"),
    ],
)
def test_names_that_are_taken(dm: DeviceMapper, again: Callable[[DeviceMapper], object]) -> None:
    dm.create("one", "U-1")
    dm.create("two")
    with pytest.raises(ExistsError, match="one") as caught:
        again(dm)
    assert isinstance(caught.value.__cause__, OSError)
    assert [name for name, _, _ in dm.list()] == ["one", "two"]


def test_deferred_removal_and_its_end(dm: DeviceMapper, kernel: FakeKernel) -> None:
    dm.create("one")
    kernel.devices[b"one"].opened = 1
    assert not dm.remove("one", deferred=True)
    assert dm.info("one").deferred_remove
    dm.cancel_deferred_remove("one")
    assert not dm.info("one").deferred_remove
    kernel.devices[b"one"].opened = 0
    assert dm.remove("one", deferred=True)


def test_messages(dm: DeviceMapper, kernel: FakeKernel) -> None:
    dm.create("one")
    kernel.said["list"] = "x" * 40000
    assert dm.message("one", "quiet") == ""
    assert dm.message("one", "list") == "x" * 40000


@pytest.mark.parametrize(("text", "sector"), [("a\0b", 0), ("fine", -1), ("fine", 1 << 64)])
def test_impossible_messages_are_refused(dm: DeviceMapper, text: str, sector: int) -> None:
    dm.create("one")
    with pytest.raises(UsageError):
        dm.message("one", text, sector=sector)


def test_events(dm: DeviceMapper, kernel: FakeKernel) -> None:
    dm.create("one")
    dm.create("two")
    before = dm.event_numbers()
    assert before == {"one": 0, "two": 0}
    kernel.devices[b"one"].event = 4
    del kernel.devices[b"two"]
    dm.create("three")
    assert dm.events(before) == {"one": 4, "two": GONE, "three": 0}
    assert dm.events(dm.event_numbers(), 0) == {}
    assert dm.wait("one", 3, timeout=0).event_nr == 4
    assert dm.wait("one", 4, timeout=0).event_nr == 4
    assert dm.wait("one", 4).event_nr == 5
    with pytest.raises(NotFoundError):
        dm.wait("two", 0, timeout=1)


def test_an_old_kernel_has_no_events_to_poll_for(dm: DeviceMapper) -> None:
    dm.version = (4, 30, 0)
    with pytest.raises(UnsupportedError, match=r"4\.30\.0"):
        dm.events({})


def test_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionDeniedError):
        DeviceMapper(tmp_path / "control")
    assert not DeviceMapper.available(tmp_path / "control")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MissingError, match="no device-mapper"):
        DeviceMapper(tmp_path / "control")
    assert not DeviceMapper.available(tmp_path / "control")
    (tmp_path / "control").touch()
    assert not DeviceMapper.available(tmp_path / "control"), "a plain file answers no ioctl"
    with pytest.raises(LamellaError):
        DeviceMapper(tmp_path / "control")


def test_it_is_there_for_root(kernel: FakeKernel, tmp_path: Path) -> None:
    (tmp_path / "control").touch()
    assert DeviceMapper.available(tmp_path / "control")
    with DeviceMapper(tmp_path / "control") as dm:
        assert dm.version == (4, 47, 0)
        dm.close()


def test_a_senseless_answer_is_called_so(
    dm: DeviceMapper, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dm.create("one")

    def lie(fd: int, request: int, buffer: bytearray, mutate: bool) -> None:
        kernel.ioctl(fd, request, buffer)
        buffer[20:24] = (1 << 31).to_bytes(4, "little")  # so many targets

    monkeypatch.setattr(fcntl, "ioctl", lie)
    with pytest.raises(CorruptError, match="invalid answer"):
        dm.table("one")
