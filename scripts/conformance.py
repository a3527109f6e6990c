# SPDX-License-Identifier: Apache-2.0
"""Builds the programs in Go of ``tests/conformance``, which are made of containerd's own code.

``python -m scripts.conformance`` puts the one that has containerd's tests of snapshotters into
``build/conformance``, and containerd itself into ``build/containerd``: the guest, which has no Go, runs them
from there. Go takes the modules, and a later Go than the installed one where go.mod asks for it, from the
proxy that is set for it (``go env GOPROXY``).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
MODULE = PROJECT / "tests" / "conformance"
SNAPSHOTTER = PROJECT / "build" / "conformance" / "snapshotter"
CONTAINERD = PROJECT / "build" / "containerd"
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
_PLACES = f"{os.environ.get('PATH', '')}:/usr/local/go/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FETCHES_OTHERS = (1, 21)
"""The first Go that fetches the later one that a go.mod asks for."""
# Linked to no library, so that the programs run in the guest too. Each Go knows its own GOROOT.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "GOROOT"} | {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-buildvcs=false",
    "GOTOOLCHAIN": "auto",
}


class GoError(Exception):
    """There is no Go, or it cannot fetch what it needs."""


def build_filters(target: Path) -> Path:
    """The program that tells what containerd makes of filters."""
    return _build(target, ["build"], "./filters")


def build_snapshotter(target: Path) -> Path:
    """containerd's tests of snapshotters."""
    return _build(target, ["test", "-c"], ".")


def build_containerd(folder: Path) -> Path:
    """containerd itself, its shim of runc and ``ctr``, in *folder*, which is given back."""
    packages = [f"github.com/containerd/containerd/v2/cmd/{name}" for name in PROGRAMS]
    folder.mkdir(parents=True, exist_ok=True)
    _build(folder, ["build"], *packages)
    return folder


def sources(module: str) -> Path:
    """Where the sources of *module* are."""
    return Path(_run([_go(), "list", "-m", "-f", "{{.Dir}}", module]).strip())


def _build(target: Path, how: list[str], *packages: str) -> Path:
    go = _go()
    _run([go, "mod", "download"])
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([go, *how, "-o", target, *packages], cwd=MODULE, env=_ENVIRONMENT, check=True)
    return target


def _go() -> str:
    go = shutil.which("go", path=_PLACES)
    if go is None:
        raise GoError("the program go is missing")
    version = re.search(r"go(\d+)\.(\d+)", _run([go, "version"], PROJECT))
    if version is None or (int(version[1]), int(version[2])) >= _FETCHES_OTHERS:
        return go
    # Toolchains are modules, so an older Go, as Debian 12's, can download one too; but their files come
    # without the right to run them.
    wanted = re.search(r"^go (\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    name = f"golang.org/toolchain@v0.0.1-go{wanted[1]}.linux-{machine}"
    folder = Path(json.loads(_run([go, "mod", "download", "-json", name], PROJECT))["Dir"])
    for program in [*folder.glob("bin/*"), *folder.glob("pkg/tool/*/*")]:
        program.chmod(0o755)
    return str(folder / "bin" / "go")


def _run(command: list[str], folder: Path = MODULE) -> str:
    """What *command* prints in *folder*. Raises :class:`GoError` with what it says if it fails."""
    done = subprocess.run(command, cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GoError(f"{' '.join(command[1:])}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        build_snapshotter(SNAPSHOTTER)
        build_containerd(CONTAINERD)
    except GoError as error:
        sys.exit(f"containerd and its tests of snapshotters cannot be built: {error}")
