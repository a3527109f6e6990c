# SPDX-License-Identifier: Apache-2.0
"""``thin_restore`` and ``thin_repair`` as commands: arguments, messages, exit codes, beside the real ones."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from lamella.cli.thin.tools import main
from tests.thin.judges import failure, since_1
from tests.thin.metadata_files import xml
from tests.thin.plain_dumps import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.thin.kernel_made import KernelMade

SIZE = 4 << 20
TOO_SMALL = (
    "The output file should either be a block device,\nor an existing file.  The file needs to be large\n"
    "enough to hold the metadata.\n"
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "input.xml"
    path.write_text(xml({1: [(0, 0, 9, 1)], 5: [(3, 70, 1000, 2)]}))
    return path


def test_restore_and_dump(text: Path, output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main("thin_restore", ["-i", str(text), "-o", str(output)]) == 0
    assert capfd.readouterr() == ("", "")
    assert main("thin_check", ["-q", str(output)]) == 0
    assert main("thin_dump", [str(output)]) == 0
    assert plain(capfd.readouterr().out) == text.read_text()
    options = ["--transaction-id", "99", "--data-block-size", "256", "--nr-data-blocks", "1234567"]
    assert main("thin_restore", ["-q", "-i", str(text), "-o", str(output), *options]) == 0
    assert main("thin_dump", ["--skip-mappings", str(output)]) == 0
    assert 'transaction="99"' in (out := capfd.readouterr().out)
    assert 'data_block_size="256" nr_data_blocks="1234567"' in out


def test_repair_of_a_damaged_leaf(
    part: Callable[[str], str], made: KernelMade, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = part("damaged/bottom_leaf")
    assert main("thin_repair", ["-i", source, "-o", str(output)]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    first, *devices = err.splitlines()
    assert first == f"mapping tree, block {made.leaf}: bad checksum in btree node"
    for line, number in zip(devices, made.hit_devices, strict=True):
        told = (
            rf"thin device {number}: \d+ of \d+ mapped blocks saved; \d+ of them are from an older copy of "
        )
        told += r"its tree \(of transaction \d+ or later, time \d+; the pool's is 7, time \d+\): "
        told += "check its content"
        assert re.fullmatch(told, line)
    assert main("thin_check", ["-q", str(output)]) == 0
    assert main("thin_repair", ["-q", "-i", source, "-o", str(output)]) == 0
    assert capfd.readouterr() == ("", "")


def test_repair_without_a_superblock(
    part: Callable[[str], str], output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The data block size alone is in no tree, and has to be given (as to 1.x)."""
    command = ["-i", part("damaged/sb_csum"), "-o", str(output)]
    for given in ([], ["--transaction-id", "7", "--nr-data-blocks", "8192"]):
        assert main("thin_repair", [*command, *given]) == 1
        assert main("thin_dump", ["--repair", command[1], *given]) == 1
        message = "data block size needs to be provided due to corruption in the superblock\n"
        assert capfd.readouterr().err.count(message) == 2
    assert not any(output.read_bytes())
    assert main("thin_repair", [*command, "--data-block-size", "128"]) == 0
    assert main("thin_check", ["-q", str(output)]) == 0


def test_the_empty_argument_that_lvm2_passes(
    part: Callable[[str], str], output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """LVM2's ``global/thin_repair_options`` is ``[ "" ]``, and ``lvconvert --repair`` passes it first."""
    assert main("thin_repair", ["", "-i", part("clean"), "-o", str(output)]) == 0
    assert main("thin_check", ["-q", str(output)]) == 0
    assert main("thin_repair", ["other", "-i", part("clean"), "-o", str(output)]) == 2
    assert "error: unexpected argument 'other' found" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["thin_repair", "thin_dump"])
def test_of_an_empty_input_nothing_is_asked(
    name: str, tmp_path: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "zeros"
    empty.write_bytes(bytes(SIZE))
    options = ["-i", str(empty), "-o", str(output)] if name == "thin_repair" else ["--repair", str(empty)]
    assert main(name, options) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("no compatible roots found")


@pytest.mark.parametrize("size", ["0", "64", "192", "2097280"])
def test_a_data_block_size_that_no_kernel_takes(
    part: Callable[[str], str], text: Path, output: Path, capfd: pytest.CaptureFixture[str], size: str
) -> None:
    source = part("clean")
    for name, arguments in (
        ("thin_repair", ["-i", source, "-o", str(output)]),
        ("thin_restore", ["-i", str(text), "-o", str(output)]),
        ("thin_dump", [source]),
        ("thin_dump", ["--repair", source]),
    ):
        assert main(name, [*arguments, "--data-block-size", size]) == 1, name
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith(f"invalid data block size: {size} sectors")
    assert not any(output.read_bytes())


@pytest.mark.parametrize("name", ["thin_restore", "thin_repair"])
@pytest.mark.parametrize("size", [None, 0, 4096, 28672])
def test_outputs_that_will_not_do(
    tool: Callable[[str], str],
    part: Callable[[str], str],
    text: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    size: int | None,
) -> None:
    target = tmp_path / "small"
    if size is not None:
        target.write_bytes(bytes(size))
    arguments = ["-i", str(text) if name == "thin_restore" else part("clean"), "-o", str(target)]
    theirs = subprocess.run([tool(name), *arguments], capture_output=True, text=True)
    assert theirs.returncode == failure()
    assert main(name, arguments) == 1
    said = capfd.readouterr().err
    assert said.endswith(TOO_SMALL)
    if not since_1():  # 1.x has other words
        assert said == theirs.stderr


def test_no_room_names_the_size(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "small"
    target.write_bytes(bytes(32768))
    assert main("thin_restore", ["-i", str(text), "-o", str(target)]) == 1
    assert "too small: it has 32768 bytes, and" in capfd.readouterr().err
    assert target.read_bytes() == bytes(32768)


@pytest.mark.parametrize("name", ["thin_restore", "thin_repair"])
def test_wrong_usage(
    name: str, part: Callable[[str], str], output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = part("clean")
    before = output.read_bytes()
    for arguments in ([], ["-i", source], ["-o", str(output)], ["-i", source, "-o", str(output), "--foo"]):
        assert main(name, arguments) == 2
    assert main(name, ["-i", source, "-o", str(output), "--transaction-id", "-1"]) == 2
    capfd.readouterr()
    for arguments, message in (
        (["-i", f"{source}.absent", "-o", str(output)], "Couldn't find input file"),
        (["-i", source, "-o", source], "same file"),
        (["-i", source, "-o", os.path.dirname(source)], "Not a block device or regular file"),
        (["-i", os.path.dirname(source), "-o", str(output)], "regular file"),
    ):
        assert main(name, arguments) == 1
        assert message in capfd.readouterr().err
    assert main(name, ["--version"]) == 0
    assert output.read_bytes() == before


def test_inputs_mistaken_for_each_other(
    part: Callable[[str], str], text: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_restore", ["-i", part("clean"), "-o", str(output)]) == 1
    assert "is not thin metadata XML: line 1" in capfd.readouterr().err
    text.write_text(text.read_text() + " " * 5000)
    assert main("thin_repair", ["-i", str(text), "-o", str(output)]) == 1
    assert "This looks like XML." in capfd.readouterr().err
    assert not any(output.read_bytes())


def test_an_output_in_use_is_left_alone(part: Callable[[str], str], text: Path, output: Path) -> None:
    with open(output, "rb") as pool:
        fcntl.flock(pool, fcntl.LOCK_SH)
        assert main("thin_restore", ["-i", str(text), "-o", str(output)]) == 1
        assert main("thin_repair", ["-i", part("clean"), "-o", str(output)]) == 1
    assert not any(output.read_bytes())


def test_the_repairing_dump(
    part: Callable[[str], str], made: KernelMade, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main("thin_dump", [part("clean")]) == 0
    clean = capfd.readouterr().out
    assert main("thin_dump", ["-r", part("damaged/mapping_root")]) == 0
    out, err = capfd.readouterr()
    assert out == clean
    found = "its mapping tree was in no list, and was found by its mappings"
    assert f"thin device {made.last_snapshot}: {found}" in err
    assert main("thin_dump", ["-r", part("damaged/zeroed")]) == 1
    assert "no compatible roots found" in capfd.readouterr().err
