"""Held-out figures of the small model (see report.json)."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

from batches import batch
from fast import Fast

BUCKETS = [0, 64, 128, 300, 600, 1000, 1500, 2000]


@torch.no_grad()
def quick(model, tok, lengths=(256, 1024, 2048), rows_each: int = 8) -> dict:
    """Teacher-forced shares of spans whose tokens are all argmax, while training runs."""
    fast, rng = Fast(model, compiled=False), random.Random(987)
    recall: dict[str, list[int]] = {}
    other: dict[str, list[int]] = {}
    loss, count = 0.0, 0
    for length in lengths:
        for _ in range(max(1, rows_each * length // 4096)):
            ids, weights, spans = batch(tok, rng, 4096 // length, length, evaluate=True)
            logits = fast(ids[:, :-1])
            targets = ids[:, 1:].flatten()
            keep = (weights[:, 1:] >= 0.5).flatten()
            loss += F.cross_entropy(logits[keep], targets[keep], reduction="sum").item()
            count += int(keep.sum())
            right = (logits.argmax(-1) == targets).view(ids.shape[0], -1)
            for r, row in enumerate(spans):
                for s in row:
                    ok = int(right[r, s.first - 1 : s.last].all())
                    if s.tag == "recall":
                        b = max(b for b in BUCKETS if b <= s.distance)
                        recall.setdefault(str(b), []).append(ok)
                    else:
                        other.setdefault(s.tag, []).append(ok)
    share = lambda d: {k: f"{sum(v) / len(v):.2f}/{len(v)}" for k, v in sorted(d.items(), key=lambda x: x[0].zfill(5))}
    return dict(loss=round(loss / count, 4), recall=share(recall), other=share(other))
