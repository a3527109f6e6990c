# SPDX-License-Identifier: Apache-2.0
"""File systems: ext4's tree, its journal, and what is read of XFS."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from pathlib import Path

import google_crc32c
from scripts.fuzz.mutate import mutate_used
from scripts.fuzz.target import Target

from lamella.block import MemoryDevice
from lamella.fs.entry import Kind
from lamella.fs.ext4.journal import recover_journal
from lamella.fs.ext4.reader import Reader
from lamella.fs.xfs.log import is_clean
from lamella.fs.xfs.superblock import read_superblock

_BLOCK = 1024


def _make_ext4(folder: Path, options: str, size: str, *arguments: str) -> bytes:
    image = folder / "image"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-N", "32", "-O", options, *arguments]
    subprocess.run([*command, str(image), size], check=True, capture_output=True)
    made = image.read_bytes()
    image.unlink()
    return made


def _ext4_seeds() -> list[bytes]:
    """Small file systems, without checksums so that changes reach far; none where mke2fs is missing."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "top")
        (top / "dir/sub").mkdir(parents=True)
        (top / "dir/file").write_bytes(b"content" * 300)
        os.link(top / "dir/file", top / "hard")
        (top / "short").symlink_to("dir/file")
        (top / "long").symlink_to("x" * 200)
        with (top / "sparse").open("wb") as file:
            file.seek(100_000)
            file.write(b"tail")
        for number in range(12):
            (top / "dir/sub" / f"name{number}").write_bytes(b"x" * number * 40)
        os.setxattr(top / "dir/file", "user.name", b"value" * 20)
        os.mkfifo(top / "fifo")
        try:
            return [
                _make_ext4(Path(folder), options, "128k", "-d", str(top))
                for options in (
                    "^metadata_csum,^has_journal",
                    "^metadata_csum,^has_journal,inline_data",
                    "^has_journal",
                )
            ]
        except FileNotFoundError:
            return [bytes(4096)]


def _read_ext4(data: bytes) -> object:
    device = MemoryDevice(content=data, name="image")
    device.read_only = True
    with Reader.open(device) as reader:
        kinds = []
        for count, entry in enumerate(reader.walk()):
            assert count < 100_000
            kinds.append(entry.kind.value)
            if entry.kind is Kind.FILE and entry.size < 1 << 24:
                for _ in reader.read(entry.path):
                    pass
        return tuple(kinds[:10]), len(kinds)


def _journal_seeds() -> list[bytes]:
    """File systems whose journal holds three transactions, and inodes that were deleted while open.

    debugfs writes them: blocks of the inode table, a revocation, and a block that looks like the journal's.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        top, image, block = Path(folder, "top"), Path(folder, "changed"), Path(folder, "block")
        top.mkdir()
        (top / "file").write_bytes(b"content" * 300)
        (top / "held").write_bytes(b"content" * 900)
        for options, version in (
            ("^metadata_csum", ""),
            ("metadata_csum", " -c -v 3"),
            ("^metadata_csum", " -c -v 2"),
        ):
            try:
                made = _make_ext4(
                    Path(folder), f"has_journal,{options}", "2100k", "-J", "size=1", "-d", str(top)
                )
            except FileNotFoundError:
                return [bytes(4096)]
            image.write_bytes(made)
            block.write_bytes(struct.pack(">I", 0xC03B3998).ljust(_BLOCK, b"x"))
            _debugfs(
                image, "unlink /held", "set_inode_field <13> links_count 0", "set_super_value last_orphan 13"
            )
            _debugfs(
                image,
                f"journal_open{version}",
                f"journal_write -b 2000 {block}",
                "journal_write -r 2000",
                f"journal_write -b 2002 {block}",
                "journal_close",
            )
            found.append(image.read_bytes())
    return found


def _debugfs(image: Path, *requests: str) -> None:
    subprocess.run(
        ["debugfs", "-w", "-f", "-", str(image)],
        input="\n".join(requests).encode(),
        check=True,
        capture_output=True,
    )


def _recover(data: bytes) -> object:
    device = MemoryDevice(content=data, name="image")
    count = recover_journal(device)
    assert recover_journal(device) == 0
    return min(count, 4)


def _xfs_seeds() -> list[bytes]:
    """A superblock of either version and a log of eight blocks, unmounted, cut off and begun anew."""
    found = []
    for version in (4, 5):
        for flag, head in ((0x20, 3), (0, 3), (0x20, 0)):
            image = bytearray(8192)
            struct.pack_into(">4sIQQQ16sQ", image, 0, b"XFSB", 4096, 2, 0, 0, b"u" * 16, 1)
            struct.pack_into(">IIIIIHH", image, 80, 1, 2, 1, 0, 1, version, 512)
            image[124] = 4
            for number in range(8):
                struct.pack_into(">I", image, 4096 + number * 512, 2 if number < head else 1)
            at = 4096 + (head - 2) % 8 * 512
            struct.pack_into(">IIII", image, at, 0xFEEDBABE, 2 if head else 1, 2, 512)
            struct.pack_into(">I", image, at + 40, 1)
            struct.pack_into(">I", image, at + 320, 32768)
            image[at + 512 + 9] = flag
            _seal_xfs(image)
            found.append(bytes(image))
    return found


def _seal_xfs(data: bytearray) -> None:
    """Make the superblock's checksum right."""
    sector = int.from_bytes(data[102:104], "big")
    if 512 <= sector <= len(data):
        data[224:228] = bytes(4)
        data[224:228] = google_crc32c.value(bytes(data[:sector])).to_bytes(4, "little")


def _read_xfs(data: bytes) -> object:
    device = MemoryDevice(content=data, name="image")
    device.read_only = True
    found = read_superblock(device)
    return found.needs_repair, is_clean(device, found)


TARGETS = [
    Target("ext4", _ext4_seeds, _read_ext4, mutate=lambda random, data: mutate_used(random, data, 128)),
    Target(
        "ext4-journal", _journal_seeds, _recover, mutate=lambda random, data: mutate_used(random, data, 64)
    ),
    Target(
        "xfs",
        _xfs_seeds,
        _read_xfs,
        mutate=lambda random, data: mutate_used(random, data, 64),
        reseal=_seal_xfs,
    ),
]
