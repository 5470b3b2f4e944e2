"""Token-sparse attention for torch tensors, by libtamis. See README.md; tamis.hf is the part for transformers."""

from .operator import attention, attention_with, clear, prepare
from .library import ALL_BLOCKS, DENSE, Pattern, Selection, Store, TamisError

__all__ = [
    "ALL_BLOCKS",
    "DENSE",
    "Pattern",
    "Selection",
    "Store",
    "TamisError",
    "attention",
    "attention_with",
    "clear",
    "prepare",
]
