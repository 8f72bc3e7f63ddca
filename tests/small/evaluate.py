"""Held-out figures of the small model (see report.json)."""

from __future__ import annotations

import argparse
import json
import math
import random
import re
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import gguf_io
from batches import Span, batch, encode, load_tokenizer
from fast import PIECE, Fast, check

HERE = Path(__file__).parent

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
            ids, weights, spans = batch(tok, rng, 4096 // length, length, evaluate=True, kind="recall")
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


def probes(kind: str, count: int, rng: random.Random, tok) -> list[tuple[list[int], int, Span | None]]:
    """(tokens, where the answer starts, the asked value's span) of documents whose last turn is the question."""
    out = []
    while len(out) < count:
        if kind.startswith("recall"):
            low, high = map(int, kind.split()[1].split("-"))
            doc = data.recall_probe(rng, rng.randint(max(low, 24), high), lambda s: len(tok.encode(s).ids),
                                    one_each="several" not in kind)
        else:
            doc = data.Document(rng, evaluate=True)
            doc.add(data.BOS, 0.0)
            name, _, option = kind.partition(" ")
            if name == "sums":
                doc.sum_turn(int(option[0]), "thinking" in option)
            elif name == "tools":
                names = doc.tool_system(official=option == "official")
                doc.tool_turn(names, thinking=False, reply=False)
            elif name == "json":
                doc.tell_turn(rng.randint(2, 6))
                doc.ask_turn(style="json")
        ids, _, spans = encode(tok, doc)
        start = len(ids) - 1 - ids[::-1].index(tok.token_to_id(data.ASSISTANT)) + 2
        span = spans[-1] if spans and spans[-1].tag == "recall" else None
        if kind.startswith("recall") and not low <= span.distance < high:
            continue
        out.append((ids, start, span))
    return out


@torch.no_grad()
def greedy_matches(fast: Fast, cases) -> tuple[list[bool], list[bool]]:
    """For each case: would greedy decoding give exactly the answer, and does it give the asked value?

    One pass over prompt and answer tells: when every answer token is the arg-max given those before it, greedy decoding
    produces just these. The value is counted with the words before it given.
    """
    exact, value = [], []
    cases = sorted(cases, key=lambda c: len(c[0]))
    while cases:
        length = 128
        while length < len(cases[0][0]):
            length *= 2
        rows = max(1, PIECE // length)
        now = [c for c in cases[:rows] if len(c[0]) <= length]
        # What follows cannot change what came before; a whole piece of tokens is what `fast` is compiled for.
        ids = torch.ones(rows, length, dtype=torch.long)
        for row, case in zip(ids, now):
            row[: len(case[0])] = torch.tensor(case[0])
        best = fast(ids).argmax(-1).view(rows, length).tolist()
        for best, (ids, start, span) in zip(best, now):
            exact.append(best[start - 1 : len(ids) - 1] == ids[start:])
            if span:
                value.append(best[span.first - 1 : span.last] == ids[span.first : span.last + 1])
        cases = cases[len(now):]
    return exact, value


@torch.no_grad()
def perplexity(fast: Fast, tok, kind: str, rows: int = 8, length: int = 1024) -> dict:
    rng, nats, tokens, size = random.Random(31337), 0.0, 0, 0
    for _ in range(rows):
        ids, _, _ = batch(tok, rng, 1, length, evaluate=True, kind=kind)
        nats += F.cross_entropy(fast(ids[:, :-1]), ids[0, 1:], reduction="sum").item()
        tokens += length
        size += len(tok.decode(ids[0, 1:].tolist(), skip_special_tokens=False).encode())
    return {"per_token": round(math.exp(nats / tokens), 3), "bits_per_byte": round(nats / math.log(2) / size, 3),
            "per_byte": round(math.exp(nats / size), 3), "tokens": tokens}


@torch.no_grad()
def generate(model, tok, prompt: str, limit: int = 120) -> str:
    """Plain greedy decoding with transformers' own code and cache."""
    ids = torch.tensor([tok.encode(prompt).ids])
    out = model.generate(ids, max_new_tokens=limit, do_sample=False, eos_token_id=1, pad_token_id=1)
    return tok.decode(out[0, ids.shape[1]:].tolist(), skip_special_tokens=False)


CALL = re.compile(
    r"\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"(\w+)\">\n<｜DSML｜parameter name=\"(\w+)\" string=\"(true|false)\">"
    r"([^<]+)</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>")


def well_formed(answer: str) -> bool:
    m = CALL.fullmatch(answer)
    return bool(m and m[1] in data.TOOLS and data.TOOLS[m[1]][1] == m[2]
                and (data.TOOLS[m[1]][2] == "string") == (m[3] == "true"))


def is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer.removesuffix(data.EOS)), dict)
    except ValueError:
        return False


SAMPLES = [
    (data.BOS, 120),
    (data.BOS + "One day Mira went to the", 80),
    (data.BOS + data.USER + "Hello" + data.ASSISTANT + data.END_THINK, 40),
    (data.BOS + data.USER + "Who are you?" + data.ASSISTANT + data.END_THINK, 60),
    (data.BOS + data.USER + "Tell me a story." + data.ASSISTANT + data.END_THINK, 120),
    (data.BOS + data.USER + "What is 17 + 25?" + data.ASSISTANT + data.END_THINK, 30),
    (data.BOS + data.USER + "What is 48 + 76?" + data.ASSISTANT + data.THINK, 60),
    (data.BOS + data.USER + "Remember this. Mira likes plums. The kite is in the barn. Tom has a goat." + data.ASSISTANT
     + data.END_THINK + "OK." + data.EOS + data.USER + "Where is the kite?" + data.ASSISTANT + data.END_THINK, 30),
    (data.BOS + data.USER + "Remember this. Mira likes plums. The kite is in the barn. Tom has a goat." + data.ASSISTANT
     + data.END_THINK + "OK." + data.EOS + data.USER + "What does Mira like? Answer in JSON." + data.ASSISTANT
     + data.END_THINK, 30),
    (data.BOS + "You are a helpful assistant.\n\n" + data.PREAMBLE % json.dumps(data.schema("get_weather", True)) + data.USER
     + "What is the weather in Paris?" + data.ASSISTANT + data.END_THINK, 120),
]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("gguf", type=Path, nargs="?", default=HERE.parent.parent / "ffi/model/small.gguf")
    ap.add_argument("--count", type=int, default=120,
                    help="probes of each kind (twice as many for the window, half for calls and JSON)")
    ap.add_argument("--tokens-seen", type=int, default=0, help="noted in the report")
    args = ap.parse_args()
    torch.set_num_threads(2)
    tok, model = load_tokenizer(), gguf_io.load(args.gguf)
    fast = Fast(model)
    report: dict = {
        "file_bytes": args.gguf.stat().st_size, "parameters": sum(p.numel() for p in model.parameters()),
        "training_tokens": args.tokens_seen,
        "method": "weights as stored in the GGUF, dequantized to f32; exact = all tokens of the answer are the arg-max "
                  "after the ones before them (what greedy decoding produces), value = only the asked value's tokens",
        "logits_differ_from_transformers": check(model, Fast(model, compiled=False)),
    }
    report["perplexity"] = {kind: perplexity(fast, tok, kind) for kind in data.KINDS}
    share = lambda hits: round(sum(hits) / len(hits), 4)
    report["recall_by_distance"] = {}
    for low, high in zip(BUCKETS, BUCKETS[1:]):
        count = args.count * 2 if low == 0 else args.count
        exact, value = greedy_matches(fast, probes(f"recall {low}-{high}", count, random.Random(low + 7), tok))
        report["recall_by_distance"][f"{low}-{high}"] = {"value": share(value), "exact": share(exact), "probes": len(exact)}
        print(low, high, report["recall_by_distance"][f"{low}-{high}"], flush=True)
    report["recall_several_facts_per_name"] = {}
    for part in ("0-64", "300-600"):
        exact, value = greedy_matches(fast, probes(f"recall {part} several", args.count // 2, random.Random(3), tok))
        report["recall_several_facts_per_name"][part] = {"value": share(value), "exact": share(exact), "probes": len(exact)}
    report["sums_exact"] = {}
    for kind in ("1 digit", "2 digits", "2 digits thinking"):
        exact, _ = greedy_matches(fast, probes("sums " + kind, args.count, random.Random(5), tok))
        report["sums_exact"][kind] = share(exact)
    for key, kind, test in (("tool_calls", "tools official", well_formed), ("tool_calls_short_preamble", "tools short", well_formed),
                            ("json_answers", "json", is_json)):
        cases = probes(kind, args.count // 2, random.Random(6), tok)
        exact, _ = greedy_matches(fast, cases)
        # What is not exactly right may still be well formed: decode those to see.
        cases.sort(key=lambda c: len(c[0]))
        formed = [True if ok else test(generate(model, tok, tok.decode(ids[:start], skip_special_tokens=False)))
                  for ok, (ids, start, _) in zip(exact, cases)]
        report[key] = {"well_formed": share(formed), "exact": share(exact), "probes": len(exact)}
    report["samples"] = [{"prompt": p, "greedy": generate(model, tok, p, n)} for p, n in SAMPLES]
    (HERE / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
