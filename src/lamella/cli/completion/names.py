# SPDX-License-Identifier: Apache-2.0
"""Names of containers and images, read from ``state.db`` without a lock.

Completion must not wait for a command that holds the store, nor delay one. So the file is opened with
``immutable=1`` (https://www.sqlite.org/uri.html): no lock is taken; changes of a running transaction may be
missing, or make the read fail.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from lamella.images.reference import Reference
from lamella.store.default_root import default_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID_LENGTH = 12
"""Digits of an id that are offered."""


def containers(root: Path | None, prefix: str) -> Iterator[str]:
    """Names of containers that begin with *prefix*; of ids, if it looks like one, their first digits."""
    names = _rows(root, "SELECT name, id FROM containers ORDER BY name")
    yield from (name for name, _ in names if name.startswith(prefix))
    yield from _ids((identity for _, identity in names), prefix)


def images(root: Path | None, prefix: str) -> Iterator[str]:
    """Names of images that begin with *prefix*, as ``lamella images`` shows them; ids as for containers.

    Docker's default registry may be written out or not.
    """
    for (name,) in _rows(root, "SELECT name FROM image_references ORDER BY name"):
        reference = Reference.parse(name)
        if reference.digest:
            continue
        for shown in (str(reference), reference.canonical()):
            if shown.startswith(prefix):
                yield shown
                break
    yield from _ids((identity for (identity,) in _rows(root, "SELECT id FROM images")), prefix)


def _ids(identities: Iterator[str], prefix: str) -> Iterator[str]:
    if not prefix:
        return
    for identity in identities:
        bare = identity.rpartition(":")[2]
        if bare.startswith(prefix):
            yield bare[: max(ID_LENGTH, len(prefix))]


def _rows(root: Path | None, query: str) -> list[tuple[str, ...]]:
    folder = root.absolute() if root is not None else default_root()
    uri = f"{(folder / 'state.db').as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error:  # no store there, or it is being written
        return []
