# SPDX-License-Identifier: Apache-2.0
"""A guest that runs a script: the choice of monitor, shared folders, time limit and output."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from scripts.guest import qemu, uml
from scripts.guest.folders import temporary_folder
from scripts.guest.packages import PROJECT, packages
from scripts.guest.process import kill, scratch_folder, start
from scripts.guest.roots import Root, root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DEFAULT_ROOT = "docker20"


@cache
def user_mode_linux() -> uml.UserModeLinux | None:
    """User-mode Linux, or None for QEMU, as available and by LAMELLA_GUEST; prints the choice once.

    Raises :class:`SystemExit` if LAMELLA_GUEST is invalid or its choice is not available.
    """
    wanted = os.environ.get("LAMELLA_GUEST", "")
    if wanted not in ("", "uml", "qemu"):
        raise SystemExit(f"LAMELLA_GUEST={wanted}: uml or qemu")
    found, reason = None, "LAMELLA_GUEST=qemu"
    if wanted != "qemu":
        try:
            found = uml.UserModeLinux()
        except uml.Unusable as error:
            reason = str(error)
            if wanted == "uml":
                raise SystemExit(f"User-mode Linux cannot be used: {reason}") from None
    print(f"guest: {found or f'QEMU ({reason})'}", file=sys.stderr, flush=True)
    return found


@dataclass(frozen=True)
class Machine:
    """The configuration of a guest: a root, and what the host shares with it.

    *share* is seen at /share; *disks* (raw files) as GUEST_DISKSb and so on.
    """

    root: Root
    share: Path
    disks: Sequence[Path] = ()

    @contextlib.contextmanager
    def folders(self) -> Iterator[Path]:
        """A folder of links to the shared folders, so that no path with blanks is on a command line."""
        with temporary_folder("guest-links", scratch_folder()) as folder:
            links = {"share": self.share, "project": PROJECT, "packages": packages(self.root.python)}
            for name, path in links.items():
                (folder / name).symlink_to(path.resolve())
            yield folder

    @contextlib.contextmanager
    def started(self, *, interactive: bool = False) -> Iterator[subprocess.Popen[bytes]]:
        """A running guest, killed at the end of the block with all its processes."""
        kernel = user_mode_linux()
        with self.folders() as folders:
            if kernel is None:
                line = qemu.command(self.root, folders, self.disks, interactive=interactive)
            else:
                disks = [disk.resolve() for disk in self.disks]
                line = kernel.command(self.root.image, folders, folders, disks, interactive)
            console = None if interactive else (self.share / "console").open("wb")
            # User-mode Linux finds its loader by a path relative to its folder.
            process = start(line, console, None if kernel is None else kernel.folder)
            try:
                yield process
            finally:
                if interactive:
                    process.kill()  # it is in our own process group
                    process.wait()
                else:
                    kill(process)
                if console is not None:
                    console.close()

    def write_script(self, script: str) -> None:
        """Write the script that the guest will run."""
        (self.share / "run.sh").write_text(script)
        for name in ("output", "exit-code"):
            (self.share / name).unlink(missing_ok=True)

    def printed(self) -> str:
        """The output of the script up to now."""
        output = self.share / "output"
        return output.read_text(errors="replace") if output.exists() else ""

    def run(self, script: str, timeout: float) -> tuple[int, str]:
        """Run *script* in a fresh guest; gives its exit code and output. Raises ``TimeoutError``."""
        self.write_script(script)
        with self.started() as process:
            try:
                process.wait(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(
                    f"the guest took more than {timeout:g} s; it had printed:\n{self.printed()}"
                ) from None
        code = self.share / "exit-code"
        if code.exists():
            return int(code.read_text()), self.printed()
        said = (self.share / "console").read_text(errors="replace")
        return -1, f"{self.printed()}the guest ended before its script did:\n{said[-2000:]}"


def boot(
    script: str, share: Path, disks: Sequence[Path] = (), timeout: float = 1800, name: str = DEFAULT_ROOT
) -> tuple[int, str]:
    """Run *script* in a fresh guest with root *name*, as :meth:`Machine.run` does."""
    return Machine(root(name), share, disks).run(script, timeout)


def boot_each(script: str, words: Sequence[str], timeout: float, name: str = DEFAULT_ROOT) -> int:
    """Run *script* with each of *words* as $1 in its own guest; 0 if all exit codes are 0.

    One guest more than there are processors run side by side, as a guest waits for half of its time; each
    prints when it has ended. The first words begin first, so the longest should be there.
    """
    user_mode_linux()
    there = root(name)
    packages(there.python)

    def one(word: str) -> int:
        with temporary_folder("share") as share:
            try:
                code, output = Machine(there, share).run(f"set -- {word}\n{script}", timeout)
            except TimeoutError as error:
                code, output = 124, f"{error}\n"
        print(f"== guest {word}: exit code {code}\n{output}", end="", flush=True)
        return code

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as guests:
        return max(guests.map(one, words), key=abs)


def shell(machine: Machine) -> int:
    """A prompt in the guest."""
    machine.write_script("")
    marker = machine.share / "interactive"
    marker.touch()
    try:
        with machine.started(interactive=True) as process:
            return process.wait()
    finally:
        marker.unlink()
        if sys.stdin.isatty() and shutil.which("stty"):
            subprocess.run(["stty", "sane"], check=False)
