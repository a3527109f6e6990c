# SPDX-License-Identifier: Apache-2.0
"""Next steps that an error names are shown with the commands to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lamella import remedies
from lamella.cli import main as cli
from lamella.errors import BusyError, NoSpaceError, Remedy, UsageError

BELOW = ("thin", "fs", "lvm", "devicemapper", "block", "images")
SOURCE = Path(remedies.__file__).parent


def test_every_remedy_has_its_words() -> None:
    assert remedies.COMMANDS.keys() == set(Remedy)
    assert all("lamella" in words for words in remedies.COMMANDS.values())
    assert not any("lamella" in remedy.value for remedy in Remedy)


def test_the_words_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    busy = BusyError("cannot unmount /x: in use", steps=[Remedy.UNMOUNT_LAZILY], target="/x")
    assert busy.hint == "end what uses it, or unmount it lazily: umount --lazy /x"
    assert remedies.hint_of(busy) == "end what uses it, or unmount it lazily: lamella umount --lazy /x"
    full = NoSpaceError("full", steps=[Remedy.EXTEND_DATA, "wait"])
    assert full.hint == "extend the pool's data; then wait"
    assert remedies.hint_of(full) == "lamella grow --data +20%; then wait"
    assert remedies.hint_of(UsageError("no", hint="try this")) == "try this"
    cli._explain(full)
    assert capsys.readouterr().err == "lamella: error: full\n  lamella grow --data +20%; then wait\n"


@pytest.mark.parametrize("package", BELOW)
def test_lower_layers_name_no_commands(package: str) -> None:
    command = re.compile(r"""["' `]lamella (grow|repair|check|activate|deactivate|rmi?|pvs|umount|mount) ?""")
    for file in (SOURCE / package).rglob("*.py"):
        assert not command.search(file.read_text()), file
