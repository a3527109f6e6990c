# SPDX-License-Identifier: Apache-2.0
"""Making ext4: clean to e2fsck, cheap in a pool, right over garbage, as mke2fs's options ask."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import MissingError, NotFoundError, ReadOnlyError, UsageError
from lamella.fs.ext4 import library
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.superblock import check_superblock, filesystem_uuid, probe
from tests.fs.ext4.tools import GIB, MIB, fsck, make_image, mounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK = 65536


def chunks_touched(path: Path) -> int:
    """Chunks of 64 KiB of the file that hold anything."""
    with FileDevice(path, read_only=True) as device:
        return len(
            {c for at, n in device.data_ranges() for c in range(at // CHUNK, (at + n - 1) // CHUNK + 1)}
        )


def dumpe2fs(tool: Callable[[str], str], path: Path) -> dict[str, str]:
    done = subprocess.run([tool("dumpe2fs"), "-h", str(path)], capture_output=True, text=True, check=True)
    return dict(re.findall(r"^([^:\n]+):\s+(.*)$", done.stdout, re.M))


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        (10 * GIB, ()),
        (100 * GIB, ()),
        (100 * MIB, ()),
        (2 * MIB, ()),
        (GIB + 12345, ()),
        (GIB, ("-O", "^metadata_csum")),
        (GIB, ("-O", "^metadata_csum,uninit_bg")),
        (GIB, ("-O", "^has_journal,^64bit,^resize_inode")),
        (GIB, ("-O", "meta_bg,metadata_csum_seed")),
        (GIB, ("-O ^flex_bg,^sparse_super",)),
        (GIB, ("-b", "1024")),
        (GIB, ("-b", "2048", "-I", "512", "-i", "8192")),
        (GIB, ("-I", "128", "-N", "1000")),
        (GIB, ("-G", "64", "-m", "0", "-J", "size=8", "-q", "-F")),
        (GIB, ("-E", "stride=16,stripe_width=32,lazy_itable_init=0,nodiscard,resize=10000000")),
    ],
)
def test_e2fsck_finds_a_new_file_system_clean(tmp_path: Path, size: int, arguments: tuple[str, ...]) -> None:
    fsck(make_image(tmp_path / "i", size, *arguments))


def test_a_base_device_takes_next_to_nothing(tmp_path: Path) -> None:
    assert chunks_touched(make_image(tmp_path / "i", 10 * GIB)) <= 20


@pytest.mark.parametrize("features", ["", "^metadata_csum", "^metadata_csum,uninit_bg", "^has_journal"])
def test_nothing_unwritten_is_relied_on(tmp_path: Path, features: str) -> None:
    path = tmp_path / "i"
    garbage = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(200):
            file.write(garbage)
    with FileDevice(path) as device:
        make_ext4(device, mkfs_args=["-O", features] if features else [], prezeroed=False)
    fsck(path)
    with mounted(path, read_only=False) as root:
        for number in range(3000):
            (root / f"f{number}").write_bytes(b"x" * 100)
        (root / "d").mkdir()
    fsck(path)


def test_options_are_honoured(tmp_path: Path, tool: Callable[[str], str]) -> None:
    identity = str(uuid.uuid4())
    seed = str(uuid.uuid4())
    path = make_image(
        tmp_path / "i",
        2 * GIB,
        *("-L", "base", "-U", identity, "-m", "1", "-N", "50000", "-J", "size=16"),
        *("-E", f"stride=16,stripe-width=32,hash_seed={seed},root_owner=1000:70000"),
    )
    found = dumpe2fs(tool, path)
    assert found["Filesystem volume name"] == "base"
    assert found["Filesystem UUID"] == identity
    assert found["Directory Hash Seed"] == seed
    assert found["Maximum mount count"] == "-1"
    assert found["Check interval"].startswith("0 ")
    assert int(found["Reserved block count"]) == 2 * GIB // 4096 // 100
    assert 50000 <= int(found["Inode count"]) < 51000
    assert found["RAID stride"] == "16"
    assert found["RAID stripe width"] == "32"
    assert found["Total journal size"] == "16M"
    assert found["Default directory hash"] == "half_md4"
    with FileDevice(path, read_only=True) as device:
        state = check_superblock(device)
        assert (state.uuid, state.label, state.clean) == (identity, "base", True)
        assert filesystem_uuid(device) == identity
        assert probe(device) == "ext4"
        assert state.size == 2 * GIB
    with mounted(path) as root:
        assert (root.stat().st_uid, root.stat().st_gid) == (1000, 70000)
        assert (root / "lost+found").stat().st_mode & 0o777 == 0o700


def test_features_are_those_of_mke2fs_and_a_4x_kernel(tmp_path: Path, tool: Callable[[str], str]) -> None:
    ours = make_image(tmp_path / "ours", 10 * GIB)
    theirs = tmp_path / "theirs"
    subprocess.run(
        [tool("mke2fs"), "-q", "-F", "-t", "ext4", "-E", "nodiscard", str(theirs), "10G"], check=True
    )
    mine, its = dumpe2fs(tool, ours), dumpe2fs(tool, theirs)
    newer = {"orphan_file", "metadata_csum_seed"}
    assert set(mine["Filesystem features"].split()) == set(its["Filesystem features"].split()) - newer
    for field in (
        "Inode count",
        "Block count",
        "Reserved block count",
        "Block size",
        "Inodes per group",
        "Inode size",
        "Flex block group size",
        "Default mount options",
        "Errors behavior",
        "First inode",
        "Total journal size",
        "Journal backup",
        "Desired extra isize",
        "Filesystem flags",
    ):
        assert mine[field] == its[field], field


@pytest.mark.parametrize(
    "arguments",
    [
        ("-Z",),
        ("-b", "3000"),
        ("-b", "65536"),
        ("-I", "100"),
        ("-I", "8192"),
        ("-m", "51"),
        ("-m", "x"),
        ("-N", "0"),
        ("-O", "bigalloc"),
        ("-O", "^extent"),
        ("-O", "metadata_csum_seed,^metadata_csum"),
        ("-E", "unknown"),
        ("-E", "stride=no"),
        ("-E", "resize=1"),
        ("-L", "a label that is too long"),
        ("-U", "no-uuid"),
        ("-J", "location=3"),
        ("-J", "size=100000"),
        ("-t", "xfs"),
        ("/dev/sda",),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...]) -> None:
    device = MemoryDevice(64 * MIB)
    with pytest.raises(UsageError):
        make_ext4(device, mkfs_args=arguments)
    assert not any(device.content)


def test_a_device_that_is_too_small_or_read_only_is_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        make_ext4(MemoryDevice(100_000))
    with pytest.raises(UsageError):
        make_ext4(MemoryDevice(300_000))
    device = MemoryDevice(64 * MIB)
    device.read_only = True
    with pytest.raises(ReadOnlyError):
        make_ext4(device)


def test_probe_tells_what_is_there() -> None:
    device = MemoryDevice(MIB)
    assert probe(device) == ""
    with pytest.raises(NotFoundError):
        check_superblock(device)
    device.write(0, b"XFSB")
    assert probe(device) == "xfs"
    assert probe(MemoryDevice(10)) == ""
    with pytest.raises(NotFoundError):
        check_superblock(MemoryDevice(10))


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    library.load.cache_clear()
    monkeypatch.setattr(library.ctypes, "CDLL", missing)
    try:
        with pytest.raises(MissingError) as caught:
            make_ext4(MemoryDevice(64 * MIB))
    finally:
        library.load.cache_clear()
    assert "libext2fs.so.2" in caught.value.message
    assert "apt install libext2fs2" in (caught.value.hint or "")
