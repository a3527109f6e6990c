# SPDX-License-Identifier: Apache-2.0
"""Cutting a sequence into stretches, the loop that replaces a loop over every block."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


def stretches(cut: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The slices (start, end) of a sequence of ``len(cut) + 1`` items that *cut* divides it into.

    ``cut[i]`` says whether a new stretch begins between items *i* and *i* + 1.
    """
    return pairwise([0, *(np.flatnonzero(cut) + 1).tolist(), len(cut) + 1])
