"""Statuses as exceptions."""

from __future__ import annotations

from typing import Any, Callable

from ._library import ffi, lib, new, text


class Error(Exception):
    """What the library refused, and why."""

    status: int
    """The permanent number."""
    status_name: str
    """Its name, e.g. ``"DSV4_MISSING_TENSOR"``."""
    name: str
    """The tensor or key in question, or nothing."""
    need: int
    """The bytes needed, where memory was too small."""
    at: int
    """The offset in the file, where there is one."""

    def __init__(self, status: int, details: Any) -> None:
        self.status, self.status_name = status, text(lib.dsv4_status_name(status))
        same = details.status == status
        self.name = text(details.name) if same else ""
        self.need, self.at = (details.need, details.at) if same else (0, 0)
        super().__init__((text(details.message) if same else "") or self.status_name)


class Cancelled(Error):
    """A callback stopped it; the session keeps what was evaluated before."""


class ContextFull(Error):
    """More tokens than the session has room for."""


class Busy(Error):
    """Another thread uses the same object at this moment."""


_KINDS: dict[int, type[Error]] = {
    lib.DSV4_CANCELLED: Cancelled,
    lib.DSV4_CONTEXT_FULL: ContextFull,
    lib.DSV4_BUSY: Busy,
}


def check(status: int, details: Any) -> None:
    """Raises what `status` means, unless that is success."""
    if status != lib.DSV4_OK:
        raise _KINDS.get(status, Error)(status, details)


class Handle:
    """An object of the library that is freed by `close`, at the end of a `with`, or with its last reference."""

    _free: Callable[[Any], int]
    _last_error: Callable[[Any, Any], int]

    def __init__(self, handle: Any) -> None:
        self._pointer = handle

    @property
    def _handle(self) -> Any:
        if self._pointer is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._pointer

    def _check(self, status: int) -> None:
        if status == lib.DSV4_OK:
            return
        details = new("dsv4_error")
        if status != lib.DSV4_BUSY:
            self._last_error(self._handle, details)
        check(status, details)

    def close(self) -> None:
        """Frees it. Again does nothing; `Busy` if others still depend on it."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            status = self._free(pointer)
            if status != lib.DSV4_OK:
                self._pointer = pointer
                check(status, new("dsv4_error"))

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) is not None:
            self._free(self._pointer)


def make(create: Callable[[Any, Any], int], kind: str) -> Any:
    """The handle that `create(out, error)` makes."""
    out, details = ffi.new(f"{kind} **"), new("dsv4_error")
    check(create(out, details), details)
    return out[0]
