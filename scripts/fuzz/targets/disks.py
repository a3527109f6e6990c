# SPDX-License-Identifier: Apache-2.0
"""LVM's labels, areas and texts, and the files of a store."""

from __future__ import annotations

import re
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard
from scripts.fuzz.mutate import mutate_used
from scripts.fuzz.target import Target
from tests.lvm.every_section import HISTORY, KINDS, group_text
from tests.support.images import Sample

from lamella.block import MemoryDevice
from lamella.driver.state import Device, Note, State
from lamella.errors import LamellaError
from lamella.images.config import parse_config
from lamella.images.reference import Reference
from lamella.lvm.disks.disk import Disk
from lamella.lvm.format import metadata_area
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.dump import dump
from lamella.lvm.format.group_reader import read_group
from lamella.lvm.session.config import parse_text
from lamella.store import schema
from lamella.store.catalog import Catalog, Container, Image, Layer
from lamella.store.config import Config

if TYPE_CHECKING:
    from random import Random

_FIXTURES = Path(__file__).parents[3] / "tests/fixtures"


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


def _pvs() -> list[bytes]:
    """One with all of its texts, and one whose metadata area ends early, so that they run on at its start."""
    return [_pv()[: 32 << 10], _pv()[: 16 << 10]]


def reseal_pv(data: bytearray) -> None:
    """Make the checksums of the label, of the header of its metadata area and of the text there right."""
    label = data.find(b"LABELONE", 0, 2048)
    if label >= 0 and len(data) >= label + 512:
        data[label + 16 : label + 20] = lvm_crc(data[label + 20 : label + 512]).to_bytes(4, "little")
    area = data.find(metadata_area.MAGIC) - 4
    if area < 0 or len(data) < area + 512:
        return
    for slot in (area + 40, area + 64):
        offset, size, _, _ = metadata_area.SLOT.unpack_from(data, slot)
        if 0 < size < len(data) and area + offset + size <= len(data):
            checksum = lvm_crc(data[area + offset : area + offset + size])
            data[slot + 16 : slot + 20] = checksum.to_bytes(4, "little")
    data[area : area + 4] = lvm_crc(data[area + 4 : area + 512]).to_bytes(4, "little")


def _change_text(random: Random, data: bytes) -> bytes:
    """Lines taken out, repeated and exchanged; names and values replaced by others of the same text."""
    lines = data.split(b"\n")
    for _ in range(random.randrange(1, 5)):
        place, other = random.randrange(len(lines)), random.randrange(len(lines))
        kind = random.randrange(6)
        if kind == 0 and len(lines) > 1:
            del lines[place]
        elif kind == 1:
            lines.insert(place, lines[other])
        elif kind == 2:
            lines[place], lines[other] = lines[other], lines[place]
        elif b"=" in lines[place]:
            name, _, value = lines[place].partition(b"=")
            values = (*_VALUES, lines[other].partition(b"=")[2] or b'"x"', value.strip(b' "'))
            lines[place] = name + b"= " + random.choice(values)
        else:
            lines[place] = lines[place].replace(lines[other][:6], lines[place][:6])
    return b"\n".join(lines)


def _texts() -> list[bytes]:
    found = dump(MemoryDevice(content=_pv(), name="pv"), "metadata_all", {}, lambda line: None)
    assert found is not None
    uuids = ["-".join(letter * length for length in (6, 4, 4, 4, 4, 4, 6)) for letter in "ab"]
    return [
        *re.split(rb"\n(?=vg1 \{\n)", found)[-3:],
        *(group_text(uuids, 4096, kinds=[kind]).replace(HISTORY, "").encode() for kind in KINDS),
        group_text(uuids, 4096, kinds=KINDS[1:2]).encode(),
    ]


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
    """An empty store's, and one with devices, layers, images, names and containers in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.db")
        state = State.create(path, schema)
        found = [path.read_bytes()]
        catalog, sample = Catalog(state), Sample()
        layers = [
            Layer(f"sha256:{number:064x}", f"sha256:{number:064x}", None, f"d{number}", 1, 10240)
            for number in range(3)
        ]
        layers = [
            replace(each, parent=layers[n - 1].chain_id if n else None) for n, each in enumerate(layers)
        ]
        with state.transaction():
            for number in range(5):
                state.put_device(Device(f"d{number}", number + 1, 1 << 30, 1))
            for layer in layers:
                catalog.add_layer(layer)
            image = Image(sample.image_id, sample.config, layers[2].chain_id, "2020-01-01T00:00:00Z", 9, 3, 1)
            catalog.add_image(image)
            catalog.set_reference(Reference.parse("a/b:1"), image.id)
            state.set_note(Note(2, "create", (("d4", 5),)))
            for name in ("c", "d"):
                device = "d3" if name == "c" else "d4"
                catalog.add_container(
                    Container(
                        name * 64, name, image.id, "a/b:1", image.top, device, image.created, image.config
                    )
                )
        state.close()
        return [*found, path.read_bytes()]


def _change_row(random: Random, data: bytes) -> bytes:
    """Other values in one to three cells, as SQLite itself stores them; its constraints are not asked."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(data)
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for _ in range(random.randrange(1, 4)):
            table, columns = random.choice(_tables())
            column = random.choice(columns)
            rows = connection.execute(f"SELECT {column} FROM {table}").fetchall()
            value = random.choice((*_CELLS, *(row[0] for row in rows)))
            if not rows:
                continue
            old = random.choice(rows)[0]
            if random.randrange(8) == 0:
                connection.execute(f"DELETE FROM {table} WHERE {column} IS ?", (old,))
            else:
                connection.execute(
                    f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} IS ?", (value, old)
                )
        return connection.serialize()
    except (sqlite3.Error, IndexError, ValueError, OverflowError):
        return data
    finally:
        connection.close()


@cache
def _tables() -> list[tuple[str, list[str]]]:
    """The tables of a store's database, and their columns."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(_state_seeds()[0])
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return [
            (name, [row[1] for row in connection.execute(f"PRAGMA table_info({name})")])
            for name in sorted(names)
        ]


def _read_state(data: bytes) -> object:
    path = Path("state.db")
    path.write_bytes(data)
    try:
        return _read_rows(path)
    finally:
        # What SQLite itself writes, the driver does not see.
        assert path.read_bytes() == data


def _read_rows(path: Path) -> object:
    state = State.open(path, schema, read_only=True)
    try:
        catalog = Catalog(state)
        state.pool()
        state.note()
        found: list[Image | Container] = [*catalog.images(), *catalog.containers()]
        for each in found:
            catalog.chain(each.top)
            parse_config(each.config, "the configuration")
        for image in catalog.images():
            catalog.references(image.id)
            catalog.find_image(image.id)
            catalog.find_image(image.id[7:12])
            catalog.containers_of(image.id)
        for container in catalog.containers():
            catalog.find_container(container.name)
        catalog.unused_tops()
        catalog.devices_without_count()
        return len(found), len(catalog.layers()), len(state.devices()), len(state.integrity_problems())
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

_VALUES = (
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b'""',
    b"[]",
    b'["RESIZEABLE"]',
    b'["VISIBLE", "x"]',
)
_VALUES += (
    b'"a"',
    b'"striped"',
    b'"thin-pool"',
    b'"thin"',
    b'"snapshot"',
    b'"pv9"',
    b"1e9",
    b'["pv0", 0, "pv0", 0]',
)
_CELLS = (None, 0, -1, 1 << 62, 1.5, "", "x", "\x00", b"", b"\xff", "sha256:" + "0" * 64, "9" * 30)

TARGETS = [
    Target(
        "lvm-disk",
        _pvs,
        _read_pv,
        mutate=lambda random, data: mutate_used(random, data, 64),
        reseal=reseal_pv,
    ),
    Target(
        "lvm-text",
        _texts,
        _read_group,
        words=(b"{", b"}", b"[", b"]", b"= ", b'"', b"\\", b"#"),
        mutate=_change_text,
    ),
    Target(
        "lvm-config", lambda: [_LVM_CONF], _read_lvm_config, large=lambda: [b"a{" * 50_000, b"[" * 100_000]
    ),
    Target("state", _state_seeds, _read_state, mutate=_change_row),
    Target("config", lambda: [_CONFIG], _read_config, large=lambda: [b"a = " + b"[" * 100_000]),
]
