# SPDX-License-Identifier: Apache-2.0
"""What is reported adds up to the total that was announced, in every command that reports anything."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from lamella.store import Store
from tests.support.images import Sample, make_tar, write_docker_archive, write_oci_layout

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = [make_tar({f"d{n}/f{n}": os.urandom(400_000) + bytes(1_200_000)}) for n in range(2)]


def _sample() -> Sample:
    return Sample(layers=LAYERS, references=["docker.io/library/two:latest"])


class Recorder:
    """Keeps each task: its name, total, unit, what was reported of it, and whether it was finished."""

    def __init__(self) -> None:
        self.tasks: list[list[object]] = []
        self.amounts: list[int] = []

    def start(self, what: str, total: int | None, *, unit: str = "bytes", had: int = 0) -> None:
        assert not self.tasks or self.tasks[-1][3] == "done"
        self.tasks.append([what, total, unit, ""])
        self.amounts.append(had)

    def advance(self, amount: int) -> None:
        assert amount >= 0
        assert self.tasks[-1][3] == ""
        self.amounts[-1] += amount

    def waiting(self, why: str) -> None:
        pass

    def done(self) -> None:
        self.tasks[-1][3] = "done"
        what, total, *_ = self.tasks[-1]
        assert total in (None, self.amounts[-1]), what

    @property
    def names(self) -> list[str]:
        return [str(task[0]) for task in self.tasks]


def test_loads(root: Path, tmp_path: Path) -> None:
    sample = _sample()
    labels = [f"layer {diff_id[7:19]}: unpacking" for diff_id in sample.diff_ids]
    plain = write_docker_archive(tmp_path / "plain.tar", [sample])
    packed = write_docker_archive(tmp_path / "packed.tar", [sample], whole="gzip")
    layout = write_oci_layout(tmp_path / "layout", [sample])
    for path, first in ((plain, []), (packed, ["archive: reading"]), (layout, [])):
        seen = Recorder()
        with Store.open(root) as store:
            store.load(path, progress=seen)
            store.remove_image("two")
        assert seen.names == [*first, *labels]
        sizes = [task[1] for task in seen.tasks[len(first) :]]
        assert all(isinstance(size, int) and size > 0 for size in sizes)
        if path == packed:
            assert seen.tasks[0][1] == packed.stat().st_size
        if path == plain:
            assert sizes == [len(layer) for layer in LAYERS]
        else:  # the layers of a layout are compressed: their size there is what is counted
            assert path == packed or sum(map(int, map(str, sizes))) < sum(map(len, LAYERS))


def test_everything_else(root: Path, tmp_path: Path) -> None:
    archive = write_docker_archive(tmp_path / "a.tar", [_sample()])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").write_bytes(os.urandom(300_000))
    (tmp_path / "in" / "two").write_bytes(b"x" * 7)
    with (tmp_path / "in" / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.write(os.urandom(8192))
    seen = Recorder()
    with Store.open(root) as store:
        store.load(archive)
        store.create("two", name="web")
        store.save(["two"], tmp_path / "out.tar", progress=seen)
        assert [task[1] for task in seen.tasks] == [len(layer) for layer in LAYERS]
        store.copy_in("web", tmp_path / "in", b"/", progress=seen)
        assert seen.tasks[-1][1] == 300_007 + 8192
        store.copy_in("web", io.BytesIO(make_tar({"t": bytes(5000)})), b"/", progress=seen)
        store.copy_out("web", b"/in", tmp_path / "back", progress=seen)
        assert seen.tasks[-1][1] == 300_007 + 8192
        store.copy_out("web", b"/in/one", io.BytesIO(), progress=seen)
        assert seen.tasks[-1][1] == 300_000
        store.export("web", tmp_path / "web.tar", progress=seen)
        store.commit("web", "mine:1", progress=seen)
        assert seen.names[-2] == "changes"
        assert seen.names[-1].endswith(": unpacking")
        before = len(seen.tasks)
        assert not store.check(progress=seen).problems
    assert seen.names[before:] == ["check: metadata", "check: file systems"]
    assert seen.tasks[-1][2] == "file systems"
    assert all(task[3] == "done" for task in seen.tasks)
