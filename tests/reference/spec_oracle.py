"""The model in numpy float64, from a GGUF file alone: the written description, read literally.

    spec_oracle.py MODEL.gguf TOKENS.i32 [LOGITS.f32]

Shares no code with transformers nor with the exporter, so that agreement of the three says something.
Slow and plain on purpose.
"""

import math
import sys

import gguf
import numpy as np


class File:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.keys = {f.name.removeprefix("deepseek4."): f.contents() for f in reader.fields.values()}
        self.tensors = {}
        for t in reader.tensors:
            shape = [int(x) for x in reversed(t.shape)]
            if t.tensor_type == gguf.GGMLQuantizationType.I32:
                self.tensors[t.name] = np.array(t.data).reshape(shape)
            else:
                self.tensors[t.name] = gguf.quants.dequantize(t.data, t.tensor_type).reshape(shape).astype(np.float64)

    def __getitem__(self, key):
        return self.keys[key]

    def t(self, name):
        return self.tensors[name if name.endswith(".bias") else name + ".weight"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def unit(x, eps):
    """x divided by its root mean square."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def frequencies(g, compressed):
    r = g["rope.dimension_count"]
    i = np.arange(r // 2)
    if not compressed:
        return g["rope.freq_base"] ** (-2 * i / r)
    base = g["attention.compress_rope_freq_base"]
    f = base ** (-2 * i / r)
    factor, orig = g["rope.scaling.factor"], g["rope.scaling.original_context_length"]

    def corr(turns):
        return r * math.log(orig / (2 * math.pi * turns)) / (2 * math.log(base))

    low = max(math.floor(corr(g["rope.scaling.yarn_beta_fast"])), 0)
    high = min(math.ceil(corr(g["rope.scaling.yarn_beta_slow"])), r - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((i - low) / (high - low), 0, 1)
    return f / factor * ramp + f * (1 - ramp)


def rope(x, positions, freq, sign=1):
    """Rotate adjacent pairs of the last dims of x [position, ..., dims]."""
    r = 2 * len(freq)
    angle = sign * np.asarray(positions, np.float64)[:, None] * freq
    angle = angle.reshape(len(angle), *[1] * (x.ndim - 2), r // 2)
    cos, sin = np.cos(angle), np.sin(angle)
    out = x.copy()
    a, b = x[..., -r::2], x[..., x.shape[-1] - r + 1 :: 2]
    out[..., -r::2] = a * cos - b * sin
    out[..., x.shape[-1] - r + 1 :: 2] = a * sin + b * cos
    return out


def mix(g, prefix, streams):
    """(pre, post, comb) for every position of streams [T, n, D]."""
    n, eps = g["hyper_connection.count"], g["hyper_connection.epsilon"]
    flat = unit(streams.reshape(len(streams), -1), g["attention.layer_norm_rms_epsilon"])
    m = flat @ g.t(prefix + "_fn").T
    scale, base = g.t(prefix + "_scale"), g.t(prefix + "_base")
    pre = sigmoid(m[:, :n] * scale[0] + base[:n]) + eps
    post = 2 * sigmoid(m[:, n : 2 * n] * scale[1] + base[n : 2 * n])
    comb = softmax((m[:, 2 * n :] * scale[2] + base[2 * n :]).reshape(-1, n, n), axis=2) + eps
    comb /= comb.sum(axis=1, keepdims=True) + eps
    for _ in range(g["hyper_connection.sinkhorn_iterations"] - 1):
        comb /= comb.sum(axis=2, keepdims=True) + eps
        comb /= comb.sum(axis=1, keepdims=True) + eps
    return pre, post, comb


def compress(g, prefix, h, m, d, freq):
    """All finished compressed entries of h [T, D]."""
    c = h @ g.t(prefix + "_kv").T
    z = h @ g.t(prefix + "_gate").T + g.t(prefix + "_ape")[np.arange(len(h)) % m]
    entries = []
    for w in range(len(h) // m):
        now = slice(w * m, (w + 1) * m)
        if m == 4:
            cs, zs = c[now, d:], z[now, d:]
            if w > 0:
                before = slice((w - 1) * m, w * m)
                cs = np.concatenate([c[before, :d], cs])
                zs = np.concatenate([z[before, :d], zs])
        else:
            cs, zs = c[now], z[now]
        entries.append((softmax(zs, axis=0) * cs).sum(axis=0))
    if not entries:
        return np.zeros((0, d))
    out = unit(np.array(entries), g["attention.layer_norm_rms_epsilon"]) * g.t(prefix + "_norm")
    return rope(out, np.arange(len(out)) * m, freq)


def top(scores, k, margins):
    """Indices of the k largest, the lower index on ties; notes how clear the choice was."""
    order = np.argsort(-scores, kind="stable")
    if 0 < k < len(scores):
        margins.append(scores[order[k - 1]] - scores[order[k]])
    return order[:k]


def attention(g, p, m, h, margins):
    T = len(h)
    eps = g["attention.layer_norm_rms_epsilon"]
    H, d, W = g["attention.head_count"], g["attention.key_length"], g["attention.sliding_window"]
    G = g["attention.output_group_count"]
    freq = frequencies(g, m > 0)
    t_all = np.arange(T)
    qr = unit(h @ g.t(p + "attn_q_a").T, eps) * g.t(p + "attn_q_a_norm")
    q = rope(unit((qr @ g.t(p + "attn_q_b").T).reshape(T, H, d), eps), t_all, freq)
    kv = rope(unit(h @ g.t(p + "attn_kv").T, eps) * g.t(p + "attn_kv_a_norm"), t_all, freq)
    sinks = g.t(p + "attn_sinks")
    if m:
        entries = compress(g, p + "attn_compressor", h, m, d, freq)
    if m == 4:
        hi, di = g["attention.indexer.head_count"], g["attention.indexer.key_length"]
        keys = compress(g, p + "indexer_compressor", h, m, di, freq)
        qi = rope((qr @ g.t(p + "indexer.attn_q_b").T).reshape(T, hi, di), t_all, freq)
        wi = h @ g.t(p + "indexer.proj").T / math.sqrt(di * hi)

    out = np.zeros((T, H, d))
    for t in range(T):
        seen = kv[max(0, t - W + 1) : t + 1]
        if m:
            visible = (t + 1) // m
            chosen = np.arange(visible)
            if m == 4:
                scores = wi[t] @ np.maximum(qi[t] @ keys[:visible].T, 0)
                chosen = top(scores, g["attention.indexer.top_k"], margins["indexer"])
            seen = np.concatenate([seen, entries[chosen]])
        logits = np.concatenate([q[t] @ seen.T / math.sqrt(d), sinks[:, None]], axis=1)
        out[t] = softmax(logits, axis=1)[:, :-1] @ seen
    out = rope(out, t_all, freq, sign=-1)
    wo_a = g.t(p + "attn_output_a").reshape(G, -1, H // G * d)
    grouped = out.reshape(T, G, H // G * d)
    low = np.concatenate([grouped[:, i] @ wo_a[i].T for i in range(G)], axis=1)
    return low @ g.t(p + "attn_output_b").T


def expert(h, gate, up, down, limit):
    a = np.minimum(h @ gate.T, limit)
    b = np.clip(h @ up.T, -limit, limit)
    return (a * sigmoid(a) * b) @ down.T


def moe(g, layer, tokens, h, margins):
    p = f"blk.{layer}."
    k = g["expert_used_count"]
    kind = g["expert_gating_func"]
    logits = h @ g.t(p + "ffn_gate_inp").T
    s = {1: lambda x: softmax(x, axis=1), 2: sigmoid, 4: lambda x: np.sqrt(softplus(x))}[kind](logits)
    exps = [g.t(p + f"ffn_{x}_exps") for x in ("gate", "up", "down")]
    limit = g["swiglu_clamp_exp"][layer]
    out = np.zeros_like(h)
    for t in range(len(h)):
        if layer < g["hash_layer_count"]:
            ids = g.t(p + "ffn_gate_tid2eid")[tokens[t]]
        else:
            ids = top(s[t] + g.t(p + "exp_probs_b.bias"), k, margins["router"])
        w = s[t][ids]
        if kind != 1:
            w = w / (w.sum() + 1e-20)
        for i, weight in zip(ids, w * g["expert_weights_scale"]):
            out[t] += weight * expert(h[t], *(x[i] for x in exps), limit)
    shared = [g.t(p + f"ffn_{x}_shexp") for x in ("gate", "up", "down")]
    return out + expert(h, *shared, g["swiglu_clamp_shexp"][layer])


def forward(g, tokens):
    """(logits [T, V], streams after every layer, margins of the top-k choices)."""
    eps = g["attention.layer_norm_rms_epsilon"]
    x = g.t("token_embd")[tokens]
    X = np.repeat(x[:, None], g["hyper_connection.count"], axis=1)
    after, margins = [], {"indexer": [], "router": []}
    for layer in range(g["block_count"]):
        p = f"blk.{layer}."
        for half in ("attn", "ffn"):
            pre, post, comb = mix(g, p + f"hc_{half}", X)
            h = np.einsum("ti,tid->td", pre, X)
            h = unit(h, eps) * g.t(p + half + "_norm")
            if half == "attn":
                y = attention(g, p, g["attention.compress_ratios"][layer], h, margins)
            else:
                y = moe(g, layer, tokens, h, margins)
            X = post[:, :, None] * y[:, None] + np.einsum("tij,tid->tjd", comb, X)
        after.append(X)
    flat = unit(X.reshape(len(X), -1), eps)
    pre = sigmoid(flat @ g.t("output_hc_fn").T * g.t("output_hc_scale") + g.t("output_hc_base"))
    pre = pre + g["hyper_connection.epsilon"]
    h = unit(np.einsum("ti,tid->td", pre, X), eps) * g.t("output_norm")
    return h @ g.t("output").T, after, margins


def main():
    model = File(sys.argv[1])
    logits, _, _ = forward(model, np.fromfile(sys.argv[2], "<i4"))
    print(f"{logits.shape[0]} positions, {logits.shape[1]} logits, standard deviation {logits.std():.4f}")
    if len(sys.argv) > 3:
        reference = np.fromfile(sys.argv[3], "<f4").reshape(logits.shape)
        print(f"largest difference {np.abs(logits - reference).max():.3g}")


if __name__ == "__main__":
    main()
