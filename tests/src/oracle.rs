//! The model a second time, in f64, read off the spec page "model", sections 2 to 4: every token of the input at once,
//! layer by layer, nothing remembered, nothing shared with the core's kernels and blocks. Slow and plain on purpose.
//!
//! From the core it takes the sizes and the decoded weights.

use dsv4_core::config::{Config, Ratio, Scoring};
use dsv4_core::model::Model;
use dsv4_core::tensor::Matrix;
use dsv4_core::weights::{Attention, Choice, Compressor, Hyper, Indexer, Layer, Moe};
use std::f64::consts::PI;

/// One vector a row.
type Rows = Vec<Vec<f64>>;

/// What the oracle says of some tokens.
pub struct Answer {
    /// [tokens, V].
    pub logits: Rows,
    /// How clear the closest choice of an expert or of an entry was: the gap between the last taken and the first
    /// left. An f32 computation may decide differently where this is near its rounding.
    pub margin: f64,
}

/// The logits of every token.
pub fn evaluate(model: &Model<'_>, tokens: &[u32]) -> Answer {
    let mut oracle = Oracle { config: model.config(), margin: f64::INFINITY };
    let head = model.weights().head();
    let config = oracle.config;

    let embd = rows(&head.token_embd);
    let mut streams: Vec<Rows> = tokens.iter().map(|&t| vec![embd[t as usize].clone(); config.streams]).collect();
    for index in 0..config.layers {
        let layer = model.weights().layer(index);
        streams = oracle.half_block(&streams, &layer.hyper_attn, &layer.attn_norm, |oracle, h| {
            oracle.attention(&layer, config.ratios[index], h)
        });
        streams = oracle.half_block(&streams, &layer.hyper_ffn, &layer.ffn_norm, |oracle, h| {
            oracle.moe(&layer.moe, index, tokens, h)
        });
    }

    let (fn_, base, scale) = (rows(&head.hyper.fn_), vector(&head.hyper.base), vector(&head.hyper.scale)[0]);
    let (norm, output) = (vector(&head.output_norm), rows(&head.output));
    let logits = streams.iter().map(|x| {
        let m = times(&fn_, &unit(&x.concat(), config.rms_eps));
        let pre: Vec<f64> =
            m.iter().zip(&base).map(|(m, b)| sigmoid(m * scale + b) + f64::from(config.hyper_eps)).collect();
        times(&output, &normed(&weighted_sum(&pre, x), &norm, config.rms_eps))
    });
    Answer { logits: logits.collect(), margin: oracle.margin }
}

struct Oracle<'a> {
    config: &'a Config,
    margin: f64,
}

impl Oracle<'_> {
    /// `(pre, post, comb) = mix(X); h = RMSNorm(sum_i pre[i] X[i]); y = block(h); X'[j] = post[j] y + sum_i comb[i][j] X[i]`
    fn half_block(
        &mut self,
        streams: &[Rows],
        hyper: &Hyper<'_>,
        norm: &Matrix<'_>,
        block: impl FnOnce(&mut Self, &Rows) -> Rows,
    ) -> Vec<Rows> {
        let (eps, norm) = (self.config.rms_eps, vector(norm));
        let mixes: Vec<Mix> = mix(self.config, hyper, streams);
        let h: Rows = streams.iter().zip(&mixes).map(|(x, m)| normed(&weighted_sum(&m.pre, x), &norm, eps)).collect();
        let y = block(self, &h);
        let after = |((x, m), y): ((&Rows, &Mix), &Vec<f64>)| {
            let stream = |j: usize| {
                let column: Vec<f64> = m.comb.iter().map(|row| row[j]).collect();
                let kept = weighted_sum(&column, x);
                kept.iter().zip(y).map(|(kept, y)| m.post[j] * y + kept).collect()
            };
            (0..x.len()).map(stream).collect()
        };
        streams.iter().zip(&mixes).zip(&y).map(after).collect()
    }

    fn attention(&mut self, layer: &Layer<'_>, ratio: Ratio, h: &Rows) -> Rows {
        let c = self.config;
        let w: &Attention<'_> = &layer.attention;
        let freq = frequencies(c, ratio != Ratio::Window);
        let m = ratio.entry_tokens();

        let (q_a, q_a_norm, q_b) = (rows(&w.q_a), vector(&w.q_a_norm), rows(&w.q_b));
        let qr: Rows = h.iter().map(|h| normed(&times(&q_a, h), &q_a_norm, c.rms_eps)).collect();
        let (kv, kv_norm) = (rows(&w.kv), vector(&w.kv_norm));
        let key = |(t, h): (usize, &Vec<f64>)| rotated(normed(&times(&kv, h), &kv_norm, c.rms_eps), t as f64, &freq);
        let keys: Rows = h.iter().enumerate().map(key).collect();

        let entries = layer.compressor.as_ref().map_or(vec![], |w| compress(c, w, m, &freq, h));
        let chosen = match &layer.indexer {
            Some(indexer) => self.index(indexer, &freq, h, &qr),
            None => (0..h.len()).map(|t| (0..(t + 1).checked_div(m).unwrap_or(0)).collect()).collect(),
        };

        let (sinks, output_a, output_b) = (vector(&w.sinks), rows(&w.output_a), rows(&w.output_b));
        let attend = |t: usize| {
            let q = times(&q_b, &qr[t]);
            let window = &keys[(t + 1).saturating_sub(c.window)..=t];
            let seen: Vec<&Vec<f64>> = window.iter().chain(chosen[t].iter().map(|&e: &usize| &entries[e])).collect();
            let head = |(head, q): (usize, &[f64])| {
                let q = rotated(unit(q, c.rms_eps), t as f64, &freq);
                let mut logits: Vec<f64> = seen.iter().map(|k| dot(&q, k) / (c.head_size as f64).sqrt()).collect();
                logits.push(sinks[head]);
                let p = softmax(&logits);
                let mut out = vec![0.0; c.head_size];
                for (p, value) in p.iter().zip(&seen) {
                    add(&mut out, *p, value);
                }
                rotated(out, -(t as f64), &freq)
            };
            let out: Vec<f64> = q.chunks(c.head_size).enumerate().flat_map(head).collect();
            // Group g: its own rows of output_a over its own heads.
            let groups = out.chunks(w.output_a.cols()).zip(output_a.chunks(c.output_rank));
            let low: Vec<f64> = groups.flat_map(|(out, rows)| rows.iter().map(|row| dot(row, out))).collect();
            times(&output_b, &low)
        };
        (0..h.len()).map(attend).collect()
    }

    /// The entries that each token sees: the top k of `sum_h w_h relu(qi_h . k_s)` over the finished ones.
    fn index(&mut self, w: &Indexer<'_>, freq: &[f64], h: &Rows, qr: &Rows) -> Vec<Vec<usize>> {
        let c = self.config;
        let keys = compress(c, &w.compressor, 4, freq, h);
        let (q_b, proj) = (rows(&w.q_b), rows(&w.proj));
        let scale = ((c.indexer_size * c.indexer_heads) as f64).sqrt();
        (0..h.len())
            .map(|t| {
                let q = times(&q_b, &qr[t]);
                let q: Rows = q.chunks(c.indexer_size).map(|q| rotated(q.to_vec(), t as f64, freq)).collect();
                let head_weights = times(&proj, &h[t]);
                let score = |key: &Vec<f64>| {
                    q.iter().zip(&head_weights).map(|(q, w)| w / scale * dot(q, key).max(0.0)).sum::<f64>()
                };
                let scores: Vec<f64> = keys[..(t + 1) / 4].iter().map(score).collect();
                self.top(&scores, c.indexer_top_k)
            })
            .collect()
    }

    fn moe(&mut self, w: &Moe<'_>, layer: usize, tokens: &[u32], h: &Rows) -> Rows {
        let c = self.config;
        let router = rows(&w.router);
        let expert = |e: usize| [rows(&w.gate.expert(e)), rows(&w.up.expert(e)), rows(&w.down.expert(e))];
        let experts: Vec<[Rows; 3]> = (0..c.experts).map(expert).collect();
        let shared = w.shared.map(|s| [rows(&s.gate), rows(&s.up), rows(&s.down)]);
        let mut y = vec![vec![0.0; c.hidden]; h.len()];
        for ((y, h), &token) in y.iter_mut().zip(h).zip(tokens) {
            let scores = score(c.scoring, &times(&router, h));
            let chosen = match &w.choice {
                Choice::Hash(table) => (0..c.experts_used).map(|i| table.get(token as usize, i) as usize).collect(),
                Choice::Score(bias) => {
                    let biased: Vec<f64> = scores.iter().zip(vector(bias)).map(|(s, b)| s + b).collect();
                    self.top(&biased, c.experts_used)
                }
            };
            let total = match c.scoring {
                Scoring::Softmax => 1.0,
                _ => chosen.iter().map(|&e| scores[e]).sum::<f64>() + 1e-20,
            };
            for e in chosen {
                let weight = scores[e] / total * f64::from(c.expert_scale);
                add(y, weight, &swiglu(&experts[e], h, c.clamp[layer]));
            }
            if let Some(shared) = &shared {
                add(y, 1.0, &swiglu(shared, h, c.clamp_shared[layer]));
            }
        }
        y
    }

    /// The k largest, the lower index first among equals. All of them while there are at most k.
    fn top(&mut self, scores: &[f64], k: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // stable
        if let (Some(&last), Some(&left)) = (order.get(k - 1), order.get(k)) {
            let (last, left) = (scores[last], scores[left]);
            // Scores that relu made zero are zero in any precision: the index decides between them.
            if last != 0.0 || left != 0.0 {
                self.margin = self.margin.min(last - left);
            }
        }
        order.truncate(k);
        order
    }
}

/// The mixing weights of one token.
struct Mix {
    pre: Vec<f64>,
    post: Vec<f64>,
    comb: Rows,
}

fn mix(c: &Config, hyper: &Hyper<'_>, streams: &[Rows]) -> Vec<Mix> {
    let (fn_, base, scale) = (rows(&hyper.fn_), vector(&hyper.base), vector(&hyper.scale));
    let (n, eps) = (c.streams, f64::from(c.hyper_eps));
    let one = |x: &Rows| {
        let m = times(&fn_, &unit(&x.concat(), c.rms_eps));
        let logit = |i: usize, part: usize| m[i] * scale[part] + base[i];
        let mut comb: Rows =
            (0..n).map(|i| softmax(&(0..n).map(|j| logit(2 * n + i * n + j, 2)).collect::<Vec<_>>())).collect();
        comb.iter_mut().flatten().for_each(|x| *x += eps);
        divide_columns(&mut comb, eps);
        for _ in 1..c.sinkhorn {
            for row in &mut comb {
                let sum = row.iter().sum::<f64>() + eps;
                row.iter_mut().for_each(|x| *x /= sum);
            }
            divide_columns(&mut comb, eps);
        }
        Mix {
            pre: (0..n).map(|i| sigmoid(logit(i, 0)) + eps).collect(),
            post: (n..2 * n).map(|i| 2.0 * sigmoid(logit(i, 1))).collect(),
            comb,
        }
    };
    streams.iter().map(one).collect()
}

fn divide_columns(comb: &mut Rows, eps: f64) {
    for j in 0..comb.len() {
        let sum = comb.iter().map(|row| row[j]).sum::<f64>() + eps;
        comb.iter_mut().for_each(|row| row[j] /= sum);
    }
}

/// All finished entries of the tokens: entry w covers tokens w*m .. w*m+m-1, and for m = 4 those before too.
fn compress(c: &Config, w: &Compressor<'_>, m: usize, freq: &[f64], h: &Rows) -> Rows {
    let (kv, gate, ape, norm) = (rows(&w.kv), rows(&w.gate), rows(&w.ape), vector(&w.norm));
    let size = norm.len();
    let values: Rows = h.iter().map(|h| times(&kv, h)).collect();
    let gates = |(t, h): (usize, &Vec<f64>)| times(&gate, h).iter().zip(&ape[t % m]).map(|(z, ape)| z + ape).collect();
    let gates: Rows = h.iter().enumerate().map(gates).collect();
    (0..h.len() / m)
        .map(|window| {
            // (token, first column) of each slot.
            let now = window * m..(window + 1) * m;
            let slots: Vec<(usize, usize)> = match m {
                4 if window > 0 => (window * 4 - 4..window * 4).map(|t| (t, 0)).chain(now.map(|t| (t, size))).collect(),
                4 => now.map(|t| (t, size)).collect(),
                _ => now.map(|t| (t, 0)).collect(),
            };
            let channel = |j: usize| {
                let p = softmax(&slots.iter().map(|&(t, first)| gates[t][first + j]).collect::<Vec<_>>());
                p.iter().zip(&slots).map(|(p, &(t, first))| p * values[t][first + j]).sum()
            };
            let entry: Vec<f64> = (0..size).map(channel).collect();
            rotated(normed(&entry, &norm, c.rms_eps), (window * m) as f64, freq)
        })
        .collect()
}

/// r/2 angles a position.
fn frequencies(c: &Config, compressed: bool) -> Vec<f64> {
    let r = c.rotary as f64;
    let base = if compressed { c.compress_rope_base } else { c.rope_base };
    let plain = (0..c.rotary / 2).map(|i| base.powf(-2.0 * i as f64 / r));
    let (true, Some(yarn)) = (compressed, c.yarn) else { return plain.collect() };
    let corr = |n: f64| r * (yarn.original_context / (2.0 * PI * n)).ln() / (2.0 * base.ln());
    let low = corr(yarn.beta_fast).floor().max(0.0);
    let high = corr(yarn.beta_slow).ceil().min(r - 1.0);
    let high = if low == high { high + 0.001 } else { high };
    let scaled = |(i, f): (usize, f64)| {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        f / yarn.factor * ramp + f * (1.0 - ramp)
    };
    plain.enumerate().map(scaled).collect()
}

/// Turns the pairs (2i, 2i+1) of the last dims by `position * freq[i]`.
fn rotated(mut x: Vec<f64>, position: f64, freq: &[f64]) -> Vec<f64> {
    let start = x.len() - 2 * freq.len();
    for (pair, f) in x[start..].chunks_mut(2).zip(freq) {
        let (sin, cos) = (position * f).sin_cos();
        let (a, b) = (pair[0], pair[1]);
        (pair[0], pair[1]) = (a * cos - b * sin, a * sin + b * cos);
    }
    x
}

/// `W2 . (silu(min(W1 . h, c)) * clamp(W3 . h, -c, c))`
fn swiglu([gate, up, down]: &[Rows; 3], h: &[f64], clamp: f32) -> Vec<f64> {
    let clamp = f64::from(clamp);
    let inner = times(gate, h).into_iter().zip(times(up, h)).map(|(g, u)| {
        let g = g.min(clamp);
        g * sigmoid(g) * u.clamp(-clamp, clamp)
    });
    times(down, &inner.collect::<Vec<_>>())
}

fn score(scoring: Scoring, logits: &[f64]) -> Vec<f64> {
    match scoring {
        Scoring::Softmax => softmax(logits),
        Scoring::Sigmoid => logits.iter().map(|&x| sigmoid(x)).collect(),
        Scoring::SqrtSoftplus => logits.iter().map(|x| x.exp().ln_1p().sqrt()).collect(),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(x));
    let e: Vec<f64> = x.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// x divided by its root mean square.
fn unit(x: &[f64], eps: f32) -> Vec<f64> {
    let rms = (dot(x, x) / x.len() as f64 + f64::from(eps)).sqrt();
    x.iter().map(|x| x / rms).collect()
}

fn normed(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    unit(x, eps).iter().zip(weight).map(|(x, w)| x * w).collect()
}

fn weighted_sum(weights: &[f64], vectors: &Rows) -> Vec<f64> {
    let mut sum = vec![0.0; vectors[0].len()];
    for (w, x) in weights.iter().zip(vectors) {
        add(&mut sum, *w, x);
    }
    sum
}

/// y += a x
fn add(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| dot(row, x)).collect()
}

fn rows(matrix: &Matrix<'_>) -> Rows {
    let row = |i| {
        let mut values = vec![0.0; matrix.cols()];
        matrix.decode(i, 0, &mut values);
        values.into_iter().map(f64::from).collect()
    };
    (0..matrix.rows()).map(row).collect()
}

fn vector(matrix: &Matrix<'_>) -> Vec<f64> {
    rows(matrix).swap_remove(0)
}
