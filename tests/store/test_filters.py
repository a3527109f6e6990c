# SPDX-License-Identifier: Apache-2.0
"""Filters of lists, history, rename and prune, by the rules of Docker's manual pages."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lamella import clock
from lamella.errors import ExistsError, NotFoundError, UsageError
from lamella.store import Store
from lamella.store.filters import moment
from tests.support.images import Sample, make_tar, write_docker_archive
from tests.support.stores import assert_sound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "2023-05-06T07:08:09Z", "2024-05-06T07:08:09Z"


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Iterator[Store]:
    """Besides "sample": "old", "new" upon its layer, and one that has lost its name; a container of each."""
    lower = make_tar({"a": b"1" * 70_000})
    layers = {"old": [lower], "new": [lower, make_tar({"b": b"2" * 70_000})], "gone": [make_tar({"c": b"3"})]}
    with Store.open(root) as opened:
        for name, times in (("old", OLD), ("new", NEW), ("gone", OLD)):
            sample = Sample(
                layers=layers[name],
                references=[f"docker.io/library/{name}:1"],
                created=times,
                runtime={"Cmd": ["/bin/sh"], "Labels": {"tier": name, "all": "yes"}},
            )
            opened.load(write_docker_archive(tmp_path / f"{name}.tar", [sample]))
        for name in ("old", "new"):
            opened.create(f"{name}:1", name=f"c-{name}")
        moved = Sample(layers=[make_tar({"d": b"4"})], references=["docker.io/library/gone:1"])
        opened.load(write_docker_archive(tmp_path / "moved.tar", [moved]))  # takes the name
        yield opened


def _containers(store: Store, *filters: str) -> list[str]:
    return sorted(each.name for each in store.containers(filters))


def _images(store: Store, *filters: str) -> list[str]:
    return sorted(each.references[0] if each.references else "<none>" for each in store.images(filters))


def test_containers(store: Store) -> None:
    both = ["c-new", "c-old"]
    identity = store.containers(["name=c-new"])[0].id
    assert _containers(store) == both
    assert _containers(store, "name=c-o") == ["c-old"]
    assert _containers(store, "name=^/c-old$") == ["c-old"]
    assert _containers(store, "name=old", "name=new") == both
    assert _containers(store, f"id={identity[:12]}") == ["c-new"]
    assert _containers(store, "label=tier") == both
    assert _containers(store, "label=tier=old") == ["c-old"]
    assert _containers(store, "label=all=yes", "label=tier=new") == ["c-new"]
    assert _containers(store, "ancestor=new:1") == ["c-new"]
    assert _containers(store, "ancestor=old:1") == both  # the new image has the old one's layer below
    assert _containers(store, "status=created") == both
    assert _containers(store, "status=running") == []
    assert _containers(store, "before=c-new") == ["c-old"]
    assert _containers(store, "since=c-old") == ["c-new"]


def test_images(store: Store) -> None:
    assert _images(store) == ["<none>", "gone:1", "new:1", "old:1", "sample:latest"]
    assert _images(store, "dangling=true") == ["<none>"]
    assert "<none>" not in _images(store, "dangling=false")
    assert _images(store, "reference=o*") == ["old:1"]
    assert _images(store, "reference=old", "reference=new:?") == ["new:1", "old:1"]
    assert _images(store, "reference=*/old") == []
    assert _images(store, "label=tier=new") == ["new:1"]
    assert _images(store, "since=old:1", "label=tier") == ["new:1"]
    assert _images(store, "before=new:1", "label=tier=old") == ["old:1"]
    assert _images(store, "until=2023-12-31", "label=tier") == ["<none>", "old:1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name", "bad format of filter (expected name=value): name"),
        ("nonsense=x", "invalid filter 'nonsense'"),
        ("status=odd", "invalid filter 'status=odd'"),
    ],
)
def test_bad_filters(store: Store, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.containers([text])
    assert said in caught.value.message
    assert "known: " in str(caught.value.hint)


def test_times() -> None:
    assert abs(moment("1h30m") - (clock.utc() - timedelta(minutes=90))) < timedelta(minutes=5)
    assert moment("1700000000").isoformat() == "2023-11-14T22:13:20+00:00"
    assert moment("2024-01-31T12:00:00+01:00").isoformat() == "2024-01-31T12:00:00+01:00"
    with pytest.raises(UsageError, match="is too long a time"):
        moment("99999999999999h")
    for text in ("", "yesterday", "12q"):
        with pytest.raises(UsageError, match="neither a time nor a duration"):
            moment(text)


def test_history_has_a_row_for_each_step(store: Store) -> None:
    steps = store.history("new:1")
    assert [step.created_by for step in steps] == ["CMD", "layer 1", "layer 0"]
    assert steps[0].id.startswith("sha256:")
    assert [step.id for step in steps[1:]] == ["", ""]
    assert [step.size >= 70_000 for step in steps] == [False, True, True]
    assert steps[0].size == 0
    assert steps[1].as_dict()["created"] == NEW


def test_rename(store: Store) -> None:
    store.rename("c-old", "/fresh")
    assert _containers(store) == ["c-new", "fresh"]
    before = store.containers()
    for name, new, error, said in (
        ("fresh", "c-new", ExistsError, 'The container name "/c-new" is already in use by container'),
        ("fresh", "fresh", UsageError, "Renaming a container with the same name as its current name"),
        ("fresh", "-x", UsageError, "Invalid container name"),
        ("nobody", "x2", NotFoundError, "No such container: nobody"),
    ):
        with pytest.raises(error, match=said):
            store.rename(name, new)
    assert store.containers() == before


def test_prune(store: Store, root: Path) -> None:
    dangling = store.images(["dangling=true"])[0].id
    assert store.prune(agree=lambda: False).lines == []
    assert store.prune(["until=2020-01-01"]).lines == []
    done = store.prune()
    assert done.lines[0] == f"Deleted: {dangling}"
    assert done.freed > 0
    assert done.as_dict()["deleted"][0] == dangling
    assert _images(store) == ["gone:1", "new:1", "old:1", "sample:latest"]
    done = store.prune(named=True)
    assert "Untagged: gone:1" in done.lines
    # What containers were created from stays, and so do the containers.
    assert _images(store) == ["new:1", "old:1"]
    assert _containers(store) == ["c-new", "c-old"]
    store.close()
    assert_sound(root)
