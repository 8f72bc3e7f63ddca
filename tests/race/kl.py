"""How much 8-bit activations cost: dsv4's `fast` matmul beside llama.cpp's, on the same quantized files.

    kl.py --dsv4 target/release/dsv4 [--types Q4_K_M Q8_0 ...] [--seeds 1 2 3] [--markdown FILE]

Builds a random model whose rows all are whole blocks of 256, writes it as F32, lets llama-quantize make a file of every
type, and computes the logits of the same random tokens: exactly (f32 activations against the dequantized weights), by
dsv4 with `--matmul fast`, and by llama.cpp. Prints the mean over positions of KL(exact || fast) in nats: what a matmul
loses against what the file says. What quantizing the weights loses is another matter: the column `weights`, KL(F32 file ||
exact logits of the quantized file), puts the numbers in proportion.

Random models make close choices: where rounding flips one, of an expert or of a compressed entry, logits jump, and the mean
of a few hundred positions depends on a few such accidents. With `--smooth` every expert is used and every entry seen, so
that only rounding is left to measure, and small differences between two roundings show.

Before that the F32 file's logits by transformers, dsv4 and llama.cpp are compared: they tell whether all three compute the
same model.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reference"))

TYPES = ["Q4_K_M", "Q3_K_M", "Q5_K_M", "Q8_0", "MXFP4_MOE"]

# All kinds of layers, two of them routed by hash; window, top-k and compressed blocks all overflow within 300 tokens. The
# widths of all rows (hidden, q rank, heads of a group, o rank of all groups, inner) are multiples of 256. llama.cpp
# insists on four streams, sqrtsoftplus scores and an indexer head of a multiple of 64.
SIZES = dict(
    vocab_size=512,
    hidden_size=512,
    moe_intermediate_size=256,
    num_attention_heads=8,
    head_dim=128,
    qk_rope_head_dim=32,
    q_lora_rank=256,
    o_groups=2,
    o_lora_rank=128,
    n_routed_experts=16,
    n_shared_experts=1,
    num_experts_per_tok=4,
    routed_scaling_factor=1.5,
    swiglu_limit=2.0,
    hc_mult=4,
    hc_eps=1e-6,
    hc_sinkhorn_iters=20,
    rms_norm_eps=1e-6,
    sliding_window=64,
    index_n_heads=16,
    index_head_dim=64,
    index_topk=32,
    compress_ratios=[0, 0, 4, 128, 4, 128],
    num_hash_layers=2,
    max_position_embeddings=4096,
    bos_token_id=0,
    eos_token_id=1,
)


# The same where nothing is chosen: every token goes to every expert and sees every compressed entry.
SMOOTH = dict(num_experts_per_tok=SIZES["n_routed_experts"], routed_scaling_factor=3.0, index_topk=4096)


def build(folder, seed, tokens, smooth):
    """A random model as F32 GGUF, and what transformers makes of random tokens."""
    import torch
    import transformers
    from gguf_export import export
    from make_fixtures import randomize, yarn
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

    transformers.logging.set_verbosity_error()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sizes = {**SIZES, **(SMOOTH if smooth else {})}
    config = DeepseekV4Config(num_hidden_layers=len(SIZES["compress_ratios"]), rope_scaling=yarn(4, 128), **sizes)
    model = DeepseekV4ForCausalLM._from_config(config, attn_implementation="eager", experts_implementation="eager")
    model = model.float().eval()
    randomize(model, rng)
    # A file without a tokenizer: llama.cpp wants to be told.
    export(model, folder / "F32.gguf", extra_keys={"tokenizer.ggml.model": "no_vocab"})
    ids = rng.integers(0, config.vocab_size, tokens).astype("<i4")
    ids.tofile(folder / "tokens.i32")
    with torch.no_grad():
        logits = model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False).logits[0].numpy()
    logits.astype("<f4").tofile(folder / "transformers.f32")


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Logits:
    """The logits of one folder's tokens by every program, each computed once."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.tokens = folder / "tokens.i32"

    def read(self, path):
        return np.fromfile(path, "<f4").reshape(self.args.tokens, -1).astype(np.float64)

    def dsv4(self, model, matmul):
        out = self.folder / f"{model.stem}.dsv4-{matmul}.f32"
        run([self.args.dsv4, "logits", model, "--tokens", self.tokens, "--out", out, "-t", self.args.threads,
             "--matmul", matmul, "--cache", "f32"])  # fmt: skip
        return self.read(out)

    def oracle(self, model):
        import spec_oracle

        return spec_oracle.forward(spec_oracle.File(model), np.fromfile(self.tokens, "<i4"))[0]

    def exact(self, model):
        return self.dsv4(model, "exact") if self.args.exact == "dsv4" else self.oracle(model)

    def llama(self, model, cache="f32", flash="off"):
        out = self.folder / f"{model.stem}.llama-{cache}-{flash}.f32"
        run([self.args.llama / "llama_logits", model, self.tokens, out, self.args.threads, cache, flash])
        return self.read(out)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def kl(p, q):
    """KL(p || q) of every position, in nats."""
    p, q = log_softmax(p), log_softmax(q)
    return (np.exp(p) * (p - q)).sum(axis=1)


def tensor_types(path):
    """How many bytes a file holds of every type."""
    import gguf

    sizes = {}
    for tensor in gguf.GGUFReader(path).tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_bytes)
    return " ".join(f"{t} {n / sum(sizes.values()):.0%}" for t, n in sorted(sizes.items(), key=lambda x: -x[1]))


# llama.cpp's best: nothing but its matmuls rounds. And what it does unless told otherwise: f16 cache, flash attention.
LLAMA = {"f32 cache": ("f32", "off"), "as it comes": ("f16", "auto")}


def check_f32(logits, folder):
    """Whether all compute the same model: differences from transformers on the F32 file."""
    model, args = folder / "F32.gguf", logits.args
    reference = logits.read(folder / "transformers.f32")
    print(f"  F32 file, logits of standard deviation {reference.std():.3f}; differences from transformers in float32:")
    others = {"dsv4, exact" if args.exact == "dsv4" else "float64 oracle": logits.exact(model)}
    others |= {f"llama.cpp, {name}": logits.llama(model, *how) for name, how in LLAMA.items()}
    for name, other in others.items():
        difference = np.abs(other - reference)
        print(f"    {name:24} mean {difference.mean():.1e}  largest {difference.max():.1e}  KL {kl(reference, other).mean():.1e}")


def compare(logits, folder, kind):
    """One file's KL at every position, by program."""
    model = folder / f"{kind}.gguf"
    run([logits.args.llama / "llama-quantize", folder / "F32.gguf", model, kind, logits.args.threads])
    exact = logits.exact(model)
    out = {"weights": kl(logits.read(folder / "transformers.f32"), exact)}
    if logits.args.dsv4:
        out["dsv4 fast"] = kl(exact, logits.dsv4(model, "fast"))
    for name, how in LLAMA.items():
        out[f"llama.cpp, {name}"] = kl(exact, logits.llama(model, *how))
    return out


def table(results, columns, ratio):
    """Markdown rows of mean KL (median in brackets), the positions of all seeds together."""
    head = ["file", *columns] + (["dsv4 / llama.cpp (each seed)"] if ratio else [])
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for kind, seeds in results.items():
        cells = []
        for column in columns:
            values = np.concatenate([seed[column] for seed in seeds])
            cells.append(f"{values.mean():.2e} ({np.median(values):.1e})")
        if ratio:
            dsv4, llama = ([seed[name].mean() for seed in seeds] for name in ratio)
            each = ", ".join(f"{a / b:.2f}" for a, b in zip(dsv4, llama))
            cells.append(f"{sum(dsv4) / sum(llama):.2f} ({each})")
        yield f"| {kind} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cache = HERE.parent / ".cache"
    parser.add_argument("--dsv4", type=pathlib.Path, help="the dsv4 command; without it only llama.cpp is measured")
    parser.add_argument("--llama", type=pathlib.Path, default=cache / "llama/build/bin", help="what setup.sh built")
    parser.add_argument("--types", nargs="+", default=TYPES, help="names that llama-quantize knows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one random model each")
    parser.add_argument("--smooth", action="store_true", help="models without top-k: rounding alone, no flipped choices")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--exact", choices=["dsv4", "oracle"], help="whose exact logits (the oracle is numpy, float64)")
    parser.add_argument("--folder", type=pathlib.Path, default=cache / "kl", help="for models and logits")
    parser.add_argument("--markdown", type=pathlib.Path, help="also write the table here")
    args = parser.parse_args()
    args.exact = args.exact or ("dsv4" if args.dsv4 else "oracle")

    results = {kind: [] for kind in args.types}
    for seed in args.seeds:
        folder = args.folder / f"{'smooth' if args.smooth else 'model'}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        build(folder, seed, args.tokens, args.smooth)
        logits = Logits(args, folder)
        print(f"model {seed}", flush=True)
        check_f32(logits, folder)
        for kind in args.types:
            results[kind].append(compare(logits, folder, kind))
            print(f"  {kind}: {tensor_types(folder / f'{kind}.gguf')}", flush=True)

    columns = list(results[args.types[0]][0])
    best = f"llama.cpp, {next(iter(LLAMA))}"
    rows = list(table(results, columns, ("dsv4 fast", best) if args.dsv4 else None))
    print()
    print("\n".join(rows))
    if args.markdown:
        args.markdown.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
