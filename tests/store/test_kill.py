# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments: what was finished stays, what was not is gone without a trace.

Every round forks a process that has everything imported already, kills it after a random time, and
looks at the store: its records, every file of its containers, and every file system that has changed. Set
LAMELLA_KILLS for another number of rounds in every mode (hundreds take longer than a test may:
``-o timeout=9000``), and LAMELLA_SEED for other ones.
"""

from __future__ import annotations

import io
import os
import random
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from lamella.errors import NotFoundError
from lamella.store import Store
from tests.support.cut_stores import Looker
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.stores import assert_sound, assert_sound_for_real_tools, disks_of, set_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KILLS = {"loop-lvm": 60, "direct-lvm": 60}
PER_STORE = 20
"""Rounds after which a fresh store begins, so that not all of them see an old one."""

COPIED = 24
"""Files that each copy into a container replaces; each has the number of that copy in every byte."""
LARGEST = 96 << 20
"""Bytes up to which a container is extended."""

Action = tuple[str, str, int]
"""What is done, to which image or container, and the number of the round."""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, mode: str) -> None:
    rounds = int(os.environ.get("LAMELLA_KILLS") or KILLS[mode])
    chance = random.Random(int(os.environ.get("LAMELLA_SEED") or 20_241))
    filler = [chance.randbytes(40_000) for _ in range(12)]
    layouts = {
        f"image{n}": write_oci_layout(
            tmp_path / f"layout{n}",
            [
                Sample(
                    layers=[
                        make_tar({f"common/{i}": data for i, data in enumerate(filler[:6])}),
                        make_tar({f"own{n}/{i}": data for i, data in enumerate(filler[n : n + 6])}),
                        make_tar({"common/.wh.0": b"", f"name{n}": b"x" * n}),
                    ],
                    references=[f"docker.io/library/image{n}:latest"],
                )
            ],
        )
        for n in range(4)
    }
    killed = finished = 0
    # The first command of each kind may end, to know how long one takes on this machine; then it goes up
    # and down until about half of them are over before they are killed.
    longest: dict[str, float] = {}
    root = tmp_path / "none"
    truth = Truth(tmp_path)
    for round_ in range(rounds):
        if round_ % PER_STORE == 0:
            if root.exists():
                assert_sound_for_real_tools(root, tmp_path)
                Store.open(root).teardown(force=True)
                for disk in disks_of(root):
                    disk.unlink(missing_ok=True)
            root = tmp_path / f"root{round_}"
            set_up(root, mode).close()
            truth = Truth(tmp_path)
        action = truth.choose(chance, list(layouts), round_)
        kind = action[0]
        child, done = begin(partial(carry_out, root, layouts, action))
        begun = time.monotonic()
        if kind in longest:
            time.sleep(chance.random() * longest[kind])
        else:
            select.select([done], [], [])
        took = time.monotonic() - begun
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(done, "rb") as pipe:
            reported = pipe.read()
        assert reported in (b"", b"done"), reported.decode()
        if kind not in longest:
            longest[kind] = 1.5 * took
        elif reported:
            finished += 1
            longest[kind] /= 1.1
        else:
            killed += 1
            longest[kind] *= 1.1
        truth.compare(root, action, finished=bool(reported))
    if rounds > PER_STORE:  # of fewer it is chance
        assert killed > rounds // 5
        assert finished > rounds // 10


def begin(work: Callable[[], None]) -> tuple[int, int]:
    """Fork a process that does *work* and writes "done", or what went wrong, to the descriptor given."""
    done, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        return child, done
    try:
        os.close(done)
        work()
        os.write(told, b"done")
        time.sleep(60)
    except BaseException as error:
        os.write(told, repr(error).encode())
    finally:
        os._exit(0)


def carry_out(root: Path, layouts: dict[str, Path], action: Action) -> None:
    kind, name, number = action
    if kind == "grow":
        Store.grow(root, data="+4M", metadata="+4M")
        return
    with Store.open(root) as store:
        if kind == "load":
            store.load(layouts[name])
        elif kind == "rmi":
            store.remove_image(name, force=True)
        elif kind == "create":
            store.create(name, name=f"c-{name}")
            store.copy_in(f"c-{name}", io.BytesIO(make_tar({f"c-{name}": b"m" * 200_000})), b"/")
        elif kind == "copy":
            store.copy_in(name, io.BytesIO(make_tar(copied(number))), b"/")
        elif kind == "resize":
            store.resize(name, 3 << 20, more=True)
        elif kind == "commit":
            store.commit(name, f"from-{name}")
        elif kind == "rm":
            store.remove_container(name)


def copied(number: int) -> dict[str, bytes | None]:
    """The files of copy *number*: always the same ones, of other sizes."""
    return {
        f"copied/{n:02}": bytes([number % 251]) * (1 + (n * 7919 * number) % 60_000) for n in range(COPIED)
    }


class Truth:
    """What has to be in the store: names of images and of containers, which of these have their file, what
    was last copied into each, and how large it is."""

    def __init__(self, folder: Path) -> None:
        self.looker = Looker(folder)
        self.images: set[str] = set()
        self.containers: set[str] = set()
        self.filled: set[str] = set()
        self.copies: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.grown = 0

    def choose(self, chance: random.Random, layouts: list[str], number: int) -> Action:
        actions = [("load", name) for name in layouts if name not in self.images] * 2
        actions += [("rmi", name) for name in self.images]
        actions += [("create", name) for name in self.images if f"c-{name}" not in self.containers]
        actions += [("commit", name) for name in self.containers] * 2
        actions += [("copy", name) for name in self.containers] * 4
        actions += [("resize", name) for name, size in self.sizes.items() if size < LARGEST]
        actions += [("rm", name) for name in self.containers]
        actions += [("grow", "")] if self.grown < 4 else []
        kind, name = chance.choice(actions)
        self.grown += kind == "grow"
        return kind, name, number

    def after(self, action: Action) -> tuple[set[str], set[str]]:
        kind, name, _ = action
        images, containers = set(self.images), set(self.containers)
        if kind == "load":
            images.add(name)
        elif kind == "rmi":
            images.discard(name)
        elif kind == "create":
            containers.add(f"c-{name}")
        elif kind == "commit":
            images.add(f"from-{name}")
        elif kind == "rm":
            containers.discard(name)
        return images, containers

    def compare(self, root: Path, action: Action, *, finished: bool) -> None:
        """The store is as after the action, or, unless it was finished, as before it; and sound."""
        assert_sound(root)
        with Store.open(root, read_only=True) as store:
            names = (name.removesuffix(":latest") for image in store.images() for name in image.references)
            found = set(names), {container.name for container in store.containers()}
            allowed = [self.after(action)] + ([] if finished else [(self.images, self.containers)])
            assert found in allowed, (action, finished)
            self.images, self.containers = found
            for name in self.images:
                with store.tree(name) as tree:
                    files = [entry for entry in tree.walk() if entry.size]
                    assert files
                    for entry in files:
                        assert sum(map(len, tree.read(entry.path))) == entry.size
            if finished and action[0] == "create":
                self.filled.add(f"c-{action[1]}")
            self.filled &= self.containers
            self.copies = {name: which for name, which in self.copies.items() if name in self.containers}
            for name in self.containers:
                doing = action[0] if action[1] == name else ""
                changes = {str(change) for change in store.diff(name)}
                self._compare_copy(store, name, doing, action[2], finished=finished)
                if name in self.copies:
                    names = [f"copied/{n:02}" for n in range(COPIED)]
                    changes -= {"A /copied", *(f"A /{each}" for each in names)}
                assert changes == {f"A /{name}"} or (changes == set() and name not in self.filled)
                if changes:
                    self.filled.add(name)
            self._compare_sizes(store, action, finished=finished)
            self.looker.forget()
            self.looker.check_file_systems(store)

    def _compare_copy(self, store: Store, name: str, doing: str, number: int, *, finished: bool) -> None:
        """All files are those of the last copy, or all those of the one that was killed."""
        with store.tree(name) as tree:
            try:
                names = [entry.path for entry in tree.ls(b"/copied")]
            except NotFoundError:
                names = []
            found = {path.decode(): b"".join(tree.read(path)) for path in names}
        allowed = [number] if doing == "copy" and finished else [self.copies.get(name)]
        if doing == "copy" and not finished:
            allowed.append(number)
        contents = [copied(which) if which is not None else {} for which in allowed]
        assert found in contents, (name, doing, finished)
        which = allowed[contents.index(found)]
        if which is not None:
            self.copies[name] = which

    def _compare_sizes(self, store: Store, action: Action, *, finished: bool) -> None:
        sizes = {container.name: container.size for container in store.containers()}
        for name, size in sizes.items():
            if action[:2] == ("resize", name):
                larger = self.sizes[name] + (3 << 20)
                assert size in ({larger} if finished else {self.sizes[name], larger})
            else:
                assert size == self.sizes.get(name, size)
        self.sizes = sizes
