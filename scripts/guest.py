#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with a real kernel, device-mapper, LVM2 and Docker, in QEMU: `guest.py build|run|shell`.

`build` makes the root image and the initrd once, from the machine's own package sources, and keeps them in
LAMELLA_GUEST_CACHE (or ~/.cache/lamella-guest). `run SCRIPT` boots a fresh copy-on-write guest with a folder
shared at /share, runs the script in it, prints its output and exits with its code. `shell` gives a prompt.
No hardware virtualisation is needed; LAMELLA_GUEST_KVM=1 uses it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = "bookworm"
PACKAGES = (
    *("linux-image-amd64", "udev", "kmod", "busybox-static", "procps", "iproute2", "util-linux", "mount"),
    *("lvm2", "dmsetup", "thin-provisioning-tools", "e2fsprogs", "xfsprogs", "attr", "acl", "zstd"),
    *("docker.io", "containerd", "runc", "ca-certificates", "qemu-utils", "nbdkit", "fio"),
    *("python3", "python3-venv"),
)
MODULES = ["crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio"]
PROJECT = Path(__file__).resolve().parents[1]

GUEST_INIT = """#!/bin/sh
# Runs as process 1 of the guest: sets up, runs the shared script, powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run; mkdir -p /run/lock /run/lvm; mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$c > /sys/fs/cgroup/cgroup.subtree_control; done
mkdir -p /share /project
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 share /share
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,ro project /project
ip link set lo up
hostname guest
/lib/systemd/systemd-udevd --daemon 2>/dev/null
for m in dm_mod dm_thin_pool dm_flakey overlay loop xfs; do modprobe $m; done
udevadm trigger --action=add; udevadm settle
export PYTHONPATH=/share/packages:/project/src:/project
cd /share
if [ -e /share/interactive ]; then
    setsid -c /bin/bash -i </dev/ttyS0 >/dev/ttyS0 2>&1
else
    sh /share/run.sh >/share/output 2>&1
    echo $? >/share/exit-code
fi
sync
echo o >/proc/sysrq-trigger
sleep 60
"""

INITRD_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for m in $(/bin/busybox cat /modules); do /bin/busybox insmod $m; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do i=$((i+1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/guest-init
"""


def cache() -> Path:
    """The folder that keeps this recipe's guest."""
    recipe = hashlib.sha256("\n".join([SUITE, *PACKAGES, *MODULES, GUEST_INIT, INITRD_INIT]).encode())
    home = os.environ.get("LAMELLA_GUEST_CACHE") or Path.home() / ".cache" / "lamella-guest"
    return Path(home) / recipe.hexdigest()[:12]


def build() -> Path:
    """Make the guest unless it is there; gives its folder (root.img, kernel, initrd)."""
    folder = cache()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "initrd").exists():
            return folder
        for old in folder.parent.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
        work = folder.parent / "new"
        work.mkdir()
        print("Building the guest (about two minutes)...", file=sys.stderr, flush=True)
        root = work / "root"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}",
             "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
             SUITE, str(root)],
            check=True, stdout=sys.stderr,
        )  # fmt: skip
        init = root / "sbin" / "guest-init"
        init.write_text(GUEST_INIT)
        init.chmod(0o755)
        kernel = next((root / "boot").glob("vmlinuz-*"))
        release = kernel.name.removeprefix("vmlinuz-")
        shutil.copy(kernel, work / "kernel")
        _make_initrd(root, release, work / "initrd")
        image = work / "root.img"
        subprocess.run(
            ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", str(root), str(image), "6G"], check=True
        )
        shutil.rmtree(root)
        work.rename(folder)
    return folder


def _make_initrd(root: Path, release: str, target: Path) -> None:
    home = root / "lib" / "modules" / release
    needs: dict[str, list[str]] = {}
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, after = line.partition(":")
        needs[path] = after.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    modules: list[Path] = []
    for name in MODULES:
        # modules.dep names the nearest dependency last first.
        for path in [*reversed(needs[by_name[name]]), by_name[name]]:
            if home / path not in modules:
                modules.append(home / path)
    inside = [f"/lib/{path.name}" for path in modules]
    files = {f"lib/{path.name}": path.read_bytes() for path in modules}
    files["bin/busybox"] = (root / "bin" / "busybox").read_bytes()
    files["init"] = INITRD_INIT.encode()
    files["modules"] = "\n".join(inside).encode() + b"\n"
    archive = b"".join(_cpio(name, 0o40755, b"") for name in ("bin", "lib", "proc", "dev", "root"))
    archive += b"".join(_cpio(name, 0o100755, data) for name, data in files.items())
    target.write_bytes(archive + _cpio("TRAILER!!!", 0, b""))


def _cpio(name: str, mode: int, data: bytes) -> bytes:
    """One member of a newc archive (the format of Linux's initramfs)."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def packages(target: Path) -> None:
    """Lamella's own dependencies, for the guest's Python, taken from the package index as wheels."""
    wanted = ("numpy>=1.26", "google-crc32c", "isal", "zstandard", "platformdirs", "urllib3")
    testing = ("pytest", "hypothesis", "pytest-timeout")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--target", str(target), "--python-version", "3.11", "--implementation", "cp",
         "--only-binary", ":all:", *wanted, *testing],
        check=True,
    )  # fmt: skip


def command(
    folder: Path, share: Path, disks: list[Path], interactive: bool, more: Sequence[str] = ()
) -> list[str]:
    """The QEMU command line; *more* is put at its end."""
    # /dev/kvm may be there and yet hang (nested virtualisation), so it is used only when asked for.
    kvm = os.environ.get("LAMELLA_GUEST_KVM") == "1"
    fast = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    line = ["qemu-system-x86_64", *fast, "-smp", "2", "-m", "4G", "-nodefaults", "-no-reboot", "-nographic",
            "-serial", "mon:stdio" if interactive else "null",
            "-kernel", str(folder / "kernel"), "-initrd", str(folder / "initrd"),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check",
            "-drive", f"file={folder / 'root.img'},format=raw,if=virtio,snapshot=on,cache=unsafe",
            "-virtfs", f"local,path={share},mount_tag=share,security_model=none",
            "-virtfs", f"local,path={PROJECT},mount_tag=project,security_model=none,readonly=on"]  # fmt: skip
    for disk in disks:
        line += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,discard=unmap"]
    return [*line, *more]


def prepare(script: str, share: Path) -> Path:
    """Fill *share* for a guest that runs *script*; gives the guest's folder."""
    folder = build()
    kept = folder.parent / f"packages-{platform.machine()}"
    if not kept.exists():
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
        packages(fresh)
        with contextlib.suppress(OSError):
            fresh.rename(kept)
    with contextlib.suppress(FileExistsError):
        shutil.copytree(kept, share / "packages", symlinks=True)
    (share / "run.sh").write_text(script)
    for name in ("output", "exit-code"):
        (share / name).unlink(missing_ok=True)
    return folder


def printed(share: Path) -> str:
    """What the script has printed up to now."""
    output = share / "output"
    return output.read_text(errors="replace") if output.exists() else ""


def boot(script: str, share: Path, disks: list[Path], timeout: float) -> tuple[int, str]:
    """Run *script* in a fresh guest; gives its exit code and output.

    *share* is seen at /share; *disks* (raw files) are /dev/vdb and so on. Raises ``TimeoutError``.
    """
    folder = prepare(script, share)
    try:
        subprocess.run(
            command(folder, share, disks, False), timeout=timeout, check=True, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(
            f"the guest took more than {timeout:g} s; it had printed:\n{printed(share)}"
        ) from error
    code = share / "exit-code"
    return (int(code.read_text()) if code.exists() else -1), printed(share)


def boot_each(script: str, words: Sequence[str], timeout: float) -> int:
    """Run *script* with each of *words* as its $1, each in a guest of its own; 0 if all gave that."""

    def one(word: str) -> int:
        with tempfile.TemporaryDirectory(prefix=f"lamella-guest-{word}-") as share:
            try:
                code, output = boot(f"set -- {word}\n{script}", Path(share), [], timeout)
            except (TimeoutError, subprocess.CalledProcessError) as error:
                code, output = 124, f"{error}\n"
        print(f"== guest {word}: exit code {code}\n{output}", end="", flush=True)
        return code

    with ThreadPoolExecutor(len(words)) as guests:
        return max(guests.map(one, words), key=abs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("build", "run", "shell"))
    parser.add_argument("script", nargs="?", type=Path)
    parser.add_argument(
        "--disk", type=Path, action="append", default=[], help="a raw file, as /dev/vdb and on"
    )
    parser.add_argument("--share", type=Path, help="the folder seen at /share (default: a new one)")
    parser.add_argument(
        "--each", nargs="+", metavar="WORD", help="run the script once with each word, in guests side by side"
    )
    parser.add_argument("--timeout", type=float, default=1800, help="seconds (default 1800)")
    args = parser.parse_args()
    folder = build()
    if args.action == "build":
        print(folder)
        return 0
    if args.each and (args.share or args.disk):
        parser.error("--each makes several guests, which cannot have one share or disk")
    if args.each:
        return boot_each(args.script.read_text(), args.each, args.timeout)
    share = args.share or Path(tempfile.mkdtemp(prefix="lamella-guest-"))
    if args.action == "shell":
        (share / "interactive").touch()
        return subprocess.run(command(folder, share, args.disk, True), check=False).returncode
    code, output = boot(args.script.read_text(), share, args.disk, args.timeout)
    print(output, end="")
    return code


if __name__ == "__main__":
    sys.exit(main())
