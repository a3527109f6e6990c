# SPDX-License-Identifier: Apache-2.0
"""The beginning of a server that goes on with the file system of an earlier one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella import logs
from lamella.block import loop
from lamella.closing import on_error
from lamella.errors import LamellaError
from lamella.services.fuse.attached import Attached
from lamella.services.fuse.connection import is_alive, mounted_number
from lamella.services.fuse.file_table import FileTable
from lamella.services.fuse.gone import GoneDevice
from lamella.services.fuse.server import FuseServer

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.driver.device_set import DeviceSet
    from lamella.services.fuse.handover import KeptFile, Table
    from lamella.services.fuse.keeping import Keeping

log = logs.logger(__name__)


@dataclass(frozen=True)
class TakenOver:
    """What goes on. *count*: the numbers in the names of files are smaller."""

    server: FuseServer
    attached: list[Attached]
    leaving: list[Attached]
    """Their loop devices are not to be used any more, but still are."""
    count: int


def take_over(table: Table | None, keeping: Keeping, devices: DeviceSet, folder: Path) -> TakenOver | None:
    """Go on with what *keeping* holds, if that is what *table* describes, in *folder*; else it is ended."""
    descriptor = keeping.take(table.token) if table is not None else None
    if table is None or descriptor is None:
        keeping.discard()
        return None
    if not _fits(table, descriptor, devices, folder):
        log.info("what an earlier server has kept is not of this store's FUSE file system: it is ended")
        os.close(descriptor)
        return None
    files = FileTable()
    files.continue_from(table.following)
    opened = [(file, _open(devices, file)) for file in table.files]
    for file, device in opened:
        files.restore(file.name, device, node=file.node, handles=file.handles, read_only=file.read_only)
    server = FuseServer.resumed(folder, descriptor, table.number, table.agreed, files)
    taken = TakenOver(server, [], [], table.following)
    for file, device in opened:
        found = _loop_of(file, folder)
        path = f"/dev/loop{file.loop}"
        each = Attached(
            file.device, file.device_id, file.name, device, found or loop.LoopDevice(path, file.loop, -1)
        )
        if found is not None and not isinstance(device, GoneDevice):
            taken.attached.append(each)
        else:
            each.loop.close()
            taken.leaving.append(each)
    log.info("%d devices are taken over from an earlier server", len(table.files))
    return taken


def _fits(table: Table, descriptor: int, devices: DeviceSet, folder: Path) -> bool:
    return (
        table.point == str(folder)
        and table.pool == devices.state.pool().base_uuid
        and mounted_number(folder) == table.number
        and is_alive(descriptor)
    )


def _open(devices: DeviceSet, file: KeptFile) -> BlockDevice:
    """The device below a file, which it must be still."""
    engine = devices.engine
    try:
        device = devices.get(file.device)
        if (device.device_id, device.size) == (file.device_id, file.size):
            engine.hold_open(file.device)
            with on_error(lambda: engine.let_go(file.device)):
                return engine.pool.open_volume(
                    device.device_id, device.size, read_only=file.read_only, zero_fresh=True
                )
    except LamellaError as error:
        log.info("device %s cannot be opened again: %s", file.device, error.message)
    log.info("device %s is gone: what is mounted of it gets errors", file.device)
    return GoneDevice(file.device, file.size, read_only=file.read_only)


def _loop_of(file: KeptFile, folder: Path) -> loop.LoopDevice | None:
    """The loop device over a file, which goes again when its last user closes it. The file is served."""
    if file.leaving:
        return None
    found = loop.reopen(file.loop, str(folder / file.name), read_only=file.read_only)
    if found is not None:
        try:
            loop.set_autoclear(found, autoclear=True)
        except LamellaError as error:
            log.info("%s stays when it is unmounted: %s", found.path, error.message)
    return found
