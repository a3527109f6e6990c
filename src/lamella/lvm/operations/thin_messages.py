# SPDX-License-Identifier: Apache-2.0
"""The messages of LVM to a thin pool: queued in the group's text, then carried out, by the kernel where the
pool is active, else by the user-space engine.

LVM2 writes "create" and "delete" messages into the pool's segment together with a raised transaction id,
sends them when it next changes something in the active pool, and removes them from the text. A pool whose
own id equals the text's has carried them out; one whose id is one less has not; any other id is a mismatch.
So after an interruption at any point, the next LVM2 or Lamella that changes the pool completes the change.

A pool with transaction id 0 in the text is managed by another program (Docker, containerd, Lamella's own
store): LVM checks nothing then, and creates no thin volumes in it once the pool's own id has changed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.errors import BusyError, CorruptError, ReadOnlyError
from lamella.lvm.activation.pool_checks import refuse_blank
from lamella.lvm.disks.volume_device import open_lv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.disks.scan import FoundGroup
    from lamella.lvm.format.model import LogicalVolume
    from lamella.lvm.format.segments import ThinPoolSegment
    from lamella.lvm.session.session import Session
    from lamella.thin.engine.pool import Pool
    from lamella.thin.status import PoolStatus


@contextmanager
def opened_pool(found: FoundGroup, pool_lv: LogicalVolume, *, read_only: bool = False) -> Iterator[Pool]:
    """Open the pool in the user-space engine; changes are committed at the end.

    A pool that was never used has empty metadata and is formatted first, as the kernel does it.
    """
    from lamella.thin.engine.pool import Pool, PoolOptions
    from lamella.thin.status import discards_of

    segment = found.group.pool_segment(pool_lv)
    metadata = open_lv(found, segment.metadata, read_only=read_only)
    data = open_lv(found, segment.data, read_only=read_only)
    options = PoolOptions(
        zero=segment.zero,
        discards=discards_of(segment.discards) or "ignore",
        error_if_no_space="ERROR_WHEN_FULL" in pool_lv.flags,
    )
    if not read_only and refuse_blank(found.group, pool_lv, metadata):
        pool = Pool.create(metadata, data, chunk_size=segment.chunk_size, options=options)
    else:
        pool = Pool.open(metadata, data, options=options, read_only=read_only)
    with pool:
        yield pool


def queue_create(segment: ThinPoolSegment, lv: LogicalVolume) -> None:
    """Queue the creation of a thin device for *lv*. Does not commit."""
    _raise_id(segment)
    segment.messages.append(("create", lv.name))


def queue_delete(segment: ThinPoolSegment, device_id: int) -> None:
    """Queue the deletion of a thin device. Does not commit."""
    _raise_id(segment)
    segment.messages.append(("delete", device_id))


def unqueue_or_delete(segment: ThinPoolSegment, name: str, device_id: int) -> None:
    """Queue the deletion of the thin device of volume *name*, or drop the queued creation of it. Does not
    commit.
    """
    if ("create", name) not in segment.messages:
        queue_delete(segment, device_id)
        return
    segment.messages.remove(("create", name))
    if not segment.messages:
        segment.transaction_id -= 1


def _raise_id(segment: ThinPoolSegment) -> None:
    if not segment.messages:
        segment.transaction_id += 1


def live_status(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> PoolStatus | None:
    """The state of the pool in the kernel; None if it is not active."""
    from lamella.thin.status import parse_status

    kernel = session.kernel(found)
    text = kernel.pool_status(found, pool_lv.name) if kernel is not None else None
    return None if text is None else parse_status(text)


def pool_status(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> PoolStatus | None:
    """The state of the pool, in the kernel or as its metadata has it; None for one that was never used."""
    status = live_status(session, found, pool_lv)
    if status is not None:
        return status
    segment = found.group.pool_segment(pool_lv)
    if refuse_blank(found.group, pool_lv, open_lv(found, segment.metadata, read_only=True)):
        return None
    with opened_pool(found, pool_lv, read_only=True) as pool:
        return pool.status()


def check_own(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> None:
    """Raise unless LVM may create thin volumes in the pool: its transaction id must be the text's."""
    segment = found.group.pool_segment(pool_lv)
    status = live_status(session, found, pool_lv)
    if status is not None:
        if status.mode_word != "rw" and status.mode_word != "out_of_data_space":
            raise ReadOnlyError(
                f"thin pool {found.group.name}/{pool_lv.name} takes no changes: its status in the kernel is "
                f"{status.line().strip()}",
                hint="dmesg says why; deactivate it, and lvconvert --repair it",
            )
        _check_id(found, pool_lv, segment, status.transaction_id)
        return
    if refuse_blank(found.group, pool_lv, open_lv(found, segment.metadata, read_only=True)):
        return
    with opened_pool(found, pool_lv, read_only=True) as pool:
        _check_id(found, pool_lv, segment, pool.transaction_id)


def _check_id(found: FoundGroup, pool_lv: LogicalVolume, segment: ThinPoolSegment, own: int) -> None:
    expected = segment.transaction_id
    if own == expected or (segment.messages and own == expected - 1):
        return
    name = f"{found.group.name}/{pool_lv.name}"
    if expected == 0:
        raise BusyError(
            f"thin pool {name} is managed by another program (its transaction_id is {own}, LVM's is 0)",
            hint="make volumes with that program, or make a pool of your own",
        )
    raise CorruptError(
        f"Thin pool {name} transaction_id is {own}, while expected {expected}.",
        hint="see which of the two is newer: vgcfgrestore --list, thin_dump; then repair the older",
    )


def send_messages(session: Session, found: FoundGroup, pool_lv: LogicalVolume) -> None:
    """Carry out what is queued, and commit the text without it. Nothing to do without messages."""
    segment = found.group.pool_segment(pool_lv)
    if not segment.messages or session.test:
        return
    kernel = session.kernel(found)
    if kernel is not None and kernel.pool_status(found, pool_lv.name) is not None:
        kernel.send_messages(found, pool_lv.name)
    else:
        _send_in_user_space(found, pool_lv, segment)
    segment.messages = []
    session.commit(found, ())


def _send_in_user_space(found: FoundGroup, pool_lv: LogicalVolume, segment: ThinPoolSegment) -> None:
    group = found.group
    with opened_pool(found, pool_lv) as pool:
        _check_id(found, pool_lv, segment, pool.transaction_id)
        if pool.transaction_id != segment.transaction_id:
            for verb, what in segment.messages:
                if verb == "delete":
                    if int(what) in pool.devices():
                        pool.delete(int(what))
                    continue
                thin = group.lvs[str(what)].thin
                if thin is None:
                    raise CorruptError(
                        f"thin pool {group.name}/{pool_lv.name} has a message for {what}, which is not thin",
                        hint="restore the group's metadata from a backup",
                    )
                origin = group.lvs[thin.origin].thin if thin.origin else None
                if origin is not None:
                    pool.create_snap(thin.device_id, origin.device_id)
                else:
                    pool.create_thin(thin.device_id)
            pool.set_transaction_id(pool.transaction_id, segment.transaction_id)
