# SPDX-License-Identifier: Apache-2.0
"""Our dmsetup against what the real one printed, and for stores without a kernel."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lamella.cli import dmsetup as command_module
from lamella.cli.dmsetup import backend as source_module
from lamella.cli.dmsetup import main_dmsetup
from lamella.cli.main import main
from lamella.devicemapper.client import DeviceMapper
from lamella.devicemapper.table import Error, Linear, Target, TargetLine, parse_table
from lamella.driver.emulated_devices import EmulatedDevices
from lamella.images.sample import write_sample
from lamella.store import Store
from tests.conftest import transcripts
from tests.support import stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = "LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMy"
SESSION = """\
# dmsetup table
docker-thinpool: 0 79683584 thin-pool 253:0 253:1 1024 0 1 skip_block_zeroing 
docker-thinpool_tdata: 0 79683584 linear 254:16 2048
docker-thinpool_tmeta: 0 835584 linear 254:16 79685632
[rc=0]

# dmsetup status
docker-thinpool: 0 79683584 thin-pool 0 4115/104448 0/77816 - rw discard_passdown queue_if_no_space - 1024 
docker-thinpool_tdata: 0 79683584 linear 
docker-thinpool_tmeta: 0 835584 linear 
[rc=0]

# dmsetup status --noflush docker-thinpool
0 79683584 thin-pool 0 4115/104448 0/77816 - rw discard_passdown queue_if_no_space - 1024 
[rc=0]

# dmsetup ls --tree
docker-thinpool (253:2)
 ├─docker-thinpool_tdata (253:1)
 │  └─ (254:16)
 └─docker-thinpool_tmeta (253:0)
    └─ (254:16)
[rc=0]

# dmsetup ls --tree -o device,blkdevname,active,open,rw,uuid,inverted
 <vdb> (254:16)
 ├─docker-thinpool_tdata <dm-1> (253:1) [ACTIVE, RW, 1, LVM-obvvV4lDV9ue2YnlIvm...
 │  └─docker-thinpool <dm-2> (253:2) [ACTIVE, RW, 0, LVM-obvvV4lDV9ue2YnlIvmjTC...
 └─docker-thinpool_tmeta <dm-0> (253:0) [ACTIVE, RW, 1, LVM-obvvV4lDV9ue2YnlIvm...
    └─docker-thinpool <dm-2> (253:2) [ACTIVE, RW, 0, LVM-obvvV4lDV9ue2YnlIvmjTC...
[rc=0]

# dmsetup info
Name:              docker-thinpool
State:             ACTIVE
Read Ahead:        2048
Tables present:    LIVE
Open count:        0
Event number:      0
Major, minor:      253, 2
Number of targets: 1
UUID: LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyh3AMLKosyDp0uvFOqp8RunDn8vFgAvkH-tpool

Name:              docker-thinpool_tdata
State:             ACTIVE
Read Ahead:        256
Tables present:    LIVE
Open count:        1
Event number:      0
Major, minor:      253, 1
Number of targets: 1
UUID: LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyhj35PvfIydY81kBgCxx3EejmBbdyLk8b-tdata

Name:              docker-thinpool_tmeta
State:             ACTIVE
Read Ahead:        256
Tables present:    LIVE
Open count:        1
Event number:      0
Major, minor:      253, 0
Number of targets: 1
UUID: LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyCgWnFdMYONERa4OJPw0u96Qi28sf2eQz-tmeta

[rc=0]

# dmsetup info -c
Name                  Maj Min Stat Open Targ Event  UUID                                                                      
docker-thinpool       253   2 L--w    0    1      0 LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyh3AMLKosyDp0uvFOqp8RunDn8vFgAvkH-tpool
docker-thinpool_tdata 253   1 L--w    1    1      0 LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyhj35PvfIydY81kBgCxx3EejmBbdyLk8b-tdata
docker-thinpool_tmeta 253   0 L--w    1    1      0 LVM-obvvV4lDV9ue2YnlIvmjTC11N3bvLAMyCgWnFdMYONERa4OJPw0u96Qi28sf2eQz-tmeta
[rc=0]

# dmsetup deps
docker-thinpool: 2 dependencies	: (253, 1) (253, 0)
docker-thinpool_tdata: 1 dependencies	: (254, 16)
docker-thinpool_tmeta: 1 dependencies	: (254, 16)
[rc=0]

# dmsetup targets
thin-pool        v1.22.0
thin             v1.22.0
striped          v1.6.0
linear           v1.4.0
error            v1.5.0
[rc=0]
"""  # noqa: E501, W291 - as it was printed
"""Of a pool made by Docker's manual, with Linux 6.1 and dmsetup 1.02.185."""


def sections(text: str) -> Iterator[tuple[list[str], str]]:
    """Each dmsetup command of a transcript, and what it printed."""
    for part in re.split(r"^(?=# |\[rc=|=====)", text, flags=re.M):
        head, _, body = part.partition("\n")
        if head.startswith("# dmsetup"):
            yield head.split()[2:], body


def by_name(text: str) -> dict[str, str]:
    """Lines "NAME: what" as what is said of each name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(": ")
        if colon:
            found[name] = found.get(name, "") + rest + "\n"
    return found


def devices_of(text: str) -> EmulatedDevices:
    """The devices that a transcript's ``table``, ``status`` and ``info`` tell of."""
    told = {" ".join(words): body for words, body in sections(text)}
    disk = re.search(r"^vdb +(\d+):(\d+) ", text, re.M)  # what lsblk said
    number = (int(disk[1]), int(disk[2])) if disk else (254, 16)
    major = re.search(r"Major, minor: +(\d+)", told["info"])
    assert major is not None
    made = EmulatedDevices(disks={number: "vdb"}, major=int(major[1]))
    tables, states = by_name(told["table"]), by_name(told["status"])
    facts = [dict(re.findall(r"^([^:\n]+): +(.*)$", block, re.M)) for block in told["info"].split("\n\n")]
    for fact in sorted(filter(None, facts), key=lambda each: int(each["Major, minor"].split(", ")[1])):
        table = parse_table(tables[fact["Name"]])
        texts = [line.split(" ", 3)[3] for line in states[fact["Name"]].splitlines()]
        made.add(
            fact["Name"],
            fact.get("UUID", ""),
            table,
            lambda texts=texts: texts,  # type: ignore[misc]
            read_ahead=int(fact["Read Ahead"]),
        )
    return made


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> EmulatedDevices:
    """The devices that our dmsetup sees."""
    made = devices_of(SESSION)
    show(monkeypatch, made)
    return made


def show(monkeypatch: pytest.MonkeyPatch, devices: object) -> None:
    @contextmanager
    def source(options: object) -> Iterator[object]:
        yield devices

    monkeypatch.setattr(source_module, "source", source)


@pytest.mark.parametrize(("words", "printed"), [*sections(SESSION)], ids=lambda each: " ".join(each)[:40])
def test_the_real_dmsetup_printed_the_same(
    words: list[str], printed: str, seen: EmulatedDevices, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_dmsetup(words) == 0
    assert capsys.readouterr().out == printed


def test_whole_transcripts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = 0
    told = transcripts()
    for name, text in told.items():
        for words, body in sections(text):
            if words == ["table"]:
                for text in by_name(body).values():
                    if not re.match(r"\d+ \d+ [a-z]", text):
                        continue  # what the session did next
                    assert "".join(f"{target.line}\n" for target in parse_table(text)) == text, name
                    lines += 1
    assert lines > 10
    text = told["direct-lvm-by-hand"]
    show(monkeypatch, devices_of(text))
    for words, body in sections(text):
        if words == ["targets"]:
            continue  # their versions are the kernel's; those of 6.1 are in SESSION
        assert main_dmsetup(words) == 0
        assert capsys.readouterr().out.rstrip("\n") == body.rstrip("\n"), words


FAILURES = [
    (
        "table nope",
        "device-mapper: table ioctl on nope  failed: No such device or address\nCommand failed.\n",
    ),
    ("deps nope", "device-mapper: deps ioctl on nope  failed: No such device or address\nCommand failed.\n"),
    (
        "table -u nope",
        "device-mapper: table ioctl on  nope failed: No such device or address\nCommand failed.\n",
    ),
    (
        "table -j 253 -m 99",
        "device-mapper: table ioctl on  (253:99) failed: No such device or address\nCommand failed.\n",
    ),
    ("status nope", "Device does not exist.\nCommand failed.\n"),
    ("info nope", "Device does not exist.\nCommand failed.\n"),
    ("info -c nope", "Device does not exist.\nCommand failed.\n"),
    ("info a/b", "Device a/b not found\nCommand failed.\n"),
    ("table -j 253", "Please specify both major number and minor number.\nCouldn't process command line.\n"),
    ("table --junk", "dmsetup: unrecognized option '--junk'\nCouldn't process command line.\n"),
    ("table -q", "dmsetup: invalid option -- 'q'\nCouldn't process command line.\n"),
    ("table --target", "dmsetup: option '--target' requires an argument\nCouldn't process command line.\n"),
    ("ls -o", "dmsetup: option requires an argument -- 'o'\nCouldn't process command line.\n"),
    ("ls -o junk", "Option not recognised: junk.\nCouldn't process command line.\n"),
    ("--manglename junk ls", "Unknown name mangling mode.\nCouldn't process command line.\n"),
    (
        "--ver ls",
        "dmsetup: option '--ver' is ambiguous; possibilities: '--verbose' '--verifyudev' '--version'\n"
        "Couldn't process command line.\n",
    ),
    ("ls --tree -o junk", "Tree options not recognised: junk.\nCouldn't process command line.\n"),
    (
        "--engine other ls",
        "dmsetup: option '--engine' does not take 'other'\nCouldn't process command line.\n",
    ),
]


@pytest.mark.parametrize(("words", "said"), FAILURES)
def test_failures_are_said_in_its_words(
    words: str, said: str, seen: EmulatedDevices, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_dmsetup(words.split()) == 1
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("words", ["", "junk", "ls nope"])
def test_what_is_no_command_gets_the_usage(
    words: str, seen: EmulatedDevices, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_dmsetup(words.split()) == 1
    assert "Usage:" in capsys.readouterr().err
    assert main_dmsetup([*words.split(), "--help"]) == 0


SHOWN = {
    "ls": "docker-thinpool\t(253:2)\ndocker-thinpool_tdata\t(253:1)\ndocker-thinpool_tmeta\t(253:0)\n",
    "ls --target thin-pool": "docker-thinpool\t(253, 2)\n",
    "ls -o devname": "docker-thinpool\t(docker-thinpool)\ndocker-thinpool_tdata\t(docker-thinpool_tdata)\n"
    "docker-thinpool_tmeta\t(docker-thinpool_tmeta)\n",
    "deps -o blkdevname docker-thinpool": "2 dependencies\t: (dm-1) (dm-0)\n",
    "deps -o devname docker-thinpool_tdata": "1 dependencies\t: (vdb)\n",
    "table --target linear docker-thinpool": "",
    "table --inactive docker-thinpool": "\n",
    "table -j 253 -m 1": "0 79683584 linear 254:16 2048\n",
    f"table -u {GROUP}hj35PvfIydY81kBgCxx3EejmBbdyLk8b-tdata": "0 79683584 linear 254:16 2048\n",
    "table /dev/mapper/docker-thinpool_tdata": "0 79683584 linear 254:16 2048\n",
    "table --concise docker-thinpool_tdata": "docker-thinpool_tdata,"
    f"{GROUP}hj35PvfIydY81kBgCxx3EejmBbdyLk8b-tdata,1,rw,0 79683584 linear 254:16 2048\n",
    "ls --tree -o compact": "docker-thinpool (253:2)─┬─docker-thinpool_tdata (253:1)─── (254:16)\n"
    "                        └─docker-thinpool_tmeta (253:0)─── (254:16)\n",
    "ls --tree -o ascii,nodevice": "docker-thinpool\n |-docker-thinpool_tdata\n `-docker-thinpool_tmeta\n",
    "info -c --noheadings -o name,open": (
        "docker-thinpool:0\ndocker-thinpool_tdata:1\ndocker-thinpool_tmeta:1\n"
    ),
    "info -c -o minor,name -O minor": "Min Name                 \n  0 docker-thinpool_tmeta\n"
    "  1 docker-thinpool_tdata\n  2 docker-thinpool      \n",
    "info -c --rows -o name": "Name docker-thinpool docker-thinpool_tdata docker-thinpool_tmeta\n",
    "info -c --nameprefixes --noheadings -o name,minor docker-thinpool": (
        "DM_NAME='docker-thinpool':DM_MINOR='2'\n"
    ),
    "info -c --separator , -o vg_name,lv_name,lv_layer docker-thinpool": "VG,LV,LVLayer\ndocker,thinpool,\n",
    "info -c --noheadings -o devs_used,names_using_dev docker-thinpool_tdata": ":docker-thinpool\n",
    "info -c --noheadings -o devs_used,device_ref_count docker-thinpool": (
        "docker-thinpool_tdata,docker-thinpool_tmeta:0\n"
    ),
}


@pytest.mark.parametrize("words", SHOWN)
def test_options(words: str, seen: EmulatedDevices, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_dmsetup(words.split()) == 0
    assert capsys.readouterr() == (SHOWN[words], "")


def test_an_unknown_field_is_reported_with_those_that_there_are(
    seen: EmulatedDevices, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_dmsetup(["info", "-c", "-o", "name,nosuch"]) == 1
    said = capsys.readouterr().err
    assert "  vg_name               - LVM Volume Group name.\n" in said
    assert said.endswith(" \nUnrecognised field: nosuch\n")
    assert main_dmsetup(["info", "-c", "--sort", "-nosuch"]) == 1
    assert capsys.readouterr().err.endswith(" \ndm_report: Unrecognised field: nosuch\n")
    assert main_dmsetup(["info", "-c", "-o", "help"]) == 0
    assert "device_count" in capsys.readouterr().err


def test_a_device_that_is_removed_meanwhile_is_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lamella's own commands make and remove devices all the time."""
    made = EmulatedDevices()
    for name in ("one", "two"):
        made.add(name, "", (Error(0, 8),), lambda: [""])
    monkeypatch.setattr(EmulatedDevices, "names", lambda self: ["gone", *self.devices])

    show(monkeypatch, made)
    assert main_dmsetup(["ls"]) == 0
    assert capsys.readouterr().out == "one\t(253:0)\ntwo\t(253:1)\n"
    assert main_dmsetup(["ls", "--tree"]) == 0
    assert capsys.readouterr().out == "one (253:0)\ntwo (253:1)\n"


def test_an_unknown_engine_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMELLA_ENGINE", "kernle")
    assert main_dmsetup(["ls"]) == 1
    assert "there is no engine 'kernle' (LAMELLA_ENGINE)" in capsys.readouterr().err


def test_keys_are_hidden_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = EmulatedDevices()
    made.add("secret", "", (Target(0, 8, "crypt", "aes-xts-plain64 c0ffee 0 7:0 0"),), lambda: [""])
    made.add("named", "", (Target(0, 8, "crypt", "aes :32:logon:key 0 7:0 0"),), lambda: [""])
    show(monkeypatch, made)
    assert main_dmsetup(["table"]) == 0
    assert capsys.readouterr().out == (
        "named: 0 8 crypt aes :32:logon:key 0 7:0 0\nsecret: 0 8 crypt aes-xts-plain64 000000 0 7:0 0\n"
    )
    assert main_dmsetup(["table", "--showkeys", "secret"]) == 0
    assert capsys.readouterr().out == "0 8 crypt aes-xts-plain64 c0ffee 0 7:0 0\n"


def test_odd_names_and_long_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = EmulatedDevices()
    below = made.add(r"we\x20ird", r"u\x20u", (Linear(0, 8, device="7:0"),), lambda: [""])
    made.add("n" * 90, "", (Linear(0, 8, device=below),), lambda: [""])
    made.add("o" * 72, "", (Error(0, 8),), lambda: [""])
    made.add("p" * 73, "", (Error(0, 8),), lambda: [""])
    show(monkeypatch, made)
    for words in (["table", "we ird"], ["table", r"we\x20ird"], ["table", "-u", "u u"]):
        assert main_dmsetup(words) == 0
        assert capsys.readouterr().out == "0 8 linear 7:0 0\n"
    assert main_dmsetup(["ls", "--tree"]) == 0
    assert capsys.readouterr().out == (
        "n" * 79
        + "...\n └─we ird (253:0)\n    └─ (7:0)\n"
        + "o" * 72
        + " (253:2)\n"
        + "p" * 73
        + " (253:...\n"
    )
    made.devices.pop("o" * 72)
    made.devices.pop("p" * 73)
    assert main_dmsetup(["ls", "--tree", "--manglename", "none", "-o", "notrunc"]) == 0
    assert capsys.readouterr().out == "n" * 90 + " (253:1)\n └─" + r"we\x20ird" + " (253:0)\n    └─ (7:0)\n"


@pytest.mark.parametrize(
    "words", ["table", "status", "ls", "ls --tree", "info", "info -c", "deps", "table --target thin"]
)
def test_no_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str) -> None:
    show(monkeypatch, EmulatedDevices())
    assert main_dmsetup(words.split()) == 0
    assert capsys.readouterr() == ("No devices found\n", "")


@pytest.mark.parametrize("mode", stores.MODES)
def test_a_store_without_a_kernel(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeviceMapper, "available", staticmethod(lambda *path: False))
    root = tmp_path / "store"
    write_sample(tmp_path / "image")
    with stores.set_up(root, mode) as store:
        store.create(store.load(tmp_path / "image")[0].id, name="box")
        wanted = {device.device_id for device in store.devices.state.devices()}
        status = store.devices.pool.status()

    def printed(*words: str) -> str:
        assert main(["dmsetup", "--root", str(root), *words]) == 0
        return capsys.readouterr().out

    table = parse_table("\n".join(line.partition(": ")[2] for line in printed("table").splitlines()))
    assert {int(each.parameters.split()[1]) for each in table if each.kind == "thin"} == wanted
    names = [line.split("\t")[0] for line in printed("ls").splitlines()]
    assert names == sorted(names)
    pool = next(line for line in printed("status").splitlines() if " thin-pool " in line)
    assert f" {status.transaction_id} {status.used_metadata}/{status.total_metadata} " in pool
    assert " rw discard_passdown queue_if_no_space - " in pool
    assert printed("ls", "--tree").count(" └─") >= len(wanted)
    assert main(["--root", str(root), "--engine", "user", "dmsetup", "info", "-c"]) == 0
    layers = capsys.readouterr().out
    assert ("-tpool" in layers) == (mode == "direct-lvm")
    assert printed("table") == printed("table"), "the numbers are the same each time"


def test_no_store_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeviceMapper, "available", staticmethod(lambda *path: False))
    assert main_dmsetup(["--root", str(tmp_path / "none"), "ls"]) == 1
    assert "Command failed." in capsys.readouterr().err
    assert not Store.exists(tmp_path / "none")


def test_it_is_found_by_its_bare_name() -> None:
    from lamella.cli.command_table import DM_NAMES

    assert "dmsetup" in DM_NAMES
    assert command_module.main_dmsetup is main_dmsetup
    assert TargetLine(0, 8, "zero", "").line == "0 8 zero "


def test_devices_of_a_store_have_no_names_to_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.setup(tmp_path / "root", engine="user").close()
    assert main_dmsetup(["mknodes", "--root", str(tmp_path / "root"), "--engine", "user"]) == 1
    said = "The devices of the engine in user space have no names in /dev/mapper.\nCommand failed.\n"
    assert capsys.readouterr().err == said
