# SPDX-License-Identifier: Apache-2.0
"""Metadata made from XML: the real tools take it, and dump what was put in; bad XML changes nothing."""

from __future__ import annotations

import io
import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.docker_stores.recipes import METADATA_SIZE

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import BadInputError, DeviceIOError, NoSpaceError
from lamella.thin.format import superblock
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.metadata.reader import Metadata
from lamella.thin.tools import metadata_builder
from lamella.thin.tools.check import check
from lamella.thin.tools.dump import dump
from lamella.thin.tools.header import Overrides
from lamella.thin.tools.restore import restore_xml
from tests.support.docker_stores import ALL
from tests.thin.metadata_files import DEVICE, END, ONE, SUPER, dumped, recorded_text, restore, xml
from tests.thin.plain_dumps import plain
from tests.thin.tools.test_leak_repair import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Buffer

    from lamella.thin.tools.restore import RestoreReport
    from tests.support.docker_stores import DockerStores


def _restore(text: str | bytes, size: int = 4 << 20, **options: object) -> tuple[MemoryDevice, RestoreReport]:
    target = MemoryDevice(size)
    raw = text.encode() if isinstance(text, str) else text
    report = restore_xml(io.BytesIO(raw).read, target, **options)  # type: ignore[arg-type]  # restore_xml's own
    return target, report


def _sound(device: MemoryDevice) -> bool:
    report = check(device)
    assert [str(problem) for problem in report.problems] == []
    return report.complete


RECORDED = [
    *(f"thin-{letter}/{part}" for letter in "ac" for part in ("clean", "held")),
    *(f"thin-{letter}/damaged/{part}" for letter in "ac" for part in ("needs_check", "transaction_id")),
    "needscheck-real",
]


@pytest.mark.parametrize("name", RECORDED)
def test_dumps_of_the_kernels_metadata(
    fixture_dir: Callable[[str], Path], tool: Callable[[str], str], tmp_path: Path, name: str
) -> None:
    text = recorded_text(fixture_dir(f"{name.split('/')[0]}.tar.zst") / name / "thin_dump.txt")
    path = tmp_path / "meta.bin"
    path.write_bytes(bytes(4 << 20))
    with FileDevice(path) as target:
        report = restore_xml(io.BytesIO(text.encode()).read, target)
        assert check(target).problems == []
    assert report.corrected == []
    assert f'nr_data_blocks="{report.header.nr_data_blocks}"' in text
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    again = subprocess.run([tool("thin_dump"), str(path)], check=True, capture_output=True, text=True).stdout
    # New metadata needs no check.
    assert plain(again) == text.replace('flags="1"', 'flags="0"')


@pytest.mark.parametrize(("mode", "fs", "state"), ALL)
def test_dockers_own_pool(
    docker_store: DockerStores, tool: Callable[[str], str], tmp_path: Path, mode: str, fs: str, state: str
) -> None:
    raw = docker_store(mode, fs, state).text("thin_dump.xml").encode()
    target, _ = _restore(raw, METADATA_SIZE[mode])
    path = tmp_path / "meta.bin"
    path.write_bytes(target.content)
    assert _sound(target)
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    theirs = subprocess.run([tool("thin_dump"), str(path)], capture_output=True, check=True, text=True).stdout
    assert plain(theirs) == plain(raw.decode())


DEVICES = st.dictionaries(
    st.integers(0, 2000) | st.just((1 << 24) - 1),
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 700), st.integers(0, 1999), st.integers(0, 9)),
        max_size=12,
    ),
    max_size=9,
)


def _devices(drawn: dict[int, list[tuple[int, int, int, int]]]) -> dict[int, list[tuple[int, int, int, int]]]:
    """Gaps made into places, neighbours that thin_dump would join kept apart."""
    made = {}
    for dev_id, runs in drawn.items():
        begin, placed = 0, []
        for gap, length, data, when in runs:
            begin += gap + 1
            placed.append((begin, data, length, when))
            begin += length
        made[dev_id] = placed
    return made


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEVICES)
def test_as_the_real_one_restores(
    tool: Callable[[str], str], tmp_path: Path, drawn: dict[int, list[tuple[int, int, int, int]]]
) -> None:
    text = xml(_devices(drawn), nr_data_blocks=2700)
    theirs = restore(tool, text, tmp_path / "theirs.bin")
    target, report = _restore(text)
    assert _sound(target)
    assert report.devices == len(drawn)
    assert dumped(target) == dumped(MemoryDevice(content=theirs.read_bytes())) == text
    fields = superblock.unpack(target.read(0, BLOCK_SIZE), name="ours")
    expected = superblock.unpack(theirs.read_bytes()[:BLOCK_SIZE], name="theirs")
    assert (fields.time, fields.transaction_id) == (expected.time, expected.transaction_id)
    assert fields.metadata_nr_blocks == expected.metadata_nr_blocks
    assert fields.data_sm_root.nr_allocated == expected.data_sm_root.nr_allocated


def test_many_devices_and_a_large_one(tool: Callable[[str], str], tmp_path: Path) -> None:
    devices: dict[int, list[tuple[int, int, int, int]]] = {
        dev_id: [(place * 3, 1000 * place + dev_id, 2, 4) for place in range(dev_id % 5)]
        for dev_id in range(1, 700)
    }
    devices[0] = [(place * 2, (place * 7919) % 300_000, 1, 1) for place in range(200_000)]
    text = xml(devices, nr_data_blocks=300_000)
    target, report = _restore(text, 16 << 20)
    assert _sound(target)
    assert dumped(target) == text
    # Leaves are full, so this is what it takes and hardly more.
    assert report.blocks < 700 + 200_000 // 252 + 60
    path = tmp_path / "meta.bin"
    path.write_bytes(target.content)
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    theirs = subprocess.run([tool("thin_dump"), str(path)], capture_output=True, check=True, text=True).stdout
    assert plain(theirs) == text


def _elements(runs: list[tuple[int, int, int, int]]) -> str:
    return "".join(
        f'<range_mapping origin_begin="{begin}" data_begin="{data}" length="{length}" time="{when}"/>\n'
        for begin, data, length, when in runs
    )


def _shared_xml(
    shared: dict[str, list[object]], devices: dict[int, list[object]], nr_data_blocks: int = 65536
) -> str:
    """Lists of runs and, as text, names of shared mappings."""
    lines = [
        '<superblock uuid="" time="9" transaction="3" flags="0" version="2" data_block_size="128" '
        f'nr_data_blocks="{nr_data_blocks}">'
    ]

    def body(parts: list[object]) -> str:
        return "".join(
            f'<ref name="{part}"/>' if isinstance(part, str) else _elements([part])  # type: ignore[list-item]  # a run
            for part in parts
        )

    lines += [f'<def name="{name}">{body(parts)}</def>' for name, parts in shared.items()]
    for dev_id, parts in devices.items():
        lines.append(
            f'<device dev_id="{dev_id}" mapped_blocks="0" transaction="1" creation_time="2" snap_time="3">'
            f"{body(parts)}</device>"
        )
    return "\n".join([*lines, "</superblock>"])


def _flat(parts: list[object], shared: dict[str, list[object]]) -> list[tuple[int, int, int, int]]:
    result: list[tuple[int, int, int, int]] = []
    for part in parts:
        if isinstance(part, str):
            result += _flat(shared[part], shared)
        else:
            result.append(part)  # type: ignore[arg-type]  # a run
    return result


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["own", "def", "nested"]), st.integers(1, 600)), min_size=1, max_size=7
    ),
    st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=5),
)
def test_shared_mappings(parts: list[tuple[str, int]], chosen: list[set[int]]) -> None:
    shared: dict[str, list[object]] = {}
    available: list[object] = []
    begin = 0
    for number, (kind, length) in enumerate(parts):
        run = (begin, begin, length, 1)
        if kind == "own":
            available.append(run)
        else:
            shared[f"d{number}"] = [run]
            if kind == "nested":
                inner: list[object] = [f"d{number}", (begin + length, begin + length, 3, 2)]
                shared[f"n{number}"] = inner
                begin += 3
            available.append(f"n{number}" if kind == "nested" else f"d{number}")
        begin += length + 1
    devices: dict[int, list[object]] = {
        dev_id: [part for place, part in enumerate(available) if place in places]
        for dev_id, places in enumerate(chosen)
    }
    target, report = _restore(_shared_xml(shared, devices))
    assert _sound(target)
    expected = xml({dev_id: _flat(content, shared) for dev_id, content in devices.items()})
    assert dumped(target) == expected
    assert report.mappings == sum(run[2] for one in devices.values() for run in _flat(one, shared))


def test_shared_leaves_are_written_once(tool: Callable[[str], str], tmp_path: Path) -> None:
    shared: dict[str, list[object]] = {"base": [(0, 0, 50_400, 1)]}
    devices: dict[int, list[object]] = {
        dev_id: ["base", (60_000, 51_000 + dev_id, 1, 2)] for dev_id in range(50)
    }
    target, report = _restore(_shared_xml(shared, devices), 2 << 20)
    assert _sound(target)
    # 200 shared leaves; each device takes the last one apart and has one node above.
    assert report.blocks < 200 + 50 * 3 + 20
    assert len(report.corrected) == 50
    path = tmp_path / "meta.bin"
    path.write_bytes(target.content)
    subprocess.run([tool("thin_check"), "-q", str(path)], check=True)
    fields = superblock.unpack(target.read(0, BLOCK_SIZE), name="it")
    assert fields.data_sm_root.nr_allocated == 50_400 + 50


def test_a_shared_leaf_alone_is_a_tree() -> None:
    target, _ = _restore(_shared_xml({"a": [(0, 0, 90, 1)]}, {1: ["a"], 2: ["a"]}))
    assert _sound(target)
    assert dumped(target) == xml({1: [(0, 0, 90, 1)], 2: [(0, 0, 90, 1)]})


def test_unused_shared_mappings_take_no_data() -> None:
    target, _ = _restore(_shared_xml({"a": [(0, 0, 500, 1)], "b": [(0, 100, 10, 1)]}, {1: ["b"]}))
    assert _sound(target)
    assert superblock.unpack(target.read(0, BLOCK_SIZE), name="it").data_sm_root.nr_allocated == 10


BAD = {
    "": "it is empty",
    "nonsense": "not understood",
    "<superblock": "middle of an element",
    "<device/>": "begins with device",
    SUPER: "ends before superblock",
    f"{SUPER}{DEVICE}": "ends before device",
    f"{SUPER}</superblock>more": "after the end",
    f"{SUPER}</device>": "not the last one opened",
    f"{SUPER}<foo/></superblock>": "unknown element foo",
    f"{SUPER}{ONE}</superblock>": "misplaced element single_mapping",
    f"{SUPER}{DEVICE}{DEVICE}</device>{END}": "misplaced element device",
    f"{SUPER}{DEVICE}text{END}": "not understood: 'text",
    f"{SUPER}{DEVICE}<single_mapping2 a='1'/>{END}": "unknown element single_mapping2",
    f"{SUPER}{DEVICE}</device>{DEVICE}{END}": "device 1 occurs twice",
    f"{SUPER}{DEVICE}<![CDATA[x]]>{END}": "character data",
    f"{SUPER}{DEVICE}<!-- a -- b -->{END}": "not understood",
    f'<!DOCTYPE a [<!ENTITY b "c">]>{SUPER}</superblock>': "document type",
    SUPER.replace('uuid=""', 'uuid="&b;"'): "entity '&b;' is refused",
    SUPER.replace('uuid=""', 'uuid="&#65;"'): "entity",
    SUPER.replace('uuid="" ', ""): "lacks attribute uuid",
    SUPER.replace('time="3"', 'time="3" time="3"'): "attribute time twice",
    SUPER.replace('time="3"', 'time="3" more="3"'): "unknown attribute more",
    SUPER.replace('time="3"', 'time="-3"'): "time is '-3'",
    SUPER.replace('time="3"', 'time=" 3"'): "time is ' 3'",
    SUPER.replace('time="3"', 'time="\u0663"'): "time is",
    SUPER.replace('time="3"', 'time="4294967296"'): "from 0 to 4294967295",
    SUPER.replace('time="3"', f'time="{"9" * 5000}"'): "not a number",
    SUPER.replace('"128"', '"0"'): "invalid data block size: 0 sectors",
    SUPER.replace('"128"', '"64"'): "invalid data block size: 64 sectors",
    SUPER.replace('"128"', '"192"'): "invalid data block size: 192 sectors",
    SUPER.replace('"128"', '"2097280"'): "invalid data block size: 2097280 sectors",
    f"{SUPER}{DEVICE.replace('1', '16777216', 1)}{END}": "device id 16777216 is more than .* 16777215",
    SUPER.replace('"1000"', f'"{1 << 60}"'): "no metadata can describe",
    f"{SUPER}{DEVICE}{ONE.replace('7', '1000')}{END}": r"beyond end of data device \(1000 >= 1000\)",
    f"{SUPER}{DEVICE}{ONE}{ONE}{END}": "block 5 is mapped after block 5",
    f"{SUPER}{DEVICE}{ONE}{ONE.replace('5', '4')}{END}": "block 4 is mapped after block 5",
    f"{SUPER}{DEVICE}{_elements([(0, 0, 0, 0)])}{END}": "length 0",
    f"{SUPER}{DEVICE}{_elements([(0, 999, 2, 0)])}{END}": "beyond end",
    f"{SUPER}{DEVICE}{_elements([(0, 5, (1 << 64) - 1, 0)])}{END}": "beyond end",
    f"{SUPER}{DEVICE}{_elements([((1 << 64) - 1, 0, 2, 0)])}{END}": "past 2",
    f"{SUPER}{DEVICE}{_elements([(0, 0, 10, 0), (9, 20, 1, 0)])}{END}": "block 9 is mapped after block 9",
    f"{SUPER}{DEVICE}{ONE.replace('time=', 'time2=')}{END}": "unknown attribute time2",
    f"{SUPER}{DEVICE}{ONE.replace('1', '16777216')}{END}": "from 0 to 16777215",
    f'{SUPER}{DEVICE}<ref name="x"/>{END}': "no def 'x'",
    f'{SUPER}<def name="x"><ref name="x"/></def></superblock>': "no def 'x'",
    f'{SUPER}<def name="x"/><def name="x"/></superblock>': "def 'x' occurs twice",
    f'{SUPER}<def name="x">{ONE}</def>{DEVICE}{ONE}<ref name="x"/>{END}': "mapped after",
    f'{SUPER}<def name="x">{ONE}</def>{DEVICE}<ref name="x"/>{ONE}{END}': "mapped after",
}


@pytest.mark.parametrize("text", BAD, ids=[re.sub(r"\W+", "-", reason) for reason in BAD.values()])
def test_bad_xml_is_refused_and_nothing_written(text: str) -> None:
    before = _restore(xml({1: [(0, 0, 9, 1)]}))[0]
    device = Recorder(bytes(before.content))
    with pytest.raises(BadInputError, match=BAD[text]):
        restore_xml(io.BytesIO(text.encode()).read, device)
    assert device.log == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(BadInputError):
        _restore(f"{SUPER}</superblock>".encode(encoding))


def test_comments_and_a_byte_order_mark_are_accepted() -> None:
    target, _ = _restore(f"\ufeff<?xml version='1.0'?>\n<!-- by hand -->{SUPER}</superblock>\n<!-- end -->")
    assert _sound(target)


def test_what_the_header_may_leave_out() -> None:
    text = '<superblock time="1" uuid="&lt;a&gt;" transaction="2" nr_data_blocks="9" data_block_size="128"/>'
    target, report = _restore(text)
    assert _sound(target)
    assert (report.header.version, report.header.flags, report.header.data_block_size) == (2, 0, 128)


def test_overrides_go_first() -> None:
    text = xml({1: [(0, 0, 9, 1)]}, nr_data_blocks=5)
    with pytest.raises(BadInputError, match="beyond end"):
        _restore(text)
    target, _ = _restore(text, overrides=Overrides(77, 256, 4000))
    assert 'transaction="77"' in dumped(target)
    assert 'data_block_size="256" nr_data_blocks="4000"' in dumped(target)


def test_wrong_counts_of_mapped_blocks_are_corrected() -> None:
    device = DEVICE.replace('mapped_blocks="1"', 'mapped_blocks="9"')
    target, report = _restore(f"{SUPER}{device}{ONE}{END}")
    assert _sound(target)
    assert report.corrected == [(1, 9, 1)]


@pytest.mark.parametrize("size", [BLOCK_SIZE, 10 * BLOCK_SIZE, 100 * BLOCK_SIZE])
@pytest.mark.parametrize("blocks", [600, 50_000, 1 << 40])
def test_a_small_target_is_reported_the_size_it_needs(size: int, blocks: int) -> None:
    text = _shared_xml(
        {"a": [(0, 0, 500, 1)]}, {1: ["a", (500, 500, blocks - 500, 1)], 2: ["a"], 3: []}, blocks
    )
    device = Recorder(bytes(size))
    if (size, blocks) == (100 * BLOCK_SIZE, 600):
        restore_xml(io.BytesIO(text.encode()).read, device)
        return
    if blocks > 1 << 36:
        with pytest.raises((BadInputError, NoSpaceError), match=r"more than a pool can have|no metadata can"):
            restore_xml(io.BytesIO(text.encode()).read, device)
        return
    with pytest.raises(NoSpaceError, match="too small") as error:
        restore_xml(io.BytesIO(text.encode()).read, device)
    assert device.log == []
    needed = int(re.findall(r"(\d+) are needed", error.value.message)[0])
    target, report = _restore(text, needed)
    assert _sound(target)
    assert needed <= (report.blocks + 3) * BLOCK_SIZE * 1.25


def test_no_more_blocks_than_metadata_can_have_are_used() -> None:
    class Huge(MemoryDevice):
        def __init__(self) -> None:
            super().__init__(4 << 20)
            self.size = 1 << 40

    with Huge() as target:
        restore_xml(io.BytesIO(xml({1: [(0, 0, 9, 1)]}).encode()).read, target)
        fields = superblock.unpack(target.read(0, BLOCK_SIZE), name="it")
    assert fields.metadata_sm_root.nr_blocks == 255 * 16320


def test_the_superblock_comes_last() -> None:
    old = bytes(_restore(xml({7: [(0, 0, 900, 1)]}))[0].content)
    device = Recorder(old)
    restore_xml(io.BytesIO(xml({1: [(0, 5, 600, 1)]}).encode()).read, device)
    assert device.log[-1] is None
    assert device.log[-2] is not None
    assert device.log[-2][0] == 0
    assert device.log[-3] is None
    writes = [entry for entry in device.log if entry]
    image = bytearray(old)
    for offset, data in writes[:-1]:
        image[offset : offset + len(data)] = data
        # Neither the old pool, half overwritten, nor a blank device to be formatted.
        assert superblock.faults(bytes(image[:BLOCK_SIZE]))
        assert any(image[:BLOCK_SIZE])


def test_metadata_larger_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shared_xml(
        {"a": [(0, 0, 5000, 1)]}, {1: ["a", (5001, 6000, 1, 1)], 2: ["a", (7000, 7000, 999, 2)]}
    )
    expected = dumped(_restore(text)[0])
    monkeypatch.setattr(metadata_builder, "BLOCKS_IN_MEMORY", 5)
    monkeypatch.setattr(metadata_builder, "NODES_AT_ONCE", 3)
    target, _ = _restore(text)
    assert _sound(target)
    assert dumped(target) == expected
    old = MemoryDevice(content=bytes(target.content))
    with pytest.raises(BadInputError):
        restore_xml(io.BytesIO(text[:-20].encode()).read, old)
    assert superblock.faults(old.read(0, BLOCK_SIZE)) == ["bad checksum in superblock"]
    assert old.read(0, 8) == b"Metadata"


class Failing(MemoryDevice):
    def __init__(self, size: int, writes: int) -> None:
        super().__init__(size)
        self.writes = writes

    def write(self, offset: int, data: Buffer) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise DeviceIOError("cannot write to memory", hint=None)
        super().write(offset, data)


def test_a_disk_that_fails_leaves_no_superblock() -> None:
    text = xml({1: [(0, 5, 600, 1)]}).encode()
    for writes in range(3):
        target = Failing(4 << 20, writes)
        with pytest.raises(DeviceIOError):
            restore_xml(io.BytesIO(text).read, target)
        assert superblock.faults(target.read(0, BLOCK_SIZE))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_text_is_refused_or_restored_soundly(data: st.DataObject) -> None:
    base = xml({1: [(0, 0, 9, 1), (20, 30, 1, 2)], 2: [(5, 100, 400, 3)]}, nr_data_blocks=1000).encode()
    text = bytearray(base)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(text) - 1, 0)))
        if not text:
            break
        kind = data.draw(st.sampled_from(["set", "delete", "insert", "cut", "repeat"]))
        if kind == "set":
            text[place] = data.draw(st.integers(0, 255))
        elif kind == "delete":
            del text[place : place + data.draw(st.integers(1, 30))]
        elif kind == "insert":
            text[place:place] = data.draw(st.binary(max_size=6) | st.sampled_from([b"<", b'"', b"9" * 19]))
        elif kind == "cut":
            del text[max(place, 1) :]
        else:
            text[place:place] = text[place : place + data.draw(st.integers(1, 200))]
    try:
        target, _ = _restore(bytes(text), 1 << 20)
    except (BadInputError, NoSpaceError):
        return
    assert _sound(target)


def test_many_snapshots_fit_where_they_came_from() -> None:
    """60 snapshots that share nearly all: their dump is small, and its copy no larger than the original."""
    source = random.Random(4)
    places = source.sample(range(1_000_000), 40_000)
    content = {place: number for number, place in enumerate(places)}
    base = sorted(content.items())
    lines = [SUPER.replace('"1000"', '"70000"'), '<def name="base">']
    lines += [f'<single_mapping origin_block="{a}" data_block="{b}" time="1"/>' for a, b in base]
    lines.append("</def>")
    for dev_id in range(60):
        lines.append(DEVICE.replace('"1"', f'"{dev_id}"', 1))
        lines.append('<ref name="base"/>')
        lines.append(
            f'<single_mapping origin_block="{1_000_000 + dev_id}" data_block="{60_000 + dev_id}" time="2"/>'
        )
        lines.append("</device>")
    first, report = _restore("\n".join([*lines, "</superblock>"]), 8 << 20)
    assert _sound(first)
    pieces: list[bytes] = []
    dump(Metadata.open(first), pieces.append)
    text = b"".join(pieces)
    assert len(text) < 4 << 20 < 60 * 40_000 * 50
    assert text.count(b"<def ") == 1
    again, second = _restore(text, 8 << 20)
    assert _sound(again)
    assert second.blocks <= report.blocks
    assert dumped(again) == dumped(first)
    third, _ = _restore(text, report.blocks * BLOCK_SIZE)
    assert _sound(third)


def test_trees_share_their_upper_nodes_too() -> None:
    """Snapshots of a large device: one leaf of its own each, and the internal nodes between are shared."""
    shared: dict[str, list[object]] = {
        f"part{place}": [(place * 1000, place * 252, 252, 1)] for place in range(3000)
    }
    devices: dict[int, list[object]] = {}
    for dev_id in range(40):
        parts: list[object] = [f"part{place}" for place in range(3000)]
        parts[dev_id * 70] = (dev_id * 70_000, 800_000 + dev_id * 252, 252, 2)
        # What is inserted moves everything after it.
        parts.insert(dev_id * 70, (dev_id * 70_000 - 500 if dev_id else 500, 900_000 + dev_id * 100, 100, 2))
        if not dev_id:
            parts = [f"part{place}" for place in range(3000)]
        devices[dev_id] = parts
    target, report = _restore(_shared_xml(shared, devices, 1_000_000), 32 << 20)
    assert _sound(target)
    # 3000 leaves and some 20 nodes above them; each device has its own few, not 20.
    assert report.blocks < 3000 + 40 * 9 + 200


def test_a_small_shared_leaf_is_written_once() -> None:
    """60 snapshots of a device with 50 mappings have one tree, as they had before."""
    shared: dict[str, list[object]] = {"few": [(0, 0, 50, 1)]}
    target, report = _restore(_shared_xml(shared, {dev_id: ["few"] for dev_id in range(60)}))
    assert _sound(target)
    assert report.blocks < 20
    assert dumped(target) == xml({dev_id: [(0, 0, 50, 1)] for dev_id in range(60)})
    # Beside other mappings it has to be taken apart.
    target, _ = _restore(_shared_xml(shared, {1: ["few", (60, 60, 9, 1)], 2: ["few"], 3: ["few"]}))
    assert _sound(target)
    assert dumped(target) == xml({1: [(0, 0, 50, 1), (60, 60, 9, 1)], 2: [(0, 0, 50, 1)], 3: [(0, 0, 50, 1)]})


def test_what_1_x_writes_for_a_held_snapshot_is_read() -> None:
    text = SUPER.replace('nr_data_blocks="1000"', 'nr_data_blocks="1000" metadata_snap="7"')
    target, _ = _restore(f"{text}</superblock>")
    assert superblock.unpack(target.read(0, BLOCK_SIZE), name="it").held_root == 0
