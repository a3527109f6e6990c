# SPDX-License-Identifier: Apache-2.0
"""Metadata of thin pools, damaged under right checksums or not, and their XML."""

from __future__ import annotations

import io
import zlib
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from scripts.fuzz.target import Target
from tests.support.failing import NowhereDevice

from lamella.block import MemoryDevice
from lamella.errors import LamellaError
from lamella.thin.engine.pool import Pool, PoolOptions
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BITMAP_XOR, BLOCK_SIZE, INDEX_XOR, NODE_XOR, SUPERBLOCK_XOR, seal
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import CheckOptions, check
from lamella.thin.tools.dump import dump
from lamella.thin.tools.header import Overrides
from lamella.thin.tools.leak_repair import repair_leaks
from lamella.thin.tools.repair import repair
from lamella.thin.tools.restore import restore_xml

if TYPE_CHECKING:
    from random import Random

CHUNK = 64 << 10
SMALL = 64 * BLOCK_SIZE
"""Bytes of the seeds: small, so that many can be tried."""
TEXT_LIMIT = 64 << 20
"""Bytes of a dump that metadata of this size cannot need."""
_SUPERBLOCK_FIELDS = (
    4,
    8,
    32,
    40,
    44,
    48,
    56,
    64,
    72,
    80,
    88,
    192,
    200,
    208,
    216,
    320,
    328,
    336,
    340,
    344,
    352,
)
_NODE_FIELDS = (4, 8, 16, 20, 24)
_VALUES = (
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    84,
    126,
    252,
    253,
    1024,
    2**16,
    2**24,
    2**31,
    2**32 - 1,
    2**40,
    2**55,
    2**63,
)
_VALUES += (2**64 - 1, 5 << 24, (1 << 63) | 5)


def _pools() -> list[bytes]:
    """Pools with shared trees, a held snapshot, older copies of nodes, and counts in the overflow trees."""
    metadata = MemoryDevice(SMALL)
    with Pool.create(metadata, NowhereDevice(1 << 26), chunk_size=CHUNK) as pool:
        pool.create_thin(1)
        with pool.open_volume(1, 1 << 30) as volume:
            volume.write_many([(place * 3 * CHUNK, b"x") for place in range(300)])
            pool.commit()
            for dev_id in range(2, 6):
                pool.create_snap(dev_id, 1)
                volume.write(dev_id * 30 * CHUNK, b"y")
                pool.commit()
    found = [bytes(metadata.content)]
    with Pool.open(metadata, NowhereDevice(1 << 26)) as pool:
        pool.reserve_metadata_snap()
        pool.create_thin(9)
        pool.delete(3)
        pool.commit()
    found.append(bytes(metadata.content))
    target = MemoryDevice(SMALL)
    restore_xml(io.BytesIO(_texts()[1]).read, target)
    return [*found, bytes(target.content)]


def _texts() -> list[bytes]:
    """Dumps: of devices alone, with shared parts, and as the tools' tests have them."""
    head = b'<superblock uuid="" time="3" transaction="5" version="2" data_block_size="128" '
    head += b'nr_data_blocks="999">\n'
    device = b'<device dev_id="%d" mapped_blocks="9" transaction="1" creation_time="0" snap_time="2">\n'
    one = b'<single_mapping origin_block="%d" data_block="%d" time="1"/>\n'
    run = b'<range_mapping origin_begin="%d" data_begin="%d" length="%d" time="2"/>\n'
    many = b"".join(one % (2 * place, place) for place in range(60))
    shared = b'<def name="7">\n' + many + run % (300, 200, 90) + b"</def>\n"
    refer = b'<ref name="7"/>\n'
    return [
        head + device % 1 + many + run % (500, 500, 99) + b"</device></superblock>",
        head + shared + device % 1 + refer + run % (900, 700, 5) + b"</device>\n" + device % 2 + refer
        + b"</device></superblock>",
        b'<?xml version="1.0"?><!-- c -->\n'
        + head.replace(b"version", b'flags="1" metadata_snap="4" version')
        + device % 16777215 + b"</device>\n</superblock>\n",
    ]  # fmt: skip


def reseal(data: bytearray) -> None:
    """Make the checksum of each whole block the right one for what it looks like."""
    view = memoryview(data)
    index = int.from_bytes(data[208:216], "little") if len(data) >= BLOCK_SIZE else 0
    for block in range(len(data) // BLOCK_SIZE):
        piece = view[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        if block == 0 or piece[32:40] == superblock.MAGIC.to_bytes(8, "little"):
            seal(piece, SUPERBLOCK_XOR)
        elif any(piece[:16]):
            node = int.from_bytes(piece[4:8], "little") in (1, 2)
            seal(piece, NODE_XOR if node else INDEX_XOR if block == index else BITMAP_XOR)


def _change(random: Random, data: bytes) -> bytes:
    """Other numbers in the fields of some blocks, or whole blocks in other places, under right checksums."""
    image = bytearray(data)
    blocks = [
        place for place in range(0, len(image) - BLOCK_SIZE + 1, BLOCK_SIZE) if any(image[place : place + 16])
    ]
    if not blocks:
        return data
    for _ in range(1 << random.randrange(4)):
        start = random.choice(blocks)
        kind = random.randrange(8)
        if kind == 0:
            other = random.choice(blocks)
            image[start : start + BLOCK_SIZE] = image[other : other + BLOCK_SIZE]
            image[start + 8 : start + 16] = (start // BLOCK_SIZE).to_bytes(8, "little")
            continue
        offset = 32 + 8 * random.randrange(508)
        if start == 0:
            offset = random.choice(_SUPERBLOCK_FIELDS)
        elif kind == 1:
            offset = random.choice(_NODE_FIELDS)
        elif kind < 5:
            entries = min(int.from_bytes(image[start + 16 : start + 20], "little"), 252) or 1
            limit = min(int.from_bytes(image[start + 20 : start + 24], "little"), 252)
            offset = 32 + 8 * (random.randrange(entries) + limit * random.randrange(2))
        width = random.choice((1, 4, 8))
        value = random.choice((random.choice(_VALUES), random.randrange(len(image) // BLOCK_SIZE)))
        if random.randrange(6) == 0:
            value = int.from_bytes(image[start + offset : start + offset + width], "little") + random.choice(
                (-1, 1)
            )
        piece = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        offset = min(offset, BLOCK_SIZE - width)
        image[start + offset : start + offset + width] = piece
    reseal(image)
    return bytes(image)


def _many_devices_with_one_tree() -> list[bytes]:
    """A thousand devices with one tree; and trees in which all entries of a node lead to one below."""
    lines = [
        '<superblock uuid="" time="1" transaction="1" version="2" data_block_size="128" '
        'nr_data_blocks="40000">',
        '<def name="a">',
        *(
            f'<single_mapping origin_block="{place * 2}" data_block="{place}" time="1"/>'
            for place in range(30_000)
        ),
        "</def>",
        *(
            f'<device dev_id="{dev_id}" mapped_blocks="0" transaction="0" creation_time="0" snap_time="0">'
            '<ref name="a"/></device>'
            for dev_id in range(1000)
        ),
        "</superblock>",
    ]
    target = MemoryDevice(2 << 20)
    restore_xml(io.BytesIO("".join(lines).encode()).read, target)
    content = bytes(target.content)
    image = bytearray(content)
    for place in range(BLOCK_SIZE, len(image), BLOCK_SIZE):
        if int.from_bytes(image[place + 4 : place + 8], "little") == 1:
            count = int.from_bytes(image[place + 16 : place + 20], "little")
            values = np.frombuffer(image, dtype="<u8", count=count, offset=place + 32 + 252 * 8)
            values[:] = values[0]
    reseal(image)
    return [content, bytes(image)]


def _one_of(data: bytes, many: int) -> bool:
    """Whether *data* is among the one in *many* inputs that all is tried with: the same ones each time."""
    return zlib.crc32(data) % many == 0


class _TooMuch(Exception):
    """A dump is far larger than its metadata can mean."""


def _text(metadata: Metadata, form: str = "xml", **options: object) -> bytes:
    pieces: list[bytes] = []
    size = 0

    def write(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > TEXT_LIMIT:
            raise _TooMuch
        pieces.append(piece)

    dump(metadata, write, format=form, **options)  # type: ignore[arg-type]  # dump's own options
    return b"".join(pieces)


def _device(data: bytes) -> MemoryDevice:
    device = MemoryDevice(content=data, name="metadata")
    device.read_only = True
    return device


def _check(data: bytes) -> object:
    device = _device(data)
    report = check(device)
    if _one_of(data, 2):
        check(device, CheckOptions(snapshot=True))
    mended = ""
    if report.only_space_maps:
        copy = MemoryDevice(content=data)
        try:
            assert repair_leaks(copy, report).ok
            mended = "mended"
        except LamellaError as error:
            assert bytes(copy.content) == data
            mended = type(error).__name__
    assert bytes(device.content) == data
    return (
        mended,
        report.fatal,
        tuple(sorted({problem.place.split(",")[0] for problem in report.problems}))[:4],
    )


def _dump(data: bytes) -> object:
    device = _device(data)
    ends = []
    for tolerant in (False, True) if _one_of(data, 4) else (True,):
        try:
            metadata = Metadata.open(device, tolerant=tolerant)
            text = _text(metadata)
            if _one_of(data, 4):
                _text(metadata, "human_readable")
                _text(metadata, skip_mappings=True)
            ends.append(_restored(text, device.size))
        except LamellaError as error:
            ends.append(type(error).__name__)
    return tuple(ends)


def _restored(text: bytes, size: int) -> str:
    target = MemoryDevice(size)
    try:
        restore_xml(io.BytesIO(text).read, target)
    except LamellaError as error:
        return f"restored: {type(error).__name__}"
    assert check(target).ok
    return "restored"


def _repair(data: bytes) -> object:
    device, target = _device(data), MemoryDevice(len(data), name="target")
    report = repair(device, target, overrides=Overrides(data_block_size=128))
    assert bytes(device.content) == data
    found = check(target)
    assert found.problems == [], str(found.problems[:3])
    again = Metadata.open(target)
    again.load()
    assert sum(one.saved for one in report.devices) == sum(
        one.mapped_blocks for one in again.details.values()
    )
    return report.searched, len(report.devices), tuple(sorted({one.note[:12] for one in report.devices}))


def _engine(data: bytes) -> object:
    """All that a pool can be asked, with and without a change to it."""
    metadata = MemoryDevice(content=data)
    recorded = int.from_bytes(data[64:72], "little") * CHUNK
    blank = NowhereDevice(recorded if 1 << 26 < recorded < 1 << 33 else 1 << 26)
    ends: list[object] = []
    with Pool.open(_device(data), blank, read_only=True) as pool:
        ends.append(len(pool.devices()))
        for dev_id in list(pool.devices())[:4]:
            try:
                with pool.open_volume(dev_id, 1 << 40, read_only=True) as volume:
                    for number, _ in enumerate(volume.mapped_ranges()):
                        assert number < TEXT_LIMIT
                    list(islice(volume.data_ranges(), 1000))
                    volume.read(0, 1 << 20)
            except LamellaError as error:
                ends.append(type(error).__name__)
    try:
        # Otherwise a write without room waits a minute for the pool to grow.
        with Pool.open(metadata, blank, options=PoolOptions(error_if_no_space=True)) as pool:
            dev_id = min(pool.devices(), default=0)
            with pool.open_volume(dev_id, 1 << 30) as volume:
                volume.write_many([(place * 7 * CHUNK, b"z") for place in range(40)])
                volume.discard(0, 8 * CHUNK)
            pool.create_snap(77, dev_id)
            pool.commit()
            pool.delete(dev_id)
            pool.commit()
    except LamellaError as error:
        ends.append(type(error).__name__)
    return tuple(ends)


_NOTHING = bytes(1 << 18)


def _restore(data: bytes) -> object:
    target = MemoryDevice(len(_NOTHING))
    try:
        report = restore_xml(io.BytesIO(data).read, target)
    except LamellaError:
        assert target.content == _NOTHING
        raise
    assert check(target).ok
    text = _text(Metadata.open(target))
    assert _restored(text, 1 << 18) in ("restored", "restored: NoSpaceError")
    return report.devices, min(report.mappings, 9)


_WORDS = (
    b'<superblock <device </device> </superblock> <def name=" </def> <ref name=" <single_mapping '
    b'<range_mapping origin_begin=" data_begin=" length=" time=" dev_id=" "18446744073709551615" "0" /> '
    b"<!-- --> <? ?> &lt; &#0; <![CDATA[ ]]> uuid= '7' \xef\xbb\xbf \x00 \x01"
).split()

TARGETS = [
    *(
        Target(
            f"thin-{name}",
            _pools,
            read,
            seconds=20.0,
            large=_many_devices_with_one_tree,
            mutate=_change,
            reseal=reseal,
        )
        for name, read in (("check", _check), ("dump", _dump), ("repair", _repair), ("engine", _engine))
    ),
    Target("thin-xml", _texts, _restore, words=tuple(_WORDS)),
]
