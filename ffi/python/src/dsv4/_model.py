"""Models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from ._errors import Handle, make
from ._library import ffi, lib, new, text
from ._tokenizer import Tokenizer

if TYPE_CHECKING:
    from ._session import Session

_LEVELS = {1: "error", 2: "warning", 3: "info"}


@dataclass(frozen=True)
class ModelInfo:
    """What a model is."""

    vocab: int
    context: int
    layers: int
    hidden: int
    experts: int
    experts_used: int
    weight_bytes: int
    memory_bytes: int


class Model(Handle):
    """A loaded model. It never changes: any number of sessions, on any threads, may share it.

    `source` is the path of a `.gguf` file (or the first of its splits), which is mapped and must not change meanwhile,
    or the bytes of one. `threads` is how many threads a session works with, 0 as many as there are physical cores.
    `log` takes a level (``"error"``, ``"warning"``, ``"info"``) and a line.
    """

    _free = staticmethod(lib.dsv4_model_free)
    _last_error = staticmethod(lib.dsv4_model_last_error)

    def __init__(
        self,
        source: Union[str, "os.PathLike[str]", bytes, memoryview],
        *,
        threads: int = 0,
        log: Optional[Callable[[str, str], None]] = None,
    ) -> None:
        self._pointer = None
        params = new("dsv4_model_params")
        params.threads = threads
        if isinstance(source, (bytes, memoryview)):
            self._bytes = ffi.from_buffer(source)
            shard = ffi.new("dsv4_bytes *", (self._bytes, len(source)))
            params.shards, params.n_shards = shard, 1
        else:
            path = ffi.new("char[]", os.fsencode(source))
            params.path = path
        if log is not None:
            # Kept as long as the model: the library calls it whenever it has something to say.
            self._log = ffi.callback(
                "void(void *, int, const char *)", lambda _, level, line: log(_LEVELS.get(level, "info"), text(line))
            )
            params.log = self._log
        super().__init__(make(lambda out, error: lib.dsv4_model_open(params, out, error), "dsv4_model"))
        self._tokenizer: Optional[Tokenizer] = None

    @property
    def info(self) -> ModelInfo:
        """Its sizes."""
        info = new("dsv4_model_info")
        self._check(lib.dsv4_model_get_info(self._handle, info))
        return ModelInfo(**{name: int(getattr(info, name)) for name in ModelInfo.__dataclass_fields__})

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, made when it is first asked for."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self)
        return self._tokenizer

    def session(self, context: int = 0, *, batch: int = 0, rewind: int = 0, exact: bool = False) -> Session:
        """An empty session: see `Session`."""
        from ._session import Session

        return Session(self, context, batch=batch, rewind=rewind, exact=exact)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
