# SPDX-License-Identifier: Apache-2.0
"""Small images made byte by byte, so that tests can also make malformed ones.

Nothing here uses ``lamella``: what it writes is checked against the real tools in
``tests/images/test_support.py``, and then serves as the input of everybody's tests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
COMPRESSIONS = ("gzip", "zstd", "plain")


def sha256(data: bytes) -> str:
    """``sha256:`` and the digest of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compact(value: object) -> bytes:
    """*value* as JSON the way Go writes it: no spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def make_tar(
    files: dict[str, bytes | None] | None = None,
    *,
    members: list[tuple[tarfile.TarInfo, bytes]] | None = None,
) -> bytes:
    """A tar of *files* (a name ending in ``/`` is a directory) followed by *members*."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (files or {}).items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mtime = 1_600_000_000
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                assert data is not None
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
        for info, data in members or []:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return out.getvalue()


def compress(data: bytes, how: str) -> bytes:
    """*data* as ``gzip``, ``zstd`` or ``plain``; the same bytes every time."""
    if how == "gzip":
        return gzip.compress(data, 5, mtime=0)
    if how == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compress(data)
    assert how == "plain", how
    return data


SAMPLE_LAYERS = [
    make_tar({"etc/": None, "etc/hostname": b"lamella\n", "bin/": None, "bin/sh": b"#!" * 5000, "old": b"x"}),
    make_tar({"etc/hostname": b"changed\n", "new/": None, "new/file": bytes(range(256)) * 300}),
    make_tar({".wh.old": b"", "new/.wh..wh..opq": b"", "new/other": b"other\n"}),
]
"""Three layers: a base, a replacement with an addition, a deletion with an opaque directory."""


@dataclass
class Sample:
    """An image to be written: its layers as uncompressed tars, the first one lowest."""

    layers: list[bytes] = field(default_factory=lambda: list(SAMPLE_LAYERS))
    references: list[str] = field(default_factory=lambda: ["docker.io/library/sample:latest"])
    architecture: str = "amd64"
    variant: str = ""
    os: str = "linux"
    compression: str = "gzip"
    docker_types: bool = False
    runtime: dict[str, Any] = field(default_factory=lambda: {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]})
    created: str = "2024-01-02T03:04:05Z"

    @property
    def diff_ids(self) -> list[str]:
        return [sha256(layer) for layer in self.layers]

    @property
    def config(self) -> bytes:
        config = {
            "created": self.created,
            "architecture": self.architecture,
            "os": self.os,
            "config": self.runtime,
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            "history": [
                {"created": self.created, "created_by": f"layer {n}"} for n in range(len(self.layers))
            ]
            + [{"created": self.created, "created_by": "CMD", "empty_layer": True}],
        }
        if self.variant:
            config["variant"] = self.variant
        return compact(config)

    @property
    def image_id(self) -> str:
        return sha256(self.config)

    def layer_type(self) -> str:
        if self.docker_types:
            return (
                f"{DOCKER}.image.rootfs.diff.tar"
                + {"gzip": ".gzip", "plain": "", "zstd": ".zstd"}[self.compression]
            )
        return f"{OCI}.layer.v1.tar" + {"gzip": "+gzip", "plain": "", "zstd": "+zstd"}[self.compression]

    def manifest(self) -> tuple[dict[str, Any], list[bytes]]:
        """The manifest, and every blob it points at (config first)."""
        blobs = [self.config, *(compress(layer, self.compression) for layer in self.layers)]
        config_type = f"{DOCKER}.container.image.v1+json" if self.docker_types else f"{OCI}.config.v1+json"
        types = [config_type] + [self.layer_type()] * len(self.layers)
        described = [
            {"mediaType": kind, "digest": sha256(blob), "size": len(blob)}
            for kind, blob in zip(types, blobs, strict=True)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": self.manifest_type(),
            "config": described[0],
            "layers": described[1:],
        }
        return manifest, blobs

    def manifest_type(self) -> str:
        return f"{DOCKER}.distribution.manifest.v2+json" if self.docker_types else f"{OCI}.manifest.v1+json"

    def platform(self) -> dict[str, str]:
        found = {"architecture": self.architecture, "os": self.os}
        return found | ({"variant": self.variant} if self.variant else {})


def put_blob(layout: Path, data: bytes) -> str:
    """Store *data* in a layout's ``blobs`` and give its digest."""
    digest = sha256(data)
    path = layout / "blobs" / "sha256" / digest.partition(":")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def write_oci_layout(layout: Path, samples: list[Sample] | None = None, *, as_index: bool = False) -> Path:
    """An OCI layout in the folder *layout*; *as_index* puts all samples into one manifest list.

    The references are written as containerd and Docker write them: the full name in
    ``io.containerd.image.name``, the tag in ``org.opencontainers.image.ref.name``.
    """
    samples = samples if samples is not None else [Sample()]
    entries: list[dict[str, Any]] = []
    for sample in samples:
        manifest, blobs = sample.manifest()
        for blob in blobs:
            put_blob(layout, blob)
        body = compact(manifest)
        described = {"mediaType": sample.manifest_type(), "digest": put_blob(layout, body), "size": len(body)}
        if as_index:
            entries.append(described | {"platform": sample.platform()})
        else:
            entries += [described | {"annotations": naming(name)} for name in sample.references] or [
                described
            ]
    if as_index:
        inner = compact({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})
        described = {
            "mediaType": f"{OCI}.index.v1+json",
            "digest": put_blob(layout, inner),
            "size": len(inner),
        }
        entries = [described | {"annotations": naming(name)} for name in samples[0].references]
    write_index(layout, entries)
    return layout


def naming(reference: str) -> dict[str, str]:
    """The two annotations by which an index names an image."""
    return {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }


def write_index(layout: Path, entries: list[dict[str, Any]]) -> None:
    """``index.json`` and ``oci-layout``."""
    layout.mkdir(parents=True, exist_ok=True)
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}
    (layout / "index.json").write_bytes(compact(index))
    (layout / "oci-layout").write_bytes(compact({"imageLayoutVersion": "1.0.0"}))


def write_oci_archive(path: Path, samples: list[Sample] | None = None, *, as_index: bool = False) -> Path:
    """The layout as one tar."""
    layout = path.with_name(path.name + ".layout")
    write_oci_layout(layout, samples, as_index=as_index)
    return tar_folder(layout, path)


def tar_folder(folder: Path, path: Path) -> Path:
    """Everything in *folder* as the tar *path*."""
    with tarfile.open(path, "w") as tar:
        for item in sorted(folder.rglob("*")):
            tar.add(item, item.relative_to(folder).as_posix(), recursive=False)
    return path


def write_docker_archive(
    path: Path, samples: list[Sample] | None = None, *, style: str = "classic", whole: str = "plain"
) -> Path:
    """A docker-archive at *path*.

    *style* ``classic``: as ``docker save`` up to 24 writes it (``<id>/layer.tar``, ``repositories``, a
    layer that several images share is a symlink from the second one on); ``modern``: as 25 and later
    (an OCI layout with a ``manifest.json`` over it). *whole* compresses the archive as a whole.
    """
    samples = samples if samples is not None else [Sample()]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))

        def add_link(name: str, target: str) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)

        if style == "classic":
            _add_classic(samples, add, add_link)
        else:
            assert style == "modern", style
            _add_modern(samples, add)
    path.write_bytes(compress(out.getvalue(), whole))
    return path


def short_names(references: list[str]) -> list[str]:
    """References as Docker shows them: without the default registry."""
    return [name.removeprefix("docker.io/library/").removeprefix("docker.io/") for name in references]


def _add_classic(samples: list[Sample], add: Any, add_link: Any) -> None:
    manifest: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    seen: dict[str, str] = {}
    for sample in samples:
        names = []
        parent = ""
        for layer in sample.layers:
            layer_id = hashlib.sha256(parent.encode() + sample.image_id.encode() + layer).hexdigest()
            old = {"id": layer_id} | ({"parent": parent} if parent else {})
            add(f"{layer_id}/VERSION", b"1.0")
            add(f"{layer_id}/json", compact(old))
            diff_id = sha256(layer)
            name = f"{layer_id}/layer.tar"
            if seen.get(diff_id) == name:
                pass  # the same image once more, under another name
            elif diff_id in seen:
                add_link(name, f"../{seen[diff_id]}")
            else:
                add(name, layer)
                seen[diff_id] = name
            names.append(name)
            parent = layer_id
        config_name = sample.image_id.partition(":")[2] + ".json"
        add(config_name, sample.config)
        tags = short_names(sample.references)
        manifest.append({"Config": config_name, "RepoTags": tags or None, "Layers": names})
        for tag in tags:
            repository, _, label = tag.rpartition(":")
            repositories.setdefault(repository, {})[label] = parent
    add("manifest.json", compact(manifest) + b"\n")
    if repositories:
        add("repositories", compact(repositories) + b"\n")


def _add_modern(samples: list[Sample], add: Any) -> None:
    manifest: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    done: set[str] = set()

    def blob(data: bytes) -> str:
        name = "blobs/sha256/" + sha256(data).partition(":")[2]
        if name not in done:
            done.add(name)
            add(name, data)
        return name

    for sample in samples:
        plain = Sample(**{**sample.__dict__, "compression": "plain"})
        described, blobs = plain.manifest()
        names = [blob(data) for data in blobs]
        body = compact(described)
        blob(body)
        entry = {"mediaType": plain.manifest_type(), "digest": sha256(body), "size": len(body)}
        entries += [entry | {"annotations": naming(name)} for name in sample.references] or [entry]
        manifest.append(
            {
                "Config": names[0],
                "RepoTags": short_names(sample.references) or None,
                "Layers": names[1:],
                "LayerSources": {layer["digest"]: layer for layer in described["layers"]},
            }
        )
    add(
        "index.json", compact({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})
    )
    add("manifest.json", compact(manifest))
    add("oci-layout", compact({"imageLayoutVersion": "1.0.0"}))


def run(*command: str | Path, **options: Any) -> str:
    """Run a program; gives its standard output. On failure its output is in the assertion's message.

    A hanging program is ended by the time limit of pytest, which depends on the kind of guest.
    """
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)
