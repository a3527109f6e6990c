# SPDX-License-Identifier: Apache-2.0
"""The sizes that ``lamella grow`` takes, for both modes: a total, more of it, or a share of what is free."""

from __future__ import annotations

import re

from lamella.block import SECTOR
from lamella.errors import ExistsError, UsageError
from lamella.units import human_size, parse_size

_PERCENT = re.compile(r"\+(\d{1,6})%(FREE)?", re.IGNORECASE)


def wanted_size(text: str, now: int, *, free: int | None = None) -> int:
    """The bytes that *text* asks for, of something that has *now* bytes.

    ``100G`` is a total, ``+10G`` and ``+20%`` are more of it, ``+50%FREE`` is a share of *free*, bytes of a
    volume group. A share is rounded down to sectors, but never to nothing. Raises :class:`UsageError` for
    anything else, and :class:`ExistsError` for what is not more.
    """
    share = _PERCENT.fullmatch(text.strip())
    if share is not None and share[2]:
        if free is None:
            raise UsageError(f"{text}: there is no volume group that has free space", hint="write it as +10G")
        size = now + _sectors(free * int(share[1]))
    elif share is not None:
        size = now + _sectors(now * int(share[1]))
    elif text.strip().startswith("+"):
        size = now + parse_size(text.strip()[1:])
    else:
        size = parse_size(text)
    if size <= now:
        raise ExistsError(
            f"{text} is not more than the {human_size(now)} that are there; a pool can only grow",
            hint="give a larger size, or one with a plus sign: +10G, +20%",
        )
    return size


def _sectors(hundredfold: int) -> int:
    """A hundredth of it in whole sectors of 512 bytes: at least one, of what is not nothing."""
    return max(hundredfold // 100 // SECTOR, min(hundredfold, 1)) * SECTOR
