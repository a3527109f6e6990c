# SPDX-License-Identifier: Apache-2.0
"""Writing images: as ``docker save`` does, or as an OCI layout.

Both are the same files: an OCI layout (``oci-layout``, ``index.json``, ``blobs/sha256/...``), which since
Docker 25 is what ``docker save`` writes too, with ``manifest.json`` and ``repositories`` added for
everybody older. The same images give the same bytes. Formats: see :mod:`~lamella.images.oci_layout`
and :mod:`~lamella.images.docker_archive`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, cast

from lamella.errors import CorruptError, Remedy, UsageError
from lamella.images.config import parse_config
from lamella.images.digest import digest_of, new_hasher
from lamella.images.manifest import (
    NAME_ANNOTATION,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    REF_NAME_ANNOTATION,
)
from lamella.images.output import output_archive, output_folder

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from lamella.images.reference import Reference

Compression = Literal["none", "gzip"]

_EPOCH = 0
"""Time of every member: the archive says nothing about when it was made."""


class Sink(Protocol):
    """Where a layer writes its tar."""

    def write(self, data: Buffer, /) -> int: ...


@dataclass(frozen=True)
class OutLayer:
    """A layer to be written: *write_to* writes its tar of exactly *size* bytes, whose digest is *diff_id*."""

    diff_id: str
    size: int
    write_to: Callable[[Sink], object]


@dataclass(frozen=True)
class OutImage:
    """An image to be written; ``config`` is kept byte for byte, so the image keeps its id."""

    references: Sequence[Reference]
    config: bytes
    layers: Sequence[OutLayer]


def write_docker_archive(images: Sequence[OutImage], out: Path | BinaryIO) -> None:
    """Write *images* as ``docker save`` does, to the file *out* (replaced as a whole) or a binary stream.

    Raises :class:`CorruptError` if a layer is not what its diff id says (nothing is left at a path then),
    and the operating system's error for what cannot be written.
    """
    with output_archive(out) as tar:
        _write_layout(images, _TarTarget(tar), "none", docker=True)


def write_oci_layout(
    images: Sequence[OutImage], target: Path | BinaryIO, archive: bool, *, compression: Compression = "none"
) -> None:
    """Write *images* as an OCI layout: with *archive* as one tar, else as the folder *target*.

    A folder must not exist yet, or be empty. *compression* is that of the layers. Errors as with
    :func:`write_docker_archive`; :class:`ExistsError` for a folder with something in it.
    """
    if archive:
        with output_archive(target) as tar:
            _write_layout(images, _TarTarget(tar), compression, docker=False)
    elif isinstance(target, Path):
        with output_folder(target) as folder:
            _write_layout(images, _FolderTarget(folder), compression, docker=False)
    else:
        raise UsageError(
            "an OCI layout folder cannot be written to a stream", hint="name a folder, or make an archive"
        )


# Targets -------------------------------------------------------------------------------------


class _Target(Protocol):
    def add(self, name: str, data: bytes) -> None: ...

    def add_sized(self, name: str, size: int, write: Callable[[Sink], object]) -> None: ...

    def scratch(self) -> str:
        """A folder for blobs whose digest is not known before they are written."""


class _TarTarget:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._folders: set[str] = set()

    def add(self, name: str, data: bytes) -> None:
        self.add_sized(name, len(data), lambda sink: sink.write(data))

    def add_sized(self, name: str, size: int, write: Callable[[Sink], object]) -> None:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in self._folders:
                self._folders.add(folder)
                self._header(folder, 0, tarfile.DIRTYPE, 0o755)
        self._header(name, size, tarfile.REGTYPE, 0o644)
        write(cast("Sink", self._out))
        self._out.write(bytes(-size % tarfile.BLOCKSIZE))

    def _header(self, name: str, size: int, kind: bytes, mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.mode, info.mtime = size, kind, mode, _EPOCH
        self._out.write(info.tobuf(tarfile.GNU_FORMAT))  # GNU for sizes of 8 GiB and more

    def scratch(self) -> str:
        name = getattr(self._out, "name", None)
        return os.path.dirname(name) if isinstance(name, str) else tempfile.gettempdir()


class _FolderTarget:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, data: bytes) -> None:
        self.add_sized(name, len(data), lambda sink: sink.write(data))

    def add_sized(self, name: str, size: int, write: Callable[[Sink], object]) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            write(cast("Sink", file))
            file.flush()
            os.fsync(file.fileno())

    def scratch(self) -> str:
        return str(self._folder.parent)


# The layout ----------------------------------------------------------------------------------


def _write_layout(
    images: Sequence[OutImage], target: _Target, compression: Compression, *, docker: bool
) -> None:
    written: dict[str, dict[str, Any]] = {}
    entries: list[dict[str, Any]] = []
    saved: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    tags = _ref_names(images)
    for image in images:
        config_digest = digest_of(image.config)
        parsed = parse_config(image.config, f"the configuration {config_digest}", layers=len(image.layers))
        for layer, diff_id in zip(image.layers, parsed.diff_ids, strict=True):
            if layer.diff_id != diff_id:
                raise CorruptError(
                    f"the configuration {config_digest} does not fit its layers: "
                    f"it has the diff id {diff_id} where the store has {layer.diff_id}"
                )
            if layer.diff_id not in written:
                written[layer.diff_id] = _write_layer(layer, target, compression)
        layers = [written[layer.diff_id] for layer in image.layers]
        _write_blob(target, written, image.config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(image.config)},
            "layers": layers,
        }
        body = _json(manifest)
        _write_blob(target, written, body)
        platform = {"architecture": parsed.platform.architecture, "os": parsed.platform.os}
        if parsed.platform.variant:
            platform["variant"] = parsed.platform.variant
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(body),
            "size": len(body),
            "platform": platform,
        }
        named = [reference for reference in image.references if reference.tag]
        for reference in named:
            naming = {NAME_ANNOTATION: reference.canonical(), REF_NAME_ANNOTATION: tags[reference]}
            entries.append({**entry, "annotations": naming})
            if layers:
                top = str(layers[-1]["digest"]).partition(":")[2]
                repositories.setdefault(reference.familiar_name, {})[reference.tag] = top
        if not named:
            entries.append(entry)
        saved.append(
            {
                "Config": _blob_name(config_digest),
                "RepoTags": [str(reference) for reference in named] or None,
                "Layers": [_blob_name(str(layer["digest"])) for layer in layers],
                "LayerSources": {str(layer["digest"]): layer for layer in layers},
            }
        )
    target.add("index.json", _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
    if docker:
        target.add("manifest.json", _json(saved))
    target.add("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    if docker and repositories:
        target.add("repositories", _json(repositories))


def _ref_names(images: Sequence[OutImage]) -> dict[Reference, str]:
    """What ``org.opencontainers.image.ref.name`` says: the tag, or the whole name where tags would clash."""
    references = [reference for image in images for reference in image.references if reference.tag]
    tags = [reference.tag for reference in references]
    return {
        reference: reference.tag if tags.count(reference.tag) == 1 else reference.canonical()
        for reference in references
    }


def _write_blob(target: _Target, written: dict[str, dict[str, Any]], data: bytes) -> None:
    digest = digest_of(data)
    if digest not in written:
        written[digest] = {}
        target.add(_blob_name(digest), data)


def _write_layer(layer: OutLayer, target: _Target, compression: Compression) -> dict[str, Any]:
    """Write one layer's blob and give its descriptor."""
    if compression == "none":
        target.add_sized(_blob_name(layer.diff_id), layer.size, lambda sink: _checked(layer, sink))
        return {"mediaType": OCI_LAYER, "digest": layer.diff_id, "size": layer.size}
    with tempfile.TemporaryFile(dir=target.scratch()) as scratch:
        digest, size = _compress(layer, scratch)
        scratch.seek(0)
        target.add_sized(
            _blob_name(digest), size, lambda sink: shutil.copyfileobj(scratch, cast("Any", sink), 1 << 20)
        )
    return {"mediaType": f"{OCI_LAYER}+gzip", "digest": digest, "size": size}


def _checked(layer: OutLayer, sink: Sink) -> None:
    checker = _Checker(layer, sink)
    layer.write_to(checker)
    checker.finish()


def _compress(layer: OutLayer, out: BinaryIO) -> tuple[str, int]:
    hashing = _Hashing(out)
    with _gzip(hashing) as compressor:
        _checked(layer, cast("Sink", compressor))
    return f"sha256:{hashing.hasher.hexdigest()}", hashing.size


def _gzip(out: _Hashing) -> contextlib.AbstractContextManager[Any]:
    """A gzip writer with no time and no name in its header."""
    try:
        from isal import igzip
    except ImportError:  # no build for this processor
        import gzip

        return gzip.GzipFile(fileobj=cast("Any", out), mode="wb", compresslevel=5, mtime=0, filename="")
    return cast(
        "contextlib.AbstractContextManager[Any]",
        igzip.IGzipFile(fileobj=out, mode="wb", compresslevel=2, mtime=0, filename=""),  # type: ignore[no-untyped-call]  # no hints
    )


class _Hashing:
    """A stream that hashes and counts what goes through it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.hasher = hashlib.sha256()
        self.size = 0

    def write(self, data: Buffer, /) -> int:
        count = len(memoryview(data).cast("B"))
        self.hasher.update(data)
        self.size += count
        self._out.write(data)
        return count

    def flush(self) -> None:
        self._out.flush()


class _Checker:
    """Passes a layer's tar on, and makes sure that it is the one."""

    def __init__(self, layer: OutLayer, sink: Sink) -> None:
        self._layer = layer
        self._sink = sink
        self._hasher = new_hasher(layer.diff_id)
        self._size = 0

    def write(self, data: Buffer, /) -> int:
        count = len(memoryview(data).cast("B"))
        self._size += count
        if self._size > self._layer.size:
            self._wrong(f"more than its {self._layer.size} bytes")
        self._hasher.update(data)
        self._sink.write(data)
        return count

    def finish(self) -> None:
        if self._size != self._layer.size:
            self._wrong(f"{self._size} bytes instead of {self._layer.size}")
        found = f"{self._layer.diff_id.partition(':')[0]}:{self._hasher.hexdigest()}"
        if found != self._layer.diff_id:
            self._wrong(f"something else, {found}")

    def _wrong(self, what: str) -> None:
        raise CorruptError(f"the stored layer {self._layer.diff_id} gives {what}", steps=[Remedy.CHECK_LAYER])


def _blob_name(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
