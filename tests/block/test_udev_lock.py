# SPDX-License-Identifier: Apache-2.0
"""Exclusive locks on block devices, beside what udev is doing there."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from lamella.block import udev_lock
from lamella.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file on which another process, whose number is given, has a shared lock."""
    path = tmp_path / "disk"
    path.write_bytes(b"")
    ready, told = os.pipe()
    stop, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.write(told, b"x")
        os.read(stop, 1)
        os._exit(0)
    os.read(ready, 1)
    try:
        yield path, child
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for descriptor in (ready, told, stop):
            os.close(descriptor)


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR)


def test_the_holder_is_named_by_the_kernel(held: tuple[Path, int]) -> None:
    path, child = held
    descriptor = opened(path)
    assert udev_lock.lock_holders(descriptor) == {child}
    os.close(descriptor)


def test_others_than_udev_are_respected(held: tuple[Path, int]) -> None:
    descriptor = opened(held[0])
    with pytest.raises(BusyError, match="in use by another program"):
        udev_lock.lock_beside_udev(descriptor, "disk")
    assert os.getpid() not in udev_lock.lock_holders(descriptor)
    os.close(descriptor)


def test_beside_udev_a_shared_lock_keeps_the_next_one_out(
    held: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, child = held
    monkeypatch.setattr(udev_lock, "is_udev", lambda process: process == child)
    first, second = opened(path), opened(path)
    udev_lock.lock_beside_udev(first, "disk")
    with monkeypatch.context() as another:
        another.setattr(os, "getpid", lambda: 0)  # the next one is another process
        with pytest.raises(BusyError):
            udev_lock.lock_beside_udev(second, "disk")
    os.close(first)
    udev_lock.lock_beside_udev(second, "disk")
    os.close(second)


def test_no_other_holder(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"")
    first, second = opened(path), opened(path)
    udev_lock.lock_beside_udev(first, "disk")
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(first)
    os.close(second)
