# SPDX-License-Identifier: Apache-2.0
"""Differences between ext4 file systems in two devices, and trees in one, for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.fs.difference import Change, list_changes, write_layer, write_tree
from lamella.fs.kinds import of_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.block import BlockDevice
    from lamella.fs.tar.write import Out

EXT4 = of_kind("ext4")


def differences(
    lower: BlockDevice, upper: BlockDevice, *, changed: Iterable[tuple[int, int]] | None = None
) -> list[Change]:
    """The changes from *lower*'s tree to *upper*'s."""
    with EXT4.pair(lower, upper, changed) as pair:
        return list_changes(pair)


def write_layer_tar(
    lower: BlockDevice, upper: BlockDevice, out: Out, *, changed: Iterable[tuple[int, int]] | None = None
) -> int:
    """Write the layer that turns *lower*'s tree into *upper*'s."""
    with EXT4.pair(lower, upper, changed) as pair:
        return write_layer(pair, out)


def write_tree_tar(device: BlockDevice, out: Out, path: bytes = b"") -> int:
    """Write the tree below *path* as a plain tar."""
    with EXT4.reader(device) as reader:
        return write_tree(reader, out, path)
