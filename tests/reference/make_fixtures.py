"""Random small models with the logits of transformers (float32): tests/golden/<name>/.

    make_fixtures.py [--only NAME ...] [--out DIR] [--debug DIR]

    model.gguf    the model
    tokens.i32    the input, little-endian i32
    logits.f32    [tokens, vocabulary] little-endian f32, row after row
    meta.json     versions, seed, sizes, the float64 oracle's difference, how clear the top-k choices were
"""

import argparse
import copy
import json
import pathlib
import zlib

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as T
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
from transformers.activations import ACT2FN
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as modeling

import spec_oracle
from gguf_export import export, keys, tensors, type_of
from quant_fixtures import SCALES

COMMON = dict(
    n_shared_experts=1,
    max_position_embeddings=4096,
    bos_token_id=0,
    eos_token_id=1,
    rms_norm_eps=1e-6,
    hc_eps=1e-6,
    hc_sinkhorn_iters=20,
)


def yarn(factor, original, fast=32, slow=1):
    return {
        "type": "yarn",
        "factor": float(factor),
        "original_max_position_embeddings": original,
        "beta_fast": fast,
        "beta_slow": slow,
    }


def mixed_halves(name):
    """F16, BF16 and F32 side by side: rows of any length are whole blocks of these."""
    return [T.F16, T.BF16, T.F32][zlib.crc32(name.encode()) % 3]


def mixed_quants(name):
    """The K, IQ and MXFP4 types of files in the wild. Rows of 256: K and IQ; shorter rows: blocks of 32."""
    short = ("attn_q_b", "attn_output_b", "indexer.attn_q_b", "ffn_down")
    by_layer = {
        "ffn_gate_exps": [T.Q4_K, T.IQ2_XXS, T.MXFP4],
        "ffn_up_exps": [T.Q4_K, T.IQ2_XXS, T.MXFP4],
        "ffn_down_exps": [T.Q8_0, T.IQ4_NL, T.MXFP4],
        "ffn_gate_shexp": [T.Q8_0, T.Q5_K, T.Q3_K],
        "ffn_up_shexp": [T.Q8_0, T.IQ4_XS, T.Q2_K],
        "attn_compressor_kv": [None, T.BF16, T.Q4_K],
        "attn_compressor_gate": [None, T.F16, T.Q6_K],
    }
    if name.startswith("blk."):
        layer, part = int(name.split(".")[1]), name.split(".", 2)[2].removesuffix(".weight")
        if part in by_layer:
            return by_layer[part][layer]
        return T.Q8_0 if part.startswith(short) else [T.Q8_0, T.Q4_K, T.Q6_K][layer]
    return T.Q6_K if name == "output.weight" else T.Q8_0


# Sizes are chosen so that a test sees every mechanism: more positions than window, top-k, several 128-blocks and
# the YaRN ramp; enough indexer heads that its scores have no ties (relu makes exact zeros).
FIXTURES = {
    "even": dict(
        seed=67,
        length=700,
        config=dict(
            vocab_size=96, hidden_size=64, moe_intermediate_size=12, num_attention_heads=4, head_dim=32,
            qk_rope_head_dim=16, q_lora_rank=32, o_groups=2, o_lora_rank=16, n_routed_experts=6,
            num_experts_per_tok=2, routed_scaling_factor=1.5, swiglu_limit=1.5, hc_mult=4, sliding_window=16,
            index_n_heads=16, index_head_dim=24, index_topk=8, compress_ratios=[0, 0, 4, 128, 4, 128, 4],
            num_hash_layers=2, rope_scaling=yarn(4, 128),
        ),
    ),
    "odd": dict(
        seed=21,
        length=420,
        quant=mixed_halves,
        config=dict(
            vocab_size=131, hidden_size=87, moe_intermediate_size=17, num_attention_heads=3, head_dim=40,
            qk_rope_head_dim=8, q_lora_rank=21, o_groups=3, o_lora_rank=11, n_routed_experts=7,
            num_experts_per_tok=3, routed_scaling_factor=2.25, swiglu_limit=0.75, hc_mult=3, sliding_window=13,
            index_n_heads=17, index_head_dim=12, index_topk=5, compress_ratios=[128, 4, 0, 4, 0],
            num_hash_layers=1, rope_theta=5000.0, compress_rope_theta=40000.0, rope_scaling=yarn(3, 96, 8, 0.5),
            rms_norm_eps=1e-5, hc_eps=1e-3, hc_sinkhorn_iters=7,
        ),
    ),
    # One output group, five heads, no YaRN at all, sigmoid scores.
    "sigmoid": dict(
        seed=31,
        length=140,
        config=dict(
            vocab_size=64, hidden_size=40, moe_intermediate_size=12, num_attention_heads=5, head_dim=16,
            qk_rope_head_dim=4, q_lora_rank=16, o_groups=1, o_lora_rank=20, n_routed_experts=5,
            num_experts_per_tok=2, swiglu_limit=10.0, hc_mult=2, sliding_window=8, index_n_heads=16,
            index_head_dim=8, index_topk=4, compress_ratios=[4, 128, 0], num_hash_layers=0, scoring_func="sigmoid",
        ),
    ),
    # transformers 5.23 has no softmax scores: see `softmax_router`.
    "softmax": dict(
        seed=41,
        length=140,
        config=dict(
            vocab_size=64, hidden_size=40, moe_intermediate_size=12, num_attention_heads=4, head_dim=16,
            qk_rope_head_dim=8, q_lora_rank=16, o_groups=4, o_lora_rank=5, n_routed_experts=6,
            num_experts_per_tok=3, swiglu_limit=1.0, hc_mult=4, sliding_window=8, index_n_heads=16,
            index_head_dim=10, index_topk=4, compress_ratios=[0, 128, 4], num_hash_layers=1, scoring_func="softmax",
            rope_scaling=yarn(8, 64),
        ),
    ),
    # The reference sees the dequantized weights.
    "mixed": dict(
        seed=51,
        length=300,
        quant=mixed_quants,
        config=dict(
            vocab_size=96, hidden_size=256, moe_intermediate_size=64, num_attention_heads=4, head_dim=32,
            qk_rope_head_dim=16, q_lora_rank=64, o_groups=2, o_lora_rank=32, n_routed_experts=4,
            num_experts_per_tok=2, swiglu_limit=1.5, hc_mult=2, sliding_window=16, index_n_heads=16,
            index_head_dim=32, index_topk=8, compress_ratios=[0, 4, 128], num_hash_layers=1,
            rope_scaling=yarn(4, 128),
        ),
    ),
}  # fmt: skip


class UnclearChoice(Exception):
    pass


class softmax_router:
    """While active, transformers knows softmax scores and does not renormalize the chosen ones.

    The released code has neither, the official inference code has both; a test needs a reference all the same.
    """

    def __enter__(self):
        ACT2FN["softmax"] = lambda: torch.nn.Softmax(dim=-1)
        self.saved = [(c, c.forward) for c in (modeling.DeepseekV4TopKRouter, modeling.DeepseekV4HashRouter)]

        def plain(forward):
            def run(router, hidden, *args):
                logits, _, ids = forward(router, hidden, *args)
                return logits, router.score_fn(logits).gather(1, ids) * router.routed_scaling_factor, ids

            return run

        for c, forward in self.saved:
            c.forward = plain(forward)

    def __exit__(self, *_):
        del ACT2FN["softmax"]
        for c, forward in self.saved:
            c.forward = forward


def randomize(model, rng):
    """Weights for which activations stay near 1 and no mechanism is close to doing nothing."""
    for name, a in tensors(model):
        normal = rng.standard_normal(a.shape)
        fan_in = a.shape[-1] ** -0.5
        if "norm" in name:
            a[...] = 1 + 0.3 * normal
        elif "tid2eid" in name:
            continue
        elif name == "token_embd.weight":
            a[...] = normal
        elif "_fn." in name:
            a[...] = normal * fan_in
        elif "_base." in name:
            a[...] = normal
        elif "_scale." in name:
            a[...] = 1.5 + 0.3 * normal
        elif "sinks" in name:
            a[...] = 1 + 1.5 * normal
        elif "_ape." in name:
            a[...] = normal
        elif "exp_probs_b" in name:
            a[...] = 0.3 * normal
        elif "compressor_gate" in name:
            a[...] = 1.5 * normal * fan_in
        elif "attn_output_b" in name:
            # Attention averages many values: without this it would hardly be heard.
            a[...] = 3 * normal * fan_in
        elif "ffn_down" in name:
            a[...] = 2 * normal * fan_in
        else:
            a[...] = normal * fan_in
    for layer in model.model.layers:
        gate = layer.mlp.gate
        if hasattr(gate, "tid2eid"):
            picks = [rng.permutation(gate.num_experts)[: gate.top_k] for _ in range(len(gate.tid2eid))]
            gate.tid2eid.copy_(torch.from_numpy(np.array(picks)))


def random_blocks(kind, shape, std, rng):
    """Random blocks of a type that cannot be encoded, their scales set for values of standard deviation `std`."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    n = int(np.prod(shape)) // elements
    blocks = rng.integers(0, 256, (n, size)).astype(np.uint8)
    # The second scale multiplies the minimum: this ratio centres the values (codes average 1.5, 7.5, 15.5).
    second = {T.Q2_K: 1.5, T.Q4_K: 7.5, T.Q5_K: 15.5}.get(kind)

    def set_scales(d):
        for offset, value in zip(SCALES[kind], [d, d * second if second else None]):
            blocks[:, offset : offset + 2] = value.astype(np.float16).view(np.uint8).reshape(-1, 2)

    set_scales(np.full(n, 2.0**-8))
    spread = gguf.quants.dequantize(blocks, kind).std() * 2.0**8
    set_scales(std / spread * rng.uniform(0.7, 1.3, n) * rng.choice([-1, 1], n))
    return blocks.reshape(*shape[:-1], -1)


def round_weights(model, quant, rng):
    """Give the model the values that the file will hold; return the `quant` argument for `export`."""
    packed = {}
    for name, a in tensors(model):
        if a.dtype != np.float32:
            continue
        kind, _ = type_of(quant, name, a)
        if kind == T.F32:
            packed[name] = kind
            continue
        try:
            data = gguf.quants.quantize(np.ascontiguousarray(a), kind)
        except NotImplementedError:
            data = random_blocks(kind, a.shape, float(a.std()), rng)
        a[...] = gguf.quants.dequantize(data.view(np.uint8), kind).reshape(a.shape)
        packed[name] = (kind, data)
    return packed.get


def build(name, spec, out, debug):
    torch.manual_seed(spec["seed"])
    rng = np.random.default_rng(spec["seed"])
    config = {**COMMON, **copy.deepcopy(spec["config"])}
    config = DeepseekV4Config(num_hidden_layers=len(config["compress_ratios"]), **config)
    model = DeepseekV4ForCausalLM._from_config(config, attn_implementation="eager", experts_implementation="eager")
    model = model.float().eval()
    randomize(model, rng)
    quant = round_weights(model, spec["quant"], rng) if "quant" in spec else None

    out.mkdir(parents=True, exist_ok=True)
    extra = {"general.name": f"dsv4 fixture {name}"}
    if config.scoring_func == "softmax":
        extra["deepseek4.expert_weights_norm"] = False
    export(model, out / "model.gguf", quant=quant, extra_keys=extra)

    tokens = rng.integers(0, config.vocab_size, spec["length"]).astype("<i4")
    streams = []
    hooks = [layer.register_forward_hook(lambda _m, _i, o: streams.append(o[0].numpy())) for layer in model.model.layers]
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    tokens.tofile(out / "tokens.i32")
    logits.astype("<f4").tofile(out / "logits.f32")

    exact, after, margins = spec_oracle.forward(spec_oracle.File(out / "model.gguf"), tokens)
    smallest = {k: float(min(v)) for k, v in margins.items() if v}
    # A top-k choice that hangs on the last bits of a sum would fail correct implementations (f32 rotary angles
    # alone move scores by 1e-5 at position 700): such a seed is no use, take another.
    if min(smallest.values()) < 2e-5:
        raise UnclearChoice(f"{name}: smallest margins {smallest}")
    difference = float(np.abs(exact - logits).max())
    assert difference < 1e-4, f"{name}: the oracle differs by {difference}"
    for a, b in zip(after, streams):
        assert np.abs(a - b).max() < 5e-4
    meta = {
        "name": name,
        "seed": spec["seed"],
        "tokens": spec["length"],
        "vocabulary": config.vocab_size,
        "logits_std": round(float(logits.std()), 4),
        "oracle_max_difference": float(f"{difference:.3g}"),
        "smallest_top_k_margin": {k: float(f"{v:.3g}") for k, v in smallest.items()},
        "keys": {k: v for k, (_, v) in keys(model).items()},
        "reference": "transformers float32, one call, no cache"
        + (", routers patched for softmax scores" if config.scoring_func == "softmax" else ""),
        "versions": {
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(name, "std", meta["logits_std"], "oracle", difference, "margins", smallest,
          "bytes", sum(f.stat().st_size for f in out.iterdir()), flush=True)  # fmt: skip

    if debug:
        debug.mkdir(parents=True, exist_ok=True)
        index = ["float32 little-endian; first 20 positions; X = residual streams [20, streams, hidden]"]
        for i, x in enumerate(streams):
            x[:20].astype("<f4").tofile(debug / f"{name}.layer{i}.X.f32")
            index.append(f"{name}.layer{i}.X.f32 {list(x[:20].shape)} after layer {i}")
        (debug / f"{name}.index.txt").write_text("\n".join(index) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "golden"
    parser.add_argument("--only", nargs="*", choices=list(FIXTURES))
    parser.add_argument("--out", type=pathlib.Path, default=default)
    parser.add_argument("--debug", type=pathlib.Path, help="also store the streams after every layer here")
    args = parser.parse_args()
    torch.set_num_threads(1)  # same sums on every machine
    transformers.logging.set_verbosity_error()
    for name in args.only or FIXTURES:
        spec = FIXTURES[name]
        if spec["config"].get("scoring_func") == "softmax":
            with softmax_router():
                build(name, spec, args.out / name, args.debug)
        else:
            build(name, spec, args.out / name, args.debug)


if __name__ == "__main__":
    main()
