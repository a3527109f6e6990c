# SPDX-License-Identifier: Apache-2.0
"""A small store with a small image in it, made once in every mode and copied for each test.

A test that uses such a store runs in all modes, unless it is marked ``loop_lvm`` or ``direct_lvm``. One
that is marked ``remote`` runs also over disks that another program serves, which is killed and started
again before every command of the store; not with the kernel's engine, which cannot have such disks.

With ``LAMELLA_TEST_ENGINE=kernel``, in the guest, the stores use the kernel's engine. Tests about what the
user engine does inside are marked ``user_engine``, and left out then.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.store import Store
from tests.support.images import Sample, write_docker_archive, write_oci_layout
from tests.support.stores import (
    KERNEL,
    MODES,
    REMOTE,
    assert_sound,
    copy_store,
    lvm_settings,
    served,
    set_up,
    state_of,
    take_down,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.nbd import Server


DMEVENTD = Path("/run/dmeventd.pid")


@pytest.fixture(scope="session")
def sample_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with the three-layer sample."""
    return write_oci_layout(tmp_path_factory.mktemp("sample") / "layout", [Sample()])


@pytest.fixture(scope="session")
def sample_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a docker-archive."""
    return write_docker_archive(tmp_path_factory.mktemp("sample") / "docker.tar", [Sample()])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mode" in metafunc.fixturenames:
        marked = {mark.name.replace("_", "-") for mark in metafunc.definition.iter_markers()}
        modes = [mode for mode in MODES if mode in marked] or [*MODES]
        modes += REMOTE if "remote" in marked and not KERNEL else []
        metafunc.parametrize("mode", modes, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    other = "user_engine" if KERNEL else "kernel_engine"
    left_out = [item for item in items if item.get_closest_marker(other) is not None]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The engine that is tested; nothing of a test stays in the kernel."""
    monkeypatch.setenv("LAMELLA_ENGINE", "kernel" if KERNEL else "user")
    yield
    for config in (*tmp_path.glob("config.toml"), *tmp_path.glob("*/config.toml")) if KERNEL else ():
        take_down(config.parent)
    if KERNEL:  # udev is much slower than these tests, and answers for a device once it has come to it
        subprocess.run(["udevadm", "settle"], check=False)


@pytest.fixture(scope="session", autouse=True)
def _lvm_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """LVM's folders in a temporary place, and none of the machine's disks."""
    before = DMEVENTD.exists()
    with lvm_settings(tmp_path_factory.mktemp("lvm")):
        yield
    if KERNEL and DMEVENTD.exists() and not before:  # it has these settings, and no disks to grow a pool with
        with suppress(OSError):
            os.kill(int(DMEVENTD.read_text()), signal.SIGTERM)


@pytest.fixture(scope="session")
def _loaded_root(
    tmp_path_factory: pytest.TempPathFactory, sample_layout: Path, mode: str, tool: Callable[[str], str]
) -> Path:
    if mode in REMOTE:
        tool(REMOTE[mode])
    root = tmp_path_factory.mktemp("stores") / "loaded"
    with pytest.MonkeyPatch.context() as patch, served(root, mode):
        patch.setenv("LAMELLA_ENGINE", "kernel" if KERNEL else "user")
        with set_up(root, mode) as store:
            store.load(sample_layout)
        take_down(root)
    return root


@pytest.fixture(scope="session")
def copy_root() -> Callable[[Path, Path], Path]:
    """Copies a store, holes and all."""
    return copy_store


@pytest.fixture
def empty_root(
    tmp_path: Path, mode: str, tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A store that was set up, with nothing in it."""
    if mode in REMOTE:
        tool(REMOTE[mode])
    with served(tmp_path / "root", mode) as servers:
        set_up(tmp_path / "root", mode).close()
        _restart_before_every_command(servers, monkeypatch)
        yield tmp_path / "root"


@pytest.fixture
def root(
    tmp_path: Path,
    _loaded_root: Path,
    copy_root: Callable[[Path, Path], Path],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A store with the image ``sample:latest``."""
    copied = copy_root(_loaded_root, tmp_path / "root")
    with served(copied, mode) as servers:
        _restart_before_every_command(servers, monkeypatch)
        yield copied


COMMANDS = (
    "check", "commit", "copy_in", "copy_out", "create", "diff", "export", "info",
    "load", "remove_container", "remove_image", "save", "tree",
)  # fmt: skip


def _restart_before_every_command(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the servers and start them again whenever an open store is given something to do."""

    def restarting(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def restart_first(*words: Any, **named: Any) -> Any:
            for server in servers:
                server.kill()
            for server in servers:
                server.start()
            return command(*words, **named)

        return restart_first

    if servers:
        for name in COMMANDS:
            monkeypatch.setattr(Store, name, restarting(getattr(Store, name)))


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """The same, open for writing."""
    with Store.open(root) as opened:
        yield opened


@pytest.fixture
def unchanged(root: Path) -> Iterator[Path]:
    """A store that has to be as it was when the test is over."""
    before = state_of(root)
    yield root
    assert state_of(root) == before
    assert_sound(root)
