# SPDX-License-Identifier: Apache-2.0
"""The storage options, the keys of ``config.toml``, exit codes, environment variables, report fields."""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING

from scripts.reference.model import Entry, Section

import lamella.errors
from lamella.cli.environment import VARIABLES
from lamella.cli.main import BROKEN_PIPE, INTERNAL_ERROR
from lamella.cli.process import ENDING_SIGNALS
from lamella.driver import options
from lamella.errors import LamellaError
from lamella.lvm.report.fields import SECTIONS
from lamella.lvm.report.fields import fields as report_fields
from lamella.store.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = {
    "_between.<locals>.read": "SIZE",
    "_share.<locals>.read": "N%",
    "_percent": "N%",
    "_boolean": "true|false",
    "_filesystem": "ext4|xfs",
    "_retries": "N",
    "_lvm_name": "NAME",
    "_pool_device": "VG/POOL",
    "_one": "VALUE",
    "_commas": "OPTIONS",
}
"""By the function that reads an option's value: how the value is written."""
IGNORED = "Accepted for Docker's configurations, and ignored."
CONFIG_KEYS = {
    "version": "The version of the file's format.",
    "mode": "loop-lvm: the pool is in two sparse files; direct-lvm: on logical volumes.",
    "storage_options": "The storage options, as they were given.",
    "engine": "The engine that setup was given: user or kernel. If missing, each command chooses.",
}


@dataclass(frozen=True)
class Setting:
    """A storage option."""

    key: str
    value: str
    default: str
    modes: tuple[str, ...]
    text: str


def storage_options() -> list[Setting]:
    """Every key that set-up takes."""
    texts = attribute_texts(options.Options)
    defaults = {one.name: one.default for one in fields(options.Options) if one.default is not MISSING}
    found = []
    for key in options.known_options():
        direct_only = key in options._DIRECT_PARSERS
        name, read = (options._DIRECT_PARSERS if direct_only else options._PARSERS)[key]
        modes = [options.DIRECT] if direct_only else [options.LOOP]
        if not direct_only and key not in options._REFUSED_DIRECT:
            modes.append(options.DIRECT)
        default = _default(defaults[name], VALUES[read.__qualname__]) if name else ""
        if key == "dm.blocksize":
            default += f"; direct-lvm {_size(options.DIRECT_CHUNK)}"
        text = texts[name] if name else IGNORED
        found.append(Setting(key, VALUES[read.__qualname__], default, tuple(modes), text))
    return found


def refused_options() -> list[Entry]:
    """The keys that Docker knows and no mode serves, each with the reason."""
    known = options.known_options()
    return [Entry(key, reason) for key, reason in options.REFUSED.items() if key not in known]


def _default(value: object, kind: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _size(value) if kind == "SIZE" else f"{value}%" if kind == "N%" else str(value)
    return str(value) if value else ""


def _size(value: int) -> str:
    units = 0
    while value >= 1024:
        value, rest = divmod(value, 1024)
        assert not rest
        units += 1
    return f"{value}{'bKMGT'[units]}"


def attribute_texts(kind: type) -> dict[str, str]:
    """The texts that stand below the attributes of a class, each as one line."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(before.target, ast.Name)
            found[before.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found


def config_keys() -> list[Entry]:
    """The keys of ``config.toml``."""
    assert {one.name for one in fields(Config)} | {"version"} == set(CONFIG_KEYS)
    return [Entry(key, text) for key, text in CONFIG_KEYS.items()]


def exit_codes() -> list[tuple[int, str, str]]:
    """Code, class ("" for none) and meaning, of Lamella's own commands."""
    classes = [
        value
        for value in vars(lamella.errors).values()
        if isinstance(value, type) and issubclass(value, LamellaError) and value is not LamellaError
    ]
    found = [(kind.exit_code, kind.__name__, _first_sentence(kind)) for kind in classes]
    found += [
        (0, "", "Done."),
        (LamellaError.exit_code, LamellaError.__name__, "Any other expected failure."),
        (INTERNAL_ERROR, "", "Internal error; LAMELLA_DEBUG=1 shows the traceback."),
        (130, "", "Interrupted by Ctrl-C (SIGINT), after undoing the unfinished step."),
        (BROKEN_PIPE, "", "The pipe that takes the output was closed."),
    ]
    found += [
        (128 + number, "", f"Ended by {number.name}, after undoing the unfinished step.")
        for number in ENDING_SIGNALS
    ]
    return sorted(found)


def _first_sentence(kind: Callable[..., object]) -> str:
    return " ".join(inspect.getdoc(kind).split("\n\n")[0].split())  # type: ignore[union-attr]


def environment() -> list[Entry]:
    """The environment variables."""
    return [Entry(name, text) for name, text in VARIABLES.items()]


def lvm_report_fields() -> list[Section]:
    """The fields of ``pvs``, ``vgs`` and ``lvs``, by LVM2's sections."""
    titles = {**SECTIONS, "special": "Special Fields"}
    return [
        Section(
            title,
            tuple(Entry(one.name, one.description) for one in report_fields().values() if one.section == key),
        )
        for key, title in titles.items()
    ]
