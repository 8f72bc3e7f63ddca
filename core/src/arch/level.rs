//! Which instructions may be used: a value that is only made where they were found, and that a caller may pass on.
//!
//! Kernels are plain loops over arrays, compiled once per level ([`Level::vectorize`]); only the products that the time
//! goes into are written with instructions of their own ([`integer`](super::integer), [`float`](super::float)). No level
//! contracts a multiplication and an addition into one rounding, and every sum has one order: **all levels give the same
//! bits**.

/// The instruction sets, from the specification up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// What every processor of the target has.
    Scalar,
    /// AVX2 (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// NEON, which every AArch64 processor has.
    Neon,
    /// NEON with its dot product (ARMv8.2's `dotprod`).
    NeonDot,
    /// WebAssembly's SIMD128, where this crate is compiled for it: a module has the instructions or does not load.
    Simd128,
    /// SIMD128 and relaxed SIMD, as compiled.
    RelaxedSimd,
    /// The same, adding products in 16 bits: where the engine has no single instruction for sums of 32.
    RelaxedSimd16,
}

impl Kind {
    /// All of them, each architecture's slowest first.
    pub const ALL: [Self; 8] = [
        Self::Scalar,
        Self::Avx2,
        Self::Avx512,
        Self::Neon,
        Self::NeonDot,
        Self::Simd128,
        Self::RelaxedSimd,
        Self::RelaxedSimd16,
    ];

    /// The name that the `dsv4` command takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dot",
            Self::Simd128 => "simd128",
            Self::RelaxedSimd => "relaxed-simd",
            Self::RelaxedSimd16 => "relaxed-simd-16",
        }
    }
}

/// Into which of its caches a processor is best asked to bring weights ahead of their use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "others are not asked"))]
pub(super) enum Ask {
    /// The second-level cache.
    Second,
    /// The first-level cache.
    First,
    /// Both, one after the other, the second-level cache farther ahead; and of several places of a matrix in turns.
    Both,
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    kind: Kind,
    ask: Ask,
}

impl Level {
    /// The specification, everywhere.
    pub const SCALAR: Self = Self { kind: Kind::Scalar, ask: Ask::Second };

    /// The best that this processor and its operating system offer, found by the processor's own instructions.
    pub fn detect() -> Self {
        Kind::ALL.into_iter().rev().find_map(Self::new).unwrap_or(Self::SCALAR)
    }

    /// `kind`, if this processor has it.
    pub fn new(kind: Kind) -> Option<Self> {
        let has = match kind {
            Kind::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => super::x86_64::has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => super::x86_64::has_avx512(),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => super::aarch64::has_dotprod(),
            Kind::Simd128 => cfg!(all(target_arch = "wasm32", target_feature = "simd128")),
            Kind::RelaxedSimd => cfg!(all(target_arch = "wasm32", target_feature = "relaxed-simd")),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::RelaxedSimd16 => super::wasm32::pairs_are_cut(),
            _ => false,
        };
        #[cfg(target_arch = "x86_64")]
        let ask = super::x86_64::ask();
        #[cfg(not(target_arch = "x86_64"))]
        let ask = Ask::Second;
        has.then_some(Self { kind, ask })
    }

    /// The same, but reading weights in several streams, as an Intel does best: tests compare that on other processors as
    /// well. The results are those of `self`.
    pub const fn in_streams(self) -> Self {
        Self { ask: Ask::Both, ..self }
    }

    /// Which it is.
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// Where weights are asked for.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn ask(self) -> Ask {
        self.ask
    }

    /// Runs `work`, compiled for this level's instructions as far as it is inlined: its loops use their full width.
    #[inline(always)]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        match self.kind {
            // SAFETY: a `Level` of this kind is only made where these instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { super::x86_64::avx512::vectorize(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { super::x86_64::avx2::vectorize(work) },
            _ => work(),
        }
    }
}
