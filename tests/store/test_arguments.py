# SPDX-License-Identifier: Apache-2.0
"""What programs pass to the store: a wrong type is one clear error, and nothing is done."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from lamella.errors import UsageError
from lamella.fs.entry import Kind
from lamella.store import Store
from tests.support.stores import state_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read_a_number(store: Any) -> None:
    with store.tree("web") as tree:
        list(tree.read(3))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda store: store.create(5), "an image's name has to be a text, not int: 5"),
        (lambda store: store.create("sample", name=5), "a container's name has to be a text, not int"),
        (lambda store: store.create("sample", size="10G"), "the size has to be a whole number of bytes"),
        (lambda store: store.create("sample", size=1.5), "the size has to be a whole number of bytes"),
        (lambda store: store.save("sample", io.BytesIO()), "the list of images has to be a list of texts"),
        (lambda store: store.save(["sample"], 7), "the output has to be a path or an open file, not int: 7"),
        (lambda store: store.load(7), "the archive has to be a path, not int"),
        (lambda store: store.diff(None), "a container's name has to be a text, not NoneType"),
        (lambda store: store.inspect(b"web"), "a container's name has to be a text, not bytes"),
        (lambda store: store.pull(None), "an image's name has to be a text"),
        (lambda store: store.tag("sample", 3), "an image's name has to be a text"),
        (lambda store: store.rename("web", 3), "a container's name has to be a text"),
        (lambda store: store.remove_container(3), "a container's name has to be a text"),
        (lambda store: store.remove_image(3), "an image's name has to be a text"),
        (lambda store: store.resize("web", "20G"), "the size has to be a whole number"),
        (lambda store: store.copy_in("web", 3, b"/"), "the source has to be a path or an open file"),
        (lambda store: store.copy_in("web", "/etc/passwd", 3), "path has to be bytes or a text"),
        (lambda store: store.copy_out("web", b"/", 3), "the target has to be a path or an open file"),
        (lambda store: store.export("web", 3), "the output has to be a path or an open file"),
        (lambda store: store.commit("web", changes="CMD x"), "the list of changes has to be a list of texts"),
        (lambda store: store.commit("web", 3), "an image's name has to be a text"),
        (lambda store: store.images("dangling=true"), "the list of filters has to be a list of texts"),
        (lambda store: store.activate("web"), "the list of names has to be a list of texts"),
        (read_a_number, "path has to be bytes or a text"),
    ],
)
def test_wrong_types(root: Path, call: Callable[[Any], object], said: str) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
    before = state_of(root)
    with Store.open(root) as store, pytest.raises(UsageError) as caught:
        call(store)
    assert said in caught.value.message
    assert state_of(root) == before


def test_storage_options_are_a_list(tmp_path: Path) -> None:
    bad: Any = "dm.basesize=64M"
    with pytest.raises(UsageError, match="the list of storage options has to be a list of texts"):
        Store.setup(tmp_path / "root", storage_options=bad)
    assert not (tmp_path / "root").exists()


def test_paths_inside_may_be_texts(root: Path) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
        with store.tree("web") as tree:
            assert tree.ls("/etc") == tree.ls(b"/etc")
            assert b"".join(tree.read("etc/hostname")) == b"".join(tree.read(b"/etc/hostname"))
            entry = tree.stat("/etc/hostname")
        out = io.BytesIO()
        store.copy_out("web", "/etc/hostname", out)
        assert out.getvalue()
        store.copy_in("web", io.BytesIO(out.getvalue()), "/etc")
    # A kind is also the text that `lamella ls --json` prints.
    assert entry.kind is Kind.FILE
    assert entry.kind == "file"
    assert Kind("directory") is Kind.DIRECTORY
    assert f"{Kind.HARDLINK}, {Kind.HARDLINK.words}" == "hardlink, hard link"
