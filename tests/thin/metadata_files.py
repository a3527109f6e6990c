# SPDX-License-Identifier: Apache-2.0
"""Metadata for tests: made from XML by the real thin_restore, or damaged on purpose."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lamella.block import MemoryDevice
from lamella.thin.format.checksum import (
    BITMAP_XOR,
    BLOCK_SIZE,
    INDEX_XOR,
    NODE_XOR,
    SUPERBLOCK_XOR,
    seal,
    verify_many,
)
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.dump import dump
from tests.thin.plain_dumps import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lamella.block import BlockDevice

SUPER = (
    '<superblock uuid="" time="3" transaction="5" version="2" data_block_size="128" nr_data_blocks="1000">'
)
DEVICE = '<device dev_id="1" mapped_blocks="1" transaction="0" creation_time="0" snap_time="0">'
ONE = '<single_mapping origin_block="5" data_block="7" time="1"/>'
END = "</device></superblock>"
"""Parts of a thin_dump in XML: its start, a device's, a mapping, and both ends."""
KINDS = (NODE_XOR, BITMAP_XOR, INDEX_XOR)

Mapping = tuple[int, int, int, int]
"""(first block, first data block, length, time)"""


def xml(
    devices: dict[int, list[Mapping]],
    *,
    nr_data_blocks: int = 65536,
    data_block_size: int = 128,
    time: int = 9,
    transaction: int = 3,
) -> str:
    """The XML for *devices*: device id to its mappings."""
    lines = [
        f'<superblock uuid="" time="{time}" transaction="{transaction}" flags="0" version="2" '
        f'data_block_size="{data_block_size}" nr_data_blocks="{nr_data_blocks}">'
    ]
    for dev_id, mappings in sorted(devices.items()):
        mapped = sum(length for _, _, length, _ in mappings)
        lines.append(
            f'  <device dev_id="{dev_id}" mapped_blocks="{mapped}" transaction="1" '
            f'creation_time="2" snap_time="3">'
        )
        for begin, data, length, when in mappings:
            if length == 1:
                lines.append(
                    f'    <single_mapping origin_block="{begin}" data_block="{data}" time="{when}"/>'
                )
            else:
                lines.append(
                    f'    <range_mapping origin_begin="{begin}" data_begin="{data}" '
                    f'length="{length}" time="{when}"/>'
                )
        lines.append("  </device>")
    lines.append("</superblock>")
    return "\n".join(lines) + "\n"


def restore(tool: Callable[[str], str], text: str, target: Path, *, size: int = 4 << 20) -> Path:
    """Make metadata file *target* of *size* bytes from XML *text* with the real thin_restore."""
    source = target.with_suffix(".xml")
    source.write_text(text)
    with open(target, "wb") as out:
        out.truncate(size)
    subprocess.run(
        [tool("thin_restore"), "-i", str(source), "-o", str(target)], check=True, stdout=subprocess.DEVNULL
    )
    return target


def dumped(
    metadata: Path | bytes | bytearray | BlockDevice,
    *,
    snapshot: bool = False,
    tolerant: bool = False,
    **options: object,
) -> str:
    """Our dump of *metadata* (a file, its content, or a device), plain; *options* are those of the dump."""
    pieces: list[bytes] = []
    content = metadata.read_bytes() if isinstance(metadata, Path) else metadata
    device = MemoryDevice(content=content) if isinstance(content, bytes | bytearray) else content
    found = Metadata.open(device, snapshot=snapshot, tolerant=tolerant)
    dump(found, pieces.append, **options)  # type: ignore[arg-type]  # options are dump's own
    return plain(b"".join(pieces).decode())


def recorded_text(path: Path) -> str:
    """What the real tool printed, without the lines that name the command and its exit code."""
    return "".join(line for line in path.read_text().splitlines(True) if not line.startswith("#"))


def kind_of(block: bytes, number: int) -> int | None:
    """The checksum constant that *block* is sealed with, or None."""
    row = np.frombuffer(block, dtype=np.uint8).reshape(1, BLOCK_SIZE)
    for xor in (SUPERBLOCK_XOR,) if number == 0 else (*KINDS, SUPERBLOCK_XOR):
        if verify_many(row, xor)[0]:
            return xor
    return None


def change(image: bytearray, block: int, edits: Iterable[tuple[int, bytes]]) -> None:
    """Write each (offset in the block, bytes) into *block* and seal it again as what it was."""
    start = block * BLOCK_SIZE
    xor = kind_of(bytes(image[start : start + BLOCK_SIZE]), block)
    assert xor is not None, f"block {block} is not sealed"
    for offset, data in edits:
        image[start + offset : start + offset + len(data)] = data
    seal(memoryview(image)[start : start + BLOCK_SIZE], xor)


def sealed_blocks(image: bytes) -> list[int]:
    """All blocks of *image* that carry a right checksum of any kind."""
    rows = np.frombuffer(image, dtype=np.uint8).reshape(-1, BLOCK_SIZE)
    good = verify_many(rows, SUPERBLOCK_XOR)
    for xor in KINDS:
        good |= verify_many(rows, xor)
    return [int(block) for block in np.flatnonzero(good)]
