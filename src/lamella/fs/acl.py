# SPDX-License-Identifier: Apache-2.0
"""POSIX ACLs in their three forms: text (tar), the kernel's xattr value, and ext4's on-disk value.

The xattr form is ``linux/posix_acl_xattr.h`` (version 2, 8 bytes per entry), the disk form is
``fs/ext4/acl.h`` (version 1, entries of 4 bytes, 8 for named users and groups).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from lamella.units import whole_number

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"

_VERSION: Final = Struct("<I")
_ENTRY: Final = Struct("<HHI")
_SHORT: Final = Struct("<HH")
_NO_ID: Final = 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS: Final = {
    b"user": (_USER_OBJ, _USER),
    b"u": (_USER_OBJ, _USER),
    b"group": (_GROUP_OBJ, _GROUP),
    b"g": (_GROUP_OBJ, _GROUP),
    b"mask": (_MASK, 0),
    b"m": (_MASK, 0),
    b"other": (_OTHER, 0),
    b"o": (_OTHER, 0),
}

_NAMES: Final = {
    _USER_OBJ: b"user",
    _USER: b"user",
    _GROUP_OBJ: b"group",
    _GROUP: b"group",
    _MASK: b"mask",
    _OTHER: b"other",
}


def from_text(text: bytes) -> bytes | None:
    """The xattr value of an ACL in text form, as star, GNU tar and bsdtar write it.

    A named user or group needs its number, in place of the name or as a fourth field: the names of
    the machine that made the archive say nothing here. None if the text is no ACL, or lacks a number, or
    says no more than a mode does.
    """
    entries: list[tuple[int, int, int]] = []
    for line in text.replace(b"\n", b",").split(b","):
        line = line.split(b"#", 1)[0].strip()
        if not line:
            continue
        fields = line.split(b":")
        tags = _TAGS.get(fields[0])
        if tags is None:
            return None
        if len(fields) == 2:  # "mask:rwx", "other:r--"
            fields.insert(1, b"")
        if not 3 <= len(fields) <= 4:
            return None
        who, rights = fields[1], fields[2]
        permission = 0
        for letter in rights:
            bit = {ord("r"): 4, ord("w"): 2, ord("x"): 1, ord("-"): 0}.get(letter)
            if bit is None:
                return None
            permission |= bit
        if who:
            number = fields[3] if len(fields) == 4 else who
            identity = whole_number(number.decode("latin-1"), _NO_ID - 1)
            if not tags[1] or identity is None:
                return None
            entries.append((tags[1], permission, identity))
        else:
            entries.append((tags[0], permission, _NO_ID))
    if not entries:
        return None
    if all(who == _NO_ID for _, _, who in entries) and len(entries) == 3:
        return None
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    return _VERSION.pack(2) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def to_text(value: bytes) -> bytes | None:
    """The text form of an xattr value, with numbers for names; None if it is no ACL of version 2."""
    if len(value) < 4 or (len(value) - 4) % _ENTRY.size or _VERSION.unpack_from(value)[0] != 2:
        return None
    entries = []
    for tag, permission, who in _ENTRY.iter_unpack(value[4:]):
        if tag not in _NAMES:
            return None
        rights = b"".join(
            letter if permission & bit else b"-" for letter, bit in ((b"r", 4), (b"w", 2), (b"x", 1))
        )
        number = b"%d" % who if tag in (_USER, _GROUP) else b""
        entries.append(b"%s:%s:%s" % (_NAMES[tag], number, rights))
    return b",".join(entries)


def from_disk(value: bytes) -> bytes:
    """The xattr value of an ACL as ext4 stores it. Raises ``ValueError`` if it is none."""
    if len(value) < 4 or _VERSION.unpack_from(value)[0] != 1:
        raise ValueError("an ACL that is not of version 1")
    out = [_VERSION.pack(2)]
    at = 4
    while at < len(value):
        if at + 4 > len(value):
            raise ValueError("an ACL cut off inside an entry")
        tag, permission = _SHORT.unpack_from(value, at)
        if tag in (_USER, _GROUP):
            if at + 8 > len(value):
                raise ValueError("an ACL cut off inside an entry")
            out.append(value[at : at + 8])
            at += 8
        elif tag in (_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER):
            out.append(_ENTRY.pack(tag, permission, _NO_ID))
            at += 4
        else:
            raise ValueError(f"an ACL with the unknown tag {tag:#x}")
    return b"".join(out)
