"""Writes core/src/quant/grids.rs: the codebooks of the IQ types, from PyPI `gguf`.

    python tests/tables/grids.py | rustfmt --config-path . > core/src/quant/grids.rs
"""

from gguf import quants

HEAD = """//! The codebooks of the IQ types, packed: part of their formats. Written by tests/tables/grids.py from PyPI `gguf`.
//!
//! An entry is one 16-bit word: 8 elements of 2 bits, or 4 of 4 bits, the first in the lowest. An element is the number
//! of its value in the short list that the type's own file gives.
"""

for name in ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]:
    kind = getattr(quants, name)
    kind.init_grid()
    entries, size = kind.grid_shape
    number = {value: n for n, value in enumerate(kind.grid_map)}
    words = [
        sum(number[value] << (16 // size * i) for i, value in enumerate(entry))
        for entry in kind.grid.reshape(entries, size).tolist()
    ]
    if HEAD:
        print(HEAD)
        HEAD = ""
    print(f"/// {entries} entries of {size} elements.")
    print(f"pub(super) const {name}: [u16; {entries}] = [{', '.join(f'{word:#x}' for word in words)}];\n")
