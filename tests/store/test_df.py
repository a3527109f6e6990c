# SPDX-License-Identifier: Apache-2.0
"""``df``: its rows add up to what the pool uses, and what a removal frees is what it said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lamella.cli.main import main
from lamella.store import Store
from tests.support.images import SAMPLE_LAYERS, Sample, make_tar, write_oci_layout
from tests.support.leaks import leak
from tests.support.stores import assert_sound, pool_devices, take_down

if TYPE_CHECKING:
    from pathlib import Path

    from lamella.store import Usage


def _rows(store: Store) -> dict[tuple[str, str], Usage]:
    """All rows, which have been added up."""
    rows = store.df()
    assert rows[0].kind == "pool"
    assert rows[0].space == rows[0].mapped == store.info().data_used
    assert sum(row.space for row in rows[1:]) == rows[0].space
    assert all(row.space >= 0 and row.mapped >= row.exclusive >= 0 for row in rows)
    assert all(row.space == 0 for row in rows if row.kind == "image")
    return {(row.kind, row.name): row for row in rows}


def _fill(store: Store, tmp_path: Path) -> None:
    """Two images that share layers, a third that does not, containers of both, and a commit."""
    more = [*SAMPLE_LAYERS, make_tar({"more": b"x" * 200_000})]
    store.load(write_oci_layout(tmp_path / "more", [Sample(layers=more, references=["more:1"])]))
    other = [make_tar({"other": b"y" * 300_000}), make_tar({"another": b"z" * 100_000})]
    store.load(write_oci_layout(tmp_path / "other", [Sample(layers=other, references=["other:1"])]))
    path = tmp_path / "file"
    for name, image in (("aa", "sample"), ("bb", "more:1"), ("cc", "more:1")):
        store.create(image, name=name)
        path.write_bytes(name.encode() * 500_000)
        store.copy_in(name, path, b"/file")
    store.commit("aa", "mine:1")
    store.create("mine:1", name="dd")


@pytest.fixture
def filled(root: Path, tmp_path: Path) -> Path:
    with Store.open(root) as store:
        _fill(store, tmp_path)
    return root


def test_the_rows_add_up_and_removals_free_what_they_said(filled: Path) -> None:
    with Store.open(filled) as store:
        rows = _rows(store)
        assert {kind for kind, _ in rows} == {"pool", "base", "layer", "image", "container"}
        assert rows["image", "sample:latest"].frees == 0  # a container and other images have its layers
        assert rows["image", "other:1"].frees == rows["image", "other:1"].exclusive > 0
        assert rows["container", "bb"].frees == rows["container", "bb"].space > 500_000
        assert rows["container", "dd"].space < rows["container", "dd"].mapped
        assert rows["base", "base"].frees is None
        order = [
            ("image", "more:1"), ("container", "bb"), ("container", "cc"), ("image", "sample:latest"),
            ("image", "other:1"), ("image", "mine:1"), ("container", "aa"), ("container", "dd"),
        ]  # fmt: skip
        for kind, name in order:
            row = _rows(store)[kind, name]
            before = store.info().data_used
            if kind == "image":
                store.remove_image(name, force=True)
            else:
                store.remove_container(name)
            assert before - store.info().data_used == row.frees, name
        rows = _rows(store)
        assert set(rows) == {("pool", store.info().pool_name), ("base", "base")}
    assert_sound(filled)


@pytest.mark.loop_lvm
def test_layers_whose_origin_is_gone_share_space(filled: Path) -> None:
    """The base device is replaced when it is extended, and its successor maps other chunks."""
    with Store.setup(filled, storage_options=["dm.basesize=256M"]) as store:
        rows = _rows(store)
        shared = [row for (kind, _), row in rows.items() if kind == "shared"]
        assert all(row.space > 0 and row.frees is None for row in shared)
        assert rows["image", "other:1"].frees == rows["image", "other:1"].exclusive


@pytest.mark.user_engine
def test_what_the_store_does_not_know_has_rows(filled: Path) -> None:
    from lamella.thin.engine.pool import Pool, PoolOptions

    take_down(filled)
    with (
        pool_devices(filled) as devices,
        Pool.open(devices.metadata, devices.data, options=PoolOptions(zero=False)) as pool,
    ):
        pool.create_thin(77)
        with pool.open_volume(77, 1 << 20) as volume:
            volume.write(0, bytes([1]) * (256 << 10))
    with Store.open(filled, read_only=True) as store:
        assert _rows(store)["other", "1 devices"].space >= 256 << 10
    with pool_devices(filled) as devices:
        leak(devices.metadata, data=3, metadata=0)
    with Store.open(filled, read_only=True) as store:
        assert _rows(store)["leaked", ""].space == 3 * store.info().chunk_size


def test_one_pool_has_one_name(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(command: str) -> object:
        assert main(["--root", str(filled), command, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def pools(nodes: list[dict[str, object]]) -> set[object]:
        found = set()
        for node in nodes:
            children = node.get("children", [])
            assert isinstance(children, list)
            found |= pools(children) | ({node["name"]} if node["kind"] == "pool" else set())
        return found

    info, df, map_ = printed("info"), printed("df"), printed("map")
    assert isinstance(info, dict)
    assert isinstance(df, list)
    assert isinstance(map_, list)
    assert {row["name"] for row in df if row["kind"] == "pool"} == pools(map_) == {info["pool_name"]}
