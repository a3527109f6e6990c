# SPDX-License-Identifier: Apache-2.0
"""Layers for the ext4 tests: small tars from Python values."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.fs.ext4.writer import LayerStats

MTIME = 1_000_000_000


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
    from lamella.fs.ext4.writer import apply_layer

    stats = []
    with FileDevice(image) as device:
        for tar in tars:
            if isinstance(tar, bytes):
                stats.append(apply_layer(device, io.BytesIO(tar)))
            else:
                with tar.open("rb", buffering=0) as stream:
                    stats.append(apply_layer(device, stream))
    return stats
