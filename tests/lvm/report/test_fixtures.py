# SPDX-License-Identifier: Apache-2.0
"""Reports over groups made by the real LVM2 in a guest, field by field against what it said there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lvm.oracle import ours
from tests.support.docker_stores import ALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.docker_stores import DockerStore, DockerStores

GROUPS = {"lvm-a": ("vdb", "vdc"), "lvm-c": ("vdb", "vdc"), "lvm-e": ("vdb", "vdc", "vdd", "vde")}
REPORTS = {
    "lvs": ["lvs", "-a", "-o", "lv_all"],
    "segs": ["lvs", "-a", "--segments", "-o", "lv_name,lv_uuid,seg_all"],
    "vgs": ["vgs", "-o", "vg_all"],
    "pvs": ["pvs", "--segments", "-o", "pv_all,pvseg_all"],
}
OF_THIN = ("data_percent", "snap_percent", "metadata_percent")
"""We read these from the pool's metadata where the kernel does not have it."""
NUMBERS = ("pv_major", "pv_minor")
"""Plain files have none."""


def rows(words: list[str], disks: dict[str, str]) -> list[dict[str, str]]:
    """The rows of a JSON report, with the guest's device names."""
    got = ours([*words, "--reportformat", "json"], list(disks), config="global{activation=1}")
    assert got.code == 0, got.err
    found = next(iter(json.loads(got.renamed(disks).out)["report"][0].values()))
    assert isinstance(found, list)
    return found


def said(path: Path) -> list[dict[str, str]]:
    found = next(iter(json.loads(path.read_text())["report"][0].values()))
    assert isinstance(found, list)
    return found


def without(found: list[dict[str, str]], *keys: str) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key not in keys} for row in found]


def place(row: dict[str, str]) -> tuple[str, int, str]:
    """What rows are sorted by, for LVM2 sorts disks by their real names."""
    return row.get("pv_name", ""), int(row.get("pvseg_start", "0")), row.get("lv_name", "")


def disks_of(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    return {str(folder / f"{name}.img"): f"/dev/{name}" for name in names}


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("name", GROUPS)
def test_fields_of_an_inactive_group(name: str, report: str, fixture_dir: Callable[[str], Path]) -> None:
    folder = fixture_dir(f"{name}.tar.zst") / name
    got = rows(REPORTS[report], disks_of(folder, GROUPS[name]))
    wanted = said(folder / f"{report}.json")
    if report == "pvs":
        wanted = [row for row in wanted if row["pv_name"].removeprefix("/dev/") in GROUPS[name]]
    assert list(got[0]) == list(wanted[0])
    if report in ("lvs", "segs"):
        assert [row["lv_name"] for row in got] == [row["lv_name"] for row in wanted]
    got, wanted = (sorted(found, key=place) for found in (got, wanted))
    assert without(got, *OF_THIN, *NUMBERS) == without(wanted, *OF_THIN, *NUMBERS)


def test_thin_usage_is_what_the_kernel_said(fixture_dir: Callable[[str], Path]) -> None:
    folder = fixture_dir("lvm-c.tar.zst") / "lvm-c"
    got = {row["lv_name"]: row for row in rows(REPORTS["lvs"], disks_of(folder, GROUPS["lvm-c"]))}
    for row in said(folder / "lvs.active.json"):
        for field in OF_THIN:
            if row["lv_name"] == "snap1":
                continue  # it was not active, so the kernel was not asked
            assert got[row["lv_name"]][field] == row[field], (row["lv_name"], field)


def disk_of(store: DockerStore) -> dict[str, str]:
    """The disk of a store, with the name that it had in the guest."""
    return {str(store.disk): said(store.folder / "pvs.json")[0]["pv_name"]}


DIRECT = [(fs, state) for mode, fs, state in ALL if mode == "direct-lvm"]


@pytest.mark.parametrize(("fs", "state"), DIRECT)
@pytest.mark.parametrize(("report", "words"), [("vgs", REPORTS["vgs"]), ("pvs", ["pvs", "-o", "pv_all"])])
def test_docker_group(report: str, words: list[str], docker_store: DockerStores, fs: str, state: str) -> None:
    store = docker_store("direct-lvm", fs, state)
    got, wanted = rows(words, disk_of(store)), said(store.folder / f"{report}.json")
    assert without(got, *NUMBERS) == without(wanted, *NUMBERS)


@pytest.mark.parametrize(("fs", "state"), DIRECT)
def test_docker_segments(docker_store: DockerStores, fs: str, state: str) -> None:
    store = docker_store("direct-lvm", fs, state)
    got, wanted = rows(REPORTS["segs"], disk_of(store)), said(store.folder / "segs.json")
    of_kernel = ("seg_monitor", "kernel_discards")
    assert without(got, *of_kernel) == without(wanted, *of_kernel)


@pytest.mark.parametrize(("fs", "state"), DIRECT)
def test_docker_pool_and_its_usage(docker_store: DockerStores, fs: str, state: str) -> None:
    store = docker_store("direct-lvm", fs, state)
    wanted = {row["lv_name"]: row for row in said(store.folder / "lvs.json")}
    got = {row["lv_name"]: row for row in rows(["lvs", "-a", "-o", "lv_all"], disk_of(store))}
    assert got.keys() == wanted.keys()
    of_kernel = {
        key for key in next(iter(wanted.values())) if key.startswith(("lv_kernel", "lv_active", "lv_live"))
    }
    of_kernel |= {"lv_attr", "lv_permissions", "lv_suspended", "lv_inactive_table", "lv_device_open"}
    of_kernel |= {"kernel_discards", "lv_check_needed", "lv_health_status"}
    assert wanted["thinpool"]["lv_health_status"] == ("out_of_data" if state == "full" else "")
    for name, row in wanted.items():
        different = {key for key in row if got[name][key] != row[key]} - of_kernel
        assert not different, {key: (got[name][key], row[key]) for key in different}


def test_json_standard(fixture_dir: Callable[[str], Path]) -> None:
    """``json_std``: numbers bare, lists as lists, what is not there as null."""
    folder = fixture_dir("lvm-a.tar.zst") / "lvm-a"
    words = ["lvs", "-o", "lv_name,seg_count,lv_tags,data_percent,lv_size", "--units", "b", "--nosuffix"]
    got = ours(
        [*words, "--reportformat", "json_std", "vg1/renamed-lv_2.x"], list(disks_of(folder, GROUPS["lvm-a"]))
    )
    row: dict[str, Any] = json.loads(got.out)["report"][0]["lv"][0]
    assert row == {
        "lv_name": "renamed-lv_2.x",
        "seg_count": 1,
        "lv_tags": ["bar/baz", "foo"],
        "data_percent": None,
        "lv_size": 20971520,
    }
