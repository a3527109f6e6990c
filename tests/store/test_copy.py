# SPDX-License-Identifier: Apache-2.0
"""``cp``: what lands where, and what becomes of owners, links, holes and devices."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from lamella.errors import BadInputError, NotFoundError, UsageError
from lamella.fs.entry import Kind
from tests.support.images import make_tar
from tests.support.stores import state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lamella.store import Store


@pytest.fixture
def web(store: Store) -> Store:
    store.create("sample", name="web")
    return store


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder with a file of every kind that an ordinary user can make."""
    top = tmp_path / "host"
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/file").write_bytes(b"content")
    (top / "dir/file").chmod(0o4750)
    os.utime(top / "dir/file", ns=(1, 1_700_000_000_123_456_789))
    os.link(top / "dir/file", top / "dir/hard")
    (top / "dir/soft").symlink_to("/etc/passwd")
    (top / "dir/sub" / os.fsdecode(b"odd \xff name")).write_bytes(b"")
    os.mkfifo(top / "dir/fifo")
    with (top / "dir/sparse").open("wb") as file:
        file.write(b"head")
        file.seek(1 << 20)
        file.write(b"tail")
    (top / "one").write_bytes(b"1")
    return top


def listing(store: Store, path: bytes) -> dict[bytes, Kind]:
    with store.tree("web") as tree:
        top = tree.reader.resolve(path)[0]
        return {entry.path[len(top) :].lstrip(b"/"): entry.kind for entry in tree.walk(path)}


DIR = {
    b"": Kind.DIRECTORY,
    b"fifo": Kind.FIFO,
    b"file": Kind.FILE,
    b"hard": Kind.HARDLINK,
    b"soft": Kind.SYMLINK,
    b"sparse": Kind.FILE,
    b"sub": Kind.DIRECTORY,
    b"sub/odd \xff name": Kind.FILE,
}


@pytest.mark.parametrize(
    ("source", "target", "lands_in"),
    [
        ("dir", b"/", b"/dir"),
        ("dir/", b"/etc", b"/etc/dir"),
        ("dir", b"/etc/", b"/etc/dir"),
        ("dir", b"/fresh", b"/fresh"),
        ("dir/", b"/fresh/", b"/fresh"),
        ("dir/.", b"/fresh", b"/fresh"),
    ],
)
def test_where_a_folder_lands(web: Store, host: Path, source: str, target: bytes, lands_in: bytes) -> None:
    web.copy_in("web", f"{host}/{source}", target)
    assert listing(web, lands_in) == DIR


def test_a_folders_content_lands_in_an_existing_one(web: Store, host: Path) -> None:
    web.copy_in("web", f"{host}/dir/.", b"/etc")
    assert listing(web, b"/etc") == DIR | {b"hostname": Kind.FILE}


@pytest.mark.parametrize(
    ("target", "lands_in"),
    [
        (b"/", b"/one"),
        (b"/etc", b"/etc/one"),
        (b"/etc/two", b"/etc/two"),
        (b"/etc/hostname", b"/etc/hostname"),
    ],
)
def test_where_a_file_lands(web: Store, host: Path, target: bytes, lands_in: bytes) -> None:
    web.copy_in("web", host / "one", target)
    with web.tree("web") as tree:
        assert b"".join(tree.read(lands_in)) == b"1"


@pytest.mark.remote
def test_what_becomes_of_attributes(web: Store, host: Path) -> None:
    os.setxattr(host / "dir/file", "user.note", b"\0x")
    if os.getuid() == 0:
        os.chown(host / "dir/file", 12345, 54321)
        (host / "dir/file").chmod(0o4750)
    web.copy_in("web", host / "dir", b"/plain")
    web.copy_in("web", host / "dir", b"/kept", keep_owner=True)
    with web.tree("web") as tree:
        plain, kept = tree.stat(b"/plain/file"), tree.stat(b"/kept/file")
        sparse = tree.stat(b"/plain/sparse")
        assert b"".join(tree.read(b"/plain/sparse")) == (host / "dir/sparse").read_bytes()
        assert tree.stat(b"/plain/soft").target == b"/etc/passwd"
    found = os.stat(host / "dir/file")
    assert (plain.uid, plain.gid, kept.uid, kept.gid) == (0, 0, found.st_uid, found.st_gid)
    assert plain.mode == kept.mode == 0o4750
    assert plain.mtime_ns == kept.mtime_ns == 1_700_000_000_123_456_789
    assert plain.xattrs == kept.xattrs == {b"user.note": b"\0x"}
    assert sparse.data
    assert sum(length for _, length in sparse.data) < 100_000


def test_symlinks_on_the_way_stay_inside(web: Store, host: Path) -> None:
    web.copy_in("web", io.BytesIO(_tar_with_links({"out": "/../../etc", "up": "../../.."})), b"/")
    web.copy_in("web", host / "one", b"/out/via")
    web.copy_in("web", host / "one", b"/up/etc/again")
    assert {b"via", b"again"} <= set(listing(web, b"/etc"))


def _tar_with_links(links: dict[str, str]) -> bytes:
    members = []
    for name, target in links.items():
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        members.append((info, b""))
    return make_tar(members=members)


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("nothing", b"/", NotFoundError),
        ("one/", b"/", NotFoundError),
        ("dir", b"/etc/hostname", UsageError),
        ("one", b"/nowhere/", NotFoundError),
        ("one", b"/no/where", NotFoundError),
        ("one", b"/etc/hostname/x", NotFoundError),
        ("other/.", b"/", UsageError),
        ("other/bin", b"/", UsageError),
    ],
)
def test_what_cannot_be_copied_in(
    web: Store, host: Path, source: str, target: bytes, error: type[Exception]
) -> None:
    (host / "other").mkdir()
    (host / "other/bin").write_text("a file where the container has a directory")
    before = web.diff("web")
    with pytest.raises(error):
        web.copy_in("web", f"{host}/{source}", target)
    assert web.diff("web") == before


@pytest.mark.remote
def test_a_tar_stream(web: Store) -> None:
    tar = make_tar({"srv/": None, "srv/x": b"1", "srv/y": b"2"})
    web.copy_in("web", io.BytesIO(tar), b"/etc")
    assert {b"srv", b"srv/x", b"srv/y"} <= set(listing(web, b"/etc"))
    with pytest.raises(UsageError, match="must be a directory"):
        web.copy_in("web", io.BytesIO(tar), b"/etc/hostname")
    with pytest.raises(BadInputError):
        web.copy_in("web", io.BytesIO(b"no tar" * 1000), b"/etc")
    with pytest.raises(BadInputError):
        web.copy_in("web", io.BytesIO(make_tar({"../x": b""})), b"/etc")


@pytest.mark.remote
def test_a_failed_copy_leaves_the_container_as_it_was(web: Store, host: Path, root: Path) -> None:
    web.copy_in("web", host / "one", b"/first")
    web.close()
    before = state_of(root)
    from lamella.store import Store

    with Store.open(root) as store:
        (host / "dir/zz").mkdir()
        (host / "dir/zz/bad").symlink_to("x" * 4000)
        tar = make_tar({"a": b"x" * 10_000_000, "bin": b"a file for a directory"})
        with pytest.raises(UsageError, match="cannot overwrite directory"):
            store.copy_in("web", io.BytesIO(tar), b"/")
    assert state_of(root) == before


@pytest.mark.remote
def test_copying_out(web: Store, host: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    web.copy_in("web", host / "dir", b"/dir")
    out = tmp_path / "out"
    web.copy_out("web", b"/dir", out)
    done = subprocess.run(
        [tool("diff"), "-r", "--no-dereference", host / "dir/sub", out / "sub"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    file = (out / "file").stat()
    assert stat.S_IMODE(file.st_mode) == 0o4750
    assert file.st_mtime_ns == 1_700_000_000_123_456_789
    assert file.st_ino == (out / "hard").stat().st_ino
    assert (out / "soft").readlink().as_posix() == "/etc/passwd"
    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)
    assert (out / "sparse").read_bytes() == (host / "dir/sparse").read_bytes()
    assert (out / "sparse").stat().st_blocks * 512 < 200_000


@pytest.mark.parametrize(
    ("source", "target", "lands_in"),
    [
        (b"/etc", "there", "there/etc"),
        (b"/etc/.", "there", "there"),
        (b"/etc", "new", "new"),
        (b"etc/", "new/", "new"),
        (b"/etc/hostname", "there", None),
        (b"/etc/hostname", "there/name", None),
        (b"/etc/hostname", "file", None),
    ],
)
def test_where_it_lands_here(
    web: Store, tmp_path: Path, source: bytes, target: str, lands_in: str | None
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("old")
    web.copy_out("web", source, f"{tmp_path}/{target}")
    if lands_in is not None:
        assert (tmp_path / lands_in / "hostname").read_text() == "changed\n"
    else:
        place = tmp_path / target
        assert (place / "hostname" if place.is_dir() else place).read_text() == "changed\n"


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        (b"/nothing", "there", NotFoundError),
        (b"/etc/hostname/", "there", NotFoundError),
        (b"/etc", "file", UsageError),
        (b"/etc/hostname", "no/where", NotFoundError),
        (b"/etc/hostname", "new/", NotFoundError),
        (b"/etc/hostname", "file/", NotFoundError),
        (b"/etc/.", "odd", UsageError),
    ],
)
def test_what_cannot_be_copied_out(
    web: Store, tmp_path: Path, source: bytes, target: str, error: type[Exception]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "odd/hostname").mkdir(parents=True)
    with pytest.raises(error):
        web.copy_out("web", source, f"{tmp_path}/{target}")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"/etc", ["etc", "etc/hostname"]), (b"/etc/.", [".", "hostname"]), (b"/etc/hostname", ["hostname"])],
)
def test_copying_out_as_a_tar(web: Store, path: bytes, expected: list[str]) -> None:
    out = io.BytesIO()
    web.copy_out("web", path, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert [name.removeprefix("./") or "." for name in tar.getnames()] == expected


def test_an_image_can_be_copied_out_of(store: Store, tmp_path: Path) -> None:
    store.copy_out("sample", b"/new", tmp_path / "new")
    assert (tmp_path / "new/other").read_bytes() == b"other\n"
