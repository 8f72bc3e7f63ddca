"""DeepSeek-V4 inference: models, sessions, samplers and tokenizers over the C library dsv4."""

from ._errors import Busy, Cancelled, ContextFull, Error
from ._library import version
from ._model import Model, ModelInfo
from ._sampler import Sampler
from ._session import Generation, Session
from ._tokenizer import Stream, Tokenizer

__all__ = [
    "Busy",
    "Cancelled",
    "ContextFull",
    "Error",
    "Generation",
    "Model",
    "ModelInfo",
    "Sampler",
    "Session",
    "Stream",
    "Tokenizer",
    "version",
]
