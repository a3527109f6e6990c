# SPDX-License-Identifier: Apache-2.0
"""What the service needs of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lamella.images.stream import LayerStream
    from lamella.store.snapshot_model import Mount, Snapshot, Usage


class Backend(Protocol):
    """The snapshots of a store. Methods may be called by several threads, and raise errors of Lamella's."""

    def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]: ...

    def view(self, key: str, parent: str, labels: Mapping[str, str]) -> list[Mount]: ...

    def mounts(self, key: str) -> list[Mount]: ...

    def commit(self, name: str, key: str, labels: Mapping[str, str], *, parent: str = "") -> None: ...

    def remove(self, key: str) -> None: ...

    def stat(self, key: str) -> Snapshot: ...

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str]) -> Snapshot: ...

    def walk(self) -> list[Snapshot]: ...

    def usage(self, key: str) -> Usage: ...

    def clean_up(self) -> object: ...

    def apply(self, source: str, layer: LayerStream) -> None: ...


class Hosted(Protocol):
    """A store that this process keeps open."""

    @property
    def root(self) -> Path: ...

    @property
    def snapshots(self) -> Backend:
        """To be asked for anew for each call: a store may be opened again."""
