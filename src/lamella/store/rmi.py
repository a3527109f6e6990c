# SPDX-License-Identifier: Apache-2.0
"""Removing an image: which of its names and layers go, by Docker's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lamella.errors import BusyError
from lamella.images.reference import Reference
from lamella.store.catalog import stored_name
from lamella.store.names import bare_id, begins_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lamella.store.catalog import Catalog, Container, Image, Layer


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
        if not begins_with(image.id, name):
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
    return bare_id(identity)[:12]


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
