# SPDX-License-Identifier: Apache-2.0
"""Waiting for udev, by a semaphore of this machine's and a udev that is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper import cookies
from lamella.devicemapper.cookies import Cookie
from lamella.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cookie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cookie]:
    """One with a change that udev has not heard of. It is busy with others if ``tmp_path/queue`` is there."""
    monkeypatch.setattr(cookies, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(cookies, "UDEV_QUEUE", tmp_path / "queue")
    monkeypatch.setattr(cookies, "udev_runs", lambda: True)
    made = Cookie()
    made.value()
    yield made
    made.close()


def test_a_udev_with_nothing_to_do_has_lost_it(cookie: Cookie) -> None:
    with pytest.raises(BusyError, match="did not answer within"):
        cookie.wait(0.05)


def test_a_udev_that_is_busy_is_given_time(
    cookie: Cookie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue").touch()
    looks = 0

    def work() -> bool:
        nonlocal looks
        looks += 1
        if looks == 4:
            cookie.drop()
        return True

    monkeypatch.setattr(cookies, "udev_runs", work)
    cookie.wait(0.05)
    assert looks == 4


def test_but_not_for_ever(cookie: Cookie, tmp_path: Path) -> None:
    (tmp_path / "queue").touch()
    with pytest.raises(BusyError, match="did not answer within"):
        cookie.wait(0.05)


def test_a_udev_that_ends_is_not_waited_for(cookie: Cookie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "udev_runs", lambda: False)
    with pytest.raises(BusyError, match="udev ended"):
        cookie.wait(0.05)
