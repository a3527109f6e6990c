# SPDX-License-Identifier: Apache-2.0
"""A folder with files of every kind, to be packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fs.trees import make_rich_tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("tree")
    make_rich_tree(top, far=True)
    return top
