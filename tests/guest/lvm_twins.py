# SPDX-License-Identifier: Apache-2.0
"""The same LVM commands run by Lamella and by LVM2, and a comparison of their output and effects."""

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

from scripts.docker_stores.manual import PROFILE_TEXT

from lamella.cli.lvm import main_lvm
from lamella.devicemapper.client import DeviceMapper
from lamella.errors import LamellaError
from lamella.lvm.disks.scan import scan
from lamella.lvm.format.group_writer import Header, write_compact
from lamella.lvm.format.ids import without_dashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lamella.lvm.format.model import VolumeGroup

SETTINGS = "activation { monitoring=0 } backup { backup=0 archive=0 } devices { use_devicesfile=0 }"
LVS = (
    "lv_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,seg_count,chunk_size,transaction_id"
)
NOT_BACKED_UP = "WARNING: This metadata update is NOT backed up."
"""Printed by LVM2 alone where backups are disabled."""
PROFILE = "lamella-twins"
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


@dataclass(frozen=True)
class Output:
    """The exit code of a command, and the sorted lines of both its outputs."""

    code: int
    lines: tuple[str, ...]


@dataclass
class Twins:
    """Disks, and both programs restricted to them."""

    disks: list[str]
    log: list[str] = field(default_factory=list)
    settings: str = SETTINGS

    def run(self, program: str, line: str, answers: str = "") -> Output:
        """Run a command line with *program*: "ours" or "theirs"."""
        words = line.format(*self.disks).split()
        self.log.append(f"{program}: {' '.join(words)}")
        code, text = self.ours(words, answers) if program == "ours" else self.theirs(words, answers)
        text = re.sub(r"\[y/n\]: ?(\[n\])?\n?", "[y/n]:\n", text).replace(NOT_BACKED_UP, "")
        return Output(code, tuple(sorted(each.strip() for each in text.splitlines() if each.strip())))

    def ours(self, words: Sequence[str], answers: str = "") -> tuple[int, str]:
        out = io.StringIO()
        stdin, sys.stdin = sys.stdin, io.StringIO(answers)
        argv = ["--config", self.settings, "--devices", ",".join(self.disks), *words[1:]]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = main_lvm(words[0], argv)
        finally:
            sys.stdin = stdin
        return code, out.getvalue()

    def theirs(self, words: Sequence[str], answers: str = "") -> tuple[int, str]:
        accepted = ", ".join(f'"a|^{disk}$|"' for disk in self.disks)
        config = f'{self.settings} devices/filter=[ {accepted}, "r|.*|" ]'
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
        """The kernel's devices, the groups' texts and the links under /dev, without UUIDs, times, numbers."""
        found = scan(self.disks)
        try:
            groups = [each.group for each in found.groups]
        finally:
            found.close()
        text = "".join(write_compact(group, Header("", "", "", 0)) for group in groups)
        text = re.sub(r'id = "[^"]*"', "id", text)
        text = re.sub(r"(creation|removal)_time = \d+|creation_host = .*", "", text)
        return {"text": text, "kernel": kernel_devices(groups), "links": links(groups)}

    def reports(self) -> list[object]:
        """The reports, which have to be the same from both programs.

        Only we tell how full a pool is that is not active: from its own metadata.
        """
        both = []
        for words in REPORTS:
            line = [*words, "--reportformat", "json"]
            ours, theirs = self.ours(line), self.theirs(line)
            mine, judge = json.loads(ours[1] or "{}"), json.loads(theirs[1] or "{}")
            rows = [each["report"][0].get("lv", []) for each in (mine, judge)]
            for row, known in zip(*rows, strict=False):
                if "data_percent" in row and not row["lv_active"] and not known["data_percent"]:
                    row["data_percent"] = row["metadata_percent"] = ""
            differs = [pair for pair in zip(*rows, strict=False) if pair[0] != pair[1]]
            assert mine == judge, (differs, words, *self.log[-3:])
            both.append(judge)
        return both

    def metadata_is_sound(self, group: str, pool: str, folder: Path) -> None:
        """thin_check accepts the metadata of the pool, which must be inactive."""
        from lamella.lvm.disks.volume_device import open_lv

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
        """Deactivate and remove everything, in any state."""
        found = scan(self.disks)
        prefixes = tuple(f"LVM-{without_dashes(each.group.uuid)}" for each in found.groups)
        found.close()
        with DeviceMapper() as dm:
            for _round in range(5 if prefixes else 0):
                for name, _major, _minor in dm.list():
                    info = dm.find(name)
                    if info is not None and info.uuid.startswith(prefixes):
                        with contextlib.suppress(LamellaError):
                            if info.suspended:
                                dm.resume(name)
                            dm.remove(name)
        for disk in self.disks:
            with open(disk, "r+b") as stream:
                stream.write(bytes(1 << 20))
                stream.flush()
                os.fsync(stream.fileno())


def kernel_devices(groups: Sequence[VolumeGroup]) -> list[str]:
    """Name, owner, layer, flags, table and status of every active device of these groups."""
    owners = {
        f"LVM-{without_dashes(group.uuid)}": {without_dashes(lv.uuid): lv.name for lv in group.lvs.values()}
        for group in groups
    }
    lines = []
    # udev opens a new device to probe it.
    subprocess.run(["udevadm", "settle", "--timeout=60"], check=True)
    with DeviceMapper() as dm:
        infos = [info for info in (dm.find(name) for name, _major, _minor in dm.list()) if info]
        numbers = {info.number: info.name for info in infos}
        for info in infos:
            owned = owners.get(info.uuid[:36])
            if owned is None:
                continue
            owner = owned.get(info.uuid[36:68], "nobody") + info.uuid[68:]
            flags = f"open={info.open_count} ro={info.read_only} suspended={info.suspended}"
            lines.append(f"{info.name} is {owner} {flags} inactive={info.inactive_table}")
            for each in dm.table(info.name):
                line = re.sub(r"\b\d+:\d+\b", lambda m: numbers.get(m[0], m[0]), each.line)
                lines.append(f"{info.name} table {line}")
            lines += [f"{info.name} status {each.line}" for each in dm.status(info.name)]
    return sorted(lines)


def links(groups: Sequence[VolumeGroup]) -> list[str]:
    """Links under /dev to volumes of these groups, made by udev or by us."""
    prefixes = tuple(f"LVM-{without_dashes(group.uuid)}" for group in groups)
    nodes = set()
    for path in Path("/sys/block").glob("dm-*/dm/uuid") if prefixes else ():
        with contextlib.suppress(OSError):  # somebody else's device, which goes at this moment
            if path.read_text().startswith(prefixes):
                nodes.add(f"/dev/{path.parent.parent.name}")
    found = []
    for folder in ("/dev/mapper", *(f"/dev/{group.name}" for group in groups)):
        with contextlib.suppress(FileNotFoundError):
            found += [f"{folder}/{each}" for each in os.listdir(folder)]
    return sorted(each for each in found if os.path.realpath(each) in nodes)


@contextlib.contextmanager
def profile() -> Iterator[None]:
    """Install the walkthrough's profile."""
    path = Path("/etc/lvm/profile") / f"{PROFILE}.profile"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PROFILE_TEXT)
    try:
        yield
    finally:
        path.unlink()


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
