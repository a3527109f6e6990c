# SPDX-License-Identifier: Apache-2.0
"""The reference has everything that the code has: commands, options, settings, variables, exit codes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.reference import markdown, roff, settings
from scripts.reference.commands import all_pages

import lamella.errors
from lamella.cli.command_table import COMMANDS, DM_NAMES, LVM_NAMES, LVM_PROGRAM, THIN_TOOL_NAMES
from lamella.cli.dmsetup import options as dmsetup_options
from lamella.cli.lvm.syntax.grammar import find_command
from lamella.cli.parsing import command_parser
from lamella.driver import options
from lamella.errors import LamellaError
from lamella.lvm.report.fields import fields as report_fields

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[2]
SOURCES = PROJECT / "src/lamella"
PAGES = {page.name: page for page in all_pages()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated pages."""
    folder = tmp_path_factory.mktemp("reference")
    markdown.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def man(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The man pages."""
    folder = tmp_path_factory.mktemp("man")
    roff.write_all(folder)
    return folder


def test_each_command_has_a_page_with_an_example(site: Path, man: Path) -> None:
    names = {*COMMANDS, *LVM_NAMES, *LVM_PROGRAM, *DM_NAMES, *THIN_TOOL_NAMES}
    assert set(PAGES) == names
    overview = (man / "man1/lamella.1").read_text()
    index = (site / "commands/index.md").read_text()
    for name in names:
        assert f"lamella {name}" in "\n".join(PAGES[name].example), name
        assert f"({name}.md)" in index
        assert "## Example" in (site / f"commands/{name}.md").read_text()
        assert roff.plain(name) in overview
        assert (man / f"man1/lamella-{name}.1").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_our_commands_is_there(name: str, site: Path, man: Path) -> None:
    page = (site / f"commands/{name}.md").read_text()
    manual = (man / f"man1/lamella-{name}.1").read_text()
    for action in command_parser(name)._actions:
        for option in action.option_strings:
            assert re.search(rf"`.*{re.escape(option)}\b.*`\n: ", page), option
            assert roff.plain(option) in manual


@pytest.mark.parametrize("name", LVM_NAMES)
def test_each_option_of_lvm_commands_is_there(name: str, site: Path) -> None:
    page = (site / f"commands/{name}.md").read_text()
    command = find_command(name)
    assert command is not None
    for option in command.table.values():
        assert f"--{option.name}" in page
        assert not option.short or f"`-{option.short}, --{option.name}" in page


def test_each_option_of_dmsetup_is_there(site: Path) -> None:
    page = (site / "commands/dmsetup.md").read_text()
    for option in dmsetup_options.LONG:
        assert f"--{option.rstrip('=')}" in page
    for letter in dmsetup_options.SHORT.replace(":", ""):
        assert re.search(rf"`(-\w, )*-{letter}, ", page), letter


def test_each_setting_is_there_with_a_text(site: Path, man: Path) -> None:
    page = (site / "settings.md").read_text()
    manual = (man / "man5/lamella-config.5").read_text()
    for key in {*options._PARSERS, *options._DIRECT_PARSERS, *options.REFUSED}:
        assert f"`{key}`" in page
        assert roff.plain(key) in manual
    assert all(one.text and one.modes for one in settings.storage_options())


def test_each_exit_code_is_there(site: Path, man: Path) -> None:
    page = (site / "exit-codes.md").read_text()
    manual = (man / "man1/lamella.1").read_text()
    for value in vars(lamella.errors).values():
        if isinstance(value, type) and issubclass(value, LamellaError):
            assert f"| {value.exit_code} | `{value.__name__}` |" in page
            assert f"\\fB{value.exit_code}\\fR" in manual


def test_each_report_field_is_there(site: Path) -> None:
    page = (site / "report-fields.md").read_text()
    for name in report_fields():
        assert f"| `{name}` |" in page


def environment_names() -> set[str]:
    """The environment variables that the sources read or set, from every use of ``os.environ``."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=where), args=[argument, *_]):
                    pass
                case ast.Subscript(value=where, slice=argument):
                    pass
                case ast.Compare(left=argument, ops=[ast.In() | ast.NotIn()], comparators=[where]):
                    pass
                case _:
                    continue
            assert "getenv" not in ast.unparse(node), f"{path}:{node.lineno}: write os.environ.get"
            if ast.unparse(where) != "os.environ":
                continue
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
            elif isinstance(argument, ast.Name) and isinstance(constants.get(argument.id), str):
                found.add(constants[argument.id])
            elif isinstance(argument, ast.Name) and argument.id == "ENVIRONMENT":
                pass  # imported from where it is found as a constant
            else:
                raise AssertionError(f"{path}:{node.lineno}: which variable is {ast.unparse(argument)}?")
    return found


def test_each_environment_variable_is_there(site: Path) -> None:
    page = (site / "environment.md").read_text()
    used = environment_names()
    assert used >= {"LAMELLA_ROOT", "LAMELLA_ENGINE", "LAMELLA_DEVICES", "LAMELLA_DEBUG", "LVM_SYSTEM_DIR"}
    assert used == {entry.term for entry in settings.environment()}
    for name in used:
        assert f"`{name}`\n: " in page


def test_commands_with_json_say_what_is_in_it(site: Path) -> None:
    page = (site / "json.md").read_text()
    for name in COMMANDS:
        offers = any("--json" in action.option_strings for action in command_parser(name)._actions)
        assert offers == bool(PAGES[name].json), name
        assert offers == (f"(commands/{name}.md)" in page)


def test_man_pages_have_no_faults(man: Path, tool: Callable[[str], str]) -> None:
    program = tool("mandoc")
    files = sorted(str(path) for path in man.rglob("*.[15]"))
    done = subprocess.run(
        [program, "-T", "lint", "-W", "warning", *files], capture_output=True, text=True, check=False
    )
    assert not done.stdout + done.stderr


def test_the_manual_shows_what_the_command_says(man: Path, tool: Callable[[str], str]) -> None:
    program = tool("mandoc")
    done = subprocess.run(
        [program, "-T", "ascii", "-O", "width=300", str(man / "man1/lamella-create.1")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = re.sub(r".\x08", "", done.stdout)
    for line in PAGES["create"].example:
        assert line in shown
    assert "--storage-opt size=SIZE" in shown


def test_the_generator_needs_nothing_but_python(tmp_path: Path) -> None:
    """A wheel is built where only setuptools is installed."""
    code = (
        "import sys, runpy; sys.path[:0] = ['.', 'src']; sys.argv[1:] = ['man', sys.argv[1]];"
        "runpy.run_module('scripts.reference', run_name='__main__');"
        "sys.exit(bool({'numpy', 'urllib3', 'zstandard', 'platformdirs'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-S", "-c", code, str(tmp_path)], check=True, cwd=PROJECT)
    assert (tmp_path / "man1/lamella-create.1").exists()
