# SPDX-License-Identifier: Apache-2.0
"""How an image was made, step by step, as ``docker history`` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.store.images import document
from lamella.store.results import HistoryStep, parse_time

if TYPE_CHECKING:
    from lamella.store.catalog import Catalog, Image


def history(catalog: Catalog, image: Image) -> list[HistoryStep]:
    """The steps in the image's configuration, the latest first, each with the size of its layer.

    A step that changed no file has no layer (``empty_layer`` in the OCI image specification). Layers that the
    history has no step for come last.
    """
    sizes = [layer.size for layer in catalog.chain(image.top)]
    found: list[HistoryStep] = []
    for step in document(image).get("history") or []:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        created = parse_time(step["created"]) if step.get("created") else None
        found.append(HistoryStep("", created, step.get("created_by", ""), size, step.get("comment", "")))
    found = [*(HistoryStep("", None, "", size, "") for size in sizes), *found][::-1]
    if found:
        found[0].id = image.id  # only the last state of the image has an id here
    return found
