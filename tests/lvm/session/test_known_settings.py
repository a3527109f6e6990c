# SPDX-License-Identifier: Apache-2.0
"""The table of LVM2's settings, and what is said about values."""

from __future__ import annotations

import pytest
from scripts.lvm_settings import table, version

from lamella.lvm.session.config import parse_text
from lamella.lvm.session.known_settings import TABLE, known_settings, summaries
from lamella.lvm.session.setting_checks import setting_faults
from lamella.lvm.session.setting_trees import VERSION, packed
from tests.conftest import missing
from tests.lvm.differential.programs import VERSION as JUDGE
from tests.lvm.differential.programs import real_version


@pytest.mark.slow
def test_the_table_is_that_of_the_installed_lvm2() -> None:
    if not real_version():
        missing("the program lvm (LVM2)")
    if real_version() != JUDGE:
        pytest.skip(f"the table is that of LVM2 {JUDGE}, and {real_version()} is here")
    assert version() == ".".join(str(part).zfill(2 if at else 1) for at, part in enumerate(VERSION))
    assert table() == TABLE.read_text("utf-8")


def test_every_setting_has_a_description() -> None:
    assert list(summaries()) == list(known_settings().by_path)


def test_types_and_defaults() -> None:
    known = known_settings().by_path
    assert known["global/umask"].default == 0o77
    assert known["devices/filter"].default == ["a|.*|"]
    assert known["activation/process_priority"].default == -18
    assert known["metadata/pvmetadatasize"].default is None
    for setting in known.values():
        kinds = {"bool": int, "int": int, "string": str, "strings": list, "mixed": list}
        if not setting.is_section and setting.default is not None:
            assert isinstance(setting.default, kinds[setting.type]), setting.path


@pytest.mark.parametrize(
    "path", [path for path, each in known_settings().by_path.items() if not each.is_section]
)
def test_a_default_is_a_valid_value(path: str) -> None:
    setting = known_settings().by_path[path]
    if setting.default_text:
        name = path.replace("<", "").replace(">", "")
        assert setting_faults(parse_text(f"{name}={setting.default_text}")) == []


def test_versions_compare_as_in_lvm2() -> None:
    """Asked of LVM2 2.03.16: ``--atversion 2.2.600`` lists what 2.3.88 has, 9.9.9 what 1.9.9 has."""
    assert packed("2.2.600") == packed("2.3.88")
    assert packed("9.9.9") == packed("1.9.9")
