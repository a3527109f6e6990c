# SPDX-License-Identifier: Apache-2.0
"""Packages of Debian suites other than the machine's own, without a change to its lists; needs no root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.guest.folders import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


class AptError(Exception):
    """A package cannot be downloaded, or apt is missing; the text says which and why."""


class Apt:
    """Downloads packages as the apt configuration *config* finds them; None for the machine's own."""

    def __init__(self, config: Path | None, suite: str) -> None:
        self.suite = suite
        self._environment = os.environ | ({"APT_CONFIG": str(config)} if config else {})

    def _run(self, *command: str, folder: Path | None = None) -> str:
        try:
            done = subprocess.run(
                command, cwd=folder, env=self._environment, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise AptError(f"{command[0]} is not installed") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise AptError(f"{command[0]} {command[1]} in suite {self.suite}: {lines[-1]}")
        return done.stdout

    def update(self) -> None:
        self._run("apt-get", "update", "-q")

    def unpack(self, package: str, target: Path) -> None:
        """Unpack the newest *package* into the folder *target*. Raises :class:`AptError`."""
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            self._run("apt-get", "download", "-q", package, folder=Path(folder))
            (archive,) = Path(folder).glob("*.deb")
            self._run("dpkg-deb", "-x", str(archive), str(target))


def mirror() -> str:
    """The address from which this machine takes Debian's packages. Raises :class:`AptError`."""
    targets = Apt(None, "of this machine")._run(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(SUITE)", "Created-By: Packages"
    )
    for line in targets.splitlines():
        origin, address, suite = [*line.split(), "", "", ""][:3]
        if origin == "Debian" and not suite.endswith("-security"):
            return address
    raise AptError("this machine has no package lists of Debian's (apt-get update makes them)")


@contextmanager
def suite(name: str) -> Iterator[Apt]:
    """Debian's suite *name*, from the machine's own mirror, with temporary package lists."""
    with temporary_folder("apt-lists") as folder:
        for place in ("lists/partial", "archives/partial"):
            (folder / place).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb {mirror()} {name} main\n")
        config = folder / "apt.conf"
        config.write_text(
            f'Dir::State::Lists "{folder}/lists";\nDir::Cache "{folder}";\n'
            f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "-";\n'
            # A mirror may be some weeks old; its packages are signed all the same.
            'Acquire::Check-Valid-Until "false";\n'
            # The package index alone: no translations and descriptions, which are as large again.
            'Acquire::Languages "none";\nAPT::Sandbox::User "";\n'
            'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        )
        apt = Apt(config, name)
        apt.update()
        yield apt
