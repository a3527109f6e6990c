# SPDX-License-Identifier: Apache-2.0
"""Debian's ``docker-registry`` on a loopback port, for as long as a ``with`` block lasts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.processes import wait_for_port

from tests.conftest import missing
from tests.support.images import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "lamella", "secret"
_HTPASSWD = "lamella:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
"""USER with bcrypt of PASSWORD at the lowest cost, so that no htpasswd program is needed."""


@dataclass
class Registry:
    """A running registry: ``host`` is what a reference begins with (``127.0.0.1:41234``)."""

    host: str
    storage: Path
    log: Path
    basic: bool = False
    tls: bool = False

    def push(self, source: str, name: str, *options: str) -> str:
        """Copy *source* (as skopeo names it: ``oci:/path:tag``) to *name* here; gives the full reference."""
        credentials = ["--dest-creds", f"{USER}:{PASSWORD}"] if self.basic else []
        run(
            "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *credentials, *options,
            source, f"docker://{self.host}/{name}",
        )  # fmt: skip
        return f"{self.host}/{name}"


def free_port() -> int:
    """A port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_config(folder: Path, port: int, *, basic: bool, certificate: tuple[Path, Path] | None) -> Path:
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
    }
    http_part: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
    if certificate is not None:
        http_part["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    config["http"] = http_part
    if basic:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "lamella-tests", "path": str(folder / "htpasswd")}}
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


@contextlib.contextmanager
def running_registry(
    folder: Path, *, basic: bool = False, certificate: tuple[Path, Path] | None = None
) -> Iterator[Registry]:
    """Start ``docker-registry`` with its files in *folder*; stopped at the end.

    *basic* asks for USER and PASSWORD; *certificate* is a (certificate, key) pair of PEM files for TLS.
    """
    program = shutil.which("docker-registry")
    if program is None:
        missing("the program docker-registry")
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = _write_config(folder, port, basic=basic, certificate=certificate)
    log = folder / "registry.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        if not wait_for_port(process, port):
            raise AssertionError(f"docker-registry ended at once:\n{log.read_text()}")
        yield Registry(f"127.0.0.1:{port}", folder / "storage", log, basic, certificate is not None)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
