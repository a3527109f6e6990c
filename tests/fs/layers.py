# SPDX-License-Identifier: Apache-2.0
"""Layers for the tests of file systems: small tars from Python values."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

from lamella.fs.kinds import of_kind

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.fs.layer import LayerStats

MTIME = 1_000_000_000
apply_layer = of_kind("ext4").apply_layer


class Given:
    """A payload of given bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read_into(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer)


def layer(*items: tuple[str, ...] | tuple[str, str, bytes], **attributes: int) -> bytes:
    """A pax tar of (name, type[, content or target]); types d, f, l (symlink), h (hard link), p (fifo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, *rest in items:
            info = tarfile.TarInfo(name)
            info.mtime = attributes.get("mtime", MTIME)
            info.mode = 0o755 if kind == "d" else 0o644
            info.uid, info.gid = attributes.get("uid", 0), attributes.get("gid", 0)
            content = b""
            if kind == "f":
                content = rest[0] if rest and isinstance(rest[0], bytes) else b""
                info.size = len(content)
            elif kind in "lh":
                info.type = tarfile.SYMTYPE if kind == "l" else tarfile.LNKTYPE
                info.linkname = str(rest[0])
            else:
                info.type = {"d": tarfile.DIRTYPE, "p": tarfile.FIFOTYPE}[kind]
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def apply(image: Path, *tars: bytes | Path) -> list[LayerStats]:
    """Apply layers to an image, one after the other."""
    from lamella.block import FileDevice

    stats = []
    with FileDevice(image) as device:
        for tar in tars:
            if isinstance(tar, bytes):
                stats.append(apply_layer(device, io.BytesIO(tar)))
            else:
                with tar.open("rb", buffering=0) as stream:
                    stats.append(apply_layer(device, stream))
    return stats


BASE = layer(
    ("d", "d"),
    ("d/a", "f", b"a"),
    ("d/sub", "d"),
    ("d/sub/x", "f", b"x"),
    ("e", "d"),
    ("e/f", "f", b"f"),
    ("ln", "l", "d"),
    ("abs", "l", "/d/sub"),
    ("out", "l", "../../../../etc"),
    ("dangling", "l", "nowhere/deep"),
    ("circle", "l", "circle"),
)
SECOND = layer(
    ("d/.wh..wh..opq", "f"),
    ("d/n", "f", b"n"),
    (".wh.e", "f"),
    ("ln/z", "f", b"z"),
    ("out/passwd", "f", b"evil"),
    ("h", "h", "ln/z"),
)
"""A layer upon :data:`BASE`."""


def unpack_by_umoci(umoci: str, folder: Path, *tars: bytes) -> Path:
    """The tree that umoci (Go) unpacks these layers to, somewhere in *folder*."""
    image = f"{folder}/oci:x"
    subprocess.run([umoci, "init", "--layout", f"{folder}/oci"], check=True)
    subprocess.run([umoci, "new", "--image", image], check=True)
    for number, tar in enumerate(tars):
        (folder / f"{number}.tar").write_bytes(tar)
        add = [umoci, "raw", "add-layer", "--image", image, f"{folder}/{number}.tar"]
        subprocess.run(add, check=True, capture_output=True)
    options = ["--rootless"] if os.geteuid() else []
    unpack = [umoci, "unpack", *options, "--image", image, f"{folder}/bundle"]
    subprocess.run(unpack, check=True, capture_output=True)
    return folder / "bundle" / "rootfs"


EVERYTHING = {"d", "d/a", "d/sub", "d/sub/x", "e", "e/f", "ln", "abs", "out", "dangling", "circle"}
"""Names below the root after it."""

Items = list[tuple[str, ...] | tuple[str, str, bytes]]
SECOND_LAYERS: list[tuple[Items, set[str], set[str]]] = [
    ([("d/n", "f"), ("d/.wh.n", "f")], {"d/n"}, set()),
    ([("d/.wh.n", "f"), ("d/n", "f")], {"d/n"}, set()),
    ([("d/a", "f", b"new"), ("d/.wh.a", "f")], set(), set()),
    ([("d/.wh.a", "f")], set(), {"d/a"}),
    ([(".wh.d", "f")], set(), {"d", "d/a", "d/sub", "d/sub/x"}),
    ([("e/new", "f"), (".wh.e", "f")], {"e/new"}, {"e/f"}),
    ([(".wh.e", "f"), ("e/new", "f")], {"e/new"}, {"e/f"}),
    ([("d/.wh..wh..opq", "f"), ("d/n", "f")], {"d/n"}, {"d/a", "d/sub", "d/sub/x"}),
    (
        [("d/n", "f"), ("d/sub", "d"), ("d/sub/y", "f"), ("d/.wh..wh..opq", "f")],
        {"d/n", "d/sub/y"},
        {"d/a", "d/sub/x"},
    ),
    ([("d/sub/y", "f"), ("d/.wh..wh..opq", "f")], {"d/sub/y"}, {"d/a", "d/sub/x"}),
    ([("d/sub", "d"), ("d/.wh..wh..opq", "f")], set(), {"d/a", "d/sub/x"}),
    ([("zz/.wh..wh..opq", "f"), ("zz/.wh.q", "f")], set(), set()),
    ([(".wh..wh.plnk/5", "f"), (".wh..wh.aufs", "f")], set(), set()),
    ([("ln/.wh.a", "f")], set(), {"d/a"}),
    ([(".wh.ln", "f")], set(), {"ln"}),
    ([("ln/.wh..wh..opq", "f")], set(), {"d/a", "d/sub", "d/sub/x"}),
    ([("d/.wh.sub", "d")], set(), {"d/sub", "d/sub/x"}),
    ([("ln/z", "f")], {"d/z"}, set()),
    ([("abs/z", "f")], {"d/sub/z"}, set()),
    ([("out/passwd", "f", b"evil")], {"etc", "etc/passwd"}, set()),
    ([("dangling/z", "f")], {"nowhere", "nowhere/deep", "nowhere/deep/z"}, set()),
    ([("ln", "d"), ("ln/z", "f")], {"ln/z"}, set()),
    ([("d", "f")], set(), {"d/a", "d/sub", "d/sub/x"}),
    ([("d/a", "d"), ("d/a/b", "f")], {"d/a/b"}, set()),
    ([("d", "l", "e")], set(), {"d/a", "d/sub", "d/sub/x"}),
    ([("q/w/e", "f")], {"q", "q/w", "q/w/e"}, set()),
    ([("d/h", "h", "e/f")], {"d/h"}, set()),
    ([("d/h", "h", "ln/a")], {"d/h"}, set()),
    ([("d/h", "h", "ln")], {"d/h"}, set()),
    ([("d/a", "h", "d/a")], set(), set()),
    ([("e", "h", "e/f")], set(), {"e/f"}),
    ([("k", "d"), ("k/z", "f"), ("k", "f", b"2"), ("k", "f", b"3")], {"k"}, set()),
    ([("./d/../d/m", "f")], {"d/m"}, set()),
]
"""(layer upon the base, names added, names gone)."""
HOSTILE_LAYERS: list[tuple[Items, str]] = [
    ([("d/a/b", "f")], "not a directory"),
    ([("d/h", "h", "e/zz")], "does not exist"),
    ([("d/h", "h", "e")], "points to the directory"),
    ([("d/.wh..", "f")], "does not name anything"),
    ([("d/.wh.", "f")], "does not name anything"),
    ([("circle/x", "f")], "too many symbolic links"),
    ([("n" * 256, "f")], "255|256"),
    ([("n" * 256 + "/x", "f")], "255|256"),
]
"""(layer upon the base, what its refusal says)."""
