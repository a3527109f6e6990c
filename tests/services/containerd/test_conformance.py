# SPDX-License-Identifier: Apache-2.0
"""containerd's own tests of snapshotters, against `lamella serve --containerd`; each with a store of its own.

``LAMELLA_CONFORMANCE`` names their program where it has been built elsewhere (``scripts.conformance``), and
with ``LAMELLA_TEST_ENGINE=kernel``, in the guest, the stores use the kernel's engine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scripts import conformance
from tests.conftest import missing
from tests.support.stores import KERNEL

NAMES = (
    *("Basic", "StatActive", "StatComitted", "TransitivityTest", "PreareViewFailingtest", "Update", "Remove"),
    *("Walk", "LayerFileupdate", "RemoveDirectoryInLowerLayer", "Chown", "DirectoryPermissionOnCommit"),
    *("RemoveIntermediateSnapshot", "DeletedFilesInChildSnapshot", "MoveFileFromLowerLayer", "ViewReadonly"),
    *("StatInWalk", "CloseTwice", "RootPermission", "Rename", "128LayersMount"),
)
"""As containerd spells them."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.getuid():
        missing("the right to mount")
    for device in () if KERNEL else ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            missing(device)
    built = os.environ.get("LAMELLA_CONFORMANCE")
    if built:
        return Path(built)
    try:
        return conformance.build_snapshotter(tmp_path_factory.mktemp("conformance") / "snapshotter")
    except conformance.GoError as error:
        missing(f"a Go that builds containerd's tests ({error})")
    raise AssertionError


@pytest.mark.parametrize("name", NAMES)
def test_containerds_test(program: Path, name: str) -> None:
    # Short, as the socket's address is below it; on a disk, and without what another test left.
    folder = tempfile.mkdtemp(prefix="lamella-", dir="/var/tmp")
    done = subprocess.run(
        [program, "-test.v", f"-test.run=^TestSnapshotter$/^{name}$", "-test.timeout=0"],
        env=os.environ | {"LAMELLA_COMMAND": f"{sys.executable} -m lamella", "TMPDIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"--- PASS: TestSnapshotter/{name} " in done.stdout, done.stdout
    os.rmdir(folder)  # nothing was left there, mounts least of all


@pytest.mark.skipif(KERNEL, reason="the guest has no Go")
def test_there_are_no_others() -> None:
    try:
        folder = conformance.sources("github.com/containerd/containerd/v2")
    except conformance.GoError as error:
        missing(f"Go and the sources of containerd ({error})")
    suite = (folder / "core/snapshots/testsuite/testsuite.go").read_text()
    assert re.findall(r't\.Run\("(\w+)", makeTest\(', suite) == list(NAMES)
