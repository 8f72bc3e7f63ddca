"""The C library, loaded from beside this file, and what its header declares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cffi

_HERE = Path(__file__).parent
_NAME = {"win32": "dsv4.dll", "darwin": "libdsv4.dylib"}.get(sys.platform, "libdsv4.so")
_ABI_VERSION = 1  # DSV4_ABI_VERSION

ffi: Any = cffi.FFI()
ffi.cdef((_HERE / "dsv4.cdef").read_text(encoding="utf-8"))
# cffi releases the interpreter's lock for the length of every call.
lib: Any = ffi.dlopen(str(_HERE / _NAME))

if lib.dsv4_abi_version() != _ABI_VERSION:
    raise ImportError(f"{_NAME} has ABI version {lib.dsv4_abi_version()}, this package needs {_ABI_VERSION}")


def text(chars: Any) -> str:
    """A C string."""
    return bytes(ffi.string(chars)).decode("utf-8", "replace")


def version() -> str:
    """The library's version."""
    return text(lib.dsv4_version())


def new(struct: str) -> Any:
    """A struct that knows its size; all else is zero, the default."""
    made = ffi.new(f"{struct} *")
    made.size = ffi.sizeof(struct)
    return made
