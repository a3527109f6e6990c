# SPDX-License-Identifier: Apache-2.0
"""Names below ``/dev/mapper`` brought in line with a kernel in memory, as LVM2 2.03.16 was seen to do it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper import nodes
from lamella.devicemapper.mknodes import mend_names
from lamella.devicemapper.table import Zero
from tests.support.fake_kernel import MAJOR, fake_kernel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of ``/dev/mapper``, with devices' numbers in place of their nodes."""

    def made(path: Path, mode: int, number: int) -> None:
        path.write_text(f"{os.major(number)}:{os.minor(number)}")

    monkeypatch.setattr(nodes, "DEV_MAPPER", tmp_path / "mapper")
    monkeypatch.setattr(os, "mknod", made)
    return tmp_path / "mapper"


def test_missing_names_are_made_and_those_of_no_device_removed(folder: Path) -> None:
    folder.mkdir()
    (folder / "vg-wrong").symlink_to("/dev/null")
    for name in ("control", "stale"):
        (folder / name).touch()
    (folder / "dangling").symlink_to("../dm-977")
    with fake_kernel() as kernel:
        for name in ("vg-a", "vg-wrong", "of another program"):
            kernel.add(name, "", [Zero(0, 8)])
        assert mend_names(kernel.client) == []
    there = {path.name: path.read_text() for path in folder.iterdir()}
    number = f"{MAJOR}:{{}}".format
    assert there == {
        "control": "",
        "vg-a": number(0),
        "vg-wrong": number(1),
        "of\\x20another\\x20program": number(2),
    }


def test_the_folder_is_made(folder: Path) -> None:
    with fake_kernel() as kernel:
        assert mend_names(kernel.client) == []
        kernel.add("vg-a", "", [Zero(0, 8)])
        assert mend_names(kernel.client) == []
    assert os.listdir(folder) == ["vg-a"]


def test_what_is_no_device_stays_and_is_told_as_by_lvm2(folder: Path) -> None:
    folder.mkdir()
    (folder / "vg-a").write_text("kept")
    (folder / "dir").mkdir()
    with fake_kernel() as kernel:
        for name in ("vg-a", "vg-b"):
            kernel.add(name, "", [Zero(0, 8)])
        assert mend_names(kernel.client) == [
            f"A non-block device file at '{folder}/vg-a' is already present",
            "Unable to unlink device node for 'dir'",
        ]
    assert (folder / "vg-a").read_text() == "kept"
    assert sorted(os.listdir(folder)) == ["dir", "vg-a", "vg-b"]


def test_a_name_that_another_process_is_making_stays(folder: Path) -> None:
    folder.mkdir()
    for pid in (os.getpid(), 1 << 30):
        (folder / f".{pid}-3").touch()
    with fake_kernel() as kernel:
        assert mend_names(kernel.client) == []
    assert os.listdir(folder) == [f".{os.getpid()}-3"]


def test_only_the_names_that_are_given_are_made(folder: Path) -> None:
    folder.mkdir()
    (folder / "stale").touch()
    with fake_kernel() as kernel:
        for name in ("vg-a", "vg-b"):
            kernel.add(name, "", [Zero(0, 8)])
        assert mend_names(kernel.client, ["vg-b", "nosuch"]) == []
    assert sorted(os.listdir(folder)) == ["stale", "vg-b"]
