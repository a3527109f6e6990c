# SPDX-License-Identifier: Apache-2.0
"""``vgmknodes`` on the same broken ``/dev`` by LVM2 and by Lamella: output, exit codes, names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lamella.devicemapper.client import DeviceMapper
from tests.guest.lvm_twins import Output, Twins, attach
from tests.guest.machine import dmsetup, run
from tests.lvm.differential.programs import VERSION, real_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
ABSENT = (
    "The link {} should have been created by udev but it was not found. Falling back to direct link creation."
)
STALE = (
    "The link {} should have been removed by udev but it is still present. "
    "Falling back to direct link removal."
)
GROUP, OTHER = "mk-nodes", "mkothers"
FOLDER, MAPPER = Path("/dev") / GROUP, Path("/dev/mapper")
DM = GROUP.replace("-", "--")

pytestmark = pytest.mark.skipif(
    real_version() != VERSION,
    reason=f"compares with LVM2 {VERSION}; later ones mend only the names of the volumes that are named",
)


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    disks = attach(tmp_path, [128 * MIB, 32 * MIB])
    made = Twins(disks)
    try:
        for line in (
            f"vgcreate --setautoactivation n {GROUP} {{0}}",
            f"vgcreate --setautoactivation n {OTHER} {{1}}",
            f"vgexport {OTHER}",
            f"lvcreate -y -l2 -n a {GROUP}",
            f"lvcreate -y -l2 -n b --addtag tg {GROUP}",
            f"lvcreate -y -an -Zn -Wn -l2 -n c {GROUP}",
            f"lvcreate -y -T -l4 {GROUP}/idle",
        ):
            said = made.run("theirs", line)
            assert said.code == 0, (line, said)
        yield made
    finally:
        subprocess.run(["dmsetup", "remove", "mk other"], check=False, capture_output=True)
        made.clean()
        for folder in (FOLDER, MAPPER / "mkdir"):
            shutil.rmtree(folder, ignore_errors=True)
        for disk in disks:
            subprocess.run(["losetup", "-d", disk], check=False)


def names() -> dict[str, str]:
    """What the names of this test lead to: a device's number, or what else is there."""
    run("udevadm", "settle", "--timeout=60")
    found = {}
    folders = [MAPPER.iterdir(), FOLDER.iterdir() if FOLDER.is_dir() else ()]
    for path in (each for folder in folders for each in folder):
        if not path.name.startswith((DM, "mk")) and path.parent == MAPPER:
            continue
        if path.is_block_device():
            number = path.stat().st_rdev
            found[str(path)] = f"{os.major(number)}:{os.minor(number)}"
        else:
            found[str(path)] = f"link to {os.readlink(path)}" if path.is_symlink() else "no device"
    if FOLDER.is_dir():
        found[str(FOLDER)] = "folder"
    return found


def both(
    twins: Twins, line: str, spoil: Callable[[], object] = lambda: None
) -> tuple[Output, dict[str, str]]:
    """The command by LVM2 and then by us, each after *spoil*: the same output, exit code and names."""
    answers = []
    for program in ("theirs", "ours"):
        spoil()
        said = twins.run(program, line)
        answers.append((said, names()))
    assert answers[0] == answers[1], line
    return answers[1]


def _clear(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _link(path: Path, target: str) -> None:
    _clear(path)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


def absent(path: Path) -> str:
    return ABSENT.format(path)


def stale(path: Path) -> str:
    return STALE.format(path)


def test_missing_names_and_stale_ones(twins: Twins) -> None:
    whole = names()
    assert both(twins, "vgmknodes") == (Output(0, ()), whole)
    a, b, c = (FOLDER / name for name in "abc")

    said, there = both(twins, f"vgmknodes {GROUP}/a", lambda: _clear(FOLDER, MAPPER / f"{DM}-b"))
    assert said == Output(0, (absent(a),))
    assert set(whole) - set(there) == {str(b), str(FOLDER / "idle")}
    said, there = both(twins, "vgmknodes @tg", lambda: _clear(FOLDER))
    assert said == Output(0, (absent(b),))
    assert str(a) not in there

    def wrong() -> None:
        _clear(FOLDER / "idle")
        _link(a, "/dev/null")
        _link(c, f"/dev/mapper/{DM}-c")
        _link(MAPPER / f"{DM}-c", "../dm-977")
        (MAPPER / "mk-file").touch()

    said, there = both(twins, "vgmknodes", wrong)
    assert said.code == 0
    assert {absent(FOLDER / "idle"), stale(c)} <= set(said.lines)
    assert there == whole
    said, there = both(twins, f"vgmknodes -t {GROUP}/c", wrong)
    assert stale(c) in said.lines
    assert there[str(a)] == "link to /dev/null"
    both(twins, f"vgmknodes {GROUP}", wrong)
    # LVM2 takes a link to no device for a file that is in the way.
    _link(MAPPER / f"{DM}-a", "/dev/null")
    assert twins.run("ours", f"vgmknodes {GROUP}") == Output(0, ())
    assert names() == whole


def test_what_is_in_the_way_stays(twins: Twins) -> None:
    def spoil() -> None:
        _clear(FOLDER / "a", FOLDER / "c")
        (FOLDER / "c").touch()
        (MAPPER / "mkdir").mkdir(exist_ok=True)

    said, there = both(twins, "vgmknodes", spoil)
    _clear(MAPPER / "mkdir")
    assert said.code == 5
    assert f"{FOLDER}/c not symbolic link - not removing" in said.lines
    assert there[str(FOLDER / "c")] == "no device"
    _clear(FOLDER / "c")

    def node() -> None:
        _clear(MAPPER / f"{DM}-b")
        (MAPPER / f"{DM}-b").write_text("kept")

    node()
    theirs = twins.run("theirs", f"vgmknodes {GROUP}/a")
    ours = twins.run("ours", f"vgmknodes {GROUP}/a")
    assert set(ours.lines) == set(theirs.lines)
    assert (ours.code, theirs.code) == (5, 0)
    assert (MAPPER / f"{DM}-b").read_text() == "kept"
    _clear(MAPPER / f"{DM}-b", FOLDER / "a")
    (FOLDER / "a").write_text("kept")
    said = twins.run("ours", f"vgmknodes {GROUP}/a")
    assert said.code == 5
    assert twins.run("theirs", f"vgmknodes {GROUP}/a").lines[0] in said.lines
    assert f"{FOLDER}/a is no link: move it away, then try again" in said.lines
    assert (FOLDER / "a").read_text() == "kept"
    both(twins, f"vgmknodes {GROUP}/a", lambda: _clear(FOLDER / "a"))


def test_devices_of_other_programs_and_switched_off_activation(twins: Twins) -> None:
    dmsetup("create", "mk other", "--table", "0 8 zero")

    def spoil() -> None:
        _clear(MAPPER / r"mk\x20other", FOLDER / "a")

    said, there = both(twins, f"vgmknodes {GROUP}/b", spoil)
    assert said == Output(0, ())
    assert str(MAPPER / r"mk\x20other") in there
    settings = ["--config", "global/activation=0"]
    for words in (["vgmknodes"], ["vgscan", "--mknodes"]):
        spoil()
        done = subprocess.run(["lvm", *words, *settings], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        wanted = names()
        assert str(FOLDER / "a") not in wanted
        spoil()
        run("python3", "-m", "lamella", *words, *settings, PYTHONPATH="/project/src")
        assert names() == wanted
    said, there = both(twins, "vgscan --mknodes", spoil)
    assert f'Found volume group "{GROUP}" using metadata type lvm2' in said.lines
    assert str(FOLDER / "a") in there


def test_refresh_resumes_devices(twins: Twins) -> None:
    def suspended() -> bool:
        with DeviceMapper() as dm:
            return dm.info(f"{DM}-b").suspended

    dmsetup("suspend", f"{DM}-b")
    for line in (f"vgmknodes {GROUP}", f"vgmknodes -t --refresh {GROUP}"):
        assert twins.run("ours", line).code == 0
        assert suspended()
    assert twins.run("ours", f"vgmknodes --refresh {GROUP}") == Output(0, ())
    assert not suspended()


def test_a_pool_with_thin_volumes_is_no_failure(twins: Twins) -> None:
    """LVM2 2.03.16 mends the names as well, and then ends with 5."""
    assert twins.run("theirs", f"lvcreate -V 8m -T {GROUP}/idle -n thin").code == 0
    whole = names()
    assert str(FOLDER / "idle") not in whole
    for line in ("vgmknodes", f"vgmknodes {GROUP}/idle {GROUP}/idle_tdata"):
        _clear(FOLDER / "thin")
        theirs, wanted = twins.run("theirs", line), names()
        _clear(FOLDER / "thin")
        ours = twins.run("ours", line)
        assert (theirs.code, ours.code) == (5, 0)
        assert set(ours.lines) == set(theirs.lines) - {"Command failed with status code 5."}
        assert names() == wanted
    said, there = both(twins, f"vgmknodes {GROUP}/thin", lambda: _clear(FOLDER))
    assert said == Output(0, (absent(FOLDER / "thin"),))
    assert str(FOLDER / "a") not in there


def test_inactive_groups_and_names_that_are_not_there(twins: Twins) -> None:
    both(twins, f"vgmknodes {GROUP}/nosuch {GROUP}/a")
    for names_given in ("nosuch", "@none", OTHER, f"{OTHER}/x", "b@d", "a/b/c", "@", f"/dev/{GROUP}/a"):
        both(twins, f"vgmknodes {names_given}")
    assert twins.run("theirs", f"vgchange -an {GROUP}").code == 0
    run("udevadm", "settle", "--timeout=60")

    def spoil() -> None:
        _link(FOLDER / "a", f"/dev/mapper/{DM}-a")

    said, there = both(twins, "vgmknodes", spoil)
    assert said == Output(0, (stale(FOLDER / "a"),))
    assert there == {}
    both(twins, f"vgmknodes {GROUP}", lambda: FOLDER.mkdir(exist_ok=True))
    assert not FOLDER.exists()
    broken = ["--config", "global/locking_dir=/proc/nosuch", "--devices", ",".join(twins.disks)]
    spoil()
    command = ["python3", "-m", "lamella", "vgmknodes", *broken]
    env = {**os.environ, "PYTHONPATH": "/project/src"}
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 5
    assert (FOLDER / "a").is_symlink()
    assert subprocess.run([*command, "--ignorelockingfailure"], env=env, check=False).returncode == 0
    assert not FOLDER.exists()


def test_dmsetup_mknodes_as_the_real_one() -> None:
    """Missing names, names of no device, and files in the place of names."""
    answers = []
    for program in (["dmsetup"], [sys.executable, "-m", "lamella", "dmsetup"]):
        seen = []
        try:
            for name in ("mkone", "mktwo"):
                run("dmsetup", "create", name, "--table", "0 8 zero")
            run("udevadm", "settle", "--timeout=60")
            for spoil, words in (
                ("rm mkone mktwo", ["mkone", "nosuch"]),
                ("true", ["mktwo", "mkone"]),
                ("rm mkone mktwo; touch mkgone; mkdir mkdir", []),
                ("rm -f mkone; echo x > mkone", ["mkone"]),
                ("true", ["nosuch"]),
            ):
                subprocess.run(spoil, shell=True, cwd=MAPPER, check=True)
                done = subprocess.run([*program, "mknodes", *words], capture_output=True, text=True)
                seen.append((words, done.returncode, done.stdout, done.stderr, names()))
        finally:
            for name in ("mkone", "mktwo"):
                subprocess.run(["dmsetup", "remove", name], check=False, capture_output=True)
            subprocess.run("rm -rf mkone mkdir mkgone", shell=True, cwd=MAPPER, check=True)
        numbers = dict.fromkeys(value for *_rest, found in seen for value in found.values() if ":" in value)
        known = {number: f"device {place}" for place, number in enumerate(numbers)}
        answers.append(
            [(*rest, {key: known.get(value, value) for key, value in found.items()}) for *rest, found in seen]
        )
    assert answers[1] == answers[0]
