# SPDX-License-Identifier: Apache-2.0
"""``lamella serve --metrics``: what the daemon does is in a scrape."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from tests.services.metrics.conftest import fetch, values
from tests.support.daemon import lamella, served

if TYPE_CHECKING:
    from pathlib import Path


def test_the_daemon_serves_what_it_does(root: Path) -> None:
    with served(root, "--metrics", "127.0.0.1:0", "--containerd") as daemon:
        found = re.search(r"serving metrics on (127\.0\.0\.1:\d+)", daemon.logged())
        assert found
        address = found[1]
        assert daemon.lamella("images").returncode == 0
        assert daemon.lamella("rm", "nobody").returncode == 3
        text = fetch(address).text
        assert fetch(address, "/healthz").status == 200
    assert values(text, "lamella_control_commands_total") == {"images,ok": 1, "rm,error": 1}
    assert values(text, "lamella_errors_total")["NotFoundError"] == 1
    assert values(text, "lamella_store_up") == {"": 1}
    assert values(text, "lamella_devices")["container"] == 1
    assert values(text, "process_open_fds")[""] > 0


def test_an_address_that_is_taken_ends_the_daemon_with_its_error(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = lamella(root, "serve", "--metrics", address)
    assert done.returncode == 5
    assert f"another process serves on {address} already" in done.stderr.decode()


def test_the_settings_of_a_runtime_are_those_without_a_daemon(root: Path, tmp_path: Path) -> None:
    words = ("setup", "--for", "kata", "--file", "config.toml")
    alone = lamella(root, *words, cwd=tmp_path)
    with served(root) as daemon:
        inside = daemon.lamella(*words, cwd=tmp_path)
        written = daemon.lamella(*words, "--write", "--yes", cwd=tmp_path)
    assert (alone.returncode, inside.returncode, written.returncode) == (0, 0, 0)
    assert inside.stdout == alone.stdout
    assert b"[proxy_plugins.lamella]" in (tmp_path / "config.toml").read_bytes()
