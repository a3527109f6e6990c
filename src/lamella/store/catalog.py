# SPDX-License-Identifier: Apache-2.0
"""Images, layers and containers in ``state.db``: looked up by name or id, added, removed."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lamella import clock
from lamella.driver.state import BASE, RESTORE, typed
from lamella.errors import CorruptError, NotFoundError, UsageError
from lamella.images.reference import Reference
from lamella.store.arguments import text
from lamella.store.names import bare_id, is_hexadecimal, match_id
from lamella.store.snapshot_catalog import SnapshotCatalog

if TYPE_CHECKING:
    from lamella.driver.state import State
    from lamella.store.claims import Claims


@dataclass(frozen=True)
class Layer:
    """An unpacked layer. *size*: bytes of its files; *tar_size*: bytes of the tar that it came from."""

    chain_id: str
    diff_id: str
    parent: str | None
    device: str
    size: int
    tar_size: int


@dataclass(frozen=True)
class Image:
    """An image: its configuration as loaded (the id is its digest), and its topmost layer."""

    id: str
    config: bytes
    top: str | None
    created: str
    size: int
    layers: int
    added: int


@dataclass(frozen=True)
class Container:
    """A container: its device, and the image that it was made from, by id and by the name given then."""

    id: str
    name: str
    image: str
    image_name: str
    top: str | None
    device: str
    created: str
    config: bytes


class Catalog:
    """Reads and writes the rows; whatever writes is called inside ``state.transaction()``.

    The classes above have their table's columns, in its order.
    """

    def __init__(self, state: State, claims: Claims | None = None) -> None:
        self._state = state
        self._claims = claims

    @cached_property
    def snapshots(self) -> SnapshotCatalog:
        """containerd's snapshots."""
        return SnapshotCatalog(self._state)

    def _is_pinned(self, chain: str) -> bool:
        return self._claims is not None and self._claims.is_pinned(chain)

    def require_whole(self) -> None:
        """Raise :class:`CorruptError` where a row refers to one that is not there.

        What seems unused then may be all that an image has.
        """
        for problem in self._state.dangling_rows("layers", "images", "containers", "snapshots"):
            raise CorruptError(f"state.db is damaged: {problem}", hint=RESTORE)

    # -- layers ----------------------------------------------------------------------------------

    def layer(self, chain_id: str) -> Layer | None:
        """The layer with that chain id, or None."""
        row = self._state.row("SELECT * FROM layers WHERE chain_id = ?", (chain_id,))
        return typed(Layer, row) if row else None

    def chain(self, top: str | None) -> list[Layer]:
        """*top* and all layers below it, the lowest first."""
        found: dict[str, Layer] = {}
        while top is not None:
            layer = self.layer(top)
            if layer is None:
                raise NotFoundError(f"the layer {top} is not in the store", hint="run: lamella check")
            if top in found:
                raise CorruptError(
                    f"state.db is damaged: the layer {top} is recorded as lying below itself", hint=RESTORE
                )
            found[top] = layer
            top = layer.parent
        return list(found.values())[::-1]

    def device_of(self, top: str | None) -> str:
        """The device with the tree of the layer *top* and all below it; without layers, the base device."""
        if top is None:
            return BASE
        layer = self.layer(top)
        if layer is None:
            raise NotFoundError(f"the layer {top} is not in the store", hint="run: lamella check")
        return layer.device

    def layers(self) -> list[Layer]:
        """All layers. Raises :class:`CorruptError` unless each lies, at last, upon none."""
        found = [typed(Layer, row) for row in self._state.rows("SELECT * FROM layers ORDER BY chain_id")]
        parents = {layer.chain_id: layer.parent for layer in found}
        sound: set[str | None] = {None}
        for start in parents:
            way: set[str] = set()
            at: str | None = start
            while at not in sound:
                assert at is not None
                if at in way or at not in parents:
                    what = "recorded as lying below itself" if at in way else "missing"
                    raise CorruptError(f"state.db is damaged: the layer {at} is {what}", hint=RESTORE)
                way.add(at)
                at = parents[at]
            sound |= way
        return found

    def unused_tops(self) -> list[str]:
        """Chain ids of layers that no image, no container and no other layer uses, and no thread needs."""
        found = self._state.texts(
            "SELECT chain_id FROM layers AS l WHERE NOT EXISTS (SELECT 1 FROM images WHERE top = l.chain_id) "
            "AND NOT EXISTS (SELECT 1 FROM containers WHERE top = l.chain_id) "
            "AND NOT EXISTS (SELECT 1 FROM layers WHERE parent = l.chain_id)"
        )
        return [chain for chain in found if not self._is_pinned(chain)]

    def add_layer(self, layer: Layer) -> None:
        """Add one. Its device and its parent must exist."""
        self._state.connection.execute("INSERT INTO layers VALUES (?, ?, ?, ?, ?, ?)", astuple(layer))

    def move_layer(self, layer: Layer) -> str:
        """Give a layer that exists the device and the sizes of *layer*; returns the device that it had."""
        old = self.device_of(layer.chain_id)
        self._state.connection.execute(
            "UPDATE layers SET device = ?, size = ?, tar_size = ? WHERE chain_id = ?",
            (layer.device, layer.size, layer.tar_size, layer.chain_id),
        )
        return old

    def drop_unused_layers(self, top: str | None) -> list[Layer]:
        """Remove *top* and those layers below it that nothing else uses; returns them, top first."""
        dropped: list[Layer] = []
        connection = self._state.connection
        while top is not None:
            used = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM images WHERE top = ?1) OR EXISTS (SELECT 1 FROM containers "
                "WHERE top = ?1) OR EXISTS (SELECT 1 FROM layers WHERE parent = ?1)",
                (top,),
            ).fetchone()[0]
            layer = self.layer(top)
            if used or layer is None or self._is_pinned(top):
                break
            connection.execute("DELETE FROM layers WHERE chain_id = ?", (top,))
            dropped.append(layer)
            top = layer.parent
        return dropped

    def devices_without_count(self) -> list[str]:
        """Devices of layers, and the base device, of which is not recorded how much they map."""
        return self._state.texts(
            "SELECT hash FROM devices WHERE mapped IS NULL AND NOT deleted AND damage = '' "
            "AND (hash = ? OR hash IN (SELECT device FROM layers))",
            (BASE,),
        )

    # -- images ----------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """All images, the newest first."""
        return [
            typed(Image, row) for row in self._state.rows("SELECT * FROM images ORDER BY created DESC, id")
        ]

    def find_image(self, name: str) -> Image:
        """The image that a reference, an id or the beginning of an id names, tried in Docker's order.

        Raises :class:`NotFoundError`, or :class:`UsageError` if it is ambiguous or not a valid name.
        """
        text(name, "an image's name")
        ids = self._state.texts("SELECT id FROM images")
        wanted = next((one for one in ids if name in (one, bare_id(one))), None)
        refusal: UsageError | None = None
        if wanted is None:
            try:
                reference = Reference.parse(name)
                named = self._state.texts(
                    "SELECT image FROM image_references WHERE name = ?", (stored_name(reference),)
                )
                wanted = named[0] if named else None
            except UsageError as error:
                refusal = error
        if wanted is None:
            wanted = match_id(name, ids, "image")
        if wanted is None:
            shown = name
            if not is_hexadecimal(bare_id(name)):
                if refusal is not None:
                    raise refusal
                shown = str(Reference.parse(name))
            raise NotFoundError(f"No such image: {shown}", hint="see what there is: lamella images")
        row = self._state.row("SELECT * FROM images WHERE id = ?", (wanted,))
        if row is None:
            raise CorruptError(f"state.db is damaged: the image {wanted} is missing", hint=RESTORE)
        return typed(Image, row)

    def add_image(self, image: Image) -> None:
        """Add one, unless it exists."""
        self._state.connection.execute(
            "INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(image)
        )

    def drop_image(self, image: Image) -> list[Layer]:
        """Remove an image, its references and its unused layers; returns the layers, top first."""
        self._state.connection.execute("DELETE FROM images WHERE id = ?", (image.id,))
        return self.drop_unused_layers(image.top)

    # -- references ------------------------------------------------------------------------------

    def references(self, image_id: str) -> list[Reference]:
        """The names of an image, in order."""
        names = self._state.texts(
            "SELECT name FROM image_references WHERE image = ? ORDER BY name", (image_id,)
        )
        return [Reference.parse(name, default_tag=False) for name in names]

    def set_reference(self, reference: Reference, image_id: str) -> None:
        """Make the name refer to the image, whatever it referred to before."""
        self._state.connection.execute(
            "INSERT OR REPLACE INTO image_references VALUES (?, ?)", (stored_name(reference), image_id)
        )

    def drop_reference(self, reference: Reference) -> None:
        """Remove the name."""
        self._state.connection.execute(
            "DELETE FROM image_references WHERE name = ?", (stored_name(reference),)
        )

    # -- containers ------------------------------------------------------------------------------

    def containers(self) -> list[Container]:
        """All containers, the newest first."""
        rows = self._state.rows("SELECT * FROM containers ORDER BY created DESC, id")
        return [typed(Container, row) for row in rows]

    def containers_of(self, image_id: str) -> list[Container]:
        """The containers that were made from an image."""
        rows = self._state.rows("SELECT * FROM containers WHERE image = ? ORDER BY created", (image_id,))
        return [typed(Container, row) for row in rows]

    def container_named(self, name: str) -> Container | None:
        """The container with exactly that name, or None."""
        row = self._state.row("SELECT * FROM containers WHERE name = ?", (name,))
        return typed(Container, row) if row else None

    def find_container(self, name: str) -> Container:
        """The container with that id, name or beginning of an id, tried in Docker's order."""
        # SQLite takes no lone surrogates.
        bare = text(name, "a container's name").removeprefix("/").encode("utf-8", "replace").decode()
        row = self._state.row("SELECT * FROM containers WHERE id = ?", (bare,)) or self._state.row(
            "SELECT * FROM containers WHERE name = ?", (bare,)
        )
        if row is None:
            ids = self._state.texts("SELECT id FROM containers")
            whole = match_id(bare, ids, "container") if ":" not in bare else None
            row = self._state.row("SELECT * FROM containers WHERE id = ?", (whole,)) if whole else None
        if row is None:
            raise NotFoundError(f"No such container: {name}", hint="see what there is: lamella ps")
        return typed(Container, row)

    def add_container(self, made: Container) -> None:
        """Add one. Its device must exist."""
        self._state.connection.execute(
            "INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(made)
        )

    def rename_container(self, container: Container, name: str) -> None:
        """Give one another name."""
        self._state.connection.execute("UPDATE containers SET name = ? WHERE id = ?", (name, container.id))

    def drop_container(self, container: Container) -> list[Layer]:
        """Remove one, and the layers that only it used; returns them, top first."""
        self._state.connection.execute("DELETE FROM containers WHERE id = ?", (container.id,))
        return self.drop_unused_layers(container.top)


def stored_name(reference: Reference) -> str:
    """A reference as the key that it is stored under: in full; a digest wins over a tag."""
    if reference.digest:
        return f"{reference.name}@{reference.digest}"
    return reference.canonical()


def now() -> int:
    """Seconds since 1970."""
    return int(clock.now())
