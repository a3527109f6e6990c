# SPDX-License-Identifier: Apache-2.0
"""Layers into ext4: everything a tar carries, as GNU tar extracts it, and all of layers' own rules."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.block import FileDevice, MemoryDevice
from lamella.errors import BadInputError, ExistsError, LamellaError, NoSpaceError, NotFoundError
from lamella.fs.entry import Entry, Kind
from lamella.fs.ext4.make import make_ext4
from lamella.fs.ext4.tree import Tree
from tests.fs.ext4.tools import GIB, MIB, fsck, make_image, mounted, names, tree_of
from tests.fs.layers import (
    BASE,
    EVERYTHING,
    HOSTILE_LAYERS,
    MTIME,
    SECOND,
    SECOND_LAYERS,
    Given,
    Items,
    apply,
    apply_layer,
    layer,
    unpack_by_umoci,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def _fill(root: Path) -> None:
    """One of everything that a tar can carry."""
    (root / "d").mkdir()
    file = root / "d/f"
    file.write_bytes(b"x" * 5000)
    os.chown(file, 100_000, 200_000)
    file.chmod(0o6755)
    os.setxattr(file, "user.big", b"B" * 3000)
    os.setxattr(file, "user.small", b"1")
    os.setxattr(file, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:1000:rw,g:33:r", str(file)], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:1000:rw,g:33:r", str(root / "d")], check=True)
    os.utime(file, ns=(1, -5 * 10**9 + 123))
    late = root / "d/late"
    late.touch()
    os.utime(late, ns=(0, 2**33 * 10**9 + 987_654_321))
    for length in (1, 59, 60, 61, 4000):
        os.symlink("t" * length, root / f"link{length}")
    os.link(file, root / "hard")
    os.mknod(root / "char", 0o020644, os.makedev(5, 1))
    os.mknod(root / "block", 0o060600, os.makedev(300, 70000))
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as sparse:
        for number in range(3000):
            sparse.seek(number * 12288 + number % 3 * 100)
            sparse.write(b"S%d" % number)
        sparse.truncate(6 * GIB)
    with (root / "huge").open("wb") as huge:
        huge.seek(4 * GIB)
        huge.write(b"Z" * 100_000)
        huge.truncate(5 * GIB)
    (root / "empty-but-long").open("wb").truncate(100_000)
    (root / ("n" * 255)).write_text("n")
    os.close(os.open(os.fsencode(root) + b"/\xff\xfe" + b"\x80" * 253, os.O_CREAT | os.O_WRONLY))
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "setgid").mkdir()
    (root / "setgid").chmod(0o2750)
    for number in range(2000):
        (root / f"sticky/{number}-{'y' * (number % 200)}").touch()


@pytest.mark.parametrize("arguments", [(), ("-b", "1024"), ("-I", "128"), ("-O", "^metadata_csum,uninit_bg")])
def test_everything_comes_out_as_gnu_tar_extracts_it(
    tmp_path: Path, tool: Callable[[str], str], arguments: tuple[str, ...]
) -> None:
    source, want = tmp_path / "source", tmp_path / "want"
    options = [] if "-O" in arguments else list(arguments)
    for path, given in ((source, []), (want, options)):
        with path.open("wb") as file:
            file.truncate(2 * GIB)
        subprocess.run([tool("mke2fs"), "-q", "-F", "-t", "ext4", *given, str(path)], check=True)
    tar = tmp_path / "layer.tar"
    flags = ["--xattrs", "--xattrs-include=*", "--acls"]
    without = ["--exclude=./lost+found"]
    if "1024" in arguments:
        # Do not fit into a block of 1 KiB; a kernel would refuse them too.
        without += ["--exclude=./link4000", "--exclude=./d/f", "--exclude=./hard"]
    with mounted(source, read_only=False) as root:
        _fill(root)
        pack = ["tar", *flags, "-S", "--format=posix", *without, "-cf", str(tar), "-C", str(root), "."]
        subprocess.run(pack, check=True)
    with mounted(want, read_only=False) as root:
        subprocess.run(["tar", *flags, "-xpf", str(tar), "-C", str(root)], check=True, capture_output=True)
        expected = tree_of(root)
    ours = make_image(tmp_path / "ours", 2 * GIB, *arguments)
    apply(ours, tar)
    fsck(ours)
    with mounted(ours) as root:
        have = tree_of(root)
        if "1024" not in arguments:
            assert os.lstat(root / "hard").st_ino == os.lstat(root / "d/f").st_ino
    assert have.keys() == expected.keys()
    for name in have:
        assert have[name] == expected[name], name


def test_a_second_time_over_replaces_everything(tmp_path: Path) -> None:
    items: Items = [("d", "d"), ("d/f", "f", b"1" * 9000), ("l", "l", "d"), ("h", "h", "d/f"), ("p", "p")]
    path = make_image(tmp_path / "i")
    apply(path, layer(*items))
    fsck(path)
    with mounted(path) as root:
        first = tree_of(root)
    apply(path, layer(*items))
    fsck(path)
    with mounted(path) as root:
        assert tree_of(root) == first


@pytest.mark.parametrize(("items", "added", "gone"), SECOND_LAYERS)
def test_a_second_layer(
    tmp_path: Path, items: list[tuple[str, ...]], added: set[str], gone: set[str]
) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    apply(path, BASE)
    apply(path, layer(*items))
    fsck(path)
    with mounted(path) as root:
        assert names(root) == EVERYTHING - gone | added


@pytest.mark.parametrize(("items", "said"), HOSTILE_LAYERS)
def test_what_a_hostile_layer_gets(tmp_path: Path, items: list[tuple[str, ...]], said: str) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    apply(path, BASE)
    with pytest.raises(BadInputError, match=said):
        apply(path, layer(*items))
    fsck(path)
    with mounted(path) as root:
        assert names(root) == EVERYTHING


def test_parents_keep_their_times_and_missing_ones_are_plain(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    apply(path, BASE)
    apply(path, layer(("d/new", "f"), ("d/.wh.a", "f"), ("made/here", "f"), mtime=5))
    with mounted(path) as root:
        assert (root / "d").stat().st_mtime == MTIME
        made = (root / "made").stat()
        assert (made.st_mode, made.st_uid, made.st_gid) == (0o40755, 0, 0)
        assert made.st_mtime > MTIME


def test_umoci_unpacks_the_same(tmp_path: Path, tool: Callable[[str], str]) -> None:
    unpacked = unpack_by_umoci(tool("umoci"), tmp_path, BASE, SECOND)
    path = make_image(tmp_path / "i", 64 * MIB)
    apply(path, BASE, SECOND)
    with mounted(path) as root:
        have = tree_of(root)
    want = tree_of(unpacked)
    implied = (b".", b"./etc")
    for tree in (have, want):
        for name in implied:
            tree.pop(name)
    assert have == want


class _Slow:
    """A stream that gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readinto(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer[:777])


def test_a_stream_may_trickle(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    content = os.urandom(3_000_001)
    with FileDevice(path) as device:
        told: list[int] = []
        stats = apply_layer(device, _Slow(layer(("f", "f", content))), progress=told.append)
    assert stats.entries == 1
    assert stats.bytes_written >= len(content)
    assert sum(told) >= len(content)
    fsck(path)
    with mounted(path) as root:
        assert (root / "f").read_bytes() == content


def test_more_than_4_gib_of_real_data_in_a_fragmented_file_system(tmp_path: Path) -> None:
    """Extents by the thousand: every second run of blocks is taken before a large file comes."""
    path = make_image(tmp_path / "i", 200 * MIB)
    files = [(f"f{number:05}", "f", b"%05d" % number * 820) for number in range(8000)]
    apply(path, layer(*files))
    apply(path, layer(*((f".wh.{name}", "f") for name, *_ in files[::2])))
    fsck(path)
    content = os.urandom(150 * MIB)
    with FileDevice(path, read_only=True) as device:
        from lamella.fs.ext4.superblock import read_superblock

        free = read_superblock(device).free_blocks_count * 4096
    content = content[: free - 60 * 4096]
    apply(path, layer(("big", "f", content)))
    fsck(path)
    with mounted(path) as root:
        assert (root / "big").read_bytes() == content
        assert (root / "f00001").read_bytes() == b"00001" * 820
    apply(path, layer((".wh.big", "f")))
    fsck(path)


def test_a_full_file_system_says_so(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 32 * MIB)
    with pytest.raises(NoSpaceError, match="is full"):
        apply(path, layer(("f", "f", b"x" * (40 * MIB))))
    fsck(path)
    path = make_image(tmp_path / "j", 32 * MIB, "-N", "64")
    with pytest.raises(NoSpaceError, match="no free inode"):
        apply(path, layer(*((f"f{number}", "f") for number in range(200))))
    fsck(path)
    with (
        pytest.raises(NoSpaceError, match="extended attribute"),
        FileDevice(path) as device,
        Tree.open(device) as tree,
    ):
        tree.put(Entry(b"x", Kind.FILE, xattrs={b"user.x": b"v" * 5000}))
    with (
        pytest.raises(NoSpaceError, match="bytes; the limit of ext4"),
        FileDevice(path) as device,
        Tree.open(device) as tree,
    ):
        tree.put(Entry(b"x", Kind.FILE, size=1 << 50, data=[]))


def test_the_last_block_can_be_used(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 32 * MIB)
    low, high = 0, 32 * MIB // 4096
    while low < high:
        middle = (low + high + 1) // 2
        shutil.copy(path, tmp_path / "j")
        try:
            apply(tmp_path / "j", layer(("f", "f", b"x" * (middle * 4096))))
            low = middle
        except NoSpaceError:
            high = middle - 1
    shutil.copy(path, tmp_path / "j")
    apply(tmp_path / "j", layer(("f", "f", b"x" * (low * 4096))))
    fsck(tmp_path / "j")
    from lamella.fs.ext4.superblock import read_superblock

    with FileDevice(tmp_path / "j", read_only=True) as device:
        assert read_superblock(device).free_blocks_count <= 1


def test_freed_space_is_discarded_and_reused(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 200 * MIB)
    content = os.urandom(100 * MIB)
    before = os.stat(path).st_blocks * 512
    for _ in range(4):
        apply(path, layer(("d", "d"), ("d/f", "f", content)))
        apply(path, layer((".wh.d", "f")))
        fsck(path)
    assert os.stat(path).st_blocks * 512 < before + 2 * MIB


class _Broken(MemoryDevice):
    """A device whose pool is full after some writes."""

    left = 1 << 60

    def write(self, offset: int, data: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise NoSpaceError("the pool is out of data space", hint="extend it")
        super().write(offset, data)  # type: ignore[arg-type]  # the base class's Buffer

    def write_many(self, pieces: Iterable[tuple[int, object]]) -> None:
        for offset, data in pieces:
            self.write(offset, data)


def test_an_error_of_the_device_comes_out_as_itself(capfd: pytest.CaptureFixture[str]) -> None:
    tar = layer(("d", "d"), *((f"d/{number}", "f", b"x" * 100) for number in range(500)))
    writes = 0
    said: set[str] = set()
    while True:
        device = _Broken(32 * MIB)
        make_ext4(device)
        device.left = writes
        try:
            apply_layer(device, io.BytesIO(tar))
            break
        except LamellaError as error:
            said.add(error.message)
        writes += 1
    assert writes > 2
    assert said == {"the pool is out of data space"}
    device = _Broken(32 * MIB)
    device.left = 0
    with pytest.raises(NoSpaceError, match="the pool is out"):
        make_ext4(device)
    assert capfd.readouterr() == ("", "")


def test_interrupts_come_out_as_themselves() -> None:
    class Interrupted(MemoryDevice):
        def read_into(self, offset: int, buffer: object) -> None:
            raise KeyboardInterrupt

    device = Interrupted(32 * MIB)
    make_ext4(device)
    with pytest.raises(KeyboardInterrupt):
        apply_layer(device, io.BytesIO(layer(("f", "f"))))


def test_edits(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    with FileDevice(path) as device, Tree.open(device) as tree:
        tree.make_directory(b"a/b/c")
        assert tree.put(Entry(b"a/b/s", Kind.SYMLINK, target=b"c")) == b"a/b/s"
        assert tree.put(Entry(b"a/b/s/f", Kind.FILE, mode=0o600)) == b"a/b/c/f"
        tree.put(Entry(b"", Kind.DIRECTORY, mode=0o711, uid=7, xattrs={b"user.x": b"1", b"odd.x": b"2"}))
        tree.put(Entry(b"sock", Kind.SOCKET, mode=0o600))
        with pytest.raises(NotFoundError):
            tree.remove(b"nothing")
        with pytest.raises(ExistsError):
            tree.remove(b"a")
        with pytest.raises(BadInputError):
            tree.put(Entry(b"a/..", Kind.FILE))
    fsck(path)
    with mounted(path) as root:
        assert names(root) == {"a", "a/b", "a/b/c", "a/b/c/f", "a/b/s", "sock"}
        assert (root.stat().st_mode & 0o7777, root.stat().st_uid) == (0o711, 7)
        assert os.listxattr(root) == ["user.x"]
        assert (root / "sock").is_socket()
    with FileDevice(path) as device, Tree.open(device) as tree:
        tree.remove(b"a/b/s/f")
        tree.remove(b"a", recursive=True)
        tree.put(Entry(b"", Kind.DIRECTORY, mode=0o755))
    fsck(path)
    with mounted(path) as root:
        assert names(root) == {"sock"}
        assert os.listxattr(root) == []


def test_extended_attributes_are_replaced_not_added(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    large = {b"user.a": b"A" * 2000, b"user.b": b"b", b"security.x": b"x" * 100}
    for xattrs in (large, {b"user.b": b"2"}, {}, large, {b"trusted.t": b"t" * 500}):
        with FileDevice(path) as device, Tree.open(device) as tree:
            tree.put(Entry(b"d", Kind.DIRECTORY, mode=0o755, xattrs=xattrs))
            tree.put(Entry(b"f", Kind.FILE, xattrs=xattrs))
        fsck(path)
        with mounted(path) as root:
            for name in ("d", "f"):
                have = {key.encode(): os.getxattr(root / name, key) for key in os.listxattr(root / name)}
                assert have == xattrs


def test_the_watcher_sees_files_before_they_go(tmp_path: Path) -> None:
    seen: dict[bytes, bytes] = {}

    class Watcher:
        def before_removal(self, path: bytes, read: Callable[[int, int], Iterable[bytes]]) -> None:
            seen[path] = b"".join(read(1, 10_000))

    path = make_image(tmp_path / "i", 64 * MIB)
    apply(path, layer(("d", "d"), ("d/f", "f", b"0" * 5000), ("l", "l", "d")))
    with FileDevice(path) as device, Tree.open(device, watcher=Watcher()) as tree:
        tree.put(Entry(b"n", Kind.FILE, size=3), Given(b"abc"))
        tree.put(Entry(b"l/n", Kind.HARDLINK, target=b"n"))
        tree.put(Entry(b"n", Kind.FIFO))
        tree.remove(b"d", recursive=True)
    assert seen == {b"n": b"bc", b"d/f": b"0" * 4999, b"d/n": b"bc"}


@pytest.mark.parametrize("features", ["", "^metadata_csum", "^metadata_csum,uninit_bg"])
def test_layers_over_garbage(tmp_path: Path, features: str) -> None:
    """In a pool that does not zero, whatever has not been written shows old bytes."""
    path = tmp_path / "i"
    path.write_bytes(os.urandom(MIB) * 100)
    with FileDevice(path) as device:
        make_ext4(device, mkfs_args=["-O", features] if features else [], prezeroed=False)
    files = [(f"d{number % 50}/f{number}", "f", b"%d" % number * 100) for number in range(3000)]
    apply(path, layer(*files), layer(*((f"d{number}/.wh.f{number}", "f") for number in range(50))), BASE)
    fsck(path)
    with mounted(path) as root:
        for name, _, content in files[50:]:
            assert (root / name).read_bytes() == content
        assert names(root) >= EVERYTHING


def test_more_links_than_ext4_takes(tmp_path: Path) -> None:
    path = make_image(tmp_path / "i", 64 * MIB)
    with FileDevice(path) as device, Tree.open(device) as tree:
        tree.put(Entry(b"f", Kind.FILE))
        for number in range(64_999):
            tree.put(Entry(b"l%d" % number, Kind.HARDLINK, target=b"f"))
        with pytest.raises(NoSpaceError, match="65000 hard links"):
            tree.put(Entry(b"one-more", Kind.HARDLINK, target=b"f"))
    fsck(path)
