# SPDX-License-Identifier: Apache-2.0
"""containerd's filter language: its own tests' cases, what it makes of others, and what would take long."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import UnsupportedError, UsageError
from lamella.services.containerd.filters import MOST_BYTES, parse
from lamella.services.containerd.tokens import Scanner, Token
from lamella.store.snapshot_model import Kind, Snapshot
from scripts import conformance
from tests.conftest import missing

if TYPE_CHECKING:
    from pathlib import Path


def snapshot(
    key: str, parent: str = "", labels: dict[str, str] | None = None, kind: Kind = Kind.ACTIVE
) -> Snapshot:
    return Snapshot(key, parent, kind, 0, 0, labels or {})


CORPUS = [
    snapshot("foo", "", {"foo": "true"}),
    snapshot("bar"),
    snapshot("foo", "", {"foo": "present", "more complex label": "present"}),
    snapshot("bar", "", {"bar": "true"}),
    snapshot("fooer", "", {'more complex label with \\ and "': "present"}),
    snapshot("fooer", "", {'more complex label with \\ and ".post': "present"}),
    snapshot("baz", "too complex, yo"),
    snapshot("bazo", "abc"),
    snapshot("compound", "", {"foo": "omg_asdf.asdf-qwer"}),
]
ALL = list(range(9))
# containerd v2.4.2, pkg/filters/filter_test.go; its field "other" is the parent here.
MATCHES = [
    ("", ALL),
    ("name", ALL),
    ("labels.foo", [0, 2, 8]),
    ("labels.foo,name", [0, 2, 8]),
    ("labels.foo==true", [0]),
    ("labels.foo==omg_asdf.asdf-qwer", [8]),
    ("name==bar", [1, 3]),
    ("name!=bar", [0, 2, 4, 5, 6, 7, 8]),
    ("name==bar,labels.bar", [3]),
    ('parent=="too complex, yo"', [6]),
    ("parent~=[abc]+,name!=foo", [6, 7]),
    ("parent~=/[abc]+/,name!=foo", [6, 7]),
    ("parent~=/[abc]{1,2}/,name!=foo", [6, 7]),
    ('parent~=/[abc]{0,1}"\\//,name!=foo', []),
    ("name==bar,labels.bar==true", [3]),
    ("name==bar,labels.bar==wrong", []),
    ('name==foo,labels."more complex label"', [2]),
    (r'labels."more complex label with \\ and \""==present', [4]),
    (r'labels."more complex label with \\ and \"".post==present', [5]),
]
ERRORS = [
    (
        "labels.|foo|==omg_asdf.asdf-qwer",
        "[labels. >|||< foo|==omg_asdf.asdf-qwer]: invalid quote encountered",
    ),
    (
        r'labels.?"more complex label with \\ and \"".post==present',
        r'[labels. >|?|< "more complex label with \\ and \"".post==present]: expected field or quoted',
    ),
    ("name==foo,", "[name==foo,]: expected field or quoted"),
    ("labels.", "[labels.]: expected field or quoted"),
    ("image~=,id?=?fbaq", "[image~= >|,|< id?=?fbaq]: expected value or quoted"),
    ("labels.ns/key==value", "[labels.ns >|/|< key==value]: quoted literal not terminated"),
    ("labels.key==/value", "[labels.key== >|/|< value]: quoted literal not terminated"),
]
F, S, V, Q, E = Token.FIELD, Token.SEPARATOR, Token.VALUE, Token.QUOTED, Token.END
OP, BAD = Token.OPERATOR, Token.ILLEGAL
# containerd v2.4.2, pkg/filters/scanner_test.go.
SCANS = [
    ("name==value,foo!=bar", [(0, F), (4, OP), (6, V), (11, S), (12, F), (15, OP), (17, V), (20, E)]),
    (r"name~=[abc]\+,foo=test", [(0, F), (4, OP), (6, V), (13, S), (14, F), (17, OP), (18, V), (22, E)]),
    (
        "name~=\u725b,labels.moo=true",
        [(0, F), (4, OP), (6, V), (9, S), (10, F), (16, S), (17, F), (20, OP), (21, V), (25, E)],
    ),
    (
        "name~=|\u725b|,labels.moo=true",
        [(0, F), (4, OP), (6, Q), (11, S), (12, F), (18, S), (19, F), (22, OP), (23, V), (27, E)],
    ),
    ("foo\0bar", [(0, F), (3, BAD), (4, F), (7, E)]),
    ("foo = bar    ", [(0, F), (4, OP), (6, V), (13, E)]),
    ("doublevalue=value value", [(0, F), (11, OP), (12, V), (18, F), (23, E)]),
    ("input==,id!=ff", [(0, F), (5, OP), (7, S), (8, F), (10, OP), (12, V), (14, E)]),
    ('labels."containerd.io\nkey"==value', [(0, F), (6, S), (7, BAD), (22, F), (25, BAD), (33, E)]),
    (r'labels."\g"', [(0, F), (6, S), (7, BAD), (11, E)]),
    (r'labels."\xaz"', [(0, F), (6, S), (7, BAD), (13, E)]),
]


def outcome(filters: list[str], snapshots: list[Snapshot]) -> tuple[list[int], str]:
    """The numbers of those that match, or with what message the filters are refused."""
    try:
        matches = parse(filters)
    except UsageError as error:
        return [], error.message
    return [number for number, found in enumerate(snapshots) if matches(found)], ""


@pytest.mark.parametrize(("text", "expected"), MATCHES)
def test_containerds_own_cases(text: str, expected: list[int]) -> None:
    assert outcome([text], CORPUS) == (expected, "")


@pytest.mark.parametrize(("text", "expected"), ERRORS)
def test_containerds_own_errors(text: str, expected: str) -> None:
    assert outcome([text], CORPUS) == ([], f"filters: parse error: {expected}")


@pytest.mark.parametrize(("text", "expected"), SCANS)
def test_containerds_own_words(text: str, expected: list[tuple[int, Token]]) -> None:
    scanner = Scanner(text.encode())
    found = []
    while not found or found[-1][1] is not Token.END:
        found.append(scanner.scan()[:2])
    assert found == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["v", "a", "c"]),
        (["kind==view"], ["v"]),
        (["kind==active", "kind==committed"], ["a", "c"]),
        (["kind==ACTIVE"], []),
        (['parent!=""'], ["v"]),
        (["parent==c"], ["v"]),
        (["created"], []),
        (["created!=1"], ["v", "a", "c"]),
        (["name.more==c"], ["c"]),
        (["labels"], []),
        (['labels."x.y"', "labels.x.y"], ["a"]),
        ([r'labels.x.y=="\xe9"'], []),
        ([r'labels.x.y=="\xc3\xa9"'], ["a"]),
        ([r'labels.x.y=="\351"'], []),
        ([r'labels.x.y=="\u00e9"'], ["a"]),
        ([r'labels."\xff"'], []),
        ([r"labels.x.y~=|^\\pL$|"], ["a"]),
        (["labels.x.y~=|^.$|"], ["a"]),
        (["labels.none~=|^$|"], ["v", "a", "c"]),
        (["name~=/(/"], []),
        ([r"name~=/(?i)A/"], ["a"]),
        (["name==(a)"], []),
        (["name== c "], None),
        (["name== c"], ["c"]),
    ],
)
def test_fields_of_a_snapshot(filters: list[str], expected: list[str] | None) -> None:
    snapshots = [
        snapshot("v", "c", kind=Kind.VIEW),
        snapshot("a", labels={"x.y": "\u00e9"}),
        snapshot("c", kind=Kind.COMMITTED),
    ]
    if expected is None:
        with pytest.raises(UsageError):
            parse(filters)
        return
    matches = parse(filters)
    assert [found.key for found in snapshots if matches(found)] == expected


@given(
    st.lists(
        st.text(st.sampled_from('ab1_.,=!~/|"\\xu7 \n\0\ufffd\u2003\u00e9') | st.characters(codec="utf-8")),
        max_size=3,
    )
)
def test_any_text_is_a_filter_or_refused(texts: list[str]) -> None:
    matching, refused = outcome(texts, CORPUS)
    assert not (matching and refused)
    assert refused == "" or refused.startswith("filters: parse error: [")


def test_an_expression_that_backtracking_takes_years_for() -> None:
    begun = time.monotonic()
    assert not parse(["name~=/^(a+)+$/"])(snapshot("a" * 100_000 + "b"))
    assert not parse(["name~=/^(a|aa|a?)*$/"])(snapshot("a" * 100_000 + "b"))
    assert time.monotonic() - begun < 60


def test_an_expression_that_takes_much_memory_matches_nothing() -> None:
    assert not parse(["name~=/((a{1000}){1000}){1000}/"])(snapshot("a"))
    assert not parse(["name~=/" + "(" * 30_000 + "/"])(snapshot("a"))


def test_many_and_long_filters_are_refused() -> None:
    assert parse(["name==" + "a" * (MOST_BYTES - 6)])(snapshot("a" * (MOST_BYTES - 6)))
    with pytest.raises(UsageError, match="longer than 65536 bytes"):
        parse(["name==" + "a" * (MOST_BYTES - 5)])
    with pytest.raises(UsageError, match="longer than 65536 bytes"):
        parse(["name"] * MOST_BYTES)


def test_an_error_shows_a_part_of_a_long_filter() -> None:
    long = "a" * 1000
    assert outcome([f"{long}=={long}("], CORPUS) == ([], "")
    for text, shown in (
        (f"{long}={long}", f"...{'a' * 500} >|=|< {'a' * 500}..."),
        (f"{long},", "a" * 1000 + "..."),
    ):
        refused = outcome([text], CORPUS)[1]
        assert refused.startswith(f"filters: parse error: [{shown}]: ")


def test_without_re2_other_filters_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert parse(["name==foo"])(CORPUS[0])
    with pytest.raises(UnsupportedError, match="google-re2"):
        parse(["name~=foo"])


WORDS = [
    *("kind", "name", "parent", "labels", "labels.a", 'labels."x.y"', "==", "!=", "~=", "=", "~", ",", "."),
    *(
        " ",
        '"',
        "|",
        "/",
        "\\",
        r"\x41",
        r"\xff",
        r"\101",
        r"\777",
        r"\u00e9",
        r"\ud800",
        r"\U00110000",
        r"\n",
    ),
    *("\n", "\0", "\ufffd", "\u00e9", "\u2003", "foo", "active", '"foo"', "|fo+|", "/ba[rz]/", "/(/", "1"),
    *("_", "(", "\x1c", "\u200b", "\u2603", "\x01", "'", "\x85"),
]
FIELDS = ["name", "kind", "labels.a", 'labels."a.b"', "parent", 'labels."very complex label"']
VALUES = [
    *("", "foo", '"foo"', "|fo+|", "/ba[rz]$/", "active", r'"\xe9"', r'"\u00e9"', r"|\u00e9|", r'"\xc3\xa9"'),
    *(
        "1",
        '"(?i)FOO"',
        "|^$|",
        r"|\\d|",
        r"/\\pL\\b/",
        "|[[:alpha:]]+$|",
        "/a{2,1}/",
        r"/\\z/",
        r"/\\Qo/",
        "/(?P<n>o)/",
    ),
]


def test_containerd_says_the_same(tmp_path: Path) -> None:
    try:
        program = conformance.build_filters(tmp_path / "filters")
    except conformance.GoError as error:
        missing(f"a Go that builds containerd's filters ({error})")
    chosen = random.Random(1)
    cases = [
        ["".join(chosen.choices(WORDS, k=chosen.randint(0, 8))) for _ in range(chosen.choice([1, 1, 2]))]
        for _ in range(5000)
    ]
    cases += [
        [
            ",".join(
                chosen.choice(FIELDS) + chosen.choice(["", "==", "!=", "~="]) + chosen.choice(VALUES)
                for _ in range(chosen.randint(1, 2))
            )
        ]
        for _ in range(5000)
    ]
    snapshots = [
        snapshot("foo", kind=Kind.COMMITTED),
        snapshot("default/1/bar", "foo", {"a": "1", "very complex label": "x", "a.b": "\u00e9"}),
        snapshot("|v/", "foo", {"a": '\u00e9"', "": "empty", "a.b": "aa"}, Kind.VIEW),
    ]
    shown = [
        {"kind": s.kind.name.lower(), "name": s.key, "parent": s.parent, "labels": s.labels}
        for s in snapshots
    ]
    answered = subprocess.run(
        [program],
        input=json.dumps({"snapshots": shown, "cases": cases}),
        capture_output=True,
        text=True,
        check=True,
    )
    parsed = 0
    for filters, said in zip(cases, json.loads(answered.stdout), strict=True):
        refused = said["error"].removesuffix(": invalid argument")
        assert outcome(filters, snapshots) == (said["matches"], refused), filters
        parsed += not refused
    assert 2000 < parsed < 9000
