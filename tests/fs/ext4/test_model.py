# SPDX-License-Identifier: Apache-2.0
"""Random sequences of layers against a plain model of what layers mean."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.block import FileDevice
from tests.fs.ext4.tools import MIB, can_mount, fsck, make_image, mounted
from tests.fs.layers import apply_layer, layer

if TYPE_CHECKING:
    from collections.abc import Sequence

PART = st.sampled_from(["a", "b", "c", "dd", "e" * 60])
PATH = st.lists(PART, min_size=1, max_size=3).map("/".join)
ITEM = st.one_of(
    st.tuples(PATH, st.just("f"), st.binary(max_size=9000)),
    st.tuples(PATH, st.just("d")),
    st.tuples(PATH, st.just("l"), st.text("xyz", min_size=1, max_size=70)),
    st.tuples(PATH, st.just("p")),
    st.tuples(PATH, st.just("w")),
    st.tuples(st.one_of(st.just(""), PATH), st.just("o")),
    st.tuples(PATH, st.just("h"), PATH),
)

Model = dict[str, tuple[str, object]]


def below(model: Model, path: str) -> list[str]:
    return [name for name in model if name.startswith(path + "/")]


def remove(model: Model, fresh: set[str], path: str) -> None:
    for name in [*below(model, path), path]:
        model.pop(name, None)
        fresh.discard(name)


def acceptable(model: Model, path: str) -> bool:
    """Whether every parent of *path* is a directory or missing."""
    parts = path.split("/")[:-1]
    return all(
        model.get("/".join(parts[:count]), ("d", None))[0] == "d" for count in range(1, len(parts) + 1)
    )


def run(model: Model, items: Sequence[tuple]) -> list[tuple]:
    """Apply one layer to the model; returns what of it is to go into the tar."""
    used: list[tuple] = []
    fresh: set[str] = set()
    for item in items:
        path, kind = item[0], item[1]
        probe = path + "/x" if kind == "o" and path else path
        if not acceptable(model, probe):
            continue
        if kind == "w":
            if path in model:
                for name in [path, *below(model, path)]:
                    if name not in fresh and not any(other.startswith(name + "/") for other in fresh):
                        remove(model, fresh, name)
            head, _, last = path.rpartition("/")
            used.append((f"{head}/.wh.{last}" if head else f".wh.{last}", "f"))
            continue
        if kind == "o":
            for name in below(model, path) if path else list(model):
                if name not in fresh and not any(other.startswith(name + "/") for other in fresh):
                    model.pop(name, None)
            used.append((f"{path}/.wh..wh..opq" if path else ".wh..wh..opq", "f"))
            continue
        if kind == "h":
            target = item[2]
            found = model.get(target)
            if (
                found is None
                or found[0] == "d"
                or target.startswith(path + "/")
                or not acceptable(model, target)
            ):
                continue
            if path == target or found is model.get(path):
                continue
        parts = path.split("/")
        for count in range(1, len(parts)):
            parent = "/".join(parts[:count])
            if parent not in model:
                model[parent] = ("d", None)
                fresh.add(parent)
        if not (kind == "d" and model.get(path, ("",))[0] == "d"):
            remove(model, fresh, path)
        if kind == "h":
            model[path] = found
        elif not (kind == "d" and path in model):
            model[path] = (kind, item[2] if len(item) > 2 else None)
        fresh.add(path)
        used.append(item)
    return used


def state(root: Path) -> Model:
    found: Model = {}
    for folder, directories, files in os.walk(root):
        for name in [*directories, *files]:
            full = Path(folder) / name
            path = str(full.relative_to(root))
            if path == "lost+found":
                continue
            if full.is_symlink():
                found[path] = ("l", os.readlink(full))
            elif full.is_dir():
                found[path] = ("d", None)
            elif full.is_fifo():
                found[path] = ("p", None)
            else:
                found[path] = ("f", full.read_bytes())
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(ITEM, max_size=25), min_size=1, max_size=4))
def test_layers_mean_what_the_model_says(layers: list[list[tuple]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make_image(Path(folder) / "i", 32 * MIB)
        model: Model = {}
        with FileDevice(path) as device:
            for items in layers:
                apply_layer(device, io.BytesIO(layer(*run(model, items))))
        fsck(path)
        if can_mount():
            with mounted(path) as root:
                assert state(root) == {name: tuple(value) for name, value in model.items()}
