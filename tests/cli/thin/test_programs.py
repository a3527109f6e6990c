# SPDX-License-Identifier: Apache-2.0
"""``thin_check`` and ``thin_dump`` as commands: arguments, output and exit codes, beside the real ones."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lamella.cli.thin.tools import main
from tests.thin.judges import failure, since_1
from tests.thin.plain_dumps import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.thin.kernel_made import KernelMade

RUN = [
    sys.executable,
    "-c",
    "import sys; from lamella.cli.thin.tools import main; sys.exit(main(sys.argv[1], sys.argv[2:]))",
]


def test_a_sound_pool(
    part: Callable[[str], str], made: KernelMade, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_check", [part("clean")]) == 0
    out, err = capfd.readouterr()
    assert out == f"TRANSACTION_ID=7\nMETADATA_FREE_BLOCKS={made.free_blocks}\n"
    assert err.splitlines() == [
        "device details tree", "mapping tree", "data space map", "metadata space map"
    ]  # fmt: skip


def test_quiet(part: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main("thin_check", ["-q", part("clean")]) == 0
    assert main("thin_check", ["-q", part("damaged/zeroed")]) == 1
    assert capfd.readouterr() == ("", "")


def test_held_snapshot(part: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main("thin_check", ["-m", part("held")]) == 0
    assert main("thin_check", ["-m", part("clean")]) == 1
    assert "no current metadata snap" in capfd.readouterr().err


def test_a_live_pool_may_be_looked_at_by_its_snapshot_only(part: Callable[[str], str]) -> None:
    path = part("held")
    with open(path, "rb") as pool:
        fcntl.flock(pool, fcntl.LOCK_EX)
        assert main("thin_check", [path]) == 1
        assert main("thin_dump", [path]) == 1
        assert main("thin_check", ["-m", path]) == 0
        assert main("thin_dump", ["-m", "-o", os.devnull, path]) == 0


STRICTER_SINCE_1 = {
    ("damaged/needs_check", "--skip-mappings"),  # the flag alone is a failure
    ("damaged/leak_held_root", "--ignore-non-fatal-errors"),  # leaks are not among those
}
"""Where the 1.x series fails and 0.9 does not; ours ends as 0.9 does."""


@pytest.mark.parametrize(
    "name",
    ["clean", "held", *(f"damaged/{what}" for what in (
        "bottom_leaf", "data_sm_bitmap_btree_root", "data_sm_refcount_root", "details_root", "leak_held_root",
        "mapping_root", "meta_sm_index", "needs_check", "sb_csum", "transaction_id", "zeroed",
    ))],
)  # fmt: skip
def test_exit_codes_are_the_real_ones(
    tool: Callable[[str], str], part: Callable[[str], str], name: str
) -> None:
    """The two where ours is stricter (data counts, magic) are in the test below."""
    path = part(name)
    for options in ([], ["--skip-mappings"], ["--super-block-only"], ["--ignore-non-fatal-errors"]):
        real = subprocess.run([tool("thin_check"), *options, path], capture_output=True).returncode
        assert real in (0, failure())
        if since_1() and (name, *options) in STRICTER_SINCE_1:
            assert real, options
            real = 0
        assert main("thin_check", [*options, path]) == (1 if real else 0), options
    real = subprocess.run([tool("thin_dump"), path], capture_output=True).returncode
    assert real in (0, failure())
    assert main("thin_dump", ["-o", os.devnull, path]) == (1 if real else 0)


def test_ours_sees_what_the_real_one_does_not(part: Callable[[str], str]) -> None:
    assert main("thin_check", [part("damaged/data_refcount_mismatch")]) == 1
    assert main("thin_check", [part("damaged/sb_magic")]) == 1


def test_damage_is_printed(
    part: Callable[[str], str], made: KernelMade, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_check", [part("damaged/bottom_leaf")]) == 1
    told = capfd.readouterr().err.splitlines()
    assert f"mapping tree, block {made.leaf}: bad checksum in btree node" in told
    assert main("thin_check", [part("damaged/sb_csum")]) == 1
    assert "bad checksum in superblock" in capfd.readouterr().err
    assert main("thin_dump", [part("damaged/sb_csum")]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "bad checksum in superblock" in err


def test_clearing_needs_check(
    tool: Callable[[str], str], part: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = part("damaged/needs_check")
    assert main("thin_check", [path]) == 0
    assert "needs_check flag is set" in capfd.readouterr().err
    assert main("thin_check", ["--clear-needs-check-flag", path]) == 0
    assert "Cleared needs_check flag" in capfd.readouterr().err
    with open(path, "rb") as cleared:
        assert cleared.read(8)[4:] == bytes(4)
    subprocess.run([tool("thin_check"), "-q", path], check=True)


@pytest.mark.parametrize("option", ["--clear-needs-check-flag", "--auto-repair"])
@pytest.mark.parametrize("what", ["zeroed", "bottom_leaf", "data_refcount_mismatch", "sb_csum", "sb_magic"])
def test_nothing_is_written_to_damaged_metadata(part: Callable[[str], str], option: str, what: str) -> None:
    path = part(f"damaged/{what}")
    with open(path, "r+b") as file:
        before = file.read()
    assert main("thin_check", [option, path]) == 1
    with open(path, "rb") as file:
        assert file.read() == before


def test_auto_repair(tool: Callable[[str], str], part: Callable[[str], str]) -> None:
    path = part("damaged/leak_held_root")
    assert main("thin_check", [path]) == 1
    assert main("thin_check", ["--ignore-non-fatal-errors", path]) == 0
    assert main("thin_check", ["--auto-repair", path]) == 0
    assert main("thin_check", [path]) == 0
    subprocess.run([tool("thin_check"), "-q", path], check=True)
    flagged = part("damaged/needs_check")
    assert main("thin_check", ["--auto-repair", flagged]) == 0
    with open(flagged, "rb") as cleared:
        assert cleared.read(8)[4:] == bytes(4)


def test_repair_of_a_file_in_use_is_refused(part: Callable[[str], str]) -> None:
    path = part("damaged/needs_check")
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert main("thin_check", [path]) == 0
        assert main("thin_check", ["--clear-needs-check-flag", path]) == 1


@pytest.mark.parametrize("tool", ["thin_check", "thin_dump"])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "INPUT"),
        (["--bogus", "x"], 2, "--bogus"),
        (["a", "b"], 2, "b"),
        (["/proc/nosuch"], 1, "Couldn't find input file '/proc/nosuch'"),
        (["/tmp"], 1, "Not a block device or regular file '/tmp'."),
        (["/dev/null"], 1, "Not a block device or regular file '/dev/null'."),
    ],
)
def test_wrong_usage(
    tool: str, arguments: list[str], code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(tool, arguments) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--auto-repair", "-m"],
        ["--auto-repair", "--skip-mappings"],
        ["--auto-repair", "--override-mapping-root", "0"],
        ["--clear-needs-check-flag", "-m"],
        ["--override-details-root", "x"],
        ["--override-details-root", str(2**64)],
    ],
)
def test_options_that_exclude_each_other(
    arguments: list[str], part: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_check", [*arguments, part("clean")]) == 2
    assert arguments[0] in capfd.readouterr().err


def test_xml_and_tiny_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump.xml"
    path.write_text('<superblock uuid="">')
    assert main("thin_check", [str(path)]) == 1
    assert "Metadata device/file too small.  Is this binary metadata?" in capfd.readouterr().err
    path.write_bytes(b'<superblock uuid="">'.ljust(8192))
    assert main("thin_check", [str(path)]) == 1
    assert (
        "This looks like XML.  This tool only supports the binary metadata format." in capfd.readouterr().err
    )
    assert main("thin_dump", [str(path)]) == 1
    assert "bad checksum in superblock" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["-V", "--version"])
@pytest.mark.parametrize("name", ["thin_check", "thin_dump"])
def test_version(name: str, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(name, [option]) == 0
    first = capfd.readouterr().out.split()[0]
    # LVM reads three numbers, and wants at least 0.3.2 before it passes --clear-needs-check-flag.
    assert tuple(int(number) for number in first.split(".")) >= (1, 0, 0)


@pytest.mark.parametrize("name", ["thin_check", "thin_dump"])
def test_help(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(name, ["-h"]) == 0
    assert "--skip-mappings" in capfd.readouterr().out


# -- thin_dump -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "recorded"),
    [
        ("clean", [], "clean/thin_dump.txt"),
        ("clean", ["--format", "human_readable"], "clean/thin_dump.human.txt"),
        ("clean", ["-q", "--skip-mappings"], "clean/thin_dump.skipmap.txt"),
        ("clean", ["--dev-id", "{made.devices[0]}", "--dev-id={made.devices[2]}"], "clean/thin_dump.dev.txt"),
        ("held", ["-m"], "held/msnap.thin_dump.txt"),
        ("held", ["-m{made.held_root}"], "held/msnap.thin_dump.txt"),
        ("held", ["-m={made.held_root}"], "held/msnap.thin_dump.txt"),
        ("held", ["--metadata-snap={made.held_root}"], "held/msnap.thin_dump.txt"),
        ("damaged/bottom_leaf", ["-r"], "damaged/bottom_leaf/thin_dump.repair.txt"),
    ],
)
def test_dump_prints_what_the_real_one_printed(
    part: Callable[[str], str],
    made: KernelMade,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    options: list[str],
    recorded: str,
) -> None:
    options = [option.format(made=made) for option in options]
    expected = (made.folder / recorded).read_text().split("\n", 2)[2]
    path = part(name)
    assert main("thin_dump", [*options, path]) == 0
    printed = capfd.readouterr().out
    if "-r" in options:
        # 0.9 took nothing from older copies, and printed how many blocks were mapped before the damage.
        theirs, ours = (re.findall(r".*_mapping .*", text) for text in (expected, plain(printed)))
        assert set(theirs) < set(ours)
    else:
        assert plain(printed) == expected
    target = tmp_path / "out.txt"
    assert main("thin_dump", [*options, "-o", str(target), path]) == 0
    assert target.read_text() == printed
    assert capfd.readouterr().out == ""


def test_dump_overrides(
    part: Callable[[str], str], made: KernelMade, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--transaction-id",
        "99",
        "--nr-data-blocks",
        "9999",
        "--data-block-size",
        "256",
        "--dev-id",
        "4242",
    ]
    assert main("thin_dump", [*options, part("clean")]) == 0
    assert capfd.readouterr().out == (
        f'<superblock uuid="" time="{made.time}" transaction="99" version="2" '
        'data_block_size="256" nr_data_blocks="9999">\n</superblock>'
    )


@pytest.mark.parametrize(
    "options",
    [["-f", "custom"], ["--dev-id", "x"], ["-r", "-m"], ["--metadata-snap=x"], ["--transaction-id", "-1"]],
)
def test_dump_wrong_usage(options: list[str], part: Callable[[str], str]) -> None:
    assert main("thin_dump", [*options, part("held")]) == 2


def test_dump_to_a_place_that_does_not_exist(
    part: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_dump", ["-o", "/proc/nosuch/out.xml", part("clean")]) == 1
    assert "/proc/nosuch/out.xml" in capfd.readouterr().err
    if os.path.exists("/dev/full"):
        assert main("thin_dump", ["-o", "/dev/full", part("clean")]) == 1


def test_a_reader_that_leaves(part: Callable[[str], str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*RUN, "thin_dump", part("clean")], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode != 0
    assert done.stderr == b""


def test_on_a_block_device(part: Callable[[str], str], tool: Callable[[str], str]) -> None:
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("loop devices need root")
    made = subprocess.run(
        [tool("losetup"), "-f", "--show", part("damaged/needs_check")], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no loop device to be had: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        assert main("thin_check", [device]) == 0
        assert main("thin_check", ["--clear-needs-check-flag", device]) == 0
        assert main("thin_dump", ["-o", os.devnull, device]) == 0
        subprocess.run([tool("thin_check"), "-q", device], check=True)
    finally:
        subprocess.run([tool("losetup"), "-d", device], check=True)


def test_help_needs_no_numpy() -> None:
    script = (
        "import sys; from lamella.cli.thin.tools import main; "
        "main('thin_check', ['-V']); sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


# -- the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("thin_check --hedgehogs-only", "unexpected argument '--hedgehogs-only' found"),
        ("thin_check", "the following required arguments were not provided:\n  <INPUT>"),
        ("thin_repair -i a", "the following required arguments were not provided:\n  --output <FILE>"),
        ("thin_check a b", "unexpected argument 'b' found"),
        ("thin_check -q -q a", "the argument '--quiet' cannot be used multiple times"),
        ("thin_repair -i a -i b -o c", "the argument '--input <FILE>' cannot be used multiple times"),
        ("thin_check --auto-repair -m a",
         "the argument '--auto-repair' cannot be used with '--metadata-snap'"),
        ("thin_dump -r -m a", "the argument '--repair' cannot be used with '--metadata-snap[=<BLOCKNR>]'"),
        ("thin_dump --dev-id", "a value is required for '--dev-id <THIN_ID>' but none was supplied"),
        ("thin_dump --dev-id x a",
         "invalid value 'x' for '--dev-id <THIN_ID>': invalid digit found in string"),
        ("thin_restore --data-block-size 4294967296",
         "invalid value '4294967296' for '--data-block-size <SECTORS>': 4294967296 is not in 0..=4294967295"),
        ("thin_dump -f other a", "invalid value 'other' for '--format <TYPE>'\n"
         "  [possible values: xml, human_readable]"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_as_by_1_x(command: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What thin-provisioning-tools 1.1.0 prints for the same arguments; all of it ends with 2."""
    name, *arguments = command.split()
    assert main(name, arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}\n")
    assert err.endswith("\nFor more information, try '--help'.\n")


def test_the_help_is_that_of_1_x(capfd: pytest.CaptureFixture[str]) -> None:
    """The tools' own tests compare it whole (``tests/thin_repair.rs``)."""
    assert main("thin_repair", ["--help"]) == 0
    assert capfd.readouterr().out == (
        "Repair thin-provisioning metadata, and write it to different device or file\n\n"
        "Usage: thin_repair [OPTIONS] --input <FILE> --output <FILE>\n\n"
        "Options:\n"
        "      --data-block-size <SECTORS>  Provide the data block size for repairing\n"
        "  -h, --help                       Print help\n"
        "  -i, --input <FILE>               Specify the input device\n"
        "      --nr-data-blocks <NUM>       Override the number of data blocks if needed\n"
        "  -o, --output <FILE>              Specify the output device\n"
        "  -q, --quiet                      Suppress output messages, return only exit code.\n"
        "      --transaction-id <NUM>       Override the transaction id if needed\n"
        "  -V, --version                    Print version\n"
    )


# -- as LVM2 calls thin_check ------------------------------------------------------------------------------


def test_clearing_needs_check_mends_leaks(part: Callable[[str], str], tool: Callable[[str], str]) -> None:
    """``thin_check -q --clear-needs-check-flag`` frees what has leaked, and passes, since 1.0.9."""
    path = part("damaged/leak_held_root")
    assert main("thin_check", ["-q", path]) == 1
    assert main("thin_check", ["-q", "--clear-needs-check-flag", path]) == 0
    assert main("thin_check", ["-q", path]) == 0
    subprocess.run([tool("thin_check"), "-q", path], check=True)


@pytest.mark.parametrize("options", [["--super-block-only"], ["--skip-mappings"]])
def test_the_flag_is_cleared_whatever_is_checked(part: Callable[[str], str], options: list[str]) -> None:
    path = part("damaged/needs_check")
    assert main("thin_check", ["-q", *options, path]) == 0
    with open(path, "rb") as file:
        assert file.read(8)[4:] == bytes([1, 0, 0, 0])
    assert main("thin_check", ["-q", "--clear-needs-check-flag", *options, path]) == 0
    with open(path, "rb") as file:
        assert file.read(8)[4:] == bytes(4)


def test_the_superblock_alone_may_be_all_there_is(part: Callable[[str], str]) -> None:
    path = part("clean")
    os.truncate(path, 4096)
    assert main("thin_check", ["-q", "--super-block-only", path]) == 0
    assert main("thin_check", ["-q", path]) == 1


def test_a_bad_held_snapshot_prints_no_result(
    part: Callable[[str], str], made: KernelMade, capfd: pytest.CaptureFixture[str]
) -> None:
    path = part("held")
    with open(path, "r+b") as file:
        file.seek(made.held_root * 4096 + 100)
        file.write(b"damage")
    assert main("thin_check", ["-m", path]) == 1
    assert capfd.readouterr().out == ""
    assert main("thin_check", [path]) == 1
    assert capfd.readouterr().out.startswith("TRANSACTION_ID=")
