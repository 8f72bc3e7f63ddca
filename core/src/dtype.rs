//! The types a tensor's bytes may have: GGML's numbers, plus the official checkpoint's FP8 and FP4.

/// A tensor's element type. The numbers below 1000 are GGML's own, as GGUF stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs, reason = "each name is the format's own")]
#[allow(non_camel_case_types, reason = "the names are GGML's")]
pub enum DType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    I32 = 26,
    IQ1_M = 29,
    BF16 = 30,
    MXFP4 = 39,
    /// FP8 E4M3 codes; a scale (E8M0) per 128x128 tile lies in a tensor of its own.
    F8_E4M3 = 1000,
    /// Two E2M1 codes a byte, even column low; a scale (E8M0) per 32 columns of a row lies in a tensor of its own.
    FP4_E2M1 = 1001,
}

/// All types, in the order of their numbers.
pub const ALL: [DType; 26] = [
    DType::F32,
    DType::F16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ2_XXS,
    DType::IQ2_XS,
    DType::IQ3_XXS,
    DType::IQ1_S,
    DType::IQ4_NL,
    DType::IQ3_S,
    DType::IQ2_S,
    DType::IQ4_XS,
    DType::I32,
    DType::IQ1_M,
    DType::BF16,
    DType::MXFP4,
    DType::F8_E4M3,
    DType::FP4_E2M1,
];

impl DType {
    /// The type with this number, if there is one that this crate reads.
    pub fn from_number(number: u32) -> Option<Self> {
        ALL.into_iter().find(|t| *t as u32 == number)
    }

    /// Elements a block, and bytes a block (scales of the official types not counted: they lie elsewhere).
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 | Self::I32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 | Self::IQ4_NL => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::MXFP4 => (32, 17),
            Self::Q2_K => (256, 84),
            Self::Q3_K => (256, 110),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
            Self::IQ1_S => (256, 50),
            Self::IQ1_M => (256, 56),
            Self::IQ2_XXS => (256, 66),
            Self::IQ2_XS => (256, 74),
            Self::IQ2_S => (256, 82),
            Self::IQ3_XXS => (256, 98),
            Self::IQ3_S => (256, 110),
            Self::IQ4_XS => (256, 136),
            Self::F8_E4M3 => (1, 1),
            Self::FP4_E2M1 => (2, 1),
        }
    }

    /// Bytes of a row of `cols` elements; `None` when `cols` is not whole blocks or the product passes `u64`.
    pub const fn row_bytes(self, cols: u64) -> Option<u64> {
        let (elements, bytes) = self.block();
        if !cols.is_multiple_of(elements as u64) {
            return None;
        }
        (cols / elements as u64).checked_mul(bytes as u64)
    }

    /// The type's usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ2_XXS => "IQ2_XXS",
            Self::IQ2_XS => "IQ2_XS",
            Self::IQ3_XXS => "IQ3_XXS",
            Self::IQ1_S => "IQ1_S",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ3_S => "IQ3_S",
            Self::IQ2_S => "IQ2_S",
            Self::IQ4_XS => "IQ4_XS",
            Self::I32 => "I32",
            Self::IQ1_M => "IQ1_M",
            Self::BF16 => "BF16",
            Self::MXFP4 => "MXFP4",
            Self::F8_E4M3 => "F8_E4M3",
            Self::FP4_E2M1 => "FP4_E2M1",
        }
    }
}
