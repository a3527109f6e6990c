# SPDX-License-Identifier: Apache-2.0
"""Stores on logical volumes: what set-up makes, prints and records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lamella
from lamella.cli.main import main
from lamella.errors import ExistsError, UsageError
from lamella.store import Store
from tests.store.direct_lvm.groups import GIB, MIB, by_hand, disk, text_of
from tests.support.stores import assert_sound, disks_of, set_up

if TYPE_CHECKING:
    from collections.abc import Callable


def test_one_command_makes_what_the_walkthrough_makes(tmp_path: Path, lvm_folder: Path) -> None:
    one, other = tmp_path / "root", tmp_path / "hand"
    Store.setup(
        one, mode="direct-lvm", storage_options=[f"dm.directlvm_device={disk(tmp_path / 'a', 40 * GIB)}"]
    ).close()
    made = text_of(one)
    for expected in ("seqno = 6", "extent_count = 9727", "extent_count = 102", "chunk_size = 1024"):
        assert expected in made
    assert "zero_new_blocks" not in made
    assert "transaction_id = 0" in made
    Store.open(one).teardown()

    os.environ["LAMELLA_ROOT"] = str(other)
    by_hand(lvm_folder, disk(tmp_path / "b", 40 * GIB))
    with Store.setup(other, storage_options=["dm.thinpooldev=/dev/mapper/docker-thinpool"]) as store:
        info = store.info()
    assert text_of(other) == made
    assert info.chunk_size == 512 << 10


def test_the_plan_is_what_setup_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed commands, run one by one, make the same group as the set-up."""
    file = disk(tmp_path / "disk", 40 * GIB)
    assert main(["setup", "direct-lvm", str(file), "--plan"]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "root").exists()
    assert not any(file.open("rb").read(MIB))
    script = "\n".join(line[2:] for line in printed.splitlines() if line.startswith("  "))
    assert main(["setup", "direct-lvm", str(file)]) == 0
    assert printed in capsys.readouterr().out
    made = text_of(tmp_path / "root")
    assert main(["teardown"]) == 0

    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("pvcreate", "vgcreate", "lvcreate", "lvconvert", "lvchange"):
        program = bare / name
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path[:0] = {sys.path!r}\n"
            f"from lamella.cli.lvm import main_lvm\nsys.exit(main_lvm({name!r}, sys.argv[1:]))\n"
        )
        program.chmod(0o755)
    folder = Path(os.environ["LVM_SYSTEM_DIR"]) / "profile"
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["sh", "-e"],
        input=script,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{bare}:{os.environ['PATH']}"},
    )
    with Store.setup(storage_options=["dm.thinpooldev=docker/thinpool"]):
        pass
    assert text_of(tmp_path / "root") == made


def test_info_has_the_lines_of_docker(tmp_path: Path) -> None:
    """``docker info`` on the same 40 GiB disk, save what the base device's file system takes."""
    file = disk(tmp_path / "d", 40 * GIB)
    with Store.setup(storage_options=[f"dm.directlvm_device={file}"]) as store:
        lines = store.info().lines()
    shown = dict(lines)
    assert [label for label, _ in lines] == [
        "Pool Name", "Pool Blocksize", "Base Device Size", "Backing Filesystem", "Udev Sync Supported",
        "Data Space Used", "Data Space Total", "Data Space Available", "Metadata Space Used",
        "Metadata Space Total", "Metadata Space Available", "Thin Pool Minimum Free Space",
        "Deferred Removal Enabled", "Deferred Deletion Enabled", "Deferred Deleted Device Count",
        "Library Version",
    ]  # fmt: skip
    for label, value in (
        ("Pool Name", "docker-thinpool"),
        ("Pool Blocksize", "524.3kB"),
        ("Base Device Size", "10.74GB"),
        ("Udev Sync Supported", "true"),
        ("Data Space Total", "40.8GB"),
        ("Metadata Space Used", "16.86MB"),
        ("Metadata Space Total", "427.8MB"),
        ("Metadata Space Available", "411MB"),
        ("Thin Pool Minimum Free Space", "4.079GB"),
        ("Deferred Removal Enabled", "true"),
        ("Deferred Deletion Enabled", "true"),
        ("Deferred Deleted Device Count", "0"),
    ):
        assert shown[label] == value
    space = os.statvfs(tmp_path)
    if space.f_bfree * space.f_frsize > 41 * GIB:
        assert store.warnings == []
    else:  # this machine is smaller than the disk may become
        assert [f"{file} is a sparse file" in text for text in store.warnings] == [True]


def test_all_settings(tmp_path: Path, lvm_folder: Path) -> None:
    file = disk(tmp_path / "disk", GIB)
    flags = {
        "--vg": "cargo", "--pool": "hold-1", "--data-percent": "60", "--metadata-percent": "5",
        "--chunk-size": "128K", "--autoextend-threshold": "70", "--autoextend-percent": "30", "--zero": "y",
    }  # fmt: skip
    words = [word for pair in flags.items() for word in pair]
    assert main(["setup", "direct-lvm", str(file), *words, "--storage-opt", "dm.basesize=64M"]) == 0
    made = text_of(tmp_path / "root", "cargo")
    assert "extent_count = 153" in made  # 60 % of 255
    assert "extent_count = 12" in made
    assert "chunk_size = 256" in made
    assert "zero_new_blocks = 1" in made
    # LVM's own folder is root's; others keep the profile with the store.
    home = lvm_folder if os.geteuid() == 0 else tmp_path / "root" / "lvm"
    profile = home / "profile/cargo-hold-1.profile"
    assert "threshold=70" in profile.read_text()
    assert "percent=30" in profile.read_text()
    with Store.open() as store:
        assert store.info().pool_name == "cargo-hold--1"
        store.teardown()
    assert not profile.exists()
    assert not (tmp_path / "root").exists()


def test_setting_up_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    set_up(root, "direct-lvm").close()
    before, config = text_of(root), (root / "config.toml").read_text()
    set_up(root, "direct-lvm").close()
    Store.setup(root).close()
    Store.setup(root, mode="direct-lvm").close()
    assert text_of(root) == before
    for option, words in (
        ("dm.thinp_percent=90", "another share of data: 80, not 90"),
        ("dm.thinp_autoextend_percent=30", "another autoextend percent: 20, not 30"),
        (f"dm.directlvm_device={tmp_path / 'x'}", "another disks"),
        ("lamella.vg=else", "another volume group: docker, not else"),
        ("lamella.zero=true", "another zeroing"),
        ("dm.thinpooldev=docker/thinpool", "another pool"),
        ("dm.blocksize=128K", "block size of 65536 bytes"),
    ):
        with pytest.raises((ExistsError, UsageError), match=words):
            Store.setup(root, storage_options=[option])
    with pytest.raises(ExistsError, match="set up as direct-lvm, not as loop-lvm"):
        Store.setup(root, mode="loop-lvm")
    assert (root / "config.toml").read_text() == config
    assert_sound(root)


def test_lvm2_accepts_the_group(tmp_path: Path, tool: Callable[[str], str]) -> None:
    program = tool("lvm")
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    root, file = tmp_path / "root", disk(tmp_path / "disk", 40 * GIB)
    Store.setup(root, mode="direct-lvm", storage_options=[f"dm.directlvm_device={file}"]).close()
    done = subprocess.run(
        [tool("losetup"), "-f", "--show", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("no loop device can be set up here")
    loop = done.stdout.strip()
    try:
        config = (
            f'global{{activation=0}} devices{{filter=["a|^{loop}$|","r|.*|"] use_devicesfile=0 '
            'hints="none"} backup{backup=0 archive=0}'
        )

        def real(*words: str) -> str:
            command = [program, words[0], "--config", config, *words[1:]]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        real("vgck", "docker")
        real("pvck", loop)
        rows = json.loads(
            real("lvs", "-a", "--reportformat", "json", "--units", "m", "-o",
                 "lv_name,lv_size,seg_pe_ranges,chunk_size,transaction_id,zero,lv_profile,discards")
        )["report"][0]["lv"]  # fmt: skip
        found = {row["lv_name"]: row for row in rows}
        assert [(name, row["lv_size"], row["seg_pe_ranges"]) for name, row in sorted(found.items())] == [
            ("[lvol0_pmspare]", "408.00m", f"{loop}:9829-9930"),
            ("[thinpool_tdata]", "38908.00m", f"{loop}:0-9726"),
            ("[thinpool_tmeta]", "408.00m", f"{loop}:9727-9828"),
            ("thinpool", "38908.00m", "thinpool_tdata:0-9726"),
        ]
        pool = found["thinpool"]
        assert (pool["chunk_size"], pool["transaction_id"], pool["zero"]) == ("0.50m", "0", "")
        assert (pool["lv_profile"], pool["discards"]) == ("docker-thinpool", "passdown")
        vg = json.loads(real("vgs", "--reportformat", "json", "-o", "vg_extent_count,vg_seqno,lv_count"))
        assert vg["report"][0]["vg"] == [{"vg_extent_count": "10239", "vg_seqno": "6", "lv_count": "1"}]
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def test_the_map(store: Store, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.create("sample", name="web")
    roots = store.map()
    seen: dict[str, set[str]] = {}

    def walk(node: object, depth: int = 0) -> None:
        assert depth < 20
        assert isinstance(node, lamella.driver.stack_node.Node)
        seen.setdefault(node.kind, set()).add(node.name)
        assert node.used is None or 0 <= node.used <= max(node.size, node.used * (node.kind == "file"))
        for child in node.children:
            walk(child, depth + 1)

    for each in roots:
        walk(each)
    assert seen["container"] == {"web"}
    assert seen["image"] == {"sample:latest"}
    assert seen["base"] == {"base"}
    if mode == "direct-lvm":
        assert seen["disk"] == set(map(str, disks_of(store.root)))
        assert seen["lv"] == {"docker/thinpool_tdata", "docker/thinpool_tmeta", "docker/lvol0_pmspare"}
        assert seen["pool"] == {"docker-thinpool"}
    else:
        assert seen["file"] == {str(store.root / "pool/data"), str(store.root / "pool/metadata")}
    root = str(store.root)
    store.close()
    assert main(["--root", root, "map", "--tree"]) == 0
    tree = capsys.readouterr().out
    assert "└─web" in tree
    assert tree.count("└─web") == 1
    assert "as above" in tree
    assert main(["--root", root, "map", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["children"]
    assert main(["--root", root, "map"]) == 0
    assert "─" not in capsys.readouterr().out
