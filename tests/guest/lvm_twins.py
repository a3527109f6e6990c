# SPDX-License-Identifier: Apache-2.0
"""The same LVM commands by our program and by LVM2, and all that can be seen of their effect afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli.lvm import main_lvm
from lamella.devicemapper.client import DeviceMapper
from lamella.lvm.devices import scan
from lamella.lvm.group_writer import Header, write_compact

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = (
    'activation { monitoring=0 } backup { backup=0 archive=0 } devices { use_devicesfile=0 hints="none" }'
)
LVS = (
    "lv_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,seg_count,chunk_size,transaction_id"
)
REPORTS = (
    [
        "lvs",
        "-a",
        "-o",
        f"{LVS},lv_profile,lv_active,lv_permissions,lv_kernel_major,lv_when_full,lv_device_open",
    ],
    ["lvs", "-a", "-o", "lv_name,seg_pe_ranges,devices,zero,discards,thin_id,lv_path,lv_layout,lv_role"],
    ["vgs", "-o", "vg_name,vg_attr,vg_size,vg_free,lv_count,pv_count,vg_seqno"],
    ["pvs", "-o", "pv_name,vg_name,pv_attr,pv_size,pv_free,pv_used"],
)
ID = re.compile(r"\w{6}(?:-\w{4}){5}-\w{6}")


@dataclass(frozen=True)
class Said:
    """What a command answered; lines of both streams in the order of the alphabet."""

    code: int
    lines: tuple[str, ...]


@dataclass
class Twins:
    """Disks, and both programs working on nothing else."""

    disks: list[str]
    log: list[str] = field(default_factory=list)

    def run(self, program: str, line: str, answers: str = "") -> Said:
        """One command line by "ours" or "theirs"."""
        words = line.format(*self.disks).split()
        self.log.append(f"{program}: {' '.join(words)}")
        code, text = self.ours(words, answers) if program == "ours" else self.theirs(words, answers)
        text = re.sub(r"\[y/n\]: ?(\[n\])?\n?", "[y/n]:\n", text)
        return Said(code, tuple(sorted(each.strip() for each in text.splitlines() if each.strip())))

    def ours(self, words: Sequence[str], answers: str = "") -> tuple[int, str]:
        out = io.StringIO()
        stdin, sys.stdin = sys.stdin, io.StringIO(answers)
        argv = ["--config", SETTINGS, "--devices", ",".join(self.disks), *words[1:]]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = main_lvm(words[0], argv)
        finally:
            sys.stdin = stdin
        return code, out.getvalue()

    def theirs(self, words: Sequence[str], answers: str = "") -> tuple[int, str]:
        accepted = ", ".join(f'"a|^{disk}$|"' for disk in self.disks)
        config = f'{SETTINGS} devices/filter=[ {accepted}, "r|.*|" ]'
        done = subprocess.run(
            ["lvm", words[0], "--config", config, *words[1:]],
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )
        return done.returncode, done.stdout

    # -- what is there afterwards ----------------------------------------------------------------

    def picture(self) -> dict[str, object]:
        """The kernel's devices and the groups' texts, without UUIDs, times and numbers."""
        return {"kernel": self.kernel(), "text": self.text(), "names": names_of(self.groups())}

    def groups(self) -> dict[str, dict[str, str]]:
        """By the group's UUID without hyphens: names of its volumes, likewise by UUID."""
        found = scan(self.disks)
        try:
            return {
                each.group.uuid.replace("-", ""): {
                    lv.uuid.replace("-", ""): lv.name for lv in each.group.lvs.values()
                }
                for each in found.groups
            }
        finally:
            found.close()

    def kernel(self) -> list[str]:
        """Name, owner, layer, flags, table and status of every device that LVM has made here."""
        owners = self.groups()
        lines = []
        with DeviceMapper() as dm:
            infos = [info for info in (dm.find(name) for name, _major, _minor in dm.list()) if info]
            numbers = {info.number: info.name for info in infos}
            for info in infos:
                if not info.uuid.startswith("LVM-"):
                    continue
                group, lv, layer = info.uuid[4:36], info.uuid[36:68], info.uuid[68:]
                if group not in owners:
                    continue
                flags = f"open={info.open_count} ro={info.read_only} suspended={info.suspended}"
                owner = owners[group].get(lv, "nobody")
                lines.append(f"{info.name} {owner}{layer} {flags} {info.inactive_table}")
                for each in dm.table(info.name):
                    line = re.sub(r"\b\d+:\d+\b", lambda m: numbers.get(m[0], m[0]), each.line)
                    lines.append(f"{info.name} table {line}")
                lines += [f"{info.name} status {each.line}" for each in dm.status(info.name)]
        return sorted(lines)

    def text(self) -> str:
        """The groups as text, without what differs between two runs of the same commands."""
        found = scan(self.disks)
        try:
            text = "".join(write_compact(each.group, Header("", "", "", 0)) for each in found.groups)
        finally:
            found.close()
        text = re.sub(r'id = "[^"]*"', "id", text)
        return re.sub(r"creation_time = \d+|creation_host = .*", "", text)

    def reports(self) -> list[object]:
        """The reports, which both programs must give alike."""
        both = []
        for words in REPORTS:
            line = [*words, "--reportformat", "json"]
            ours, theirs = self.ours(line), self.theirs(line)
            mine, judge = json.loads(ours[1] or "{}"), json.loads(theirs[1] or "{}")
            assert mine == judge, (words, *self.log[-3:])
            both.append(judge)
        return both

    def metadata_is_sound(self, group: str, pool: str, folder: Path) -> None:
        """thin_check is content with the pool's metadata; the pool must not be active."""
        from lamella.lvm.volume_device import open_lv

        found = scan(self.disks)
        try:
            owner = next(each for each in found.groups if each.group.name == group)
            segment = owner.group.lvs[pool].thin_pool
            assert segment is not None
            device = open_lv(owner, segment.metadata, read_only=True)
            copy = folder / "metadata"
            with copy.open("wb") as stream:
                for start in range(0, device.size, 1 << 20):
                    stream.write(device.read(start, min(1 << 20, device.size - start)))
        finally:
            found.close()
        done = subprocess.run(["thin_check", str(copy)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def clean(self) -> None:
        """Everything down and gone, whatever state it is in."""
        with DeviceMapper() as dm:
            prefixes = tuple(f"LVM-{uuid}" for uuid in self.groups())
            for _round in range(5):
                for name, _major, _minor in dm.list():
                    info = dm.find(name)
                    if info is not None and prefixes and info.uuid.startswith(prefixes):
                        with contextlib.suppress(Exception):
                            if info.suspended:
                                dm.resume(name)
                            dm.remove(name)
        for disk in self.disks:
            with open(disk, "r+b") as stream:
                stream.write(bytes(1 << 20))
                stream.flush()
                os.fsync(stream.fileno())


def names_of(groups: dict[str, dict[str, str]]) -> list[str]:
    """The links under /dev of the volumes of these groups: udev's work, or ours."""
    owned = {f"LVM-{group}{lv}" for group, lvs in groups.items() for lv in lvs}
    found = []
    for uuid_file in Path("/sys/block").glob("dm-*/dm/uuid"):
        if uuid_file.read_text().strip()[:68] not in owned:
            continue
        node = f"/dev/{uuid_file.parent.parent.name}"
        name = (uuid_file.parent / "name").read_text().strip()
        link = Path("/dev/mapper") / name
        found.append(f"{link}: {link.exists() and os.path.realpath(link) == node}")
        for folder in {Path("/dev") / name.partition("-")[0]}:
            if folder.is_dir():
                found += [str(each) for each in folder.iterdir() if os.path.realpath(each) == node]
    return sorted(found)


def attach(folder: Path, sizes: Sequence[int]) -> list[str]:
    """Loop devices over sparse files of these sizes, in the order of their numbers."""
    made = []
    for number, size in enumerate(sizes):
        path = folder / f"disk{number}"
        with path.open("wb") as stream:
            stream.truncate(size)
        done = subprocess.run(
            ["losetup", "-f", "--show", str(path)], stdout=subprocess.PIPE, text=True, check=True
        )
        made.append(done.stdout.strip())
    return made
