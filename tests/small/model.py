"""The small model's shape and its starting weights."""

import torch
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

CONFIG = dict(
    vocab_size=1024, hidden_size=128, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=1, head_dim=64,
    qk_rope_head_dim=16, q_lora_rank=64, o_groups=2, o_lora_rank=64, sliding_window=64,
    compress_ratios=[0, 0, 4, 128, 4, 128], num_hash_layers=2,
    index_n_heads=16, index_head_dim=32, index_topk=512,
    n_routed_experts=16, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=64,
    hc_mult=4, hc_sinkhorn_iters=20, routed_scaling_factor=1.5, swiglu_limit=10.0,
    max_position_embeddings=4096, rope_theta=10000.0, compress_rope_theta=160000.0,
    rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024,
                     "beta_fast": 32, "beta_slow": 1},
    bos_token_id=0, eos_token_id=1, tie_word_embeddings=False, attn_implementation="eager",
)


def build(seed: int = 0) -> DeepseekV4ForCausalLM:
    torch.manual_seed(seed)
    model = DeepseekV4ForCausalLM(DeepseekV4Config(**CONFIG))
    c = model.config
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "_hc." in name or "hc_" in name or p.ndim < 2 or "position_bias" in name:
                continue
            std = p.shape[-1] ** -0.5
            if "embed_tokens" in name:
                std = 0.5
            elif "o_b_proj" in name or "down_proj" in name or "lm_head" in name:
                std *= 0.3  # blocks start small beside the residual
            p.normal_(0, std)
        for i, layer in enumerate(model.model.layers):
            for hc in (layer.attn_hc, layer.ffn_hc):
                n = c.hc_mult
                # Streams keep mostly to themselves at first; equal ones would stay equal for long.
                hc.base[2 * n :] = (3.0 * torch.eye(n)).flatten()
                hc.base[: 2 * n] = 0.5 * torch.randn(2 * n)
            gate = layer.mlp.gate
            if layer.mlp.is_hash:  # each token has k different experts, all experts equally many tokens
                e, k = c.n_routed_experts, c.num_experts_per_tok
                token = torch.randperm(c.vocab_size)
                gate.tid2eid[:, 0] = token % e
                gate.tid2eid[:, 1] = (token + 1 + (token // e) % (e - 1)) % e
    return model
