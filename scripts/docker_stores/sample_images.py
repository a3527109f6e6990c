# SPDX-License-Identifier: Apache-2.0
"""A Docker archive of two images: one of a plain layer, and one with a second layer that has a
whiteout, a hard link, an extended attribute, a setuid file and a FIFO."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

APPLETS = (
    *("[", "ash", "cat", "chmod", "cp", "dd", "echo", "ln", "ls", "mkdir", "mv", "rm", "sh", "sleep", "sync"),
    *("test", "touch", "true", "vi"),
)
TIME = 1_700_000_000
"""The modification time of every file, in seconds since 1970."""


class Layer:
    """A layer's tar, under construction."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)

    def add(
        self, name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644,
        target: str = "", xattrs: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add an entry; *target* is that of a link."""
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.mtime, info.size = kind, mode, target, TIME, len(data)
        info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        self._tar.addfile(info, io.BytesIO(data))

    def folder(self, name: str, mode: int = 0o755) -> None:
        self.add(name, kind=tarfile.DIRTYPE, mode=mode)

    def content(self) -> bytes:
        """Close the tar; gives its bytes."""
        self._tar.close()
        return self._out.getvalue()


def _first(busybox: bytes) -> bytes:
    layer = Layer()
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "var/spool"):
        layer.folder(name)
    layer.folder("tmp", 0o1777)
    layer.add("bin/busybox", busybox, mode=0o755)
    for applet in APPLETS:
        layer.add(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777, target="busybox")
    layer.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    layer.add("etc/group", b"root:x:0:\n")
    return layer.content()


def _second() -> bytes:
    layer = Layer()
    layer.folder("bin")
    layer.add("bin/.wh.vi")
    layer.folder("etc")
    layer.add("etc/hello", b"hello from the layer\n", xattrs={"user.lab": "xattrvalue"})
    layer.add("etc/hello.hard", kind=tarfile.LNKTYPE, target="etc/hello")
    layer.folder("home")
    layer.add("home/rand", b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(9000)))
    layer.add("tmp/fifo", kind=tarfile.FIFOTYPE)
    layer.add("usr/bin/setuid", b"#!/bin/sh\n", mode=0o4755)
    return layer.content()


def write_archive(path: Path, busybox: bytes) -> None:
    """Write an archive for ``docker load`` of ``lab/busybox`` and ``lab/busybox2``."""
    layers = [_first(busybox), _second()]
    with tarfile.open(path, "w") as tar:

        def put(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for number, layer in enumerate(layers):
            put(f"layer{number}.tar", layer)
        manifest = []
        for count, name in ((1, "lab/busybox"), (2, "lab/busybox2")):
            config = {
                "architecture": "amd64",
                "os": "linux",
                "created": "2023-11-14T22:13:20Z",
                "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"]},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers[:count]],
                },
            }
            put(f"config{count}.json", json.dumps(config).encode())
            names = [f"layer{number}.tar" for number in range(count)]
            manifest.append(
                {"Config": f"config{count}.json", "RepoTags": [f"{name}:latest"], "Layers": names}
            )
        put("manifest.json", json.dumps(manifest).encode())
