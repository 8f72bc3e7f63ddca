"""Trains the small model within a time budget:  python train.py --minutes 90 --out DIR

The curriculum lengthens the documents from 128 to 2,048 tokens, a step whenever the answers at the present length
are mostly right (or the clock says so). While it learns, the compressed layers often get a shorter sliding window
than the model's: what lies further back they can only find through the compressed entries, so that path is learnt on
short, cheap documents already. Checkpoints (raw and averaged weights) go to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Two workers of one thread each take turns at small batches: unlike one pass on two threads, that needs no
# meeting point at every operation, which costs most when the machine has other work too.
WORKERS = 2
os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.nn.functional as F
from torch import Tensor

import data
from batches import batch, load_tokenizer
from evaluate import quick
from fast import PIECE, Fast, check, rms
from model import build

TOKENS = 4096  # per step
LENGTHS = [128, 256, 512, 1024, 2048]


@dataclass(frozen=True)
class Phase:
    rate: float  # the learning rates' factor
    hold: float  # share of the budget after which they fall
    level: int  # index of the first length
    good: float  # recall at which the next length is taken, after at least `patience` steps ...
    patience: int
    latest: tuple[float, ...]  # ... or once this share of the budget is spent
    windows: tuple[int | None, ...]  # the compressed layers' windows, one drawn per step
    names: float = 0.0  # weight of the `names` loss


# First everything at once; then, from the first phase's last raw weights, nearly only recall, densely (data.drill).
PHASES = {
    "broad": Phase(1.0, 0.5, 0, 0.85, 250, (0.2, 0.35, 0.5, 0.65), (8, 16, 32, None, None)),
    "dense": Phase(0.6, 0.4, 1, 0.85, 120, (0.0, 0.2, 0.4, 0.6), (16, None, None, None, None)),
    "bind": Phase(1.0, 0.4, 0, 0.9, 100, (0.4, 0.55, 0.7, 0.85), (8, 16, None, None), names=1.0),
    "recall": Phase(0.5, 0.1, 1, 0.9, 100, (0.0, 0.2, 0.45, 0.7), (16, None, None, None, None)),
}


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized: for matrices (and stacks of them), much faster than AdamW here."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple, list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buf = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buf, group["momentum"])
                by_shape.setdefault(tuple(p.shape[-2:]), []).append((p, update))
            for (rows, cols), items in by_shape.items():
                stacked = torch.cat([u.reshape(-1, rows, cols) for _, u in items])
                step = orthogonalize(stacked) * (max(1.0, rows / cols) ** 0.5 * group["lr"])
                at = 0
                for p, u in items:
                    n = u.numel() // (rows * cols)
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(step[at : at + n].view_as(p))
                    at += n


def orthogonalize(g: Tensor, steps: int = 4) -> Tensor:
    """Newton-Schulz iteration towards U V^T of g = U S V^T."""
    flip = g.shape[-2] > g.shape[-1]
    x = g.transpose(-1, -2) if flip else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
                    (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012)][-steps:]:
        s = x @ x.transpose(-1, -2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.transpose(-1, -2) if flip else x


def optimizers(model) -> list[torch.optim.Optimizer]:
    matrices, table, small = [], [], []
    for name, p in model.named_parameters():
        if ".indexer." in name:  # top-k passes no gradient; see README
            p.requires_grad_(False)
        elif "embed_tokens" in name or "lm_head" in name:
            table.append(p)
        elif p.ndim < 2 or "hc" in name or "position_bias" in name or "mlp.gate." in name:
            small.append(p)
        else:
            matrices.append(p)
    adam = torch.optim.AdamW([dict(params=table, lr=4e-3), dict(params=small, lr=3e-3)], betas=(0.9, 0.98),
                             weight_decay=0.0, fused=True)
    matrices.sort(key=lambda p: (p.shape, p.numel()))
    out = [Muon(matrices[::2], lr=0.02), Muon(matrices[1::2], lr=0.02), adam]
    for opt in out:
        for group in opt.param_groups:
            group["peak"] = group["lr"]
    return out


class Names:
    """Which person or thing is this about? Asked of the state before the compressed layers, in training only.

    A value can be found by its name only once its own state tells the name, some tokens earlier. From the answers
    alone that is not learnt (there is nothing to match yet), so a linear map has to read it from there.
    """

    def __init__(self, tok, dim: int, back: int = 4):
        subjects = data.NAMES + data.OBJECTS
        self.number = torch.full((tok.get_vocab_size(),), -1)
        for i, subject in enumerate(subjects):
            for text in (subject, " " + subject):
                ids = tok.encode(text).ids
                if len(ids) == 1:
                    self.number[ids[0]] = i
        self.back = back
        self.weight = torch.zeros(len(subjects), dim, requires_grad=True)

    def loss(self, ids: Tensor, state: Tensor) -> tuple[Tensor, int, int]:
        """Summed over the tokens with a subject among the `back` ones before; right and asked."""
        own = F.pad(self.number[ids], (self.back, 0), value=-1)
        want = torch.full_like(ids, -1)
        for far in range(self.back, 0, -1):  # the nearest one counts
            at = own[:, self.back - far : own.shape[1] - far]
            want = torch.where(at >= 0, at, want)
        want = want.flatten()
        keep = (want >= 0).nonzero().squeeze(1)
        logits = rms(state[keep]) @ self.weight.t()
        return (F.cross_entropy(logits, want[keep], reduction="sum"),
                int((logits.detach().argmax(-1) == want[keep]).sum()), len(keep))


def gradients(fast: Fast, trained: list, work: list, window: int | None, names: Names, share: float):
    """One worker's share of a step: sums of gradients, loss, weights, then right and asked: recalled tokens, names."""
    total, loss_sum, weight_sum, right, asked, named, name_count = None, 0.0, 0.0, 0, 0, 0, 0
    while True:
        try:
            ids, weights = work.pop()
        except IndexError:
            return total, loss_sum, weight_sum, right, asked, named, name_count
        targets, weights = ids[:, 1:].flatten(), weights[:, 1:].flatten()
        keep = (weights > 0).nonzero().squeeze(1)
        w, t = weights[keep], targets[keep]
        early: list[Tensor] | None = [] if share else None
        logits = fast.hidden(ids[:, :-1], window, early)[keep] @ fast.model.lm_head.weight.t()
        loss = (F.cross_entropy(logits, t, reduction="none") * w).sum()
        extra = 0.0
        if early:
            extra, ok, count = names.loss(ids[:, :-1], early[0])
            named, name_count = named + ok, name_count + count
        grads = torch.autograd.grad(loss + share * extra, trained, allow_unused=True, materialize_grads=True)
        if total is None:
            total = list(grads)
        else:
            torch._foreach_add_(total, grads)
        loss_sum, weight_sum = loss_sum + loss.item(), weight_sum + w.sum().item()
        recalled = w >= 4
        right += int((logits.detach()[recalled].argmax(-1) == t[recalled]).sum())
        asked += int(recalled.sum())


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--minutes", type=float, default=90)
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--resume", type=Path, help="continue from this raw checkpoint ...")
    ap.add_argument("--phase", choices=PHASES, default="broad")
    ap.add_argument("--spent", type=float, default=0, help="... of which so many minutes of the budget are spent")
    ap.add_argument("--level", type=int, help="... at this step of the curriculum")
    args = ap.parse_args()
    phase = PHASES[args.phase]
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 64

    tok, model = load_tokenizer(), build(args.seed)
    difference = check(model, Fast(model, compiled=False))
    print(f"parameters {sum(p.numel() for p in model.parameters())}, logits differ by {difference:.1e}", flush=True)
    assert difference < 1e-4
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
    fast, opts = Fast(model), optimizers(model)
    names = Names(tok, model.config.hidden_size)
    opts[-1].add_param_group(dict(params=[names.weight], lr=2e-2, peak=2e-2))
    trained = [p for p in model.parameters() if p.requires_grad] + [names.weight]
    average = [p.detach().clone() for p in trained]
    rng = random.Random(f"{args.seed} {args.phase} {args.spent}")
    start, step, tokens, logged, saved, promoted = time.time(), 0, 0, 0.0, time.time(), 0
    level = phase.level if args.level is None else args.level
    pool = ThreadPoolExecutor(WORKERS)
    warm = False  # the first step compiles: on one worker
    hits = {n: 0.0 for n in LENGTHS}  # running share of recalled value tokens, by document length

    def save(name: str) -> None:
        raw = [p.detach().clone() for p in trained]
        torch.save(model.state_dict(), args.out / f"{name}-raw.pt")
        with torch.no_grad():
            for p, a in zip(trained, average):
                p.copy_(a)
            torch.save(model.state_dict(), args.out / f"{name}.pt")
            figures = quick(model, tok)
            for p, r in zip(trained, raw):
                p.copy_(r)
        print(json.dumps(dict(saved=name, step=step, tokens=tokens, level=LENGTHS[level], **figures)), flush=True)

    while (done := (args.spent + (time.time() - start) / 60) / args.minutes) < 1:
        # Warm up, hold, fall to nothing.
        rate = phase.rate * min(1.0, (step + 1) / 30) * min(1.0, (1 - done) / (1 - phase.hold) + 0.01)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = group["peak"] * rate
        if level < 4 and (done > phase.latest[level] or (hits[LENGTHS[level]] > phase.good and step - promoted > phase.patience)):
            level, promoted = level + 1, step
        if level and rng.random() < 0.5:
            length = LENGTHS[rng.randrange(level)]
        else:
            length = LENGTHS[level]
        window = rng.choice(phase.windows)
        rows = max(1, PIECE // length)
        work = [batch(tok, rng, rows, length, kind=args.phase)[:2] for _ in range(TOKENS // length // rows)]
        fast.round_experts()
        for load in fast.load.values():
            load.zero_()
        if warm:
            parts = list(pool.map(lambda _: gradients(fast, trained, work, window, names, phase.names), range(WORKERS)))
        else:
            parts = [gradients(fast, trained, work, window, names, phase.names)]
            warm = True
        parts = [p for p in parts if p[0] is not None]
        loss, weight, right, asked, named, name_count = (sum(p[i] for p in parts) for i in range(1, 7))
        for other in parts[1:]:
            torch._foreach_add_(parts[0][0], other[0])
        torch._foreach_div_(parts[0][0], weight)
        for p, g in zip(trained, parts[0][0]):
            p.grad = g
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        list(pool.map(lambda opt: opt.step(), opts))
        with torch.no_grad():
            decay = min(0.998, step / (step + 20))
            torch._foreach_lerp_(average, trained, 1 - decay)
            for i, load in fast.load.items():  # experts that got too little are preferred a little more
                bias = model.model.layers[i].mlp.gate.e_score_correction_bias
                bias += 0.002 * rate * torch.sign(load.float().mean() - load.float())
            hits[length] += 0.03 * (right / max(asked, 1) - hits[length])
        step, tokens = step + 1, tokens + TOKENS
        now = time.time()
        if step == 10 or now - logged > 60:
            logged = now
            print(f"{(now - start) / 60:6.1f} min  step {step}  {tokens / (now - start):.0f} tok/s  loss {loss / weight:.3f}  "
                  f"length {LENGTHS[level]}  names {named / max(name_count, 1):.2f}  recall "
                  + " ".join(f"{n}:{h:.2f}" for n, h in hits.items()), flush=True)
        if now - saved > 900:
            save("last")
            saved = time.time()
    save("final")


if __name__ == "__main__":
    main()
