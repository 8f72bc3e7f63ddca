"""Documents -> token rows with loss weights, and where in them an evaluation has to look."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors

import data

HERE = Path(__file__).parent


def load_tokenizer() -> Tokenizer:
    tok = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tok.post_processor = processors.ByteLevel(trim_offsets=False)  # offsets that cover every character
    return tok


@dataclass
class Span:
    """The tokens first..last (inclusive) of a tagged piece; `told` is the last token of the fact it recalls."""

    tag: str
    first: int
    last: int
    told: int = -1

    @property
    def distance(self) -> int:
        return self.first - self.told


def encode(tok: Tokenizer, doc: data.Document) -> tuple[list[int], list[float], list[Span]]:
    text = "".join(p.text for p in doc.pieces)
    piece_of_char: list[int] = []
    for i, p in enumerate(doc.pieces):
        piece_of_char.extend([i] * len(p.text))
    e = tok.encode(text)
    owner = [piece_of_char[end - 1] for _, end in e.offsets]
    weights = [doc.pieces[i].weight for i in owner]
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for t, i in enumerate(owner):
        first.setdefault(i, t)
        last[i] = t
    spans = [Span(p.tag, first[i], last[i], last.get(p.told, -1))
             for i, p in enumerate(doc.pieces) if p.tag and i in first]
    return e.ids, weights, spans


def row(tok: Tokenizer, rng: random.Random, length: int, evaluate: bool = False, kind: str = "broad"):
    """One row of exactly length + 1 tokens (inputs and shifted targets share it)."""
    while True:
        ids, weights, spans = encode(tok, data.document(rng, length, evaluate, kind))
        if len(ids) > length:
            return ids[: length + 1], weights[: length + 1], [s for s in spans if s.last <= length]


def batch(tok: Tokenizer, rng: random.Random, count: int, length: int, evaluate: bool = False, kind: str = "broad"):
    rows = [row(tok, rng, length, evaluate, kind) for _ in range(count)]
    ids = torch.tensor([r[0] for r in rows])
    weights = torch.tensor([r[1] for r in rows])
    return ids, weights, [r[2] for r in rows]
