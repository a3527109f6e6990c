# SPDX-License-Identifier: Apache-2.0
"""Images of the store: listed, inspected, tagged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lamella.errors import CorruptError, UsageError
from lamella.images.reference import Reference
from lamella.store.results import ImageSummary, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.state import State
    from lamella.store.catalog import Catalog, Image


def summary(
    catalog: Catalog, image: Image, *, digest: str = "", names: Sequence[Reference] | None = None
) -> ImageSummary:
    """The image as a list shows it, with all its names or only with *names*."""
    references = catalog.references(image.id) if names is None else names
    return ImageSummary(
        id=image.id,
        references=sorted(str(reference) for reference in references if not reference.digest),
        digests=sorted(str(reference) for reference in references if reference.digest),
        created=parse_time(image.created),
        size=image.size,
        layers=image.layers,
        digest=digest,
        labels=labels(image),
    )


def labels(image: Image) -> dict[str, str]:
    """The labels in the image's configuration."""
    return dict((document(image).get("config") or {}).get("Labels") or {})


def document(image: Image) -> dict[str, Any]:
    """The image's configuration as a dictionary."""
    return parse_config(image.config, f"image {image.id}", "remove the image and load it again")


def parse_config(content: bytes, owner: str, hint: str) -> dict[str, Any]:
    """The JSON that ``state.db`` has as the configuration of *owner*. Raises :class:`CorruptError`."""
    try:
        found: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise CorruptError(f"the configuration of {owner} is damaged in state.db", hint=hint) from error
    return found


def inspect(catalog: Catalog, image: Image, driver: dict[str, Any]) -> dict[str, Any]:
    """What ``docker image inspect`` says, as far as it means something here."""
    config = document(image)
    references = catalog.references(image.id)
    history = config.get("history") or [{}]
    return {
        "Id": image.id,
        "RepoTags": [str(reference) for reference in references if not reference.digest],
        "RepoDigests": [str(reference) for reference in references if reference.digest],
        "Parent": "",
        "Comment": config.get("comment") or history[-1].get("comment", ""),
        "Created": config.get("created", ""),
        "DockerVersion": config.get("docker_version", ""),
        "Author": config.get("author", ""),
        "Config": config.get("config") or {},
        "Architecture": config.get("architecture", ""),
        **({"Variant": config["variant"]} if config.get("variant") else {}),
        "Os": config.get("os", ""),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": driver,
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in catalog.chain(image.top)]},
        "Metadata": {"LastTagTime": time_text(parse_time(image.created))},
    }


def tag(state: State, catalog: Catalog, source: str, target: str) -> None:
    """Give the image *source* the further name *target*, taking it from the image that had it."""
    reference = Reference.parse(target)
    if reference.digest:
        raise UsageError("refusing to create a tag with a digest reference", hint="name it as NAME:TAG")
    image = catalog.find_image(source)
    with state.transaction():
        catalog.set_reference(reference, image.id)
