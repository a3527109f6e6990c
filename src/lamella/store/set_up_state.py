# SPDX-License-Identifier: Apache-2.0
"""How far a store's set-up got: not begun, unfinished, complete; or complete, with a part lost since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.driver import backends, options
from lamella.driver.state import State
from lamella.errors import CorruptError, LamellaError, NotFoundError
from lamella.store import schema
from lamella.store.arguments import texts
from lamella.store.config import Config
from lamella.store.lock import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lamella.driver.backend import PoolBackend
    from lamella.store.root import Root


def requested(place: Root, mode: str | None, given: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The mode and the options of a set-up, with those of an unfinished one that it continues."""
    given = texts(given, "the list of storage options")
    if mode is not None:
        backends.check_mode(mode)
    config = Config.load(place.config) if place.config.exists() else None
    mode = mode or (config.mode if config else None) or options.mode_of(given) or options.LOOP
    if config is not None and config.mode == mode and not seems_complete(place):
        given = options.merge(config.storage_options, given)
    return mode, given


def seems_complete(place: Root) -> bool:
    """:func:`is_complete`, before the lock is held."""
    if host_of(place.lock) is not None:
        return True  # and the file is not to be opened beside the host's connections
    try:
        return is_complete(place)
    except LamellaError:
        return True  # the error is raised again under the lock


def require_no_remains(place: Root, backend: PoolBackend) -> None:
    """Raise where a set-up would overwrite the rest of a store (made in the order config, state, pool)."""
    lost = None
    if not place.config.exists() and (place.state.exists() or backend.exists()):
        lost = place.config
    elif not place.state.exists() and backend.exists():
        lost = place.state
    if lost is not None:
        raise CorruptError(
            f"{place.path} holds a store, but its {lost.name} is missing",
            hint=f"restore {lost.name} from a backup; or remove the folder to start again",
        )


def is_complete(place: Root) -> bool:
    """Whether a set-up got as far as the base device. Raises for a damaged ``state.db``."""
    if not place.config.exists() or not place.state.exists():
        return False
    with State.open(place.state, schema) as state:
        return bool(state.pool().base_uuid)


def open_state(
    place: Root,
    config: Config,
    *,
    read_only: bool,
    has_writer: Callable[[], bool] | None = None,
    shared: bool = False,
) -> State:
    """``state.db`` of a store whose set-up is complete. Raises where it is not, or where the file is lost.

    *has_writer* and *shared* are as for :meth:`lamella.driver.state.State.open`.
    """
    require_no_remains(place, backends.backend(config.mode, place.path))
    unfinished = NotFoundError(
        f"the set-up of the store in {place.path} was not finished",
        hint=f"run it again: lamella setup {config.mode}",
    )
    if not place.state.exists():
        raise unfinished
    state = State.open(place.state, schema, read_only=read_only, has_writer=has_writer, shared=shared)
    if not state.pool().base_uuid:
        state.close()
        raise unfinished
    return state
