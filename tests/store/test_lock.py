# SPDX-License-Identifier: Apache-2.0
"""The store's lock: one writer or several readers, and the name of who holds it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BusyError
from lamella.store.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDER = """
import sys, time
from pathlib import Path
from lamella.store.lock import Lock
lock = Lock(Path(sys.argv[1]), exclusive=sys.argv[2] == "write")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "lock"


def hold(path: Path, how: str) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.fixture
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    with hold(path, "write") as holder:
        yield holder
        holder.kill()


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_writer_keeps_all_others_out_and_is_named(
    path: Path, writer: subprocess.Popen[str], exclusive: bool
) -> None:
    with pytest.raises(BusyError, match=f"process {writer.pid} ") as caught:
        Lock(path, exclusive=exclusive)
    assert "python" in caught.value.message
    assert "--wait" in str(caught.value.hint)


def test_readers_share_and_keep_a_writer_out(path: Path) -> None:
    path.touch()
    with hold(path, "read") as one:
        Lock(path, exclusive=False).close()
        with pytest.raises(BusyError, match=f"process {one.pid} "):
            Lock(path, exclusive=True)
        one.kill()


def test_a_writer_waits_for_a_reader_that_is_done_soon(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    with hold(path, "read") as one:

        def until_it_is_done(_: float) -> None:
            one.kill()
            one.wait()

        monkeypatch.setattr("lamella.store.lock.time.sleep", until_it_is_done)
        Lock(path, exclusive=True).close()


@pytest.mark.parametrize("told", [False, True])
def test_a_reader_waits_as_long_as_the_writer_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    writer = Lock(path, exclusive=True)
    if told:
        writer.let_readers_wait()
    begun = time.monotonic()
    waits: list[float] = []

    def sleep(_: float) -> None:
        waits.append(10.0)
        if len(waits) == 5:
            writer.close()

    monkeypatch.setattr("lamella.store.lock.time.monotonic", lambda: begun + sum(waits))
    monkeypatch.setattr("lamella.store.lock.time.sleep", sleep)
    if told:
        Lock(path, exclusive=False).close()
        assert len(waits) == 5
    else:
        with pytest.raises(BusyError):
            Lock(path, exclusive=False)
        assert len(waits) == 1
        writer.close()


def test_waiting(path: Path, writer: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    with pytest.raises(BusyError, match=r"still, after 0\.2 s"):
        Lock(path, exclusive=True, wait=0.2)
    assert time.monotonic() - begun >= 0.2
    writer.kill()
    Lock(path, exclusive=True, wait=10).close()


def test_a_killed_holder_holds_nothing(path: Path, writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.wait()
    lock = Lock(path, exclusive=True)
    assert path.read_text().startswith(f"{os.getpid()} ")
    lock.close()
    lock.close()


def test_a_reader_needs_no_lock_file(tmp_path: Path) -> None:
    Lock(tmp_path / "run" / "lock", exclusive=False).close()


def test_a_lock_file_that_was_removed_meanwhile_is_ignored(path: Path, writer: subprocess.Popen[str]) -> None:
    path.unlink()
    path.with_name("writer").unlink()
    lock = Lock(path, exclusive=True)
    assert path.exists()
    lock.close()
