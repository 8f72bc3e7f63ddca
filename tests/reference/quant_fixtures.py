"""Random blocks of every GGML tensor type with their values: tests/golden/quant/*.bin.

Everything little-endian.
    <type>.bin     u32 count; count blocks as stored; count * (elements per block) f32
                   (F16 and BF16: a block is one element)
    fp8_tiles.bin  u32 rows, cols; rows*cols E4M3 bytes; one E8M0 byte per 128x128 tile, tiles row by row;
                   rows*cols f32
    fp4_rows.bin   u32 rows, cols; rows*cols/2 bytes of two E2M1 codes (even column: low nibble);
                   rows*cols/32 E8M0 bytes; rows*cols f32
The block types are decoded by the PyPI `gguf` package, the other two by torch.
"""

import argparse
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as T

SEED = 20260101
BLOCKS = 40

# Byte offsets of the f16 scales inside a block. Random bytes there would often be NaN or infinite.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ1_S: [0], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0],
    T.IQ4_NL: [0], T.IQ4_XS: [0],
}  # fmt: skip
TYPES = [T.F16, T.BF16, *SCALES, T.IQ1_M, T.MXFP4]

# Zero, minus zero, smallest and largest subnormals of either sign, smallest normal, largest finite.
EDGE_F16 = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x7BFF, 0xFBFF], np.uint16)


def f16_scales(rng, n):
    """n finite f16 bit patterns: edge cases first, then usual magnitudes of both signs."""
    usual = (rng.choice([-1, 1], n) * np.exp2(rng.uniform(-14, 1, n))).astype(np.float16)
    bits = usual.view(np.uint16).copy()
    edge = EDGE_F16[: min(n, len(EDGE_F16))]
    bits[: len(edge)] = edge
    return bits


def blocks_of(kind, rng):
    elements, size = GGML_QUANT_SIZES[kind]
    if elements == 1:
        exponent = {T.F16: 0x7C00, T.BF16: 0x7F80}[kind]
        bits = rng.integers(0, 65536, 32 * BLOCKS).astype(np.uint16)
        bits = bits[(bits & exponent) != exponent]
        # The edge patterns of F16 happen to be finite and worth testing as BF16 too.
        bits[: len(EDGE_F16)] = EDGE_F16
        return bits.view(np.uint8).reshape(-1, 2)

    blocks = rng.integers(0, 256, (BLOCKS, size)).astype(np.uint8)
    for k, offset in enumerate(SCALES.get(kind, [])):
        # Rolled, so that the edge cases of a second scale meet usual values of the first.
        bits = np.roll(f16_scales(rng, BLOCKS), k * 12)
        blocks[:, offset : offset + 2] = bits.view(np.uint8).reshape(-1, 2)
    if kind == T.IQ1_M:
        # One f16, its four nibbles in the top bits of the four 16-bit scale words, lowest nibble first.
        bits = f16_scales(rng, BLOCKS)
        words = blocks[:, 48:56].copy().view(np.uint16)
        for j in range(4):
            words[:, j] = (words[:, j] & 0x0FFF) | (((bits >> (4 * j)) & 0xF) << 12)
        blocks[:, 48:56] = words.view(np.uint8)
    if kind == T.MXFP4:
        # 255 is NaN in E8M0. 0 and 1 give subnormal products; from 253 on, the largest code overflows f32.
        blocks[:, 0] = rng.integers(100, 150, BLOCKS)
        blocks[:5, 0] = [0, 1, 2, 251, 252]
    return blocks


def write(path, header, *parts):
    with open(path, "wb") as f:
        f.write(np.array(header, "<u4").tobytes())
        for part in parts:
            f.write(np.ascontiguousarray(part).tobytes())


def e8m0(codes):
    """Exact powers of two in float64; torch's own type must agree where f32 can tell."""
    value = np.exp2(codes.astype(np.float64) - 127)
    by_torch = torch.from_numpy(codes.copy()).view(torch.float8_e8m0fnu).to(torch.float32).numpy()
    assert np.array_equal(value.astype(np.float32), by_torch)
    return value


def fp8_tiles(path, rng, rows=200, cols=300):
    weight = rng.integers(0, 256, (rows, cols)).astype(np.uint8)
    weight[(weight & 0x7F) == 0x7F] = 0x7E  # NaN becomes 448
    # 0 (2^-127) makes f32 subnormals; 240 is near the top of what stays finite.
    scale = np.array([[120, 127, 0], [135, 1, 240]], np.uint8)
    values = torch.from_numpy(weight.copy()).view(torch.float8_e4m3fn).to(torch.float32).numpy().astype(np.float64)
    tiles = e8m0(scale).repeat(128, axis=0)[:rows].repeat(128, axis=1)[:, :cols]
    out = (values * tiles).astype("<f4")
    assert np.isfinite(out).all() and np.array_equal(out.astype(np.float64), values * tiles)
    write(path, [rows, cols], weight, scale, out)


def fp4_rows(path, rng, rows=24, cols=96):
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    packed = rng.integers(0, 256, (rows, cols // 2)).astype(np.uint8)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, cols)
    scale = rng.integers(100, 150, (rows, cols // 32)).astype(np.uint8)
    scale[0] = [0, 1, 251]
    out = (table[codes] * e8m0(scale).repeat(32, axis=1)).astype("<f4")
    assert np.isfinite(out).all()
    write(path, [rows, cols], packed, scale, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "golden" / "quant"
    parser.add_argument("--out", type=pathlib.Path, default=default)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        # A seed per type, so that adding one leaves the other files as they are.
        blocks = blocks_of(kind, np.random.default_rng([SEED, int(kind)]))
        values = gguf.quants.dequantize(blocks, kind).astype("<f4")
        assert np.isfinite(values).all(), kind
        assert values.size == len(blocks) * GGML_QUANT_SIZES[kind][0], kind
        write(out / f"{kind.name.lower()}.bin", [len(blocks)], blocks, values)
        print(kind.name, len(blocks), values.min(), values.max(), np.count_nonzero(values) / values.size)
    fp8_tiles(out / "fp8_tiles.bin", np.random.default_rng([SEED, 1001]))
    fp4_rows(out / "fp4_rows.bin", np.random.default_rng([SEED, 1002]))


if __name__ == "__main__":
    main()
