# SPDX-License-Identifier: Apache-2.0
"""Wrong and right command lines: messages and exit codes compared with the real LVM2's."""

from __future__ import annotations

import pytest

from lamella.cli.lvm.syntax.commands import COMMANDS
from lamella.cli.lvm.syntax.grammar import find_command
from lamella.cli.lvm.syntax.parse import ArgumentFault, Arguments, parse
from lamella.cli.lvm.syntax.usage import full_usage
from tests.lvm.oracle import ours, real

WRONG = """\
lvs --foo
lvs --foo=bar
lvs -z
lvs --no
lvs --se
lvs -L 5
lvs --units
lvs --separator
lvs -o
lvs --reportformat xml
lvs --reportformat
lvcreate
lvcreate -L
lvcreate -L 10x vg
lvcreate -L 10m
lvcreate -L xyz vg
lvcreate -L 513b vg
lvcreate -L 20E vg
lvcreate -L -5 vg
lvcreate -l 10%FOO vg0
lvcreate -l 513b vg
lvcreate -l -5 vg0
lvcreate -l 5.5 vg0
lvcreate -l 5% vg0
lvcreate -l 2 -I 64 vg0
lvcreate --type foo -L 5 vg
lvcreate -Zx -L5 vg
lvcreate -L5 --errorwhenfull y vg
lvcreate -y -y -L5 -L6 vg
lvcreate -L5 -T vg --minrecoveryrate 5
lvcreate --alloc foo -l1 vg0
lvcreate --thinpool p -L5
lvcreate -V5
lvcreate -T -V 5
lvcreate --type thin-pool
lvcreate --type thin-pool -V 5 vg
lvcreate --type thin -L 5 vg
lvcreate -s -n x
lvcreate -m1 vg
lvcreate -n
lvcreate -i -1 -L5 vg
lvcreate -i x -L5 vg
lvcreate -r foo -L5 vg
lvcreate --nosuchopt=3 vg
pvcreate
pvcreate --labelsector x y
pvcreate --dataalignment x y
pvcreate --metadatatype lvm1 x
pvcreate --pvmetadatacopies 3 x
pvchange
pvchange -x y
pvchange -a
pvchange /dev/x
pvremove
pvresize
pvck
pvck --dump foo x
pvck --dump headers
pvscan -a
pvscan --listlvs
pvs --sep
pvs --all=5
vgcreate
vgcreate vg
vgcreate -s x vg x
vgcreate -p x vg x
vgextend vg0
vgremove
vgreduce
vgreduce x
vgreduce -a
vgrename a
vgchange
vgchange x
vgchange -l
vgck --updatemetadata
vgck a --foo
vgscan x
vgmknodes -S x
vgmknodes --refresh=y
vgexport
vgimport
vgcfgrestore
vgcfgrestore -l
lvremove
lvremove --force
lvremove -S
lvrename
lvrename a
lvrename a b c d
lvextend -L+5
lvextend vg/x
lvextend -L-5 vg/x
lvextend -L5 -l5 vg/x --foo=bar
lvreduce -L5
lvreduce x/y
lvreduce -L+5 vg/x
lvresize
lvresize x
lvresize -l-5%FOO vg/x
lvresize --poolmetadatasize -5 vg/x
lvchange x/y
lvchange -ay
lvchange -ax x
lvchange --permission x vg/l
lvchange -r foo vg/x
lvchange --addtag @ vg/x
lvconvert
lvconvert --foo
lvconvert --type thin
lvconvert --merge
lvconvert --poolmetadata x vg/y
lvconvert --type foo vg/x
lvconvert -c 64 vg/x
lvscan a
lvscan -z
lvdisplay --foo
lvmdiskscan x
lvmconfig --typeconfig
lvmconfig --typeconfig x
lvmconfig -z
config -l -l
dumpconfig -f
fullreport --foo
fullreport --configreport foo
lastlog x
devtypes x
segtypes -o name
formats x
tags --foo
systemid x
"""


@pytest.mark.parametrize("line", WRONG.splitlines())
def test_refused_as_the_real_one_does(line: str) -> None:
    words = line.split(" ")
    wanted, got = real(words, ["/dev/null"]).laid_out, ours(words, ["/dev/null"]).laid_out
    assert got.code == wanted.code == 3
    assert got.err == wanted.err
    assert got.out == wanted.out


def _parse(line: str) -> Arguments:
    words = line.split()
    command = find_command(words[0])
    assert command is not None
    return parse(command, words[1:])


def test_joined_letters_and_shortened_names() -> None:
    args = _parse("lvcreate -yn x -l10%FREE --stripesi 64 -i2 vg /dev/a /dev/b:0-9")
    assert args.has("yes")
    assert args.text("name") == "x"
    assert str(args.extents()) == "10%FREE"
    assert args.size("stripesize") == 65536
    assert args.positionals == ["vg", "/dev/a", "/dev/b:0-9"]


def test_hyphens_in_names_and_values_after_equals() -> None:
    args = _parse("lvextend --use-policies vg/pool")
    assert args.has("usepolicies")
    assert _parse("lvs --report-format=json").text("reportformat") == "json"


def test_options_after_arguments_and_double_dash() -> None:
    args = _parse("lvremove vg/a -y -- -f")
    assert args.positionals == ["vg/a", "-f"]
    assert not args.has("force")


def test_counted_and_repeated_options() -> None:
    args = _parse("pvremove -ff -vvv x")
    assert (args.count("force"), args.count("verbose")) == (2, 3)
    assert _parse("lvcreate -L1 --addtag @a --addtag b vg").tags("addtag") == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "positionals"),
    [
        ("lvcreate -L5 vg", ("VG",)),
        ("lvcreate -T -L5 vg/pool", ("VG",)),
        ("lvcreate -V5 -T vg/pool", ("LV",)),
        ("lvcreate -s vg/thin", ("LV",)),
        ("lvcreate -n vg/x -L5", ("VG",)),
        ("lvconvert --thinpool vg/a --poolmetadata vg/b", ()),
        ("lvchange -ay vg", ("VG|LV|Tag|Select...",)),
    ],
)
def test_variant_is_found(line: str, positionals: tuple[str, ...]) -> None:
    found = _parse(line).variant
    assert found is not None
    assert found.positionals == positionals


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    command = find_command(name)
    assert command is not None
    text = full_usage(command)
    assert text.startswith(f"  {name} - ")
    assert "\n  Example: " in text
    assert all(option.name in command.table for option in command.shorts.values())
    got = ours([name, "--help"], ["/dev/null"])
    assert (got.code, got.out) == (0, text)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_variant_exists(name: str) -> None:
    command = find_command(name)
    assert command is not None
    for variant in command.variants:
        assert set(variant.accepted) <= set(command.table)
    assert set(command.common.split()) <= set(command.table)


def test_unknown_command() -> None:
    assert ours(["vgnosuch"], []).code == 2


def test_fault_has_lines() -> None:
    with pytest.raises(ArgumentFault) as caught:
        _parse("lvs -z")
    assert caught.value.exit_code == 3
    assert caught.value.lines == ["lvs: invalid option -- 'z'", "  Error during parsing of command line."]
