# SPDX-License-Identifier: Apache-2.0
"""What a new volume's extents held is cleared as lvcreate(8) says of ``--wipesignatures`` and ``--zero``, and
nothing is cleared unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.lvm.disks import signatures
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.logical_volumes import LvRequest, create_lv
from lamella.lvm.operations.lv_wipe import ZEROED, clear_lv, wipe_lv
from lamella.lvm.session.session import Session
from tests.lvm.memory_groups import EXTENT, group_on, memory_disks, session_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lvm.memory_groups import Edit

LUKS = b"LUKS\xba\xbe\x00\x01"
SWAP = b"SWAPSPACE2"
QUESTIONS = [
    "WARNING: crypto_LUKS signature detected on /dev/vg/lv at offset 0. Wipe it? [y/n]: ",
    "WARNING: swap signature detected on /dev/vg/lv at offset 4086. Wipe it? [y/n]: ",
]


def _old() -> bytes:
    """A volume of two extents that was encrypted once and a swap device another time."""
    content = bytearray(b"\xee" * (2 * EXTENT))
    content[:4096] = bytes(4096)
    content[: len(LUKS)] = LUKS
    content[1024:1036] = (1).to_bytes(4, "little") + (60).to_bytes(4, "little") + bytes(4)
    content[4096 - len(SWAP) : 4096] = SWAP
    return bytes(content)


OLD = _old()


@pytest.fixture
def edit() -> Iterator[Edit]:
    disks = memory_disks(1)
    group_on(disks)
    with session_on(disks) as session, session.editing("vg") as found:
        create_lv(session, found, LvRequest(2, "lv", zero=False, wipe_signatures=False))
        open_lv(found, "lv").write(0, OLD)
        session.notices.clear()
        yield session, found


def _content(edit: Edit) -> bytes:
    device = open_lv(edit[1], "lv")
    return device.read(0, device.size)


def _wipe(edit: Edit, **how: object) -> bool:
    session, found = edit
    return wipe_lv(session, found, found.group.find_lv("lv"), **how)  # type: ignore[arg-type]


def _said(edit: Edit) -> list[tuple[str, str]]:
    return [(str(notice), notice.level) for notice in edit[0].notices]


def test_unasked_nothing_is_wiped(edit: Edit) -> None:
    """Neither an answer nor ``--yes``: the first signature stays, and so does all behind it."""
    assert not _wipe(edit, zero=False, wipe_signatures=True)
    assert _content(edit) == OLD
    assert _said(edit) == [("Aborted wiping of crypto_LUKS.", "error")]


@pytest.mark.parametrize("how", ["yes", "confirmed"])
def test_what_is_confirmed_is_wiped_and_no_more(edit: Edit, how: str) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return True

    assert _wipe(edit, zero=False, wipe_signatures=True, confirm=confirm, yes=how == "yes")
    assert asked == ([] if how == "yes" else QUESTIONS)
    wanted = bytearray(OLD)
    wanted[:6] = bytes(6)  # the six bytes of magic
    wanted[4086:4096] = bytes(10)
    assert _content(edit) == wanted
    assert _said(edit) == [
        ("Wiping crypto_LUKS signature on /dev/vg/lv.", "print"),
        ("Wiping swap signature on /dev/vg/lv.", "print"),
    ]


@pytest.mark.parametrize(
    ("answers", "first", "last"),
    [
        ([False, False], True, ["2 existing signatures left on the device."]),
        ([True, False], False, ["1 existing signature left on the device."]),
        ([False, True], True, ["1 existing signature left on the device."]),
    ],
)
def test_an_active_volume_keeps_what_was_refused(
    edit: Edit, monkeypatch: pytest.MonkeyPatch, answers: list[bool], first: bool, last: list[str]
) -> None:
    """LVM2 asks about each, tells how many stay, and then fails and zeroes nothing."""
    monkeypatch.setattr(Session, "kernel", lambda self, found: self if found is edit[1] else None)
    given = iter(answers)
    assert not _wipe(edit, zero=True, wipe_signatures=True, confirm=lambda question: next(given))
    wanted = bytearray(OLD)
    wanted[:6] = OLD[:6] if first else bytes(6)
    wanted[4086:4096] = bytes(10) if answers[1] else OLD[4086:4096]
    assert _content(edit) == wanted
    tail = [*last, "Failed to wipe signatures on logical volume vg/lv."]
    assert _said(edit)[-2:] == [(text, "error") for text in tail]


def test_the_first_4096_bytes_are_zeroed(edit: Edit) -> None:
    """Whether or not a signature was to stay, if the volume is not active (LVM2 warns and goes on)."""
    assert _wipe(edit, zero=True, wipe_signatures=False)
    assert _content(edit) == bytes(4096) + OLD[4096:]
    assert _said(edit) == []
    assert ZEROED == 4096


def test_signatures_that_stay_are_reported_after_zeroing(edit: Edit) -> None:
    assert not _wipe(edit, zero=True, wipe_signatures=True)
    assert _content(edit) == bytes(4096) + OLD[4096:]


def test_where_nothing_is_to_be_done(edit: Edit) -> None:
    session, found = edit
    lv = found.group.find_lv("lv")
    assert _wipe(edit, zero=False, wipe_signatures=False, yes=True)
    writable = lv.writable
    lv.status.remove("WRITE")
    assert writable
    assert not lv.writable
    assert _wipe(edit, zero=True, wipe_signatures=True, yes=True)  # a read-only volume takes no writes
    lv.status.append("WRITE")
    session.test = True
    assert _wipe(edit, zero=True, wipe_signatures=True, yes=True)
    clear_lv(session, found, lv, whole=True)
    session.test = False
    assert _content(edit) == OLD
    assert _said(edit) == []


def test_without_libblkid_the_start_is_zeroed_and_it_is_said(
    edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_library(name: str, **_: object) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    signatures._library.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(signatures.ctypes, "CDLL", no_library)
        assert _wipe(edit, zero=True, wipe_signatures=True)
    assert _content(edit) == bytes(4096) + OLD[4096:]
    (said,) = _said(edit)
    assert said == ("WARNING: libblkid, which recognises file systems, is not installed.", "warn")


@pytest.mark.parametrize(("whole", "cleared"), [(False, 4096), (True, 2 * EXTENT)])
def test_clearing(edit: Edit, whole: bool, cleared: int) -> None:
    session, found = edit
    clear_lv(session, found, found.group.find_lv("lv"), whole=whole)
    assert _content(edit) == bytes(cleared) + OLD[cleared:]
