"""Token-sparse attention for torch tensors, by libtamis. See README.md; tamis.hf is the part for transformers."""

from .operator import attention, attention_with, clear, prepare
from .library import DENSE, Selection, Store, TamisError

__all__ = ["DENSE", "Selection", "Store", "TamisError", "attention", "attention_with", "clear", "prepare"]
