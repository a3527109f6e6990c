# SPDX-License-Identifier: Apache-2.0
"""The checks and messages around the activation of a thin pool: metadata, transaction ids, queued messages.

The metadata is checked by :mod:`lamella.thin.tools.check` in place of the program ``thin_check``, with the
policy of LVM2's default options: the ``needs_check`` flag of sound metadata is cleared and leaked space is
freed, as newer thin-provisioning-tools 1.x do with these options; a pool with corrupt metadata is left as it
is and not activated.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.errors import CorruptError, LamellaError, NoSpaceError, ReadOnlyError

if TYPE_CHECKING:
    from lamella.block.device import BlockDevice
    from lamella.devicemapper.client import DeviceMapper
    from lamella.lvm.format.model import LogicalVolume, VolumeGroup
    from lamella.lvm.format.segments import ThinPoolSegment

log = logs.logger(__name__)

BLOCK = 4096


def check_metadata(node: str, *, write: bool = True) -> bool:
    """Whether the pool metadata on the block device *node* is sound, or all zero as that of a new pool.

    With *write*, the ``needs_check`` flag of sound metadata is cleared, and leaked blocks are freed. Leaks
    do not make it corrupt: the kernel leaves them after a power cut, and they only cost space.
    """
    from lamella.block.file import FileDevice
    from lamella.thin.tools.check import check
    from lamella.thin.tools.leak_repair import clear_needs_check, repair_leaks

    device = FileDevice(node, read_only=not write, lock=False)
    try:
        if not any(device.read(0, BLOCK)):
            return True
        report = check(device)
        if not (report.ok or report.only_space_maps):
            log.info("pool metadata %s is damaged: %s", node, report.problems[0])
            return False
        if write:
            if report.only_space_maps:
                log.info("pool metadata %s: freeing leaked blocks", node)
                with suppress(NoSpaceError):  # full metadata: the space stays lost until it has grown
                    repair_leaks(device, report)
            clear_needs_check(device)
        return True
    finally:
        device.close()


def refuse_blank(group: VolumeGroup, pool: LogicalVolume, metadata: BlockDevice) -> bool:
    """Whether the pool's metadata begins with zeros, as that of a new pool. Raises :class:`CorruptError` if
    the group has, or had, volumes in it: engine and kernel would format it, and all of them would be lost.
    """
    if any(metadata.read(0, min(BLOCK, metadata.size))):
        return False
    if not group.pool_was_used(pool):
        return True
    full = f"{group.name}/{pool.name}"
    raise CorruptError(
        f"Thin pool {full} has lost its metadata: it begins with zeros, though it has had volumes.",
        hint=f"rebuild it from what is left: lvconvert --repair {full}",
    )


def refuse_blank_device(group: VolumeGroup, pool: LogicalVolume, node: str) -> None:
    """:func:`refuse_blank` for the metadata on the block device *node*."""
    from lamella.block.file import FileDevice

    with FileDevice(node, read_only=True, lock=False) as device:
        refuse_blank(group, pool, device)


def has_unsent_messages(dm: DeviceMapper, name: str, segment: ThinPoolSegment) -> bool:
    """Whether the messages queued in *segment* have not been sent yet to the pool that is device *name*.

    Raises :class:`CorruptError` if the pool's transaction id is neither the one before nor the one after
    them. An id of 0 in the metadata means that another program manages the pool: nothing is checked.
    """
    if not segment.transaction_id and not segment.messages:
        return False
    from lamella.thin.status import PoolMode, parse_status

    lines = dm.status(name)
    text = lines[0].text if lines else ""
    state = parse_status(text or "Fail")
    info = dm.info(name)
    if state.mode is PoolMode.FAIL:
        raise CorruptError(
            f"Thin pool {name} ({info.number}) has failed: its status is {text!r}",
            hint="dmesg says why; deactivate it, and repair it: lvconvert --repair VG/POOL",
        )
    if state.transaction_id == segment.transaction_id:
        return False
    expected = segment.transaction_id - bool(segment.messages)
    if state.transaction_id != expected:
        raise CorruptError(
            f"Thin pool {name} ({info.number}) transaction_id is {state.transaction_id}, while expected "
            f"{expected}.",
            hint="see which of the two is newer: vgcfgrestore --list VG, thin_dump; then repair the older",
        )
    if segment.messages and state.mode_word == "ro":
        raise ReadOnlyError(
            f"Cannot send messages to thin pool {name} in read only state.",
            hint="see why: dmsetup status, dmesg; repair it: lvconvert --repair VG/POOL",
        )
    return bool(segment.messages)


def send_messages(dm: DeviceMapper, group: VolumeGroup, pool_lv: LogicalVolume, name: str) -> None:
    """Send the messages queued for *pool_lv* to the pool that is device *name*, and raise its transaction
    id.

    An active origin of a snapshot is suspended for its message, with its file system frozen. Each message is
    a commit of the pool's; so those carried out before an interruption are skipped, as in LVM2.
    """
    segment = group.pool_segment(pool_lv)
    for verb, what in segment.messages:
        if verb == "delete":
            _send_once(dm, name, f"delete {what}", done=errno.ENODATA)
            continue
        thin = group.lvs[str(what)].thin if str(what) in group.lvs else None
        if thin is None:
            raise CorruptError(
                f"thin pool {group.name}/{pool_lv.name} has a message for {what}, which is not thin",
                hint="restore the group's metadata from a backup",
            )
        if not thin.origin:
            _send_once(dm, name, f"create_thin {thin.device_id}", done=errno.EEXIST)
            continue
        _snapshot(dm, group, name, thin.device_id, thin.origin)
    dm.message(name, f"set_transaction_id {segment.transaction_id - 1} {segment.transaction_id}")


def _snapshot(dm: DeviceMapper, group: VolumeGroup, pool: str, device_id: int, origin_name: str) -> None:
    from lamella.lvm.activation.device_tree import top_uuid

    origin = group.lvs[origin_name]
    if origin.thin is None:
        raise CorruptError(
            f"{group.name}/{origin_name}, the origin of a snapshot, is not a thin volume",
            hint="restore the group's metadata from a backup",
        )
    text = f"create_snap {device_id} {origin.thin.device_id}"
    active = dm.find(uuid=top_uuid(group, origin))
    if active is None or active.suspended:
        _send_once(dm, pool, text, done=errno.EEXIST)
        return
    from lamella.lvm.activation.memory_lock import memory_locked

    with memory_locked([active.number]), dm.suspended(active.name):
        _send_once(dm, pool, text, done=errno.EEXIST)


def _send_once(dm: DeviceMapper, pool: str, text: str, *, done: int) -> None:
    """Send a message; the kernel's error *done* means that it was carried out already."""
    try:
        dm.message(pool, text)
    except LamellaError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != done:
            raise


def explain_refusal(error: LamellaError, full_name: str) -> CorruptError:
    """LVM2's error for a pool that the check found corrupt."""
    return CorruptError(
        f"Check of pool {full_name} failed (status:1). Manual repair required!",
        hint=error.hint or f"lvconvert --repair {full_name}",
        steps=error.steps,
    )
