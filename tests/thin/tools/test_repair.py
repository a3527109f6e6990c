# SPDX-License-Identifier: Apache-2.0
"""Repairs: at least as much is saved as by the real thin_repair, and the result is always sound."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import CorruptError, LamellaError, NoSpaceError, UsageError
from lamella.thin.engine.pool import Pool
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE, NODE_XOR, SUPERBLOCK_XOR, block_checksum
from lamella.thin.format.node import max_entries
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools import metadata_builder
from lamella.thin.tools.check import check
from lamella.thin.tools.dump import dump
from lamella.thin.tools.header import Overrides
from lamella.thin.tools.repair import repair
from lamella.thin.tools.restore import restore_xml
from lamella.thin.tools.salvage import recover
from tests.thin.kernel_made import KernelMade
from tests.thin.metadata_files import change, dumped, kind_of, recorded_text, sealed_blocks, xml
from tests.thin.plain_dumps import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.thin.tools.repair import RepairReport

A = Overrides(7, 128, 8192)
"""The fields of thin-a's superblock."""


def _repair(content: bytes, **options: object) -> tuple[bytes, RepairReport]:
    """Repair *content* into as much room, and check the result, and that the damaged one is as it was."""
    damaged = MemoryDevice(content=content, name="damaged")
    damaged.read_only = True
    target = MemoryDevice(len(content), name="target")
    report = repair(damaged, target, **options)  # type: ignore[arg-type]  # repair's own
    assert bytes(damaged.content) == content
    found = check(target)
    assert [str(problem) for problem in found.problems] == []
    assert found.complete
    assert sum(device.saved for device in report.devices) == sum(
        details.mapped_blocks for details in found.devices.values()
    )
    return bytes(target.content), report


def _image(fixture_dir: Callable[[str], Path], name: str) -> bytes:
    letter, rest = name.split("/", 1)
    return (fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / rest / "meta.bin").read_bytes()


def _make(text: str, size: int = 4 << 20) -> bytes:
    target = MemoryDevice(size)
    restore_xml(io.BytesIO(text.encode()).read, target)
    return bytes(target.content)


def _mappings(text: str) -> dict[int, set[tuple[int, int, int]]]:
    """{device: {(block, data block, time)}} of an XML dump."""
    devices: dict[int, set[tuple[int, int, int]]] = {}
    current: set[tuple[int, int, int]] = set()
    for line in text.splitlines():
        words = line.replace('"', " ").split()
        if "<device" in words:
            current = devices.setdefault(int(words[words.index("dev_id=") + 1]), set())
        elif "<single_mapping" in words:
            current.add((int(words[2]), int(words[4]), int(words[6])))
        elif "<range_mapping" in words:
            begin, data, length, time = (int(words[place]) for place in (2, 4, 6, 8))
            current |= {(begin + step, data + step, time) for step in range(length)}
    return devices


# -- the recorded damage ---------------------------------------------------------------------------

WHOLE = ("data_sm_bitmap_btree_root", "data_sm_refcount_root", "leak_held_root", "meta_sm_index", "sb_magic")


@pytest.mark.parametrize("letter", ["a", "c"])
@pytest.mark.parametrize("what", [*WHOLE, "data_refcount_mismatch", "needs_check", "transaction_id"])
def test_what_the_real_one_repairs_comes_out_the_same(
    fixture_dir: Callable[[str], Path], letter: str, what: str
) -> None:
    folder = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / "damaged" / what
    content, report = _repair((folder / "meta.bin").read_bytes())
    # New metadata needs no check.
    recorded = recorded_text(folder / "repaired.thin_dump.txt").replace('flags="1"', 'flags="0"')
    assert dumped(content) == recorded
    assert not report.searched
    assert not report.incomplete


@pytest.mark.parametrize("letter", ["a", "c"])
def test_a_lost_leaf_is_taken_from_an_older_copy(fixture_dir: Callable[[str], Path], letter: str) -> None:
    """0.9 leaves a hole, 1.x takes the whole pool back in time; here the lost part alone is older."""
    folder = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}"
    made = KernelMade.read(folder)
    content, report = _repair(_image(fixture_dir, f"{letter}/damaged/bottom_leaf"))
    saved = _mappings(dumped(content))
    clean = _mappings(dumped(_image(fixture_dir, f"{letter}/clean")))
    recorded = _mappings(recorded_text(folder / "damaged" / "bottom_leaf" / "repaired.thin_dump.txt"))
    assert [device.dev_id for device in report.incomplete] == made.hit_devices
    for dev_id, mappings in clean.items():
        assert recorded[dev_id] <= saved[dev_id] <= mappings
        if dev_id in made.hit_devices:
            assert len(saved[dev_id]) > 0.97 * len(mappings) > len(recorded[dev_id])
        else:
            assert saved[dev_id] == mappings
    for device in report.incomplete:
        assert "are from an older copy of its tree (of transaction" in device.note
        assert f"the pool's is 7, time {superblock.decode(content).time - 1})" in device.note
        # All of it may be shared in ways that the details do not know of.
        details = Metadata.open(MemoryDevice(content=content)).details[device.dev_id]
        assert details.snapshotted_time == superblock.decode(content).time


def _written_twice() -> tuple[bytes, list[int]]:
    """A pool of two devices, the first written to after its snapshot; its root, and the leaf of block 41."""
    metadata = MemoryDevice(4 << 20)
    with Pool.create(metadata, MemoryDevice(256 << 20), chunk_size=64 << 10) as pool:
        pool.create_thin(1)
        with pool.open_volume(1, 1 << 30) as volume:
            volume.write_many([(place * 2 << 16, b"x") for place in range(600)])
        pool.commit()
        pool.create_snap(2, 1)
        pool.set_transaction_id(0, 5)
        pool.commit()
        with pool.open_volume(1, 1 << 30) as volume:
            volume.write(40 << 16, b"y")
            volume.write(41 << 16, b"z")
        pool.commit()
    content = bytes(metadata.content)
    root = block = Metadata.open(MemoryDevice(content=content)).roots[1]
    while True:
        node = _node(content, block, 8)
        assert node is not None
        if node[0]:
            return content, [root, block]
        block = [int.from_bytes(value, "little") for key, value in node[1] if key <= 41][-1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_lost_root_or_leaf_of_the_last_commit(which: int) -> None:
    content, blocks = _written_twice()
    before = _mappings(dumped(content))
    image = bytearray(content)
    image[blocks[which] * BLOCK_SIZE + 99] ^= 1
    repaired, report = _repair(bytes(image))
    after = _mappings(dumped(repaired))
    assert after[2] == before[2]
    [device] = report.incomplete
    # Block 40 is as it was before it was written again, block 41 is not there yet; all else is untouched.
    assert {place for place, _, _ in before[1] ^ after[1]} == {40, 41}
    assert {place for place, _, _ in before[1]} - {place for place, _, _ in after[1]} == {41}
    assert (device.dev_id, device.expected, device.saved) == (1, 601, 600)
    assert "time 1; the pool's is 5, time 1)" in device.note


def test_an_older_copy_gives_no_block_that_is_in_other_use() -> None:
    """What has been discarded and given to another device since is not given back."""
    metadata = MemoryDevice(4 << 20)
    with Pool.create(metadata, MemoryDevice(64 << 20), chunk_size=64 << 10) as pool:
        pool.create_thin(1)
        pool.create_thin(2)
        with pool.open_volume(1, 1 << 30) as volume:
            volume.write_many([(place << 16, b"x") for place in range(100)])
        pool.commit()
        with pool.open_volume(1, 1 << 30) as volume:
            volume.discard(0, 30 << 16)
        pool.commit()
        # A leaf of another commit, so that the one before is not all that there is.
        with pool.open_volume(2, 1 << 30) as volume:
            volume.write_many([((500 + place) << 16, b"y") for place in range(1000 - 70)])
        pool.commit()
    content = bytes(metadata.content)
    before = _mappings(dumped(content))
    taken = {data for _, data, _ in before[2]}
    image = bytearray(content)
    root = Metadata.open(MemoryDevice(content=content)).roots[1]
    image[root * BLOCK_SIZE + 99] ^= 1
    repaired, report = _repair(bytes(image))
    after = _mappings(dumped(repaired))
    assert after[2] == before[2]
    assert not {data for _, data, _ in after.get(1, set())} & taken
    assert [device.dev_id for device in report.incomplete] == [1]


def test_the_repairing_dump_takes_older_copies_too() -> None:
    content, blocks = _written_twice()
    image = bytearray(content)
    image[blocks[1] * BLOCK_SIZE + 99] ^= 1
    found = recover(MemoryDevice(content=bytes(image)))
    pieces: list[bytes] = []
    dump(found.metadata, pieces.append)
    assert plain(b"".join(pieces).decode()) == dumped(_repair(bytes(image))[0])
    assert 'mapped_blocks="600"' in b"".join(pieces).decode()
    assert "older copy" in found.notes[1]


@pytest.mark.parametrize("letter", ["a", "c"])
@pytest.mark.parametrize("what", ["mapping_root", "sb_csum"])
def test_what_the_real_one_fails_at_is_wholly_restored(
    fixture_dir: Callable[[str], Path], tool: Callable[[str], str], tmp_path: Path, letter: str, what: str
) -> None:
    """thin_repair 0.9 dies of the first by a signal, and of the second even with all fields given."""
    folder = fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}"
    clean = superblock.decode(_image(fixture_dir, f"{letter}/clean"))
    given = Overrides(7, clean.data_block_size, 8192)
    content, report = _repair(
        (folder / "damaged" / what / "meta.bin").read_bytes(), fallback=given if what == "sb_csum" else None
    )
    assert dumped(content) == recorded_text(folder / "clean" / "thin_dump.txt")
    assert report.searched
    path = tmp_path / "repaired.bin"
    path.write_bytes(content)
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)


@pytest.mark.parametrize("letter", ["a", "c"])
def test_lost_details_cost_no_mapping(fixture_dir: Callable[[str], Path], letter: str) -> None:
    content, report = _repair(_image(fixture_dir, f"{letter}/damaged/details_root"))
    clean = dumped(_image(fixture_dir, f"{letter}/clean"))
    assert _mappings(dumped(content)) == _mappings(clean)
    after = Metadata.open(MemoryDevice(content=content))
    # What may be shared unknown to its details is copied before it is written.
    for device in report.incomplete:
        _, values = after.mappings(device.dev_id)
        details = after.details[device.dev_id]
        assert details.snapshotted_time == after.superblock.time
        assert details.snapshotted_time > max((int(value) & 0xFFFFFF for value in values), default=0)


@pytest.mark.parametrize("letter", ["a", "c"])
def test_nothing_left_is_reported(fixture_dir: Callable[[str], Path], letter: str) -> None:
    target = MemoryDevice(4 << 20)
    with pytest.raises(CorruptError, match="no compatible roots found"):
        repair(MemoryDevice(content=_image(fixture_dir, f"{letter}/damaged/zeroed")), target)
    assert not any(target.content)


def test_a_held_snapshot_is_released(fixture_dir: Callable[[str], Path]) -> None:
    content, _ = _repair(_image(fixture_dir, "a/held"))
    assert superblock.decode(content).held_root == 0
    assert dumped(content) == dumped(_image(fixture_dir, "a/held"))


def test_what_is_asked_for_when_the_superblock_is_gone(fixture_dir: Callable[[str], Path]) -> None:
    content = bytearray(_image(fixture_dir, "a/clean"))
    content[:BLOCK_SIZE] = bytes(BLOCK_SIZE)
    for given in (Overrides(), Overrides(transaction_id=7, nr_data_blocks=8192)):
        with pytest.raises(UsageError, match="data block size needs to be provided due to corruption"):
            _repair(bytes(content), overrides=given)
    for wrong in (0, 64, 129, 2097280):
        with pytest.raises(UsageError, match=f"invalid data block size: {wrong} sectors"):
            _repair(bytes(content), overrides=Overrides(data_block_size=wrong))
    clean = _mappings(dumped(_image(fixture_dir, "a/clean")))
    needed = max(data for mappings in clean.values() for _, data, _ in mappings) + 1
    newest = max(
        one.transaction_id
        for one in Metadata.open(MemoryDevice(content=_image(fixture_dir, "a/clean"))).details.values()
    )
    for given, expected in (
        (A, (7, 128, 8192)),
        (Overrides(data_block_size=256), (newest + 1, 256, needed)),
        (Overrides(1, 128, 5), (newest, 128, needed)),
    ):
        repaired, _ = _repair(bytes(content), overrides=given)
        assert _mappings(dumped(repaired)) == clean
        fields = superblock.decode(repaired)
        assert (
            fields.transaction_id, fields.data_block_size, fields.data_sm_root.nr_blocks
        ) == expected  # fmt: skip


@pytest.mark.parametrize("name", ["a/clean", "c/clean"])
def test_without_superblock_the_newest_lists_are_found(fixture_dir: Callable[[str], Path], name: str) -> None:
    content = bytearray(_image(fixture_dir, name))
    fields = superblock.decode(bytes(content))
    given = Overrides(fields.transaction_id, fields.data_block_size, fields.data_sm_root.nr_blocks)
    content[:BLOCK_SIZE] = bytes(BLOCK_SIZE)
    repaired, report = _repair(bytes(content), overrides=given)
    assert dumped(repaired) == dumped(_image(fixture_dir, name))
    assert report.searched


def test_of_states_that_look_equally_new_the_expected_one_is_taken() -> None:
    """A deletion committed by itself, as the kernel does it, leaves nothing that is newer than before."""
    metadata = MemoryDevice(4 << 20)
    with Pool.create(metadata, MemoryDevice(64 << 20), chunk_size=64 << 10) as pool:
        pool.create_thin(1)
        with pool.open_volume(1, 1 << 20) as volume:
            volume.write(0, b"x" * (1 << 20))
        pool.commit()
        pool.create_snap(2, 1)
        pool.set_transaction_id(0, 1)
        pool.commit()
        pool.delete(1)
        pool.commit()
    content = bytes(BLOCK_SIZE) + bytes(metadata.content)[BLOCK_SIZE:]
    fallback = Overrides(1, 128, 1024)
    found = {
        frozenset(expected): sorted(
            _mappings(dumped(_repair(content, fallback=fallback, expected=expected)[0]))
        )
        for expected in ({2}, {1, 2}, {3}, set[int]())
    }
    assert found == {
        frozenset({2}): [2],
        frozenset({1, 2}): [1, 2],
        frozenset({3}): [1, 2],
        frozenset(): [1, 2],
    }


def test_the_repairing_dump_searches_too(fixture_dir: Callable[[str], Path]) -> None:
    found = recover(MemoryDevice(content=_image(fixture_dir, "a/damaged/mapping_root")))
    pieces: list[bytes] = []
    dump(found.metadata, pieces.append)
    assert plain(b"".join(pieces).decode()) == dumped(_image(fixture_dir, "a/clean"))


# -- damage at random ------------------------------------------------------------------------------


def _node(content: bytes, block: int, value_size: int) -> tuple[bool, list[tuple[int, bytes]]] | None:
    """(leaf?, entries) of a sound node, read the plain way."""
    raw = content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
    if len(raw) < BLOCK_SIZE or block_checksum(raw, NODE_XOR) != int.from_bytes(raw[:4], "little"):
        return None
    flags, number, count, limit, size = struct.unpack_from("<IQIII", raw, 4)
    if number != block or flags not in (1, 2) or size != (value_size if flags == 2 else 8):
        return None
    keys = struct.unpack_from(f"<{count}Q", raw, 32)
    start = 32 + 8 * limit
    return flags == 2, [
        (key, raw[start + size * place : start + size * place + size]) for place, key in enumerate(keys)
    ]


def _walk(content: bytes, block: int, value_size: int) -> dict[int, bytes]:
    """All entries that sound nodes lead to."""
    node = _node(content, block, value_size)
    if node is None:
        return {}
    leaf, entries = node
    if leaf:
        return dict(entries)
    found = {}
    for _, value in entries:
        found.update(_walk(content, int.from_bytes(value, "little"), value_size))
    return found


def _reachable(content: bytes) -> dict[int, set[tuple[int, int, int]]]:
    """What the superblock still leads to."""
    fields = superblock.decode(content)
    result = {}
    for dev_id, root in _walk(content, fields.mapping_root, 8).items():
        entries = _walk(content, int.from_bytes(root, "little"), 8)
        numbers = ((block, int.from_bytes(value, "little")) for block, value in entries.items())
        result[dev_id] = {(block, value >> 24, value & 0xFFFFFF) for block, value in numbers}
    return result


def _large(seed: int) -> bytes:
    """Trees of three levels that devices share, and some small ones."""
    source = random.Random(seed)
    lines = ['<superblock uuid="" time="9" transaction="3" data_block_size="128" nr_data_blocks="500000">']

    def run(begin: int, data: int) -> str:
        return f'<single_mapping origin_block="{begin}" data_block="{data}" time="{source.randint(0, 9)}"/>'

    lines.append('<def name="a">')
    lines += [run(2 * place, 3 * place) for place in range(66_000)]
    lines.append('</def><def name="b">')
    lines += [run(200_000 + 2 * place, 300_000 + place) for place in range(5000)]
    lines.append("</def>")
    for dev_id in range(12):
        lines.append(
            f'<device dev_id="{dev_id}" mapped_blocks="0" transaction="{dev_id % 4}" '
            f'creation_time="{dev_id % 9}" snap_time="{dev_id % 9}">'
        )
        if dev_id % 2:
            lines.append('<ref name="a"/>')
        if dev_id % 3:
            lines.append('<ref name="b"/>')
        lines += [run(300_000 + 5 * place, 310_000 + place * 60 + dev_id) for place in range(dev_id * 30)]
        lines.append("</device>")
    return _make("\n".join([*lines, "</superblock>"]), 8 << 20)


def _damage(content: bytes, blocks: list[int], source: random.Random) -> bytes:
    image = bytearray(content)
    for block in blocks:
        start = block * BLOCK_SIZE
        kind = source.choice(["flip", "zero", "noise", "elsewhere"])
        if kind == "flip":
            image[start + source.randrange(BLOCK_SIZE)] ^= 1 << source.randrange(8)
        elif kind == "zero":
            image[start : start + BLOCK_SIZE] = bytes(BLOCK_SIZE)
        elif kind == "noise":
            image[start : start + BLOCK_SIZE] = source.randbytes(BLOCK_SIZE)
        else:
            other = source.choice(blocks) * BLOCK_SIZE
            image[start : start + BLOCK_SIZE] = content[other : other + BLOCK_SIZE]
    return bytes(image)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_mapping_trees(seed: int) -> None:
    """Whatever is lost below the lists of devices, everything else is saved."""
    source = random.Random(seed)
    content = _large(3)
    fields = superblock.decode(content)
    lists = {0, fields.mapping_root, fields.details_root}
    blocks = [
        block for block in sealed_blocks(content) if block not in lists
        and kind_of(content[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE], block) == NODE_XOR
    ]  # fmt: skip
    count = source.choice([1, 3, 20, 150, len(blocks) // 2])
    damaged = _damage(content, source.sample(blocks, count), source)
    repaired, _ = _repair(damaged)
    assert _mappings(dumped(repaired)) == _reachable(damaged)


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere(fixture_dir: Callable[[str], Path], seed: int) -> None:
    source = random.Random(seed)
    name = source.choice(["a/clean", "a/held", "c/clean", "c/held"])
    content = _image(fixture_dir, name)
    blocks = sealed_blocks(content)
    damaged = _damage(content, source.sample(blocks, source.choice([1, 2, 5, 20, len(blocks) // 2])), source)
    fields = superblock.decode(content)
    given = Overrides(fields.transaction_id, fields.data_block_size, fields.data_sm_root.nr_blocks)
    try:
        repaired, _ = _repair(damaged, fallback=given)
    except CorruptError:
        # Both lists lost, and no older copy of either left.
        assert len(blocks) > 20
        return
    if not superblock.is_sealed(damaged[:BLOCK_SIZE]):
        return
    saved = _mappings(dumped(repaired))
    if _node(damaged, fields.mapping_root, 8):
        # Lost details cost no mapping, and of lost nodes there may be older copies.
        for dev_id, mappings in _reachable(damaged).items():
            assert mappings <= saved[dev_id]


@pytest.mark.parametrize("seed", range(25))
def test_sealed_nonsense(fixture_dir: Callable[[str], Path], seed: int) -> None:
    """Blocks that say false things under right checksums: never a traceback, never an unsound result."""
    source = random.Random(seed)
    image = bytearray(_image(fixture_dir, source.choice(["a/clean", "c/held"])))
    for _ in range(source.choice([1, 4, 15])):
        block = source.choice(sealed_blocks(bytes(image)))
        if kind_of(bytes(image[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]), block) is None:
            continue
        offset = source.choice(
            [4, 8, 16, 20, 24, 32, 40, 64, 320, 328, 336, 2048, 2056, source.randrange(8, 4088)]
        )
        value = source.choice([0, 1, 5, 1000, 1 << 23, (1 << 32) - 1, source.getrandbits(32)])
        change(image, block, [(offset, value.to_bytes(4, "little"))])
    with contextlib.suppress(LamellaError):
        _repair(bytes(image), fallback=A)


def test_so_much_lost_that_nodes_are_joined() -> None:
    content = _make(xml({dev_id: [(0, 0, 120_000, 1)] for dev_id in (1,)}, nr_data_blocks=200_000))
    metadata = Metadata.open(MemoryDevice(content=content))
    assert len(metadata.mappings(1)[0]) == 120_000
    node = _node(content, metadata.roots[1], 8)
    assert node is not None
    inner = [int.from_bytes(value, "little") for _, value in node[1]]
    assert len(inner) == 2
    image = bytearray(content)
    first = _node(content, inner[0], 8)
    assert first is not None
    for _, value in first[1][:200]:
        image[int.from_bytes(value, "little") * BLOCK_SIZE + 100] ^= 1
    repaired, report = _repair(bytes(image))
    assert _mappings(dumped(repaired)) == _reachable(bytes(image))
    [device] = report.incomplete
    assert (device.dev_id, device.expected) == (1, 120_000)
    assert 60_000 < device.saved < 120_000


def test_sharing_is_kept() -> None:
    """A damaged leaf that all devices share must not make a tree for each of them."""
    content = _large(5)
    before = check(MemoryDevice(content=content))
    assert before.superblock is not None
    leaf = None
    metadata = Metadata.open(MemoryDevice(content=content))
    block = metadata.roots[1]
    while leaf is None:
        node = _node(content, block, 8)
        assert node is not None
        if node[0]:
            leaf = block
        else:
            block = int.from_bytes(node[1][len(node[1]) // 2][1], "little")
    image = bytearray(content)
    image[leaf * BLOCK_SIZE + 99] ^= 4
    _, report = _repair(bytes(image))
    assert report.blocks <= before.superblock.metadata_sm_root.nr_allocated + 10
    assert len(report.incomplete) == 6


def test_mappings_past_the_data_device_are_left_out(fixture_dir: Callable[[str], Path]) -> None:
    content = bytearray(_image(fixture_dir, "a/clean"))
    clean = _mappings(dumped(bytes(content)))
    change(content, 0, [(64, (3000).to_bytes(8, "little"))])
    repaired, report = _repair(bytes(content))
    expected = {
        dev_id: {mapping for mapping in mappings if mapping[1] < 3000} for dev_id, mappings in clean.items()
    }
    assert _mappings(dumped(repaired)) == expected
    assert report.outside > 0
    pieces: list[bytes] = []
    dump(recover(MemoryDevice(content=bytes(content))).metadata, pieces.append)
    # What is dumped can be restored: nothing leads past the end, and each device's mappings are counted.
    target = MemoryDevice(len(content))
    assert restore_xml(io.BytesIO(b"".join(pieces)).read, target).corrected == []
    assert dumped(target) == dumped(repaired)


@pytest.mark.parametrize("given", [0, 2000, 8192, 9000])
def test_a_number_of_data_blocks_only_enlarges(fixture_dir: Callable[[str], Path], given: int) -> None:
    """thin-provisioning-tools 1.x takes the larger of what is given and what there is: no mapping is cut."""
    content = _image(fixture_dir, "a/clean")
    repaired, report = _repair(content, overrides=Overrides(nr_data_blocks=given, transaction_id=3))
    assert report.outside == 0
    assert _mappings(dumped(repaired)) == _mappings(dumped(content))
    fields = superblock.decode(repaired)
    assert (fields.data_sm_root.nr_blocks, fields.transaction_id) == (max(given, 8192), 7)


@pytest.mark.parametrize("wrong", [0, 3, (1 << 32) - 1, (1 << 64) - 1])
def test_a_number_of_data_blocks_that_cannot_be(fixture_dir: Callable[[str], Path], wrong: int) -> None:
    image = bytearray(_image(fixture_dir, "a/clean"))
    change(image, 0, [(64, wrong.to_bytes(8, "little"))])
    if wrong < 8192:
        with pytest.raises(CorruptError, match="lead past"):
            _repair(bytes(image))
    else:
        repaired, report = _repair(bytes(image))
        assert f"records {wrong} data blocks, more than its metadata can count" in str(report.problems)
        assert _mappings(dumped(repaired)) == _mappings(dumped(_image(fixture_dir, "a/clean")))
    repaired, _ = _repair(bytes(image), overrides=Overrides(nr_data_blocks=8192))
    assert dumped(repaired) == dumped(_image(fixture_dir, "a/clean"))


def test_a_circle_is_not_followed(fixture_dir: Callable[[str], Path]) -> None:
    image = bytearray(_image(fixture_dir, "a/clean"))
    fields = superblock.decode(bytes(image))
    node = _node(bytes(image), fields.mapping_root, 8)
    assert node is not None
    root = int.from_bytes(node[1][0][1], "little")
    change(image, root, [(4, (1).to_bytes(4, "little")), (16, (1).to_bytes(4, "little"))])
    change(image, root, [(32 + 252 * 8, root.to_bytes(8, "little"))])
    _repair(bytes(image))


# -- where it goes ---------------------------------------------------------------------------------


def test_never_in_place(fixture_dir: Callable[[str], Path]) -> None:
    device = MemoryDevice(content=_image(fixture_dir, "a/clean"))
    with pytest.raises(UsageError, match="in place"):
        repair(device, device)


def test_a_small_target_is_reported(fixture_dir: Callable[[str], Path]) -> None:
    content = _image(fixture_dir, "c/clean")
    with pytest.raises(NoSpaceError, match="too small"):
        repair(MemoryDevice(content=content), MemoryDevice(40 * BLOCK_SIZE))


def test_more_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _large(1)
    monkeypatch.setattr(metadata_builder, "BLOCKS_IN_MEMORY", 16)
    repaired, report = _repair(content)
    assert report.incomplete == []
    assert dumped(repaired) == dumped(content)


def test_a_disk_with_bad_sectors(fixture_dir: Callable[[str], Path], tmp_path: Path) -> None:
    from lamella.errors import DeviceIOError

    content = _image(fixture_dir, "a/clean")
    made = KernelMade.read(fixture_dir("thin-a.tar.zst") / "thin-a")

    class Bad(MemoryDevice):
        def read(self, offset: int, length: int) -> bytes:
            if offset <= made.leaf * BLOCK_SIZE < offset + length:
                raise DeviceIOError("cannot read memory", hint=None)
            return super().read(offset, length)

        def read_into(self, offset: int, buffer: object) -> None:
            view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a buffer
            view[:] = self.read(offset, len(view))

    target = MemoryDevice(len(content))
    report = repair(Bad(content=content), target)
    assert [device.dev_id for device in report.incomplete] == made.hit_devices
    assert check(target).problems == []


def test_the_real_tools_take_repaired_metadata(tool: Callable[[str], str], tmp_path: Path) -> None:
    source = random.Random(11)
    content = _large(3)
    fields = superblock.decode(content)
    blocks = [
        block
        for block in sealed_blocks(content)
        if block not in (0, fields.mapping_root, fields.details_root)
    ]
    repaired, _ = _repair(_damage(content, source.sample(blocks, 40), source))
    path = tmp_path / "repaired.bin"
    path.write_bytes(repaired)
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    theirs = subprocess.run([tool("thin_dump"), str(path)], check=True, capture_output=True, text=True).stdout
    assert plain(theirs) == dumped(repaired)
    with FileDevice(path, read_only=True) as device:
        assert block_checksum(device.read(0, BLOCK_SIZE), SUPERBLOCK_XOR)


def test_an_id_that_no_kernel_takes_is_told_and_left_out() -> None:
    """``MAX_DEV_ID`` of the kernel's dm-thin.c is 2^24 - 1; thin_restore refuses more as well."""
    image = bytearray(_make(xml({1: [(0, 0, 9, 1)], 5: [(0, 50, 9, 1)]})))
    fields = superblock.decode(bytes(image))
    for root in (fields.details_root, fields.mapping_root):
        change(image, root, [(40, (1 << 24).to_bytes(8, "little"))])
    assert "its id is more than 16777215" in str(check(MemoryDevice(content=bytes(image))).problems)
    repaired, report = _repair(bytes(image))
    assert list(_mappings(dumped(repaired))) == [1]
    assert "thin device 16777216: its id is more than 16777215" in "\n".join(map(str, report.problems.found))


@pytest.mark.parametrize("time", [(1 << 24) - 1, 1 << 24, (1 << 32) - 1])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_time_past_the_largest_is_told_and_lowered(time: int, sealed: bool) -> None:
    """A mapping has 24 bits for its time: dm-thin-metadata.c puts the pool's below a block number.

    The device's tree is from an older copy, so a write has to copy all that it maps.
    """
    content, blocks = _written_twice()
    image = bytearray(content)
    fields = superblock.decode(content)
    change(image, superblock.LOCATION, [(44, time.to_bytes(4, "little"))])
    change(image, fields.details_root, [(32 + 8 * max_entries(24) + 20, time.to_bytes(4, "little"))])
    image[blocks[0] * BLOCK_SIZE + 99] ^= 1
    image[0] ^= not sealed
    repaired, report = _repair(bytes(image), fallback=Overrides(data_block_size=128))
    told = f"superblock: its time {time} is more than 16777215, the largest"
    assert (told in map(str, report.problems.found)) == (time >= 1 << 24)
    assert superblock.decode(repaired).time == (1 << 24) - 1
    later = Metadata.open(MemoryDevice(content=repaired))
    later.load()
    assert later.details[1].snapshotted_time == 1 << 24
