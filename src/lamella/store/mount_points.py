# SPDX-License-Identifier: Apache-2.0
"""The default mount points of containers and images: folders in ``mnt/`` of the state root.

Mounts in that folder do not propagate to other mount namespaces, as Docker's driver has it. Removing a mount
point after unmounting also removes it from namespaces that had copied it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella.block.system import explain, explaining
from lamella.driver.active_devices import present
from lamella.fs.mounted import mount as kernel

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store.root import Root


def remove_stale(root: Root) -> None:
    """Remove the empty mount points of killed commands.

    Not while a device is active: removing a folder unmounts what other namespaces have mounted on it.
    """
    if any(hash_ != "pool" for hash_ in present(root.path)):
        return
    try:
        names = os.listdir(root.mounts)
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            (root.mounts / name).rmdir()
    kernel.leave_private(root.mounts)
    with suppress(OSError):
        root.mounts.rmdir()


def is_default(root: Root, point: str) -> bool:
    """Whether *point* lies in the state root's folder of mount points."""
    return os.path.dirname(point) == os.path.realpath(root.mounts)


def make(root: Root, point: Path) -> None:
    """Make a mount point, and the folder of mount points with private propagation."""
    with explaining("create", str(point)):
        root.mounts.mkdir(mode=0o700, exist_ok=True)
        kernel.make_private(root.mounts)
        point.mkdir(mode=0o700, exist_ok=True)


def remove(root: Root, point: Path) -> None:
    """Remove a default mount point, and with it what other namespaces have mounted there."""
    try:
        point.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
            raise explain(error, "remove", str(point)) from error
    kernel.leave_private(root.mounts)
