# SPDX-License-Identifier: Apache-2.0
"""File systems, LVM's labels, areas and texts, and the files of a store."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import zstandard
from scripts.fuzz.target import Target

from lamella.block import MemoryDevice
from lamella.driver.state import State
from lamella.errors import LamellaError
from lamella.fs.entry import Kind
from lamella.fs.ext4.reader import Reader
from lamella.lvm.disks.disk import Disk
from lamella.lvm.format.dump import dump
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.session.config import parse_text
from lamella.store import schema
from lamella.store.catalog import Catalog
from lamella.store.config import Config

_FIXTURES = Path(__file__).parents[3] / "tests/fixtures"


def _ext4_seeds() -> list[bytes]:
    """Small file systems, without checksums so that changes reach far; none where mke2fs is missing."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "top")
        (top / "dir/sub").mkdir(parents=True)
        (top / "dir/file").write_bytes(b"content" * 300)
        os.link(top / "dir/file", top / "hard")
        (top / "short").symlink_to("dir/file")
        (top / "long").symlink_to("x" * 200)
        with (top / "sparse").open("wb") as file:
            file.seek(100_000)
            file.write(b"tail")
        for number in range(40):
            (top / "dir/sub" / f"name{number}").write_bytes(b"x" * number)
        for options in (
            "^metadata_csum,^has_journal",
            "^metadata_csum,^has_journal,inline_data",
            "^has_journal",
        ):
            image = Path(folder, "image")
            command = [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-b",
                "1024",
                "-N",
                "64",
                "-O",
                options,
                "-d",
                str(top),
            ]
            try:
                subprocess.run([*command, str(image), "512k"], check=True, capture_output=True)
            except FileNotFoundError:
                return [bytes(4096)]
            found.append(image.read_bytes())
            image.unlink()
    return found


def _read_ext4(data: bytes) -> object:
    device = MemoryDevice(content=data, name="image")
    device.read_only = True
    with Reader.open(device) as reader:
        kinds = []
        for count, entry in enumerate(reader.walk()):
            assert count < 100_000
            kinds.append(entry.kind.value)
            if entry.kind is Kind.FILE and entry.size < 1 << 24:
                for _ in reader.read(entry.path):
                    pass
        return tuple(kinds[:10]), len(kinds)


def _pv() -> bytes:
    """The beginning of a physical volume that LVM2 made."""
    with (
        (_FIXTURES / "lvm-a.tar.zst").open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            data = content.read(1 << 17) if content is not None else b""
            if data[512:520] == b"LABELONE":
                return data
    raise AssertionError("no physical volume in the fixture")


def _texts() -> list[bytes]:
    found = dump(MemoryDevice(content=_pv(), name="pv"), "metadata_all", {}, lambda line: None)
    assert found is not None
    return [text for text in found.split(b"\n\n") if text] or [found]


def _read_pv(data: bytes) -> object:
    device = MemoryDevice(content=data, name="pv")
    device.read_only = True
    ends: list[object] = []
    for what in ("headers", "metadata", "metadata_all", "metadata_search", "metadata_area"):
        lines: list[str] = []
        try:
            dump(device, what, {}, lines.append)
            ends.append(len(lines))
        except LamellaError as error:
            ends.append(type(error).__name__)
    place = Path("pv")
    place.write_bytes(data)
    disk = Disk.open(str(place))
    disk.close()
    return tuple(ends), len(disk.copies)


def _read_group(data: bytes) -> object:
    group = read_group(data.decode("utf-8", "replace"), source="the text")
    return len(group.lvs), len(group.pvs)


def _read_lvm_config(data: bytes) -> object:
    return len(parse_text(data.decode("utf-8", "replace")))


def _state_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.db")
        State.create(path, schema).close()
        return [path.read_bytes()]


def _read_state(data: bytes) -> object:
    path = Path("state.db")
    path.write_bytes(data)
    state = State.open(path, schema, read_only=True)
    try:
        catalog = Catalog(state)
        return len(catalog.images()), len(catalog.containers()), len(catalog.layers()), len(state.devices())
    finally:
        state.close()


def _read_config(data: bytes) -> object:
    path = Path("config.toml")
    path.write_bytes(data)
    return Config.load(path).mode


_CONFIG = b'version = 1\nmode = "loop-lvm"\nstorage_options = [\n    "dm.basesize=10G",\n]\nengine = "user"\n'
_LVM_CONF = (
    b'devices {\n  filter = [ "a|.*|", "r/x/" ]\n  # comment\n}\nglobal/use_lvmlockd=0\nlog { level = 7 }\n'
)

TARGETS = [
    Target("ext4", _ext4_seeds, _read_ext4, seconds=10.0),
    Target("lvm-disk", lambda: [_pv()], _read_pv),
    Target("lvm-text", _texts, _read_group, words=(b"{", b"}", b"[", b"]", b"= ", b'"', b"\\", b"#")),
    Target(
        "lvm-config", lambda: [_LVM_CONF], _read_lvm_config, large=lambda: [b"a{" * 50_000, b"[" * 100_000]
    ),
    Target("state", _state_seeds, _read_state),
    Target("config", lambda: [_CONFIG], _read_config, large=lambda: [b"a = " + b"[" * 100_000]),
]
