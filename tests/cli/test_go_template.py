# SPDX-License-Identifier: Apache-2.0
"""Go's templates: what Go's own ``text/template`` (1.26, with Docker's functions) makes of the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lamella.cli.go_template import Template
from lamella.cli.lists import print_rows
from lamella.errors import UsageError

DATA: dict[str, Any] = {
    "Name": "web",
    "Size": 42,
    "Yes": True,
    "No": False,
    "Tags": ["a:1", "b:2"],
    "Labels": {"a.b": "one", "x": "two"},
    "Empty": [],
    "Pairs": [["k", "v"], ["l", "w"]],
    "Nested": {"Inner": {"Deep": "d"}},
    "List": ["p", "q"],
}
FROM_GO = (
    ("{{.Name}}", "web"),
    ("{{.Nested}} {{.Labels}}", "map[Inner:map[Deep:d]] map[a.b:one x:two]"),
    ("{{json .Labels}}", '{"a.b":"one","x":"two"}'),
    ("{{index .Tags 0}}", "a:1"),
    ('{{index .Labels "a.b"}}', "one"),
    ("{{.Labels.x}}", "two"),
    ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
    ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}", "0=a:1 1=b:2 "),
    ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=one;x=two;"),
    ("{{range .Empty}}x{{else}}none{{end}}", "none"),
    ("{{if .Yes}}y{{else}}n{{end}}", "y"),
    ("{{if .No}}y{{else if .Yes}}z{{end}}", "z"),
    ("{{with .Name}}[{{.}}]{{end}}", "[web]"),
    ('{{join .Tags ", "}}', "a:1, b:2"),
    ('{{upper .Name}}|{{lower .Name}}|{{title "one two"}}', "WEB|web|One Two"),
    ("{{truncate .Name 3}}", "web"),
    ("{{pad .Name 1 2}}|", " web  |"),
    ("{{len .Tags}} {{len .Name}}", "2 3"),
    ('{{.Name | upper | printf "%s!"}}', "WEB!"),
    ('{{printf "%-8s|%5d|%q" .Name .Size .Name}}', 'web     |   42|"web"'),
    ("{{println .Name .Size}}", "web 42\n"),
    ("{{print .Name .Size}}", "web42"),
    (
        '{{eq .Name "web"}} {{ne .Size 3}} {{gt .Size 3}} {{and .Yes .Name}} {{or .No .Name}} {{not .No}}',
        "true true true web web true",
    ),
    ("a {{- .Name -}} b", "awebb"),
    ("{{/* remark */}}x", "x"),
    ("{{$x := .Size}}{{$x}}", "42"),
    ("{{(index .Tags 1)}}", "b:2"),
    ("{{range .Pairs}}{{index . 0}}: {{index . 1}}\n{{end}}", "k: v\nl: w\n"),
    ("{{.Yes}} {{.Nested.Inner.Deep}} {{.List}}", "true d [p q]"),
    ('{{split .Name "e"}}', "[w b]"),
    ('{{slice .Name 1}} {{`raw`}} {{"q\\t"}}', "eb raw q\t"),
    ('{{range .Tags}}{{if eq . "a:1"}}{{$.Name}}{{end}}{{end}}', "web"),
    ("{{with $t := index .Tags 0}}{{$t}}{{end}}", "a:1"),
    ("{{json .Name}} {{json .Yes}} {{json .Tags}}", '"web" true ["a:1","b:2"]'),
)


@pytest.mark.parametrize(("template", "expected"), FROM_GO, ids=[template for template, _ in FROM_GO])
def test_what_go_makes_of_it(template: str, expected: str) -> None:
    assert Template(template).render(DATA) == expected


def test_json_of_everything_can_be_read_again() -> None:
    assert json.loads(Template("{{json .}}").render(DATA | {"Label": len})) == DATA


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{.Missing}}", "there is no field 'Missing'"),
        ("{{.Name.Deeper}}", "there is no field 'Deeper'"),
        ("{{.Name", "unclosed action"),
        ("{{" * 60_000, "unclosed action"),
        ("{{if .Yes}}", "{{if}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value"),
        ("{{nonsense .Name}}", "function 'nonsense' not defined"),
        ("{{.Name .Size}}", "can't give argument to non-function .Name"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name)}}", "unexpected )"),
        ("{{$x}}", "undefined variable '$x'"),
        ("{{range .Size}}{{end}}", "range can't iterate over 42"),
        ("{{index .Tags 9}}", "error calling index"),
        ("{{join .Size}}", "error calling join"),
        ("{{upper .Size}}", "error calling upper"),
        ("{{.Name ?}}", "unexpected '?'"),
        ('{{"\\q"}}', "bad text"),
        ("{{" + "(" * 5000 + "}}", "nested too deeply"),
        ("{{if .Yes}}" * 5000, "nested too deeply"),
        ("{{" + "9" * 5000 + "}}", "illegal number syntax"),
        ('{{printf "%9999999s" .Name}}', "error calling printf"),
        ('{{printf "%.9999999f" 1.5}}', "error calling printf"),
    ],
)
def test_what_is_wrong_with_a_template(template: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template(template).render(DATA)
    assert said in caught.value.message


def test_methods_get_their_arguments() -> None:
    assert (
        Template('{{.Label "x"}} {{.Label "y" | upper}}').render({"Label": {"x": "1", "y": "b"}.get}) == "1 B"
    )


def test_columns_are_those_of_docker(capsys: pytest.CaptureFixture[str]) -> None:
    """docker ps --format 'table {{.ID}}\\t{{.Names}}': at least ten wide, three apart, the last one free."""
    rows = [{"ID": "0123456789ab", "N": "a"}, {"ID": "1", "N": "much longer than that"}]
    print_rows("table {{.ID}}\\t{{.N}}", rows, {"ID": "CONTAINER ID", "N": "NAMES"})
    print_rows("table {{.N}}\\t{{.N}}", rows[:1], {"ID": "I", "N": "N"})
    print_rows("{{.ID}}", rows, {})
    assert capsys.readouterr().out == (
        "CONTAINER ID   NAMES\n0123456789ab   a\n1              much longer than that\n"
        "N         N\na         a\n0123456789ab\n1\n"
    )


def test_a_method_with_too_many_arguments() -> None:
    with pytest.raises(UsageError, match=r"error calling \.Label"):
        Template('{{.Label "x" "y" "z"}}').render({"Label": {"x": "1"}.get})
