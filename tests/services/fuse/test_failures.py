# SPDX-License-Identifier: Apache-2.0
"""Errors become errnos, and a flood of them is one line in the log."""

from __future__ import annotations

import errno
import logging

import pytest

from lamella.errors import CorruptError, DeviceIOError, NoSpaceError, ReadOnlyError
from lamella.services.fuse import failures
from lamella.services.fuse.failures import Failures


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(failures.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (NoSpaceError("full"), errno.ENOSPC),
        (ReadOnlyError("a check is needed"), errno.EROFS),
        (DeviceIOError("broken"), errno.EIO),
        (CorruptError("damaged"), errno.EIO),
        (OSError(errno.ENOENT, "another file"), errno.EIO),
        (ValueError("a bug"), errno.EIO),
    ],
)
def test_numbers(error: Exception, number: int) -> None:
    assert Failures("x").answer(error) == number


def test_one_kind_is_logged_once_a_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lamella")
    found = Failures("file a")
    for _ in range(100):
        found.answer(NoSpaceError("the pool is full"))
    found.answer(DeviceIOError("the disk is gone"))
    clock[0] += 59
    found.answer(NoSpaceError("the pool is full"))
    assert [record.getMessage() for record in caplog.records] == [
        "file a: a request is answered with ENOSPC (No space left on device): the pool is full",
        "file a: a request is answered with EIO (Input/output error): the disk is gone",
    ]
    clock[0] += 2
    found.answer(NoSpaceError("the pool is full"))
    assert caplog.records[-1].getMessage().endswith("the pool is full (100 like it since the last one)")
    assert len(caplog.records) == 3


def test_a_bug_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lamella")
    try:
        raise KeyError("unexpected")
    except KeyError as error:
        Failures("file a").answer(error)
    assert "test_failures.py" in caplog.text
    assert "KeyError: 'unexpected'" in caplog.text
