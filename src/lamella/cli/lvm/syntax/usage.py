# SPDX-License-Identifier: Apache-2.0
"""The usage of a command, laid out as LVM2 lays it out."""

from __future__ import annotations

from lamella.cli.lvm.syntax.grammar import COMMON, Command, Option, Variant, Wanted

VARIABLES = """\
  Variables
        PV      a disk, a loop device, a partition or a plain file. Where extents are meant, ranges
                may follow: PV[:first-last]... or PV[:first+count]...
        VG      the name of a volume group.
        LV      the name of a logical volume, as VG/LV or /dev/VG/LV. _new: it must not exist yet.
        Tag     @NAME, for everything that has this tag.
        Select  may be left out where --select is given.
        Size    a number with a unit of bBsSkKmMgGtTpPeE, always in powers of 1024; without one the
                unit is the letter before |UNIT.
        Number[PERCENT]
                extents, or a percentage: %VG, %FREE, %PVS, %LV or %ORIGIN.
"""

EXAMPLES = {
    "pvcreate": "pvcreate --devices disk.img disk.img",
    "vgcreate": "vgcreate -s 4m docker /dev/sdb",
    "lvcreate": "lvcreate -n data -l 95%VG docker",
    "lvextend": "lvextend -l +20%LV docker/data",
    "lvconvert": "lvconvert -y --zero n -c 512K --thinpool docker/pool --poolmetadata docker/poolmeta",
    "lvs": "lvs -a -o +devices,seg_pe_ranges docker",
    "vgs": "vgs -o +vg_free_count --units g",
    "pvs": "pvs --reportformat json",
}
"""An example for the end of a command's help; other commands get one from their first variant."""


def _option(option: Option, kind: str = "") -> str:
    value = f" {kind or option.kind}" if option.kind else ""
    letter = f"-{option.short}|" if option.short else "   "
    return f"{letter}--{option.name}{value}"


def _wanted(command: Command, wanted: Wanted) -> str:
    option = command.table[wanted.name]
    value = wanted.literal or wanted.kind or option.kind
    return f"{option.spelled} {value}" if value else option.spelled


def _positional(word: str) -> str:
    return word.replace("...", " ...")


def syntax_line(command: Command, variant: Variant) -> str:
    """The variant's first line: the command, what it requires and its positional arguments."""
    words = [command.name, *(_wanted(command, wanted) for wanted in variant.required)]
    words += [_positional(word) for word in variant.positionals]
    return " ".join(words)


def short_usage(command: Command, variant: Variant) -> list[str]:
    """What is shown beside an error: the variant's first line, and what it is for."""
    if variant.any_of:
        lines = _group(command, variant)
    else:
        lines = ["  " + syntax_line(command, variant)]
    return [*lines, *_description(variant), ""]


def _description(variant: Variant) -> list[str]:
    text = variant.description
    return [f"  {line}" for line in text.replace("\n", " \n").split("\n")] if text else []


def _group(command: Command, variant: Variant) -> list[str]:
    """The first lines of a variant that needs one of several options."""
    lines = ["  " + " ".join([command.name, *(_wanted(command, wanted) for wanted in variant.required)])]
    group = [_option(command.table[one.name], one.literal or one.kind) for one in variant.any_of]
    lines.append("\t( " + ",\n\t  ".join(group) + " )")
    return lines + ([f"\t {_positional(word)}" for word in variant.positionals] or [""])


def _variant(command: Command, variant: Variant) -> list[str]:
    lines = _description(variant)
    if variant.any_of:
        lines += _group(command, variant)
    else:
        lines.append(f"  {syntax_line(command, variant)}")
    for item in variant.optional:
        name, _, literal = item.partition("=")
        if literal:
            lines.append(f"\t[ --{name} {literal} ] (implied)")
        else:
            lines.append(f"\t[ {_option(command.table[name])} ]")
    lines.append("\t[ COMMON_OPTIONS ]")
    lines += [f"\t[ {_positional(word)} ]" for word in variant.more]
    return [*lines, ""]


def full_usage(command: Command, *, long: bool = False) -> str:
    """The whole help of a command; *long* explains the words in capitals as well."""
    lines = [f"  {command.name} - {command.summary}", ""]
    for variant in command.variants:
        if variant.hidden:
            continue
        lines += _variant(command, variant)
    if command.common:
        lines.append("  Common options for command:")
        lines += [f"\t[ {_option(command.table[name])} ]" for name in command.common.split()]
        lines.append("")
    lines.append("  Common options for lvm:")
    names = [word.partition("=")[0].rpartition("--")[2] for word in COMMON.split()]
    lines += [f"\t[ {_option(command.table[name])} ]" for name in names]
    lines.append("")
    if long:
        lines += [VARIABLES]
    example = EXAMPLES.get(command.name) or syntax_line(command, command.variants[0])
    lines.append(f"  Example: {example}")
    return "\n".join(lines) + "\n"


def command_list() -> str:
    """What ``lvm help`` prints."""
    from lamella.cli.lvm.syntax.commands import COMMANDS
    from lamella.cli.lvm.syntax.grammar import find_command

    lines = ["Available lvm commands:", "Use 'lvm help <command>' for more information", " "]
    for name in sorted(COMMANDS):
        command = find_command(name)
        if command is not None:
            lines.append(f"{name:<16}{command.summary}")
    return "".join(f"  {line}\n" for line in lines)
