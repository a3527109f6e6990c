# SPDX-License-Identifier: Apache-2.0
"""The check: the real kernel's metadata passes, each kind of damage is told with its place and reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.thin.format import superblock
from lamella.thin.format.node import DEVICE_DETAILS, headers
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools.check import CheckOptions, check
from tests.support.docker_stores import ALL
from tests.thin.kernel_made import KernelMade
from tests.thin.metadata_files import change, restore, xml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.docker_stores import DockerStores

SOUND = ("clean", "held", "damaged/needs_check", "damaged/transaction_id")
DAMAGED = {
    "bottom_leaf": ("mapping tree, block {}", "bad checksum in btree node"),
    "data_refcount_mismatch": ("data space map", "referred to 2 times, but counted 1"),
    "data_sm_bitmap_btree_root": ("data space map's index, block {}", "bad checksum in btree node"),
    "data_sm_refcount_root": ("data space map's overflow tree, block", "bad checksum in btree node"),
    "details_root": ("device details tree, block", "bad checksum in btree node"),
    "mapping_root": ("top level of the mapping tree, block", "bad checksum in btree node"),
    "meta_sm_index": ("metadata space map, block {}", "bad checksum in index block"),
    "sb_csum": ("superblock", "bad checksum in superblock"),
    "sb_magic": ("superblock", "magic is 27022011, wanted 27022010"),
    "zeroed": ("device details tree, block", "bad checksum in btree node"),
}


def _fixture(fixture_dir: Callable[[str], Path], letter: str, part: str) -> Path:
    return fixture_dir(f"thin-{letter}.tar.zst") / f"thin-{letter}" / part / "meta.bin"


@pytest.mark.parametrize("letter", ["a", "c"])
@pytest.mark.parametrize("part", SOUND)
def test_the_kernels_metadata_is_sound(fixture_dir: Callable[[str], Path], letter: str, part: str) -> None:
    with FileDevice(_fixture(fixture_dir, letter, part), read_only=True) as device:
        report = check(device)
        assert report.problems == []
        assert report.complete
        devices = Metadata.open(device).details
        assert report.devices == devices
    assert report.superblock is not None
    assert report.superblock.needs_check == ("needs_check" in part)


def test_a_really_failed_pool_needs_a_check_and_passes(fixture_dir: Callable[[str], Path]) -> None:
    path = fixture_dir("needscheck-real.tar.zst") / "needscheck-real" / "meta.bin"
    with FileDevice(path, read_only=True) as device:
        report = check(device)
    assert report.ok
    assert report.superblock is not None
    assert report.superblock.needs_check


@pytest.mark.parametrize(("mode", "fs", "state"), ALL)
def test_dockers_own_pool_is_sound(docker_store: DockerStores, mode: str, fs: str, state: str) -> None:
    store = docker_store(mode, fs, state)
    assert "exit code 0" in store.text("thin_check.txt")
    with store.halves() as (metadata, _):
        report = check(metadata)
        assert report.problems == []
        assert report.complete
        assert report.superblock is not None
        assert f"TRANSACTION_ID={report.superblock.transaction_id}\n" in store.text("thin_check.txt")
        assert sorted(report.devices) == store.devices
    listed = [line.split() for line in store.text("thin_ls.txt").splitlines()[1:]]
    assert {
        number: (found.creation_time, found.snapshotted_time) for number, found in report.devices.items()
    } == {int(number): (int(created), int(snapped)) for number, _, created, snapped in listed}


@pytest.mark.parametrize("letter", ["a", "c"])
@pytest.mark.parametrize("what", sorted(DAMAGED))
def test_damage_is_reported_with_place_and_reason(
    fixture_dir: Callable[[str], Path], letter: str, what: str
) -> None:
    path = _fixture(fixture_dir, letter, f"damaged/{what}")
    told = (path.parent / "WHAT").read_text()
    with FileDevice(path, read_only=True) as device:
        report = check(device)
    place, reason = DAMAGED[what]
    block = told.split("(block ")[1].split(")")[0] if "{}" in place else ""
    place = place.format(block)
    assert report.fatal
    assert any(
        problem.fatal and problem.place.startswith(place) and reason in problem.reason
        for problem in report.problems
    ), [str(problem) for problem in report.problems]


def test_devices_hit_by_damage_are_named(fixture_dir: Callable[[str], Path]) -> None:
    path = _fixture(fixture_dir, "a", "damaged/bottom_leaf")
    with FileDevice(path, read_only=True) as device:
        report = check(device)
    named = [problem.place for problem in report.problems if problem.place.startswith("thin device")]
    hit = KernelMade.read(path.parents[2]).hit_devices
    assert len(hit) == 2
    assert named == [f"thin device {number}" for number in hit]


@pytest.mark.parametrize("letter", ["a", "c"])
def test_leaks_are_not_fatal(fixture_dir: Callable[[str], Path], letter: str) -> None:
    """The real thin_check counts those of metadata blocks, and then looks no further."""
    path = _fixture(fixture_dir, letter, "damaged/leak_held_root")
    with FileDevice(path, read_only=True) as device:
        report = check(device)
    recorded = (path.parent / "thin_check.txt").read_text()
    assert not report.fatal
    assert not report.ok
    assert report.metadata_leaks == recorded.count("metadata reference counts differ") > 0
    assert report.data_leaks > 0


# -- options -----------------------------------------------------------------------------------------


def test_options_narrow_the_check(fixture_dir: Callable[[str], Path]) -> None:
    with FileDevice(_fixture(fixture_dir, "a", "damaged/details_root"), read_only=True) as device:
        assert check(device, CheckOptions(superblock_only=True)).ok
    with FileDevice(_fixture(fixture_dir, "a", "damaged/bottom_leaf"), read_only=True) as device:
        assert check(device, CheckOptions(skip_mappings=True)).ok
    with FileDevice(_fixture(fixture_dir, "a", "held"), read_only=True) as device:
        report = check(device, CheckOptions(snapshot=True))
        assert report.ok
        assert not report.complete
    with FileDevice(_fixture(fixture_dir, "a", "clean"), read_only=True) as device:
        report = check(device, CheckOptions(snapshot=True))
        assert "no current metadata snap" in str(report.problems[0])
        report = check(device, CheckOptions(transaction_id=8))
        assert str(report.problems[0]) == "superblock: transaction id is 7, expected 8"
        report = check(device, CheckOptions(data_blocks=8191))
        assert "8192 data blocks, but the data device only 8191" in str(report.problems[0])


def test_roots_can_be_overridden(fixture_dir: Callable[[str], Path]) -> None:
    with FileDevice(_fixture(fixture_dir, "a", "clean"), read_only=True) as device:
        fields = Metadata.open(device).superblock
        report = check(
            device, CheckOptions(mapping_root=fields.mapping_root, details_root=fields.details_root)
        )
        assert report.complete
        report = check(device, CheckOptions(mapping_root=fields.details_root))
        assert f"block {fields.details_root}: the node's values are not of 8 bytes" in str(report.problems[0])
        report = check(device, CheckOptions(details_root=2**64 - 1))
        assert "outside the metadata device" in str(report.problems[0])


# -- damage that keeps its checksums -------------------------------------------------------------------


@pytest.fixture
def image(tool: Callable[[str], str], tmp_path: Path) -> bytearray:
    """Two devices; blocks 0 to 99 shared by both, 0 to 9 three times because of device 3."""
    devices = {
        1: [(0, 0, 100, 1), (500, 1000, 400, 2)],
        2: [(0, 0, 100, 1), (700, 2000, 300, 3)],
        3: [(0, 0, 10, 1)],
    }
    return bytearray(restore(tool, xml(devices), tmp_path / "meta.bin").read_bytes())


def _fields(image: bytearray) -> superblock.Superblock:
    return superblock.unpack(bytes(image[:4096]), name="it")


def _root_of(image: bytearray, dev_id: int) -> int:
    return Metadata.open(MemoryDevice(content=bytes(image))).roots[dev_id]


def _check(image: bytearray, **options: int) -> list[str]:
    return [
        str(problem)
        for problem in check(MemoryDevice(content=bytes(image)), CheckOptions(**options)).problems
    ]


def test_restored_metadata_is_sound(image: bytearray) -> None:
    report = check(MemoryDevice(content=bytes(image)))
    assert report.problems == []
    assert report.mappings == 910
    assert sorted(report.devices) == [1, 2, 3]


def test_wrong_number_of_mappings(image: bytearray) -> None:
    fields = _fields(image)
    change(image, fields.details_root, [(32 + 126 * 8, (499).to_bytes(8, "little"))])
    assert _check(image) == ["thin device 1: it has 500 mappings, but its details say 499"]


def test_a_device_without_a_tree_and_a_tree_without_a_device(image: bytearray) -> None:
    change(image, _fields(image).details_root, [(32, (0).to_bytes(8, "little"))])
    assert _check(image) == [
        "thin device 0: it has details, but no mapping tree",
        "thin device 1: it has a mapping tree, but no details",
    ]


def test_data_outside_the_data_device(image: bytearray) -> None:
    root = _root_of(image, 3)
    change(image, root, [(32 + 252 * 8, (65536 << 24 | 1).to_bytes(8, "little"))])
    assert f"mapping tree, block {root}: it maps to data outside the data device of 65536 blocks" in _check(
        image
    )


def test_data_counts_too_low_and_too_high(image: bytearray) -> None:
    root = _root_of(image, 3)
    change(image, root, [(32 + 252 * 8 + 9 * 8, (40000 << 24 | 1).to_bytes(8, "little"))])
    assert _check(image) == [
        "data space map: data block 40000 is referred to 1 times, but counted 0",
        "data space map: data block 9 is referred to 2 times, but counted 3",
    ]


def test_a_shared_root_is_counted(image: bytearray) -> None:
    """Device 3 given device 2's tree: its own tree leaks, device 2's is referred to once too often."""
    fields = _fields(image)
    two, three = _root_of(image, 2), _root_of(image, 3)
    change(image, fields.mapping_root, [(32 + 252 * 8 + 16, two.to_bytes(8, "little"))])
    change(image, fields.details_root, [(32 + 126 * 8 + 48, (400).to_bytes(8, "little"))])
    told = _check(image)
    assert f"metadata space map: metadata block {two} is referred to 2 times, but counted 1" in told
    assert f"metadata space map: metadata block {three} is referred to 0 times, but counted 1" in told
    assert check(MemoryDevice(content=bytes(image))).fatal


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (4, 3, "the node is neither leaf nor internal"),
        (8, 1, "the node has another block's number"),
        (16, 253, "the node has more entries than its max_entries"),
        (20, 1000, "the node has more entries than a block holds"),
        (24, 16, "the node's values are not of 8 bytes"),
    ],
)
def test_node_headers(image: bytearray, offset: int, value: int, reason: str) -> None:
    root = _root_of(image, 1)
    change(image, root, [(offset, value.to_bytes(4, "little"))])
    assert any(reason in problem for problem in _check(image))


def test_bitmaps_and_index(image: bytearray) -> None:
    fields = _fields(image)
    entries = 32 + 168 * 8
    bitmap = int.from_bytes(image[fields.data_sm_root.bitmap_root * 4096 + entries :][:8], "little")
    spoiled = image.copy()
    spoiled[bitmap * 4096 + 100] ^= 1
    assert _check(spoiled)[0] == f"data space map, block {bitmap}: bad checksum in bitmap"
    spoiled = image.copy()
    change(spoiled, bitmap, [(8, (5).to_bytes(8, "little"))])
    assert "has another block's number" in _check(spoiled)[0]
    spoiled = image.copy()
    change(spoiled, fields.data_sm_root.bitmap_root, [(entries, (10**9).to_bytes(8, "little"))])
    assert "should be in block 1000000000, outside the device" in _check(spoiled)[0]
    spoiled = image.copy()
    change(spoiled, fields.data_sm_root.bitmap_root, [(entries + 8, (16320).to_bytes(4, "little"))])
    assert _check(spoiled) == ["data space map: 1 index entries claim more free blocks than there are"]
    spoiled = image.copy()
    change(spoiled, fields.data_sm_root.bitmap_root, [(16, (4).to_bytes(4, "little"))])
    assert "has not all entries for 65536 blocks" in _check(spoiled)[0]


def test_overflow_tree(image: bytearray) -> None:
    root = _fields(image).data_sm_root.ref_count_root
    row = np.frombuffer(bytes(image[root * 4096 :][:4096]), dtype=np.uint8).reshape(1, -1)
    assert headers(row)["nr_entries"][0] == 10
    change(image, root, [(16, (9).to_bytes(4, "little"))])
    assert "the overflow tree has no entry for data block 9" in _check(image)[0]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("metadata_sm_root.nr_blocks", 2**60),
        ("metadata_sm_root.nr_blocks", 2),
        ("data_sm_root.nr_blocks", 2**63),
        ("data_sm_root.ref_count_root", 2**64 - 1),
        ("metadata_sm_root.bitmap_root", 0),
        ("held_root", 2**50),
        ("held_root", 1),
        ("mapping_root", 2**64 - 1),
        ("details_root", 0),
        ("incompat_flags", 1),
    ],
)
def test_superblock_claims_too_much(image: bytearray, part: str, value: int) -> None:
    fields = _fields(image)
    name, _, within = part.partition(".")
    changed = replace(getattr(fields, name), **{within: value}) if within else value
    spoiled = image.copy()
    spoiled[:4096] = replace(fields, **{name: changed}).pack()
    report = check(MemoryDevice(content=bytes(spoiled)))
    assert report.fatal


def test_empty_and_tiny_devices() -> None:
    assert check(MemoryDevice(4095)).fatal
    report = check(MemoryDevice(1 << 20))
    assert str(report.problems[0]) == "superblock: bad checksum in superblock"
    assert DEVICE_DETAILS.itemsize == 24
