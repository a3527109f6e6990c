# SPDX-License-Identifier: Apache-2.0
"""Man pages, in the macros of man(7)."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from scripts.reference import settings
from scripts.reference.commands import all_pages
from scripts.reference.model import Entry

from lamella._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from scripts.reference.model import Page

CONFIG_PAGE = "lamella-config"
_CODE = re.compile(r"(`+)(.+?)\1")


def write_all(folder: Path) -> list[Path]:
    """Write the man pages into *folder*, ``man1`` and ``man5`` below it; returns their paths."""
    pages = all_pages()
    texts = {"man1/lamella.1": _overview(pages), f"man5/{CONFIG_PAGE}.5": _config()}
    texts |= {f"man1/lamella-{page.name}.1": _command(page) for page in pages}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "ascii")
    return [folder / name for name in texts]


def plain(text: str) -> str:
    """*text* as roff shows it, with nothing in it that roff would obey."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace("'", "\\(aq")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in escaped.split("\n"))


def inline(text: str) -> str:
    """A text with code in backticks, which is set in bold."""
    parts, at = [], 0
    for found in _CODE.finditer(text):
        parts += [plain(text[at : found.start()]), f"\\fB{plain(found[2])}\\fR"]
        at = found.end()
    return "".join([*parts, plain(text[at:])])


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    # The same sources give the same page on the same day, or for ever with SOURCE_DATE_EPOCH
    # (https://reproducible-builds.org/specs/source-date-epoch/).
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    yield f'.TH "{plain(name.upper())}" "{section}" "{day}" "Lamella {__version__}" "Lamella"'
    yield ".SH NAME"
    yield f"{plain(name)} \\- {inline(summary)}"


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        if index:
            yield ".PP"
        yield inline(text)


def _entries(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield ".TP"
        yield f"\\fB{plain(entry.term)}\\fR"
        yield inline(entry.text) or "\\&"


def _block(text: str) -> Iterator[str]:
    yield ".nf"
    yield plain(text.expandtabs())
    yield ".fi"


def _see(*names: str) -> Iterator[str]:
    yield ".SH SEE ALSO"
    for index, name in enumerate(names):
        title, section = name.split(".")
        yield f".BR {plain(title)} ({section})" + ("," if index < len(names) - 1 else "")


def _file(lines: Iterable[str]) -> str:
    return '.\\" Made by scripts/reference; not to be edited.\n' + "\n".join(lines) + "\n"


def _command(page: Page) -> str:
    lines = [*_head(f"lamella-{page.name}", 1, page.summary), ".SH SYNOPSIS"]
    for index, form in enumerate(page.synopsis):
        lines += [".br"] * bool(index) + [
            f"\\fB{plain(page.title)}\\fR{plain(form.removeprefix(page.title))}"
        ]
    lines += [".SH DESCRIPTION", *_paragraphs(page.description)]
    for section in page.sections:
        lines.append(f".SH {plain(section.title.upper())}")
        lines += [*_paragraphs(section.paragraphs), *(_block(section.block) if section.block else ())]
        lines += _entries(section.entries)
    if page.json:
        lines += [".SH JSON", "The fields that \\fB\\-\\-json\\fR prints:", *_entries(page.json)]
    lines.append(".SH EXIT STATUS")
    lines += _entries(page.exit_codes) if page.exit_codes else ["Those of \\fBlamella\\fR(1)."]
    if page.example:
        lines += [".SH EXAMPLES", *_block("\n".join(page.example))]
    more = ["lamella-config.5"] if page.name in ("setup", "quickstart") else []
    return _file([*lines, *_see("lamella.1", *more)])


def _overview(pages: list[Page]) -> str:
    lines = [
        *_head("lamella", 1, "thin-provisioned, copy-on-write block storage for images and containers"),
        ".SH SYNOPSIS",
        "\\fBlamella\\fR [\\-\\-root DIR] COMMAND [ARGUMENT...]",
        ".SH DESCRIPTION",
        *_paragraphs(
            (
                "Images become stacks of snapshots in a thin pool, and a container is one more snapshot on "
                "top. The formats on disk are those of LVM2, the kernel's dm-thin and ext4. An engine "
                "in user space reads and writes them without root; as root the kernel's device-mapper can.",
                "`lamella COMMAND --help` and the page of each command, such as `lamella-create`(1), explain "
                "the commands.",
            )
        ),
    ]
    for family in dict.fromkeys(page.family for page in pages):
        lines.append(f".SH {plain(family.upper())}")
        lines += _entries(Entry(page.name, page.summary) for page in pages if page.family == family)
    lines += [".SH EXIT STATUS"]
    lines += _entries(Entry(str(code), text) for code, _, text in settings.exit_codes())
    lines += [".SH ENVIRONMENT", *_entries(settings.environment())]
    return _file([*lines, *_see("lamella-quickstart.1", "lamella-setup.1", "lamella-config.5")])


def _config() -> str:
    options = (
        Entry(
            f"{one.key}={one.value}",
            f"{one.text.rstrip('.')}. {', '.join(one.modes)}"
            + (f"; default {one.default}." if one.default else "."),
        )
        for one in settings.storage_options()
    )
    return _file(
        [
            *_head(CONFIG_PAGE, 5, "settings of a Lamella store"),
            ".SH DESCRIPTION",
            *_paragraphs(
                (
                    "The file `config.toml` in a store's folder keeps what the store was set up with. "
                    "`lamella setup` writes it; change it by running that again.",
                )
            ),
            ".SH KEYS",
            *_entries(settings.config_keys()),
            ".SH STORAGE OPTIONS",
            *_paragraphs(
                (
                    "Given as `--storage-opt KEY=VALUE`. A SIZE has a unit of b, k, m, g or t, in powers "
                    "of 1024.",
                )
            ),
            *_entries(options),
            ".SH REFUSED OPTIONS",
            *_entries(settings.refused_options()),
            *_see("lamella.1", "lamella-setup.1"),
        ]
    )
