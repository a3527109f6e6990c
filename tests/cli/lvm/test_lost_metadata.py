# SPDX-License-Identifier: Apache-2.0
"""A thin pool whose metadata is zeroed or older than its group: nothing formats it, and its repair says so.

Authority: LVM2 2.03.16 compares the repaired transaction id with the group's (tools/lvconvert.c).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.session.environment import Environment
from lamella.lvm.session.session import Session
from tests.lvm.oracle import ours

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lvm.oracle import Answer

EXTENT, PE_START, BLOCK, CHUNK = 4 << 20, 1 << 20, 4096, 64 << 10


class Pool:
    """A pool on a plain file, with one thin volume at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("wb") as stream:
            stream.truncate(300 << 20)
        self.ok("vgcreate", "vg", str(path))
        self.ok("lvcreate", "-an", "--type", "thin-pool", "-n", "pool", "-L", "64m", "vg")
        self.thin("one")

    def run(self, *words: str) -> Answer:
        return ours(words, [str(self.path)])

    def ok(self, *words: str) -> Answer:
        answer = self.run(*words)
        assert answer.code == 0, (words, answer)
        return answer

    def thin(self, name: str) -> None:
        self.ok("lvcreate", "-an", "-V", "64m", "--thinpool", "pool", "-n", name, "vg")

    @property
    def start(self) -> int:
        """Where on the disk the metadata is."""
        found = self.ok("lvs", "-a", "-o", "seg_pe_ranges", "--noheadings", "vg/pool_tmeta").out
        extent = re.search(r":(\d+)-", found)
        assert extent is not None
        return PE_START + int(extent[1]) * EXTENT

    def read(self) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(EXTENT)

    def write(self, content: bytes) -> None:
        start = self.start
        with self.path.open("r+b") as stream:
            stream.seek(start)
            stream.write(content)

    def names(self) -> set[str]:
        return set(self.ok("lvs", "--noheadings", "-o", "lv_name", "vg").out.split())


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "disk")


def test_repaired_metadata_of_another_time_is_told(pool: Pool) -> None:
    old = pool.read()
    for name in ("two", "three", "four"):
        pool.thin(name)
    pool.write(old)
    answer = pool.ok("lvconvert", "--repair", "-y", "vg/pool")
    assert (
        '  Transaction id 4 from pool "vg/pool" does not match repaired transaction id 1 from '
        "/dev/mapper/vg-lvol0_pmspare." in answer.err
    )
    assert "  WARNING: thin device 4, volume vg/four, is lost." in answer.err


def test_repaired_metadata_that_fits_is_not_told(pool: Pool) -> None:
    answer = pool.ok("lvconvert", "--repair", "-y", "vg/pool")
    assert len(answer.err) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("lvcreate", "-an", "-V", "12m", "--thinpool", "pool", "-n", "two", "vg"),
        ("lvcreate", "-an", "-s", "-n", "two", "vg/one"),
        ("lvremove", "-y", "vg/one"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_lost_metadata_is_not_formatted(pool: Pool, words: tuple[str, ...]) -> None:
    pool.ok("lvcreate", "-an", "-s", "-n", "snap", "vg/one")
    pool.write(bytes(BLOCK))
    before, text = pool.read(), pool.path.read_bytes()[:PE_START]
    answer = pool.run(*words)
    assert answer.code == 5
    assert "Thin pool vg/pool has lost its metadata" in answer.err[-2]
    assert "lvconvert --repair vg/pool" in answer.err[-1]
    assert (pool.read(), pool.path.read_bytes()[:PE_START]) == (before, text)
    answer = pool.ok("lvconvert", "--repair", "-y", "vg/pool")
    assert any("transaction id, 2, is that of the volume group" in line for line in answer.err)
    pool.thin("three")
    assert pool.names() == {"pool", "pool_meta0", "one", "snap", "three"}


def test_metadata_of_a_pool_that_was_emptied_is_not_formatted(pool: Pool) -> None:
    """The group has no volume in it any more, but its transaction id says that there were some."""
    pool.ok("lvremove", "-y", "vg/one")
    pool.write(bytes(BLOCK))
    assert pool.run("lvcreate", "-an", "-V", "12m", "--thinpool", "pool", "-n", "two", "vg").code == 5


@pytest.mark.parametrize(("chunks", "code"), [(511, 0), (513, 5)])
def test_a_pool_above_its_threshold_takes_no_new_volume(pool: Pool, chunks: int, code: int) -> None:
    """Of 1024 chunks; LVM2: pool_below_threshold (lib/metadata/thin_manip.c). The pool is not active."""
    session = Session([str(pool.path)], Environment(command_line="test"))
    with session, session.editing("vg") as found:
        lv = found.group.lvs["pool"]
        with opened_pool(found, lv) as opened, opened.open_volume(1, 64 << 20) as volume:
            for chunk in range(chunks):
                volume.write(chunk * CHUNK, b"x" * 512)
    config = "activation{thin_pool_autoextend_threshold=50} global{activation=0}"
    for words in (("-V", "4m", "--thinpool", "pool", "-n", "two", "vg"), ("-s", "-n", "three", "vg/one")):
        answer = ours(["lvcreate", "-an", *words], [str(pool.path)], config=config)
        assert answer.code == code, answer
        if code:
            said = "  Cannot create new thin volume, free space in thin pool vg/pool reached threshold."
            assert answer.err == (said,)


def test_a_new_pool_is_formatted(tmp_path: Path) -> None:
    """Its metadata begins with zeros, and nothing is in the group but the volume that is being made."""
    pool = Pool(tmp_path / "disk")
    assert pool.names() == {"pool", "one"}
