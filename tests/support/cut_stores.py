# SPDX-License-Identifier: Apache-2.0
"""Stores cut off by a power cut: what a store's commands write is recorded, and each moment looked at.

The pool's two files are recorded, or the two disks that its volumes lie on, from the set-up on. With each of
their writes the store's small files (``state.db`` with its log or journal, the settings) are kept as they
were then; those are durable when their writer returns. A cut leaves the devices as :class:`Recording` says,
with what was not flushed lost, torn and reordered, and the small files of that moment.

:meth:`CutStore.look` raises where a cut leaves anything but the state before or after the step that it fell
in, every file system clean. :func:`every_command` and :func:`at_random` say what is cut off.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from lamella.block import FileDevice
from lamella.driver import backends
from lamella.driver.backend import PoolDevices
from lamella.driver.direct_lvm.backend import DirectLvm
from lamella.driver.loop_lvm.backend import LoopLvm
from lamella.errors import LamellaError, NotFoundError
from lamella.fs.ext4.io_manager import Channel
from lamella.store import Store
from lamella.store.catalog import Catalog
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.recording import Crash, Recording, RecordingDevice
from tests.support.stores import disks_of, options_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lamella.block import BlockDevice
    from lamella.driver.options import Options

    Step = Callable[[Path], object]

MIB = 1 << 20
LOOP_SIZES = {"metadata": 4 * MIB, "data": 128 * MIB}
FSCK = "e2fsck"


class Lasting(FileDevice):
    """Stays open when it is given up, for commands that open the same disk one after the other."""

    def close(self) -> None:
        pass


class OnDevices(LoopLvm):
    """loop-lvm whose two devices are given: metadata and data."""

    given: list[BlockDevice]
    made = True

    def exists(self) -> bool:
        return self.made

    def create(self, options: Options) -> None:
        for device in self.given:
            if any(device.data_ranges()):
                device.write_zeros(0, device.size)
        type(self).made = True

    def open(self, *, read_only: bool = False) -> PoolDevices:
        return PoolDevices(*self.given)

    def grow(self, devices: PoolDevices, options: Options) -> list[str]:
        sizes = (
            ("dm.loopmetadatasize", options.loop_metadata_size),
            ("dm.loopdatasize", options.loop_data_size),
        )
        for device, (key, size) in zip(self.given, sizes, strict=True):
            if key in options.given and size > device.size:
                assert isinstance(device, RecordingDevice)
                device.resize(size)
        return []

    def remove(self) -> list[str]:
        return []

    def host_space(self) -> None:
        return None


@contextmanager
def stores_on(mode: str, devices: dict[str, BlockDevice], *, made: bool = True) -> Iterator[None]:
    """Within the block stores of *mode* lie on *devices*: of loop-lvm the metadata and the data, of
    direct-lvm its disks by their paths. *made*: whether the pool's files are there."""
    if mode == "loop-lvm":
        kind: Any = type("OnThese", (OnDevices,), {"given": [*devices.values()], "made": made})
    else:
        kind = partial(DirectLvm, opener=lambda path, read_only: devices[path])
    with patch.dict(backends.MODES, {mode: kind}):
        yield


def small_files(root: Path) -> dict[str, bytes]:
    """The store's own files: what is not the pool, nor the lock, nor scratch."""
    found = {}
    for name in sorted(os.listdir(root)) if root.exists() else []:
        if name in KEPT or (name.startswith("state.db") and not name.endswith("-shm")):
            try:
                found[name] = (root / name).read_bytes()
            except FileNotFoundError:
                continue
    return found


KEPT = ("config.toml", "direct-lvm.json", "devices")


@dataclass(frozen=True)
class Contents:
    """What a store holds: each image and container with a digest of its tree, and the devices' sizes."""

    trees: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    base: int = 0


class Looker:
    """Looks at stores from outside; what was seen of a volume is known the next time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trees: dict[str, str] = {}
        self.clean: set[str] = set()
        self._volumes: dict[str, str] = {}

    def forget(self) -> None:
        """The volumes may have changed since."""
        self._volumes = {}

    def contents(self, store: Store) -> Contents:
        state = store.devices.state
        catalog = Catalog(state)
        things = [(str(name), catalog.device_of(image.top)) for image, name in _named(store, catalog)]
        things += [(container.name, container.device) for container in catalog.containers()]
        sizes = {device.hash: device.size for device in state.devices()}
        trees = tuple((name, self._tree(store, name, device)) for name, device in sorted(things))
        return Contents(trees, tuple((name, sizes[device]) for name, device in sorted(things)), sizes["base"])

    def _tree(self, store: Store, name: str, device: str) -> str:
        volume = self._volume(store, device)
        if volume not in self.trees:
            digest = hashlib.sha256()
            with store.tree(name) as tree:
                for entry in tree.walk():
                    digest.update(repr(entry).encode())
                    if entry.size:
                        digest.update(b"".join(tree.read(entry.path)))
            self.trees[volume] = digest.hexdigest()
        return self.trees[volume]

    def _volume(self, store: Store, device: str) -> str:
        if device not in self._volumes:
            self._volumes[device] = self._digest(store, device)
        return self._volumes[device]

    def _digest(self, store: Store, device: str) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        with store.devices.volume(device) as volume:
            digest.update(str(volume.size).encode())
            for offset, length in volume.data_ranges():
                for start in range(offset, offset + length, MIB):
                    digest.update(str(start).encode())
                    digest.update(volume.read(start, min(MIB, offset + length - start)))
        return digest.hexdigest()

    def check(self, store: Store) -> None:
        """Raise unless the store is sound, to our own check and to e2fsck."""
        found = store.check()
        assert not found.problems, found.problems
        assert not found.leaks
        state = store.devices.state
        assert state.note() is None
        devices = state.devices()
        assert store.devices.pool.device_ids() == {device.device_id for device in devices}
        assert len(devices) == 1 + len(Catalog(state).layers()) + len(store.containers())
        self.check_file_systems(store)

    def check_file_systems(self, store: Store) -> None:
        """Raise unless e2fsck finds every file system clean."""
        for device in store.devices.state.devices():
            volume = self._volume(store, device.hash)
            if volume not in self.clean:
                self._fsck(store, device.hash)
                self.clean.add(volume)

    def _fsck(self, store: Store, device: str) -> None:
        image = self.folder / "image.ext4"
        with store.devices.volume(device) as volume, FileDevice.create(image, volume.size) as file:
            for offset, length in volume.data_ranges():
                for start in range(offset, offset + length, MIB):
                    file.write(start, volume.read(start, min(MIB, offset + length - start)))
        done = subprocess.run([FSCK, "-fn", image], capture_output=True, text=True, check=False)
        image.unlink()
        assert done.returncode == 0, f"{device}\n{done.stdout}{done.stderr}"


def contents(store: Store) -> Contents:
    """What an open store holds."""
    return Looker(store.root).contents(store)


def _named(store: Store, catalog: Catalog) -> Iterator[tuple[Any, str]]:
    for image in catalog.images():
        for name in catalog.references(image.id):
            yield image, str(name)


@dataclass
class Cuts:
    """How many moments were looked at, and after which steps the store was found."""

    events: int
    steps: int
    points: int = 0
    found: set[int] = field(default_factory=set)


class CutStore:
    """A store of *mode* in *folder*, whose writes are recorded while :meth:`step` changes it."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.mode = mode
        self.root = folder / "root"
        self.options = options_for(mode, self.root)
        (folder / "recording").mkdir()
        self.recording = Recording(folder / "recording", watch=lambda: small_files(self.root))
        if mode == "loop-lvm":
            self.files = [Lasting.create(folder / name, size) for name, size in LOOP_SIZES.items()]
            self.options += [f"dm.loop{name}size={size}" for name, size in LOOP_SIZES.items()]
        else:
            self.files = [Lasting(path) for path in disks_of(self.root)]
        self.paths = [file.name for file in self.files]
        self.devices: dict[str, BlockDevice] = {
            path: self.recording.wrap(file, os.path.basename(path))
            for path, file in zip(self.paths, self.files, strict=True)
        }
        self.looker = Looker(folder)
        self.states: list[Contents | None] = [None]
        self.names: list[str] = []

    def set_up(self) -> None:
        """The first step."""
        with stores_on(self.mode, self.devices, made=False):
            Store.setup(self.root, mode=self.mode, storage_options=self.options).close()
        self._finished("set-up")

    def step(self, name: str, action: Step) -> None:
        """One command, with what it opens and closes; ext4's cache is so small that it writes in between."""
        small_cache = patch.dict(Channel.__init__.__kwdefaults__, cache_limit=1 << 18)
        with stores_on(self.mode, self.devices), small_cache:
            action(self.root)
        self._finished(name)

    def _finished(self, name: str) -> None:
        self.recording.mark(len(self.states))
        self.names.append(name)
        self.recording.recording = False
        with stores_on(self.mode, self.devices), Store.open(self.root, read_only=True) as store:
            self.looker.forget()
            self.states.append(self.looker.contents(store))
        self.recording.recording = True

    def look(self, chance: random.Random, *, every: int = 1, subsets: int = 1) -> Cuts:
        """Look at what each cut leaves. Raises :class:`AssertionError` that names the moment."""
        cuts = Cuts(self.recording.events, len(self.names))
        for crash in self.recording.crashes(chance, every=every, subsets=subsets):
            cuts.points += 1
            try:
                cuts.found.add(self._look_at(crash, thoroughly=not cuts.points % 40))
            except Exception as error:
                finished = max(crash.finished, default=0)
                during = self.names[finished] if finished < len(self.names) else "nothing"
                raise AssertionError(f"{crash.what}, during {during}: {error}") from error
        return cuts

    def _look_at(self, crash: Crash, *, thoroughly: bool) -> int:
        """Which state the store is in."""
        finished = max(crash.finished, default=0)
        place = self.folder / "crashed"
        (place / "run").mkdir(parents=True)
        for name, content in crash.beside.items():
            (place / name).write_bytes(content)
        devices = dict(zip(self.paths, crash.devices.values(), strict=True))
        with stores_on(self.mode, devices):
            try:
                opened = Store.open(place)
            except NotFoundError:
                assert finished == 0, "the set-up was finished"
                opened = Store.setup(place, mode=self.mode, storage_options=self.options)
            with opened as store:
                self.looker.forget()
                self.looker.check(store)
                found = self.looker.contents(store)
                # Everything finished is there; of the step that was cut off there is all or nothing.
                allowed = self.states[finished : finished + 2]
                assert found in allowed, f"{found} is not in {allowed}"
                if thoroughly:
                    self._go_on(store)
            if thoroughly:
                with Store.open(place, read_only=True) as store:
                    self.looker.check(store)
        shutil.rmtree(place)
        return self.states.index(found, finished)

    def _go_on(self, store: Store) -> None:
        """The next commands find nothing in their way."""
        for container in store.containers():
            store.copy_in(container.id, io.BytesIO(make_tar({"after": b"a" * 70_000})), b"/")
        store.load(layouts(self.folder)[0])
        store.remove_container(store.create("image0").id)
        self.looker.forget()
        self.looker.check(store)

    def close(self) -> None:
        self.recording.close()
        for file in self.files:
            FileDevice.close(file)


# -- what is cut off ---------------------------------------------------------------------------------


def layouts(folder: Path) -> list[Path]:
    """Three images, of which two have a layer in common."""
    made = [folder / f"layout{number}" for number in range(3)]
    chance = random.Random(7)
    for number, layout in enumerate(made):
        data = [chance.randbytes(200_000), chance.randbytes(70_000)]
        if layout.exists():
            continue
        layers = [
            make_tar({"etc/": None, "etc/hostname": b"x", "data": b"d" * 150_000, "more/": None}),
            make_tar({"etc/hostname": b"y" * 5000 * number, **{f"more/{n}": b"z" * n for n in range(40)}}),
            make_tar({".wh.data": b"", "first": data[0], "last": data[1]}),
        ]
        reference = f"docker.io/library/image{number}:latest"
        write_oci_layout(layout, [Sample(layers=layers if number else layers[:2], references=[reference])])
    return made


def command(action: Callable[[Store], object]) -> Step:
    """A step that opens the store, does *action* and closes it."""

    def run(root: Path) -> None:
        with Store.open(root) as store:
            action(store)

    return run


def copy(chance: random.Random, container: str, *, size: int = 150_000, broken: bool = False) -> Step:
    """Some files, of which many are there already, with other content. *broken*: it ends in an error."""
    files: dict[str, bytes | None] = {"etc/hostname": chance.randbytes(chance.randrange(9000))}
    for number in range(chance.randrange(3, 30)):
        files[f"many/{chance.randrange(40):02}-{'n' * 60}"] = chance.randbytes(chance.randrange(300))
        if not number % 4:
            files[f"large/{chance.randrange(3)}"] = chance.randbytes(chance.randrange(size))
    archive = make_tar(files | {"end": chance.randbytes(100_000)})
    if broken:
        archive = archive[: -chance.randrange(20_000, 90_000)]

    def run(store: Store) -> None:
        try:
            store.copy_in(container, io.BytesIO(archive), b"/")
        except LamellaError:
            assert broken
        else:
            assert not broken

    return command(run)


def grow(mode: str, data: int, metadata: int) -> Step:
    """More room for data and metadata, in bytes."""
    if mode == "direct-lvm":
        return lambda root: Store.grow(root, data=f"+{data}", metadata=f"+{metadata}")

    def run(root: Path) -> None:
        with Store.open(root, read_only=True) as store:
            devices = store.devices.devices
            sizes = devices.data.size + data, devices.metadata.size + metadata
        options = [f"dm.loopdatasize={sizes[0]}", f"dm.loopmetadatasize={sizes[1]}"]
        Store.setup(root, storage_options=options).close()

    return run


def grow_base(size: int) -> Step:
    return lambda root: Store.setup(root, storage_options=[f"dm.basesize={size}"]).close()


def every_command(folder: Path, mode: str) -> Iterator[tuple[str, Step]]:
    """Each command that writes, once, and copies into containers that were written to before."""
    chance = random.Random(3)
    yield "load", command(lambda store: store.load(layouts(folder)[1]))
    yield "create", command(lambda store: store.create("image1", name="web"))
    yield "copy", copy(chance, "web")
    yield "copy over it", copy(chance, "web")
    yield "copy that fails", copy(chance, "web", broken=True)
    yield "resize", command(lambda store: store.resize("web", 80 * MIB))
    yield "grow", grow(mode, 8 * MIB, 4 * MIB)
    yield "copy after it", copy(chance, "web")
    yield "commit", command(lambda store: store.commit("web", "mine"))
    yield "create larger", command(lambda store: store.create("mine", name="large", size=96 * MIB))
    yield "copy into that", copy(chance, "large")
    yield "grow the base", grow_base(72 * MIB)
    yield "load another", command(lambda store: store.load(layouts(folder)[2]))
    yield "remove container", command(lambda store: store.remove_container("web"))
    yield "remove image", command(lambda store: store.remove_image("image1", force=True))
    yield "remove another", command(lambda store: store.remove_image("image2"))


def at_random(
    folder: Path, mode: str, chance: random.Random, count: int, state: Callable[[], Contents]
) -> Iterator[tuple[str, Step]]:
    """*count* commands, most of them copies into containers; *state* gives what the store holds."""
    for made in range(count):
        found = state()
        images = [name for name, _ in found.trees if ":" in name]
        containers = [(name, size) for name, size in found.sizes if ":" not in name]
        what = chance.choice(
            ["copy"] * 8 + ["fail"] * 2 + ["load", "create", "commit", "rm", "rmi", "resize", "resize"]
            + ["grow", "base"] * (chance.random() < 0.3)
        )  # fmt: skip
        if not images or what == "load":
            yield "load", command(partial(_load, layouts(folder)[chance.randrange(3)]))
        elif what == "grow":
            yield "grow", grow(mode, 4 * MIB, 4 * MIB)
        elif what == "base":
            yield "grow the base", grow_base(found.base + 4 * MIB)
        elif what == "rmi" and len(images) > 1:
            yield "remove image", command(partial(_remove_image, chance.choice(images)))
        elif not containers or (what == "create" and len(containers) < 4):
            yield "create", command(partial(_create, chance.choice(images), f"c{made}"))
        else:
            container, size = chance.choice(containers)
            if what == "rm":
                yield "remove container", command(partial(_remove, container))
            elif what == "commit" and len(images) < 5:
                yield "commit", command(partial(_commit, container, f"made{made}"))
            elif what == "resize" and size < 128 * MIB:
                yield "resize", command(partial(_resize, container, size + MIB * chance.randrange(1, 20)))
            else:
                yield what, copy(chance, container, broken=what == "fail")


def _load(layout: Path, store: Store) -> None:
    store.load(layout)


def _create(image: str, name: str, store: Store) -> None:
    store.create(image, name=name)


def _commit(container: str, name: str, store: Store) -> None:
    store.commit(container, name)


def _remove(container: str, store: Store) -> None:
    store.remove_container(container)


def _remove_image(image: str, store: Store) -> None:
    store.remove_image(image, force=True)


def _resize(container: str, size: int, store: Store) -> None:
    store.resize(container, size)
