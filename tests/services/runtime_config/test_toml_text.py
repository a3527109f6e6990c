# SPDX-License-Identifier: Apache-2.0
"""Settings merged into TOML: everything else stays, whatever form the text has."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import BadInputError
from lamella.services.runtime_config.toml_text import Settings, merge

FILE = Path("/etc/x.toml")
SETTINGS = Settings(
    {("a", "b.c", "d"): {"name": "lamella", "off": False}, ("p", "q"): {"words": ["x"]}},
    {("a", "t", "list"): [{"kind": "new", "size": 1}]},
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a remark\n",
        "version = 3",
        '[a]\nx = 1\n\n[a."b.c"]\ny = 2 # two\n',
        '[a."b.c".d]\nname = "other" # why\nkeep = 1\n[p.q]\nz = 1\n',
        '[a."b.c".d.e]\nkeep = 1\n',
        "[p]\n  [p.q]\n    words = []\n[a.'b.c'.d]\n",
        'p.q.z = 1\na."b.c".d.off = true\n',
        'p = { q = { z = 1 } }\na = { "b.c" = { d = { name = "x" } }, t = { list = [] } }\n',
        '[[a.t.list]]\nkind = "old"\n\n[other]\nx = """\n[a."b.c".d]\n"""\n',
        'a.t.list = [ { kind = "old" } ]\n',
        "[a.t]\nlist = [] # nothing\n[a]\n",
        '[a."b.c"]\n[z]\nx = 1\n[a."b.c".d]\nname = "x"\n[zz]\ny = 1\n[a."b.c".d.sub]\nk = 1\n',
    ],
)
def test_all_else_stays(text: str) -> None:
    made = merge(FILE, text, SETTINGS)
    assert tomllib.loads(made) == SETTINGS.applied_to(tomllib.loads(text))
    assert merge(FILE, made, SETTINGS) == made
    for remark in ("# only a remark", "# two", "# why", "# nothing"):
        assert (remark in text) == (remark in made)


def test_an_entry_of_ones_own_is_left_as_it_is() -> None:
    text = '[[a.t.list]]\nkind = "new"\nsize = 5\n'
    assert merge(FILE, text, Settings(entries=SETTINGS.entries)) == text


def test_lines_end_as_they_did() -> None:
    made = merge(FILE, "[a]\r\nx = 1 # one\r\n", Settings({("a",): {"y": "2"}}))
    assert made == '[a]\r\nx = 1 # one\r\ny = "2"\r\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\n", "is no table in it"),
        ("[[a]]\nx = 1\n", "is no table in it"),
        ("[a.t]\nlist = 3\n", "is no table in it"),
        ("a = [\n", "no valid TOML"),
        ("[a]\n[a]\n", "no valid TOML"),
        ("x = " + "[" * 10000, "no valid TOML"),
        ("a = { x = 1 }\n", "cannot be changed safely"),
    ],
)
def test_what_cannot_be_merged_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInputError, match=says) as refused:
        merge(FILE, text, SETTINGS)
    assert str(FILE) in refused.value.message
    assert "nothing was changed" in (refused.value.hint or "")


def test_a_table_that_was_written_out_of_order_is_found() -> None:
    text = '[a."b.c".d]\nname = "x"\n[z]\n[a.other]\nk = 1\n'
    made = merge(FILE, text, SETTINGS)
    assert made.count('[a."b.c".d]') == 1
    assert made.startswith('[a."b.c".d]\nname = "lamella"\n')


def test_a_text_that_tomlkit_would_change_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomlkit.dumps", lambda document: "[a]\nx = 2\n")
    with pytest.raises(BadInputError, match="cannot be changed safely"):
        merge(FILE, "a = { x = 1 }\n", Settings({("a",): {"y": "1"}}))


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8), min_size=1, max_size=3), st.text(max_size=5))
def test_any_key_and_value_is_written_as_toml_reads_it(values: dict[str, str], name: str) -> None:
    settings = Settings({("t", name): dict(values)})
    assert tomllib.loads(merge(FILE, "", settings)) == {"t": {name: values}}
