# SPDX-License-Identifier: Apache-2.0
"""Archives and layers that are damaged, hostile or too large: one clear error, and the store as before."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, LamellaError, NoSpaceError
from lamella.store import Store
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
from tests.support.stores import KERNEL, assert_sound, fails, state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    for number in range(100_000 if KERNEL else 400_000):
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
