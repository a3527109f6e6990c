# SPDX-License-Identifier: Apache-2.0
"""Dividing an array into runs: a loop over runs in place of a loop over every block."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lamella.thin.format.arrays import Bools


def slices(cut: Bools) -> Iterator[tuple[int, int]]:
    """The slices (start, end) of a sequence of ``len(cut) + 1`` items that *cut* divides it into.

    ``cut[i]`` says whether a new run begins between items *i* and *i* + 1.
    """
    return pairwise([0, *(np.flatnonzero(cut) + 1).tolist(), len(cut) + 1])


def consecutive(numbers: npt.ArrayLike) -> Iterator[tuple[int, int]]:
    """The slices (start, end) in which ascending *numbers*, of which there is at least one, have no gaps."""
    found = np.asarray(numbers, dtype=np.int64)
    return slices(np.diff(found) != 1) if len(found) > 1 else iter([(0, 1)])
