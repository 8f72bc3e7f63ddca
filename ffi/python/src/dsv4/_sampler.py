"""Samplers."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ._errors import Handle, make
from ._library import ffi, lib, new
from ._tokenizer import as_tokens


class Sampler(Handle):
    """Chooses tokens. The defaults take the likeliest each time; the same `seed` gives the same tokens everywhere."""

    _free = staticmethod(lib.dsv4_sampler_free)
    _last_error = staticmethod(lib.dsv4_sampler_last_error)

    def __init__(
        self,
        vocab: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition: float = 1.0,
        presence: float = 0.0,
        frequency: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._pointer = None
        params = new("dsv4_sampler_params")
        params.vocab, params.seed, params.temperature = vocab, seed, temperature
        params.top_k, params.top_p, params.min_p = top_k, top_p, min_p
        params.repetition, params.presence, params.frequency = repetition, presence, frequency
        super().__init__(make(lambda out, error: lib.dsv4_sampler_new(params, out, error), "dsv4_sampler"))

    def sample(
        self, logits: npt.NDArray[np.float32], *, recent: Sequence[int] = (), bias: Mapping[int, float] = {}
    ) -> int:
        """Chooses by one row of logits, which it spoils. `recent` are penalized, `bias` is added."""
        row = ffi.from_buffer("float[]", logits, require_writable=True)
        array, given = as_tokens(recent)
        added, token = ffi.new("dsv4_logit_bias[]", list(bias.items())), ffi.new("uint32_t *")
        status = lib.dsv4_sampler_sample(
            self._handle, row, logits.size, given, len(array), added, len(bias), token
        )
        self._check(status)
        return int(token[0])

    def top(self, logits: npt.NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The likeliest tokens and the logarithms of their probabilities, before penalties and cuts."""
        out, found = ffi.new("dsv4_log_prob[]", max(count, 1)), ffi.new("size_t *")
        row = ffi.from_buffer("float[]", logits)
        self._check(lib.dsv4_sampler_top(self._handle, row, logits.size, out, count, found))
        return [(int(one.token), float(one.log_prob)) for one in out[0 : found[0]]]

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
