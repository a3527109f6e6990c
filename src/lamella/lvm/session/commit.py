# SPDX-License-Identifier: Apache-2.0
"""Commit a changed group to every metadata area, so that an interruption leaves either the old or the new
metadata.

In LVM2's order: the text, which nothing refers to yet; then each header's second slot; then each header's
first slot, which commits it. All areas finish one step, and it is durable, before any starts the next
(lib/metadata/metadata.c: vg_write, vg_precommit, vg_commit). Active volumes are suspended only around the
last step.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import LamellaError, UsageError
from lamella.lvm.disks.notice import Notice
from lamella.lvm.format.group_checks import check_before_write
from lamella.lvm.format.group_writer import write_compact
from lamella.lvm.format.label import EXTENSION_VERSION, USED
from lamella.lvm.format.metadata_area import IGNORED, AreaHeader, Slot, place_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from lamella.lvm.disks.disk import Disk, MetadataCopy
    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.group_writer import Header

log = logs.logger(__name__)


def commit_group(
    found: FoundGroup,
    header: Header,
    say: Callable[[Notice], None],
    around: AbstractContextManager[None] | None = None,
) -> None:
    """Raise the group's sequence number and write it to all its good areas that are not ignored.

    *around* is entered before the last step and left after it. Raises before anything is committed:
    :class:`~lamella.errors.CorruptError` for a group that could not be read again,
    :class:`~lamella.errors.NoSpaceError` if the text is too large, or the error of a disk or of *around*.
    Once the first area is committed, a failing disk is only reported.
    """
    group = found.group
    targets = [copy for copy in found.copies if copy.header is not None and not copy.problem]
    # Areas that are about to be ignored take this last text first, as LVM does.
    active = [copy for copy in targets if not copy.ignored and copy.will_be_ignored]
    active += [copy for copy in targets if not copy.will_be_ignored]
    if all(copy.will_be_ignored for copy in active):
        raise UsageError(
            "Aborting vg_write: No metadata areas to write to!",
            hint="let pvchange --metadataignore n give it one, or vgck --updatemetadata repair one",
        )
    check_before_write(group)
    group.seqno += 1
    text = write_compact(group, header).encode("utf-8", "surrogateescape") + b"\0"
    places: list[tuple[MetadataCopy, Slot]] = []
    pending = []
    for copy in active:
        assert copy.header is not None
        slot, pieces = place_text(copy.header, text, copy.disk.path)
        slot.flags = IGNORED if copy.will_be_ignored else 0
        places.append((copy, slot))
        pending.append((copy.disk, pieces))
    for copy in [copy for copy in found.stale if copy in active]:
        line = f"WARNING: updating old metadata to {group.seqno} on {copy.disk.path} for VG {group.name}."
        say(Notice("stale", line, copy.disk.path))
    for disk in found.disks.values():
        if disk.label is not None and disk.label.extension_version < EXTENSION_VERSION:
            say(Notice("header", f"WARNING: updating PV header on {disk.path} for VG {group.name}."))
    mark_used(found.disks.values(), True)
    for disk, pieces in pending:
        for offset, piece in pieces:
            log.debug("%s: writing %d bytes of metadata at byte %d", disk.path, len(piece), offset)
            disk.writer.write(offset, piece)
    disks = list(dict.fromkeys(copy.disk for copy in active))
    for disk in disks:
        disk.writer.flush()
    before = [copy.header for copy, _slot in places]
    _precommit(places, disks)
    committed = False
    try:
        with around or nullcontext():
            _commit(places, disks, text, found, say)
            committed = True
        log.info("volume group %s: sequence number %d committed", group.name, group.seqno)
    except BaseException:
        if not committed:
            log.info("volume group %s: sequence number %d rolled back", group.name, group.seqno)
            group.seqno -= 1
            _revert(places, before)
        raise


def _precommit(places: list[tuple[MetadataCopy, Slot]], disks: list[Disk]) -> None:
    """Write the second slots, which refer to the new text."""
    for copy, slot in places:
        assert copy.header is not None
        old = copy.header
        if old.committed.empty or old.ignored:
            # The reader stops at a first slot without an offset, so there is no precommit to write;
            # and what an ignored area holds is out of date.
            copy.header = AreaHeader(old.start, old.size, Slot(flags=old.committed.flags), Slot())
        else:
            copy.header = AreaHeader(old.start, old.size, replace(old.committed), slot)
        copy.disk.write_header(copy)
    for disk in disks:
        disk.writer.flush()


def _revert(places: list[tuple[MetadataCopy, Slot]], before: list[AreaHeader | None]) -> None:
    """Clear the second slots again. Nothing reads them, so errors of disks are ignored."""
    for (copy, _slot), old in zip(places, before, strict=True):
        copy.header = old
        with suppress(LamellaError):
            copy.disk.write_header(copy)
            copy.disk.writer.flush()


def _commit(
    places: list[tuple[MetadataCopy, Slot]],
    disks: list[Disk],
    text: bytes,
    found: FoundGroup,
    say: Callable[[Notice], None],
) -> None:
    """Write the first slots, which commit the new text."""
    done = 0
    first: LamellaError | None = None
    for copy, slot in places:
        assert copy.header is not None
        copy.header = AreaHeader(copy.header.start, copy.header.size, slot, Slot())
        try:
            copy.disk.write_header(copy)
            done += 1
            copy.text = text
            copy.group = found.group
            copy.ignore_next = None
        except LamellaError as error:
            first = first or error
            say(
                Notice("write", f"Failed to write metadata to {copy.disk.path}: {error.message}", "", "error")
            )
    for disk in disks:
        try:
            disk.writer.flush()
        except LamellaError as error:
            say(Notice("write", f"Failed to write metadata to {disk.path}: {error.message}", "", "error"))
    if not done and first is not None:
        raise first
    found.stale = []


def mark_used(disks: Iterable[Disk], used: bool) -> None:
    """Set or clear the label's flag "belongs to a group" where it says otherwise, or its header is old."""
    for disk in disks:
        label = disk.label
        if label is not None and (label.used != used or label.extension_version < EXTENSION_VERSION):
            label.flags = label.flags | USED if used else label.flags & ~USED
            label.extension_version = EXTENSION_VERSION
            disk.write_label()


def forget_group(disks: Iterable[Disk]) -> None:
    """Clear the slots of disks that leave a group; then clear the label's flag."""
    for disk in disks:
        for copy in disk.copies:
            if copy.header is None:
                continue
            flags = copy.header.committed.flags
            copy.header = AreaHeader(copy.start, copy.header.size, Slot(flags=flags), Slot())
            copy.text = b""
            copy.group = None
            copy.problem = ""
            disk.write_header(copy)
        if disk.copies:
            disk.writer.flush()
        if disk.label is not None:
            # What pvresize took away counts only inside a group.
            disk.label.device_size = disk.size // 512 * 512
        mark_used((disk,), False)
