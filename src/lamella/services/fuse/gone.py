# SPDX-License-Identifier: Apache-2.0
"""What is served in the place of a device that was removed while no server ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import BlockDevice
from lamella.errors import DeviceIOError

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Buffer


class GoneDevice(BlockDevice):
    """Fails every request."""

    def __init__(self, name: str, size: int, *, read_only: bool) -> None:
        self.name = name
        self.size = size
        self.read_only = read_only

    def _fail(self) -> NoReturn:
        raise DeviceIOError(f"device {self.name} is gone", hint="unmount what is mounted of it")

    def read_into(self, offset: int, buffer: Buffer) -> None:
        self._fail()

    def write(self, offset: int, data: Buffer) -> None:
        self._fail()

    def flush(self) -> None:
        self._fail()

    def discard(self, offset: int, length: int) -> None:
        self._fail()
