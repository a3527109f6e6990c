# SPDX-License-Identifier: Apache-2.0
"""Extending a store's pool while containers use it: its files, or its volumes and their disks."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lamella.driver import backends
from lamella.driver.grow_size import wanted_size
from lamella.driver.options import LOOP
from lamella.errors import LamellaError, NotFoundError, UsageError
from lamella.store.config import Config
from lamella.store.lock import Lock
from lamella.store.opening import Opened
from lamella.store.pool_health import health
from lamella.units import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.store.root import Root


@dataclass
class Growth:
    """The sizes of the pool's devices before and after, in bytes."""

    data: tuple[int, int]
    metadata: tuple[int, int]
    state: str = ""
    """The pool's state afterwards (``docs/reference/pool-states.md``); empty if it could not be opened."""
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        shown = []
        for what, (before, after) in (("data", self.data), ("metadata", self.metadata)):
            change = f"{human_size(before)} -> {human_size(after)}" if before != after else human_size(after)
            shown.append(f"{what}: {change}")
        return shown

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "data": {"before": self.data[0], "after": self.data[1]},
            "metadata": {"before": self.metadata[0], "after": self.metadata[1]},
            "state": self.state,
            "warnings": self.warnings,
        }


def grow(
    place: Root, *, data: str, metadata: str, disks: Sequence[str], force: bool, wait: float, engine: str
) -> Growth:
    """Grow the pool of the store at *place*; see :meth:`lamella.store.Store.grow`."""
    config = Config.load(place.config)
    if not (data or metadata or disks):
        raise UsageError(
            "no size and no disk was given", hint="lamella grow --data +20%, or --metadata +100%"
        )
    if config.mode == LOOP:
        if disks:
            raise UsageError(
                "a loop-lvm pool is kept in two files and uses no disks", hint="lamella grow --data SIZE"
            )
        return _grow_files(place, data, metadata, wait, engine)
    done = _grow_volumes(place, config, data, metadata, disks, force, wait)
    return _use_new_size(place, done, wait, engine)


def _grow_files(place: Root, data: str, metadata: str, wait: float, engine: str) -> Growth:
    from lamella.driver.loop_lvm.backend import LoopLvm
    from lamella.progress import QUIET
    from lamella.store.setup import set_up

    backend = LoopLvm(place.path)
    before = []
    given = []
    for path, text, key in (
        (backend.data, data, "dm.loopdatasize"),
        (backend.metadata, metadata, "dm.loopmetadatasize"),
    ):
        if not path.exists():
            raise NotFoundError(f"cannot grow the pool: {path} is missing", hint="restore it from a backup")
        before.append(path.stat().st_size)
        if text:
            given.append(f"{key}={wanted_size(text, before[-1])}")
    store = set_up(place, mode=LOOP, storage_options=given, engine=engine, progress=QUIET, wait=wait)
    with closing(store), store.lock.waited_for():
        state, warnings = health(store.devices).state, store.warnings
    after = backend.data.stat().st_size, backend.metadata.stat().st_size
    return Growth((before[0], after[0]), (before[1], after[1]), state, warnings)


def _grow_volumes(
    place: Root, config: Config, data: str, metadata: str, disks: Sequence[str], force: bool, wait: float
) -> Growth:
    with Lock(place.lock, exclusive=True, wait=wait) as lock, lock.briefly():
        backend = backends.backend(config.mode, place.path)
        before, after = backend.extend(data=data, metadata=metadata, disks=disks, force=force)
    return Growth((before[0], after[0]), (before[1], after[1]))


def _use_new_size(place: Root, done: Growth, wait: float, engine: str) -> Growth:
    """Open the pool, which then uses its larger volumes; if that fails, the next opening does it."""
    try:
        with closing(Opened.open(place, wait=wait, engine=engine)) as store, store.lock.waited_for():
            done.state, done.warnings = health(store.devices).state, store.warnings
    except LamellaError as error:
        done.warnings.append(f"the volumes were extended, but the pool could not be opened: {error.message}")
    return done
