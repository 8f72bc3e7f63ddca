"""Tokenizers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._errors import Error, Handle, make
from ._library import ffi, lib, new

if TYPE_CHECKING:
    from ._model import Model

Tokens = npt.NDArray[np.uint32]


def as_tokens(tokens: Union[Sequence[int], Tokens]) -> tuple[Tokens, Any]:
    """Tokens as an array, and as C sees it."""
    array = np.ascontiguousarray(tokens, dtype=np.uint32)
    return array, ffi.from_buffer("uint32_t[]", array)


class Tokenizer(Handle):
    """Text to tokens and back. It never changes: any number of threads may use it.

    `source` is a model, or the path of a `.gguf` file or a `tokenizer.json`.
    """

    _free = staticmethod(lib.dsv4_tokenizer_free)
    _last_error = staticmethod(lib.dsv4_tokenizer_last_error)

    def __init__(self, source: Union[Model, str, "os.PathLike[str]"]) -> None:
        self._pointer = None
        params = new("dsv4_tokenizer_params")
        if isinstance(source, Handle):
            params.model = source._handle
        else:
            path = ffi.new("char[]", os.fsencode(source))
            params.path = path
        super().__init__(make(lambda out, error: lib.dsv4_tokenizer_new(params, out, error), "dsv4_tokenizer"))
        info = new("dsv4_tokenizer_info")
        self._check(lib.dsv4_tokenizer_get_info(self._handle, info))
        none = 0xFFFF_FFFF  # DSV4_NO_TOKEN
        self.vocab: int = info.vocab
        """One more than the highest token."""
        self.bos: Optional[int] = None if info.bos == none else info.bos
        """The token that begins a text."""
        self.eos: Optional[int] = None if info.eos == none else info.eos
        """The token that ends a text."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The tokens of `text`. With `special`, added tokens in it are recognized: not for text of strangers."""
        raw = text.encode("utf-8")
        out, count = np.empty(len(raw) + 1, np.uint32), ffi.new("size_t *")
        to = ffi.from_buffer("uint32_t[]", out)
        self._check(lib.dsv4_tokenizer_encode(self._handle, raw, len(raw), special, to, len(raw), count))
        return [int(token) for token in out[: count[0]]]

    def chat(self, message: str, *, think: bool = False) -> list[int]:
        """The tokens of one message to the model, up to where it answers. The message is plain text, whatever it says."""
        start = self.encode("<｜begin▁of▁sentence｜><｜User｜>", special=True)
        end = self.encode("<｜Assistant｜>" + ("<think>" if think else "</think>"), special=True)
        return [*start, *self.encode(message), *end]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; what is not UTF-8 becomes U+FFFD."""
        array, given = as_tokens(tokens)
        count = ffi.new("size_t *")
        self._check(lib.dsv4_tokenizer_decode(self._handle, given, len(array), ffi.NULL, 0, count))
        text = bytearray(count[0] + 1)
        to = ffi.from_buffer("char[]", text)
        self._check(lib.dsv4_tokenizer_decode(self._handle, given, len(array), to, count[0], count))
        return text[: count[0]].decode("utf-8", "replace")

    def find(self, text: str) -> Optional[int]:
        """The token whose text is exactly `text`, ``"<think>"`` say."""
        raw, token = text.encode("utf-8"), ffi.new("uint32_t *")
        try:
            self._check(lib.dsv4_tokenizer_find(self._handle, raw, len(raw), token))
        except Error as error:
            if error.status == lib.DSV4_BAD_TOKEN:
                return None
            raise
        return int(token[0])

    def stream(self) -> Stream:
        """Text from tokens as they come."""
        return Stream(self)

    def __enter__(self) -> Tokenizer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Stream:
    """Text from tokens as they come: characters whose bytes lie in several tokens come when they are whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream, self._text, self._len = ffi.new("dsv4_stream *"), ffi.new("char[4096]"), ffi.new("size_t *")

    def push(self, token: int) -> str:
        """The text that `token` completes."""
        tokenizer = self._tokenizer
        status = lib.dsv4_tokenizer_stream(tokenizer._handle, self._stream, token, self._text, 4096, self._len)
        tokenizer._check(status)
        return self._taken()

    def end(self) -> str:
        """What is left: U+FFFD if a character stayed half."""
        lib.dsv4_stream_end(self._stream, self._text, 4096, self._len)
        return self._taken()

    def _taken(self) -> str:
        return bytes(ffi.buffer(self._text, self._len[0])).decode("utf-8")
