# SPDX-License-Identifier: Apache-2.0
"""What a server that was killed has left: loop devices over files that nobody serves any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop
from lamella.errors import LamellaError
from lamella.services.fuse.connection import abort_at

if TYPE_CHECKING:
    from pathlib import Path

log = logs.logger(__name__)


def clear(folder: Path) -> None:
    """Fail all requests to the file system at *folder*, a path without links, and detach its loop devices.

    To be done before the mount is detached: afterwards the kernel shows no more than the files' names. A loop
    device that is mounted goes with its mount. That something could not be cleared is no error.
    """
    try:
        abort_at(folder)
        numbers = loop.attached_below(str(folder))
    except LamellaError as error:
        log.info("cannot look for what an earlier server has left: %s", error.message)
        return
    for number in numbers:
        try:
            found = loop.look(number)
            if found is not None:
                gone = loop.detach(found)
                log.info("%s %s: its server has ended", found.path, "is detached" if gone else "is cut off")
        except LamellaError as error:
            log.info("cannot detach loop device %d: %s", number, error.message)
