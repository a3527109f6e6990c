# SPDX-License-Identifier: Apache-2.0
"""Options anywhere among the arguments, as Docker's commands and getopt_long(3) take them."""

from __future__ import annotations

import getopt
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.cli.arguments import Parser, closest
from lamella.cli.command_line import split_command
from lamella.cli.parsing import parse
from lamella.errors import UsageError

if TYPE_CHECKING:
    import argparse


def _read(line: str) -> argparse.Namespace:
    return parse(*split_command(line.split()))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("setup direct-lvm --plan x.img", {"mode": "direct-lvm", "devices": ["x.img"], "plan": True}),
        (
            "setup direct-lvm --storage-opt dm.fs=ext4 --plan x.img",
            {"mode": "direct-lvm", "devices": ["x.img"], "storage_opt": ["dm.fs=ext4"]},
        ),
        ("setup direct-lvm x --plan y", {"devices": ["x", "y"]}),
        ("commit web -m hi x:1", {"container": "web", "reference": "x:1", "message": "hi"}),
        ("ls web -l /etc", {"name": "web", "path": "/etc", "long": True}),
        ("ls web /etc -lR", {"path": "/etc", "long": True, "recursive": True}),
        ("mount web -o noatime /srv", {"name": "web", "folder": "/srv", "options": ["noatime"]}),
        ("cat web --quiet /etc/motd /etc/hosts", {"path": ["/etc/motd", "/etc/hosts"], "quiet": True}),
        ("rm a -f b", {"container": ["a", "b"], "force": True}),
        ("pull a --platform linux/amd64 b", {"image": ["a", "b"], "platform": "linux/amd64"}),
        ("cp a -a b:/", {"source": "a", "target": "b:/", "archive": True}),
        ("save -ox a", {"image": ["a"]}),
        ("--wait 3 --quiet ps --wait=4", {"wait": 4.0, "quiet": True}),
        ("cp -- -a web:/", {"source": "-a", "archive": False}),
        ("cp - web:/", {"source": "-"}),
        ("rm a -- -f -- b", {"container": ["a", "-f", "--", "b"], "force": False}),
        ("commit -m -f web", {"message": "-f", "container": "web"}),
        ("setup", {"mode": None, "devices": []}),
    ],
)
def test_options_between_arguments(line: str, expected: dict[str, object]) -> None:
    values = vars(_read(line))
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ps --al", "there is no option --al"),
        ("ls -lX web", "there is no option -X (in -lX)"),
        ("ps --all=yes", "option --all takes no value"),
        ("save a -o", "option -o needs a value: -o FILE"),
        ("save a --format zip", "'zip' is not one of: docker-archive, oci-archive, oci-dir"),
        ("commit", "an argument is missing: CONTAINER"),
        ("cp a", "an argument is missing: TARGET"),
        ("tag a b c", "more arguments than it takes: c"),
        ("ps a", "it takes no argument: a"),
        ("ps --wait -3", "option --wait: -3 is not a number of seconds"),
        ("--json ps", "there is no option --json before the command"),
        ("--engine", "option --engine needs a value"),
        ("--quiet", "no command was given"),
        ("--wait 3 lvs", "lvs takes no option --wait"),
        ("--root /x thin_check f", "thin_check takes no option --root"),
        ("ps --root=", "the folder's name is empty"),
    ],
)
def test_what_is_refused(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(line)
    assert said in caught.value.message


@given(st.lists(st.sampled_from(["a", "-", "-v", "-vq", "-ox", "-o", "--out", "--out=y", "--quiet", "--"])))
def test_words_are_read_as_getopt_reads_them(words: list[str]) -> None:
    parser = Parser(prog="t", add_help=False)
    parser.add_argument("-v", action="append_const", dest="seen", const="-v", default=[])
    parser.add_argument("-q", "--quiet", action="append_const", dest="seen", const="-q", default=[])
    parser.add_argument("-o", "--out", action="append", default=[])
    parser.add_argument("word", nargs="*")
    try:
        options, rest = getopt.gnu_getopt(words, "vqo:", ["quiet", "out="])
    except getopt.GetoptError:
        with pytest.raises(UsageError):
            parser.read(words)
        return
    values = parser.read(words)
    assert values.word == rest
    assert values.out == [value for name, value in options if name in ("-o", "--out")]
    assert values.seen == [
        name.replace("--quiet", "-q") for name, value in options if name in ("-v", "-q", "--quiet")
    ]


def test_only_slips_of_the_fingers_are_taken_for_another_word() -> None:
    known = ["ps", "images", "load", "lvs", "umount"]
    assert [closest(word, known) for word in ("imagse", "unmount", "loda")] == ["images", "umount", "load"]
    assert [closest(word, known) for word in ("list", "run", "start", "search")] == [None] * 4
