# SPDX-License-Identifier: Apache-2.0
"""Each command as a person or a script uses it, on the store that quickstart makes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after quickstart; tests leave it as they found it, or make names of their own."""
    folder = tmp_path_factory.mktemp("quickstart") / "root"
    done = subprocess.run(
        [sys.executable, "-m", "lamella", "--root", folder, "quickstart"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "3. Two containers" in done.stdout
    assert "A /etc/changed-by-quickstart" in done.stdout
    return folder


@pytest.fixture
def lamella(root: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., str]:
    """Run one command on the store; gives what it printed, and asserts its exit code."""

    def run(*argv: object, code: int = 0) -> str:
        assert main(["--root", str(root), *map(str, argv)]) == code
        shown = capsysbinary.readouterr()
        assert b"Traceback" not in shown.err
        return (shown.err if code else shown.out).decode()

    return run


def test_quickstart_can_be_run_again(lamella: Callable[..., str]) -> None:
    before = json.loads(lamella("info", "--json"))
    assert "quickstart-b is unchanged: 0 changes" in lamella("quickstart")
    after = json.loads(lamella("info", "--json"))
    for key in ("containers", "images", "data_used"):
        assert before[key] == after[key]


def test_quickstart_keeps_what_a_user_put_into_its_containers(
    lamella: Callable[..., str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("hours of work")
    lamella("cp", mine, "quickstart-a:/mine")
    lamella("cp", mine, "quickstart-a:/etc/changed-by-quickstart")
    again = lamella("quickstart")
    assert "quickstart-a exists already, and is kept as it is" in again
    assert lamella("cat", "quickstart-a:/mine") == "hours of work"
    assert lamella("cat", "quickstart-a:/etc/changed-by-quickstart") == "hours of work"
    lamella("rm", "quickstart-a")
    assert "A /etc/changed-by-quickstart" in lamella("quickstart")


def test_quickstart_leaves_containers_of_another_image_alone(lamella: Callable[..., str]) -> None:
    lamella("rm", "quickstart-b")
    lamella("commit", "quickstart-a", "other:1")
    lamella("create", "--name", "quickstart-b", "other:1")
    before = lamella("inspect", "quickstart-b")
    assert "quickstart-a2 and quickstart-b2" in lamella("quickstart")
    assert lamella("inspect", "quickstart-b") == before
    lamella("rm", "quickstart-b", "quickstart-a2", "quickstart-b2")
    lamella("rmi", "other:1")
    lamella("quickstart")


def test_info(lamella: Callable[..., str], root: Path) -> None:
    lines = lamella("info").splitlines()
    assert lines[:3] == ["Containers: 2", "Images: 1", "Storage Driver: devicemapper"]
    labels = [line.strip().split(":")[0] for line in lines[3:]]
    assert labels == [
        "Pool Name",
        "Pool Blocksize",
        "Base Device Size",
        "Backing Filesystem",
        "Udev Sync Supported",
        "Data file",
        "Metadata file",
        "Data loop file",
        "Metadata loop file",
        "Data Space Used",
        "Data Space Total",
        "Data Space Available",
        "Metadata Space Used",
        "Metadata Space Total",
        "Metadata Space Available",
        "Thin Pool Minimum Free Space",
        "Deferred Removal Enabled",
        "Deferred Deletion Enabled",
        "Deferred Deleted Device Count",
        "Library Version",
    ]
    assert f" Data loop file: {root}/pool/data" in lines


def test_lists(lamella: Callable[..., str]) -> None:
    table = lamella("images").splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert table[1].split()[:2] == ["lamella/quickstart", "latest"]
    short = lamella("images", "-q").strip()
    assert len(short) == 12
    assert json.loads(lamella("images", "--json"))[0]["id"].startswith(f"sha256:{short}")
    rows = lamella("ps").splitlines()
    assert {row.split()[-1] for row in rows[1:]} == {"quickstart-a", "quickstart-b"}
    assert "lamella/quickstart" in rows[1]
    assert len(lamella("ps", "-q").split()) == 2
    kinds = [row.split()[0] for row in lamella("df").splitlines()[1:]]
    assert kinds == ["pool", "base", "layer", "layer", "layer", "image", "container", "container"]


def test_files(lamella: Callable[..., str]) -> None:
    assert lamella("ls", "quickstart-a:/etc").split() == ["changed-by-quickstart", "motd"]
    assert lamella("ls", "lamella/quickstart:latest", "/etc").split() == ["motd"]
    assert lamella("ls", "-l", "quickstart-a", "/app").startswith("-rwxr-xr-x")
    assert "thin volume" in lamella("cat", "quickstart-a:/app/main.py")
    assert "turtledemo" not in lamella("ls", "-R", "quickstart-a:/usr/lib")
    names = json.loads(lamella("ls", "--json", "quickstart-a:/app"))
    assert names[0]["kind"] == "file"
    assert names[0]["mode"] == "0755"
    assert "no such" in lamella("cat", "quickstart-a:/none", code=3).lower()
    assert "none" in lamella("ls", "none:/", code=3)


def test_a_container_s_life(lamella: Callable[..., str], root: Path, tmp_path: Path) -> None:
    identity = lamella("create", "--name", "life", "lamella/quickstart", "--size", "12G").strip()
    assert len(identity) == 64
    assert "life" in lamella("create", "--name", "life", "lamella/quickstart", code=4)
    assert json.loads(lamella("inspect", "life"))[0]["GraphDriver"]["Data"]["DeviceSize"] == str(12 << 30)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>thin</h1>")
    os.symlink("index.html", tmp_path / "site" / "default")
    lamella("cp", tmp_path / "site", "life:/srv")
    assert lamella("cat", "life:/srv/index.html") == "<h1>thin</h1>"
    assert lamella("cat", "life:/srv/default") == "<h1>thin</h1>"
    assert lamella("diff", "life").splitlines() == ["A /srv", "A /srv/default", "A /srv/index.html"]
    lamella("cp", "life:/srv/index.html", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "<h1>thin</h1>"
    assert lamella("commit", "life", "site:1", "-m", "a site", "-c", 'CMD ["serve"]').startswith("sha256:")
    config = json.loads(lamella("inspect", "site:1"))[0]
    assert config["Config"]["Cmd"] == ["serve"]
    lamella("tag", "site:1", "site:stable")
    lamella("save", "-o", tmp_path / "site.tar", "site:stable", "site:1")
    lamella("export", "life", "-o", tmp_path / "life.tar")
    with tarfile.open(tmp_path / "life.tar") as tar:
        assert tar.extractfile("srv/index.html").read() == b"<h1>thin</h1>"  # type: ignore[union-attr]
    assert "quickstart" not in lamella("rm", "life")
    removed = lamella("rmi", "site:1", "site:stable").splitlines()
    assert "Untagged: site:1" in removed
    assert any(line.startswith("Deleted: sha256:") for line in removed)
    assert "site" not in lamella("images")
    assert sorted(lamella("load", "-i", tmp_path / "site.tar").splitlines()) == [
        "Loaded image: site:1",
        "Loaded image: site:stable",
    ] or "site:1" in lamella("images")
    lamella("rmi", "site:1", "site:stable")
    assert "The store is clean." in lamella("check")


def test_pipes(root: Path, tmp_path: Path) -> None:
    """save, export and cp write clean archives to a pipe; load and cp read them from one."""
    program = f"{sys.executable} -m lamella --root {root}"
    shown = subprocess.run(
        f"{program} save lamella/quickstart | {program} --root {tmp_path / 'other'} load",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "Loaded image: lamella/quickstart:latest\n"
    listing = subprocess.run(
        f"{program} export quickstart-a | tar -t", shell=True, capture_output=True, text=True, check=True
    )
    assert "etc/changed-by-quickstart\n" in listing.stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("from-a-pipe")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    base = [sys.executable, "-m", "lamella", "--root", str(root)]
    subprocess.run([*base, "cp", "-", "quickstart-b:/etc"], input=archive.getvalue(), check=True)
    out = subprocess.run(
        [*base, "cp", "quickstart-b:/etc/from-a-pipe", "-"], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.getnames() == ["from-a-pipe"]


def test_setup_and_teardown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    first = ["--root", str(root), "setup", "loop-lvm", "--storage-opt"]
    assert main([*first, "dm.fs=xfs"]) == 12
    assert "xfs" in capsys.readouterr().err
    assert main([*first, "dm.nonsense=1"]) == 2
    assert not root.exists()
    assert main([*first, "dm.basesize=1G", "--storage-opt", "dm.loopdatasize=2G"]) == 0
    assert str(root) in capsys.readouterr().out
    assert main([*first, "dm.basesize=512M"]) != 0
    assert "Base device size cannot be smaller than" in capsys.readouterr().err
    assert main(["--root", str(root), "teardown"]) == 0
    assert not (root / "pool").exists()
    assert main(["--root", str(root), "images"]) == 3
