# SPDX-License-Identifier: Apache-2.0
"""Command lines, right and wrong ones, on which LVM2 and Lamella have to agree: the files in ``usage``.

The exit code, all that is printed, and the disks afterwards; the authority is the LVM2 that is installed.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.lvm.differential.compare import Result, differences
from tests.lvm.differential.disks import Disks
from tests.lvm.differential.programs import VERSION, ours, real, real_version
from tests.lvm.differential.starts import mixed
from tests.lvm.differential.there import look

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE = Path(__file__).parent / "usage"


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    version = real_version()
    if not version:
        missing("the program lvm (LVM2)")
    if version != VERSION:
        pytest.skip(f"the answers are those of LVM2 {VERSION}, and {version} is here")
    made = Disks(tmp_path_factory.mktemp("usage"))
    try:
        mixed(made)
        yield made
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in USAGE.glob("*.txt")))
def test_lvm2_and_lamella_agree_on_these_command_lines(name: str, disks: Disks) -> None:
    """Each line is a command on the same disks; ``@0`` to ``@4`` stand for their names."""
    start = disks.content()
    known = look(disks.devices).uuids
    wrong: list[str] = []
    for line in (USAGE / f"{name}.txt").read_text().splitlines():
        words = [_disk(disks, word) for word in shlex.split(line)]
        disks.put_back(start, disks.content())
        expected = Result.of(real(words, disks.around), disks.devices, disks.content(), known)
        disks.put_back(start, disks.content())
        found = Result.of(ours(words, disks.around), disks.devices, disks.content(), known)
        wrong += [f"{line}: {each}" for each in differences(expected, found) if not each.startswith("files")]
    disks.put_back(start, disks.content())
    assert wrong == []


def _disk(disks: Disks, word: str) -> str:
    """The word with the device's name in place of ``@3``, of which a range of extents may follow."""
    if word[:1] == "@" and word[1:2].isdigit():
        return disks.devices[int(word[1])] + word[2:]
    return word
