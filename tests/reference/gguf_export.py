"""Write a transformers DeepseekV4ForCausalLM as a GGUF v3 file of architecture `deepseek4`.

    from gguf_export import export
    export(model, "model.gguf", tokenizer_json="tokenizer.json", quant="Q8_0")

The tensor and key names are the ones llama.cpp writes. They are spelled out here because the PyPI
`gguf` package (0.19) does not know the architecture yet; only its container writer is used.
"""

import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T

ARCH = "deepseek4"
RATIO = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
GATING = {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}

# Small tensors whose rounding would hurt much more than their size helps: they stay F32 whatever `quant` says.
ALWAYS_F32 = ("hc_", "ffn_gate_inp", "ape", "sinks", "exp_probs_b", "norm")


def tensors(model):
    """Yield (GGUF name, numpy array) for every tensor; matrices are [rows, columns] of y = W.x.

    The arrays of a float32 model on the CPU share its memory: writing to one changes the model.
    """
    cfg, sd = model.config, model.state_dict()

    def get(name):
        return sd[name].detach().to("cpu").float().numpy()

    yield "token_embd.weight", get("model.embed_tokens.weight")
    yield "output_norm.weight", get("model.norm.weight")
    yield "output.weight", get("lm_head.weight")
    for part in ("fn", "base", "scale"):
        yield f"output_hc_{part}.weight", get(f"model.hc_head.hc_{part}")

    for i in range(cfg.num_hidden_layers):
        src, dst = f"model.layers.{i}.", f"blk.{i}."

        def compressor(where, prefix):
            return [
                (f"{prefix}_kv.weight", f"{where}.kv_proj.weight"),
                (f"{prefix}_gate.weight", f"{where}.gate_proj.weight"),
                (f"{prefix}_ape.weight", f"{where}.position_bias"),
                (f"{prefix}_norm.weight", f"{where}.kv_norm.weight"),
            ]

        names = [
            ("attn_norm.weight", "input_layernorm.weight"),
            ("attn_q_a.weight", "self_attn.q_a_proj.weight"),
            ("attn_q_a_norm.weight", "self_attn.q_a_norm.weight"),
            ("attn_q_b.weight", "self_attn.q_b_proj.weight"),
            ("attn_kv.weight", "self_attn.kv_proj.weight"),
            ("attn_kv_a_norm.weight", "self_attn.kv_norm.weight"),
            ("attn_sinks.weight", "self_attn.sinks"),
            ("attn_output_a.weight", "self_attn.o_a_proj.weight"),
            ("attn_output_b.weight", "self_attn.o_b_proj.weight"),
            ("ffn_norm.weight", "post_attention_layernorm.weight"),
            ("ffn_gate_inp.weight", "mlp.gate.weight"),
            ("ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"),
            ("ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"),
            ("ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"),
            ("ffn_down_exps.weight", "mlp.experts.down_proj"),
        ]
        for half in ("attn", "ffn"):
            names += [(f"hc_{half}_{part}.weight", f"{half}_hc.{part}") for part in ("fn", "base", "scale")]
        ratio = RATIO[cfg.layer_types[i]]
        if ratio:
            names += compressor("self_attn.compressor", "attn_compressor")
        if ratio == 4:
            names += compressor("self_attn.compressor.indexer", "indexer_compressor")
            names += [
                ("indexer.attn_q_b.weight", "self_attn.compressor.indexer.q_b_proj.weight"),
                ("indexer.proj.weight", "self_attn.compressor.indexer.scorer.weights_proj.weight"),
            ]
        is_hash = cfg.mlp_layer_types[i] == "hash_moe"
        if not is_hash:
            names.append(("exp_probs_b.bias", "mlp.gate.e_score_correction_bias"))
        for target, source in names:
            yield dst + target, get(src + source)

        # transformers fuses the experts' first two matrices: gate rows first, then up rows.
        gate_up = get(src + "mlp.experts.gate_up_proj")
        inner = gate_up.shape[1] // 2
        yield dst + "ffn_gate_exps.weight", gate_up[:, :inner]
        yield dst + "ffn_up_exps.weight", gate_up[:, inner:]
        if is_hash:
            yield dst + "ffn_gate_tid2eid.weight", sd[src + "mlp.gate.tid2eid"].cpu().numpy().astype(np.int32)


def keys(model):
    """The `deepseek4.*` metadata as {key without prefix: (writer method, value)}."""
    c = model.config
    n = c.num_hidden_layers
    hashed = [t == "hash_moe" for t in c.mlp_layer_types]
    n_hash = sum(hashed)
    if hashed != [i < n_hash for i in range(n)]:
        raise ValueError("GGUF can only say that the FIRST n layers are hash-routed")
    for kind, ratio in RATIO.items():
        if ratio and kind in c.layer_types and c.compress_rates[kind] != ratio:
            raise ValueError(f"{kind} must compress by {ratio}, not by {c.compress_rates[kind]}")
    rope = c.rope_parameters["compress"]
    yarn = rope if rope["rope_type"] == "yarn" else {}
    out = {
        "context_length": ("uint32", c.max_position_embeddings),
        "embedding_length": ("uint32", c.hidden_size),
        "block_count": ("uint32", n),
        "vocab_size": ("uint32", c.vocab_size),
        "attention.head_count": ("uint32", c.num_attention_heads),
        "attention.head_count_kv": ("uint32", 1),
        "attention.key_length": ("uint32", c.head_dim),
        "attention.value_length": ("uint32", c.head_dim),
        "attention.q_lora_rank": ("uint32", c.q_lora_rank),
        "attention.output_group_count": ("uint32", c.o_groups),
        "attention.output_lora_rank": ("uint32", c.o_lora_rank),
        "attention.sliding_window": ("uint32", c.sliding_window),
        "attention.compress_ratios": ("array", [RATIO[t] for t in c.layer_types]),
        "attention.compress_rope_freq_base": ("float32", rope["rope_theta"]),
        "attention.layer_norm_rms_epsilon": ("float32", c.rms_norm_eps),
        "attention.indexer.head_count": ("uint32", c.index_n_heads),
        "attention.indexer.key_length": ("uint32", c.index_head_dim),
        "attention.indexer.top_k": ("uint32", c.index_topk),
        "rope.dimension_count": ("uint32", c.qk_rope_head_dim),
        "rope.freq_base": ("float32", c.rope_parameters["main"]["rope_theta"]),
        # Without YaRN a factor of 1 is written, which changes nothing: readers may insist on these keys.
        "rope.scaling.type": ("string", "yarn"),
        "rope.scaling.factor": ("float32", yarn.get("factor", 1.0)),
        "rope.scaling.original_context_length": (
            "uint32",
            yarn.get("original_max_position_embeddings") or c.max_position_embeddings,
        ),
        "rope.scaling.yarn_beta_fast": ("float32", yarn.get("beta_fast") or 32.0),
        "rope.scaling.yarn_beta_slow": ("float32", yarn.get("beta_slow") or 1.0),
        "hash_layer_count": ("uint32", n_hash),
        "expert_count": ("uint32", c.n_routed_experts),
        "expert_used_count": ("uint32", c.num_experts_per_tok),
        "expert_feed_forward_length": ("uint32", c.moe_intermediate_size),
        # The class builds ONE shared expert of the routed size, whatever n_shared_experts says.
        "expert_shared_count": ("uint32", 1),
        "expert_gating_func": ("uint32", GATING[c.scoring_func]),
        "expert_weights_scale": ("float32", c.routed_scaling_factor),
        "expert_weights_norm": ("bool", True),
        "swiglu_clamp_exp": ("array", [float(c.swiglu_limit)] * n),
        "swiglu_clamp_shexp": ("array", [float(c.swiglu_limit)] * n),
        "hyper_connection.count": ("uint32", c.hc_mult),
        "hyper_connection.sinkhorn_iterations": ("uint32", c.hc_sinkhorn_iters),
        "hyper_connection.epsilon": ("float32", c.hc_eps),
    }
    if yarn and yarn.get("attention_factor") != 1.0:
        raise ValueError("the architecture has no YaRN magnitude correction: attention_factor must be 1.0")
    return out


def add_tokenizer(writer, path, model):
    """tokenizer.ggml.* from a Hugging Face tokenizer.json (byte-level BPE)."""
    with open(path, encoding="utf-8") as f:
        tok = json.load(f)
    size = model.config.vocab_size
    # Ids without a token exist when the embedding is padded; llama.cpp names them like this, type 5 = unused.
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [5] * size

    def put(token, index, kind):
        if index >= size:
            raise ValueError(f"token {token!r} has id {index}, the embedding only {size} rows")
        tokens[index], kinds[index] = token, kind

    for token, index in tok["model"]["vocab"].items():
        put(token, index, 1)
    for added in tok.get("added_tokens", []):
        put(added["content"], added["id"], 3 if added["special"] else 4)
    merges = [m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]]

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("joyai-llm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    eos = model.config.eos_token_id
    eos = eos[0] if isinstance(eos, (list, tuple)) else eos
    if model.config.bos_token_id is not None:
        writer.add_bos_token_id(model.config.bos_token_id)
    if eos is not None:
        writer.add_eos_token_id(eos)


def add_value(writer, key, value):
    """One metadata value whose GGUF type follows from its Python type."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def type_of(quant, name, array):
    """The tensor type `quant` wants for `name`, and its packed bytes where the caller brings them."""
    if array.ndim < 2 or any(part in name for part in ALWAYS_F32):
        return T.F32, None
    chosen = quant(name) if callable(quant) else quant
    raw = None
    if isinstance(chosen, tuple):
        chosen, raw = chosen
    if chosen is None:
        return T.F32, None
    chosen = T[chosen] if isinstance(chosen, str) else T(chosen)
    block = gguf.GGML_QUANT_SIZES[chosen][0]
    # A row that is no whole number of blocks cannot be packed: llama.cpp falls back likewise.
    return (chosen if array.shape[-1] % block == 0 else T.F32), raw


def export(model, path, *, tokenizer_json=None, quant=None, extra_keys=None, extra_tensors=None):
    """Write `model` (a float32 DeepseekV4ForCausalLM) to `path`.

    quant         None (all F32), a type name or GGMLQuantizationType for every large matrix, or a callable
                  tensor name -> None | type | (type, packed bytes [.., row bytes] of the whole tensor).
                  The last form is for types that `gguf.quants` can only decode (the K-quants).
    extra_keys    {full key: value}: written last, so it may replace a key written here.
    extra_tensors {full name: float array}: written as F32.
    """
    writer = gguf.GGUFWriter(path, ARCH)
    extra_keys = dict(extra_keys or {})
    extra_keys.setdefault("general.name", "deepseek4 test model")
    for key, (kind, value) in keys(model).items():
        if f"{ARCH}.{key}" not in extra_keys:
            getattr(writer, f"add_{kind}")(f"{ARCH}.{key}", value)
    if tokenizer_json is not None:
        add_tokenizer(writer, tokenizer_json, model)
    for key, value in extra_keys.items():
        add_value(writer, key, value)

    with torch.no_grad():
        for name, array in tensors(model):
            if array.dtype == np.int32:
                writer.add_tensor(name, array)
                continue
            kind, raw = type_of(quant, name, array)
            array = np.ascontiguousarray(array, dtype=np.float32)
            if kind == T.F32:
                writer.add_tensor(name, array)
            else:
                data = raw if raw is not None else gguf.quants.quantize(array, kind)
                writer.add_tensor(name, data.view(np.uint8), raw_dtype=kind)
        for name, array in (extra_tensors or {}).items():
            writer.add_tensor(name, np.ascontiguousarray(array, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
