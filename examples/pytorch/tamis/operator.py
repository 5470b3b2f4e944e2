"""Token-sparse attention on torch tensors: the operator in one call, as the torch operator tamis::attention.

CUDA tensors run on the GPU, on torch's current stream; CPU tensors on libtamis' CPU backend. Plans are made once a shape and
kept until clear(); the workspace comes from torch's caching allocator, in stream order, so that a call allocates nothing of
the device's own accord and can be captured in a CUDA graph once its plan is there. Inference only.
"""

import ctypes
import threading

import torch

from . import library
from .library import ALL_BLOCKS, CAUSAL, DENSE, DTYPES, FULL, CProblem, CRunArgs, CSelection, CTensor, Pattern

_DTYPES = {torch.bfloat16: DTYPES.index("bf16"), torch.float16: DTYPES.index("fp16")}
_ALIGN = 256  # of a workspace
_lock = threading.Lock()
_contexts, _stores, _plans = {}, {}, {}


def attention(q, k, v, selection=DENSE, *, pattern=ALL_BLOCKS, store=None, scale=None, causal=True):
    """Attention of q (B, Hq, L, D) among k, v (B, Hkv, L, D), bf16 or fp16; (B, Hq, L, D), whose memory is (B, L, Hq, D).

    selection: a tamis.Selection; rows that it drops are zero. pattern: a tamis.Pattern, of the blocks that are attended to;
    among the kept tokens where some are dropped. store: path of the file that has the kernels; a GPU needs one.
    scale: of the logits, D^-1/2 unless given. causal=False is for a dense selection of all blocks only. Any strides with a
    contiguous last dimension, multiples of 8; other tensors are copied. ValueError, TypeError and TamisError.
    """
    return attention_with(q, k, v, selection, pattern=pattern, store=store, scale=scale, causal=causal)[0]


def attention_with(q, k, v, selection=DENSE, *, pattern=ALL_BLOCKS, store=None, scale=None, causal=True, lse=False):
    """As attention(); (output, kept, lse): kept (B) int32, tokens that each sequence kept, the window included; lse (B, Hq, L)
    float32, the natural log-sum-exp of the scaled logits, -inf in dropped rows, or empty unless asked for."""
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        raise ValueError("tamis::attention has no gradient: call it under torch.no_grad() or torch.inference_mode()")
    numbers = (*selection.numbers(), *pattern.numbers())
    return _operator(q, k, v, str(store or ""), *numbers, 0.0 if scale is None else float(scale), causal, lse)


def prepare(
    batch,
    q_heads,
    kv_heads,
    seq_len,
    head_dim,
    selection=DENSE,
    *,
    pattern=ALL_BLOCKS,
    dtype=torch.bfloat16,
    device="cuda",
    store=None,
    scale=None,
    causal=True,
):
    """Make the plan of calls with such tensors: before a CUDA graph is captured, or before the first prompt comes."""
    problem = _problem(
        _dtype(dtype),
        batch,
        q_heads,
        kv_heads,
        head_dim,
        seq_len,
        0.0 if scale is None else float(scale),
        CSelection(*selection.numbers()),
        causal,
    )
    _plan(_ordinal(torch.device(device)), str(store or ""), problem, Pattern.struct(*pattern.numbers()))


def clear():
    """Free all plans, stores and contexts. No call may be running, nor any CUDA graph be left that holds one."""
    with _lock:
        for kind in (_plans, _stores, _contexts):
            for handle in kind.values():
                handle.free()
            kind.clear()


@torch.library.custom_op("tamis::attention", mutates_args=())
def _operator(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    store: str,
    policy: int,
    scope: int,
    window: int,
    pool: int,
    min_tokens: int,
    coverage: float,
    ratio: float,
    count: int,
    pattern_whole: list[int],
    pattern_real: list[float],
    scale: float,
    causal: bool,
    want_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    _check(q, k, v)
    selection = CSelection(policy, scope, window, pool, min_tokens, coverage, ratio, count)
    problem = _problem(_dtype(q.dtype), q.shape[0], q.shape[1], k.shape[1], q.shape[3], q.shape[2], scale, selection, causal)
    plan = _plan(_ordinal(q.device), store, problem, Pattern.struct(pattern_whole, pattern_real))
    q, k, v = (_with_rows(t) for t in (q, k, v))
    output, kept, lse = _outputs(q, want_lse)
    arguments = CRunArgs(
        ctypes.sizeof(CRunArgs),
        _tensor(q),
        _tensor(k),
        _tensor(v),
        _tensor(output),
        lse.data_ptr() if want_lse else None,
        None,
        kept.data_ptr(),
        None,
    )
    workspace = torch.empty(plan.workspace_bytes + _ALIGN, dtype=torch.uint8, device=q.device)
    aligned = -(-workspace.data_ptr() // _ALIGN) * _ALIGN
    if q.is_cuda:
        with torch.cuda.device(q.device):
            plan.run(arguments, aligned, plan.workspace_bytes, torch.cuda.current_stream().cuda_stream)
    else:
        plan.run(arguments, aligned, plan.workspace_bytes, None)
    return output, kept, lse


@_operator.register_fake
def _(
    q,
    k,
    v,
    store,
    policy,
    scope,
    window,
    pool,
    min_tokens,
    coverage,
    ratio,
    count,
    pattern_whole,
    pattern_real,
    scale,
    causal,
    want_lse,
):
    _check(q, k, v)
    return _outputs(q, want_lse)


def _outputs(q, want_lse):
    batch, heads, length, dim = q.shape
    output = torch.empty(batch, length, heads, dim, dtype=q.dtype, device=q.device).transpose(1, 2)
    kept = torch.empty(batch, dtype=torch.int32, device=q.device)
    lse = torch.empty((batch, heads, length) if want_lse else (0,), dtype=torch.float32, device=q.device)
    return output, kept, lse


def _check(q, k, v):
    """What libtamis cannot see from pointers and strides; the rest it says itself."""
    for name, t in (("q", q), ("k", k), ("v", v)):
        if t.dim() != 4:
            raise ValueError(f"{name} has {t.dim()} dimensions, 4 would be right: (batch, heads, tokens, head_dim)")
        if t.device != q.device or t.dtype != q.dtype:
            raise ValueError(f"{name} is {t.dtype} on {t.device}, q is {q.dtype} on {q.device}")
    if q.device.type not in ("cuda", "cpu", "meta"):
        raise ValueError(f"q is on {q.device}: CUDA and CPU tensors would be right")
    _dtype(q.dtype)
    if k.shape != v.shape:
        raise ValueError(f"k is {tuple(k.shape)}, v is {tuple(v.shape)}: the same would be right")
    if q.shape[0] != k.shape[0] or q.shape[2:] != k.shape[2:]:
        raise ValueError(f"q is {tuple(q.shape)}, k is {tuple(k.shape)}: only the number of heads may differ")


def _dtype(dtype):
    if dtype not in _DTYPES:
        raise TypeError(f"tensors are {dtype}: torch.bfloat16 or torch.float16 would be right")
    return _DTYPES[dtype]


def _ordinal(device):
    if device.type == "cpu":
        return library.CPU
    return torch.cuda.current_device() if device.index is None else device.index


def _problem(dtype, batch, q_heads, kv_heads, head_dim, seq_len, scale, selection, causal):
    return CProblem(
        ctypes.sizeof(CProblem),
        dtype,
        batch,
        q_heads,
        kv_heads,
        head_dim,
        seq_len,
        scale,
        selection,
        CAUSAL if causal else FULL,
    )


def _strides(t):
    """Of batch, head and token. A dimension of size 1 may have any in torch, which nothing ever multiplies."""
    dense = (t.shape[1] * t.shape[2] * t.shape[3], t.shape[2] * t.shape[3], t.shape[3])
    return tuple(own if size > 1 else dense_one for own, size, dense_one in zip(t.stride(), t.shape, dense))


def _with_rows(t):
    """libtamis' terms on strides and addresses; a copy where they are not met."""
    batch, head, token = _strides(t)
    fits = t.stride(3) == 1 and token >= t.shape[3] and not (batch % 8 or head % 8 or token % 8) and t.data_ptr() % 16 == 0
    return t if fits else t.clone(memory_format=torch.contiguous_format)


def _tensor(t):
    return CTensor(t.data_ptr(), *_strides(t))


def _plan(device, store, problem, pattern):
    key = (device, store, bytes(problem), bytes(pattern))
    plan = _plans.get(key)
    if plan is not None:
        return plan
    if device != library.CPU and torch.cuda.is_current_stream_capturing():
        raise ValueError("no plan for these tensors yet: call tamis.prepare(), or the operator once, before the capture")
    with _lock:
        if key not in _plans:
            if device not in _contexts:
                threads = torch.get_num_threads() if device == library.CPU else 0
                _contexts[device] = library.Context(device, threads)
            if store and store not in _stores:
                _stores[store] = library.Store(store)
            _plans[key] = library.Plan(_contexts[device], _stores.get(store), problem, pattern)
        return _plans[key]
