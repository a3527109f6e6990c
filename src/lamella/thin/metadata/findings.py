# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a pool's metadata: a list of places and reasons that never grows without bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lamella.errors import CorruptError, Remedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.thin.format.arrays import Int64s

SHOWN = 20
"""Most problems that are listed one by one of those found together; the others are counted."""
KEPT = 1000
"""Most problems kept in all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    place: str
    """Where: "superblock", "mapping tree, block 999", "data space map, data block 12"."""
    reason: str
    fatal: bool = True
    """False for what loses no data and no safety: leaked blocks, thin nodes, wrong free counts."""
    block: int | None = None
    """The metadata block concerned, where there is one."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(slots=True)
class Problems:
    """Problems in the order in which they were found; only the first :data:`KEPT` are kept."""

    found: list[Problem] = field(default_factory=list)
    fatal_count: int = 0
    other_count: int = 0

    def add(self, place: str, reason: str, *, fatal: bool = True, block: int | None = None) -> None:
        if fatal:
            self.fatal_count += 1
        else:
            self.other_count += 1
        if len(self.found) < KEPT:
            self.found.append(Problem(place, reason, fatal, block))

    def add_blocks(
        self, place: str, blocks: Int64s | Sequence[int], reason: str, *, fatal: bool = True
    ) -> None:
        """One problem for each of *blocks*; many are cut short by one that gives their number."""
        count = len(blocks)
        for block in list(blocks[: count if count <= SHOWN + 1 else SHOWN]):
            self.add(f"{place}, block {int(block)}", reason, fatal=fatal, block=int(block))
        if count > SHOWN + 1:
            rest = count - SHOWN
            self.add(place, f"{rest} more blocks: {reason}", fatal=fatal)
            # The line above counted one of them.
            if fatal:
                self.fatal_count += rest - 1
            else:
                self.other_count += rest - 1

    def merge(self, other: Problems) -> None:
        """Add all of *other*'s."""
        self.fatal_count += other.fatal_count
        self.other_count += other.other_count
        self.found += other.found[: max(KEPT - len(self.found), 0)]

    def raise_if_fatal(self, name: str) -> None:
        """Raise :class:`CorruptError` for the first fatal problem of metadata *name*, if there is one."""
        if self.fatal_count:
            first = next(problem for problem in self.found if problem.fatal)
            more = f" (and {self.fatal_count - 1} more)" if self.fatal_count > 1 else ""
            raise CorruptError(
                f"the metadata {name} is damaged: {first}{more}", steps=[Remedy.CHECK_METADATA]
            )
