# SPDX-License-Identifier: Apache-2.0
"""Our tables of commands against the options that the installed LVM2 lists (``lvm COMMAND --longhelp``)."""

from __future__ import annotations

import pytest

from lamella.cli.lvm.syntax.commands import COMMANDS
from lamella.cli.lvm.syntax.grammar import find_command
from tests.conftest import missing
from tests.lvm.differential.command_forms import forms
from tests.lvm.differential.programs import VERSION, real_version


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_lvm2_is_known_with_its_kind_of_value(name: str) -> None:
    version = real_version()
    if not version:
        missing("the program lvm (LVM2)")
    if version != VERSION:
        pytest.skip(f"the tables are those of LVM2 {VERSION}, and {version} is here")
    known = find_command(name)
    assert known is not None
    listed = {
        (option.name, bool(option.kind))
        for form in forms(name)
        for option in (*form.required, *form.any_of, *form.optional, *form.common)
    }
    assert listed <= {(option.name, bool(option.kind)) for option in known.table.values()}
