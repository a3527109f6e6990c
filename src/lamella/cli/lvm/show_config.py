# SPDX-License-Identifier: Apache-2.0
"""lvmconfig, config and dumpconfig: show LVM2's settings, configured and built in, or check them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from lamella.cli.lvm.errors import BadCommand, Failed
from lamella.lvm.session.known_settings import Setting, summaries
from lamella.lvm.session.setting_checks import setting_faults
from lamella.lvm.session.setting_text import Style, node_lines, tree_lines
from lamella.lvm.session.setting_trees import (
    VERSION,
    Tree,
    Wanted,
    changed_tree,
    default_tree,
    merge,
    merge_all,
    packed,
    wanted_settings,
    without_free,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lamella.cli.lvm.context import Context
    from lamella.cli.lvm.syntax.parse import Arguments

GENERAL_PREAMBLE = """\
# Settings of LVM2 and of Lamella's LVM commands, for the file lvm.conf in /etc/lvm
# or in the folder that the environment variable LVM_SYSTEM_DIR names.
#
# A setting that stands here as a comment has the default that is built into the
# program; remove the "#" to keep a value whatever later versions do.
# Each setting may be given once. --config overrides this file, and so do profiles.
# The format is described in lvm.conf(5), this list in lvmconfig(8).

"""
LOCAL_PREAMBLE = """\
# Settings of one host, for the file lvmlocal.conf beside lvm.conf: the section local.
# They override lvm.conf. Do not copy this file to other hosts.

"""


def lvmconfig(context: Context) -> None:
    """Print settings, or with ``--validate`` say whether those that are configured are valid."""
    args = context.args
    kind = _kind(args)
    wanted = _wanted(args, kind)
    layers = context.config.layers
    above = context.config.above_files
    files = merge_all(list(reversed(layers[above:])))
    merged = files
    if above:
        merged = merge({}, files)
        typed = context.config.above
        for layer in (*layers[typed:above], *layers[:typed]):
            merged = merge(merged, layer, tags=True)
    front = layers[0] if above else files
    if args.has("validate"):
        _validate(context, front)
        return
    current = front if kind == "current" and not args.has("mergedconfig") else merged
    out: list[str] = []
    if args.has("withgeneralpreamble"):
        out.append(GENERAL_PREAMBLE)
    if args.has("withlocalpreamble"):
        out.append(LOCAL_PREAMBLE)
    missed = _list(args, wanted, out) if kind == "list" else _tree(args, kind, wanted, current, out)
    _write(context, "".join(out))
    for name in missed:
        context.console.fail(f"Configuration node {name} not found")


config = dumpconfig = lvmconfig


def _kind(args: Arguments) -> str:
    """The kind of tree that is asked for. Raises :class:`BadCommand` as LVM2 does, in its order."""
    kind = args.text("typeconfig")
    if kind and args.has("list"):
        raise BadCommand("Only one of --type and --list permitted.")
    if kind and args.has("validate"):
        raise BadCommand("Only one of --type and --validate permitted.")
    shown = kind or ("list" if args.has("list") else "current")
    if args.has("mergedconfig") and shown not in ("current", "full"):
        raise BadCommand("--mergedconfig has no effect without --type current or --type full")
    if args.has("atversion"):
        if args.has("sinceversion"):
            raise BadCommand("Only one of --atversion and --sinceversion permitted.")
        if not kind and not args.has("list"):
            raise BadCommand("--atversion requires --type or --list")
        if shown in ("current", "full"):
            raise BadCommand(f"--atversion has no effect with --type {shown}")
        _version(args.text("atversion"))
    elif args.has("sinceversion"):
        if shown != "new":
            raise BadCommand("--sinceversion requires --type new")
        _version(args.text("sinceversion"))
    if shown == "current" and (args.has("ignoreadvanced") or args.has("ignoreunsupported")):
        raise BadCommand("--ignoreadvanced and --ignoreunsupported has no effect with --type current")
    if shown == "list":
        for name in ("withcomments", "withlocalpreamble", "withgeneralpreamble"):
            if args.has(name):
                raise BadCommand(f"--{name} has no effect with --type list")
    return shown


def _wanted(args: Arguments, kind: str) -> Wanted:
    since = _version(args.text("sinceversion")) if args.has("sinceversion") else 0
    at = _version(args.text("atversion")) if args.has("atversion") else packed(VERSION)
    return Wanted(
        since or (packed(VERSION) if kind == "diff" else at),
        later=bool(since),
        deprecated=kind in ("diff", "full") or args.has("showdeprecated"),
        unsupported=not args.has("ignoreunsupported") and (kind == "diff" or args.has("showunsupported")),
        advanced=not args.has("ignoreadvanced"),
        local=not args.has("ignorelocal") or kind == "diff",
        variable=kind not in ("missing", "full"),
        which=_which(kind, at, since),
    )


def _which(kind: str, at: int, since: int) -> Callable[[Setting], bool] | None:
    if kind == "new" and not since:
        return lambda setting: packed(setting.since) == at
    flags = {"profilable": "cm", "profilable-command": "c", "profilable-metadata": "m"}.get(kind)
    return (lambda setting: bool(set(setting.flags) & set(flags))) if flags else None


def _version(text: str) -> int:
    """A version as C's ``sscanf`` reads "%d.%d.%d", packed."""
    found = re.match(r"\s*([+-]?\d+)\.\s*([+-]?\d+)\.\s*([+-]?\d+)", text, re.ASCII)
    if not found:
        raise BadCommand("Incorrect version format.")
    return packed((_scanned(found[1]), _scanned(found[2]), _scanned(found[3])))


def _scanned(digits: str) -> int:
    """A number as glibc's ``%d`` reads it, which stops at the ends of a C long."""
    return max(-1 << 63, min(int(digits[:25]), (1 << 63) - 1))  # the 20th digit is past its end


def _validate(context: Context, tree: Tree) -> None:
    faults = setting_faults(tree)
    if not context.config.flag("config/checks"):
        for line in faults:
            context.console.warn(line)
    if faults:
        raise Failed("LVM configuration invalid.")
    sys.stdout.write("  LVM configuration valid.\n")


def _tree(args: Arguments, kind: str, wanted: Wanted, current: Tree, out: list[str]) -> list[str]:
    """Print a tree, or the parts of it that are named; the names of which there are none."""
    if kind == "current":
        tree = current
    elif kind == "diff":
        tree = changed_tree(current, wanted)
    else:
        present = current if kind in ("missing", "full") else None
        tree = default_tree(wanted, present)
    if kind == "full":
        tree = merge(tree, without_free(current), tags=True)
    style = Style(
        comments=args.has("withcomments") or args.has("withsummary"),
        versions=args.has("withversions"),
        spaces=args.has("withspaces"),
        unconfigured=args.has("unconfigured"),
        commented=kind not in ("current", "diff", "full"),
        at_version=wanted.at_version,
        current=current if kind == "full" else {},
    )
    missed = []
    if not args.positionals:
        out += [f"{line}\n" for line in tree_lines(tree, style)]
    for name in args.positionals:
        lines = node_lines(tree, name, style)
        if lines is None and kind == "diff" and node_lines(current, name, style) is not None:
            continue  # it is as by default
        if lines is None:
            missed.append(name)
        out += [f"{line}\n" for line in lines or ()]
    return missed


def _list(args: Arguments, wanted: Wanted, out: list[str]) -> list[str]:
    """List settings, or those in sections that are named; the names of which there are none."""
    known = wanted_settings(wanted)
    missed = []
    for name in args.positionals or [""]:
        path = "/".join(part for part in name.split("/") if part)
        found = [each for each in known if not name or _plain(f"{each.path}/").startswith(f"{path}/")]
        if not found or (args.positionals and (not path or name.endswith("/"))):
            missed.append(name)
            continue
        out += [_list_line(args, setting) for setting in found]
    return missed


def _plain(path: str) -> str:
    """The path with names that the user chooses as LVM2 looks them up: ``tag`` for ``<tag>``."""
    return path.replace("<", "").replace(">", "")


def _list_line(args: Arguments, setting: Setting) -> str:
    summary = f"{summaries()[setting.path]} " if args.has("withsummary") or args.has("list") else ""
    version = f"[{setting.since}]" if args.has("withversions") else ""
    return f"{setting.path} - {summary}{version}\n" if summary or version else f"{setting.path}\n"


def _write(context: Context, text: str) -> None:
    args = context.args
    context.console.verbose(f"Dumping configuration to {args.text('file', 'stdout')}")
    if not args.has("file"):
        sys.stdout.write(text)
        return
    path = args.text("file")
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
    except OSError as error:
        said = f"open failed: {error.strerror}"
        raise Failed(f"{path}: {said}" if path else said) from error
