# SPDX-License-Identifier: Apache-2.0
"""Every state of a pool gets a diagnosis, with the next commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.remedies import worded
from lamella.thin.format.space_map import SpaceMapRoot
from lamella.thin.format.superblock import Superblock
from lamella.thin.health import Diagnosis, Facts, Severity, diagnose, diagnose_line, refuse_activation
from lamella.thin.status import parse_status

FACTS = Facts(64 << 10, kernel=True, min_free_percent=10, no_space_timeout=60)
DOCUMENT = Path(__file__).parents[2] / "docs/reference/pool-states.md"

STATES = {
    "0 117/1024 100/1024 - rw discard_passdown queue_if_no_space - 256 ": ("fine", Severity.FINE),
    "0 117/1024 850/1024 - rw discard_passdown queue_if_no_space - 256 ": ("data-low", Severity.SOON),
    "0 900/1024 100/1024 - rw discard_passdown queue_if_no_space - 256 ": ("metadata-low", Severity.SOON),
    "0 117/1024 1000/1024 - rw discard_passdown queue_if_no_space - 256 ": (
        "data-below-minimum",
        Severity.LIMITED,
    ),
    "0 1000/1024 100/1024 - rw discard_passdown queue_if_no_space - 256 ": (
        "metadata-below-minimum",
        Severity.LIMITED,
    ),
    "0 117/1024 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 256 ": (
        "full",
        Severity.LIMITED,
    ),
    "0 117/1024 1024/1024 - out_of_data_space discard_passdown error_if_no_space - 256 ": (
        "full",
        Severity.BROKEN,
    ),
    "0 512/512 6925/65536 - ro discard_passdown queue_if_no_space - 128 ": ("metadata-full", Severity.BROKEN),
    "0 114/1024 300/4096 - ro discard_passdown queue_if_no_space needs_check 256 ": (
        "needs-check",
        Severity.BROKEN,
    ),
    "Fail": ("failed", Severity.BROKEN),
    "Error": ("failed", Severity.BROKEN),
}
"""Status lines of Linux 6.1."""


@pytest.mark.parametrize("line", STATES)
def test_status_lines(line: str) -> None:
    found = diagnose_line(line, FACTS)
    assert (found.state, found.severity) == STATES[line]
    _check_words(found)


def _check_words(found: Diagnosis) -> None:
    """All of it is there, it fits its sentence, and the document has it."""
    assert f"`{found.state}`" in DOCUMENT.read_text()
    if found.severity is Severity.FINE:
        assert found.lines() == []
        return
    assert found.summary.split()[0] in ("is", "has", "may", "cannot", "lacks", "was", "recorded")
    assert found.meaning
    assert found.steps
    assert found.text().startswith(f"the pool {found.summary}\n         ")


def test_what_no_status_line_tells() -> None:
    rw = parse_status("0 117/1024 100/1024 - rw discard_passdown queue_if_no_space - 256 ")
    gone = Facts(64 << 10, missing_disks=("/dev/vdc",))
    beside = Facts(64 << 10, missing_disks=("/dev/vdc",), lies_on_missing=False)
    for found, state in (
        (diagnose_line("", FACTS, kind="error"), "error-table"),
        (diagnose(rw, Facts(64 << 10, suspended=True)), "suspended"),
        (diagnose(rw, gone), "missing-disk"),
        (diagnose(rw, beside), "disk-missing-beside"),
        (diagnose(rw, Facts(64 << 10, host_free=1 << 20)), "host-low"),
    ):
        assert found.state == state
        _check_words(found)
    assert "/dev/vdc" in diagnose(rw, gone).summary
    assert diagnose(rw, Facts(64 << 10, host_free=1 << 40)).state == "fine"


@pytest.mark.parametrize(
    ("timeout", "words"), [(60.0, "within 60 s"), (0.0, "for ever"), (None, "no_space_timeout")]
)
def test_how_long_writers_wait(timeout: float | None, words: str) -> None:
    full = parse_status("0 117/1024 1024/1024 - out_of_data_space discard_passdown queue_if_no_space - 256 ")
    assert words in diagnose(full, Facts(64 << 10, kernel=True, no_space_timeout=timeout)).meaning


def test_the_user_engine_has_nothing_to_deactivate() -> None:
    line = "0 114/1024 300/4096 - ro discard_passdown queue_if_no_space needs_check 256 "
    assert [worded(step) for step in diagnose_line(line, Facts(64 << 10)).steps] == ["lamella repair"]


def test_devices_that_do_not_fit() -> None:
    fields = Superblock(SpaceMapRoot(4096, 0, 0, 0), SpaceMapRoot(512, 0, 0, 0), 1, 2, 128)
    sizes = {"metadata_size": 512 * 4096, "data_size": 4096 << 16, "chunk_size": 64 << 10}
    assert refuse_activation(fields, **sizes) is None
    for change, state in (
        ({"chunk_size": 128 << 10}, "wrong-chunk-size"),
        ({"data_size": 4095 << 16}, "data-device-smaller"),
        ({"metadata_size": 511 * 4096}, "metadata-device-smaller"),
    ):
        found = refuse_activation(fields, **(sizes | change))
        assert found is not None
        assert found.state == state
        _check_words(found)
