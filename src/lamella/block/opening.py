# SPDX-License-Identifier: Apache-2.0
"""Opens whatever a user names as a disk: a file, a block device, or an NBD address."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lamella.block.file import FileDevice

if TYPE_CHECKING:
    from lamella.block.device import BlockDevice


def is_remote(name: str | os.PathLike[str]) -> bool:
    """Whether *name* is an NBD address rather than a path."""
    return os.fspath(name).startswith(("nbd:", "nbds:", "nbd+unix:", "nbds+unix:"))


def open_device(
    name: str | os.PathLike[str], *, read_only: bool = False, direct: bool = False, lock: bool = True
) -> BlockDevice:
    """The device that *name* stands for. *direct* and *lock* mean nothing for a remote one."""
    if is_remote(name):
        from lamella.block.nbd import NbdDevice

        return NbdDevice(os.fspath(name), read_only=read_only)
    return FileDevice(name, read_only=read_only, direct=direct, lock=lock)
