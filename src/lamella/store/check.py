# SPDX-License-Identifier: Apache-2.0
"""Checking a whole store: the pool, ``state.db``, and the file system on every device."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.errors import CorruptError, LamellaError, NotFoundError
from lamella.remedies import worded
from lamella.store.damaged import findings, users_of
from lamella.store.metadata_progress import check_reporting
from lamella.store.pool_health import health
from lamella.store.results import StoreCheck
from lamella.thin.health import Severity
from lamella.thin.tools.check import CheckOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lamella.block import BlockDevice
    from lamella.driver.backend import PoolBackend
    from lamella.driver.device_set import DeviceSet
    from lamella.driver.state import State
    from lamella.progress import Progress
    from lamella.store.catalog import Catalog


def check(
    state: State,
    catalog: Catalog,
    backend: PoolBackend,
    open_devices: Callable[[], DeviceSet],
    progress: Progress,
) -> StoreCheck:
    """Examine everything and change nothing; damage is listed, not raised."""
    found = StoreCheck([], [])
    wrong = state.integrity_problems()
    found.problems.extend(wrong)
    found.looked_at.append(("record", f"{state.path}, {'damaged' if wrong else 'sound'}"))
    with suppress(LamellaError):  # the pool's opening below says it
        found.problems.extend(backend.problems())
        interrupted = backend.interrupted()
        if interrupted:
            found.looked_at.append(("interrupted", interrupted))
    try:
        devices = open_devices()
    except LamellaError as error:
        found.problems.append(error.message)
        _check_unopened(backend, found, progress)
    else:
        _check_state(devices, found)
        with devices.pool.metadata_view() as view:
            _check_pool(view.device, found, progress, snapshot=view.snapshot)
        users: Mapping[str, list[str]] = {}
        try:
            _check_record(state, catalog, devices, found)
            users = users_of(catalog)
        except (CorruptError, NotFoundError) as error:  # rows that contradict each other
            found.problems.append(f"{error.message}; {error.hint}")
        _check_file_systems(state, devices, users, found, progress)
    return found


def _check_unopened(backend: PoolBackend, found: StoreCheck, progress: Progress) -> None:
    """The pool's own check, of a pool that the driver refuses to open."""
    try:
        devices = backend.open(read_only=True)
    except LamellaError as error:
        if error.message not in found.problems:
            found.problems.append(error.message)
        return
    with devices:
        _check_pool(devices.metadata, found, progress)


def _check_state(devices: DeviceSet, found: StoreCheck) -> None:
    """The pool's state: a problem where something of it no longer works."""
    state = health(devices)
    if not state.summary:
        return
    found.advice.extend(map(worded, state.steps))
    if state.severity is Severity.BROKEN:
        found.problems.append(f"the pool {state.summary}")
    else:
        found.looked_at.append(("state", f"the pool {state.summary}"))


def _check_pool(
    metadata: BlockDevice, found: StoreCheck, progress: Progress, *, snapshot: bool = False
) -> None:
    report = check_reporting(metadata, progress, "check: metadata", CheckOptions(snapshot=snapshot))
    if snapshot:
        what = "the pool is active in device-mapper: reference counts are checked only while it is inactive"
        found.looked_at.append(("held", f"{what} (lamella deactivate)"))
    problems = [f"{report.name}: {problem}" for problem in report.problems]
    found.leaks = report.leaks
    if report.only_space_maps:
        found.harmless.extend(problems)
        what = f"{report.leaks}" if report.leaks else "nothing, but totals are wrong"
        found.looked_at.append(("leaked", f"{what}; no data is in danger"))
    else:
        found.problems.extend(problems)
    if not report.ok and "lamella repair" not in found.advice:
        found.advice.append("lamella repair")
    if report.superblock is not None:
        found.looked_at.append(
            (
                "pool",
                f"transaction {report.superblock.transaction_id}, {len(report.devices)} devices, "
                f"{report.mappings} mappings, {report.nodes} nodes",
            )
        )


def _check_record(state: State, catalog: Catalog, devices: DeviceSet, found: StoreCheck) -> None:
    note = state.note()
    if note is not None:
        found.looked_at.append(
            (
                "interrupted",
                f"transaction {note.transaction_id}; the next command that writes completes or undoes it",
            )
        )
    unknown, _ = devices.unknown_devices()
    found.problems.extend(
        f"the pool has the thin device {number}, which is not in {state.path.name}" for number in unknown
    )
    if unknown:
        found.advice.append("lamella prune --unknown-devices")
    problems, advice = findings(catalog, devices)
    found.problems.extend(problems)
    found.advice.extend(advice)
    unused = catalog.unused_tops()
    if unused and note is None:
        found.looked_at.append(("unused", f"{len(unused)} layers; the next command that writes removes them"))
    images, containers = len(catalog.images()), len(catalog.containers())
    layers = len(catalog.layers())
    contents = f"{images} images, {layers} layers, {containers} containers"
    snapshots = len(catalog.snapshots.rows())
    if snapshots:
        contents += f", {snapshots} snapshots"
    found.looked_at.append(("contents", contents))


def _check_file_systems(
    state: State, devices: DeviceSet, users: Mapping[str, list[str]], found: StoreCheck, progress: Progress
) -> None:
    wanted = state.pool().base_uuid
    wanted_devices = [each for each in state.devices(deleted=False) if not devices.damage(each.hash)]
    progress.start("check: file systems", len(wanted_devices), unit="file systems")
    for device in wanted_devices:
        whose = ", ".join(users.get(device.hash, [f"device {device.hash}"]))
        try:
            with devices.volume(device.hash) as volume:
                left = devices.filesystem.condition(volume)
        except LamellaError as error:
            found.problems.append(f"{whose}: {error.message}")
            progress.advance(1)
            continue
        if left.uuid != wanted:
            found.problems.append(
                f"{whose}: its file system has the UUID {left.uuid}, the base device's {wanted}"
            )
        if left.errors:
            found.problems.append(f"{whose}: a kernel has found errors in its file system")
        progress.advance(1)
    progress.done()
    found.looked_at.append(("file systems", f"{len(wanted_devices)} of {devices.filesystem.kind}"))
