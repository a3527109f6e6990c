# SPDX-License-Identifier: Apache-2.0
"""A small store with the sample image and a container, served or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lamella.store import Store
from tests.support.daemon import served
from tests.support.images import write_docker_archive
from tests.support.stores import SMALL, copy_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Served


@pytest.fixture(scope="session")
def control_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_docker_archive(tmp_path_factory.mktemp("control") / "sample.tar")


@pytest.fixture(scope="session")
def control_template(tmp_path_factory: pytest.TempPathFactory, control_archive: Path) -> Path:
    root = tmp_path_factory.mktemp("control-store") / "store"
    with Store.setup(root, storage_options=SMALL, engine="user") as store:
        [image] = store.load(control_archive)
        store.create(image.references[0], name="web")
    return root


@pytest.fixture
def root(control_template: Path, tmp_path: Path) -> Path:
    """A store of the test's own."""
    return copy_store(control_template, tmp_path / "store")


@pytest.fixture
def daemon(root: Path) -> Iterator[Served]:
    with served(root) as found:
        yield found
