# SPDX-License-Identifier: Apache-2.0
"""The repair of a store's pool: checked, mended into a new place, compared with ``state.db``, swapped in.

The damaged metadata is only ever read, and stays where the result says. What takes its place has passed
the check of a whole pool and belongs to this store; whatever fails on the way leaves all as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lamella.block import FileDevice
from lamella.block.system import explain
from lamella.driver import modes, options
from lamella.driver.state import BASE
from lamella.errors import BusyError, CorruptError, ExistsError
from lamella.store.catalog import Catalog
from lamella.store.config import Config
from lamella.store.lock import Lock
from lamella.store.set_up_state import open_state
from lamella.thin.check import CheckOptions
from lamella.thin.check import check as check_metadata
from lamella.thin.dump import Overrides
from lamella.thin.fix import clear_needs_check
from lamella.thin.repair import repair as repair_metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.options import Options
    from lamella.driver.state import State
    from lamella.progress import Progress
    from lamella.store.root import Root
    from lamella.thin.check import CheckReport
    from lamella.thin.repair import RepairReport

SHOWN = 10
"""Most problems and devices that are told one by one."""

Verdict = Literal["sound", "needs-check", "damaged"]


@dataclass
class Repair:
    """What a repair found, and what became of it."""

    verdict: Verdict
    problems: list[str] = field(default_factory=list)
    """What the check of the pool's metadata found."""
    devices: int = 0
    """Devices in the mended metadata."""
    mappings: int = 0
    """Chunks that these map."""
    lost: list[str] = field(default_factory=list)
    """What is missing in the mended metadata, with the names of the images and containers concerned."""
    remarks: list[str] = field(default_factory=list)
    refusal: str = ""
    """Why the mended metadata may not take the place of the damaged; empty if it may."""
    written: str = ""
    """Where the mended metadata was written on demand."""
    kept: str = ""
    """Where the damaged metadata is now. Empty: in its place, nothing of the store was changed."""
    cleared: bool = False
    """Whether the mark that the pool needs a check was taken away."""

    def lines(self) -> list[str]:
        """For people, in the order in which things happened."""
        if self.verdict == "sound":
            return ["The pool's metadata is sound: there is nothing to repair."]
        if self.verdict == "needs-check":
            return ["The pool's metadata is sound, but marked: writing it failed once, and it needs a check."]
        shown = [f"damaged: {problem}" for problem in _few(self.problems, "problems")]
        shown.append(f"saved: {self.devices} devices, {self.mappings} mappings")
        shown += [f"lost: {one}" for one in _few(self.lost, "devices")] or ["lost: nothing"]
        shown += self.remarks
        return shown

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return dict(vars(self))


def _few(texts: list[str], what: str) -> list[str]:
    more = len(texts) - SHOWN
    return texts if more <= 0 else [*texts[:SHOWN], f"{more} more {what}"]


def repair(
    place: Root,
    *,
    to: Path | None,
    agree: Callable[[Repair], bool],
    wait: float,
    progress: Progress,
) -> Repair:
    """Check the pool of the store at *place*, and mend it into a new place.

    With *to*, a file that must not exist, the result stays there and the store is not changed. Otherwise
    *agree* is shown what was found and says whether it takes its place. Raises :class:`BusyError` while the
    pool is in use, also by the kernel, :class:`CorruptError` where nothing can be saved, and whatever
    opening the devices raises.
    """
    config = Config.load(place.config)
    lock = Lock(place.lock, exclusive=True, wait=wait)
    try:
        state = open_state(place, config, read_only=True)
        try:
            backend = modes.backend(config.mode, place.path)
            parsed = options.parse(config.storage_options, config.mode)
            return _Run(place, state, backend, parsed, to, progress).run(agree)
        finally:
            state.close()
    finally:
        lock.release()


class _Run:
    def __init__(
        self,
        place: Root,
        state: State,
        backend: PoolBackend,
        parsed: Options,
        to: Path | None,
        progress: Progress,
    ) -> None:
        self.place = place
        self.state = state
        self.backend = backend
        self.parsed = parsed
        self.to = to
        self.progress = progress

    def run(self, agree: Callable[[Repair], bool]) -> Repair:
        self.progress.start("repair", None)
        devices = self._open(read_only=True)
        try:
            self._check_sizes(devices)
            report = check_metadata(devices.metadata)
            if not report.ok:
                return self._mend(devices, report, agree)
        finally:
            devices.close()
            self.progress.done()
        assert report.superblock is not None
        if not report.superblock.needs_check:
            return Repair("sound")
        found = Repair("needs-check", refusal=self._foreign(report.superblock.transaction_id))
        if self.to is None and not found.refusal and agree(found):
            self._clear()
            found.cleared = True
        return found

    def _open(self, *, read_only: bool) -> PoolDevices:
        try:
            return self.backend.open(read_only=read_only)
        except BusyError as error:
            raise BusyError(
                f"cannot repair the pool while it is in use: {error.message}",
                hint="stop what uses it (lamella deactivate takes it out of the kernel), then repair it",
            ) from error

    def _check_sizes(self, devices: PoolDevices) -> None:
        """Raise where no repair of metadata helps: there is less data than it tells of."""
        found = check_metadata(devices.metadata, CheckOptions(superblock_only=True))
        chunk = self._chunk(found)
        if found.superblock is None or found.superblock.data_sm_root.nr_blocks <= devices.data.size // chunk:
            return
        raise CorruptError(
            f"the pool's data device has {devices.data.size} bytes, and the pool recorded "
            f"{found.superblock.data_sm_root.nr_blocks * chunk}: it was cut off, or is another pool's",
            hint=f"give {devices.data.name} back its size; repairing the metadata would not help",
        )

    def _chunk(self, found: CheckReport) -> int:
        if found.superblock is not None:
            return found.superblock.data_block_size * 512
        return self.backend.chunk_size(self.parsed)

    def _foreign(self, transaction_id: int) -> str:
        """Why metadata at that transaction is not of this ``state.db``, or ""."""
        note = self.state.note()
        allowed = {self.state.pool().transaction_id} | ({note.transaction_id} if note else set())
        if transaction_id in allowed:
            return ""
        wanted = " or ".join(map(str, sorted(allowed)))
        return (
            f"it is at transaction {transaction_id}, and state.db at {wanted}: one of the two is of another "
            "moment, or the pool is another store's"
        )

    # -- sound, but marked -----------------------------------------------------------------------

    def _clear(self) -> None:
        devices = self._open(read_only=False)
        try:
            # Looked at again under the lock of a writer.
            if check_metadata(devices.metadata).ok:
                clear_needs_check(devices.metadata)
        finally:
            devices.close()

    # -- damaged ---------------------------------------------------------------------------------

    def _mend(self, devices: PoolDevices, report: CheckReport, agree: Callable[[Repair], bool]) -> Repair:
        target = self._target()
        try:
            found = self._mend_into(target, devices, report)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        if self.to is not None:
            found.written = str(target)
            return found
        try:
            if found.refusal or not agree(found):
                return found
            devices.close()  # twice does no harm
            found.kept = self.backend.replace_metadata(target)
            return found
        finally:
            target.unlink(missing_ok=True)

    def _target(self) -> Path:
        if self.to is not None:
            if self.to.exists():
                raise ExistsError(f"{self.to} exists already", hint="name a file that does not: --to FILE")
            return self.to
        target = self.backend.repaired_metadata(self.place.path)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.unlink(missing_ok=True)  # of a repair that was cut off
        except OSError as error:
            raise explain(error, "make room for", str(target)) from error
        return target

    def _mend_into(self, target: Path, devices: PoolDevices, report: CheckReport) -> Repair:
        chunk = self._chunk(report)
        fallback = Overrides(
            self.state.pool().transaction_id, chunk // 512, devices.data.size // chunk
        )  # for a superblock that is gone
        with FileDevice.create(target, devices.metadata.size) as file:
            mended = repair_metadata(devices.metadata, file, fallback=fallback)
            file.flush()
            sound = check_metadata(file)
            if not sound.ok:
                raise CorruptError(
                    f"the repair of {devices.metadata.name} did not make it sound: {sound.problems[0]}",
                    hint="keep the damaged metadata, and restore a backup of it",
                )
            clear_needs_check(file)
        found = Repair(
            "damaged",
            problems=[str(problem) for problem in report.problems],
            devices=len(sound.devices),
            mappings=sum(details.mapped_blocks for details in sound.devices.values()),
        )
        self._compare(mended, sound, found)
        found.refusal = found.refusal or self._foreign(mended.header.transaction_id)
        return found

    def _compare(self, mended: RepairReport, sound: CheckReport, found: Repair) -> None:
        """Say what is lost, by the names that people know."""
        names = self._names()
        known = {device.device_id: device for device in self.state.devices()}
        note = self.state.note()
        pending = {number for _, number in note.devices} if note else set()
        told = set()
        for outcome in mended.incomplete:
            told.add(outcome.dev_id)
            told_of = f"{names.get(outcome.dev_id, 'a device that nobody needs')}: {outcome}"
            if outcome.saved < outcome.expected:
                found.lost.append(told_of)
            else:
                found.remarks.append(f"doubtful: {told_of}")
        for number, device in known.items():
            if number in sound.devices or number in pending or device.deleted:
                continue
            if number not in told:
                found.lost.append(f"{names.get(number, device.hash)}: thin device {number} is gone")
            if device.hash == BASE:
                found.refusal = "the base device is lost, and without it no store can be opened"
        if mended.searched:
            found.remarks.append(
                "doubtful: the superblock did not lead to the lists of devices; the newest that are there "
                "were taken, and what was written last before the damage may be missing"
            )
        strangers = sorted(set(sound.devices) - set(known) - pending)
        if strangers:
            shown = ", ".join(map(str, strangers[:SHOWN]))
            found.remarks.append(f"also there: thin devices that state.db does not know ({shown})")

    def _names(self) -> dict[int, str]:
        """What needs each thin device, by its id: the base device, images, containers."""
        catalog = Catalog(self.state)
        users: dict[str, list[str]] = {BASE: ["the base device"]}
        for image in catalog.images():
            references = catalog.references(image.id)
            shown = str(references[0]) if references else image.id.removeprefix("sha256:")[:12]
            for layer in catalog.chain(image.top):
                users.setdefault(layer.device, []).append(f"image {shown}")
        for container in catalog.containers():
            users.setdefault(container.device, []).append(f"container {container.name}")
        return {
            device.device_id: ", ".join(users[device.hash])
            for device in self.state.devices()
            if device.hash in users
        }
