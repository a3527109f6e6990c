# SPDX-License-Identifier: Apache-2.0
"""What is on the disks before a session."""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from lamella.lvm.format.checksum import lvm_crc
from lamella.lvm.format.label import EXTENSION, EXTENSION_VERSION, find_label, pack_label
from tests.lvm.differential.programs import ours, real

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lvm.differential.disks import Disks


def apart(disks: Disks) -> None:
    """Two groups with volumes on disks of their own, and one group with another extent size."""
    a, b, c, d, e = disks.devices
    _real(
        disks,
        f"vgcreate vg {a} {b} {c}",
        f"vgcreate other {d}",
        f"vgcreate -s1m g3 {e}",
        f"lvcreate -l3 -n a vg {a}",
        f"lvcreate -l3 -n b vg {b}",
        f"lvcreate -l4 -i2 -n str vg {b} {c}",
        "lvcreate -l2 -n c other",
        "vgchange --addtag t1 vg",
        "vgchange --addtag t2 other",
    )


def empty(disks: Disks) -> None:
    """Nothing."""


def orphans(disks: Disks) -> None:
    """Physical volumes in no group, of several kinds."""
    a, b, c, *_ = disks.devices
    _real(disks, f"pvcreate {a}", f"pvcreate --pvmetadatacopies 2 {b}", f"pvcreate --pvmetadatacopies 0 {c}")


def volumes(disks: Disks) -> None:
    """A group of linear and striped volumes with tags, and one spare disk."""
    a, b, c, d, _e = disks.devices
    _real(
        disks,
        f"vgcreate vg {a} {b} {c}",
        "lvcreate -L8m -n a vg --addtag t1",
        "lvcreate -i2 -L16m -n b vg",
        "lvcreate -l7 -n lv1 vg -pr",
        "vgchange --addtag t2 vg",
        f"pvchange --addtag t1 {b}",
        f"pvcreate {d}",
    )


def two(disks: Disks) -> None:
    """Two groups, one without spare space."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"vgcreate -s1m vg {a} {b}",
        f"vgcreate -s8m other {c}",
        "lvcreate -L8m -n a vg",
        "lvcreate -l100%FREE -n a other",
        "vgchange --setautoactivation n other",
    )


def thin(disks: Disks) -> None:
    """A thin pool with volumes and snapshots (the real one creates none without device-mapper)."""
    a, b, c, *_ = disks.devices
    _ours(
        disks,
        f"vgcreate vg {a} {b} {c}",
        "lvcreate -T -L64m -n pool vg",
        "lvcreate -V100m -T vg/pool -n a",
        "lvcreate -V8m -T vg/pool -n b",
        "lvcreate -s vg/a -n snap",
        "lvcreate -L8m -n lin vg",
    )


def remembered(disks: Disks) -> None:
    """Thin volumes, and records of removed ones between them (the real one removes none without
    device-mapper).
    """
    a, b, *_ = disks.devices
    _ours(
        disks,
        f"vgcreate vg {a} {b}",
        "lvcreate -T -L64m -n pool vg",
        "lvcreate -V8m -T vg/pool -n a",
        "lvcreate -s vg/a -n h1",
        "lvcreate -s vg/h1 -n h2",
        "lvcreate -s vg/h2 -n b",
        "lvcreate -s vg/h2 -n h3",
        "lvcreate -s vg/h3 -n c",
        "lvcreate -s vg/h1 -n lvol7",
        "lvcreate -s vg/lvol7 -n d",
        "lvcreate -s vg/a -n e",
        "lvcreate -L8m -n lin vg",
        "lvremove -y --config metadata/record_lvs_history=1 vg/h3 vg/h1 vg/h2 vg/lvol7",
    )


def old_headers(disks: Disks) -> None:
    """A group whose disks have headers as older LVM2 wrote them: without an extension, and of version 1."""
    volumes(disks)
    for device, version in zip(disks.devices, (0, 1), strict=False):
        with open(device, "r+b", buffering=0) as stream:
            start = bytearray(stream.read(2048))
            label = find_label(bytes(start), device, [])
            assert label is not None
            body = bytearray(pack_label(label))
            place = body.rindex(EXTENSION.pack(EXTENSION_VERSION, label.flags))
            EXTENSION.pack_into(body, place, version, version and label.flags)
            struct.pack_into("<I", body, 16, lvm_crc(bytes(body[20:])))
            start[512:1024] = body
            stream.seek(0)
            stream.write(start)
            os.fsync(stream.fileno())


def clinging(disks: Disks) -> None:
    """A volume on two disks, each of which has room after it, but not adjoining."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"vgcreate vg {a} {b} {c}",
        f"lvcreate -l5 -n a vg {a}",
        f"lvextend -l+5 vg/a {b}",
        f"lvcreate -l1 -n next vg {a}",
        f"lvcreate -l1 -n last vg {b}",
    )


def partial(disks: Disks) -> None:
    """A group with a physical volume that is not there, below two of its volumes."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"vgcreate vg {a} {b} {c}",
        f"lvcreate -L8m -n a vg {a}",
        f"lvcreate -L8m -n b vg {b}",
        f"lvcreate -i2 -L16m -n lv1 vg {b} {c}",
    )
    _wipe(disks, 1)


def partial_thin(disks: Disks) -> None:
    """A thin pool whose data, or metadata, is on a physical volume that is not there."""
    a, b, c, *_ = disks.devices
    _ours(
        disks,
        f"vgcreate vg {a} {b} {c}",
        f"lvcreate -T -L64m -n pool vg {a}",
        "lvcreate -V100m -T vg/pool -n a",
        f"lvcreate -T -L64m -n other --poolmetadataspare n vg {b}",
        "lvcreate -V100m -T vg/other -n b",
        f"lvcreate -L8m -n lin vg {c}",
    )
    _wipe(disks, 1)


def lost_unused(disks: Disks) -> None:
    """A group with an unused physical volume that is not there."""
    a, b, c, *_ = disks.devices
    _real(disks, f"vgcreate vg {a} {b} {c}", f"lvcreate -L8m -n a vg {a}")
    _wipe(disks, 2)


def returned(disks: Disks) -> None:
    """A physical volume that was away while its group changed."""
    a, b, c, *_ = disks.devices
    _real(disks, f"vgcreate vg {a} {b} {c}", f"lvcreate -L8m -n a vg {b}")
    kept = disks.content()
    _wipe(disks, 1)
    _real(disks, "vgchange --addtag t1 vg")
    now = disks.content()
    runs = list(now.disks)
    runs[1] = kept.disks[1]
    disks.put_back(type(now)(tuple(runs), now.files), now)


def removed_meanwhile(disks: Disks) -> None:
    """A physical volume that was away while its group was reduced."""
    a, b, c, *_ = disks.devices
    _real(disks, f"vgcreate vg {a} {b} {c}", f"lvcreate -L8m -n a vg {a}")
    kept = disks.content()
    _wipe(disks, 2)
    _real(disks, "vgreduce --removemissing vg")
    now = disks.content()
    runs = list(now.disks)
    runs[2] = kept.disks[2]
    disks.put_back(type(now)(tuple(runs), now.files), now)


def duplicates(disks: Disks) -> None:
    """Two disks with the same physical volume."""
    a, b, *_ = disks.devices
    _real(disks, f"vgcreate vg {a} {b}", f"lvcreate -L8m -n a vg {a}")
    now = disks.content()
    runs = list(now.disks)
    runs[2] = runs[0]
    disks.put_back(type(now)(tuple(runs), now.files), now)


def cloned(disks: Disks) -> None:
    """A group, and a copy of both of its disks."""
    a, b, *_ = disks.devices
    _real(disks, f"vgcreate vg {a} {b}", f"lvcreate -L8m -n a vg {a}")
    now = disks.content()
    runs = list(now.disks)
    runs[2:4] = runs[:2]
    disks.put_back(type(now)(tuple(runs), now.files), now)
    _without_backups(disks)


def cloned_beside_list(disks: Disks) -> None:
    """A group in the devices file, and a copy of both of its disks, which are not in it."""
    a, b, *_ = disks.devices
    cloned(disks)
    conf = disks.etc / "lvm.conf"
    kept = re.sub(" filter=.*", " }", conf.read_text())
    conf.write_text(kept.replace("use_devicesfile=0", "use_devicesfile=1"))
    (disks.etc / "devices").mkdir(exist_ok=True)
    (disks.etc / "devices" / "system.devices").touch()
    _real(disks, f"lvmdevices --adddev {a}", f"lvmdevices --adddev {b}")


def same_names(disks: Disks) -> None:
    """Two groups of one name."""
    a, b, c, *_ = disks.devices
    _real(disks, f"vgcreate vg {a}", "lvcreate -L8m -n a vg")
    first = disks.content()
    _wipe(disks, 0)
    _real(disks, f"vgcreate vg {b} {c}", "lvcreate -L8m -n b vg")
    now = disks.content()
    runs = list(now.disks)
    runs[0] = first.disks[0]
    disks.put_back(type(now)(tuple(runs), now.files), now)
    _without_backups(disks)


def listed(disks: Disks) -> None:
    """A devices file with the disks of a group and one more."""
    a, b, c, *_ = disks.devices
    conf = disks.etc / "lvm.conf"
    kept = conf.read_text().partition(" filter=")[0] + " }\n"
    conf.write_text(kept.replace("use_devicesfile=0", "use_devicesfile=1"))
    (disks.etc / "devices").mkdir(exist_ok=True)
    (disks.etc / "devices" / "system.devices").touch()
    _real(disks, f"vgcreate vg {a} {b}", "lvcreate -L8m -n a vg", f"pvcreate {c}")


def listed_beside_filter(disks: Disks) -> None:
    """A devices file with one disk of a group, and a filter for what is not to be found by a search."""
    a, b, c, d, _e = disks.devices
    conf = disks.etc / "lvm.conf"
    conf.write_text(conf.read_text().replace("use_devicesfile=0", "use_devicesfile=1"))
    (disks.etc / "devices").mkdir(exist_ok=True)
    (disks.etc / "devices" / "system.devices").touch()
    _real(
        disks,
        f"vgcreate vg {a} {b}",
        "lvcreate -L8m -n a vg",
        f"pvcreate {c}",
        f"vgcreate other {d}",
        f"lvmdevices --deldev {b}",
        f"lvmdevices --deldev {d}",
    )


def listed_wrongly(disks: Disks) -> None:
    """A devices file that has become wrong: names, PVIDs, files that are not there, names that are the
    identifiers.
    """
    listed(disks)
    a, _b, c, d, e = disks.devices
    _real(disks, f"vgcreate new {d}", f"lvmdevices --adddev {d} --deviceidtype devname")
    path = disks.etc / "devices" / "system.devices"
    text = path.read_text()
    text = text.replace(f"DEVNAME={a}", "DEVNAME=/dev/loop-nosuch").replace(f"IDNAME={d} ", f"IDNAME={e} ")
    text = re.sub(f"(DEVNAME={c} PVID=).*", r"\1.", text)
    lost = "IDTYPE=loop_file IDNAME=/nosuch DEVNAME=/dev/loop-nosuch PVID=01234567890123456789012345678901"
    path.write_text(f"{text}{lost}\n")


def listed_under_old_name(disks: Disks) -> None:
    """A devices file with a name, which is another now, as identifier."""
    listed(disks)
    *_, d, _e = disks.devices
    _real(disks, f"vgcreate new {d}", f"lvmdevices --adddev {d} --deviceidtype devname")
    path = disks.etc / "devices" / "system.devices"
    path.write_text(path.read_text().replace(f"IDNAME={d} DEVNAME={d}", "IDNAME=/dev/sdzz DEVNAME=/dev/sdzz"))


def listed_twice(disks: Disks) -> None:
    """A devices file with a disk of a group and a copy of it, which has a longer device."""
    listed(disks)
    _a, _b, c, *_ = disks.devices
    now = disks.content()
    runs = list(now.disks)
    runs[2] = runs[0]
    disks.put_back(type(now)(tuple(runs), now.files), now)
    _real(disks, f"lvmdevices --adddev {c}")


def _without_backups(disks: Disks) -> None:
    """LVM2 also writes backups of groups that it only reads, and all groups of one name have the same."""
    with (disks.etc / "lvm.conf").open("a") as stream:
        stream.write("backup { backup=0 archive=0 }\n")


def others(disks: Disks) -> None:
    """Groups of another host, an exported one, a read-only one."""
    a, b, c, d, _e = disks.devices
    _real(
        disks,
        f'vgcreate --systemid host1 foreign {a} --config local/extra_system_ids=["host1"]',
        f"vgcreate vg {b}",
        "vgexport vg",
        f"vgcreate other {c}",
        "lvcreate -L8m -n a other",
        f"vgcreate g3 {d}",
        "lvcreate -L8m -n a g3",
    )
    _without_backups(disks)


def few_areas(disks: Disks) -> None:
    """A group with metadata on one of its disks only, and one area that is ignored."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"pvcreate --pvmetadatacopies 0 {a}",
        f"pvcreate --pvmetadatacopies 2 {b}",
        f"pvcreate --metadataignore y {c}",
        f"vgcreate vg {a} {b} {c}",
        "lvcreate -L8m -n a vg",
    )


def mixed(disks: Disks) -> None:
    """Linear, striped and thin volumes in one group, and a disk that is left over."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"vgcreate -s1m vg {a} {b} {c}",
        "lvcreate -L8m -n lin vg",
        "lvcreate -L12m -n str -i2 vg",
        "lvchange -pr vg/str",
    )
    _ours(disks, "lvcreate -an --type thin-pool -L16m -n pool vg", "lvcreate -an -V10m -T vg/pool -n th")


def virtual(disks: Disks) -> None:
    """Volumes on no disk: one that reads as zeros, one whose reads fail; and one partly so."""
    a, b, c, *_ = disks.devices
    _real(
        disks,
        f"vgcreate -s1m vg {a} {b}",
        "lvcreate -L8m -n a vg",
        "lvcreate --type zero -l5 -n z vg",
        "lvcreate --type error -L13m -n e vg",
        "lvcreate -L8m -n mix vg",
        "lvextend --type zero -l+1 vg/mix",
        f"vgcreate -s1m other {c}",
    )


STARTS: tuple[Callable[[Disks], None], ...] = (
    empty, orphans, volumes, volumes, volumes, two, thin, thin, partial, lost_unused, returned,
    partial_thin, removed_meanwhile, duplicates, same_names, others, few_areas,
)  # fmt: skip


def _real(disks: Disks, *lines: str) -> None:
    for line in lines:
        answer = real([*line.split(), "-y"] if re.match("lvcreate", line) else line.split(), disks.around)
        assert answer.code == 0, (line, answer)


def _ours(disks: Disks, *lines: str) -> None:
    for line in lines:
        answer = ours(line.split(), disks.around)
        assert answer.code == 0, (line, answer)


def _wipe(disks: Disks, number: int) -> None:
    now = disks.content()
    runs = list(now.disks)
    runs[number] = ()
    disks.put_back(type(now)(tuple(runs), now.files), now)
