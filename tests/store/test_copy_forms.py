# SPDX-License-Identifier: Apache-2.0
"""``docker cp``'s manual, form by form, both ways.

Authority: docs.docker.com/reference/cli/docker/container/cp (SRC_PATH and DEST_PATH), and for links, which it
only touches, docker/cli ``cli/command/container/cp.go`` and moby ``pkg/archive/copy.go``: a link is copied as
one, ``LINK/`` and ``LINK/.`` are the directory, ``-L`` follows, and a link that is the target is followed.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.errors import LamellaError
from lamella.fs.entry import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store import Store

pytestmark = pytest.mark.loop_lvm

TREE = {
    "usr/bin/sh": b"sh",
    "usr/bin/sub/x": b"x",
    "etc/real": b"r",
    "empty/": None,
    "lib": "usr/bin",
    "etc/link": "real",
    "etc/chain": "link",
    "dang": "/etc/made",
    "deep": "/none/at/all",
    "loop": "loop",
    "abs": "/empty",
}
"""Files, a directory, and links of every kind."""


def plant(top: Path) -> Path:
    """The tree on this machine; absolute links lead to below *top*."""
    for name, content in TREE.items():
        place = top / name.rstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir()
        elif isinstance(content, bytes):
            place.write_bytes(content)
        else:
            place.symlink_to(f"{top}{content}" if content.startswith("/") else content)
    return top


def tree_tar() -> io.BytesIO:
    """The tree as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in TREE.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
    out.seek(0)
    return out


@pytest.fixture
def web(store: Store) -> Store:
    store.create("sample", name="web")
    store.copy_in("web", tree_tar(), b"/")
    return store


def here(top: Path) -> dict[str, str]:
    """What is below *top*: names, and the targets of links."""
    found = {}
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(folder, name)
            link = os.readlink(path).replace(str(top.parent), "") if os.path.islink(path) else ""
            found[os.path.relpath(path, top)] = link
    return found


def there(store: Store, path: bytes) -> dict[str, str]:
    """The same for a directory of the container."""
    with store.tree("web") as tree:
        entries = list(tree.walk(path))
        top = len(entries[0].path)
        return {e.path[top:].lstrip(b"/").decode(): e.target.decode() for e in entries[1:]}


BIN = {"sh": "", "sub": "", "sub/x": ""}


def below(name: str, tree: dict[str, str]) -> dict[str, str]:
    return {name: "", **{f"{name}/{path}": link for path, link in tree.items()}}


FORMS = [
    # A file: to a place that is not there, to a file, into a directory.
    ("etc/real", "new", {"new": ""}),
    ("etc/real", "", {"real": ""}),
    ("etc/real", ".", {"real": ""}),
    # A directory: to a place that is not there (its content goes into the new one), and into one.
    ("usr/bin", "new", below("new", BIN)),
    ("usr/bin", "new/", below("new", BIN)),
    ("usr/bin/", "new", below("new", BIN)),
    ("usr/bin/.", "new", below("new", BIN)),
    ("usr/bin", "", below("bin", BIN)),
    ("usr/bin/", "", below("bin", BIN)),
    ("usr/bin/.", "", BIN),
    ("usr/bin/../bin", "", below("bin", BIN)),
    # A link: as one, unless the path can only be a directory.
    ("lib", "", {"lib": "usr/bin"}),
    ("lib", "new", {"new": "usr/bin"}),
    ("lib/", "", below("lib", BIN)),
    ("lib/.", "", BIN),
    ("lib/", "new", below("new", BIN)),
    ("lib/sh", "", {"sh": ""}),
    ("etc/link", "", {"link": "real"}),
    ("etc/chain", "new", {"new": "link"}),
]
FOLLOWED = [
    ("lib", "", below("lib", BIN)),
    ("lib", "new", below("new", BIN)),
    ("etc/link", "", {"link": ""}),
    ("etc/chain", "new", {"new": ""}),
    ("etc/real", "", {"real": ""}),
]
REFUSED = [
    ("etc/real", "new/"),  # the destination directory must exist
    ("etc/real", "new/."),
    ("etc/real", "none/new"),  # nor are parents made
    ("usr/bin", "none/new"),
    ("usr/bin", "file"),  # a directory to a file
    ("usr/bin/.", "file"),
    ("etc/real", "file/"),  # a file is no directory
    ("etc/real/", "new"),
    ("etc/real/.", "new"),
    ("etc/link/", "new"),
    ("none", "new"),
    ("dang/", "new"),
]


@pytest.mark.parametrize(("source", "target", "expected"), FORMS)
def test_out(web: Store, tmp_path: Path, source: str, target: str, expected: dict[str, str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    web.copy_out("web", f"/{source}".encode(), f"{out}/{target}")
    assert here(out) == expected


@pytest.mark.parametrize(("source", "target", "expected"), FORMS)
def test_in(web: Store, tmp_path: Path, source: str, target: str, expected: dict[str, str]) -> None:
    plant(tmp_path / "host")
    web.copy_in("web", f"{tmp_path}/host/{source}", f"/empty/{target}".encode())
    assert there(web, b"/empty") == expected


@pytest.mark.parametrize(("source", "target", "expected"), FOLLOWED)
def test_followed(web: Store, tmp_path: Path, source: str, target: str, expected: dict[str, str]) -> None:
    """``-L``: SRC_PATH's link is followed, in both directions, and keeps its name."""
    plant(tmp_path / "host")
    out = tmp_path / "out"
    out.mkdir()
    web.copy_out("web", f"/{source}".encode(), f"{out}/{target}", follow_link=True)
    assert here(out) == expected
    web.copy_in("web", f"{tmp_path}/host/{source}", f"/empty/{target}".encode(), follow_link=True)
    assert there(web, b"/empty") == expected


@pytest.mark.parametrize(("source", "target"), REFUSED)
def test_refused(web: Store, tmp_path: Path, source: str, target: str) -> None:
    plant(tmp_path / "host")
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").write_bytes(b"f")
    with pytest.raises(LamellaError):
        web.copy_out("web", f"/{source}".encode(), f"{out}/{target}")
    assert here(out) == {"file": ""}
    assert (out / "file").read_bytes() == b"f"
    web.copy_in("web", out / "file", b"/empty/")
    with pytest.raises(LamellaError):
        web.copy_in("web", f"{tmp_path}/host/{source}", f"/empty/{target}".encode())
    assert there(web, b"/empty") == {"file": ""}


@pytest.mark.parametrize(
    ("link", "written"),
    [("etc/link", "etc/real"), ("etc/chain", "etc/real"), ("dang", "etc/made"), ("abs", "empty/h")],
)
def test_a_link_that_is_the_target_is_followed(web: Store, tmp_path: Path, link: str, written: str) -> None:
    top = plant(tmp_path / "host")
    (tmp_path / "h").write_bytes(b"h")
    web.copy_in("web", tmp_path / "h", f"/{link}".encode())
    with web.tree("web") as tree:
        assert b"".join(tree.read(written.encode())) == b"h"
        assert tree.stat(link.encode()).kind is Kind.SYMLINK
    web.copy_out("web", written.encode(), top / link)
    assert (top / link).is_symlink()
    assert (top / written).read_bytes() == b"h"


@pytest.mark.parametrize("link", ["deep", "loop"])
def test_a_link_to_nowhere_is_refused(web: Store, tmp_path: Path, link: str) -> None:
    top = plant(tmp_path / "host")
    before = there(web, b"/")
    with pytest.raises(LamellaError):
        web.copy_in("web", top / "etc/real", f"/{link}".encode())
    with pytest.raises(LamellaError):
        web.copy_out("web", b"/etc/real", top / link)
    assert there(web, b"/") == before
    assert (top / link).is_symlink()


def test_a_directory_copied_to_a_dangling_link_makes_its_target(web: Store, tmp_path: Path) -> None:
    top = plant(tmp_path / "host")
    web.copy_in("web", top / "usr/bin", b"/dang")
    assert there(web, b"/etc/made") == BIN
    web.copy_out("web", b"/usr/bin", top / "dang")
    assert here(top / "etc/made") == BIN


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (b"/lib", ["lib"]),
        (b"/lib/", ["lib", "lib/sh", "lib/sub", "lib/sub/x"]),
        (b"/usr/bin", ["bin", "bin/sh", "bin/sub", "bin/sub/x"]),
        (b"/etc/link", ["link"]),
        (b"/dang", ["dang"]),
        (b"bin/../etc/real", ["real"]),
    ],
)
def test_as_a_tar(web: Store, path: bytes, names: list[str]) -> None:
    out = io.BytesIO()
    web.copy_out("web", path, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getnames() == names


def test_a_tar_is_unpacked_only_into_a_directory(web: Store) -> None:
    before = there(web, b"/")
    for place in (b"/etc/real", b"/etc/real/", b"/none", b"/dang"):
        with pytest.raises(LamellaError):
            web.copy_in("web", tree_tar(), place)
    assert there(web, b"/") == before
    web.copy_in("web", tree_tar(), b"/abs")
    assert "usr/bin/sh" in there(web, b"/empty")


def test_the_command_keeps_the_slash_of_its_target(
    web: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.close()
    root = ["--root", str(web.root)]
    assert main([*root, "cp", "web:/etc/real", f"{tmp_path}/new/"]) == 3
    assert "there is no directory" in capsys.readouterr().err
    assert main([*root, "cp", "-L", "web:/lib", f"{tmp_path}/new"]) == 0
    assert here(tmp_path / "new") == BIN
    assert main([*root, "cp", "--follow-link", "web:etc/link", f"{tmp_path}/file"]) == 0
    assert not (tmp_path / "file").is_symlink()
