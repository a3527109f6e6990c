# SPDX-License-Identifier: Apache-2.0
"""The configuration text's grammar, in the quick reader and in the full one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import CorruptError, LamellaError
from lamella.lvm.format import text
from lamella.lvm.format.text import Bare, parse, quote, write_nodes, write_value


def test_all_kinds_of_values() -> None:
    parsed = parse(
        "# a comment with = and {\n"
        "one = 1\nnegative=-5 octal = 010\nhalf=.5 e = 2.5\n"
        'string = "a \\"quoted\\" \\\\ one" raw = \'as \\ it is\' word = writethrough\n'
        "list = [ \"a\", 1, 2.5 , 'x', bare ] empty = []\n"
        'tight{in="side" deep { x = 1 } }\n"quoted key" { y = 2 }\n'
    )
    assert parsed == {
        "one": 1,
        "negative": -5,
        "octal": 8,
        "half": 0.5,
        "e": 2.5,
        "string": 'a "quoted" \\ one',
        "raw": "as \\ it is",
        "word": "writethrough",
        "list": ["a", 1, 2.5, "x", "bare"],
        "empty": [],
        "tight": {"in": "side", "deep": {"x": 1}},
        "quoted key": {"y": 2},
    }
    assert isinstance(parsed["word"], Bare)


def test_path_in_a_key_opens_sections() -> None:
    assert parse("global/activation=0 global/units=h", merge=True) == {
        "global": {"activation": 0, "units": "h"}
    }


def test_doubled_keys() -> None:
    twice = "a = 1\na = 2\ns { x = 1 }\ns { y = 2 }\n"
    assert parse(twice) == {"a": 1, "s": {"x": 1}}
    assert parse(twice, merge=True) == {"a": 2, "s": {"x": 1, "y": 2}}


def test_a_nul_ends_the_text() -> None:
    assert parse("a = 1\0 } broken") == {"a": 1}


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ("a = ", 1),
        ("\n\na = }", 3),
        ("a {\n b = 1\n", 3),
        ("}", 1),
        ('a = "never ends', 1),
        ("a = [ 1, 2", 1),
        ("a = [ 1 2 ]", 1),
        ("a", 1),
        ('"" { }', 1),
        ("a = 99999999999999999999999", 1),
        ("a = 0x10", 1),
        ("{ }", 1),
        ("= 1", 1),
        ("a = 089", 1),
    ],
)
def test_broken_text_names_the_line(broken: str, line: int) -> None:
    with pytest.raises(CorruptError, match=rf"\(line {line}\)"):
        parse(broken)


def test_nesting_is_bounded() -> None:
    with pytest.raises(CorruptError, match="nested too deeply"):
        parse("a {" * 100_000)
    with pytest.raises(CorruptError):
        parse("a/" * 100_000 + "b = 1", merge=True)


@pytest.mark.parametrize(
    "lines",
    [
        'vg {\nid = "x"\nseqno = 1\nstatus = ["A", "B"]\nflags = []\n\n'
        'sub {\nstripes = [\n"pv0", 0,\n"pv1", 7\n]\n}\n}\n',
        'a = 1\t# comment\nb = "x # y"\nc = "x" # "y"\n',
        'a = "with \\" escape"\n',
        "a = [\n1, 2\n]\n",
        '\ta = 5\n\tb {\n\t\tc = "d"\n\t}\n',
    ],
)
def test_quick_and_full_reader_agree(lines: str) -> None:
    quick = text._parse_lines(lines)
    assert quick is None or quick == text._Parser(lines, False, []).file()


plain = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
scalars = st.one_of(st.integers(-(1 << 62), 1 << 62), plain)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,8}", fullmatch=True)
sections = st.recursive(
    st.dictionaries(keys, st.one_of(scalars, st.lists(scalars, max_size=4)), max_size=5),
    lambda inner: st.dictionaries(keys, st.one_of(scalars, inner), max_size=4),
    max_leaves=20,
)


@given(sections)
def test_what_is_written_is_read_again(section: text.Section) -> None:
    written = "\n".join(write_nodes(section)) + "\n"
    assert parse(written) == section
    assert text._Parser(written, True, []).file() == section


@given(plain)
def test_quoting(value: str) -> None:
    assert parse(f"a = {quote(value)}") == {"a": value}
    assert parse(f"a = {write_value([value, 1])}") == {"a": [value, 1]}


@given(st.text(st.sampled_from("{}[]=#\"'\\/,. \n\tab01+-\0é"), max_size=60))
def test_any_text_is_read_or_refused(anything: str) -> None:
    for merge in (False, True):
        try:
            parse(anything, merge=merge)
        except LamellaError:
            pass
