# SPDX-License-Identifier: Apache-2.0
"""Chain ids: the name of a layer together with everything below it.

Source: OCI image specification, config.md, "Layer ChainID".
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def chain_id(parent: str | None, diff_id: str) -> str:
    """The chain id of the layer *diff_id* upon the chain *parent* (None: it is the lowest)."""
    if not parent:
        return diff_id
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of each layer, the lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return chain
