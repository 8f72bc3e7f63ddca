"""The forward pass of transformers' DeepseekV4ForCausalLM, arranged for training on a few CPU cores.

It reads the parameters of a transformers model and computes the same logits (`check` below compares them), about
five times faster: whole-sequence only (no cache), the sliding window in chunks instead of a full [T, T] matrix,
streams and Sinkhorn steps laid out with the token as the innermost index so that inductor can fuse and vectorize
them, and the experts as one matrix product each over sorted tokens. The indexer is left out: as long as there are no
more compressed entries than index_topk it selects them all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

EPS = 1e-6
PIECE = 1024  # tokens


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on the last dims of x; cos/sin have half as many columns (adjacent pairs)."""
    r = 2 * cos.shape[-1]
    a, b = x[..., -r:].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    return torch.cat((x[..., :-r], turned), dim=-1)


def mix(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, norm: Tensor, iters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hyper-connection before a block. streams [n, N, D] -> normed input [N, D], post [n, N], comb [n*n, N]."""
    n, tokens, dim = streams.shape
    m = torch.bmm(fn.view(-1, n, dim).transpose(0, 1), streams.transpose(1, 2)).sum(0)  # [(2+n)n, N]
    m = m * torch.rsqrt(streams.square().mean((0, 2)) + EPS)
    pre = torch.sigmoid(m[:n] * scale[0] + base[:n, None]) + EPS
    post = 2 * torch.sigmoid(m[n : 2 * n] * scale[1] + base[n : 2 * n, None])
    c = m[2 * n :] * scale[2] + base[2 * n :, None]
    cell = [[c[i * n + j].exp() for j in range(n)] for i in range(n)]  # |c| stays small: exp needs no maximum
    for i in range(n):
        total = sum(cell[i][1:], cell[i][0])
        cell[i] = [v / total + EPS for v in cell[i]]
    for step in range(iters):
        if step:
            for i in range(n):
                inv = 1 / (sum(cell[i][1:], cell[i][0]) + EPS)
                cell[i] = [v * inv for v in cell[i]]
        for j in range(n):
            inv = 1 / (sum((cell[i][j] for i in range(1, n)), cell[0][j]) + EPS)
            for i in range(n):
                cell[i][j] = cell[i][j] * inv
    comb = torch.stack([v for row in cell for v in row])
    h = (pre.unsqueeze(-1) * streams).sum(0)
    return rms(h) * norm, post, comb


def merge(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """After a block: X'[j] = post[j] * y + sum_i comb[i][j] * X[i]."""
    n = streams.shape[0]
    out = []
    for j in range(n):
        x = post[j, :, None] * y
        for i in range(n):
            x = x + comb[i * n + j, :, None] * streams[i]
        out.append(x)
    return torch.stack(out)


def collapse(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, norm: Tensor) -> Tensor:
    n, _, dim = streams.shape
    m = torch.bmm(fn.view(-1, n, dim).transpose(0, 1), streams.transpose(1, 2)).sum(0)
    m = m * torch.rsqrt(streams.square().mean((0, 2)) + EPS)
    pre = torch.sigmoid(m * scale + base[:, None]) + EPS
    return rms((pre.unsqueeze(-1) * streams).sum(0)) * norm


def compress(kv: Tensor, gate: Tensor, ape: Tensor, norm: Tensor, cos: Tensor, sin: Tensor, overlap: bool) -> Tensor:
    """kv, gate [B, T, d or 2d] -> entries [B, S, d]; cos/sin are those of the entries' first tokens."""
    m = ape.shape[0]
    kv, gate = kv.unflatten(1, (-1, m)), gate.unflatten(1, (-1, m)) + ape
    if overlap:
        d = kv.shape[-1] // 2
        before = F.pad(kv[:, :-1, :, :d], (0, 0, 0, 0, 1, 0))
        before_gate = F.pad(gate[:, :-1, :, :d], (0, 0, 0, 0, 1, 0), value=float("-inf"))
        kv, gate = torch.cat((before, kv[..., d:]), 2), torch.cat((before_gate, gate[..., d:]), 2)
    return rotate(rms((kv * gate.softmax(2)).sum(2)) * norm, cos, sin)


def attend(q: Tensor, kv: Tensor, sinks: Tensor, window_mask: Tensor, entries: Tensor | None, entry_mask: Tensor | None,
           cos: Tensor, sin: Tensor) -> Tensor:
    """q [B, T, H, d] (not yet normed), kv [B, T, d] -> [B, T, H*d]. Masks hold 0 and 1.

    q has unit RMS and kv a learned one, so that logits are bounded: exp needs no running maximum.
    """
    B, T, H, d = q.shape
    W = window_mask.shape[-1] // 2
    q = rotate(rms(q), cos[:, None], sin[:, None]) * d**-0.5
    kv = rotate(kv, cos, sin)
    rows = q.unflatten(1, (-1, W)).transpose(2, 3).reshape(-1, H * W, d)  # [B*chunks, H*W, d]
    chunks = T // W
    padded = F.pad(kv, (0, 0, W, 0)).unflatten(1, (-1, W))
    keys = torch.cat((padded[:, :-1], padded[:, 1:]), 2).flatten(0, 1)  # [B*chunks, 2W, d]
    e = torch.bmm(rows, keys.transpose(1, 2)).view(B, chunks, H, W, 2 * W).exp() * window_mask
    total = e.sum(-1) + sinks.exp()[:, None]
    out = torch.bmm(e.view(B * chunks, H * W, 2 * W), keys).view(B, chunks, H, W, d)
    if entries is not None:
        S = entries.shape[1]
        logits = torch.bmm(rows.view(B, chunks * H * W, d), entries.transpose(1, 2))
        e = logits.view(B, chunks, H, W, S).exp() * entry_mask
        total = total + e.sum(-1)
        out = out + torch.bmm(e.view(B, -1, S), entries).view(B, chunks, H, W, d)
    out = (out / total.unsqueeze(-1)).transpose(2, 3).reshape(B, T, H, d)
    return rotate(out, cos[:, None], -sin[:, None])


def experts(x: Tensor, gate_up: Tensor, down: Tensor, index: Tensor, weight: Tensor, limit: float) -> Tensor:
    """Routed experts over tokens sorted by expert. x [N, D], index and weight [N, k]."""
    k = index.shape[1]
    flat = index.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=gate_up.shape[0]).tolist()
    token = order // k
    out = []
    for e, part in enumerate(x[token].split(counts)):
        gate, up = (part @ gate_up[e].t()).chunk(2, -1)
        out.append((F.silu(gate.clamp(max=limit)) * up.clamp(-limit, limit)) @ down[e].t())
    y = torch.cat(out) * weight.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, token, y)


@torch.no_grad()
def mxfp4(w: Tensor) -> Tensor:
    """w rounded as GGML's MXFP4 stores it (blocks of 32, power-of-two scale)."""
    blocks = w.unflatten(-1, (-1, 32))
    top = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-20)
    scale = torch.exp2(top.log2().floor() - 2)
    x = (blocks / scale).abs()
    # E2M1 steps by 1/2 below 2, by 1 below 4, by 2 up to 6.
    size = torch.where(x < 2, (x * 2).round() / 2, torch.where(x < 4, x.round(), ((x / 2).round() * 2).clamp(max=6)))
    return (size * blocks.sign() * scale).flatten(-2)


class Fast:
    """Callable with the transformers model's own parameters: logits = Fast(model)(ids)."""

    def __init__(self, model: DeepseekV4ForCausalLM, compiled: bool = True):
        self.model, self.config = model, model.config
        self.load: dict[int, Tensor] = {}  # tokens per expert of each score-routed layer, summed over passes
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.mix, self.merge, self.collapse = wrap(mix), wrap(merge), wrap(collapse)
        self.rounding: list[Tensor] = []  # see round_experts
        self._cache: dict[tuple, Tensor] = {}

    def round_experts(self) -> None:
        """Compute with the experts' second matrices as MXFP4 will store them; gradients pass unchanged.

        To be called after every change of the weights.
        """
        downs = [layer.mlp.experts.down_proj for layer in self.model.model.layers]
        self.rounding = [mxfp4(w) - w.detach() for w in downs]

    def angles(self, kind: str, count: int, step: int) -> tuple[Tensor, Tensor]:
        key = (kind, count, step)
        if key not in self._cache:
            inv = getattr(self.model.model.rotary_emb, f"{kind}_inv_freq").float()
            a = torch.arange(count)[:, None].float() * step * inv
            self._cache[key] = (a.cos(), a.sin())
        return self._cache[key]

    def window_mask(self, T: int, window: int) -> Tensor:
        """[chunks, 1, W, 2W]: chunk c's query i sees key j of (previous chunk, own chunk)."""
        key = ("window", T, window)
        if key not in self._cache:
            W = self.config.sliding_window
            back = torch.arange(W)[:, None] + W - torch.arange(2 * W)
            mask = ((back >= 0) & (back < window)).float().expand(T // W, 1, W, 2 * W).clone()
            mask[0, :, :, :W] = 0
            self._cache[key] = mask
        return self._cache[key]

    def entry_mask(self, T: int, m: int) -> Tensor:
        key = ("entry", T, m)
        if key not in self._cache:
            W = self.config.sliding_window
            mask = torch.arange(T // m) < (torch.arange(T)[:, None] + 1) // m
            self._cache[key] = mask.float().view(T // W, 1, W, T // m).contiguous()
        return self._cache[key]

    def hidden(self, ids: Tensor, window: int | None = None, early: list[Tensor] | None = None) -> Tensor:
        """Final normed states [B*T, D]. `window`: a smaller sliding window for the compressed layers (training only).

        `early` receives the state [B*T, D] (mean of the streams) that the first compressed layer gets.
        """
        c, base = self.config, self.model.model
        B, T = ids.shape
        d, H, limit = c.head_dim, c.num_attention_heads, c.swiglu_limit
        x = base.embed_tokens(ids.flatten())
        # The streams go in pieces of one size, so that the compiled functions see one shape only.
        piece = PIECE if B * T % PIECE == 0 else B * T
        streams = [part.expand(c.hc_mult, -1, -1).contiguous() for part in x.split(piece)]
        def before(hc, norm):
            parts = [self.mix(s, hc.fn, hc.base, hc.scale, norm.weight, c.hc_sinkhorn_iters) for s in streams]
            return torch.cat([p[0] for p in parts]), [p[1:] for p in parts]
        def after(y, ways):
            return [self.merge(s, part, *way) for s, part, way in zip(streams, y.split(piece), ways)]
        for i, layer in enumerate(base.layers):
            attn, kind = layer.self_attn, layer.self_attn.rope_layer_type
            if early is not None and not early and attn.compressor is not None:
                early.append(torch.cat([s.mean(0) for s in streams]))
            h, ways = before(layer.attn_hc, layer.input_layernorm)
            cos, sin = self.angles(kind, T, 1)
            comp = attn.compressor
            weights = [attn.q_a_proj.weight, attn.kv_proj.weight]
            if comp is not None:
                weights += [comp.kv_proj.weight, comp.gate_proj.weight]
            parts = (h @ torch.cat(weights).t()).split([w.shape[0] for w in weights], -1)  # one product for all four
            q = (rms(parts[0]) * attn.q_a_norm.weight) @ attn.q_b_proj.weight.t()
            kv = rms(parts[1]) * attn.kv_norm.weight
            entries = entry_mask = None
            if comp is not None and T >= comp.compress_rate:
                m = comp.compress_rate
                entries = compress(parts[2].view(B, T, -1), parts[3].view(B, T, -1), comp.position_bias,
                                        comp.kv_norm.weight, *self.angles(kind, T // m, m), m == 4)
                entry_mask = self.entry_mask(T, m)
            mask = self.window_mask(T, c.sliding_window if comp is None or window is None else window)
            o = attend(q.view(B, T, H, d), kv.view(B, T, d), attn.sinks, mask, entries, entry_mask, cos, sin)
            o = o.reshape(B * T, c.o_groups, -1).transpose(0, 1)
            o = torch.bmm(o, attn.o_a_proj.weight.view(c.o_groups, c.o_lora_rank, -1).transpose(1, 2))
            y = o.transpose(0, 1).flatten(1) @ attn.o_b_proj.weight.t()
            streams = after(y, ways)

            mlp = layer.mlp
            h, ways = before(layer.ffn_hc, layer.post_attention_layernorm)
            scores = F.softplus(h @ mlp.gate.weight.t()).sqrt()
            if mlp.is_hash:
                index = mlp.gate.tid2eid[ids.flatten()]
            else:
                index = (scores.detach() + mlp.gate.e_score_correction_bias).topk(c.num_experts_per_tok, -1, sorted=False).indices
                load = torch.bincount(index.flatten(), minlength=c.n_routed_experts)
                self.load[i] = self.load[i] + load if i in self.load else load
            w = scores.gather(1, index)
            w = w / (w.sum(-1, keepdim=True) + 1e-20) * c.routed_scaling_factor
            down = mlp.experts.down_proj
            if self.rounding:
                down = down + self.rounding[i]
            y = experts(h, mlp.experts.gate_up_proj, down, index, w, limit)
            s = mlp.shared_experts
            y = y + (F.silu((h @ s.gate_proj.weight.t()).clamp(max=limit))
                     * (h @ s.up_proj.weight.t()).clamp(-limit, limit)) @ s.down_proj.weight.t()
            streams = after(y, ways)
        head = base.hc_head
        return torch.cat([self.collapse(s, head.hc_fn, head.hc_base, head.hc_scale, base.norm.weight) for s in streams])

    def __call__(self, ids: Tensor, window: int | None = None) -> Tensor:
        return self.hidden(ids, window) @ self.model.lm_head.weight.t()


def check(model: DeepseekV4ForCausalLM, fast: Fast, length: int = 256) -> float:
    """The largest difference between the logits of this file and those of transformers."""
    ids = torch.randint(0, model.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (model(ids).logits.flatten(0, 1) - fast(ids)).abs().max().item()
