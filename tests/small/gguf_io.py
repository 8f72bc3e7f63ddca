"""The small model as a GGUF file, and back: what is evaluated are the weights as stored."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import DeepseekV4ForCausalLM

from model import build

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "reference"))
import gguf_export  # noqa: E402

DESCRIPTION = ("A tiny DeepSeek-V4 trained from scratch on generated text: little stories, sums, facts told earlier, "
               "JSON answers and tool calls. Script and figures: tests/small")


def tensor_type(name: str) -> str:
    """The experts' second matrices as MXFP4 (they were trained rounded so), which brings the file below 4 MB."""
    return "MXFP4" if "ffn_down_exps" in name else "Q8_0"


def save(model: DeepseekV4ForCausalLM, path: Path) -> None:
    gguf_export.export(model, str(path), tokenizer_json=str(HERE / "tokenizer.json"), quant=tensor_type,
                       extra_keys={"general.name": "dsv4 small", "general.description": DESCRIPTION})


def source_names(model: DeepseekV4ForCausalLM) -> dict[str, list[str]]:
    """GGUF tensor names behind every state_dict entry (two for the fused gate and up of the experts).

    Asks the exporter itself: it is handed a model whose every tensor is filled with its own number.
    """
    numbers = list(model.state_dict())
    numbered = {k: torch.full_like(v, i) for i, (k, v) in enumerate(model.state_dict().items())}

    class Probe:
        config = model.config

        def state_dict(self):
            return numbered

    out: dict[str, list[str]] = {}
    for name, array in gguf_export.tensors(Probe()):
        out.setdefault(numbers[int(array.flat[0])], []).append(name)
    return out


def load(path: Path) -> DeepseekV4ForCausalLM:
    """A transformers model with the dequantized weights of the file."""
    model = build()
    stored = {t.name: t for t in gguf.GGUFReader(str(path)).tensors}
    state = model.state_dict()
    for target, names in source_names(model).items():
        arrays = [gguf.quants.dequantize(stored[n].data, stored[n].tensor_type)
                  if stored[n].data.dtype == np.uint8 else np.array(stored[n].data) for n in names]
        value = torch.from_numpy(np.concatenate(arrays, axis=1) if len(arrays) > 1 else arrays[0])
        state[target] = value.reshape(state[target].shape).to(state[target].dtype)
    model.load_state_dict(state)
    return model.eval()


if __name__ == "__main__":
    # python gguf_io.py CHECKPOINT.pt FILE.gguf
    trained = build()
    trained.load_state_dict(torch.load(sys.argv[1]))
    save(trained, Path(sys.argv[2]))
    worst = max((a.float() - b.float()).abs().max().item()
                for a, b in zip(trained.state_dict().values(), load(Path(sys.argv[2])).state_dict().values()))
    print(f"{Path(sys.argv[2]).stat().st_size} bytes, largest rounding error {worst:.4f}")
