# SPDX-License-Identifier: Apache-2.0
"""Pages of the site, in MyST's Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from scripts.reference import settings
from scripts.reference.commands import all_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from scripts.reference.model import Entry, Page

NOTE = "% Made by scripts/reference from the program's own tables; not to be edited.\n\n"
_CODE = re.compile(r"(`+)(.+?)\1")


def write_all(folder: Path) -> None:
    """Write the generated pages below *folder*, the site's ``reference``."""
    (folder / "commands").mkdir(parents=True, exist_ok=True)
    pages = all_pages()
    for page in pages:
        _write(folder / f"commands/{page.name}.md", _command(page))
    _write(folder / "commands/index.md", _command_index(pages))
    _write(folder / "settings.md", _settings())
    _write(folder / "exit-codes.md", _exit_codes())
    _write(folder / "environment.md", _environment())
    _write(folder / "json.md", _json(pages))
    _write(folder / "report-fields.md", _report_fields())


def _write(path: Path, text: str) -> None:
    """Only where it differs, so that Sphinx reads nothing again in vain."""
    text = NOTE + text
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def inline(text: str) -> str:
    """A plain text as Markdown: what is in backticks is code, everything else stays what it is."""
    parts, at = [], 0
    for found in _CODE.finditer(text):
        parts += [_escaped(text[at : found.start()]), f"`{found[2]}`"]
        at = found.end()
    return "".join([*parts, _escaped(text[at:])])


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]|$#`{}])", r"\\\1", text)


def _entries(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.text:
            yield f"`{entry.term}`\n: {inline(entry.text)}\n"
        else:
            yield f"- `{entry.term}`"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(headings)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _command(page: Page) -> str:
    parts = [f"# {page.title}\n", _block("text", "\n".join(page.synopsis))]
    parts += [f"{inline(paragraph)}\n" for paragraph in page.description]
    if page.example:
        parts += ["## Example\n", _block("sh", "\n".join(page.example))]
    for section in page.sections:
        parts.append(f"## {section.title}\n")
        if section.block:
            parts.append(_block("text", section.block))
        parts += [f"{inline(paragraph)}\n" for paragraph in section.paragraphs]
        parts += _entries(section.entries)
        parts.append("")
    if page.json:
        parts += ["## JSON\n", "The fields that `--json` prints:\n", _fields(page)]
    parts.append("## Exit codes\n")
    if page.exit_codes:
        parts.append(_table(("code", "meaning"), ((e.term, inline(e.text)) for e in page.exit_codes)))
    else:
        parts.append("Those of all of Lamella's own commands: [Exit codes](../exit-codes.md).\n")
    return "\n".join(parts)


def _fields(page: Page) -> str:
    return _table(("field", "meaning"), ((_code(e.term), inline(e.text)) for e in page.json))


def _command_index(pages: list[Page]) -> str:
    parts = [
        "# Commands\n",
        "Each is `lamella COMMAND`; `lamella COMMAND --help` and `man lamella-COMMAND` say what its page "
        "says.\n",
    ]
    for family in dict.fromkeys(page.family for page in pages):
        members = [page for page in pages if page.family == family]
        rows = ((f"[`{page.name}`]({page.name}.md)", inline(page.summary)) for page in members)
        parts += [f"## {family[:1].upper()}{family[1:]}\n", _table(("command", "what it does"), rows)]
    names = "\n".join(page.name for page in pages)
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    return "\n".join(parts)


def _settings() -> str:
    rows = (
        (_code(one.key), _code(one.value), _code(one.default), ", ".join(one.modes), inline(one.text))
        for one in settings.storage_options()
    )
    parts = [
        "# Settings\n",
        "## Storage options\n",
        "Given to [`lamella setup`](commands/setup.md) as `--storage-opt KEY=VALUE`. Those that begin with "
        "`dm.` are options of Docker's devicemapper driver, with its names, defaults and checks; those that "
        "begin with `lamella.` set what is fixed in Docker. Keys are case-insensitive; a SIZE has a unit of "
        "`b`, `k`, `m`, `g`, `t`, in powers of 1024. An unknown key is an error.\n",
        _table(("key", "value", "default", "mode", "meaning"), rows),
        "A container has one storage option of its own: "
        "[`lamella create --storage-opt size=SIZE`](commands/create.md).\n",
        "## Docker's options that are refused\n",
        *_entries(settings.refused_options()),
        "## config.toml\n",
        "The file in the store's folder that keeps what it was set up with. `lamella setup` writes it; "
        "change it by running that again.\n",
        *_entries(settings.config_keys()),
    ]
    return "\n".join(parts)


def _exit_codes() -> str:
    rows = (
        (str(code), f"`{name}`" if name else "", inline(text)) for code, name, text in settings.exit_codes()
    )
    return "\n".join(
        [
            "# Exit codes\n",
            "Lamella's own commands exit with one of these. Each stands for a class in `lamella.errors`, so "
            "a script in Python catches the class and a shell script reads the code.\n",
            _table(("code", "class", "meaning"), rows),
            "The families that replace other programs keep those programs' codes; the page of each "
            "[command](commands/index.md) has them.\n",
        ]
    )


def _environment() -> str:
    return "\n".join(["# Environment variables\n", *_entries(settings.environment())])


def _json(pages: list[Page]) -> str:
    parts = [
        "# JSON\n",
        "Fields that `--json` prints. `[]` stands for each element of a list, `*` for names that depend on "
        "what is there. Fields may be added; what is there keeps its name and meaning. The LVM commands have "
        "LVM2's `--reportformat json`, with the fields of [reports](report-fields.md) as names.\n",
    ]
    for page in pages:
        if page.json:
            parts += [f"## [{page.title}](commands/{page.name}.md)\n", _fields(page)]
    return "\n".join(parts)


def _report_fields() -> str:
    parts = [
        "# Fields of LVM reports\n",
        "For `-o`, `-O` and `-S` of [`pvs`](commands/pvs.md), [`vgs`](commands/vgs.md) and "
        "[`lvs`](commands/lvs.md). Underscores may be left out, and so may the prefix of the report's "
        "own kind.\n",
    ]
    for section in settings.lvm_report_fields():
        rows = ((_code(entry.term), inline(entry.text)) for entry in section.entries)
        parts += [f"## {section.title}\n", _table(("field", "meaning"), rows)]
    return "\n".join(parts)
