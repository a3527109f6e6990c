# SPDX-License-Identifier: Apache-2.0
"""Transactions that change the pool and ``state.db`` together, by the pool's transaction id and a note.

A change of the device list has three steps:

1. ``state.db``: a note of what is about to change, with the transaction id that it will have;
2. the pool: the change and the raised transaction id, in one commit;
3. ``state.db``: the outcome and the new transaction id, and the note is gone.

Whatever moment the power goes or the process dies, opening finds one of four states:

===========================  ==============================================================
no note, ids equal           clean
a note, pool's id unchanged  step 2 did not happen, or only half of it (a flush commits too)
a note, pool's id is its     step 3 did not happen
anything else                one of the two was changed externally: an error, nothing is changed
===========================  ==============================================================

In both cases with a note, the creation of a device is rolled back (the caller never saw success), and a
device being deleted is deleted: it was marked, and so not visible any more, before.

The kernel's pool cannot do step 2 in one commit: each message is one. A created device is then deleted where
the user engine would abort; the messages leave the same four states.

A transaction's id is larger than the last one by a random number. So two copies of a store in which something
was changed differ in their ids, and ``state.db`` of the one with the pool of the other is told
(``docs/decisions/106-random-transaction-ids.md``). The id is set before a device is created, whose details
then have it, as its row in ``state.db`` does.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella import logs
from lamella.driver.state import Note
from lamella.errors import BusyError, CorruptError, LamellaError, NoSpaceError, NotFoundError, ReadOnlyError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from lamella.driver.state import Device, State
    from lamella.thin.interface import ThinPool

log = logs.logger(__name__)


STEP = 1 << 31
"""By up to how much a transaction id grows."""


def next_id(last: int) -> int:
    """The id of the transaction after *last*. That of a set-up is 1, by which it knows its own work again."""
    return 1 if not last else last + 1 + int.from_bytes(os.urandom(8)) % STEP


def compare(pool: ThinPool, state: State) -> None:
    """Raise :class:`CorruptError` unless the pool and ``state.db`` belong together."""
    compare_id(pool.transaction_id, state)


def compare_id(in_pool: int, state: State) -> None:
    """The same, for a pool that is at transaction *in_pool*."""
    stored = state.pool().transaction_id
    note = state.note()
    allowed = {stored} if note is None else {stored, note.transaction_id}
    if (note is None or note.transaction_id > stored) and in_pool in allowed:
        return
    if note is None:
        known = f"state.db ended with transaction {stored}"
    else:
        known = f"state.db ended with transaction {stored} and recorded transaction {note.transaction_id}"
    raise CorruptError(
        f"the pool is at transaction {in_pool}, but {known}: one was changed without the other",
        hint="if state.db or the pool is from a backup or from a copy of the store, restore the other from "
        "the same. Where that cannot be done, 'lamella repair' shows which devices are the same in both, and "
        "with --yes goes on with these and marks the others as lost. Nothing was changed",
    )


def finish_interrupted(pool: ThinPool, state: State, *, discard: bool = False) -> bool:
    """Roll back or finish an interrupted transaction; whether there was one. Call :func:`compare` before.

    *discard* also discards the space of deleted devices, and what was never committed, on the data device.
    Every step may be repeated, so an interruption in here does no harm. Raises :class:`BusyError` where a
    transaction of this process is open, of which that note may be.
    """
    if pool.in_transaction:
        raise BusyError(
            f"a transaction is open in the pool {pool.name}",
            hint="wait until the operation that began it has ended",
        )
    note = state.note()
    if note is None:
        return False
    log.info("transaction %d (%s) was interrupted: ending it", note.transaction_id, note.action)
    if note.action == "create":
        with state.alone():
            _roll_back(pool, state, note, discard=discard)
    else:
        delete(pool, state, note, discard=discard)
    return True


@contextmanager
def creating(
    pool: ThinPool,
    state: State,
    device: Device,
    record: Callable[[sqlite3.Connection, Device], None] | None = None,
    *,
    discard: bool = False,
    count: bool = True,
) -> Iterator[Device]:
    """Make *device* in the block, which changes the pool but does not commit it.

    Gives the device as it will be recorded. What the block writes to ``state.db``, and what *record*
    adds once the device is there, appear together with it. A failing block leaves both as they were;
    *discard* also discards the space that it wrote to. *count*: record how many chunks the device maps,
    unless it has that already. Where it replaces one of the same name, *record* has to keep that one's id.
    """
    finish_interrupted(pool, state, discard=discard)
    old = pool.transaction_id
    note = Note(next_id(old), "create", ((device.hash, device.device_id),))
    made = replace(device, transaction_id=note.transaction_id)
    pool.begin(discard=discard)
    try:
        with state.transaction():
            state.set_note(note)
        log.info(
            "transaction %d begun: create device %d, %s", note.transaction_id, device.device_id, device.hash
        )
        with ExitStack() as alone, state.transaction() as connection:
            pool.set_transaction_id(old, note.transaction_id)
            yield made
            alone.enter_context(state.alone())  # until state.db has it, too
            pool.commit()
            if count and made.mapped is None:
                made = replace(made, mapped=pool.mapped_chunks(made.device_id))
            state.put_device(made)
            state.set_pool(transaction_id=note.transaction_id, next_device_id=device.device_id)
            state.clear_note()
            if record:
                record(connection, made)
        log.info("transaction %d committed", note.transaction_id)
    except BaseException:
        # The error is what the caller must see. If even the rollback fails (a dead disk), the note
        # stays, and the next opening rolls back.
        with suppress(LamellaError), state.alone():
            log.info("transaction %d fails: rolling it back", note.transaction_id)
            pool.abort()
            _roll_back(pool, state, note, discard=discard)
        raise


def note_deletion(pool: ThinPool, state: State, devices: Sequence[Device]) -> Note:
    """Write the note, inside a transaction, that *devices*, which are marked, are being deleted.

    There may be no other note: call :func:`finish_interrupted` before, and :func:`delete` next.
    """
    note = Note(next_id(pool.transaction_id), "delete", tuple((d.hash, d.device_id) for d in devices))
    state.set_note(note)
    return note


def delete(pool: ThinPool, state: State, note: Note, *, discard: bool) -> list[str]:
    """Delete the devices of a *note* that is durable, all in one transaction of the pool.

    Gives the names of those that are open, and stay marked.
    """
    with state.alone():
        return _delete_noted(pool, state, note, discard=discard)


def _delete_noted(pool: ThinPool, state: State, note: Note, *, discard: bool) -> list[str]:
    open_ = []
    for name, device_id in note.devices:
        try:
            _delete(pool, device_id, discard=discard)
        except BusyError:
            open_.append(name)
    reached = pool.transaction_id
    if reached < note.transaction_id:
        pool.set_transaction_id(reached, note.transaction_id)
        reached = note.transaction_id
    pool.commit()
    # Until this is durable, the note stays: the next opening after a crash calls this again.
    deleted = len(note.devices) - len(open_)
    log.info("transaction %d committed: %d devices deleted, %d open", reached, deleted, len(open_))
    with state.transaction(lazy=True):
        for name, _ in note.devices:
            if name not in open_:
                state.drop_device(name)
        state.set_pool(transaction_id=reached)
        state.clear_note()
    return open_


def _roll_back(pool: ThinPool, state: State, note: Note, *, discard: bool) -> None:
    if discard:
        # First: where the host's disk is full, all that follows may depend on this.
        pool.trim()
    for _, device_id in note.devices:
        _delete(pool, device_id, discard=discard)
    pool.commit()
    with state.transaction():
        state.set_pool(transaction_id=pool.transaction_id)
        state.clear_note()
    log.info("transaction %d rolled back", note.transaction_id)


def _delete(pool: ThinPool, device_id: int, *, discard: bool) -> None:
    """Delete the device if it is there. A full pool may refuse to delete one that is not."""
    try:
        pool.delete(device_id, discard=discard)
    except NotFoundError:
        pass
    except (NoSpaceError, ReadOnlyError):
        if pool.has_device(device_id):
            raise
