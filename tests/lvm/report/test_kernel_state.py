# SPDX-License-Identifier: Apache-2.0
"""Reports on active volumes: what LVM2's lvs said of a recorded state, and states that are rare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lamella.block.device import SECTOR
from lamella.lvm.activation.device_tree import resolved, wanted_devices
from lamella.lvm.report import kernel_state
from lamella.lvm.report import report as reporting
from lamella.lvm.report.kernel_state import KernelView, pool_state, thin_state
from lamella.lvm.report.report import Request
from lamella.lvm.report.view import GroupView, Sources, Usage
from tests.lvm.activation.test_device_tree import FOLDER, Recorded, chosen, disks, load
from tests.support.fake_kernel import FakeKernel, fake_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lamella.lvm.format.model import LogicalVolume, VolumeGroup

READ_AHEAD = 128 << 10
"""Bytes."""


@pytest.fixture(autouse=True)
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_state, "read_ahead", lambda major, minor: READ_AHEAD // SECTOR)


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with fake_kernel() as made:
        yield made


def activate(kernel: FakeKernel, then: Recorded, status: dict[str, str]) -> None:
    """Give *kernel* the devices of a recorded state, with the *status* of pools and thin volumes."""
    kernel.pools = status
    numbers: dict[str, str] = {}
    for wanted in wanted_devices(then.group, chosen(then.group, then.commands), disks(then.group)):
        kernel.add(wanted.name, wanted.uuid, resolved(wanted.table, numbers), read_only=wanted.read_only)
        numbers[wanted.uuid] = kernel.device(wanted.name).number


def lvs(group: VolumeGroup, kernel: FakeKernel, fields: list[str]) -> dict[str, dict[str, str]]:
    view = KernelView(kernel.client)

    def usage(vg: VolumeGroup, lv: LogicalVolume) -> Usage:
        target = view.target(vg, lv)
        return target.usage if target is not None else Usage()

    around = Sources(True, view.state, usage, active=view.active, target=view.target)
    request = Request("lv", [",".join(["lv_name", *fields])], format="json", hidden=True)
    text = reporting.build(request, [GroupView(group, {}, around)]).text(request)
    rows: list[dict[str, str]] = json.loads(text)["report"][0]["lv"]
    return {row.pop("lv_name").strip("[]"): row for row in rows}


def recorded() -> list[Any]:
    return [
        pytest.param(path.stem, number, act["lvs"], act["status"], id=f"{path.stem}: {act['commands'][-1]}")
        for path in sorted(FOLDER.glob("*.json"))
        for number, act in enumerate(json.loads(path.read_text()))
    ]


@pytest.mark.parametrize(("name", "number", "rows", "status"), recorded())
def test_fields_are_lvms(
    kernel: FakeKernel, name: str, number: int, rows: dict[str, dict[str, str]], status: dict[str, str]
) -> None:
    then = load(name, number)
    activate(kernel, then, status)
    fields = list(next(iter(rows.values())))
    assert lvs(then.group, kernel, fields) == rows


@pytest.mark.parametrize(
    ("text", "attributes", "health", "check"),
    [
        ("80/80 - out_of_data_space discard_passdown queue_if_no_space -", "aoD", "out_of_data", ""),
        ("69/80 - ro discard_passdown queue_if_no_space -", "aoM", "metadata_read_only", ""),
        (
            "0/80 - ro discard_passdown queue_if_no_space needs_check",
            "coM",
            "metadata_read_only",
            "check needed",
        ),
        ("Fail", "aoF", "failed", ""),
    ],
)
def test_pools_in_trouble(kernel: FakeKernel, text: str, attributes: str, health: str, check: str) -> None:
    then = load("thin")
    line = text if text == "Fail" else f"5 20/1024 {text} 256 "
    activate(kernel, then, {"vg0-pool-tpool": line})
    row = lvs(then.group, kernel, ["lv_attr", "lv_health_status", "lv_check_needed"])["pool"]
    letters = row["lv_attr"][4] + row["lv_attr"][5] + row["lv_attr"][8]
    assert (letters, row["lv_health_status"], row["lv_check_needed"]) == (attributes, health, check)


def test_status_lines() -> None:
    state = pool_state("5 20/1024 40/80 - rw no_discard_passdown error_if_no_space - 256 ")
    assert state is not None
    assert (state.usage.data, state.usage.metadata, state.discards) == (50.0, 100 * 20 / 1024, "nopassdown")
    assert pool_state("nonsense") is None
    thin = thin_state("1024 2047", 4096)
    assert thin is not None
    assert thin.usage.data == 25.0
    assert thin_state("", 8) is None
