# SPDX-License-Identifier: Apache-2.0
"""Creating a store, changing it, and undoing an unfinished set-up; see :meth:`lamella.store.Store.setup`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.closing import on_error
from lamella.driver import backends, engines, options
from lamella.driver.state import State
from lamella.errors import BusyError, ExistsError, LamellaError
from lamella.store import schema
from lamella.store.config import Config
from lamella.store.lock import Lock
from lamella.store.opening import Opened, remove_kernel_devices
from lamella.store.set_up_state import is_complete, requested, require_no_remains, seems_complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.progress import Progress
    from lamella.store.root import Root


def set_up(
    place: Root,
    *,
    mode: str | None,
    storage_options: Sequence[str],
    engine: str,
    progress: Progress,
    wait: float,
) -> Opened:
    """Create the store, or open the existing one, changed as the options ask."""
    mode, storage_options = requested(place, mode, storage_options)
    backend = backends.backend(mode, place.path)
    there = seems_complete(place)
    wanted = options.parse(storage_options, mode, partial=there)
    known = Config.load(place.config).engine if place.config.exists() else ""
    asked = engines.asked_for(engine, known)
    if not there and backend.begun() and engines.kernel_can():
        # One that is still running is waited for.
        with Lock(place.lock, exclusive=True, wait=wait, closing=True):
            there = seems_complete(place)
            if not there:
                remove_kernel_devices(backend, place)
    if not there:
        backend.engine = engines.choose(asked, backend, wanted)
        engines.check_filesystem(backend.engine, wanted)
        backend.release_unfinished()
        backend.preflight(wanted)
    place.make()
    lock = Lock(place.lock, exclusive=True, wait=wait, closing=True)
    with on_error(lock.close):
        if is_complete(place):
            with lock.briefly():
                opened = _change(place, lock, mode, storage_options, engine)
                opened.clean_up()
            return opened
        if there:  # so the preflight of a new one was not run
            raise BusyError(f"the store in {place.path} was removed in the meantime", hint="set it up again")
        require_no_remains(place, backend)
        continued = backend.begun()
        if backend.engine == "kernel":
            remove_kernel_devices(backend, place)
        backend.restart()
        place.clear_state()
        kept = engine if engine != "auto" else known
        config = Config(mode, tuple(storage_options), kept)
        config.save(place.config)
        state = State.create(place.state, schema)
        try:
            from lamella.driver.device_set import DeviceSet

            progress.start("set-up", None)
            devices = DeviceSet.create(state, backend, wanted)
            progress.done()
        except BaseException:
            state.close()
            with suppress(LamellaError):  # the next set-up continues from what cannot be undone now
                if backend.engine == "kernel":
                    remove_kernel_devices(backend, place)
                if not continued:
                    backend.remove()
                    place.clear_state()
                    place.config.unlink(missing_ok=True)
            raise
    return Opened(place, config, lock, state, backend, engine=engine, devices=devices)


def _change(place: Root, lock: Lock, mode: str, storage_options: Sequence[str], engine: str) -> Opened:
    """Open the existing store, changed as the options ask."""
    config = Config.load(place.config)
    if mode != config.mode:
        raise ExistsError(
            f"the store in {place.path} is set up as {config.mode}, not as {mode}",
            hint="use another --root for another mode",
        )
    new = options.parse(storage_options, mode, partial=True)
    before = options.parse(config.storage_options, mode)
    backend = backends.backend(mode, place.path)
    backend.check_unchanged(before, new)
    if "dm.blocksize" in new.given and new.chunk_size != before.chunk_size:
        raise ExistsError(
            f"the pool has a block size of {before.chunk_size} bytes, which cannot be changed",
            hint="leave dm.blocksize out, or set up another store with it",
        )
    merged = Config(
        config.mode,
        tuple(options.merge(config.storage_options, storage_options)),
        engine if engine != "auto" else config.engine,
    )
    wanted = options.parse(merged.storage_options, mode)
    backend.engine = engines.choose(engines.asked_for(engine, config.engine), backend, wanted)
    warnings = []
    state = State.open(place.state, schema)
    state.alone = lock.alone
    with on_error(state.close):
        from lamella.driver.base_device import refuse_smaller
        from lamella.driver.device_set import DeviceSet

        if "dm.basesize" in new.given:
            refuse_smaller(state, new.base_size)  # before anything grows
        devices = DeviceSet.open(state, backend, wanted, grow=True)
        with on_error(devices.close):
            if "dm.basesize" in new.given:
                with lock.beside_readers():
                    devices.grow_base(new.base_size)
            if "dm.mkfsarg" in new.given and new.mkfs_args != before.mkfs_args:
                warnings.append("Base device already exists: dm.mkfsarg will be ignored.")
            kind = devices.filesystem.kind
            if "dm.fs" in new.given and new.filesystem != kind:
                warnings.append(
                    f"Base device already exists and has filesystem {kind} on it. User specified filesystem "
                    f"{new.filesystem} will be ignored."
                )
            if merged != config:
                merged.save(place.config)
    return Opened(place, merged, lock, state, backend, engine=engine, devices=devices, warnings=warnings)


def plan(
    place: Root, *, mode: str | None, storage_options: Sequence[str], engine: str
) -> tuple[list[str], list[str]]:
    """What a set-up would find, and the equivalent commands of other tools. Writes nothing."""
    mode, storage_options = requested(place, mode, storage_options)
    backend = backends.backend(mode, place.path)
    wanted = options.parse(storage_options, mode)
    backend.engine = engines.choose(engines.asked_for(engine), backend, wanted)
    return backend.preflight(wanted), backend.plan(wanted)


def abandon(place: Root, *, wait: float) -> list[str] | None:
    """Undo an unfinished set-up; returns what could not be removed, or None if there is no such set-up."""
    if not place.config.exists() or seems_complete(place):
        return None
    with Lock(place.lock, exclusive=True, wait=wait, closing=True):
        config = Config.load(place.config)
        if is_complete(place):
            return None
        backend = backends.backend(config.mode, place.path)
        if engines.kernel_can():
            remove_kernel_devices(backend, place)
        left = backend.remove()
        place.clear_state()
        place.clear_rest()
        return left
