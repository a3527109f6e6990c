# SPDX-License-Identifier: Apache-2.0
"""Numbers and names in mke2fs's options that are none."""

from __future__ import annotations

import pytest

from lamella.errors import UsageError
from lamella.fs.ext4.mkfs_options import parse_options


@pytest.mark.parametrize(
    "words",
    [
        ("-b", "4096²"),
        ("-i", "9" * 5000),
        ("-E", "stride=²"),
        ("-E", "resize=" + "9" * 5000),
        ("-E", "resize=²"),
    ],
)
def test_no_number(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        parse_options(words)


def test_a_label_is_the_bytes_of_the_command_line() -> None:
    assert parse_options(("-L", "a\udcbf")).label == b"a\xbf"
