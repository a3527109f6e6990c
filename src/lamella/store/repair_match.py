# SPDX-License-Identifier: Apache-2.0
"""A pool and a ``state.db`` of two moments, or of two copies: which devices are the same in both.

A device is the one that ``state.db`` means if it was created in the transaction that its row has: the ids of
transactions are random (``docs/decisions/106-random-transaction-ids.md``). The others are marked as lost, and
what the pool has instead of them stays in it under its number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lamella.driver.state import BASE
from lamella.store.catalog import Catalog
from lamella.store.damaged import users_of
from lamella.thin.format.limits import MAX_DEVICE_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamella.driver.state import Device, State
    from lamella.store.repair_report import Repair
    from lamella.thin.format.details import DeviceDetails

_NOT_HERE = "the pool is of another moment, and does not have it"


@dataclass
class Match:
    """The devices of ``state.db``, by what the pool has of them."""

    kept: list[Device]
    lost: list[Device]
    unknown: list[int]
    """Thin devices of the pool that are none of them."""


def match(state: State, in_pool: Mapping[int, DeviceDetails]) -> Match:
    """Which devices of *state* are in a pool that has *in_pool*."""
    kept: list[Device] = []
    lost: list[Device] = []
    for device in state.devices():
        found = in_pool.get(device.device_id)
        # Where the ids were consecutive, a device was created before the pool got the transaction's id.
        made = {device.transaction_id, device.transaction_id - 1}
        (kept if found is not None and found.transaction_id in made else lost).append(device)
    taken = {device.device_id for device in kept}
    return Match(kept, lost, sorted(set(in_pool) - taken))


def describe(found: Repair, state: State, matched: Match, problem: str) -> None:
    """Write into *found* what :func:`adopt` would do."""
    found.verdict = "mismatch"
    found.problems = [problem]
    found.devices = len(matched.kept)
    users = users_of(Catalog(state))
    for device in matched.lost:
        if not device.deleted:
            whose = ", ".join(users.get(device.hash, [device.hash]))
            found.lost.append(
                f"{whose}: thin device {device.device_id} is not in the pool, or is another one"
            )
    if matched.unknown:
        shown = ", ".join(map(str, matched.unknown[:10]))
        found.remarks.append(
            f"also found: thin devices that are not in state.db ({shown}); they stay in the pool, and "
            "'lamella prune --unknown-devices' removes them"
        )
    if BASE not in {device.hash for device in matched.kept}:
        found.refusal = "the pool does not have this store's base device: it is another store's"


def adopt(state: State, matched: Match, in_pool: Mapping[int, DeviceDetails], transaction_id: int) -> None:
    """Make *state* that of a pool at *transaction_id*, in one transaction of it; the pool is not changed."""
    taken = set(in_pool) | {device.device_id for device in state.devices()}
    free = (number for number in range(MAX_DEVICE_ID, -1, -1) if number not in taken)
    with state.transaction():
        for device in matched.lost:
            if device.deleted:
                state.drop_device(device.hash)
            else:
                # Under another number, so that removing it does not delete what has its number in the pool.
                state.put_device(replace(device, device_id=next(free), damage=device.damage or _NOT_HERE))
        state.set_pool(transaction_id=transaction_id)
        state.clear_note()
