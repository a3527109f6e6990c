# SPDX-License-Identifier: Apache-2.0
"""Removing the images that nothing uses, as ``docker image prune`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.store.filters import PRUNE_KEYS, Filters, images, is_dangling
from lamella.store.images import labels

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lamella.store.catalog import Catalog, Image


def unused(catalog: Catalog, texts: Sequence[str], mounted: Collection[str], *, named: bool) -> list[Image]:
    """Images that no container was made from and that are not mounted; with *named* also those with a tag.

    *texts* are Docker's filters "label" and "until"; *mounted* are the devices that are mounted.
    """
    return [
        image
        for image, names in images(catalog, Filters(texts, PRUNE_KEYS), labels)
        if (named or is_dangling(names))
        and not catalog.containers_of(image.id)
        and catalog.device_of(image.top) not in mounted
    ]
