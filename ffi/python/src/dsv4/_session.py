"""Sessions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Literal, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._errors import ContextFull, Handle, make
from ._library import ffi, lib, new
from ._model import Model
from ._sampler import Sampler
from ._tokenizer import Tokens, as_tokens

Progress = Callable[[float], Optional[bool]]


@dataclass
class Generation:
    """What `Session.generate` has made so far."""

    tokens: list[int] = field(default_factory=list)
    """The tokens, without the one that ended them."""
    finish: Optional[Literal["stop", "length"]] = None
    """Why it ended, once it has: the model ended it, or there was no more room."""


class Session(Handle):
    """One timeline over a model: tokens in, logits out. One thread at a time may use it; others get `Busy`.

    `context` is the tokens it has room for (0: 4096, or the model's if less), `batch` how many are evaluated together,
    `rewind` how far it can go back. `exact` multiplies without rounding activations to 8 bits.
    """

    _free = staticmethod(lib.dsv4_session_free)
    _last_error = staticmethod(lib.dsv4_session_last_error)

    def __init__(
        self, model: Model, context: int = 0, *, batch: int = 0, rewind: int = 0, exact: bool = False
    ) -> None:
        self._pointer = None
        self.model = model
        """The model, which lives as long as its sessions."""
        self._vocab = model.info.vocab
        params = new("dsv4_session_params")
        params.context, params.batch, params.rewind = context, batch, rewind
        params.matmul = lib.DSV4_MATMUL_EXACT if exact else lib.DSV4_MATMUL_FAST
        create = lib.dsv4_session_new
        super().__init__(make(lambda out, error: create(model._handle, params, out, error), "dsv4_session"))

    @property
    def position(self) -> int:
        """How many tokens it holds."""
        out = ffi.new("size_t *")
        self._check(lib.dsv4_session_position(self._handle, out))
        return int(out[0])

    @property
    def tokens(self) -> list[int]:
        """The tokens it holds."""
        out, count = np.empty(self.position + 1, np.uint32), ffi.new("size_t *")
        to = ffi.from_buffer("uint32_t[]", out)
        self._check(lib.dsv4_session_tokens(self._handle, to, len(out), count))
        return [int(token) for token in out[: count[0]]]

    def eval(
        self,
        tokens: Union[Sequence[int], Tokens],
        *,
        logits: Literal["last", "all", "none"] = "last",
        out: Optional[npt.NDArray[np.float32]] = None,
        progress: Union[bool, Progress, None] = None,
    ) -> npt.NDArray[np.float32]:
        """Appends `tokens`; gives the last one's logits [V], all of them [tokens, V], or none [0].

        They are written to `out` if it is given. `progress` is True for a bar (tqdm), or a function that is told the part
        done and may give False to cancel.
        """
        array, given = as_tokens(tokens)
        shape = {"last": (self._vocab,), "all": (len(array), self._vocab), "none": (0,)}[logits]
        if out is None:
            out = np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous float32 array of shape {shape}")
        to = ffi.from_buffer("float[]", out, require_writable=True)
        with self._watched(progress, len(array)):
            self._check(lib.dsv4_session_eval(self._handle, given, len(array), to, out.size))
        return out

    @contextmanager
    def _watched(self, progress: Union[bool, Progress, None], tokens: int) -> Iterator[None]:
        """Has `progress` told, and Ctrl-C heard, unless there is one token only: that takes no longer than a callback's
        worth of patience, and callbacks need the interpreter's lock after every layer."""
        if tokens < 2 and not progress:
            yield
            return
        bar: Any = None
        if progress is True:
            from tqdm import tqdm

            bar = tqdm(total=tokens, unit="token", leave=False)
        raised: list[BaseException] = []

        def told(_: Any, now: Any) -> int:
            if bar is not None:
                bar.update(now.tokens - bar.n)
            return int(callable(progress) and progress(now.fraction) is False)

        def failed(_: Any, error: BaseException, __: Any) -> None:
            raised.append(error)

        # An exception in it, Ctrl-C's too, cancels.
        callback = ffi.callback("int(void *, const dsv4_progress *)", told, error=1, onerror=failed)
        self._check(lib.dsv4_session_set_progress(self._handle, callback, ffi.NULL))
        try:
            yield
            if bar is not None:
                bar.update(tokens - bar.n)
        except Exception:
            if raised:
                raise raised[0] from None
            raise
        finally:
            lib.dsv4_session_set_progress(self._handle, ffi.NULL, ffi.NULL)
            if bar is not None:
                bar.close()

    def cancel(self) -> None:
        """Stops the evaluation that runs on another thread, or the next one."""
        lib.dsv4_session_cancel(self._handle)

    def rewind(self, position: int) -> None:
        """Goes back to `position` tokens: what follows is as if the rest had never been."""
        self._check(lib.dsv4_session_rewind(self._handle, position))

    def keep_prefix(self, tokens: Union[Sequence[int], Tokens]) -> int:
        """Goes back to where the session and `tokens` part; gives how many need not be evaluated again."""
        array, given = as_tokens(tokens)
        kept = ffi.new("size_t *")
        self._check(lib.dsv4_session_keep_prefix(self._handle, given, len(array), kept))
        return int(kept[0])

    def save(self) -> bytes:
        """The timeline as bytes, for `restore`: the tokens, and what following ones look back at."""
        size = ffi.new("size_t *")
        self._check(lib.dsv4_session_snapshot_size(self._handle, size))
        snapshot = bytearray(size[0])
        self._check(lib.dsv4_session_save(self._handle, ffi.from_buffer(snapshot), len(snapshot), size))
        return bytes(snapshot)

    def restore(self, snapshot: Union[bytes, bytearray, memoryview]) -> None:
        """Takes over a saved timeline of the same model in the place of this one, which stays as it is after an error:
        what follows is as it would have been there. `context` must have room for it."""
        given = ffi.from_buffer(snapshot)
        self._check(lib.dsv4_session_restore(self._handle, given, len(given)))

    def generate(
        self,
        prompt: Union[str, Sequence[int]],
        *,
        max_tokens: int = 256,
        stop: Optional[Sequence[int]] = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition: float = 1.0,
        presence: float = 0.0,
        frequency: float = 0.0,
        seed: int = 0,
        progress: Union[bool, Progress, None] = None,
        into: Optional[Generation] = None,
    ) -> Iterator[str]:
        """Continues `prompt` piece by piece of text: plain text, or tokens from the timeline's beginning on. What the
        timeline shares with it is not evaluated again. `stop` are the tokens that end it (the model's own if not given);
        `into` is told the tokens and the reason of the end; `progress` is about the prompt, as in `eval`."""
        tokenizer = self.model.tokenizer
        tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        if stop is None:
            stop = [] if tokenizer.eos is None else [tokenizer.eos]
        into = Generation() if into is None else into
        stream = tokenizer.stream()
        row = np.empty(self._vocab, np.float32)
        choice = dict(temperature=temperature, top_p=top_p, min_p=min_p)
        penalties = dict(repetition=repetition, presence=presence, frequency=frequency)
        penalized = repetition != 1.0 or presence != 0.0 or frequency != 0.0
        with Sampler(self._vocab, top_k=top_k, seed=seed, **choice, **penalties) as sampler:
            self.eval(tokens[self.keep_prefix(tokens) :], out=row, progress=progress)
            into.finish = "length"
            while len(into.tokens) < max_tokens:
                token = sampler.sample(row, recent=[*tokens, *into.tokens] if penalized else ())
                if token in stop:
                    into.finish = "stop"
                    break
                into.tokens.append(token)
                piece = stream.push(token)
                if piece:
                    yield piece
                if len(into.tokens) == max_tokens:
                    break
                try:
                    self.eval([token], out=row)
                except ContextFull:
                    break
        rest = stream.end()
        if rest:
            yield rest

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
