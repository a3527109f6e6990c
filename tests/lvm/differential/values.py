# SPDX-License-Identifier: Apache-2.0
"""Random values for options and arguments, by what the help says that they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lamella.lvm.report.fields import fields

if TYPE_CHECKING:
    from random import Random

    from tests.lvm.differential.there import There

NAMES = (
    "a",
    "b",
    "lv1",
    "lvol0",
    "new",
    "x-y",
    "n" * 127,
    "n" * 128,
    "snapshot",
    "a_tmeta",
    ".",
    "a b",
    "-x",
    "",
)
GROUPS = ("vg", "other", "g3", "x.y", "-g", "a/b", "dm name", "..")
TAGS = ("t1", "t2", "a=b", "@t1", "x/y", "bad tag", "-t", "")
SIZES = (
    "4m",
    "8m",
    "5m",
    "1",
    "100k",
    "512b",
    "1s",
    "12M",
    "1g",
    "400m",
    "3e",
    "0",
    "1.5m",
    "8192k",
    "7x",
    "-4m",
)
PERCENTAGES = (
    "50%FREE",
    "100%FREE",
    "10%VG",
    "25%PVS",
    "100%ORIGIN",
    "3",
    "1",
    "0",
    "1000",
    "200%FREE",
    "5%LV",
    "x",
)
NUMBERS = ("0", "1", "2", "3", "4", "64", "255", "4294967296", "x", "-1")
SELECTIONS = (
    "lv_size>4m", "vg_name=vg", "tags=t1", "lv_name=~a", "pv_name=~loop", "vg_free>0", "pv_free=0",
    "lv_role=public", "nosuch=1", "vg_extent_count<1000", "lv_active=unknown", "seg_count=1", "size=8m",
    "pvseg_start=0", "lv_tags={t1 || t2}", "vg_missing_pv_count>0", "lv_layout=thin", "!(lv_size>4m)", "all",
)  # fmt: skip
COLUMNS = {"pv": ("pv", "vg", "label", "pvseg"), "vg": ("vg",), "lv": ("lv", "seg", "vg")}
SIGNED = re.compile(r"^\[([+|-]+)\]")


class Values:
    """Draws values; *there* has the names to use."""

    def __init__(self, draw: Random, there: There) -> None:
        self.draw = draw
        self.there = there

    def often(self, usual: list[str], other: tuple[str, ...], share: float = 0.85) -> str:
        """One of *usual* if there is any, but sometimes one of *other*."""
        if usual and self.draw.random() < share:
            return self.draw.choice(usual)
        return self.draw.choice(other)

    def group(self) -> str:
        name = self.often(self.there.groups, (*GROUPS, "nosuch"), 0.92)
        return self.draw.choice([name] * 12 + [f"/dev/{name}", f"{name}/"])

    def volume(self) -> str:
        name = self.often(self.there.volumes, ("vg/nosuch", "nosuch/a", "vg", "vg/a/b", "a", ""), 0.92)
        mapped = "/dev/mapper/" + "-".join(part.replace("-", "--") for part in name.split("/"))
        return self.draw.choice([name] * 12 + [f"/dev/{name}", mapped, f"{name}/"])

    def new_volume(self) -> str:
        name = self.often(list(NAMES[:6]), NAMES)
        vg = self.draw.choice(self.there.groups or ["vg"])
        return self.draw.choice([name, name, name, f"{vg}/{name}", f"/dev/{vg}/{name}"])

    def disk(self, command: str) -> str:
        free = [*self.there.orphans, *self.there.empty]
        usual = {"pvcreate": free, "vgcreate": free, "vgextend": free, "pvremove": self.there.orphans}.get(
            command, self.there.used + self.there.orphans
        )
        other = (*free, *self.there.used, "/dev/nosuch", "/dev/null")
        return self.often(usual, other)

    def extents(self, command: str) -> str:
        """A disk to allocate from, often with a range."""
        disk = self.disk(command)
        ranges = ["", "", "", ":0-5", ":3", ":2-", ":-4", ":0+3", ":0-1:4-7", ":9-3", ":x", ":0-100000"]
        return disk + self.draw.choice(ranges)

    def tag(self) -> str:
        return self.often(self.there.tags, TAGS, 0.6)

    def size(self, kind: str) -> str:
        signs = SIGNED.match(kind)
        sign = self.draw.choice(["", *(signs[1].replace("|", "") if signs else "")])
        return sign + self.often(list(SIZES[:9]), SIZES)

    def number(self, kind: str) -> str:
        signs = SIGNED.match(kind)
        sign = self.draw.choice(["", *(signs[1].replace("|", "") if signs else "")])
        if "PERCENT" in kind:
            return sign + self.often(list(PERCENTAGES[:7]), PERCENTAGES)
        return sign + self.often(list(NUMBERS[:5]), NUMBERS)

    def option(self, command: str, name: str, kind: str) -> str:
        """The value of an option."""
        special = self._by_name(command, name)
        if special is not None:
            return special
        return self.of_kind(command, kind)

    def of_kind(self, command: str, kind: str) -> str:
        """A value for *kind*, of an option or an argument."""
        kind = kind.removesuffix("...").strip()
        if "Size[" in kind:
            return self.size(kind)
        if "Number" in kind and "auto" not in kind and "all|" not in kind:
            return self.number(kind)
        if kind == "LV_new":
            return self.new_volume()
        if kind == "VG_new":
            return self.often(list(GROUPS[:4]), GROUPS)
        if kind == "VG":
            return self.group()
        if kind == "PV":
            return self.extents(command) if command.startswith(("lv", "pvmove")) else self.disk(command)
        if kind == "LV" or kind.startswith(("LV_", "LV1")):
            return self.volume()
        if kind == "Tag":
            return self.tag()
        if kind == "String":
            return self.draw.choice(["x", "vg", "", "1"])
        choices = [one for one in kind.split("|") if one]
        if any(one in ("VG", "LV", "PV", "Tag", "Select") for one in choices):
            return self._argument(command, choices)
        if choices and self.draw.random() < 0.95:
            chosen = self.draw.choice(choices)
            return self.number("") if chosen == "Number" else chosen
        return "x"

    def _argument(self, command: str, choices: list[str]) -> str:
        chosen = self.draw.choice(
            [one for one in choices if one != "Select"] * 2 + ["LV"] * ("LV" in choices) * 3
        )
        if chosen == "Tag":
            return "@" + self.tag().lstrip("@")
        return self.of_kind(command, chosen)

    def selection(self) -> str:
        one = self.draw.choice(SELECTIONS)
        if self.draw.random() < 0.2:
            return one + self.draw.choice([" && ", " || "]) + self.draw.choice(SELECTIONS)
        return one

    def columns(self, command: str) -> str:
        kind = command[:2] if command[:2] in COLUMNS else "lv"
        known = [name for name, one in fields().items() if one.section.startswith(COLUMNS[kind])]
        known = [name for name in known if name not in ("lv_time", "pv_minor", "pv_major")]
        drawn = [self.draw.choice(known) for _ in range(self.draw.randint(1, 4))]
        text = ",".join(drawn)
        return self.draw.choice(
            [text, text, text, f"+{text}", f"{kind}_all", f"-{text}", f"#{text}", "nosuch"]
        )

    def _by_name(self, command: str, name: str) -> str | None:
        draw = self.draw
        match name:
            case "select":
                return self.selection()
            case "options":
                return self.columns(command)
            case "sort":
                return draw.choice(["", "-", "+"]) + self.columns(command).lstrip("+-#")
            case "units":
                return draw.choice([*"hHbBsSkKmMgGtTpPeErR", "4m", "1.5g", "x", "0m"])
            case "separator":
                return draw.choice([",", ":", "  ", "", "ab"])
            case "metadataprofile" | "profile" | "commandprofile":
                return draw.choice([*["thin-generic", "thin-performance"] * 4, "nosuch", "cache-mq", "a/b"])
            case "systemid":
                return draw.choice(["", "other", "host1", "bad id", "localhost"])
            case "uuidstr":
                return draw.choice(
                    [*(self.there.uuids or ["x"]), "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa", "x"]
                )
            case "uuid" if command == "pvcreate":
                return draw.choice(
                    [*(self.there.uuids or ["x"]), "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa", "x"]
                )
            case "devices":
                chosen = [*self.there.used, *self.there.orphans, *self.there.empty]
                return (
                    ",".join(draw.sample(chosen, draw.randint(1, len(chosen)))) if chosen else "/dev/nosuch"
                )
            case "devicesfile":
                return draw.choice(["", "", "", "nosuch.devices"])
            case "name":
                return self.new_volume() if command != "pvmove" else self.volume().rpartition("/")[2]
            case "thinpool" | "poolmetadata" | "cachepool" | "cachevol" | "vdopool" | "originname":
                return self.often(self.there.volumes, ("vg/newpool", "newpool", "nosuch"), 0.7)
            case "addtag" | "deltag":
                return self.tag()
            case "type":
                return draw.choice(
                    [
                        "linear",
                        "striped",
                        "thin",
                        "thin-pool",
                        "raid1",
                        "mirror",
                        "snapshot",
                        "error",
                        "zero",
                        "x",
                    ]
                )
            case "file" | "restorefile":
                return draw.choice(["backup/vg", "/nosuch/file"])
        return None
