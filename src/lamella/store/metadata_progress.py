# SPDX-License-Identifier: Apache-2.0
"""Progress of work on a pool's metadata, in bytes of it that were read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block.counted import CountedDevice
from lamella.thin.format.checksum import BLOCK_SIZE
from lamella.thin.tools.check import CheckOptions
from lamella.thin.tools.check import check as check_metadata

if TYPE_CHECKING:
    from lamella.block import BlockDevice
    from lamella.progress import Progress
    from lamella.thin.tools.check import CheckReport


class MetadataReading:
    """Reports reads of at most as many bytes as the superblock says are in use.

    A block that is read twice counts until that many bytes were read.
    """

    def __init__(self, device: BlockDevice, progress: Progress) -> None:
        self.device = CountedDevice(device, self._read)
        self._progress = progress
        self._left = 0

    def start(self, what: str, report: CheckReport) -> None:
        """A pass over the metadata called *what* begins."""
        block = report.superblock
        self._left = block.metadata_sm_root.nr_allocated * BLOCK_SIZE if block else self.device.size
        self._left = min(self._left, self.device.size)
        self._progress.start(what, self._left)

    def done(self) -> None:
        """It has ended; what it had no need to read counts as read."""
        self._read(self._left)
        self._progress.done()

    def _read(self, amount: int) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        if amount:
            self._progress.advance(amount)


def check_reporting(
    device: BlockDevice, progress: Progress, what: str, options: CheckOptions | None = None
) -> CheckReport:
    """:func:`lamella.thin.tools.check.check`, with its progress as the task *what*."""
    reading = MetadataReading(device, progress)
    begun = False

    def started(report: CheckReport) -> None:
        nonlocal begun
        begun = True
        reading.start(what, report)

    report = check_metadata(reading.device, options, started=started)
    if begun:
        reading.done()
    return report
