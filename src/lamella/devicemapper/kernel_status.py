# SPDX-License-Identifier: Apache-2.0
"""The kernel's status line of a thin device, as a value; a pool's is :mod:`lamella.thin.status`.

Authority: ``Documentation/admin-guide/device-mapper/thin-provisioning.rst``.
"""

from __future__ import annotations

from typing import NamedTuple

from lamella.block import SECTOR
from lamella.errors import BadInputError


class ThinStatus(NamedTuple):
    """A thin device's status: bytes that are mapped, and the end of the last mapped chunk (0: none)."""

    mapped: int
    end: int
    failed: bool


def parse_thin_status(text: str) -> ThinStatus:
    """The parameters of a thin device's status line. Raises :class:`BadInputError` for anything else."""
    words = text.split()
    if words in (["Fail"], ["Error"]):
        return ThinStatus(0, 0, True)
    try:
        mapped, highest = words[:2]
        return ThinStatus(int(mapped) * SECTOR, 0 if highest == "-" else (int(highest) + 1) * SECTOR, False)
    except ValueError as error:
        raise BadInputError(
            f"the kernel's status of a thin device makes no sense: {text[:200]!r}",
            hint="this Lamella may be too old for this kernel",
        ) from error
