# SPDX-License-Identifier: Apache-2.0
"""Repairing a store's pool: check it, repair it into a new device, compare with ``state.db``, swap it in.

The damaged metadata is only read, and is kept where the result says. What replaces it has passed a full check
and matches this store; a failure on the way changes nothing.

Leaked space is not damage; it is freed in place (:mod:`lamella.store.repair_in_place`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import SECTOR, FileDevice
from lamella.block.system import explaining
from lamella.driver import backends, options
from lamella.driver.state import State
from lamella.errors import BusyError, CorruptError, ExistsError
from lamella.store import schema
from lamella.store.config import Config
from lamella.store.lock import Lock
from lamella.store.metadata_progress import MetadataReading, check_reporting
from lamella.store.repair_in_place import copy_repaired, repair_in_place
from lamella.store.repair_match import adopt, describe, match
from lamella.store.repair_report import Repair, add_losses
from lamella.store.set_up_state import open_state
from lamella.thin.tools.check import CheckOptions
from lamella.thin.tools.check import check as check_metadata
from lamella.thin.tools.header import Overrides
from lamella.thin.tools.leak_repair import clear_needs_check
from lamella.thin.tools.repair import repair as repair_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lamella.driver.backend import PoolBackend, PoolDevices
    from lamella.driver.options import Options
    from lamella.progress import Progress
    from lamella.store.root import Root
    from lamella.thin.tools.check import CheckReport

log = logs.logger(__name__)


def repair(
    place: Root, *, to: Path | None, agree: Callable[[Repair], bool], wait: float, progress: Progress
) -> Repair:
    """Check the pool of the store at *place*, and repair it into a new device.

    With *to*, a file that must not exist, the result stays there and the store is not changed. Otherwise
    *agree* gets the result and says whether it replaces the damaged metadata. Raises :class:`BusyError`
    while the pool is in use, also by the kernel, :class:`CorruptError` where nothing can be saved, and
    whatever opening the devices raises.
    """
    config = Config.load(place.config)
    with (
        Lock(place.lock, exclusive=True, wait=wait, closing=True) as lock,
        open_state(place, config, read_only=True) as state,
        lock.beside_readers(),
    ):
        backend = backends.backend(config.mode, place.path)
        parsed = options.parse(config.storage_options, config.mode)
        return _Run(place, lock, state, backend, parsed, to, progress).run(agree)


class _Run:
    def __init__(
        self,
        place: Root,
        lock: Lock,
        state: State,
        backend: PoolBackend,
        parsed: Options,
        to: Path | None,
        progress: Progress,
    ) -> None:
        self.place = place
        self.lock = lock
        self.state = state
        self.backend = backend
        self.parsed = parsed
        self.to = to
        self.progress = progress

    def run(self, agree: Callable[[Repair], bool]) -> Repair:
        devices = self._open(read_only=True)
        try:
            self._check_sizes(devices)
            report = check_reporting(devices.metadata, self.progress, "repair: checking")
            log.info("check of %s: %d problems", devices.metadata.name, len(report.problems))
            if not report.ok and not report.only_space_maps:
                return self._repair_damaged(devices, report, agree)
            if report.only_space_maps and self.to is not None:
                found = self._describe_sound(report)
                target = self._target()
                copy_repaired(devices.metadata, report, target)
                found.written = str(target)
                return found
        finally:
            devices.close()
        return self._repair_in_place(report, agree)

    def _open(self, *, read_only: bool) -> PoolDevices:
        try:
            return self.backend.open(read_only=read_only)
        except BusyError as error:
            raise BusyError(
                f"cannot repair the pool while it is in use: {error.message}",
                hint="stop what uses it (lamella deactivate), then repair it",
            ) from error

    def _check_sizes(self, devices: PoolDevices) -> None:
        """Raise where repairing the metadata cannot help: the data device is smaller than it records."""
        found = check_metadata(devices.metadata, CheckOptions(superblock_only=True))
        chunk = self._chunk(found)
        if found.superblock is None or found.superblock.data_sm_root.nr_blocks <= devices.data.size // chunk:
            return
        raise CorruptError(
            f"the pool's data device has {devices.data.size} bytes, and the pool recorded "
            f"{found.superblock.data_sm_root.nr_blocks * chunk}: it was truncated, or is another pool's",
            hint=f"restore the size of {devices.data.name}; repairing the metadata would not help",
        )

    def _chunk(self, found: CheckReport) -> int:
        if found.superblock is not None:
            return found.superblock.data_block_size * SECTOR
        return self.backend.chunk_size(self.parsed)

    def _mismatch(self, transaction_id: int) -> str:
        """Why metadata of *transaction_id* does not match this ``state.db``, or ""."""
        note = self.state.note()
        allowed = {self.state.pool().transaction_id} | ({note.transaction_id} if note else set())
        if transaction_id in allowed:
            return ""
        wanted = " or ".join(map(str, sorted(allowed)))
        return (
            f"it is at transaction {transaction_id}, and state.db at {wanted}: one of the two is older, or "
            "the pool belongs to another store"
        )

    # -- sound, but with the needs_check flag or with leaks --------------------------------------

    def _repair_in_place(self, report: CheckReport, agree: Callable[[Repair], bool]) -> Repair:
        assert report.superblock is not None
        mismatch = self._mismatch(report.superblock.transaction_id)
        if mismatch and self.to is None:
            return self._adopt(report, report.superblock.transaction_id, mismatch, agree)
        found = self._describe_sound(report)
        if found.verdict == "sound" or self.to is not None or found.refusal or not agree(found):
            return found
        with self.lock.alone(), self._open(read_only=False) as devices:
            log.info("writing new space maps into %s, in place", devices.metadata.name)
            repair_in_place(devices.metadata)
        found.given_back = found.verdict == "leaks"
        found.cleared = found.marked
        return found

    def _describe_sound(self, report: CheckReport) -> Repair:
        """The result for a pool that is not damaged."""
        fields = report.superblock
        assert fields is not None
        found = Repair("sound", marked=fields.needs_check, leaks=report.leaks)
        if report.only_space_maps:
            found.verdict, found.problems = "leaks", [str(problem) for problem in report.problems]
        elif found.marked:
            found.verdict = "needs-check"
        if found.verdict != "sound":
            found.refusal = self._mismatch(fields.transaction_id)
        return found

    # -- of another moment than state.db ---------------------------------------------------------

    def _adopt(
        self, report: CheckReport, in_pool: int, mismatch: str, agree: Callable[[Repair], bool]
    ) -> Repair:
        found = Repair("mismatch")
        matched = match(self.state, report.devices)
        describe(found, self.state, matched, f"the pool is sound, but {mismatch}")
        if found.refusal or not agree(found):
            return found
        log.info("state.db goes on with the pool at transaction %d", in_pool)
        with self.lock.alone(), State.open(self.place.state, schema) as state:
            adopt(state, matched, report.devices, in_pool)
        found.adopted = True
        return found

    # -- damaged ---------------------------------------------------------------------------------

    def _repair_damaged(
        self, devices: PoolDevices, report: CheckReport, agree: Callable[[Repair], bool]
    ) -> Repair:
        target = self._target()
        log.info("repairing %s into %s", devices.metadata.name, target)
        try:
            found = self._repair_into(target, devices, report)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        if self.to is not None:
            found.written = str(target)
            return found
        try:
            if found.refusal or not agree(found):
                return found
            devices.close()  # closing twice is harmless
            with self.lock.alone(), self._marked(found.damage):
                found.kept = self.backend.replace_metadata(target)
            return found
        finally:
            target.unlink(missing_ok=True)

    @contextmanager
    def _marked(self, damage: Mapping[str, str]) -> Iterator[None]:
        """Mark in ``state.db`` what is not whole, before the block: a crash may leave a mark too many."""
        if not damage:
            yield
            return
        before = {device.hash: device.damage for device in self.state.devices() if device.hash in damage}
        with State.open(self.place.state, schema) as state:
            with state.transaction():
                state.set_damage(damage)
            try:
                yield
            except BaseException:
                with state.transaction():
                    state.set_damage(before)
                raise

    def _target(self) -> Path:
        if self.to is not None:
            if self.to.exists():
                raise ExistsError(f"{self.to} exists already", hint="name a file that does not: --to FILE")
            return self.to
        target = self.backend.repaired_metadata(self.place.path)
        with explaining("prepare", str(target)):
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.unlink(missing_ok=True)  # of an interrupted repair
        return target

    def _repair_into(self, target: Path, devices: PoolDevices, report: CheckReport) -> Repair:
        chunk = self._chunk(report)
        fallback = Overrides(
            self.state.pool().transaction_id, chunk // SECTOR, devices.data.size // chunk
        )  # for a superblock that is gone
        with FileDevice.create(target, devices.metadata.size) as file:
            known = {device.device_id for device in self.state.devices()}
            reading = MetadataReading(devices.metadata, self.progress)
            reading.start("repair: collecting", report)
            repaired = repair_metadata(reading.device, file, fallback=fallback, expected=known)
            reading.done()
            file.flush()
            checked = check_reporting(file, self.progress, "repair: checking the result")
            if not checked.ok:
                raise CorruptError(
                    f"the repaired metadata of {devices.metadata.name} is not sound: {checked.problems[0]}",
                    hint="keep the damaged metadata, and restore a backup of it",
                )
            clear_needs_check(file)
        found = Repair(
            "damaged",
            problems=[str(problem) for problem in report.problems],
            devices=len(checked.devices),
            mappings=sum(details.mapped_blocks for details in checked.devices.values()),
        )
        add_losses(found, self.state, repaired, checked)
        found.refusal = found.refusal or self._mismatch(repaired.header.transaction_id)
        return found
