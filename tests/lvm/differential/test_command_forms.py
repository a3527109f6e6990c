# SPDX-License-Identifier: Apache-2.0
"""Our tables of commands against the options that the installed LVM2 lists (``lvm COMMAND --longhelp``)."""

from __future__ import annotations

import pytest

from lamella.cli.lvm.syntax.commands import COMMANDS
from lamella.cli.lvm.syntax.grammar import find_command
from tests.lvm.differential.command_forms import forms
from tests.lvm.differential.programs import need_own_version


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_lvm2_is_known_with_its_kind_of_value(name: str) -> None:
    need_own_version()
    known = find_command(name)
    assert known is not None
    listed = {
        (option.name, bool(option.kind))
        for form in forms(name)
        for option in (*form.required, *form.any_of, *form.optional, *form.common)
    }
    assert listed <= {(option.name, bool(option.kind)) for option in known.table.values()}
