//! Which instructions may be used: a value that is only made where they were found, and that a caller may pass on.
//!
//! Kernels are plain loops over arrays, compiled once per level ([`Level::vectorize`]); only the integer products of
//! `fast` matmul are written with instructions of their own. No level contracts a multiplication and an addition into
//! one rounding, and every sum has one order: **all levels give the same bits**.

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
}

impl Kind {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The name that the `dsv4` command takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Kind);

impl Level {
    /// The specification, everywhere.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The best that this processor and its operating system offer, found by the processor's own instructions.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if super::x86_64::has_avx512() {
                return Self(Kind::Avx512);
            }
            if super::x86_64::has_avx2() {
                return Self(Kind::Avx2);
            }
        }
        Self::SCALAR
    }

    /// `kind`, if this processor has it: every level up to [`Level::detect`]'s.
    pub fn new(kind: Kind) -> Option<Self> {
        (kind as u8 <= Self::detect().0 as u8).then_some(Self(kind))
    }

    /// Which it is.
    pub const fn kind(self) -> Kind {
        self.0
    }

    /// Runs `work`, compiled for this level's instructions as far as it is inlined: its loops use their full width.
    #[inline(always)]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        match self.0 {
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
