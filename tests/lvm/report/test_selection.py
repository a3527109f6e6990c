# SPDX-License-Identifier: Apache-2.0
"""Selections that cannot be understood: LVM2 2.03.16's words, and an end."""

from __future__ import annotations

import warnings

import pytest

from lamella.lvm.report.selection import Selection, SelectionError

FAILED = "Failed to parse string list value for selection field lv_tags.\nSelection syntax error at "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lv_tags={"x" && [', "Invalid operator in selection list.\n" + FAILED),
        ("lv_tags={a (}", "Invalid operator in selection list.\n" + FAILED),
        ('lv_tags={"a" {"b"}', "Invalid operator in selection list.\n" + FAILED),
        ("lv_tags={a", "Invalid operator in selection list.\n" + FAILED),
        ("lv_tags={ ", "Invalid operator in selection list.\n" + FAILED),
        ("lv_tags={a &&", "Missing list end for selection field lv_tags\n" + FAILED),
        (
            "lv_tags={a || b && c}",
            "Only one type of logical operator allowed in selection list at a time.\n" + FAILED,
        ),
        ("lv_tags={", "Missing list end for selection field lv_tags\n" + FAILED),
    ],
)
def test_a_list_that_does_not_end(text: str, said: str) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection.parse(text, "lv")
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize(
    "text", ["lv_tags=[(]", 'lv_tags={"x" && [}', "lv_tags={)}", "lv_tags={&& a}", "lv_tags={a,}"]
)
def test_other_brackets_in_a_list_are_words(text: str) -> None:
    assert Selection.parse(text, "lv").fields == ["lv_tags"]


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 5000, "[["])
def test_no_regular_expression(pattern: str) -> None:
    with pytest.raises(SelectionError, match="Failed to parse regex value for selection field lv_name"):
        Selection.parse(f'lv_name=~"{pattern}"', "lv")


def test_a_regular_expression_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Selection.parse('lv_name=~"[[a]&&b"', "lv").fields == ["lv_name"]


@pytest.mark.parametrize("text", ["(" * 5000, "!(" * 5000])
def test_too_many_parentheses(text: str) -> None:
    with pytest.raises(SelectionError, match="nested too deeply"):
        Selection.parse(text, "lv")
