# SPDX-License-Identifier: Apache-2.0
"""The end of a server whose files are in use: what the next one needs is left to it.

The order matters. While requests are answered, loop devices are made to stay without this process. Then
requests wait, and what was answered is made durable before anybody may take over.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop
from lamella.block.system import explaining
from lamella.closing import on_error
from lamella.services.fuse.connection import abort_at
from lamella.services.fuse.gone import GoneDevice
from lamella.services.fuse.handover import KeptFile, Table, new_token

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.driver.device_set import DeviceSet
    from lamella.services.fuse.attached import Attached
    from lamella.services.fuse.file_table import FileTable
    from lamella.services.fuse.keeping import Keeping
    from lamella.services.fuse.server import FuseServer

log = logs.logger(__name__)

_LOOP_TIMEOUT = 30.0
"""Seconds for loop devices to end what they do; beyond that, a device below does not answer."""


def hand_over(
    server: FuseServer,
    keeping: Keeping,
    path: Path,
    devices: DeviceSet,
    attached: list[Attached],
    leaving: list[Attached],
) -> None:
    """Give the file system of *server* to *keeping*, and write the table to *path*. To be called by the main
    thread.

    The server is closed then. Where this raises :class:`lamella.errors.LamellaError`, it may have stopped to
    answer, and is to be closed.
    """
    # The kernel lets a loop device's requests end before it changes it: nothing is to wait for them for ever.
    timer = threading.Timer(_LOOP_TIMEOUT, lambda: abort_at(server.mountpoint))
    timer.daemon = True
    timer.start()
    try:
        for each in attached:
            loop.set_autoclear(each.loop, autoclear=False)
            each.loop.close()
    finally:
        timer.cancel()
    log.info("%d loop devices stay", len(attached))
    files = server.suspend()
    log.info("requests of %s wait", server.mountpoint)
    for each in attached + leaving:
        if not each.volume.read_only and not isinstance(each.volume, GoneDevice):
            each.volume.flush()
    table = _table(server, devices, files, attached, leaving)
    with explaining("write", str(path)):
        table.write(path)
    with on_error(lambda: _remove(path)):
        keeping.keep(server.descriptor, table.token)
    os.close(server.release())
    log.info("%d devices are handed over to the next server", len(table.files))


def _table(
    server: FuseServer,
    devices: DeviceSet,
    files: FileTable,
    attached: list[Attached],
    leaving: list[Attached],
) -> Table:
    assert server.number is not None
    kept = []
    for each in attached + leaving:
        file = files.named(each.file)
        kept.append(
            KeptFile(
                name=each.file,
                node=file.node,
                handles=dict(file.openers),
                device=each.device,
                device_id=each.device_id,
                size=file.device.size,
                read_only=file.read_only,
                loop=each.loop.number,
                leaving=each in leaving,
            )
        )
    return Table(
        token=new_token(),
        point=str(server.mountpoint),
        number=server.number,
        pool=devices.state.pool().base_uuid,
        agreed=server.agreed,
        following=files.following,
        files=tuple(kept),
    )


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
