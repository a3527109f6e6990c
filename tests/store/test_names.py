# SPDX-License-Identifier: Apache-2.0
"""Names and ids of containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lamella.errors import UsageError
from lamella.store import Store
from lamella.store.names import check_name, match_id, new_id, new_name

if TYPE_CHECKING:
    from pathlib import Path


def test_made_up_names_look_like_dockers_and_avoid_what_is_taken() -> None:
    assert re.fullmatch("[a-z]+_[a-z]+", new_name(lambda _: False))
    seen: set[str] = set()
    for _ in range(300):
        made = new_name(lambda candidate: candidate in seen)
        assert made not in seen
        assert check_name(made) == made
        seen.add(made)
    assert re.fullmatch("[0-9a-f]{12}", new_name(lambda _: True))


def test_ids() -> None:
    made = new_id()
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert not made[:12].isdigit()


@pytest.mark.parametrize("name", ["web", "/web", "a.b-c_9", "X1"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["", "a", "-web", "we b", "a/b", "é" * 3, ".hidden"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError, match="Invalid container name"):
        check_name(name)


def test_short_ids() -> None:
    ids = ["sha256:" + "ab" + "0" * 62, "sha256:" + "ac" + "0" * 62]
    assert match_id("ab", ids, "image") == ids[0]
    assert match_id("sha256:ac0", ids, "image") == ids[1]
    assert match_id("b", ids, "image") is None
    assert match_id("web", ids, "image") is None
    with pytest.raises(UsageError, match="multiple image IDs found with provided prefix: a"):
        match_id("a", ids, "image")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:/etc/hosts", ("web", b"/etc/hosts")),
        ("web:etc/hosts", ("web", b"/etc/hosts")),
        ("web:etc:hosts", ("web", b"/etc:hosts")),
        ("web", ("web", b"/")),
        ("web:", ("web", b"/")),
        ("sample", ("sample", b"/")),
        ("sample:latest", ("sample:latest", b"/")),
        ("sample:latest:etc", ("sample:latest", b"/etc")),
        ("sample:latest:/etc", ("sample:latest", b"/etc")),
        ("nobody:etc", ("nobody", b"/etc")),
    ],
)
def test_a_name_and_a_path_in_one_word(root: Path, text: str, expected: tuple[str, bytes]) -> None:
    with Store.open(root) as store:
        store.create("sample", name="web")
        assert store.place(text) == expected
