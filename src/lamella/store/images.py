# SPDX-License-Identifier: Apache-2.0
"""What is done with images that are in the store: shown, named, removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lamella.errors import BusyError, CorruptError, UsageError
from lamella.images.reference import Reference
from lamella.store.results import ImageSummary, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.driver.state import State
    from lamella.store.catalog import Catalog, Container, Image, Layer


def summary(catalog: Catalog, image: Image, *, digest: str = "") -> ImageSummary:
    """The image as a list shows it."""
    references = catalog.references(image.id)
    return ImageSummary(
        id=image.id,
        references=sorted(str(reference) for reference in references if not reference.digest),
        digests=sorted(str(reference) for reference in references if reference.digest),
        created=parse_time(image.created),
        size=image.size,
        layers=image.layers,
        digest=digest,
    )


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


class Removal:
    """The removal of one image, decided by the rules of moby's ``daemon/images/image_delete.go``.

    ``lines`` is what Docker prints; ``references`` and ``image`` say what is to go.
    """

    def __init__(self, catalog: Catalog, name: str, *, force: bool) -> None:
        self.lines: list[str] = []
        self.references: list[Reference] = []
        self.image: Image | None = None
        image = catalog.find_image(name)
        left = catalog.references(image.id)
        users = catalog.containers_of(image.id)
        if not image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            if not force and users and _is_single(left):
                raise _name_in_use(name, image, users[0])
            left = self._untag_one(Reference.parse(name), left)
            if left:
                return
        elif _is_single(left):
            if users and not force:
                raise _in_use(image, users[0])
            self._untag(left)
        elif left and not force:
            raise _conflict(image, "image is referenced in multiple repositories")
        else:
            if users and not force:
                raise _in_use(image, users[0])
            self._untag(left)
        self.image = image

    def _untag(self, references: Sequence[Reference]) -> None:
        for reference in references:
            self.references.append(reference)
            self.lines.append(f"Untagged: {reference}")

    def _untag_one(self, wanted: Reference, left: list[Reference]) -> list[Reference]:
        """Drop one name, and with a repository's last tag its digests; gives the names that remain."""
        from lamella.store.catalog import stored_name

        gone = [reference for reference in left if stored_name(reference) == stored_name(wanted)]
        left = [reference for reference in left if reference not in gone]
        if not wanted.digest and not any(r.name == wanted.name and not r.digest for r in left):
            digests = [r for r in left if r.name == wanted.name]
            gone += digests
            left = [reference for reference in left if reference not in digests]
        self._untag(gone)
        return left

    def carry_out(self, catalog: Catalog) -> list[Layer]:
        """Remove the rows, inside a transaction; gives the layers whose devices are to be deleted."""
        for reference in self.references:
            catalog.drop_reference(reference)
        if self.image is None:
            return []
        layers = catalog.drop_image(self.image)
        self.lines.append(f"Deleted: {self.image.id}")
        self.lines += [f"Deleted: {layer.chain_id}" for layer in layers]
        return layers


def _is_single(references: Sequence[Reference]) -> bool:
    """Whether all names are of one repository, with at most one tag among them (and there is a name)."""
    tags = [reference for reference in references if not reference.digest]
    return len({reference.name for reference in references}) == 1 and len(tags) <= 1


def _short(identity: str) -> str:
    return identity.removeprefix("sha256:")[:12]


def _name_in_use(name: str, image: Image, user: Container) -> BusyError:
    return BusyError(
        f'conflict: unable to remove repository reference "{name}" (must force) - container '
        f"{_short(user.id)} is using its referenced image {_short(image.id)}",
        hint=f"remove the container first (lamella rm {user.name}), or force it: lamella rmi -f",
    )


def _in_use(image: Image, user: Container) -> BusyError:
    return _conflict(image, f"image is being used by stopped container {_short(user.id)}")


def _conflict(image: Image, why: str) -> BusyError:
    return BusyError(
        f"conflict: unable to delete {_short(image.id)} (must be forced) - {why}",
        hint="force it: lamella rmi -f",
    )
