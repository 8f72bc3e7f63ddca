//! x86-64: detection, AVX2 and AVX-512.

pub(super) mod avx2;
pub(super) mod avx512;
mod bytes;
mod in_order;

use super::level::Ask;
use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Leaf 7's EBX and ECX, if the operating system saves the registers that `state` names (bits of XCR0).
fn features(state: u64) -> Option<(u32, u32)> {
    const OSXSAVE: u32 = 1 << 27;
    const FMA_F16C_AVX: u32 = 1 << 12 | 1 << 29 | 1 << 28;
    let leaf1 = __cpuid(1).ecx;
    if __cpuid(0).eax < 7 || leaf1 & OSXSAVE == 0 || leaf1 & FMA_F16C_AVX != FMA_F16C_AVX {
        return None;
    }
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: OSXSAVE says that XGETBV may be executed.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE implies XSAVE.
    let saved = unsafe { xcr0() };
    let leaf7 = __cpuid_count(7, 0);
    (saved & state == state).then_some((leaf7.ebx, leaf7.ecx))
}

/// AVX2, BMI1, BMI2, FMA, F16C.
pub(super) fn has_avx2() -> bool {
    const NEED: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    features(0b110).is_some_and(|(ebx, _)| ebx & NEED == NEED)
}

/// Where weights are best asked for, as measured. An Intel (Emerald Rapids): in both caches, 1.1 to 1.2 times as fast as in
/// the second alone. AMD's where the first-level cache has 48 KiB, as a Zen 5's: in that one alone, 1.04 to 1.11 times (in
/// both it was slower); a Zen 4, whose first has 32, was slower so.
pub(super) fn ask() -> Ask {
    const CACHES: u32 = 0x8000_001d;
    let vendor = __cpuid(0);
    if [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel" {
        return Ask::Both;
    }
    if __cpuid(0x8000_0000).eax < CACHES {
        return Ask::Second;
    }
    // Ways, partitions and bytes of a line, less one each; sets, less one.
    let first = __cpuid_count(CACHES, 0);
    let field = |low: u32, bits: u32| (first.ebx >> low & ((1 << bits) - 1)) + 1;
    let bytes = field(22, 10) * field(12, 10) * field(0, 12) * (first.ecx + 1);
    if bytes >= 48 << 10 { Ask::First } else { Ask::Second }
}

/// All of AVX2's, and AVX-512 F, DQ, BW, VL, VNNI.
pub(super) fn has_avx512() -> bool {
    const NEED: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
    const VNNI: u32 = 1 << 11;
    has_avx2() && features(0b1110_0110).is_some_and(|(ebx, ecx)| ebx & NEED == NEED && ecx & VNNI != 0)
}
