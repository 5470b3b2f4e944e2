#!/usr/bin/env python3
"""make_golden.py OUT: the files of golden/, from PyTorch and transformers: two tiny random Llamas and their own logits.

Each folder has config.json and safetensors as transformers writes them (one in two shards), ids.txt, and logits.txt: the
logits of the last token, computed in float32 from the bf16 weights. Made with PyTorch 2.11 and transformers 5.17.
"""
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = 96
SIZES = dict(vocab_size=80, hidden_size=32, intermediate_size=48, num_hidden_layers=2, head_dim=64, rms_norm_eps=1e-5,
             max_position_embeddings=1024, attention_bias=False, mlp_bias=False, hidden_act="silu")
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
MODELS = {
    "llama3_rope": dict(num_attention_heads=2, num_key_value_heads=1, rope_parameters=LLAMA3, tie_word_embeddings=False),
    "tied": dict(num_attention_heads=2, num_key_value_heads=2, rope_parameters=dict(rope_type="default", rope_theta=1000.0),
                 tie_word_embeddings=True),
}


def make(name: str, out: Path) -> None:
    torch.manual_seed(len(name))
    config = LlamaConfig(**SIZES, **MODELS[name])
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():  # as large as trained ones, so that every part counts
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.3 if parameter.dim() == 1 else 0.25)
    model = model.to(torch.bfloat16)
    model.save_pretrained(out, max_shard_size="40KB" if name == "llama3_rope" else "1MB")
    (out / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(0, config.vocab_size, (1, TOKENS))
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)  # whose rotary frequencies were never bf16
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    (out / "ids.txt").write_text(" ".join(str(i) for i in ids[0].tolist()) + "\n")
    (out / "logits.txt").write_text("".join(f"{x:.9g}\n" for x in logits.tolist()))


for folder in MODELS:
    make(folder, Path(sys.argv[1]) / folder)
