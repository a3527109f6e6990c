# SPDX-License-Identifier: Apache-2.0
"""Layers into a mounted tree, and out of it: as GNU tar, umoci and our own ext4 have it."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.block import MemoryDevice
from lamella.errors import BadInputError, ExistsError, LamellaError, NoSpaceError, NotFoundError
from lamella.fs.difference import list_changes, write_layer, write_tree
from lamella.fs.entry import Entry, Kind
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.reader import Reader
from lamella.fs.layer import apply_layer
from lamella.fs.mounted.dirfds import OPEN_DIRECTORIES
from lamella.fs.mounted.pair import DirectoryPair
from lamella.fs.mounted.reader import DirectoryReader
from lamella.fs.mounted.tree import DirectoryTree
from lamella.fs.tar.split import TarSplitWriter, reassemble
from tests.fs.ext4.differences import write_layer_tar
from tests.fs.ext4.tools import MIB, names, tree_of
from tests.fs.layers import (
    BASE,
    EVERYTHING,
    HOSTILE_LAYERS,
    MTIME,
    SECOND,
    SECOND_LAYERS,
    layer,
    unpack_by_umoci,
)
from tests.fs.layers import apply_layer as apply_to_ext4
from tests.fs.trees import by_path, host_entries, make_rich_tree, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.fs.mounted.reader import Inode
    from lamella.fs.reader import TreeReader

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may give files to others and make device nodes"
)


@contextmanager
def opened(root: Path) -> Iterator[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def apply(root: Path, *tars: bytes) -> None:
    root.mkdir(exist_ok=True)
    for tar in tars:
        with opened(root) as descriptor:
            apply_layer(DirectoryTree(descriptor, str(root)), io.BytesIO(tar))


def content(reader: TreeReader[Inode] | Reader) -> dict[bytes, tuple[Entry, bytes]]:
    return {
        entry.path: (entry, b"".join(reader.read(entry.path)) if entry.kind is Kind.FILE else b"")
        for entry in plain(reader.walk())
    }


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_everything_comes_out_as_gnu_tar_extracts_it(tmp_path: Path) -> None:
    source, want, have = (tmp_path / name for name in ("source", "want", "have"))
    source.mkdir()
    want.mkdir()
    make_rich_tree(source, far=True)
    tar = tmp_path / "layer.tar"
    flags = ["--xattrs", "--xattrs-include=*", "--acls"]
    subprocess.run(
        ["tar", *flags, "-S", "--format=posix", "-cf", str(tar), "-C", str(source), "."], check=True
    )
    subprocess.run(["tar", *flags, "-xpf", str(tar), "-C", str(want)], check=True, capture_output=True)
    before = descriptors()
    apply(have, tar.read_bytes())
    assert descriptors() == before
    expected, found = tree_of(want), tree_of(have)
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name] == expected[name], name
    with DirectoryReader.open(have) as reader:
        assert plain(reader.walk()) == plain(host_entries(source))
        out = io.BytesIO()
        write_tree(reader, out)
    again = tmp_path / "again"
    apply(again, out.getvalue())
    assert plain(host_entries(again)) == plain(host_entries(source))
    apply(again, out.getvalue())  # a second time over
    assert plain(host_entries(again)) == plain(host_entries(source))


@pytest.mark.parametrize(("items", "added", "gone"), SECOND_LAYERS)
def test_a_second_layer(
    tmp_path: Path, items: list[tuple[str, ...]], added: set[str], gone: set[str]
) -> None:
    apply(tmp_path / "t", BASE, layer(*items))
    assert names(tmp_path / "t") == EVERYTHING - gone | added


@pytest.mark.parametrize(("items", "said"), HOSTILE_LAYERS)
def test_what_a_hostile_layer_gets(tmp_path: Path, items: list[tuple[str, ...]], said: str) -> None:
    apply(tmp_path / "t", BASE)
    with pytest.raises(BadInputError, match=said):
        apply(tmp_path / "t", layer(*items))
    assert names(tmp_path / "t") == EVERYTHING


@pytest.mark.parametrize(
    "attack",
    [
        [("abs/kept", "f", b"evil")],
        [("up/kept", "f", b"evil")],
        [("file", "f", b"evil")],
        [("abs", "d"), ("abs/new", "f")],
        [("up/.wh.kept", "f")],
        [("up/.wh..wh..opq", "f")],
        [("hard", "h", "file")],
        [("x", "h", "up/../../outside/kept")],
    ],
)
def test_nothing_outside_is_touched(tmp_path: Path, attack: list[tuple[object, ...]]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    status = outside.stat(), (outside / "kept").stat()
    links = [("abs", "l", str(outside)), ("up", "l", "../outside"), ("file", "l", str(outside / "kept"))]
    apply(tmp_path / "t", layer(*links))
    try:
        apply(tmp_path / "t", layer(*attack))
    except BadInputError:
        pass
    assert (outside.stat(), (outside / "kept").stat()) == status
    assert (outside / "kept").read_text() == "kept"
    assert os.listdir(outside) == ["kept"]


def test_parents_keep_their_times_and_missing_ones_are_plain(tmp_path: Path) -> None:
    root = tmp_path / "t"
    apply(root, BASE, layer(("d/new", "f"), ("d/.wh.a", "f"), ("made/here", "f"), mtime=5))
    assert (root / "d").stat().st_mtime == MTIME
    made = (root / "made").stat()
    assert (made.st_mode, made.st_uid, made.st_gid) == (0o40755, 0, 0)
    assert made.st_mtime > MTIME


def test_groups_and_acls_are_not_inherited(tmp_path: Path) -> None:
    """A new file in a directory with setgid or a default ACL would get of both; a layer says otherwise."""
    root = tmp_path / "t"
    items: list[tuple[str, ...] | tuple[str, str, bytes]]
    items = [("s/d", "d"), ("s/f", "f", b"x"), ("s/l", "l", "f"), ("s/p", "p"), ("s/made/f", "f")]
    apply(root, layer(("s", "d")))
    os.chown(root / "s", 0, 4321)
    (root / "s").chmod(0o2777)
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx,o::---", str(root / "s")], check=True)
    subprocess.run(["setfacl", "-m", "u:1000:rwx", str(root / "s")], check=True)
    apply(root, layer(*items))
    for name in ("d", "f", "l", "p", "made", "made/f"):
        found = os.lstat(root / "s" / name)
        assert (found.st_uid, found.st_gid) == (0, 0), name
        assert os.listxattr(root / "s" / name, follow_symlinks=False) == [], name
    assert stat.S_IMODE(os.stat(root / "s/d").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(root / "s/f").st_mode) == 0o644
    assert stat.S_IMODE(os.stat(root / "s/made").st_mode) == 0o755


def test_any_umask_gives_the_same_modes(tmp_path: Path) -> None:
    old = os.umask(0o777)
    try:
        apply(tmp_path / "t", layer(("d", "d"), ("d/f", "f", b"1"), ("i/f", "f")))
    finally:
        os.umask(old)
    modes = {name: stat.S_IMODE(os.lstat(tmp_path / "t" / name).st_mode) for name in ("d", "d/f", "i", "i/f")}
    assert modes == {"d": 0o755, "d/f": 0o644, "i": 0o755, "i/f": 0o644}


def test_umoci_unpacks_the_same(tmp_path: Path, tool: Callable[[str], str]) -> None:
    unpacked = unpack_by_umoci(tool("umoci"), tmp_path, BASE, SECOND)
    apply(tmp_path / "t", BASE, SECOND)
    have, want = tree_of(tmp_path / "t"), tree_of(unpacked)
    for tree in (have, want):
        for name in (b".", b"./etc"):  # implied
            tree.pop(name)
    assert have == want


def test_directories_deeper_than_a_path_may_be(tmp_path: Path) -> None:
    """As many as a layer can make, more than are held open, and removed again."""
    root = tmp_path / "t"
    deep = "/".join(["x"] * 2000)
    assert deep.count("/") > OPEN_DIRECTORIES
    apply(root, layer((deep + "/leaf", "f", b"leaf"), ("other", "h", deep + "/leaf"), (deep, "d")))
    with DirectoryReader.open(root) as reader:
        assert b"".join(reader.read(deep.encode() + b"/leaf")) == b"leaf"
        assert sum(1 for _ in reader.walk()) == 2003
    apply(root, layer((".wh.x", "f"), ("other", "f", b"new")))
    assert names(root) == {"other"}


def test_edits(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with opened(tmp_path / "t") as root, DirectoryTree(root, "t") as tree:
        assert tree.put(Entry(b"a/b", Kind.FILE, 0o600)) == b"a/b"
        tree.put(Entry(b"l", Kind.SYMLINK, target=b"a"))
        assert tree.put(Entry(b"l/c", Kind.SOCKET, 0o700)) == b"a/c"
        tree.make_directory(b"m/n")
        assert [tree.kind_of(path) for path in (b"", b"a", b"l", b"l/c", b"nothing", b"a/b/c")] == [
            Kind.DIRECTORY, Kind.DIRECTORY, Kind.SYMLINK, Kind.SOCKET, None, None,
        ]  # fmt: skip
        with pytest.raises(ExistsError, match="not empty"):
            tree.remove(b"m")
        with pytest.raises(NotFoundError, match="nothing"):
            tree.remove(b"nothing")
        tree.remove(b"m", recursive=True)
        tree.remove(b"a/b")
        with pytest.raises(NoSpaceError, match="too long"):
            tree.put(Entry(b"long", Kind.SYMLINK, target=b"x" * 5000))
    assert names(tmp_path / "t") == {"a", "a/c", "l"}


def test_dots_at_the_end_of_a_path_name_nothing(tmp_path: Path) -> None:
    """``..`` of a root is what lies outside of it, and ``.`` would be removed behind its own back."""
    (tmp_path / "t" / "a" / "b").mkdir(parents=True)
    with opened(tmp_path / "t") as root, DirectoryTree(root, "t") as tree:
        for path in (b"..", b".", b"a/..", b"a/.", b"a/", b"a/b/../..", b"x\0y", b"a/" + b"n" * 300):
            assert tree.kind_of(path) is None, path
            tree.whiteout(path)
            with pytest.raises(NotFoundError):
                tree.remove(path, recursive=True)
            with pytest.raises(BadInputError, match="which does not exist"):
                tree.put(Entry(b"link", Kind.HARDLINK, target=path))
    assert names(tmp_path / "t") == {"a", "a/b"}


@pytest.mark.parametrize("seconds", [10**19 - 1, -(10**19) + 1, 1 << 62, 1 << 95])
def test_times_beyond_what_a_kernel_takes(tmp_path: Path, seconds: int) -> None:
    (tmp_path / "t").mkdir()
    when = seconds * 10**9 + 5
    with opened(tmp_path / "t") as root, DirectoryTree(root, "t") as tree:
        tree.put(Entry(b"", Kind.DIRECTORY, 0o755, mtime_ns=when))
        tree.put(Entry(b"d", Kind.DIRECTORY, 0o755, mtime_ns=when))
        tree.put(Entry(b"d/f", Kind.FILE, 0o644, mtime_ns=when))
        tree.put(Entry(b"d/l", Kind.SYMLINK, target=b"f", mtime_ns=when))
    for name in ("", "d", "d/f", "d/l"):
        found = (tmp_path / "t" / name).lstat().st_mtime
        assert (found > 1 << 31) if seconds > 0 else (found < 0), name


def test_a_full_file_system_says_so(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", root], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(NoSpaceError, match=r"no space is left in .* for big"):
            apply(root, layer(("small", "f", b"x"), ("big", "f", bytes(1 << 20))))
    finally:
        subprocess.run(["umount", root], check=True)


def test_an_error_of_the_stream_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="ends at byte"):
        apply(tmp_path / "t", layer(("f", "f", b"x" * 5000))[:2000])


NAMES = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/b/c", "c/c/c", "l/a", "l"])
TARGETS = st.sampled_from(["a", "b", "../b", "/a/b", "c", "l", "nowhere/x", "b/a"])
MARKS = st.sampled_from([".wh.a", ".wh.b", ".wh..wh..opq", "a/.wh..wh..opq", "a/.wh.b", "l/.wh.a", ".wh.l"])
ITEMS = st.one_of(
    st.tuples(NAMES, st.just("f"), st.binary(max_size=20)),
    st.tuples(NAMES, st.just("d")),
    st.tuples(NAMES, st.just("l"), TARGETS),
    st.tuples(NAMES, st.just("h"), NAMES),
    st.tuples(NAMES, st.just("p")),
    st.tuples(MARKS, st.just("f")),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(st.lists(st.lists(ITEMS, min_size=1, max_size=10), min_size=1, max_size=4))
def test_any_layers_come_out_as_in_ext4(tmp_path: Path, layers: list[list[tuple[str, ...]]]) -> None:
    """The same trees, refusals, tar splits and differences as on an unmounted ext4."""
    root, lower = tmp_path / "t", tmp_path / "lower"
    for folder in (root, lower):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        folder.chmod(0o755)
    device = MemoryDevice(8 * MIB)
    make_ext4(device)
    below = MemoryDevice(content=bytes(device.content))
    for number, items in enumerate(layers):
        tar = layer(*items, mtime=MTIME + number)
        below = MemoryDevice(content=bytes(device.content))
        subprocess.run(["cp", "-a", f"{root}/.", lower], check=True)
        splits: list[io.BytesIO] = []
        said: list[str] = []
        for there in ("ext4", "directory"):
            rows = io.BytesIO()
            split = TarSplitWriter(rows)
            try:
                if there == "ext4":
                    apply_to_ext4(device, io.BytesIO(tar), recorder=split)
                else:
                    with opened(root) as descriptor:
                        tree = DirectoryTree(descriptor, "t", watcher=split)
                        apply_layer(tree, io.BytesIO(tar), recorder=split)
                split.close()
                said.append("")
            except LamellaError as error:
                said.append(f"{type(error)} {error.message.replace('t', '')}")
            splits.append(rows)
        assert said[0] == said[1]
        if said[0]:
            return  # half changed, both of them
        with DirectoryReader.open(root) as reader:
            ext4 = Reader.open(device)
            have, want = content(reader), content(ext4)
            for tree in (have, want):
                for entry, _ in tree.values():
                    # Made for want of a parent, at that moment; the root is the test's own.
                    if entry.mtime_ns > (MTIME + 100) * 10**9 or not entry.path:
                        entry.mtime_ns = entry.uid = entry.gid = 0
            assert by_path(e for e, _ in have.values()) == by_path(e for e, _ in want.values())
            assert have == want
            for rows, read in zip(splits, (ext4.read, reader.read), strict=True):
                out = io.BytesIO()
                reassemble(rows, read, out)
                assert out.getvalue() == tar
            with DirectoryReader.open(lower) as before:
                changes = list_changes(DirectoryPair(before, reader))
                out = io.BytesIO()
                write_layer(DirectoryPair(before, reader), out)
        _same_again(tmp_path, lower, root, out.getvalue())
        assert {str(change) for change in changes} >= _added_names(below, device)
        shutil.rmtree(lower)
        lower.mkdir()


def _same_again(tmp_path: Path, lower: Path, upper: Path, tar: bytes) -> None:
    """The layer turns the lower tree into the upper one."""
    apply(lower, tar)
    have, want = tree_of(lower), tree_of(upper)
    assert have == want


def _added_names(lower: MemoryDevice, upper: MemoryDevice) -> set[str]:
    before = {entry.path for entry in Reader.open(lower).walk()}
    after = {entry.path for entry in Reader.open(upper).walk()}
    return {f"A /{os.fsdecode(path)}" for path in after - before}


def test_differences_are_those_of_ext4(tmp_path: Path) -> None:
    """The very same layer tar, from two mounted states and from two unmounted ones."""
    root, lower = tmp_path / "t", tmp_path / "lower"
    device = MemoryDevice(16 * MIB)
    make_ext4(device)
    tree = tmp_path / "tree"
    tree.mkdir()
    make_rich_tree(tree, large=False, far=True)
    with DirectoryReader.open(tree) as reader:
        out = io.BytesIO()
        write_tree(reader, out)
    first = out.getvalue()
    second = layer(
        ("a", "d"), ("a/x", "f", b"y"), ("bin", "f", b"instead"), (".wh.latin", "f"), ("zz-third-name", "f"),
        ("many/new", "h", "small"), ("sticky", "d"), ("d", "d"), ("d/e", "f"), ("d/e/..", "d"),
    )  # fmt: skip
    apply(root, first)
    apply(lower, first)
    apply_to_ext4(device, io.BytesIO(first))
    below = MemoryDevice(content=bytes(device.content))
    apply(root, second)
    apply_to_ext4(device, io.BytesIO(second))
    tars = [io.BytesIO(), io.BytesIO()]
    with DirectoryReader.open(lower) as before, DirectoryReader.open(root) as after:
        write_layer(DirectoryPair(before, after), tars[0])
    write_layer_tar(below, device, tars[1])
    results: list[object] = []
    for tar in tars:
        folder = tmp_path / f"result{len(results)}"
        apply(folder, first, tar.getvalue())
        results.append(tree_of(folder))
    assert results[0] == results[1] == tree_of(root)
