# SPDX-License-Identifier: Apache-2.0
"""Our LVM commands on active volumes: messages and exit codes as recorded from LVM2 2.03.16."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.table import Zero
from tests.guest.lvm_twins import PROFILE, Twins, attach, profile
from tests.guest.machine import run
from tests.lvm.differential.disks import BLKFLSBUF

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
GROUP = "cmdvg"


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    disks = attach(tmp_path, [256 * MIB])
    made = Twins(disks)
    place = tmp_path / "mounted"
    place.mkdir()
    try:
        say(made, f"vgcreate --setautoactivation n {GROUP} {{0}}")
        yield made
    finally:
        subprocess.run(["umount", str(place)], check=False, capture_output=True)
        made.clean()
        for disk in disks:
            subprocess.run(["losetup", "-d", disk], check=False)


def say(twins: Twins, line: str, *expected: str, answers: str = "", code: int = 0) -> tuple[str, ...]:
    """Run one of our commands; its output has to contain the lines *expected*."""
    said = twins.run("ours", line, answers)
    assert said.code == code, (line, said)
    for each in expected:
        assert each in said.lines, (line, said)
    return said.lines


def seqno(twins: Twins) -> int:
    return int(twins.ours(["vgs", "--noheadings", "-o", "seqno"])[1])


def table(name: str) -> list[str]:
    with DeviceMapper() as dm:
        return [line.line for line in dm.table(name)]


def test_a_file_system_on_a_volume(twins: Twins, tmp_path: Path) -> None:
    say(twins, f"lvcreate -y -n a -L 40m {GROUP}", 'Logical volume "a" created.')
    node, place = f"/dev/{GROUP}/a", str(tmp_path / "mounted")
    run("mkfs.ext4", "-q", node)
    run("mount", node, place)
    before = seqno(twins)
    for option in ("", "-y ", "-f "):
        line = f"Logical volume {GROUP}/a contains a filesystem in use."
        say(twins, f"lvremove {option}{GROUP}/a", line, code=5)
    say(twins, f"lvchange -an {GROUP}/a", f"Logical volume {GROUP}/a contains a filesystem in use.", code=5)
    said = (
        "WARNING: Reducing active and open logical volume to 20.00 MiB.",
        "THIS MAY DESTROY YOUR DATA (filesystem etc.)",
        f"Do you really want to reduce {GROUP}/a? [y/n]:",
        f"Logical volume {GROUP}/a NOT reduced.",
    )
    say(twins, f"lvreduce -L 20m {GROUP}/a", *said, answers="n\n", code=5)
    assert seqno(twins) == before
    (tmp_path / "mounted/file").write_bytes(b"kept" * 1000)
    size = os.statvfs(place).f_blocks
    changed = "from 40.00 MiB (10 extents) to 80.00 MiB (20 extents)."
    say(
        twins,
        f"lvextend -r -L 80m {GROUP}/a",
        f"Size of logical volume {GROUP}/a changed {changed}",
        f"Logical volume {GROUP}/a successfully resized.",
    )
    assert os.statvfs(place).f_blocks > 1.8 * size
    run("umount", place)
    question = f"Do you really want to remove active logical volume {GROUP}/a? [y/n]:"
    not_removed = f"Logical volume {GROUP}/a not removed."
    say(twins, f"lvremove {GROUP}/a", question, not_removed, answers="n\n", code=5)
    say(twins, f"lvreduce -r -L 32m {GROUP}/a", f"Logical volume {GROUP}/a successfully resized.")
    run("e2fsck", "-fn", node)
    run("mount", "-o", "ro", node, place)
    assert (tmp_path / "mounted/file").read_bytes() == b"kept" * 1000
    run("umount", place)
    say(twins, f"lvrename {GROUP} a b", f'Renamed "a" to "b" in volume group "{GROUP}"')
    assert not Path(node).exists()
    say(twins, f"lvchange -pr {GROUP}/b", f"Logical volume {GROUP}/b changed.")
    assert run("blockdev", "--getro", f"/dev/{GROUP}/b").strip() == "1"
    say(twins, f"lvremove {GROUP}/b", 'Logical volume "b" successfully removed.', answers="y\n")
    refused = (
        f"WARNING: ext4 signature detected on /dev/{GROUP}/c at offset 1080. Wipe it? [y/n]:",
        "Aborted wiping of ext4.",
        "1 existing signature left on the device.",
        f"Failed to wipe signatures on logical volume {GROUP}/c.",
        "Aborting. Failed to wipe start of new LV.",
    )
    before = seqno(twins)
    say(twins, f"lvcreate -n c -L 40m {GROUP}", *refused, code=5)
    assert seqno(twins) == before + 2
    wiped = f"Wiping ext4 signature on /dev/{GROUP}/d."
    say(twins, f"lvcreate -y -n d -L 40m {GROUP}", wiped, 'Logical volume "d" created.')
    assert Path(f"/dev/{GROUP}/d").read_bytes()[:4096] == bytes(4096)


def test_groups_with_active_volumes(twins: Twins) -> None:
    for options in ("-an -Zn", "-pr", "-ky", "-Zn"):
        name = options.replace("-", "").replace(" ", "")
        warning = f"WARNING: Logical volume {GROUP}/{name} not zeroed."
        say(twins, f"lvcreate {options} -n {name} -L 8m {GROUP}", warning)
    with DeviceMapper() as dm:
        names = [name for name, _major, _minor in dm.list() if name.startswith(GROUP)]
        assert sorted(names) == [f"{GROUP}-Zn", f"{GROUP}-pr"]
        assert dm.info(f"{GROUP}-pr").read_only
    zero = "Cannot zero inactive logical volume with option -Zy or -Wy."
    say(twins, f"lvcreate -an -Zy -n l -L 8m {GROUP}", zero, code=5)
    new = f"{GROUP}2"
    say(twins, f"vgrename {GROUP} {new}", f'Volume group "{GROUP}" successfully renamed to "{new}"')
    assert Path(f"/dev/{new}/Zn").exists()
    assert not Path(f"/dev/{GROUP}").exists()
    say(twins, f"vgexport {new}", f'Volume group "{new}" has active logical volumes', code=5)
    say(twins, "pvcreate -ff -y {0}", code=5)
    # The name is taken by another device: a volume that cannot be activated is not created.
    with DeviceMapper() as dm:
        dm.create_with_table(f"{new}-taken", [Zero(0, 2048)])
        try:
            say(twins, f"lvcreate -y -n taken -L 8m {new}", code=5)
        finally:
            dm.remove(f"{new}-taken")
    names = twins.ours(["lvs", "--noheadings", "-o", "name", new])[1].split()
    assert sorted(names) == ["Zn", "anZn", "ky", "pr"]
    say(twins, f"vgchange -an {new}", f'0 logical volume(s) in volume group "{new}" now active')
    say(twins, f"vgexport {new}", f'Volume group "{new}" successfully exported')
    say(twins, f"vgimport {new}", f'Volume group "{new}" successfully imported')
    say(twins, f"vgchange -ay {new}", f'3 logical volume(s) in volume group "{new}" now active')
    question = f'Do you really want to remove volume group "{new}" containing 4 logical volumes? [y/n]:'
    say(twins, f"vgremove {new}", question, f'Volume group "{new}" not removed', answers="n\n", code=5)
    say(twins, f"vgremove -f {new}", f'Volume group "{new}" successfully removed')
    with DeviceMapper() as dm:
        assert not [name for name, _major, _minor in dm.list() if name.startswith(GROUP)]


def test_pools_in_use(twins: Twins, tmp_path: Path) -> None:
    say(twins, f"lvcreate -y --type thin-pool -c 64k -L 40m --poolmetadatasize 4m -n pool {GROUP}")
    say(twins, f"lvchange --discards nopassdown {GROUP}/pool", f"Logical volume {GROUP}/pool changed.")
    assert "no_discard_passdown" in table(f"{GROUP}-pool")[0]
    refused = f"Cannot change support for discards while pool volume {GROUP}/pool is active."
    say(twins, f"lvchange --discards ignore {GROUP}/pool", refused, code=5)
    say(twins, f"lvcreate -V 60m -T {GROUP}/pool -n t")
    say(twins, f"lvchange --errorwhenfull y {GROUP}/pool", f"Logical volume {GROUP}/pool changed.")
    assert "error_if_no_space" in table(f"{GROUP}-pool-tpool")[0]
    repair = "Active pools cannot be repaired.  Use lvchange -an first."
    say(twins, f"lvconvert --repair {GROUP}/pool", repair, code=5)
    say(twins, f"lvcreate -an -Zn -n m -L 4m {GROUP}")
    swap = f"Cannot convert pool {GROUP}/pool with active volumes."
    say(twins, f"lvconvert -y --swapmetadata {GROUP}/pool --poolmetadata {GROUP}/m", swap, code=5)
    with open(f"/dev/{GROUP}/t", "r+b", buffering=0) as stream:
        stream.write(os.urandom(33 * MIB))
        os.fsync(stream.fileno())
    say(twins, f"lvextend --use-policies {GROUP}/pool")
    with profile():
        say(twins, f"lvchange --metadataprofile {PROFILE} {GROUP}/pool")
        resized = f"Logical volume {GROUP}/pool successfully resized."
        say(twins, f"lvextend --use-policies {GROUP}/pool", resized)
    with DeviceMapper() as dm:
        assert " 528/768 " in dm.status(f"{GROUP}-pool-tpool")[0].text
    say(twins, f"lvcreate -s -n s {GROUP}/t", 'Logical volume "s" created.')
    say(
        twins,
        f"lvremove {GROUP}/pool",
        f"Removing pool {GROUP}/pool will remove 2 dependent volume(s). Proceed? [y/n]:",
        f"Do you really want to remove active logical volume {GROUP}/t? [y/n]:",
        f"Logical volume {GROUP}/t not removed.",
        answers="y\nn\n",
        code=5,
    )
    say(twins, f"lvchange -an {GROUP}")
    twins.metadata_is_sound(GROUP, "pool", tmp_path)


def test_volumes_on_no_disk(twins: Twins) -> None:
    """Tables as LVM2 2.03.16 makes them: what reads as zeros, what fails, and that beside extents."""
    say(twins, f"lvcreate --type zero -L 8m -n z {GROUP}", 'Logical volume "z" created.')
    say(twins, f"lvcreate --type error -L 8m -n e {GROUP}", 'Logical volume "e" created.')
    assert table(f"{GROUP}-z") == ["0 16384 zero "]
    assert table(f"{GROUP}-e") == ["0 16384 error "]
    node = Path(f"/dev/{GROUP}/z")
    with node.open("r+b", buffering=0) as stream:
        stream.write(b"x" * 4096)
        os.fsync(stream.fileno())
        fcntl.ioctl(stream, BLKFLSBUF)
        stream.seek(0)
        assert stream.read(4096) == bytes(4096)
    with Path(f"/dev/{GROUP}/e").open("rb", buffering=0) as stream, pytest.raises(OSError, match="Input"):
        stream.read(4096)
    say(twins, f"lvextend -L 16m {GROUP}/z")
    assert table(f"{GROUP}-z") == ["0 32768 zero "]
    mixing = f"Logical volume {GROUP}/e is using mixing segment types error and striped."
    say(twins, f"lvextend --type linear -L 12m {GROUP}/e", mixing)
    ours = table(f"{GROUP}-e")
    assert ours[0] == "0 16384 error "
    assert ours[1].startswith("16384 8192 linear ")
    code, said = twins.theirs(["lvchange", "--refresh", f"{GROUP}/e", f"{GROUP}/z"])
    assert code == 0, said
    assert table(f"{GROUP}-e") == ours
    say(twins, f"lvreduce -y -L 8m {GROUP}/e")
    assert table(f"{GROUP}-e") == ["0 16384 error "]
    say(twins, f"lvrename {GROUP} z zz")
    rows = ["lvs", "--noheadings", "-o", "lv_name,lv_attr,lv_size,segtype,lv_active", GROUP]
    assert twins.ours(rows) == twins.theirs(rows)
    say(twins, f"lvremove -y {GROUP}/zz {GROUP}/e")
    assert not Path(f"/dev/{GROUP}").exists()
