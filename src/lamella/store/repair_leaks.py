# SPDX-License-Identifier: Apache-2.0
"""What a repair writes to a pool that is not damaged: leaked space is given back, a mark is taken away.

No device and no mapping is touched. The space maps are written anew into free blocks, what the superblock
will lead to is checked whole, and only then does it lead there; a crash leaves the old state or the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.driver.direct_lvm.group import copy_data
from lamella.errors import CorruptError
from lamella.thin.tools.check import check
from lamella.thin.tools.repair_in_place import clear_needs_check, repair_leaks

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.thin.tools.check import CheckReport


def put_in_order(metadata: BlockDevice) -> None:
    """Give back leaked space, and take the ``needs_check`` mark away.

    *metadata* is looked at once more first. If it is damaged, nothing is written and :class:`CorruptError`
    raised.
    """
    report = check(metadata)
    if report.only_space_maps:
        report = repair_leaks(metadata, report)
    if not report.ok:
        raise CorruptError(
            f"{metadata.name} was sound a moment ago, and is damaged now: {report.problems[0]}",
            hint="stop what else writes to it; then lamella check",
        )
    clear_needs_check(metadata)


def copy_in_order(metadata: BlockDevice, report: CheckReport, target: Path) -> None:
    """Do the same to a copy in the new file *target*; *report* is of *metadata*, which is only read.

    A failure leaves no file.
    """
    try:
        with FileDevice.create(target, metadata.size) as copy:
            copy_data(metadata, copy)
            repair_leaks(copy, report)
            clear_needs_check(copy)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
