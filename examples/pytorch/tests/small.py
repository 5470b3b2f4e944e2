"""What the tests share: the tool, reference cases, small models. TAMIS_LIBRARY says which libtamis;
TAMIS_TOOL which tamis makes the stores (default: the one beside the library). tests/pytorch.sh of the project sets both."""

import os
import pathlib
import subprocess
import sys

import numpy
import torch
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tamis  # noqa: E402

SMALL = {"gqa_d128": (4, 2, 128), "mha_d64": (4, 4, 64)}  # query heads, KV heads, head_dim


def tool():
    beside = pathlib.Path(os.environ.get("TAMIS_LIBRARY", "")).parent / "tamis"
    return os.environ.get("TAMIS_TOOL") or str(beside)


def generate(path, *options):
    """A store with a spec for each small model, named as in SMALL, and one of the first's with a block pattern."""
    specs = [ROOT / "examples" / "pytorch" / "tests" / f"{name}.yaml" for name in (*SMALL, "patterned")]
    subprocess.run(
        [tool(), "gen", *specs, "-o", path, "--defaults-only", *options],
        check=True,
        env={**os.environ, "TAMIS_DATA_DIR": str(ROOT)},
    )
    return str(path)


def reference_cases():
    return sorted(path.parent for path in (ROOT / "tests" / "reference").glob("*/case.yaml"))


def read_case(folder):
    """The members of case.yaml, and its arrays as tensors; 16-bit ones in the case's dtype."""
    case = yaml.safe_load((folder / "case.yaml").read_text())
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[case["dtype"]]
    arrays = {path.stem: numpy.load(path) for path in folder.glob("*.npy")}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array.view(numpy.int16) if array.dtype == numpy.uint16 else array)
        case[name] = tensor.view(dtype) if array.dtype == numpy.uint16 else tensor
    return case


def case_selection(case):
    return tamis.Selection(
        "coverage", coverage=case["coverage"], window=case["window"], pool=case["pool"], min_tokens=case["min_tokens"]
    )


def relative(a, b):
    """||a - b|| / ||b||; NaN anywhere makes it NaN, which is below nothing."""
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).norm() / b.norm())


def random_qkv(heads, length, batch=1, dtype=torch.bfloat16, device="cpu", seed=0):
    q_heads, kv_heads, dim = heads
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, h, length, dim, generator=generator).to(device, dtype) for h in (q_heads, kv_heads, kv_heads)]


def plain(q, k, v, causal=True):
    """Attention in double precision, and its log-sum-exp."""
    q, k, v = q.double(), *(t.double().repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    logits = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[2:], device=q.device).triu(1).bool(), -torch.inf)
    return logits.softmax(-1) @ v, logits.logsumexp(-1)


def small_model(kind, layers=3, **changes):
    """A random Llama of 3 layers, in bf16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    q_heads, kv_heads, dim = SMALL[kind]
    config = dict(
        vocab_size=256,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=q_heads,
        num_key_value_heads=kv_heads,
        head_dim=dim,
        pad_token_id=0,
        eos_token_id=None,
    )
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**{**config, **changes})).eval().to(torch.bfloat16)


def tokens(batch, length, seed=2):
    return torch.randint(1, 256, (batch, length), generator=torch.Generator().manual_seed(seed))
