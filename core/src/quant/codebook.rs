//! What the IQ types' codebooks have in common: entries of a few small values each, chosen by number, then given signs.

/// Unpacks a codebook at compile time: element `i` of an entry is `values[number]`, the number in bits
/// `i * 16/SIZE ..` of its word.
pub(super) const fn expand<const ENTRIES: usize, const SIZE: usize>(
    packed: &[u16; ENTRIES],
    values: &[i8],
) -> [[i8; SIZE]; ENTRIES] {
    let bits = 16 / SIZE;
    let mut entries = [[0; SIZE]; ENTRIES];
    let mut e = 0;
    while e < ENTRIES {
        let mut i = 0;
        while i < SIZE {
            entries[e][i] = values[(packed[e] >> (i * bits)) as usize & ((1 << bits) - 1)];
            i += 1;
        }
        e += 1;
    }
    entries
}

/// Bytes of all ones where a value is negated: for every eight signs, and for seven of which the eighth follows.
#[cfg(any(target_arch = "aarch64", target_arch = "wasm32"))]
pub(crate) mod signs {
    use super::even_signs;

    pub(crate) static ALL: [[u8; 8]; 256] = masks(false);
    pub(crate) static EVEN: [[u8; 8]; 128] = masks(true);

    const fn masks<const N: usize>(even: bool) -> [[u8; 8]; N] {
        let mut masks = [[0; 8]; N];
        let mut n = 0;
        while n < N {
            let signs = if even { even_signs(n as u32) } else { n as u8 };
            let mut i = 0;
            while i < 8 {
                masks[n][i] = if signs >> i & 1 == 1 { 0xFF } else { 0 };
                i += 1;
            }
            n += 1;
        }
        masks
    }
}

/// `values`, negated where bit i of `signs` is set.
#[inline(always)]
pub(super) fn signed<const SIZE: usize>(values: &[i8; SIZE], signs: u8) -> [i8; SIZE] {
    core::array::from_fn(|i| if signs & (1 << i) != 0 { -values[i] } else { values[i] })
}

/// Eight signs from the first seven (the bits above do not count): the eighth makes the number of negative ones even.
#[inline(always)]
pub(super) const fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 0x7F) as u8;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}
