# SPDX-License-Identifier: Apache-2.0
"""What must hold of a group's disks after a power cut at any moment, whatever was being written.

The rules are LVM2's protocol (lib/metadata/metadata.c: vg_write, vg_precommit, vg_commit): a text is durable
before any header refers to it, every area's header refers to it before one commits it, and a disk is marked
as used before it has a group's text. A reader may then take any area for the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.lvm.disks.scan import scan
from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.metadata_area import text_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.block import BlockDevice
    from lamella.lvm.disks.disk import MetadataCopy
    from lamella.lvm.format.metadata_area import Slot


def slot_text(copy: MetadataCopy, slot: Slot) -> bytes:
    """The text that *slot* refers to; b"" if it refers to none."""
    if slot.empty:
        return b""
    assert copy.header is not None
    ranges = text_ranges(copy.header, slot, copy.disk.path)
    return b"".join(copy.disk.reader.read(offset, length) for offset, length in ranges)


def check_areas(devices: Mapping[str, BlockDevice], what: str, *, held: bool = True) -> None:
    """Assert the rules on the disks *devices* as the crash *what* left them.

    *held*: no area joins or leaves the group, so that one committed text is in every area.
    """
    newest, seqno = b"", -1
    known: list[tuple[str, set[bytes]]] = []
    for disk in scan([], given=devices).disks:
        for copy in disk.copies:
            assert copy.header is not None, f"{disk.path}: no header {what}"
            if copy.header.ignored or copy.header.committed.empty:
                continue
            slots = (copy.header.committed, copy.header.precommitted)
            texts = [slot_text(copy, slot) for slot in slots]
            for slot, text in zip(slots, texts, strict=True):
                assert not text or slot.checksum == lvm_crc(text), f"{disk.path}: a text is not there {what}"
            assert disk.label is not None
            assert disk.label.used, f"{disk.path} has a group's text and is not marked as used {what}"
            assert copy.group is not None
            if copy.group.seqno > seqno:
                newest, seqno = texts[0], copy.group.seqno
            known.append((disk.path, set(texts)))
    if held:
        for path, texts in known:
            assert newest in texts, f"{path} does not know the text that another area committed {what}"
