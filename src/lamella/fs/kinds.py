# SPDX-License-Identifier: Apache-2.0
"""The kinds of file system that a volume may hold, by the name that ``dm.fs`` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lamella.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lamella.fs.filesystem import FileSystem

KINDS: Final = ("ext4", "xfs")


def of_kind(kind: str, *, mount_options: Iterable[str] = (), max_retries: int | None = None) -> FileSystem:
    """The file system called *kind*. *mount_options* and *max_retries* are ``dm.mountopt`` and
    ``dm.xfs_nospace_max_retries``, for one that is mounted."""
    if kind == "ext4":
        from lamella.fs.ext4.kind import Ext4

        return Ext4()
    if kind == "xfs":
        from lamella.fs.xfs.kind import Xfs

        return Xfs(mount_options, max_retries)
    raise UnsupportedError(f"the file system {kind!r} is not supported", hint=f"known: {', '.join(KINDS)}")
