# SPDX-License-Identifier: Apache-2.0
"""What a repair of a pool found and did, and what the repaired metadata lacks or adds.

Losses are found by comparing the repaired metadata with ``state.db``; they are reported with the names of
the images and containers concerned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lamella.store.catalog import Catalog
from lamella.store.damaged import users_of

if TYPE_CHECKING:
    from lamella.driver.state import State
    from lamella.thin.metadata.leaks import Leaks
    from lamella.thin.tools.check import CheckReport
    from lamella.thin.tools.repair import RepairReport

SHOWN = 10
"""Most problems and devices that are listed one by one."""

Verdict = Literal["sound", "needs-check", "leaks", "mismatch", "damaged"]


@dataclass
class Repair:
    """What a repair found, and what it did."""

    verdict: Verdict
    problems: list[str] = field(default_factory=list)
    """What the check of the pool's metadata found."""
    devices: int = 0
    """Devices in the repaired metadata."""
    mappings: int = 0
    """Chunks that these map."""
    lost: list[str] = field(default_factory=list)
    """What is missing in the repaired metadata, with the names of the images and containers concerned."""
    remarks: list[str] = field(default_factory=list)
    refusal: str = ""
    """Why the repaired metadata may not replace the damaged; empty if it may."""
    written: str = ""
    """The file that the repaired metadata was written to, if one was asked for."""
    kept: str = ""
    """Where the damaged metadata was moved to. Empty: nothing of the store was changed."""
    cleared: bool = False
    """Whether the pool's ``needs_check`` flag was cleared."""
    marked: bool = False
    """Whether the pool has the ``needs_check`` flag."""
    leaks: Leaks | None = None
    """What has leaked; None where the reference counts were not compared."""
    given_back: bool = False
    """Whether it was freed."""
    adopted: bool = False
    """Whether ``state.db`` goes on with a pool of another moment."""
    damage: dict[str, str] = field(default_factory=dict)
    """What is missing of devices of the store, by their names: what replacing the metadata marks."""

    def lines(self) -> list[str]:
        """As text, in the order in which things happened."""
        if self.verdict == "sound":
            return ["The pool's metadata is sound: there is nothing to repair."]
        if self.verdict == "needs-check":
            return ["The pool's metadata is sound, but its needs_check flag is set: a commit failed."]
        if self.verdict == "leaks":
            what = f"space has leaked: {self.leaks}" if self.leaks else "totals of its space are wrong"
            marked = ["Its needs_check flag is also set: a commit failed."] if self.marked else []
            return [f"The pool is sound, but {what}. No data is in danger.", *marked]
        if self.verdict == "mismatch":
            shown = [f"mismatch: {problem}" for problem in self.problems]
            shown.append(f"the same in both: {self.devices} devices")
        else:
            shown = [f"damaged: {problem}" for problem in _few(self.problems, "problems")]
            shown.append(f"saved: {self.devices} devices, {self.mappings} mappings")
        shown += [f"lost: {one}" for one in _few(self.lost, "devices")] or ["lost: nothing"]
        shown += self.remarks
        return shown

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        shown = {key: value for key, value in vars(self).items() if key not in ("leaks", "damage")}
        return {**shown, "leaked": self.leaks.as_dict() if self.leaks is not None else None}


def _few(texts: list[str], what: str) -> list[str]:
    more = len(texts) - SHOWN
    return texts if more <= 0 else [*texts[:SHOWN], f"{more} more {what}"]


def add_losses(found: Repair, state: State, repaired: RepairReport, checked: CheckReport) -> None:
    """Add to *found* what the repaired metadata lacks or adds, compared with *state*.

    *checked* is the check of the repaired metadata.
    """
    names = _names(state)
    known = {device.device_id: device for device in state.devices(deleted=False)}
    note = state.note()
    pending = {number for _, number in note.devices} if note else set()
    reported = set()
    for outcome in repaired.incomplete:
        reported.add(outcome.dev_id)
        line = f"{names.get(outcome.dev_id, 'an unused device')}: {outcome}"
        if outcome.saved < outcome.expected:
            found.lost.append(line)
            if outcome.dev_id in known:
                what = f"a repair saved {outcome.saved} of its {outcome.expected} chunks"
                found.damage[known[outcome.dev_id].hash] = what
        else:
            found.remarks.append(f"doubtful: {line}")
    for number, device in known.items():
        if number in checked.devices or number in pending:
            continue
        if number not in reported:
            found.lost.append(f"{names.get(number, device.hash)}: thin device {number} is gone")
        found.damage[device.hash] = "a repair found nothing of it"
    if not set(known) & set(checked.devices):
        found.refusal = "it has none of this store's devices"
    if repaired.searched:
        found.remarks.append(
            "doubtful: the superblock did not refer to the device lists; the newest ones found were "
            "used, and the last changes before the damage may be missing"
        )
    unknown = sorted(set(checked.devices) - {device.device_id for device in state.devices()} - pending)
    if unknown:
        shown = ", ".join(map(str, unknown[:SHOWN]))
        found.remarks.append(f"also found: thin devices that are not in state.db ({shown})")


def _names(state: State) -> dict[int, str]:
    """What uses each thin device, by its id: the base device, images, containers."""
    users = users_of(Catalog(state))
    return {
        device.device_id: ", ".join(users[device.hash]) for device in state.devices() if device.hash in users
    }
