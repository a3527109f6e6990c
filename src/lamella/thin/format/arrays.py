# SPDX-License-Identifier: Apache-2.0
"""Names for the types of arrays that the metadata is read into; imported for type checking only."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Int64s: TypeAlias = npt.NDArray[np.int64]
"""Block numbers and counts to compute with."""
Uint8s: TypeAlias = npt.NDArray[np.uint8]
Uint32s: TypeAlias = npt.NDArray[np.uint32]
Uint64s: TypeAlias = npt.NDArray[np.uint64]
"""Keys and values of B-trees, as the metadata has them."""
