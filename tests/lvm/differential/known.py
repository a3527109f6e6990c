# SPDX-License-Identifier: Apache-2.0
"""Differences that stay. Each is explained in docs/reference/lvm-commands.md, "What differs from LVM2"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.lvm.differential.compare import Result


@dataclass(frozen=True)
class Known:
    """A step is excused if every pattern given is found: in the words, in what the real one said, in what we
    said.

    *explained* is a part of the sentence in the documentation; "" for what only the missing device-mapper
    of the machine makes differ.
    """

    explained: str
    words: str = ""
    real: str = ""
    ours: str = ""
    parts: tuple[str, ...] = ()
    """If given, only these parts of the results are excused."""

    def fits(self, words: str, real: Result, ours: Result, parts: Collection[str]) -> bool:
        """Whether this explains the step, of which these *parts* differ."""
        if self.parts and not set(parts) <= set(self.parts):
            return False
        return bool(
            re.search(self.words, words)
            and re.search(self.real, real.said)
            and re.search(self.ours, ours.said)
        )


KNOWN = (
    Known("", real=r"Cannot activate thin pool|Failed to update pool"),
    Known("also before `vgremove`", words="^vgremove ", parts=("files",)),
    Known(
        "Commands that only read write no backups",
        words=r"^([lpv][gv](s|display|scan|ck)|fullreport)\b",
        parts=("files",),
    ),
    Known(
        "archives the group first", words="^lvchange ", real="is already|Unable to change", parts=("files",)
    ),
    Known("prints the name of each file twice", words="^vgcfgrestore .*(-l|--list)", parts=("out",)),
    Known("Nothing is removed for a tag", words="^lvremove .*@( |$)"),
    Known("`lvrename` takes `/dev/mapper/", words="^lvrename .*/dev/mapper/"),
    Known("a name beside a tag", words="^(vg|fullreport)[a-z]* .*@", ours="Volume group .* not found"),
    Known("`vgimportclone` of a disk in no group", real="Error parsing metadata for VG #orphans"),
    Known("`vgimportclone` where disks are missing", real="not released memory pool", parts=("err",)),
    Known("refers to `-o help`", real="Unrecognised (selection )?field", parts=("err",)),
    Known("lists the types that Lamella creates", words="^segtypes", parts=("out",)),
    Known("has one line of description", words="config .*--with(summary|comments)", parts=("out",)),
    Known(
        "check extent size and names before",
        words="^vgextend",
        real="(?s)successfully created.*( not found|Multiple VGs found|has invalid characters)",
        parts=("out", "text"),
    ),
    Known(
        "check extent size and names before",
        words="^vgextend",
        real="Failed to setup physical volume",
        ours="Volume group .* not found",
        parts=("err",),
    ),
    Known('also warns ("Ignoring unsupported value")', real="Ignoring unsupported value", parts=("err",)),
    Known(
        "and preambles, in Lamella's words", words="config .*--with(local|general)preamble", parts=("out",)
    ),
    Known("`vgrename --test` keeps the backup", words="^vgrename .*(-t|--test)( |$)", parts=("files",)),
    Known("`vgreduce` of a name that two groups have", words="^vgreduce ", ours="Multiple VGs found"),
    Known(
        "a name that two groups have beside a tag", words="^lv(s|display|scan) .*@", ours="Multiple VGs found"
    ),
    Known("too small for one extent", ours="too small to hold even one extent"),
    Known(
        "",
        words="(-a|--activate) .*--(poll|monitor)|--(poll|monitor) .*(-a|--activate)",
        real="is not active",
    ),
    Known("archives of `vgsplit` and `vgmerge`", words="^vg(split|merge) ", parts=("files",)),
    Known(
        "`pvdisplay` prints one command log",
        words="^pvdisplay .*(--logonly|report_command_log)",
        parts=("out",),
    ),
    Known("an internal error of its own", real=r"Failed to properly detect layout", parts=("err",)),
    Known(
        "an empty command log where no group matches a tag",
        words="^[pv][gv](s|display|ck) .*(--logonly|json).* @",
        parts=("out",),
    ),
    Known(
        "that was away is cleared", words="^vgremove ", real="updating old metadata", parts=("files", "text")
    ),
    Known("that was away is archived", words="^vgreduce ", real="reappeared PV", parts=("files",)),
    Known("`vgimportclone` of a disk without", real="Aborting vg_write: No metadata areas", parts=("err",)),
    Known("", words="^lvdisplay .*--driverloaded", parts=("out",)),
    Known("", words="^lv(extend|resize|reduce) ", ours="_t(data|meta) (successfully resized|changed)"),
    Known("a name that other groups have twice", words="^vgcreate ", ours="already exists"),
    Known("on fields of two kinds", real="Selection failed for VG", ours="fields at the same time"),
    Known(
        "warnings about disks belong to no group",
        words="--logonly|report_command_log",
        ours="Seq LogType",
        parts=("out", "err"),
    ),
    Known("", real=r"without using device-mapper kernel driver"),
    Known("", real=r"requires? activation|Device-mapper is not|Cannot activate|compiled without activation"),
)


def explanation(words: Sequence[str], real: Result, ours: Result, differs: Sequence[str]) -> Known | None:
    """The known difference that explains the step, which *differs* in these lines; or None."""
    line = " ".join(words)
    parts = {one.partition(" ")[0] for one in differs}
    return next((known for known in KNOWN if known.fits(line, real, ours, parts)), None)
