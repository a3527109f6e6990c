# SPDX-License-Identifier: Apache-2.0
"""Differences of volumes: against a plain model of Docker's rules, and applied again as a layer."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import UnsupportedError
from lamella.fs.difference import Change
from lamella.fs.entry import Entry, Kind
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.reader import Reader
from lamella.fs.ext4.tree import Tree
from lamella.fs.ranges import Ranges
from lamella.fs.tar.read import read_tar
from lamella.fs.tar.write import TarWriter
from tests.conftest import missing
from tests.fs.ext4.differences import differences, write_layer_tar, write_tree_tar
from tests.fs.ext4.tools import debugfs, unmount
from tests.fs.layers import Given, apply_layer
from tests.fs.trees import ROOT, by_path, host_entries, make_rich_tree, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CHUNK = 65536
NOW = 1_700_000_000 * 10**9


def copy(device: MemoryDevice, name: str = "copy") -> MemoryDevice:
    return MemoryDevice(content=bytes(device.content), name=name)


def changed_chunks(lower: MemoryDevice, upper: MemoryDevice) -> list[tuple[int, int]]:
    """What a thin pool would say about two snapshots."""
    one = np.frombuffer(lower.content, np.uint8).reshape(-1, CHUNK)
    other = np.frombuffer(upper.content, np.uint8).reshape(-1, CHUNK)
    return [(int(index) * CHUNK, CHUNK) for index in np.flatnonzero((one != other).any(axis=1))]


def tree_of(device: MemoryDevice | FileDevice) -> dict[bytes, tuple[Entry, bytes]]:
    """Everything in a volume by path, links as they are grouped."""
    reader = Reader.open(device)
    return {
        entry.path: (entry, b"".join(reader.read(entry.path)) if entry.kind is Kind.FILE else b"")
        for entry in plain(reader.walk())
    }


def docker_says(
    lower: dict[bytes, tuple[Entry, bytes]], upper: dict[bytes, tuple[Entry, bytes]]
) -> list[Change]:
    """Docker's rules, plainly: added, changed (with all directories above), deleted (topmost only)."""

    def resolved(tree: dict[bytes, tuple[Entry, bytes]], path: bytes) -> tuple[Entry, bytes]:
        entry, data = tree[path]
        if entry.kind is Kind.HARDLINK:
            first, data = tree[entry.target]
            entry = replace(first, path=path)
        if entry.kind is Kind.DIRECTORY:
            entry = replace(entry, mtime_ns=0)
        return entry, data

    found: dict[bytes, str] = {}
    for path in upper.keys() - {b""}:
        if path not in lower:
            found[path] = "A"
        elif resolved(lower, path) != resolved(upper, path):
            found[path] = "C"
    for path in lower.keys() - upper.keys():
        parent = path.rpartition(b"/")[0]
        if parent in upper and upper[parent][0].kind is Kind.DIRECTORY:
            found[path] = "D"
    for path in list(found):
        while path := path.rpartition(b"/")[0]:
            found.setdefault(path, "C")
    return [Change(kind, path) for path, kind in sorted(found.items(), key=lambda pair: b"/" + pair[0])]


def layer(lower: MemoryDevice, upper: MemoryDevice, ranges: list[tuple[int, int]] | None) -> bytes:
    out = io.BytesIO()
    count = write_layer_tar(lower, upper, out, changed=ranges)
    entries = [entry.path for entry, _ in read_tar(io.BytesIO(out.getvalue()))]
    assert len(entries) == count
    return out.getvalue()


def assert_difference_is_right(lower: MemoryDevice, upper: MemoryDevice) -> list[Change]:
    """Both ways to find it agree with the model, and the layer makes the one tree of the other."""
    before, after = tree_of(lower), tree_of(upper)
    expected = docker_says(before, after)
    ranges = changed_chunks(lower, upper)
    assert differences(lower, upper) == expected
    assert differences(lower, upper, changed=ranges) == expected
    for archive in (layer(lower, upper, None), layer(lower, upper, ranges)):
        again = copy(lower, "again")
        apply_layer(again, io.BytesIO(archive))
        made = tree_of(again)
        assert made.keys() == after.keys()
        for path, pair in after.items():
            assert made[path] == pair
    return expected


def file(path: bytes, data: bytes, mtime: int = NOW, **more: object) -> tuple[Entry, bytes]:
    return Entry(path, Kind.FILE, 0o644, mtime_ns=mtime, size=len(data), **more), data  # type: ignore[arg-type]  # any field


def edit(device: MemoryDevice, *steps: tuple[Entry, bytes] | Entry | bytes) -> MemoryDevice:
    """A copy with entries put and (plain paths) removed."""
    result = copy(device, "upper")
    with Tree.open(result) as tree:
        for step in steps:
            if isinstance(step, bytes):
                tree.remove(step, recursive=True)
            elif isinstance(step, Entry):
                tree.put(step)
            else:
                tree.put(step[0], Given(step[1]))
    return result


@pytest.fixture(scope="module")
def small_base() -> MemoryDevice:
    """A volume with only what random edits need."""
    device = MemoryDevice(4 << 20, name="lower")
    make_ext4(device, mkfs_args=["-O", "^has_journal"])
    return edit(
        device,
        *(Entry(path, Kind.DIRECTORY, 0o755, mtime_ns=1) for path in (b"a", b"bin", b"many")),
        *(
            file(path, path * 900, 2)
            for path in (b"a/x", b"bin/tool", b"small", b"many/005-yyyyy", b"many/6")
        ),
        Entry(b"zz-third-name", Kind.HARDLINK, target=b"small"),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> MemoryDevice:
    """A volume with the sample tree."""
    top = tmp_path_factory.mktemp("tree")
    make_rich_tree(top, large=False)
    out = io.BytesIO()
    with TarWriter(out) as writer:
        for entry in host_entries(top):
            data = b""
            if entry.kind is Kind.FILE:
                with open(os.fsencode(top) + b"/" + entry.path, "rb") as source:
                    data = source.read()
            writer.add(entry, [data])
    device = MemoryDevice(32 << 20, name="lower")
    make_ext4(device)
    apply_layer(device, io.BytesIO(out.getvalue()))
    return device


def test_nothing_changed(base: MemoryDevice) -> None:
    assert assert_difference_is_right(base, copy(base)) == []
    assert layer(base, copy(base), None) == bytes(1024)


def test_what_docker_shows(base: MemoryDevice) -> None:
    upper = edit(
        base,
        file(b"a/new", b"new"),
        file(b"bin/other", b"changed"),
        b"many/001-y",
        Entry(b"made/deeper", Kind.DIRECTORY, 0o755, mtime_ns=NOW),
        file(b"made/deeper/file", b"x"),
    )
    assert [str(change) for change in assert_difference_is_right(base, upper)] == [
        "C /a",
        "A /a/new",
        "C /bin",
        "C /bin/other",
        "A /made",
        "A /made/deeper",
        "A /made/deeper/file",
        "C /many",
        "D /many/001-y",
    ]


def test_types_replaced(base: MemoryDevice) -> None:
    upper = edit(
        base,
        file(b"many", b"a file now"),
        b"small",
        Entry(b"small", Kind.DIRECTORY, 0o700, mtime_ns=NOW),
        file(b"small/inside", b"x"),
        Entry(b"fifo", Kind.SYMLINK, 0o777, target=b"elsewhere", mtime_ns=NOW),
        Entry(b"bin", Kind.SYMLINK, 0o777, target=b"a", mtime_ns=NOW),
    )
    changes = [str(change) for change in assert_difference_is_right(base, upper)]
    assert "C /many" in changes
    assert "C /small" in changes
    assert "A /small/inside" in changes
    assert not any(change.startswith("D") for change in changes)


def test_a_directory_created_again_is_opaque(base: MemoryDevice) -> None:
    upper = edit(
        base, b"many", Entry(b"many", Kind.DIRECTORY, 0o755, mtime_ns=NOW), file(b"many/other", b"x")
    )
    assert_difference_is_right(base, upper)
    names = [entry.path for entry, _ in read_tar(io.BytesIO(layer(base, upper, None)))]
    assert names[names.index(b"many") :][:3] == [b"many", b"many/.wh..wh..opq", b"many/other"]
    assert not any(name.startswith(b"many/.wh.0") for name in names)


def test_hard_links_stay_together(base: MemoryDevice) -> None:
    """small, a/second-name and zz-third-name are one file: a new name of it brings them all."""
    upper = edit(base, Entry(b"bin/fourth", Kind.HARDLINK, target=b"small"))
    assert_difference_is_right(base, upper)
    entries = by_path(entry for entry, _ in read_tar(io.BytesIO(layer(base, upper, None))))
    group = [b"a/second-name", b"bin/fourth", b"small", b"zz-third-name"]
    assert [entries[name].kind for name in group] == [Kind.FILE, *[Kind.HARDLINK] * 3]
    assert {entries[name].target for name in group[1:]} == {b"a/second-name"}
    assert entries[b"a"].kind is Kind.DIRECTORY


def test_hard_links_that_part_or_meet_unseen(base: MemoryDevice) -> None:
    small = tree_of(base)[b"a/second-name"]
    apart = edit(base, b"small", (replace(small[0], path=b"small"), small[1]))
    assert_difference_is_right(base, apart)
    assert_difference_is_right(apart, base)
    one_left = edit(base, b"small", b"a/second-name")
    assert_difference_is_right(base, one_left)


def test_same_attributes_and_other_bytes(base: MemoryDevice) -> None:
    entry, data = tree_of(base)[b"one-block"]
    upper = edit(base, (entry, data[::-1]))
    assert Change("C", b"one-block") in assert_difference_is_right(base, upper)


def test_bytes_overwritten_behind_the_file_systems_back(base: MemoryDevice) -> None:
    """Only known ranges can tell: no attribute and no inode differs."""
    upper = copy(base)
    [(_, place, _)] = Reader.open(base).file_pieces(b"one-block")
    upper.content[place + 17] ^= 1
    assert differences(base, upper) == []
    assert differences(base, upper, changed=changed_chunks(base, upper)) == [Change("C", b"one-block")]


@pytest.mark.parametrize("path", [b"marked", b"a"])
def test_attributes_alone(base: MemoryDevice, path: bytes) -> None:
    tree = tree_of(base)
    entry, data = tree[path]
    for other in (
        replace(entry, mode=entry.mode ^ 0o001),
        replace(entry, uid=entry.uid + 1),
        replace(entry, xattrs={**entry.xattrs, b"security.capability": bytes(20)}),
    ):
        step = other if entry.kind is Kind.DIRECTORY else (other, data)
        assert Change("C", path) in assert_difference_is_right(base, edit(base, step))


def test_a_directorys_time_is_no_change_but_in_the_layer(base: MemoryDevice) -> None:
    entry, _ = tree_of(base)[b"many"]
    upper = edit(base, replace(entry, mtime_ns=NOW + 5))
    assert assert_difference_is_right(base, upper) == []
    assert [entry.path for entry, _ in read_tar(io.BytesIO(layer(base, upper, None)))] == [b"many"]


def test_a_time_whose_fraction_was_cut_off_is_no_change(base: MemoryDevice) -> None:
    """As Docker has it, because old layers carry whole seconds; the layer restores the time all the same."""
    lower = edit(base, file(b"a/timed", b"x", NOW))
    upper = edit(lower, file(b"a/timed", b"x", NOW + 5))
    assert differences(lower, upper) == []
    assert [entry.path for entry, _ in read_tar(io.BytesIO(layer(lower, upper, None)))] == [b"a", b"a/timed"]
    assert differences(upper, edit(upper, file(b"a/timed", b"x", NOW + 6))) != []


def test_access_times_do_not_count(base: MemoryDevice, tool: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(base.content)
    debugfs(tool, tmp_path / "image", "set_inode_field /small atime 20300101000000")
    upper = MemoryDevice(content=(tmp_path / "image").read_bytes())
    assert changed_chunks(base, upper)
    assert assert_difference_is_right(base, upper) == []


def test_names_that_a_layer_cannot_carry(base: MemoryDevice) -> None:
    upper = edit(base, file(b"a/.wh.x", b""))
    with pytest.raises(UnsupportedError, match=r"/a/\.wh\.x"):
        write_layer_tar(base, upper, io.BytesIO())


def test_volumes_of_different_origin(base: MemoryDevice) -> None:
    """Nothing can be told from inode numbers; content decides."""
    other = MemoryDevice(64 << 20, name="other")
    make_ext4(other)
    out = io.BytesIO()
    write_tree_tar(base, out)
    apply_layer(other, io.BytesIO(out.getvalue()))
    assert tree_of(other) == tree_of(base)
    assert differences(base, other) == []
    changed = edit(other, file(b"small", b"HELLO\n", mtime=tree_of(base)[b"a/second-name"][0].mtime_ns))
    assert Change("C", b"small") in differences(base, changed)


def test_a_grown_file_system(base: MemoryDevice) -> None:
    from lamella.fs.ext4.grow import grow_ext4

    upper = MemoryDevice(300 << 20, content=bytes(base.content), name="upper")
    grow_ext4(upper)
    assert differences(base, upper) == []
    with Tree.open(upper) as tree:
        tree.put(file(b"more", b"x")[0], Given(b"x"))
    assert differences(base, upper) == [Change("A", b"more")]


PATHS = [
    b"a",
    b"a/x",
    b"a/n",
    b"a/n/deep",
    b"bin",
    b"bin/tool",
    b"small",
    b"zz-third-name",
    b"many/005-yyyyy",
    b"q",
]
steps = st.one_of(
    st.tuples(st.just("file"), st.sampled_from(PATHS), st.binary(max_size=9000)),
    st.tuples(st.just("directory"), st.sampled_from(PATHS), st.integers(0, 0o7777)),
    st.tuples(st.just("symlink"), st.sampled_from(PATHS), st.just(b"target")),
    st.tuples(st.just("link"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("remove"), st.sampled_from(PATHS), st.none()),
)


def apply_steps(device: MemoryDevice, wanted: Iterable[tuple[str, bytes, object]]) -> MemoryDevice:
    """A copy with what makes sense of *wanted* done to it."""
    result = copy(device, "upper")
    with Tree.open(result) as tree:
        for number, (what, path, argument) in enumerate(wanted):
            parent = path.rpartition(b"/")[0]
            if tree.kind_of(parent) is not Kind.DIRECTORY:
                continue
            time = NOW + number * 10**9
            if what == "remove":
                if tree.kind_of(path) is not None:
                    tree.remove(path, recursive=True)
            elif what == "file":
                assert isinstance(argument, bytes)
                tree.put(file(path, argument, time)[0], Given(argument))
            elif what == "directory":
                assert isinstance(argument, int)
                tree.put(Entry(path, Kind.DIRECTORY, argument, mtime_ns=time))
            elif what == "symlink":
                tree.put(Entry(path, Kind.SYMLINK, 0o777, mtime_ns=time, target=b"target"))
            else:
                assert isinstance(argument, bytes)
                below = (argument + b"/").startswith(path + b"/")
                if tree.kind_of(argument) is Kind.FILE and not below:
                    tree.put(Entry(path, Kind.HARDLINK, target=argument))
    return result


@given(st.lists(steps, min_size=1, max_size=10), st.lists(steps, max_size=6))
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_edits(
    small_base: MemoryDevice, first: list[tuple[str, bytes, object]], second: list[tuple[str, bytes, object]]
) -> None:
    middle = apply_steps(small_base, first)
    assert_difference_is_right(small_base, middle)
    assert_difference_is_right(middle, apply_steps(middle, second))


def test_what_a_kernel_did(tmp_path: Path, base: MemoryDevice, tool: Callable[[str], str]) -> None:
    if not ROOT:
        pytest.skip("mounting needs root")
    tool("mount")
    image, point = tmp_path / "image", tmp_path / "point"
    image.write_bytes(base.content)
    point.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True).returncode:
        missing("a kernel that mounts ext4 through a loop device")
    try:
        (point / "a" / "x").write_text("in place")
        os.rename(point / "marked", point / "bin" / "moved")
        os.rename(point / "many", point / "renamed-folder")
        os.link(point / "small", point / "fifth")
        os.unlink(point / "zz-third-name")
        os.chmod(point / "one-block", 0o600)
        os.truncate(point / "bin" / "other", 10)
        (point / "fresh" / "deep").mkdir(parents=True)
        (point / "fresh" / "deep" / "leaf").write_bytes(random.Random(2).randbytes(200_000))
        with open(point / "sparse", "r+b") as sparse:
            sparse.seek(3 << 20)
            sparse.write(b"filled in")
    finally:
        unmount(point, image)
    upper = MemoryDevice(content=image.read_bytes(), name="upper")
    changes = {str(change) for change in assert_difference_is_right(base, upper)}
    assert changes >= {"C /a/x", "A /bin/moved", "D /marked", "D /many", "A /fifth", "D /zz-third-name"}


class TestExport:
    def test_a_whole_tree(self, base: MemoryDevice) -> None:
        out = io.BytesIO()
        count = write_tree_tar(base, out)
        found = {entry.path: entry for entry, _ in read_tar(io.BytesIO(out.getvalue()))}
        wanted = {path: entry for path, (entry, _) in tree_of(base).items()}
        assert found == wanted
        assert count == len(wanted)

    def test_a_part_of_it(self, base: MemoryDevice) -> None:
        out = io.BytesIO()
        write_tree_tar(base, out, b"/a/../a")
        names = [entry.path for entry, _ in read_tar(io.BytesIO(out.getvalue()))]
        assert names == [b"", b"second-name", b"up", b"x"]
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
            assert archive.getnames() == [".", "second-name", "up", "x"]

    def test_one_file(self, base: MemoryDevice) -> None:
        out = io.BytesIO()
        write_tree_tar(base, out, b"a/second-name")
        assert [(entry.path, payload.read()) for entry, payload in read_tar(io.BytesIO(out.getvalue()))] == [
            (b"second-name", b"hello\n")
        ]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10)), max_size=8),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)), min_size=1, max_size=5),
)
def test_ranges(pieces: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    ranges = Ranges(pieces)
    inside = {byte for offset, length in pieces for byte in range(offset, offset + length)}
    starts = np.array([start for start, _ in asked], np.int64)
    ends = np.array([start + length for start, length in asked], np.int64)
    for (start, length), found in zip(asked, ranges.overlap(starts, ends).tolist(), strict=True):
        wanted = inside & set(range(start, start + length))
        assert found == bool(wanted)
        assert {byte for a, b in ranges.inside(start, start + length) for byte in range(a, b)} == wanted
