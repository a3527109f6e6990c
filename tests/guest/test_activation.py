# SPDX-License-Identifier: Apache-2.0
"""Activation: the same devices as LVM2's, and each program deactivates those of the other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lamella.cli.lvm import main_lvm
from lamella.lvm.disks.volume_device import open_lv
from lamella.lvm.operations.thin_messages import opened_pool
from lamella.lvm.session.environment import LVM_RUN, Environment
from lamella.lvm.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
GROUP = "la-act"
FIELDS = (
    "lv_name,lv_attr,lv_active,lv_active_locally,lv_active_remotely,lv_active_exclusively,lv_device_open,"
    "lv_suspended,lv_live_table,lv_inactive_table,lv_kernel_major,lv_kernel_minor,lv_kernel_read_ahead,"
    "lv_permissions,data_percent,snap_percent,metadata_percent,copy_percent,sync_percent,seg_monitor,"
    "lv_health_status,lv_check_needed,lv_merge_failed,lv_snapshot_invalid,kernel_discards,lv_dm_path,lv_path,"
    "lv_layout,lv_role,lv_modules,lv_skip_activation,lv_size,pool_lv,origin,lv_parent,lv_full_name"
)
MAKE = """
lvcreate -y -an -Zn -Wn -l 10 -n lin {vg}
lvcreate -y -an -Zn -Wn -i 2 -I 64k -l 20 -n str {vg}
lvcreate -y -an -Zn -Wn -l 5 -n mul-ti {vg} {a}
lvcreate -y -an -Zn -Wn -l 3 -n gap {vg} {a}
lvextend -l +4 {vg}/mul-ti {a}
lvextend -l +7 {vg}/mul-ti {b}
lvcreate -y -an -Zn -Wn -pr -l 3 -n ro {vg}
lvcreate -y -an -Zn -Wn -ky -l 3 -n skip {vg}
lvcreate -y -an -Zn -Wn -l 3 --addtag mark -n tagged {vg}
lvcreate -y -an -Zn -Wn -l 3 -r 512 -n ahead {vg}
lvcreate -y --type thin-pool -c 64k -l 20 --poolmetadatasize 4m -n po-ol {vg}
lvcreate -V 1g -T {vg}/po-ol -n t1
lvcreate -V 300m -T {vg}/po-ol -n t-2
lvcreate -s -n s1 {vg}/t1
lvcreate -s -kn -n s2 {vg}/s1
lvchange -pr {vg}/t-2
lvcreate -y -an -Zn -Wn -pr -l 5 -n orig {vg}
lvcreate -s --thinpool {vg}/po-ol -n ext {vg}/orig
lvcreate -y --type thin-pool -Zn --discards nopassdown -c 192k -l 9 -n foreign {vg}
lvchange --errorwhenfull y {vg}/foreign
"""


def run(*command: str, code: int = 0) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )
    assert done.returncode == code, f"{' '.join(command)}: {done.returncode} {done.stderr}{done.stdout}"
    return done.stdout + (done.stderr if code else "")


class Group:
    """A volume group on two loop devices, for LVM2's commands and ours."""

    def __init__(self, folder: Path) -> None:
        self.devices = []
        for number in range(2):
            path = folder / f"disk{number}"
            with path.open("wb") as stream:
                stream.truncate(400 * MIB)
            self.devices.append(run("losetup", "-f", "--show", str(path)).strip())
        accepted = ", ".join(f'"a|^{device}$|"' for device in self.devices)
        self.config = (
            f'devices {{ filter=[ {accepted}, "r|.*|" ] use_devicesfile=0 }} '
            "activation { monitoring=0 thin_pool_autoextend_threshold=70 } backup { backup=0 archive=0 }"
        )

    def real(self, command: str, *arguments: str, code: int = 0) -> str:
        return run("/sbin/" + command, "--config", self.config, *arguments, code=code)

    def ours(self, command: str, *arguments: str, code: int = 0) -> None:
        chosen = [word for device in self.devices for word in ("--devices", device)]
        assert main_lvm(command, [*chosen, "--config", self.config, *arguments]) == code

    def close(self) -> None:
        for name in sorted(_names(), key=len, reverse=True):
            subprocess.run(["umount", f"/dev/mapper/{name}"], check=False, capture_output=True)
        with contextlib.suppress(AssertionError):
            self.real("vgchange", "-an", GROUP)
        for name in _names():
            subprocess.run(["dmsetup", "remove", "--force", name], check=False, capture_output=True)
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=False)


def _names() -> list[str]:
    lines = run("dmsetup", "ls").splitlines()
    return [line.split()[0] for line in lines if line.startswith(GROUP.replace("-", "--") + "-")]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    made = Group(tmp_path_factory.mktemp("activation"))
    try:
        # After each write to a disk udev probes it, and may activate volumes.
        made.real("vgcreate", "-y", "--setautoactivation", "n", GROUP, *made.devices)
        commands = MAKE.format(vg=GROUP, a=made.devices[0], b=made.devices[1]).strip().splitlines()
        script = "\n".join(commands)
        done = subprocess.run(  # one process for all: starting LVM2 is what takes long here
            ["/sbin/lvm"],
            input="\n".join(_with_config(line, made.config) for line in script.splitlines()),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )
        names = made.real("lvs", "--noheadings", "-o", "lv_name", GROUP).split()
        assert len(names) == 16, done.stdout + done.stderr
        made.real("vgchange", "-an", GROUP)
        yield made
    finally:
        made.close()


def _with_config(line: str, config: str) -> str:
    command, _, rest = line.partition(" ")
    return f"{command} --config '{config}' {rest}"


def kernel() -> dict[str, Any]:
    """The group's devices: tables with names in place of numbers, information, links, udev's flags."""
    names = {}
    found: dict[str, Any] = {}
    for line in run("dmsetup", "info", "-c", "--noheadings", "--separator", " ", "-o",
                    "name,uuid,major,minor,attr,open,segments,read_ahead").splitlines():  # fmt: skip
        name, uuid, major, minor, *rest = line.split()
        names[f"{major}:{minor}"] = name
        if name in _names():
            found[name] = {"uuid": uuid, "rest": rest, "number": f"{major}:{minor}"}
    for line in run("dmsetup", "table").splitlines():
        name, _, table = line.partition(": ")
        if name in found:
            words = [names.get(word, word) for word in table.split()]
            found[name].setdefault("table", []).append(words)
    run("udevadm", "settle")
    for device in found.values():
        text = Path(f"/run/udev/data/b{device.pop('number')}").read_text()
        device["udev"] = sorted(
            line for line in text.splitlines()
            if re.match(r"S:|E:DM_(UDEV_DISABLE|UDEV_LOW|SUBSYSTEM|NAME|UUID|LV_|VG_)", line)
        )  # fmt: skip
    return found


def report(text: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(text)["report"][0]["lv"]
    return sorted(rows, key=lambda row: row["lv_name"])


CHOICES = [
    ("vgchange", "-ay", GROUP),
    ("lvchange", "-ay", f"{GROUP}/t1"),
    ("lvchange", "-ay", "-K", f"{GROUP}/ext"),
    ("lvchange", "-ay", f"{GROUP}/po-ol"),
    ("lvchange", "-ay", "@mark"),
]


@pytest.mark.parametrize("command", CHOICES, ids=lambda words: "_".join(words[1:]).replace("/", "."))
def test_the_same_devices(group: Group, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    group.real(*command)
    theirs = kernel()
    wanted = report(group.real("lvs", "-a", "--reportformat", "json", "-o", FIELDS, GROUP))
    capsys.readouterr()
    group.ours("lvs", "-a", "--reportformat", "json", "-o", FIELDS, GROUP)
    assert report(capsys.readouterr().out) == wanted
    group.ours("vgchange", "-an", GROUP)
    assert capsys.readouterr().out == f'  0 logical volume(s) in volume group "{GROUP}" now active\n'
    assert _names() == []
    group.ours(*command)
    assert kernel() == theirs
    group.real("vgchange", "-an", GROUP)
    assert _names() == []


def test_one_after_the_other(group: Group) -> None:
    """Volumes that share a pool and an origin are activated and deactivated one by one, as by LVM2."""
    steps = [
        ("-ay", "-K", f"{GROUP}/ext"),
        ("-ay", f"{GROUP}/orig"),
        ("-ay", f"{GROUP}/po-ol"),
        ("-an", f"{GROUP}/ext"),
        ("-an", f"{GROUP}/orig"),
        ("-an", f"{GROUP}/po-ol"),
    ]
    seen: list[list[list[str]]] = []
    for change in (group.real, group.ours):
        seen.append([])
        for step in steps:
            change("lvchange", *step)
            seen[-1].append(sorted(_names()))
    assert seen[0] == seen[1]
    assert seen[1][-1] == []


def test_volumes_in_use_stay(group: Group, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    group.ours("lvchange", "-ay", f"{GROUP}/lin")
    node = f"/dev/{GROUP}/lin"
    run("mkfs.ext4", "-q", node)
    run("mount", node, str(tmp_path))
    try:
        for command, arguments in (("lvchange", ["-an", f"{GROUP}/lin"]), ("vgchange", ["-an", GROUP])):
            theirs = group.real(command, *arguments, code=5)
            capsys.readouterr()
            group.ours(command, *arguments, code=5)
            captured = capsys.readouterr()
            assert captured.out + captured.err == theirs
    finally:
        run("umount", str(tmp_path))
    group.ours("lvchange", "-an", f"{GROUP}/lin")
    assert _names() == []


@contextlib.contextmanager
def damaged(group: Group, name: str) -> Iterator[None]:
    """Overwrite the volume's 19 blocks after the first one; restore them at the end."""
    with Session(group.devices, Environment(command_line="test", hints_dir=LVM_RUN)) as session:
        volume = open_lv(session.find(GROUP), name)
        kept = volume.read(4096, 19 * 4096)
        volume.write(4096, bytes(range(256)) * 16 * 19)
        volume.flush()
    try:
        yield
    finally:
        with Session(group.devices, Environment(command_line="test", hints_dir=LVM_RUN)) as session:
            volume = open_lv(session.find(GROUP), name)
            volume.write(4096, kept)
            volume.flush()


def test_a_damaged_pool_is_refused(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    with damaged(group, "po-ol_tmeta"):
        theirs = group.real("lvchange", "-ay", f"{GROUP}/t1", code=5)
        left = _names()
        capsys.readouterr()
        group.ours("lvchange", "-ay", f"{GROUP}/t1", code=5)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[0] == theirs.splitlines()[0]
        assert _names() == left == []
    group.ours("lvchange", "-ay", f"{GROUP}/t1")
    group.ours("lvchange", "-an", f"{GROUP}/t1")


def test_a_foreign_transaction_id_is_refused(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    """A pool that was changed without LVM is not activated, and no device of the attempt remains."""
    group.ours("lvchange", "-ay", f"{GROUP}/t1")
    pool = f"{GROUP.replace('-', '--')}-po--ol-tpool"
    run("dmsetup", "message", pool, "0", "set_transaction_id 5 9")
    group.ours("lvchange", "-an", f"{GROUP}/t1")
    try:
        theirs = group.real("lvchange", "-ay", f"{GROUP}/t1", code=5)
        left = _names()
        capsys.readouterr()
        group.ours("lvchange", "-ay", f"{GROUP}/t1", code=5)
        shown = capsys.readouterr().err.splitlines()[0]
        assert "transaction_id is 9, while expected 5." in shown
        assert shown == theirs.splitlines()[0]
        assert _names() == left == []
    finally:
        with Session(group.devices, Environment(command_line="test", hints_dir=LVM_RUN)) as session:
            found = session.find(GROUP)
            with opened_pool(found, found.group.lvs["po-ol"]) as engine:
                engine.set_transaction_id(9, 5)
