# SPDX-License-Identifier: Apache-2.0
"""Status lines as the kernel printed them, read and written back."""

from __future__ import annotations

import pytest

from lamella.errors import BadInputError
from lamella.thin.status import PoolMode, parse_status

LINES = {
    "0 117/1024 1000/1024 - rw discard_passdown queue_if_no_space - 256 ": PoolMode.WRITE,
    "7 4115/104448 0/77816 31 rw no_discard_passdown queue_if_no_space - 1024 ": PoolMode.WRITE,
    "0 117/1024 1024/1024 - out_of_data_space discard_passdown error_if_no_space - 256 ": (
        PoolMode.OUT_OF_DATA_SPACE
    ),
    "0 512/512 6925/65536 - ro discard_passdown queue_if_no_space - 128 ": PoolMode.OUT_OF_METADATA_SPACE,
    "0 114/1024 300/4096 - ro discard_passdown queue_if_no_space needs_check 256 ": PoolMode.READ_ONLY,
    "3 63/512 128/4096 - ro ignore_discard queue_if_no_space - 128 ": PoolMode.READ_ONLY,
    "Fail": PoolMode.FAIL,
}
"""Of Linux 6.1, and what it means."""


@pytest.mark.parametrize("line", LINES)
def test_a_status_line_is_read_and_written_back(line: str) -> None:
    status = parse_status(line)
    assert status.mode is LINES[line]
    assert status.line() == line


def test_a_pool_that_cannot_read_its_own_numbers_has_failed() -> None:
    assert parse_status("Error").mode is PoolMode.FAIL


@pytest.mark.parametrize(
    "line", ["", "0 16384", "0 a/b 1/2 - rw discard_passdown queue_if_no_space -", "0 1/2"]
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(BadInputError):
        parse_status(line)
