# SPDX-License-Identifier: Apache-2.0
"""The reader on damaged and hostile file systems: one clear error, never a hang or a flood of memory."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from lamella.block import MemoryDevice
from lamella.errors import CorruptError, LamellaError, NotFoundError, UnsupportedError
from lamella.fs.entry import Kind
from lamella.fs.ext4.checksum import crc32c
from lamella.fs.ext4.reader import Reader
from tests.fs.ext4.differences import differences
from tests.fs.ext4.tools import debugfs
from tests.fs.trees import make_ext4, make_rich_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INODE = 256
BLOCK = 4096


class Image:
    """A file system to be damaged on purpose, with its checksums set right again."""

    def __init__(self, content: bytes) -> None:
        self.device = MemoryDevice(content=content, name="image")
        self.reader = Reader.open(self.device)

    def place(self, number: int) -> int:
        group, index = self.reader.disk.inode_place(number)
        return self.reader.disk.tables[group] * BLOCK + index * INODE

    def number(self, path: bytes) -> int:
        return self.reader.resolve(path, follow=False)[1].number

    def change_inode(self, path: bytes, offset: int, data: bytes) -> None:
        number = self.number(path)
        place = self.place(number)
        raw = bytearray(self.device.read(place, INODE))
        raw[offset : offset + len(data)] = data
        raw[124:126] = raw[130:132] = b"\0\0"
        seed = self.seed(number, raw)
        value = crc32c(seed, raw)
        raw[124:126], raw[130:132] = (
            (value & 0xFFFF).to_bytes(2, "little"),
            (value >> 16).to_bytes(2, "little"),
        )
        self.device.write(place, raw)

    def seed(self, number: int, raw: bytes | bytearray) -> int:
        return crc32c(self.reader.disk.seed, number.to_bytes(4, "little") + bytes(raw[100:104]))

    def directory_block(self, path: bytes, index: int = 0) -> tuple[int, bytearray]:
        inode = self.reader.resolve(path)[1]
        place = (self.reader.map(inode).runs[0].physical + index) * BLOCK
        return place, bytearray(self.device.read(place, BLOCK))

    def write_directory_block(self, path: bytes, place: int, block: bytearray) -> None:
        number = self.number(path)
        seed = self.seed(number, self.device.read(self.place(number), INODE))
        block[-4:] = crc32c(seed, block[:-12]).to_bytes(4, "little")
        self.device.write(place, block)

    def fails(self, reason: str) -> None:
        with pytest.raises(CorruptError, match=reason) as caught:
            read_all(self.device)
        assert "image is damaged" in str(caught.value)


def read_all(device: MemoryDevice) -> None:
    """Everything that a reader can be asked for."""
    reader = Reader.open(device)
    reader.usage()
    for count, entry in enumerate(reader.walk()):
        assert count < 5000
        if entry.kind is Kind.FILE and entry.size < 1 << 26:
            for piece in reader.read(entry.path):
                assert len(piece) <= 1 << 20


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> bytes:
    tool("mke2fs")
    folder = tmp_path_factory.mktemp("damage")
    (folder / "tree").mkdir()
    make_rich_tree(folder / "tree", large=False)
    with open(folder / "tree" / "fragments", "wb") as file:
        for number in range(12):
            file.seek(number * 2 * BLOCK)
            file.write(b"%d" % number * 100)
    make_ext4(folder / "image", folder / "tree", "-t", "ext4", "-b", "4096", "-O", "^has_journal", size="6M")
    return (folder / "image").read_bytes()


@pytest.fixture
def image(content: bytes) -> Image:
    return Image(content)


def test_an_image_as_it_should_be(image: Image) -> None:
    read_all(image.device)


class TestChecksums:
    def test_of_an_inode(self, image: Image) -> None:
        place = image.place(image.number(b"one-block"))
        image.device.content[place + 4] ^= 1
        image.fails(f"inode {image.number(b'one-block')} fails its checksum")

    def test_of_a_directory(self, image: Image) -> None:
        place, _ = image.directory_block(b"a")
        image.device.content[place + 50] ^= 1
        image.fails(f"block 0 of directory inode {image.number(b'a')} fails its checksum")

    def test_of_an_extent_block(self, image: Image) -> None:
        inode = image.reader.resolve(b"fragments")[1]
        [node] = image.reader.map(inode).nodes
        image.device.content[node * BLOCK + 13] ^= 1
        image.fails(f"inode {inode.number} has an extent block that fails its checksum")

    def test_of_a_group_descriptor(self, image: Image) -> None:
        image.device.content[BLOCK + 12] ^= 1
        with pytest.raises(CorruptError, match="group descriptor 0"):
            Reader.open(image.device)

    def test_of_an_attribute_block(self, tmp_path: Path, content: bytes) -> None:
        image = Image(content)
        inode = image.reader.resolve(b"many-attributes")[1]
        assert inode.xattr_block
        image.device.content[inode.xattr_block * BLOCK + BLOCK - 2] ^= 1
        image.fails(f"inode {inode.number} has a block of extended attributes")


class TestStructures:
    def test_a_directory_that_holds_itself(self, image: Image) -> None:
        place, block = image.directory_block(b"a")
        at = block.index(b"second-name") - 8
        block[at : at + 4] = image.number(b"a").to_bytes(4, "little")
        image.write_directory_block(b"a", place, block)
        image.fails("a second time")

    def test_a_name_of_the_root(self, image: Image) -> None:
        place, block = image.directory_block(b"a")
        at = block.index(b"second-name") - 8
        block[at : at + 4] = (2).to_bytes(4, "little")
        image.write_directory_block(b"a", place, block)
        image.fails("a second time")

    @pytest.mark.parametrize(
        ("offset", "data", "reason"),
        [
            (0, b"\xff\xff\xff\x7f", "a name for inode 2147483647"),
            (0, (1500).to_bytes(4, "little"), "inode 1500"),
            (4, b"\x03\0", "an entry of 3 bytes"),
            (4, b"\xfc\xff", "an entry of 65532 bytes"),
            (4, b"\x00\x00", "an entry of 65536 bytes"),
            (6, b"\xff", "bytes at byte"),
            (8, b"sec/nd", "the name b'sec/nd"),
            (8, b"sec\0nd", "the name"),
        ],
    )
    def test_directory_entries(self, image: Image, offset: int, data: bytes, reason: str) -> None:
        place, block = image.directory_block(b"a")
        at = block.index(b"second-name") - 8 + offset
        block[at : at + len(data)] = data
        image.write_directory_block(b"a", place, block)
        image.fails(reason)

    @pytest.mark.parametrize(
        ("offset", "data", "reason"),
        [
            (40, b"\0\0", "a bad extent header"),
            (42, b"\x05\0", "a bad extent header"),
            (46, b"\x06\0", "a bad extent header"),
            (46, b"\x01\0", "inode"),
            (56, b"\0\0", "an impossible extent"),
            (60, b"\xff\xff\xff\xff", "outside its"),
            (60, b"\0\0\0\0", "refers to 1 blocks at 0"),
            (108, b"\0\0\0\x80", "claims"),
            (128, b"\xff\0", "claims 255 further bytes"),
            (0, b"\0\0", "marked as free"),
            (26, b"\0\0", "marked as free"),
            (104, b"\xff\xff\xff\x7f", "outside its"),
            (104, b"\x01\0\0\0", "a bad block of extended attributes"),
        ],
    )
    def test_inodes(self, image: Image, offset: int, data: bytes, reason: str) -> None:
        image.change_inode(b"one-block", offset, data)
        image.fails(reason)

    def test_extents_that_lead_back(self, image: Image) -> None:
        """An index of which every entry leads to one block, whose extents then come again."""
        inode = image.reader.resolve(b"fragments")[1]
        [node] = image.reader.map(inode).nodes
        entry = inode.block[12:24]
        image.change_inode(b"fragments", 42, b"\x02\0")
        image.change_inode(b"fragments", 64, entry)
        image.fails("extents out of order")
        assert node

    def test_a_huge_size_is_no_huge_work(self, image: Image) -> None:
        """A hole of many terabytes reads as zeros, piece by piece."""
        image.change_inode(b"one-block", 108, (1 << 12).to_bytes(4, "little"))
        reader = Reader.open(image.device)
        assert reader.stat(b"one-block").size == (1 << 44) + BLOCK
        pieces = reader.read(b"one-block", 1 << 43)
        assert next(pieces) == bytes(1 << 20)

    def test_symlinks(self, image: Image) -> None:
        image.change_inode(b"long-link", 4, (5000).to_bytes(4, "little"))
        image.fails("claims 5000 bytes")

    def test_an_empty_symlink(self, image: Image) -> None:
        image.change_inode(b"short-link", 4, bytes(4))
        image.fails("has no target")

    def test_attributes_in_the_inode(self, image: Image) -> None:
        number = image.number(b"marked")
        start = 128 + 32 + 4
        raw = image.device.read(image.place(number), INODE)
        assert raw[start - 4 : start] == b"\0\0\x02\xea"
        for offset, data, reason in (
            (0, b"\xff", "cut off"),
            (1, b"\x63", "prefix 99"),
            (2, b"\xff\xff", "a value is cut off"),
            (8, b"\xff\xff\xff\xff", "a value of 4294967295 bytes"),
            (4, b"\x02\0\0\0", "inode 2 does not hold its value"),
            (16, b"\0", "a name with a NUL in it"),
        ):
            broken = Image(bytes(image.device.content))
            broken.change_inode(b"marked", start + offset, data)
            broken.fails(f"inode {number} has a bad extended attribute: .*{reason}")

    def test_unknown_features(self, content: bytes, tmp_path: Path, tool: Callable[[str], str]) -> None:
        (tmp_path / "image").write_bytes(content)
        debugfs(tool, tmp_path / "image", "set_super_value feature_incompat 0x402c2")
        with pytest.raises(UnsupportedError, match="0x40000"):
            Reader.open(MemoryDevice(content=(tmp_path / "image").read_bytes()))

    def test_an_inode_in_a_part_that_was_never_used(self, image: Image) -> None:
        place, block = image.directory_block(b"a")
        at = block.index(b"second-name") - 8
        block[at : at + 4] = image.reader.disk.inodes_count.to_bytes(4, "little")
        image.write_directory_block(b"a", place, block)
        image.fails("in an unused part of group")


def indirect_image(folder: Path, tree: Path) -> bytes:
    make_ext4(folder / "image", tree, "-t", "ext2", "-b", "1024", size="8M")
    return (folder / "image").read_bytes()


def test_block_maps_that_lead_back(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """A triple indirect block that is its own child would stand for a billion blocks."""
    tool("mke2fs")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(random.Random(1).randbytes(400_000))
    device = MemoryDevice(content=indirect_image(tmp_path, tmp_path / "tree"), name="image")
    reader = Reader.open(device)
    inode = reader.resolve(b"file")[1]
    node = reader.map(inode).nodes[0]
    group, index = reader.disk.inode_place(inode.number)
    place = reader.disk.tables[group] * 1024 + index * reader.disk.inode_size
    device.write(place + 40 + 14 * 4, node.to_bytes(4, "little"))
    device.write(place + 40 + 12 * 4, bytes(4))
    device.write(place + 108, (1 << 4).to_bytes(4, "little"))
    device.write(node * 1024, node.to_bytes(4, "little") * 256)
    with pytest.raises(CorruptError, match=f"uses its indirect block {node} twice"):
        b"".join(Reader.open(device).read(b"file"))


def damaged_copies(content: bytes, seed: int, count: int) -> Iterator[MemoryDevice]:
    """Copies with bits flipped, mostly where the metadata is."""
    generator = random.Random(seed)
    reader = Reader.open(MemoryDevice(content=content))
    disk = reader.disk
    hot: list[tuple[int, int]] = [(1024, 1024), (disk.block_size * (disk.first_block + 1), 64)]
    for _, inode in reader.walk_inodes(b"", reader.resolve(b"")[1]):
        group, index = disk.inode_place(inode.number)
        hot.append((disk.tables[group] * disk.block_size + index * disk.inode_size, disk.inode_size))
        blocks = reader.map(inode)
        hot += [(node * disk.block_size, disk.block_size) for node in blocks.nodes]
        if inode.kind is Kind.DIRECTORY:
            hot += [(run.physical * disk.block_size, disk.block_size) for run in blocks.runs]
        if inode.xattr_block:
            hot.append((inode.xattr_block * disk.block_size, disk.block_size))
    for _ in range(count):
        device = MemoryDevice(content=content, name="image")
        for _ in range(generator.choice((1, 3, 30))):
            start, length = generator.choice(hot)
            device.content[start + generator.randrange(length)] = generator.choice(
                (0, 1, 255, generator.randrange(256))
            )
        yield device


@pytest.mark.parametrize(
    "options",
    [
        ["-t", "ext4", "-b", "1024"],
        ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"],
        ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,inline_data"],
        ["-t", "ext2", "-b", "1024"],
    ],
    ids=["checksums", "no checksums", "inline data", "ext2"],
)
def test_random_damage(options: list[str], tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("mke2fs")
    (tmp_path / "tree").mkdir()
    make_rich_tree(tmp_path / "tree", large=False)
    os.remove(tmp_path / "tree" / "many-attributes")
    features = (
        options if options[1] == "ext2" else [*options[:4], "-O", ",".join(["^has_journal", *options[5:]])]
    )
    make_ext4(tmp_path / "image", tmp_path / "tree", *features, size="3M")
    content = (tmp_path / "image").read_bytes()
    sound = MemoryDevice(content=content)
    for number, device in enumerate(damaged_copies(content, 11, 150)):
        try:
            read_all(device)
        except LamellaError:
            pass
        if number % 5 == 0:
            try:
                differences(sound, device, changed=[(0, device.size)])
            except LamellaError:
                pass


@pytest.mark.parametrize("end", [0, 100, 1024, 2047, 2048, 4096, 8192, 1 << 20, -1])
def test_cut_off(content: bytes, end: int) -> None:
    with pytest.raises((CorruptError, NotFoundError)):
        read_all(MemoryDevice(content=content[:end], name="image"))
