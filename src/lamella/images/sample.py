# SPDX-License-Identifier: Apache-2.0
"""A generated layered image, for a first try without a network.

Its files are the running Python's own standard library, so it is a few thousand real files of all
sizes; its upper layers add, replace and delete some of them, as a real build does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_NAME = "lamella/quickstart:latest"
_LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "lib2to3"}
_LATER_DELETED = ("turtledemo", "idlelib", "tkinter", "ensurepip")
_MAX_BYTES = 64 << 20


def write_sample(target: Path) -> None:
    """Write the image as a docker-archive to *target*, which must not exist. Raises ``OSError``."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = f"usr/lib/{version}"
    layers = [
        ("COPY the standard library", lambda tar: _library(tar, home)),
        ("RUN remove what a server does not need", lambda tar: _removals(tar, home)),
        ("COPY the application", _application),
    ]
    history = []
    diff_ids = []
    names = []
    with tarfile.open(target, "x") as archive:
        for number, (what, fill) in enumerate(layers):
            blob = _layer(fill)
            diff_ids.append("sha256:" + hashlib.sha256(blob).hexdigest())
            history.append({"created": _created(), "created_by": what})
            names.append(f"{number}/layer.tar")
            _add(archive, names[-1], blob)
        config = json.dumps(
            {
                "architecture": _architecture(),
                "os": "linux",
                "created": _created(),
                "config": {"Cmd": ["/app/main.py"], "Env": [f"PYTHONHOME=/{home}"], "WorkingDir": "/app"},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": history,
            }
        ).encode()
        config_name = hashlib.sha256(config).hexdigest() + ".json"
        _add(archive, config_name, config)
        manifest = [{"Config": config_name, "RepoTags": [SAMPLE_NAME], "Layers": names}]
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return buffer.getvalue()


def _library(tar: tarfile.TarFile, home: str) -> None:
    source = Path(sysconfig.get_paths()["stdlib"])
    for folder in ("usr", "usr/lib", home):
        _folder(tar, folder)
    taken = 0
    for folder, below, names in os.walk(source):
        below[:] = sorted(name for name in below if name not in _LEFT_OUT and not name.startswith("config-"))
        for name in [*below, *sorted(names)]:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                continue
            taken += path.stat().st_size
            if taken <= _MAX_BYTES:
                inside = path.relative_to(source)
                tar.add(path, f"{home}/{inside}", recursive=False, filter=_owned_by_root)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _removals(tar: tarfile.TarFile, home: str) -> None:
    source = Path(sysconfig.get_paths()["stdlib"])
    for name in _LATER_DELETED:
        if (source / name).exists():
            _file(tar, f"{home}/.wh.{name}", b"")
    _file(tar, f"{home}/this.py", b'print("Thin is better than thick.")\n')


def _application(tar: tarfile.TarFile) -> None:
    _folder(tar, "app")
    _file(tar, "app/main.py", b'#!/usr/bin/env python3\nprint("Hello from a thin volume.")\n', mode=0o755)
    _folder(tar, "etc")
    _file(tar, "etc/motd", b"Unpacked into a thin pool by Lamella.\n")


def _folder(tar: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, _moment()
    tar.addfile(member)


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, _moment()
    tar.addfile(member, io.BytesIO(content))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _moment() -> int:
    """Seconds since 1970, the same in every run, so that the image is too: when this Python was installed."""
    return int(Path(sysconfig.get_paths()["stdlib"]).stat().st_mtime)


def _created() -> str:
    return datetime.fromtimestamp(_moment(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _architecture() -> str:
    import platform

    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)
