# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong from outside: one clear error each, and the store as before."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.errors import (
    BadInputError,
    BusyError,
    CorruptError,
    DeviceIOError,
    LamellaError,
    MissingError,
    NoSpaceError,
    ReadOnlyError,
    UnsupportedError,
)
from lamella.fs.ext4 import library
from lamella.remedies import hint_of
from lamella.store import Store
from lamella.thin.kernel.volume import KernelVolume
from tests.support.images import (
    Sample,
    compact,
    make_tar,
    put_blob,
    run,
    sha256,
    write_docker_archive,
    write_index,
    write_oci_archive,
    write_oci_layout,
)
from tests.support.stores import KERNEL, SMALL, assert_sound, files_of, pool_devices, state_of, take_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def unchanged(root: Path) -> Iterator[Path]:
    """A store that has to be as it was when the test is over."""
    before = state_of(root)
    yield root
    assert state_of(root) == before
    assert_sound(root)


def fails(
    root: Path, error: type[LamellaError] | tuple[type[LamellaError], ...], action: Callable[[Store], object]
) -> LamellaError:
    with Store.open(root) as store, pytest.raises(error) as caught:
        action(store)
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


# -- archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("write", [write_docker_archive, write_oci_archive])
def test_truncated_archives(
    unchanged: Path, tmp_path: Path, part: float, write: Callable[[Path, list[Sample]], Path]
) -> None:
    big = Sample(layers=[make_tar({"big": os.urandom(3_000_000)}), make_tar({"more": os.urandom(100_000)})])
    path = write(tmp_path / "image.tar", [big])
    os.truncate(path, int(path.stat().st_size * part))
    fails(unchanged, BadInputError, lambda store: store.load(path))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "plain"])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.remote
def test_a_layer_with_a_flipped_bit(unchanged: Path, tmp_path: Path, compression: str, which: int) -> None:
    layers = [make_tar({f"{n}": os.urandom(500_000)}) for n in range(3)]
    sample = Sample(layers=layers, compression=compression)
    layout = write_oci_layout(tmp_path / "layout", [sample])
    _, blobs = sample.manifest()
    path = layout / "blobs/sha256" / sha256(blobs[1 + which]).partition(":")[2]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    fails(unchanged, BadInputError, lambda store: store.load(layout))


def test_a_layer_with_the_wrong_diff_id(unchanged: Path, tmp_path: Path) -> None:
    class Wrong(Sample):
        @property
        def diff_ids(self) -> list[str]:
            return ["sha256:" + "0" * 64, *super().diff_ids[1:]]

    layers = [make_tar({f"{n}": os.urandom(5000)}) for n in range(3)]
    layout = write_oci_layout(tmp_path / "layout", [Wrong(layers=layers)])
    error = fails(unchanged, BadInputError, lambda store: store.load(layout))
    assert "diff id" in error.message


def test_no_archive_at_all(unchanged: Path, tmp_path: Path) -> None:
    for content in (b"", b"nothing", os.urandom(10_000), gzip.compress(b"nothing")):
        (tmp_path / "no.tar").write_bytes(content)
        fails(unchanged, BadInputError, lambda store: store.load(tmp_path / "no.tar"))
    fails(unchanged, LamellaError, lambda store: store.load(tmp_path / "missing"))
    (tmp_path / "folder").mkdir()
    fails(unchanged, LamellaError, lambda store: store.load(tmp_path / "folder"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("../escape"), b"")],
        [(member("a/../../escape"), b"")],
        [(member("hard", tarfile.LNKTYPE, "../../etc/passwd"), b"")],
        [(member("hard", tarfile.LNKTYPE, "nowhere"), b"")],
        [(member("n" * 300), b"")],
        [(member("loop", tarfile.SYMTYPE, "loop"), b""), (member("loop/x"), b"")],
    ],
    ids=["..", "inner ..", "hard link out", "hard link to nothing", "long name", "through a loop"],
)
def test_hostile_layers_are_refused(
    unchanged: Path, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    evil = Sample(layers=[make_tar({"fine": b"1"}), make_tar(members=members)])
    fails(unchanged, BadInputError, lambda store: store.load(write_oci_layout(tmp_path / "evil", [evil])))


@pytest.mark.remote
def test_hostile_layers_that_stay_inside(root: Path, tmp_path: Path) -> None:
    """Absolute names, links that point out, device nodes and duplicates mean what they mean inside."""
    device = member("dev/mem", tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 1
    twice = [(member("twice", size=5), b"first"), (member("twice", size=6), b"second")]
    odd = Sample(
        layers=[
            make_tar(
                members=[
                    (member("/absolute", size=1), b"1"),
                    (member("out", tarfile.SYMTYPE, "/../../inner"), b""),
                    (member("out/inside", size=1), b"2"),
                    (device, b""),
                    *twice,
                ]
            )
        ],
        references=["docker.io/library/odd:1"],
    )
    with Store.open(root) as store:
        store.load(write_oci_layout(tmp_path / "odd", [odd]))
        with store.tree("odd:1") as tree:
            assert b"".join(tree.read(b"/absolute")) == b"1"
            assert b"".join(tree.read(b"/inner/inside")) == b"2"
            assert b"".join(tree.read(b"/twice")) == b"second"
            entry = tree.stat(b"/dev/mem")
            assert (entry.kind.name, entry.major, entry.minor) == ("CHAR", 1, 1)
        # Even of such a layer the very same tar comes out again.
        store.save(["odd:1"], tmp_path / "odd.tar")
        store.remove_image("odd:1")
        assert store.load(tmp_path / "odd.tar")[0].id == odd.image_id
    assert not (tmp_path / "inner").exists()
    assert_sound(root)


@pytest.mark.slow
def test_more_entries_than_inodes(tmp_path: Path) -> None:
    """More inodes than the base device has: an error; with room for them: no problem, in bounded memory."""
    script = """
import sys
from lamella import Store
from lamella.errors import NoSpaceError
root, layout = sys.argv[1:]
with Store.open(root) as store:
    try:
        store.load(layout)
        print("loaded")
    except NoSpaceError as error:
        print("full:", error.message)
print(next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    header = tarfile.TarInfo("d/0000000").tobuf(tarfile.USTAR_FORMAT)
    blocks = bytearray()
    # A process of some hundred MiB is slow in User-mode Linux, whose pages are mappings of the machine's.
    for number in range(100_000 if KERNEL else 1_000_000):
        name = b"%07d" % number
        block = bytearray(header)
        block[2:9] = name
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        blocks += block
    layout = write_oci_layout(tmp_path / "layout", [Sample(layers=[bytes(blocks) + bytes(1024)])])
    for root, options, outcome in (
        ("small", ["dm.basesize=1G"], "full:"),
        ("large", ["dm.basesize=20G"], "loaded"),
    ):
        Store.setup(tmp_path / root, storage_options=options).close()
        before = state_of(tmp_path / root)
        shown = run(sys.executable, "-c", script, str(tmp_path / root), str(layout)).splitlines()
        assert shown[0].startswith(outcome)
        assert int(shown[-1]) < 300
        if outcome == "full:":
            assert state_of(tmp_path / root) == before
        assert_sound(tmp_path / root)


def test_a_decompression_bomb(unchanged: Path, tmp_path: Path) -> None:
    """A megabyte that becomes 300: the device is full at its size, memory and disk are spared."""

    info = tarfile.TarInfo("bomb")
    info.size = 300 << 20
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            packed.write(bytes(1 << 20))
    blob = stream.getvalue()
    sample = Sample(layers=[make_tar({"x": b"1"})])
    layout = write_oci_layout(tmp_path / "bomb", [sample])
    manifest, _ = sample.manifest()
    manifest["layers"][0] |= {"digest": put_blob(layout, blob), "size": len(blob)}
    body = compact(manifest)
    write_index(
        layout, [{"mediaType": manifest["mediaType"], "digest": put_blob(layout, body), "size": len(body)}]
    )
    script = """
import sys
from lamella.cli.main import main
code = main(["--root", sys.argv[1], "load", "-i", sys.argv[2]])
print(next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""
    command = [sys.executable, "-c", script, unchanged, layout]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == NoSpaceError.exit_code, done.stderr
    assert int(done.stdout) < 300


# -- no space -------------------------------------------------------------------------------------


def large_layer(size: int, files: int = 1) -> bytes:
    return make_tar({f"f{number}": os.urandom(size // files) for number in range(files)})


@pytest.fixture
def impatient() -> Iterator[None]:
    """The kernel lets writers wait for a full pool to grow, by default for a minute: here not as long."""
    setting = Path("/sys/module/dm_thin_pool/parameters/no_space_timeout")
    before = setting.read_text() if KERNEL else ""
    if KERNEL:
        setting.write_text("1")
    yield
    if KERNEL:
        setting.write_text(before)


@pytest.mark.usefixtures("impatient")
def test_the_pools_data_is_full(tmp_path: Path) -> None:
    root = tmp_path / "root"
    Store.setup(root, storage_options=[*SMALL, "dm.loopdatasize=8M"]).close()
    layout = write_oci_layout(
        tmp_path / "big", [Sample(layers=[make_tar({"a": b"1"}), large_layer(20 << 20)])]
    )
    before = state_of(root)
    error = fails(root, NoSpaceError, lambda store: store.load(layout))
    assert ("is full: all 8.389MB of its data" if KERNEL else "chunks") in error.message
    assert "lamella" in str(hint_of(error))
    assert state_of(root) == before
    assert_sound(root)
    # And with room it goes on.
    with Store.setup(root, storage_options=["dm.loopdatasize=64M"]) as store:
        store.load(layout)
    assert_sound(root)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory: freeing thousands of separate pieces of a file takes long on some disks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def test_the_pools_metadata_is_full(tmp_path: Path, in_memory: Path) -> None:
    root = in_memory / "root"
    options = ["dm.basesize=8G", "dm.loopdatasize=16G", "dm.loopmetadatasize=1M", "dm.min_free_space=0%"]
    Store.setup(root, storage_options=options).close()
    chance = random.Random(5)

    def fill(store: Store) -> None:
        """Containers with single chunks all over: the dearest kind of mapping."""
        while True:
            made = store.create("sample")
            places = sorted(chance.sample(range(1 << 17), 1500))
            with store.devices.volume(made.id, read_only=False) as volume:
                if isinstance(volume, KernelVolume):
                    volume._pads = False  # whole chunks of zeros would fill the memory before the metadata
                volume.write_many((place << 16, b"x" * 512) for place in places)

    with Store.open(root) as store:
        store.load(write_oci_layout(tmp_path / "one", [Sample(layers=[make_tar({"a": b"1"})])]))
    full = "the pool is read-only: all "
    for _ in range(1 if KERNEL else 2):
        # By its version, the kernel makes such a pool read-only, or gives it up until it is taken down.
        error = fails(root, (NoSpaceError, DeviceIOError) if KERNEL else NoSpaceError, fill)
        assert "metadata" in error.message
        take_down(root)
        if not KERNEL:
            assert_sound(root, but=full)
    if KERNEL:
        # It deletes nothing then, not even what was being made, until there is room. Reading goes on.
        with pytest.raises(NoSpaceError, match="all 256 blocks of its metadata") as caught:
            Store.open(root)
        assert "lamella grow --metadata" in str(hint_of(caught.value))
        with Store.open(root, read_only=True) as store:
            assert [problem for problem in store.check().problems if not problem.startswith(full)] == []
            with store.tree("sample") as tree:
                assert b"".join(tree.read(b"/a")) == b"1"
        Store.grow(root, metadata="8M")
    with Store.setup(root, storage_options=["dm.loopmetadatasize=8M"]) as store:
        store.create("sample", name="after")
        for container in store.containers():
            store.remove_container(container.id)
    assert_sound(root)


@pytest.mark.user_engine  # such a limit is this process's own: the kernel writes the files by itself
def test_the_hosts_disk_is_full(unchanged: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: no write beyond it succeeds."""
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[large_layer(30 << 20)])])
    script = """
import resource, sys
from lamella.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 20, 12 << 20))
sys.exit(main(["--root", sys.argv[1], "load", "-i", sys.argv[2]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, unchanged, layout], capture_output=True, text=True, check=False
    )
    assert done.returncode == NoSpaceError.exit_code, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_real_full_disk(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """A small file system of its own, where everything that the store writes competes for the last blocks."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        [tool("mount"), "-t", "tmpfs", "-o", "size=12m", "none", mount], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        root = mount / "root"
        with Store.setup(root, storage_options=SMALL) as store:
            store.load(write_oci_layout(tmp_path / "small-image", [Sample()]))
        before = state_of(root)
        layout = write_oci_layout(
            tmp_path / "big", [Sample(layers=[large_layer(3 << 20), large_layer(20 << 20)])]
        )
        for _ in range(3):
            fails(root, (NoSpaceError, DeviceIOError), lambda store: store.load(layout))
            assert state_of(root) == before
        assert_sound(root)
        with Store.open(root) as store:
            store.create("sample")
    finally:
        take_down(root)
        subprocess.run([tool("umount"), mount], check=True)


def test_a_read_only_store(root: Path, tool: Callable[[str], str]) -> None:
    """On a file system that is mounted read-only everything can be read, and nothing is written."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    mount = root.parent / "mounted"
    mount.mkdir()
    subprocess.run([tool("mount"), "--bind", root, mount], check=True)
    try:
        subprocess.run([tool("mount"), "-o", "remount,ro,bind", mount], check=True)
        with Store.open(mount, read_only=True) as store:
            assert store.images()[0].references == ["sample:latest"]
            assert store.info().images == 1
            assert store.check().problems == []
            with store.tree("sample") as tree:
                assert tree.ls(b"/etc")
        with pytest.raises(ReadOnlyError):
            Store.open(mount)
        with pytest.raises(ReadOnlyError):
            Store.setup(mount)
    finally:
        subprocess.run([tool("umount"), mount], check=True)


# -- others ---------------------------------------------------------------------------------------


def test_two_commands_at_once(unchanged: Path) -> None:
    with Store.open(unchanged):
        code = "import sys; from lamella.cli.main import main; sys.exit(main(sys.argv[1:]))"
        for command in (["create", "sample"], ["images"]):
            done = subprocess.run(
                [sys.executable, "-c", code, "--root", unchanged, *command],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == BusyError.exit_code
            assert f"process {os.getpid()} (" in done.stderr
    with Store.open(unchanged, read_only=True), Store.open(unchanged, read_only=True) as second:
        assert second.info().images == 1
        with pytest.raises(BusyError):
            Store.open(unchanged)


def test_another_program_has_the_pool_open(unchanged: Path) -> None:
    from lamella.block import FileDevice

    file = files_of(unchanged)[0]
    with FileDevice(file):
        error = fails(unchanged, BusyError, lambda store: store.create("sample"))
    assert f"{file} is in use by another program" in error.message


def test_a_missing_libext2fs(unchanged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> object:
        raise MissingError("cannot load libext2fs.so.2", hint="apt install libext2fs2")

    layout = write_oci_layout(tmp_path / "new", [Sample(layers=[make_tar({"x": b""})])])
    monkeypatch.setattr(library, "load", missing)
    for action in (
        lambda store: store.load(layout),
        lambda store: store.create("sample", size=128 << 20),
    ):
        error = fails(unchanged, MissingError, action)
        assert "libext2fs" in error.message
    with pytest.raises(MissingError):
        Store.setup(tmp_path / "fresh", storage_options=SMALL)
    assert not Store.exists(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["metadata", "data"])
@pytest.mark.parametrize("size", [0, 4096, 1 << 20])
def test_a_truncated_pool(root: Path, name: str, size: int) -> None:
    metadata, data = files_of(root)
    name = (metadata if name == "metadata" else data).name
    os.truncate(root / "pool" / name if metadata.name == "metadata" else root.with_name(name), size)
    with Store.open(root) as store:
        for action in (store.info, lambda: store.create("sample"), store.df):
            with pytest.raises(LamellaError) as caught:
                action()
            assert name in caught.value.message or "docker" in caught.value.message
        assert store.check().problems


@pytest.mark.parametrize("block", range(0, 30, 3))
def test_damaged_metadata_is_found(root: Path, block: int) -> None:
    with pool_devices(root) as devices:
        was = devices.metadata.read(block * 4096 + 100, 200)
        devices.metadata.write(block * 4096 + 100, os.urandom(200))
        devices.metadata.flush()
        before = devices.metadata.read(0, devices.metadata.size)
    with Store.open(root, read_only=True) as store:
        report = store.check()
        if any(was):
            assert report.problems
        for action in (store.info, store.df, store.images):
            with suppress(CorruptError, UnsupportedError):
                action()
    with pool_devices(root, read_only=True) as devices:
        after = devices.metadata.read(0, devices.metadata.size)
    assert [
        at // 4096 for at in range(0, len(after), 4096) if after[at : at + 4096] != before[at : at + 4096]
    ] == []


@pytest.mark.remote
def test_a_damaged_file_system_is_found(root: Path) -> None:
    with Store.open(root) as store:
        made = store.create("sample")
        with store.devices.volume(made.id, read_only=False) as volume:
            volume.write(1024 + 60, b"garbage")
        problems = store.check().problems
    assert len(problems) == 1
    assert made.id in problems[0]


def test_a_damaged_tar_split_is_found_when_saving(root: Path) -> None:
    with Store.open(root) as store:
        with store.devices.state.transaction() as database:
            database.execute("UPDATE tar_split SET data = zeroblob(length(data))")
        out = io.BytesIO()
        with pytest.raises(CorruptError):
            store.save(["sample"], out)
        with store.devices.state.transaction() as database:
            database.execute("DELETE FROM tar_split")
        with pytest.raises(CorruptError, match="no complete tar-split record"):
            store.save(["sample"], out)


def test_a_changed_file_is_found_when_saving(root: Path, tmp_path: Path) -> None:
    with Store.open(root) as store:
        device = store.inspect("sample")["GraphDriver"]["Data"]["DeviceName"].rpartition("-")[2]
        with store.devices.volume(device, read_only=False) as volume:
            from lamella.fs.entry import Entry, Kind
            from lamella.fs.ext4.tree import Tree

            with Tree.open(volume) as tree:
                tree.put(Entry(b"new/other", Kind.FILE, 0o644))
        with pytest.raises(CorruptError, match="new/other"):
            store.save(["sample"], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()
