# SPDX-License-Identifier: Apache-2.0
"""Repairs of metadata that is not damaged: leaked blocks are freed and ``needs_check`` is cleared.

No device and no mapping changes. New space maps are written into free blocks, all that the new superblock
will refer to is checked, and only then is the superblock written: a crash leaves the old state or the new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.block import FileDevice
from lamella.driver.direct_lvm.group import copy_data
from lamella.errors import CorruptError
from lamella.thin.tools.check import check
from lamella.thin.tools.leak_repair import clear_needs_check, repair_leaks

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.thin.tools.check import CheckReport


def repair_in_place(metadata: BlockDevice) -> None:
    """Free leaked blocks and clear the ``needs_check`` flag.

    *metadata* is checked again first. If it is damaged, nothing is written and :class:`CorruptError` raised.
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


def copy_repaired(metadata: BlockDevice, report: CheckReport, target: Path) -> None:
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
