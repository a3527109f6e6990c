# SPDX-License-Identifier: Apache-2.0
"""A store whose disk is served by another program, which dies and comes back."""

from __future__ import annotations

import io
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lamella.block import nbd
from lamella.cli.lvm import main_lvm
from lamella.errors import LamellaError, NetworkError, NoSpaceError
from lamella.store import Store
from tests.support.cut_stores import contents
from tests.support.images import Sample, make_tar, write_oci_layout
from tests.support.nbd import PROGRAMS, serve
from tests.support.stores import REMOTE, assert_sound, assert_sound_for_real_tools, served, set_up, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.support.nbd import Server

pytestmark = pytest.mark.user_engine  # the kernel has no way to these disks
DISK = 320 << 20
KILLS = 20
MOST_ANSWERS = 60
"""Between two kills of the server."""
OPTIONS = ["dm.basesize=64M", "dm.blocksize=64K", "dm.thinp_percent=80", "dm.thinp_metapercent=2"]


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path: Path) -> Iterator[Server]:
    made = serve(request.param, tool(request.param), tmp_path / "disk", DISK)
    yield made
    made.kill()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    chance = random.Random(3)
    layers = [
        make_tar({"etc/": None, "etc/hostname": b"x", "data": chance.randbytes(2_000_000)}),
        make_tar({"etc/hostname": b"y" * 5000, **{f"{n}": chance.randbytes(9000) for n in range(100)}}),
        make_tar({".wh.data": b"", "last": chance.randbytes(700_000)}),
    ]
    return write_oci_layout(tmp_path / "layout", [Sample(layers=layers)])


def steps(layout: Path, folder: Path) -> list[Callable[[Store], object]]:
    """One of each kind of command."""

    def added() -> io.BytesIO:
        return io.BytesIO(make_tar({"etc/hostname": b"mine\n", "add": b"a" * 900_000}))

    return [
        lambda store: store.load(layout),
        lambda store: store.create("sample", name="web"),
        lambda store: store.copy_in("web", added(), b"/"),
        lambda store: store.commit("web", "mine"),
        lambda store: store.save(["mine"], folder / "mine.tar"),
        lambda store: store.create("mine", name="two", size=96 << 20),
        lambda store: store.remove_container("web"),
        lambda store: store.remove_image("sample"),
    ]


def states(root: Path, actions: list[Callable[[Store], object]], between: Callable[[], None]) -> list[object]:
    found = []
    for action in actions:
        with opened(root) as store:
            action(store)
            found.append((contents(store), [str(change) for change in changes(store)]))
        between()
    return found


def opened(root: Path) -> Store:
    """The store, as soon as its disk can be reached: a first connection fails at once, and tells so."""
    end = time.monotonic() + 60
    while True:
        store = Store.open(root, wait=60)  # the server being forked holds our lock for a moment
        try:
            store.info()
        except NetworkError:
            store.close()
            if time.monotonic() > end:
                raise
        else:
            return store


def changes(store: Store) -> list[object]:
    return [change for container in store.containers() for change in store.diff(container.name)]


def expected(tmp_path: Path, layout: Path) -> list[object]:
    """What a loop-lvm store says after each step."""
    (tmp_path / "plain").mkdir()
    set_up(tmp_path / "plain/root", "loop-lvm").close()
    return states(tmp_path / "plain/root", steps(layout, tmp_path / "plain"), lambda: None)


def test_everything_with_restarts_in_between(server: Server, tmp_path: Path, layout: Path) -> None:
    root = tmp_path / "root"
    options = [*OPTIONS, f"dm.directlvm_device={server.uri}"]
    Store.setup(root, mode="direct-lvm", storage_options=options).close()

    def restart() -> None:
        server.kill()
        server.start()

    restart()
    assert states(root, steps(layout, tmp_path), restart) == expected(tmp_path, layout)
    assert_sound(root)
    assert_sound_for_real_tools(root, tmp_path)
    restart()
    with Store.open(root) as store:
        assert [node.name for node in store.map()] == [server.uri]
        assert store.teardown(force=True) == []
    assert not root.exists()


@pytest.mark.parametrize("held", REMOTE)
def test_a_full_pool_and_a_grown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, tool: Callable[[str], str]
) -> None:
    """Two disks, and then a third one, on servers that are killed and started again at each step."""
    tool(REMOTE[held])
    root = tmp_path / "root"
    monkeypatch.setenv("LAMELLA_ROOT", str(root))
    big = make_tar({f"{n}": random.Random(n).randbytes(8 << 20) for n in range(5)})
    layout = write_oci_layout(tmp_path / "big", [Sample(layers=[make_tar({"a": b"1"}), big])])
    with served(root, held) as servers, served(tmp_path / "more", held) as more:

        def restart() -> None:
            for server in (*servers, *more):
                server.kill()
            for server in (*servers, *more):
                server.start()

        def lvm(*words: str) -> None:
            restart()
            assert main_lvm(words[0], list(words[1:])) == 0

        set_up(root, held, "dm.thinp_percent=10").close()
        restart()
        before = state_of(root)
        with Store.open(root) as store:
            restart()
            with pytest.raises(NoSpaceError, match="chunks"):
                store.load(layout)
        restart()
        assert state_of(root) == before
        assert_sound(root)
        lvm("vgextend", "docker", more[0].uri)
        lvm("lvextend", "-l", "+60%VG", "docker/thinpool")
        lvm("lvextend", "--poolmetadatasize", "+8M", "docker/thinpool")
        restart()
        assert state_of(root) == before
        with Store.open(root) as store:
            restart()
            store.load(layout)
            restart()
            store.create("sample", name="web")
        restart()
        assert_sound(root)
        assert_sound_for_real_tools(root, tmp_path)
        with Store.open(root) as store:
            on_them = {node.name for node in store.map() if node.children}
            assert on_them == {server.uri for server in (*servers, more[0])}


class Trouble:
    """Kills the server when it has answered so and so often, in the midst of an answer, and starts it again.

    Counted in answers and not in time, so that it comes upon the same work on any machine, and a slow one
    gets on in between.
    """

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.chance = random.Random(4)
        self.kills = 0
        self.left = self.chance.randrange(MOST_ANSWERS)
        self.starter = ThreadPoolExecutor(1)  # one for all: an nbdkit ends with the thread that started it
        self.starting: Future[None] | None = None
        plain = nbd.NbdDevice._receive

        def receive(device: nbd.NbdDevice, length: int) -> bytes:
            self.answered()
            return plain(device, length)

        monkeypatch.setattr(nbd.NbdDevice, "_receive", receive)

    def answered(self) -> None:
        self.left -= 1
        if self.left >= 0 or self.kills == KILLS:
            return
        self.end()
        self.kills += 1
        self.left = self.chance.randrange(MOST_ANSWERS)
        self.server.kill()
        self.starting = self.starter.submit(self.start)

    def start(self) -> None:
        time.sleep(self.chance.uniform(0, 0.2))  # it is away for a while
        self.server.start()

    def end(self) -> None:
        """The server is there again."""
        if self.starting is not None:
            self.starting.result()


@pytest.mark.slow
def test_restarts_in_the_middle(
    server: Server, tmp_path: Path, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at random moments while a command works: the command waits, and goes on."""
    root = tmp_path / "root"
    options = [*OPTIONS, f"dm.directlvm_device={server.uri}"]
    Store.setup(root, mode="direct-lvm", storage_options=options).close()
    with monkeypatch.context() as patch:
        trouble = Trouble(server, patch)
        try:
            found = states(root, steps(layout, tmp_path), lambda: None)
        finally:
            trouble.end()
            trouble.starter.shutdown()
    assert trouble.kills == KILLS
    server.kill()
    server.start()
    assert found == expected(tmp_path, layout)
    assert_sound(root)


def test_a_server_that_stays_away(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error, and the store as before when the server is back."""
    root = tmp_path / "root"
    options = [*OPTIONS, f"dm.directlvm_device={server.uri}"]
    with Store.setup(root, mode="direct-lvm", storage_options=options) as store:
        store.load(write_oci_layout(tmp_path / "one", [Sample(layers=[make_tar({"a": b"1"})])]))
    plain = nbd.NbdDevice.__init__

    def impatient(self: nbd.NbdDevice, uri: str, **words: object) -> None:
        plain(self, uri, **{**words, "timeout": 0.2})  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(nbd.NbdDevice, "__init__", impatient)
    server.kill()
    with Store.open(root) as store, pytest.raises(LamellaError) as caught:
        store.create("sample")
    assert server.socket in caught.value.message
    assert caught.value.hint
    server.start()
    assert_sound(root)
    with Store.open(root) as store:
        store.create("sample", name="back")
        server.kill()
        with pytest.raises(LamellaError):
            store.create("sample", name="gone")
        server.start()
    with Store.open(root) as store:
        assert store.check().problems == []
        assert "gone" not in [container.name for container in store.containers()]
