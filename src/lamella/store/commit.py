# SPDX-License-Identifier: Apache-2.0
"""Creating an image from a container."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from lamella import clock
from lamella.block.system import explain, explaining
from lamella.errors import LamellaError, NotFoundError, UsageError
from lamella.fs.difference import write_layer
from lamella.images.chain import chain_id
from lamella.images.digest import digest_of
from lamella.images.platform import Platform
from lamella.images.reference import Reference
from lamella.progress import Upward
from lamella.store.catalog import Image, now
from lamella.store.containers import run_config
from lamella.store.diff import open_pair
from lamella.store.dockerfile_instructions import apply_changes
from lamella.store.images import document
from lamella.store.results import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import BufferedRandom
    from pathlib import Path
    from typing import Any

    from lamella.driver.device_set import DeviceSet
    from lamella.driver.state import State
    from lamella.progress import Progress
    from lamella.store.catalog import Catalog, Container, Layer
    from lamella.store.layers import Layers

EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""Diff id of a tar without entries (1024 zero bytes): such a layer is not added to an image."""


def commit(
    state: State,
    catalog: Catalog,
    layers: Layers,
    devices: DeviceSet,
    scratch: Path,
    container: Container,
    name: str | None,
    *,
    message: str,
    author: str,
    changes: Sequence[str],
    progress: Progress,
) -> str:
    """Create the image; returns its id. Its layer is unpacked from the new tar, as others will do."""
    reference = Reference.parse(name) if name else None
    if reference is not None and reference.digest:
        raise UsageError("refusing to create a tag with a digest reference", hint="name it as NAME:TAG")
    config = apply_changes(_without_container(run_config(container)), changes)
    below = [each.chain_id for each in catalog.chain(container.top)]
    try:
        with ExitStack() as pins:
            pins.enter_context(layers.claims.pinned(below))
            layer = _layer(catalog, layers, devices, scratch, container, progress, pins)
            body = json.dumps(_document(catalog, container, config, layer, message, author)).encode()
            chain = catalog.chain(layer.chain_id if layer else container.top)
            size = sum(one.size for one in chain)
            created = json.loads(body)["created"]
            top = chain[-1].chain_id if chain else None
            image = Image(digest_of(body), body, top, created, size, len(chain), now())
            with state.transaction():
                catalog.add_image(image)
                if reference is not None:
                    catalog.set_reference(reference, image.id)
    except BaseException:
        # Raise the original error; what cannot be undone now, the next opening undoes.
        with suppress(LamellaError):
            layers.drop_unused()
        raise
    return image.id


def _layer(
    catalog: Catalog,
    layers: Layers,
    devices: DeviceSet,
    scratch: Path,
    container: Container,
    progress: Progress,
    pins: ExitStack,
) -> Layer | None:
    """The layer of the container's changes, pinned until *pins* are closed; None if there are none."""
    with _spool(scratch) as spool:
        progress.start("changes", None)
        hashing = _Hashing(spool, scratch, progress.advance)
        with open_pair(devices, catalog.device_of(container.top), container.device) as pair:
            write_layer(pair, hashing)
        diff_id = hashing.digest()
        progress.done()
        if diff_id == EMPTY_LAYER:
            return None
        pins.enter_context(layers.claims.pinned([chain_id(container.top, diff_id)]))
        known = catalog.layer(chain_id(container.top, diff_id))
        if known is not None:
            return known
        spool.seek(0)
        progress.start(f"layer {diff_id[7:19]}: unpacking", os.fstat(spool.fileno()).st_size)
        read = Upward(progress, spool.tell)
        # As large as the container, so that its files fit.
        size = devices.get(container.device).size
        made = layers.unpack(container.top, diff_id, spool, read.report, size=size)
        read.report()
        progress.done()
        return made


def _spool(folder: Path) -> BufferedRandom:
    with explaining("make a temporary file in", str(folder)):
        descriptor, path = tempfile.mkstemp(dir=folder)
        os.unlink(path)
        return open(descriptor, "w+b")


class _Hashing:
    """A spool file with the digest of its content."""

    def __init__(self, file: BufferedRandom, folder: Path, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance
        self._folder = folder
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise explain(error, "write a temporary file in", str(self._folder)) from error
        self._advance(len(data))

    def digest(self) -> str:
        with explaining("write a temporary file in", str(self._folder)):
            self._file.flush()
        return f"sha256:{self._hash.hexdigest()}"


def _without_container(config: dict[str, Any]) -> dict[str, Any]:
    """A container's configuration without the fields that are specific to it."""
    return {key: value for key, value in config.items() if key not in ("Hostname", "Image")}


def _document(
    catalog: Catalog,
    container: Container,
    config: dict[str, Any],
    layer: Layer | None,
    message: str,
    author: str,
) -> dict[str, Any]:
    """The new image's configuration: the old one's, with one more step in its history."""
    try:
        base = document(catalog.find_image(container.image))
    except NotFoundError:  # it was removed by force; its layers are still in the store
        here = Platform.here()
        base = {"architecture": here.architecture, "os": here.os}
        if here.variant:
            base["variant"] = here.variant
    created = time_text(clock.utc())
    step: dict[str, Any] = {"created": created, "created_by": _command(config)}
    if author:
        step["author"] = author
    if message:
        step["comment"] = message
    if layer is None:
        step["empty_layer"] = True
    chain = catalog.chain(layer.chain_id if layer else container.top)
    made = {key: value for key, value in base.items() if key not in ("id", "parent", "container_config")}
    history = base.get("history")
    made |= {
        "created": created,
        "author": author or base.get("author", ""),
        "comment": message,
        "container": container.id,
        "config": config,
        "history": [
            *(history or [{"created": created, "created_by": ""} for _ in catalog.chain(container.top)]),
            step,
        ],
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in chain]},
    }
    return {key: value for key, value in made.items() if value != ""}


def _command(config: dict[str, Any]) -> str:
    return " ".join(config.get("Cmd") or [])
