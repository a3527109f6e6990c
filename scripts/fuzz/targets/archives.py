# SPDX-License-Identifier: Apache-2.0
"""Tars of layers, image archives and layouts, and the JSON documents in them."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fuzz.mutate import mutate_json
from scripts.fuzz.target import Target
from tests.support.images import (
    OCI,
    SAMPLE_LAYERS,
    Sample,
    compact,
    make_tar,
    naming,
    sha256,
    write_docker_archive,
    write_oci_archive,
)

from lamella.errors import LamellaError
from lamella.fs.tar.read import read_tar
from lamella.fs.tar.split import TarSplitWriter, reassemble
from lamella.images.archive import open_archive
from lamella.images.config import parse_config
from lamella.images.manifest import parse_manifest
from lamella.images.platform import Platform
from lamella.images.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


def reseal_tar(data: bytearray) -> None:
    """Make the checksum of each header right, as far as the sizes in them lead."""
    place = 0
    while place + 512 <= len(data):
        header = data[place : place + 512]
        if not any(header):
            return
        reseal_header(data, place)
        digits = bytes(header[124:136]).strip(b" \0")
        size = int(digits, 8) if digits and not digits.strip(b"01234567") else 0
        place += 512 - (-size // 512) * 512


def reseal_header(data: bytearray, place: int = 0) -> None:
    """Make the checksum of the header at *place* right."""
    data[place + 148 : place + 156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])


def _tars() -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for kind, name, link in (
            (tarfile.DIRTYPE, "d", ""),
            (tarfile.REGTYPE, "d/" + "n" * 150, ""),
            (tarfile.LNKTYPE, "d/h", "d/" + "n" * 150),
            (tarfile.SYMTYPE, "d/s", "/t" * 100),
            (tarfile.CHRTYPE, "d/c", ""),
            (tarfile.FIFOTYPE, "d/f", ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.uid = kind, link, 1 << 30
            tar.addfile(info)
    info = tarfile.TarInfo("x\u00e4" * 60)
    info.size = 5
    info.pax_headers = {"SCHILY.xattr.user.a": "b", "mtime": "1.5", "GNU.sparse.major": "1", "path": "p" * 90}
    sparse = tarfile.TarInfo("sparse")
    content = b"1\n0\n5\n".ljust(512, b"\0") + b"hello"
    sparse.size = len(content)
    sparse.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "real",
        "GNU.sparse.realsize": "4096",
    }
    odd = io.BytesIO()
    with tarfile.open(fileobj=odd, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "g"}) as tar:
        tar.addfile(sparse, io.BytesIO(content))
        info.pax_headers.pop("GNU.sparse.major")
        tar.addfile(info, io.BytesIO(b"hello"))
    return [*SAMPLE_LAYERS, out.getvalue(), odd.getvalue(), make_tar({})]


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readinto(self, target: memoryview, /) -> int:
        return self._file.readinto(target)


def _read_tar(data: bytes) -> object:
    kinds = []
    buffer = memoryview(bytearray(1 << 16))
    for entry, payload in read_tar(_Stream(data)):
        kinds.append(entry.kind.value)
        if payload is not None:
            while payload.read_into(buffer):
                pass
    return tuple(kinds[:20])


def _split_tars() -> list[bytes]:
    """Records of tars, as the store keeps them."""
    found = []
    for tar in SAMPLE_LAYERS:
        out = io.BytesIO()
        with TarSplitWriter(out) as split:
            for _, payload in read_tar(_Stream(tar), recorder=split):
                if payload is not None:
                    while payload.read_into(memoryview(bytearray(4096))):
                        pass
        found.append(out.getvalue())
    return found


def _reassemble(data: bytes) -> object:
    class Nothing:
        def write(self, data: bytes, /) -> None: ...

    def file(path: bytes, offset: int, length: int, /) -> list[bytes]:
        return [bytes(min(length, 1 << 16))]

    return reassemble(io.BytesIO(data), file, Nothing())


def _archives() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        docker, oci = Path(folder, "docker.tar"), Path(folder, "oci.tar")
        write_docker_archive(docker)
        found = [docker.read_bytes()]
        write_docker_archive(docker, style="modern")
        write_oci_archive(oci)
        found += [docker.read_bytes(), oci.read_bytes()]
        write_oci_archive(oci, as_index=True)
        found += [oci.read_bytes()]
        return [*found, _legacy_archive()]


def _legacy_archive() -> bytes:
    low, high = "1" * 64, "2" * 64
    return make_tar(
        {
            f"{low}/json": compact({"id": low, "container_config": {"Cmd": ["sh"]}}),
            f"{low}/layer.tar": SAMPLE_LAYERS[0],
            f"{high}/json": compact({"id": high, "parent": low, "os": "linux", "architecture": "amd64"}),
            f"{high}/layer.tar": SAMPLE_LAYERS[1],
            "repositories": compact({"old": {"1": high, "2": low}}),
        }
    )


def _large_archives() -> list[bytes]:
    """Archives in which many names lead to one thing, or many things to one another."""
    config = Sample().config
    name = Sample().image_id.partition(":")[2] + ".json"
    layers = {f"{number}/layer.tar": layer for number, layer in enumerate(SAMPLE_LAYERS)}
    tagged = {"Config": name, "RepoTags": [f"e{n}:1" for n in range(20_000)], "Layers": list(layers)}
    same = [{"Config": "c", "RepoTags": [f"e{n}:1"], "Layers": list(layers)} for n in range(5_000)]
    big = json.loads(config)
    big["config"]["Labels"] = {f"label{n}": "x" for n in range(20_000)}
    padded = compact(big)
    found = [
        make_tar({**layers, name: config, "manifest.json": compact([tagged])}),
        make_tar({**layers, "c": padded, "manifest.json": compact(same)}),
    ]
    ids = [f"{number:064x}" for number in range(120)]
    legacy: dict[str, bytes | None] = {}
    for number, layer_id in enumerate(ids):
        parent = {"parent": ids[number - 1]} if number else {}
        legacy |= {
            f"{layer_id}/json": compact({"id": layer_id, **parent}),
            f"{layer_id}/layer.tar": make_tar({}),
        }
    tops = {f"r{number}": dict.fromkeys(map(str, range(100)), ids[-1]) for number in range(200)}
    found.append(make_tar({**legacy, "repositories": compact(tops)}))
    return [*found, _large_layout()]


def _large_layout() -> bytes:
    """A layout with 2,000 names for one list of 2,000 manifests."""
    blobs: dict[str, bytes | None] = {}

    def put(data: bytes) -> dict[str, object]:
        digest = sha256(data)
        blobs["blobs/sha256/" + digest.partition(":")[2]] = data
        return {"digest": digest, "size": len(data)}

    config = put(Sample(layers=[]).config)
    manifests = []
    for number in range(2_000):
        described = {"schemaVersion": 2, "config": {"mediaType": f"{OCI}.config.v1+json", **config}}
        body = compact({**described, "layers": [], "annotations": {"number": str(number)}})
        platform = {"os": "linux", "architecture": f"a{number}" if number else Platform.here().architecture}
        manifests.append({"mediaType": f"{OCI}.manifest.v1+json", **put(body), "platform": platform})
    inner = {
        "mediaType": f"{OCI}.index.v1+json",
        **put(compact({"schemaVersion": 2, "manifests": manifests})),
    }
    names = [{**inner, "annotations": naming(f"docker.io/e{number}/x:1")} for number in range(2_000)]
    blobs["index.json"] = compact({"schemaVersion": 2, "manifests": names})
    return make_tar(blobs)


def _open_archive(data: bytes) -> object:
    descriptor = os.memfd_create("archive", 0)
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with open_archive(descriptor) as source:
            for image in source.images():
                for layer in image.layers:
                    with layer.open(max_size=1 << 26) as stream:
                        stream.verify()
            return source.kind, len(source.images())
    finally:
        os.close(descriptor)


def _change_member(random: Random, data: bytes) -> bytes:
    """Change one JSON document inside an archive, at its place and with its size in the header put right."""
    documents = _documents_in(data)
    if not documents:
        return data
    header, start, end = random.choice(documents)
    changed = bytearray(data[header : header + 512])
    content = mutate_json(random, data[start:end])
    changed[124:136] = b"%011o\0" % len(content)
    changed += content.ljust(-(-len(content) // 512) * 512, b"\0")
    reseal_header(changed)
    return data[:header] + changed + data[start + -(-(end - start) // 512) * 512 :]


@lru_cache(maxsize=256)
def _documents_in(data: bytes) -> list[tuple[int, int, int]]:
    """Where the header of each JSON document in an archive, its content and the end of that are."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = [each for each in tar if each.isreg() and data[each.offset_data : each.offset_data + 1]]
    except (tarfile.TarError, OSError, KeyError, ValueError, RecursionError):
        return []
    return [
        (each.offset_data - 512, each.offset_data, each.offset_data + each.size)
        for each in files
        if data[each.offset_data] in b"{["
    ]


def _documents() -> list[bytes]:
    samples = [Sample(), Sample(docker_types=True)]
    found = []
    for sample in samples:
        found += [sample.config, compact(sample.manifest()[0])]
        entry = {
            "mediaType": sample.manifest_type(),
            "digest": sample.image_id,
            "size": 7,
            "platform": sample.platform(),
        }
        found.append(
            compact({"schemaVersion": 2, "manifests": [entry, {**entry, "annotations": {"a": "b"}}]})
        )
    return found


def _read_document(data: bytes) -> object:
    ends: list[object] = []
    readers: list[Callable[[], object]] = [
        lambda: parse_manifest(data, "the manifest"),
        lambda: parse_config(data, "the configuration"),
    ]
    for reader in readers:
        try:
            ends.append(type(reader()).__name__)
        except LamellaError as error:
            ends.append(str(error)[:40])
    return tuple(ends)


def _read_name(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    ends = []
    for reader in (Reference.parse, Platform.parse):
        try:
            read = reader(text)
            assert reader(str(read)) == read
            ends.append(type(read).__name__)
        except LamellaError as error:
            ends.append(type(error).__name__)
    return tuple(ends)


_PAX = (
    b"path= linkpath= size= mtime= SCHILY.xattr. GNU.sparse.map= GNU.sparse.offset= GNU.sparse.numbytes= uid="
)
_JSON = (
    b'{ } [ ] "size": "digest": "sha256: sha512: null 1e999 "mediaType": "config" "manifests" \\u0000 \\ud800'
)
_NAMES = b"docker.io/ localhost: @sha256: :latest index.docker.io/library/ [::1]:5 linux/amd64 /arm/v8 .. __"
_NAME_SEEDS = [b"debian", b"a.b:5000/c/d:1@sha256:" + b"0" * 64, b"linux/arm/v7", b"x/y__z-w:T", b"arm64"]

TARGETS = [
    Target("tar", _tars, _read_tar, words=tuple(_PAX.split()), reseal=reseal_tar),
    Target("tar-split", _split_tars, _reassemble),
    Target(
        "archive",
        _archives,
        _open_archive,
        large=_large_archives,
        words=tuple(_JSON.split()),
        mutate=_change_member,
        reseal=reseal_tar,
    ),
    Target("image-documents", _documents, _read_document, words=tuple(_JSON.split()), mutate=mutate_json),
    Target("names", lambda: list(_NAME_SEEDS), _read_name, words=tuple(_NAMES.split())),
]
