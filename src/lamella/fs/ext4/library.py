# SPDX-License-Identifier: Apache-2.0
"""The system's libext2fs and libcom_err, bound by ctypes.

The library is LGPL and is called, never copied. Structures and prototypes are those of the headers
``ext2fs/ext2fs.h``, ``ext2fs/ext2_io.h`` and ``ext2fs/ext2_fs.h``; they have not changed between
e2fsprogs 1.46 and 1.47 in anything that is used here.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, Final

from lamella.errors import (
    CorruptError,
    LamellaError,
    MissingError,
    NoSpaceError,
    ReadOnlyError,
    UnsupportedError,
)
from lamella.fs.ext4.superblock import SuperBlock

FLAG_RW: Final = 0x01
FLAG_CHANGED: Final = 0x02
FLAG_DIRTY: Final = 0x04
FLAG_MASTER_SB_ONLY: Final = 0x200
FLAG_64BITS: Final = 0x20000

BG_INODE_UNINIT: Final = 1
BG_BLOCK_UNINIT: Final = 2
BG_INODE_ZEROED: Final = 4

FLUSH_NO_SYNC: Final = 1
MKJOURNAL_LAZYINIT: Final = 2
MKJOURNAL_NO_MNT_CHECK: Final = 4

ET_BASE: Final = 2133571328
"""First code of the "ext2" error table (``ext2_err.h``)."""
ET_MAGIC_IO_CHANNEL: Final = ET_BASE + 5
ET_MAGIC_IO_MANAGER: Final = ET_BASE + 7
ET_RO_FILSYS: Final = ET_BASE + 21
ET_SHORT_READ: Final = ET_BASE + 36
ET_UNSUPP_FEATURE: Final = ET_BASE + 67
ET_RO_UNSUPP_FEATURE: Final = ET_BASE + 68
ET_BLOCK_ALLOC_FAIL: Final = ET_BASE + 72
ET_INODE_ALLOC_FAIL: Final = ET_BASE + 73
ET_EA_BAD_VALUE_SIZE: Final = ET_BASE + 159
ET_EA_NO_SPACE: Final = ET_BASE + 163

_NO_SPACE = {ET_BLOCK_ALLOC_FAIL, ET_INODE_ALLOC_FAIL, ET_EA_NO_SPACE, 28}
_UNSUPPORTED = {ET_UNSUPP_FEATURE, ET_RO_UNSUPP_FEATURE}


class IoChannel(ctypes.Structure):
    """``struct struct_io_channel``."""

    _fields_ = (
        ("magic", c_long),
        ("manager", c_void_p),
        ("name", c_char_p),
        ("block_size", c_int),
        ("read_error", c_void_p),
        ("write_error", c_void_p),
        ("refcount", c_int),
        ("flags", c_int),
        ("reserved", c_long * 14),
        ("private_data", c_void_p),
        ("app_data", c_void_p),
        ("align", c_int),
    )


OPEN = ctypes.CFUNCTYPE(c_long, c_char_p, c_int, POINTER(c_void_p))
CLOSE = ctypes.CFUNCTYPE(c_long, c_void_p)
SET_BLKSIZE = ctypes.CFUNCTYPE(c_long, c_void_p, c_int)
TRANSFER = ctypes.CFUNCTYPE(c_long, c_void_p, ctypes.c_ulong, c_int, c_void_p)
TRANSFER64 = ctypes.CFUNCTYPE(c_long, c_void_p, c_uint64, c_int, c_void_p)
FLUSH = ctypes.CFUNCTYPE(c_long, c_void_p)
SET_OPTION = ctypes.CFUNCTYPE(c_long, c_void_p, c_char_p, c_char_p)
RANGE = ctypes.CFUNCTYPE(c_long, c_void_p, c_uint64, c_uint64)


class IoManager(ctypes.Structure):
    """``struct struct_io_manager``."""

    _fields_ = (
        ("magic", c_long),
        ("name", c_char_p),
        ("open", OPEN),
        ("close", CLOSE),
        ("set_blksize", SET_BLKSIZE),
        ("read_blk", TRANSFER),
        ("write_blk", TRANSFER),
        ("flush", FLUSH),
        ("write_byte", TRANSFER),
        ("set_option", SET_OPTION),
        ("get_stats", c_void_p),
        ("read_blk64", TRANSFER64),
        ("write_blk64", TRANSFER64),
        ("discard", RANGE),
        ("cache_readahead", RANGE),
        ("zeroout", RANGE),
        ("reserved", c_long * 14),
    )


class FileSystem(ctypes.Structure):
    """The leading fields of ``struct struct_ext2_filsys``, as far as they are used."""

    _fields_ = (
        ("magic", c_long),
        ("io", c_void_p),
        ("flags", c_int),
        ("device_name", c_char_p),
        ("super", POINTER(SuperBlock)),
        ("blocksize", c_uint),
        ("fragsize", c_int),
        ("group_desc_count", c_uint32),
        ("desc_blocks", ctypes.c_ulong),
        ("group_desc", c_void_p),
        ("inode_blocks_per_group", c_uint),
        ("inode_map", c_void_p),
        ("block_map", c_void_p),
        ("get_blocks", c_void_p),
        ("check_directory", c_void_p),
        ("write_bitmaps", c_void_p),
        ("read_inode", c_void_p),
        ("write_inode", c_void_p),
        ("badblocks", c_void_p),
        ("dblist", c_void_p),
        ("stride", c_uint32),
        ("orig_super", c_void_p),
        ("image_header", c_void_p),
        ("umask", c_uint32),
        ("now", ctypes.c_longlong if sys.maxsize > 2**32 else c_long),
        ("cluster_ratio_bits", c_int),
        ("default_bitmap_type", ctypes.c_uint16),
    )


COM_ERR_HOOK = ctypes.CFUNCTYPE(None, c_char_p, c_long, c_char_p, c_void_p)

_FS = POINTER(FileSystem)
_U64P = POINTER(c_uint64)
_U32P = POINTER(c_uint32)

_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "open2": (c_long, (c_char_p, c_char_p, c_int, c_int, c_uint, c_void_p, POINTER(_FS))),
    "initialize": (c_long, (c_char_p, c_int, POINTER(SuperBlock), c_void_p, POINTER(_FS))),
    "close2": (c_long, (_FS, c_int)),
    "free": (None, (_FS,)),
    "flush2": (c_long, (_FS, c_int)),
    "read_bitmaps": (c_long, (_FS,)),
    "allocate_tables": (c_long, (_FS,)),
    "create_resize_inode": (c_long, (_FS,)),
    "mkdir": (c_long, (_FS, c_uint32, c_uint32, c_char_p)),
    "expand_dir": (c_long, (_FS, c_uint32)),
    "lookup": (c_long, (_FS, c_uint32, c_char_p, c_int, c_void_p, _U32P)),
    "add_journal_inode2": (c_long, (_FS, c_uint32, c_uint64, c_int)),
    "default_journal_size": (c_int, (c_uint64,)),
    "update_bb_inode": (c_long, (_FS, c_void_p)),
    "init_csum_seed": (None, (_FS,)),
    "set_gdt_csum": (c_long, (_FS,)),
    "group_desc_csum_set": (None, (_FS, c_uint32)),
    "group_desc_csum_verify": (c_int, (_FS, c_uint32)),
    "read_inode_full": (c_long, (_FS, c_uint32, c_void_p, c_int)),
    "write_inode_full": (c_long, (_FS, c_uint32, c_void_p, c_int)),
    "flush_icache": (c_long, (_FS,)),
    "new_inode": (c_long, (_FS, c_uint32, c_int, c_void_p, _U32P)),
    "inode_alloc_stats2": (None, (_FS, c_uint32, c_int, c_int)),
    "block_alloc_stats_range": (None, (_FS, c_uint64, c_uint32, c_int)),
    "test_block_bitmap_range2": (c_int, (c_void_p, c_uint64, c_uint32)),
    "get_block_bitmap_range2": (c_long, (c_void_p, c_uint64, c_size_t, c_void_p)),
    "get_inode_bitmap_range2": (c_long, (c_void_p, c_uint64, c_size_t, c_void_p)),
    "free_ext_attr": (c_long, (_FS, c_uint32, c_void_p)),
    "bmap2": (c_long, (_FS, c_uint32, c_void_p, c_void_p, c_int, c_uint64, POINTER(c_int), _U64P)),
    "punch": (c_long, (_FS, c_uint32, c_void_p, c_void_p, c_uint64, c_uint64)),
    "xattrs_open": (c_long, (_FS, c_uint32, POINTER(c_void_p))),
    "xattrs_read": (c_long, (c_void_p,)),
    "xattrs_write": (c_long, (c_void_p,)),
    "xattr_set": (c_long, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "xattr_get": (c_long, (c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t))),
    "xattrs_close": (c_long, (POINTER(c_void_p),)),
    "dirhash": (c_long, (c_int, c_char_p, c_int, _U32P, _U32P, _U32P)),
    "inode_table_loc": (c_uint64, (_FS, c_uint32)),
    "inode_bitmap_loc": (c_uint64, (_FS, c_uint32)),
    "block_bitmap_loc": (c_uint64, (_FS, c_uint32)),
    "bg_flags": (ctypes.c_uint16, (_FS, c_uint32)),
    "bg_flags_set": (None, (_FS, c_uint32, ctypes.c_uint16)),
    "bg_flags_clear": (None, (_FS, c_uint32, ctypes.c_uint16)),
    "bg_itable_unused": (c_uint32, (_FS, c_uint32)),
    "bg_itable_unused_set": (None, (_FS, c_uint32, c_uint32)),
    "bg_free_inodes_count": (c_uint32, (_FS, c_uint32)),
    "bg_free_blocks_count": (c_uint32, (_FS, c_uint32)),
    "bg_has_super": (c_int, (_FS, c_uint32)),
    "get_library_version": (c_int, (POINTER(c_char_p), POINTER(c_char_p))),
}


class Library:
    """The loaded library; its functions are attributes without ``ext2fs_``, such as ``library.open2``."""

    def __init__(self, functions: ctypes.CDLL, errors: ctypes.CDLL) -> None:
        self._functions = functions
        for name, (result, arguments) in _PROTOTYPES.items():
            try:
                function = getattr(functions, f"ext2fs_{name}")
            except AttributeError:
                raise MissingError(
                    f"the system's libext2fs lacks ext2fs_{name}: it is older than e2fsprogs 1.46",
                    hint="install e2fsprogs 1.46 or newer",
                ) from None
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)
        functions.initialize_ext2_error_table.restype = None
        functions.initialize_ext2_error_table()
        self._text = errors.error_message
        self._text.restype = c_char_p
        self._text.argtypes = (c_long,)
        # The library reports some inner trouble (such as a block number outside a bitmap) on stderr as
        # well as by its return code. A library has no business there, so what it prints goes nowhere.
        self._quiet = COM_ERR_HOOK(lambda who, code, text, arguments: None)
        errors.set_com_err_hook.argtypes = (COM_ERR_HOOK,)
        errors.set_com_err_hook.restype = c_void_p
        errors.set_com_err_hook(self._quiet)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"libext2fs function {name} is not bound")

    def version(self) -> str:
        """Version of the library, such as ``1.47.0``."""
        text = c_char_p()
        self.get_library_version(byref(text), None)
        return (text.value or b"").decode()

    def message(self, code: int) -> str:
        """The library's own words for an error *code*."""
        text: bytes = self._text(code) or b""
        return text.decode("utf-8", "replace") or f"error {code}"

    def error(self, code: int, doing: str, name: str) -> LamellaError:
        """The error that stands for *code*, met while *doing* something to the file system in *name*."""
        message = f"cannot {doing} the ext4 file system in {name}: {self.message(code)}"
        if code in _NO_SPACE:
            what = "inodes" if code == ET_INODE_ALLOC_FAIL else "space"
            return NoSpaceError(message, hint=f"the file system is out of {what}: make a larger one")
        if code in _UNSUPPORTED:
            return UnsupportedError(message, hint="install a newer libext2fs (e2fsprogs)")
        if code == ET_RO_FILSYS:
            return ReadOnlyError(message, hint="open it for writing")
        return CorruptError(message, hint="run `e2fsck -fn` on it to see what is wrong")


@cache
def load() -> Library:
    """The system's libext2fs, loaded once. Raises :class:`MissingError` with the package to install."""
    if sys.byteorder != "little":
        raise UnsupportedError(
            "ext4 is only written on little-endian machines", hint="use an x86-64, arm64 or riscv64 host"
        )
    return Library(_load_one("libext2fs.so.2"), _load_one("libcom_err.so.2"))


def _load_one(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise MissingError(
            f"the system library {name}, which reads and writes ext4, cannot be loaded: {error}",
            hint="install it: `apt install libext2fs2` (`libext2fs2t64` on Debian 13 and Ubuntu 24.04), "
            "`dnf install e2fsprogs-libs` or `apk add e2fsprogs-libs`",
        ) from error
