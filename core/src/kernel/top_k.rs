//! The k largest of many values, ties to the lower index, without sorting.

/// A `u32` that orders as the f32 does, with -0 = 0 and NaN below everything: so that NaN is never preferred.
fn key(x: f32) -> u32 {
    if x.is_nan() {
        return 0;
    }
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// Writes the indices of the `out.len()` largest `values` in ascending order of index (ties: the lower index wins).
/// Returns how many were written: `min(out.len(), values.len())`.
///
/// Radix selection: the k-th largest key is found byte by byte from four histograms, then one pass in order of index
/// takes what lies above it and, of what equals it, the first few. Linear in `values.len()` whatever they are.
pub fn top_k(values: &[f32], out: &mut [u32]) -> usize {
    let k = out.len().min(values.len());
    if k == 0 {
        return 0;
    }
    let mut wanted = k; // of the keys that share `prefix` in the bits decided so far
    let mut prefix = 0u32;
    for shift in [24, 16, 8, 0] {
        let mut histogram = [0usize; 256];
        let decided = u32::MAX.checked_shl(shift + 8).unwrap_or(0);
        for &x in values {
            let key = key(x);
            if key & decided == prefix & decided {
                histogram[(key >> shift & 255) as usize] += 1;
            }
        }
        let mut digit = 255;
        while histogram[digit] < wanted {
            wanted -= histogram[digit];
            digit -= 1; // ends: the digits' counts add up to at least `wanted`
        }
        prefix |= (digit as u32) << shift;
    }
    let mut n = 0;
    for (i, &x) in values.iter().enumerate() {
        let key = key(x);
        let take = key > prefix || key == prefix && wanted > 0;
        if take {
            if key == prefix {
                wanted -= 1;
            }
            out[n] = i as u32;
            n += 1;
            if n == k {
                break;
            }
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f32], k: usize) {
        // The definition: sort by (value descending, NaN last, index ascending), keep k, order by index.
        extern crate std;
        use std::vec::Vec;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| {
            let v = |i: usize| if values[i].is_nan() { None } else { Some(values[i]) };
            match (v(a), v(b)) {
                (None, None) => a.cmp(&b),
                (None, _) => core::cmp::Ordering::Greater,
                (_, None) => core::cmp::Ordering::Less,
                (Some(x), Some(y)) => y.partial_cmp(&x).unwrap().then(a.cmp(&b)),
            }
        });
        let mut want: Vec<u32> = order[..k.min(values.len())].iter().map(|&i| i as u32).collect();
        want.sort_unstable();
        let mut out = std::vec![0; k];
        let n = top_k(values, &mut out);
        assert_eq!(out[..n], want);
    }

    #[test]
    fn agrees_with_sorting() {
        let mut state = 1u64;
        for n in 0..200 {
            let values: std::vec::Vec<f32> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    match state >> 60 {
                        0 => f32::NAN,
                        1..=3 => 0.0,
                        4 => -0.0,
                        5 => f32::NEG_INFINITY,
                        _ => ((state >> 33) as i32 >> 20) as f32 / 7.0,
                    }
                })
                .collect();
            for k in [0, 1, 2, 7, 50, 200] {
                check(&values, k);
            }
        }
    }
    extern crate std;
}
