# SPDX-License-Identifier: Apache-2.0
"""QEMU by software emulation, for what User-mode Linux cannot do; LAMELLA_GUEST_KVM=1 uses the hardware.

It boots Debian's own kernel with a small initrd made here. Needs no root.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.guest.cache import made_once, recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.guest.roots import Root

MODULES = ["crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio"]
"""The modules that the kernel needs to mount its root; built-in ones are skipped."""
INITRD_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for m in $(/bin/busybox cat /modules); do /bin/busybox insmod $m; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do i=$((i+1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/guest-init
"""


def command(
    root: Root,
    folders: Path,
    disks: Sequence[Path] = (),
    *,
    interactive: bool = False,
    more: Sequence[str] = (),
) -> list[str]:
    """The command line; *more* is put at its end. Writes to the root go to a file of QEMU's own.

    *folders* has links to the machine's folders that the guest sees, by the names in ``stub.sh``.
    """
    # /dev/kvm may be there and yet hang (nested virtualisation), so it is used only when asked for.
    kvm = os.environ.get("LAMELLA_GUEST_KVM") == "1"
    fast = ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    # The image is only read: others may have it open at the same time.
    image = f"file={root.image},file.locking=off,format=raw"
    line = ["qemu-system-x86_64", *fast, "-smp", "2", "-m", "4G", "-nodefaults", "-no-reboot", "-nographic",
            "-serial", "mon:stdio" if interactive else "null",
            "-kernel", str(root.folder / "kernel"), "-initrd", str(initrd(root)),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check",
            "-drive", f"{image},if=virtio,snapshot=on,cache=unsafe"]  # fmt: skip
    for name in ("share", "project", "packages"):
        only_read = "" if name == "share" else ",readonly=on"
        path = (folders / name).resolve()
        line += ["-virtfs", f"local,path={path},mount_tag={name},security_model=none{only_read}"]
    for disk in disks:
        line += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,discard=unmap"]
    return [*line, *more]


def initrd(root: Root) -> Path:
    key = recipe(str(root.folder), *MODULES, INITRD_INIT)
    return (
        made_once(f"initrd-{root.name}", key, lambda target: _make_initrd(root.folder, target / "initrd"))
        / "initrd"
    )


def _make_initrd(folder: Path, target: Path) -> None:
    home = folder / "modules"
    needs: dict[str, list[str]] = {}
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, after = line.partition(":")
        needs[path] = after.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    modules: list[Path] = []
    for name in MODULES:
        if name not in by_name:
            continue
        # modules.dep names the nearest dependency last first.
        for path in [*reversed(needs[by_name[name]]), by_name[name]]:
            if home / path not in modules:
                modules.append(home / path)
    inside = [f"/lib/{path.name}" for path in modules]
    files = {f"lib/{path.name}": path.read_bytes() for path in modules}
    files["bin/busybox"] = (folder / "busybox").read_bytes()
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
