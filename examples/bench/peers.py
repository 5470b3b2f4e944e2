#!/usr/bin/env python3
"""Time on this GPU what tamis is compared with: cuDNN and FlashAttention-2 as PyTorch offers them, the chip's ceilings,
token-sparse attention put together from PyTorch operations, and its block-sparse flex_attention. One JSON object a line, in
the form that `tamis bench attention --peers` reads.

    peers.py --lengths 8192,32768 --head-dims 128 > peers.json     time
    peers.py --compare bench.json peers.json [peers.json ...]      set `tamis bench --json` beside it; needs no GPU

A GPU's clock drifts with its temperature and load: run this right before and right after what it is compared with.
"""
import argparse
import json
import time

WARM_UPS = 2
PAUSE_S = 0.15  # before each figure, so that the one before it does not heat this one's clock down
LAYOUTS = ("head", "token")  # (B, H, L, D) and (B, L, H, D) in memory


def say(**members):
    print(json.dumps(members), flush=True)


def median_ms(function, rounds):
    """Each call between two events of its own, after calls that load code and wake the clock."""
    time.sleep(PAUSE_S)
    for _ in range(WARM_UPS):
        function()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[rounds // 2]


def backends():
    from torch.nn.attention import SDPBackend

    return (("cudnn", SDPBackend.CUDNN_ATTENTION), ("fa2", SDPBackend.FLASH_ATTENTION))


def attention(backend, q, k, v, causal):
    from torch.nn.attention import sdpa_kernel

    grouped = k.shape[1] != q.shape[1]
    with sdpa_kernel(backend):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)


def attention_ms(o, name, backend, q, k, v, causal, **problem):
    """None where a backend does not take the problem, or has no memory for it; which is said."""
    try:
        return median_ms(lambda: attention(backend, q, k, v, causal), o.rounds)
    except RuntimeError as error:
        say(what="refused", reason=str(error).splitlines()[0], backend=name, causal=causal, **problem)
        return None


def rand(heads, length, dim, dtype, layout="head"):
    if layout == "head":
        return torch.randn(1, heads, length, dim, device="cuda", dtype=dtype)
    return torch.randn(1, length, heads, dim, device="cuda", dtype=dtype).transpose(1, 2)


def time_ceilings(o):
    x = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    say(what="copy", tb_per_s=4 * x.numel() / median_ms(lambda: y.copy_(x), o.rounds) / 1e9)
    del x, y
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    say(what="gemm", tflops=2 * 8192**3 / median_ms(lambda: x @ y, o.rounds) / 1e9)


def time_dense(o, dtype_name, dtype, dim, length, layout):
    """Operations of the two products; causal: of half of all pairs, as the diagonal's share is lost in the noise."""
    q, k, v = (rand(heads, length, dim, dtype, layout) for heads in (o.q_heads, o.kv_heads, o.kv_heads))
    problem = dict(layout=layout, head_dim=dim, seq_len=length, q_heads=o.q_heads, kv_heads=o.kv_heads,
                   dtype=dtype_name)
    for mask in o.mask.split(","):
        causal = mask == "causal"
        flops = (2 if causal else 4) * length * length * dim * o.q_heads
        for name, backend in backends():
            ms = attention_ms(o, name, backend, q, k, v, causal, **problem)
            if ms is not None:
                say(what="dense", ms=ms, tflops=flops / ms / 1e9, backend=name, causal=causal, **problem)


def time_sparse(o, dtype_name, dtype, dim, length):
    """The published operator in plain PyTorch: score by the last queries, keep the largest, attend among them."""
    functional, heads, window = torch.nn.functional, o.q_heads, o.window
    problem = dict(head_dim=dim, seq_len=length, q_heads=heads, kv_heads=o.kv_heads, dtype=dtype_name)
    q = rand(heads, length, dim, dtype)
    k, v = (rand(o.kv_heads, length, dim, dtype).repeat_interleave(heads // o.kv_heads, 1) for _ in range(2))
    future = torch.ones(window, window, device="cuda", dtype=torch.bool).triu(1)

    def score():
        logits = q[0, :, -window:].float() @ k[0].float().transpose(-1, -2) * dim**-0.5
        logits[:, :, length - window :].masked_fill_(future, float("-inf"))
        return logits.softmax(-1).mean(1)[:, : length - window]

    def select(scores, keep):
        pooled = functional.avg_pool1d(scores[None], 7, 1, 3)[0]
        mean = pooled.mean(0)
        torch.cumsum(torch.sort(mean / mean.sum())[0], 0)  # what decides how many; its cost, not its answer, is wanted
        last = torch.arange(length - window, length, device="cuda").expand(heads, -1)
        return torch.cat([pooled.topk(keep, -1).indices, last], -1).sort(-1)[0]

    scores = score()
    score_ms = median_ms(score, o.rounds)
    for ratio in map(float, o.ratios.split(",")):
        keep = int(ratio * (length - window))
        select_ms = median_ms(lambda: select(scores, keep), o.rounds)
        index = select(scores, keep)[None, :, :, None].expand(1, heads, keep + window, dim)
        gather_ms = median_ms(lambda: (q.gather(2, index), k.gather(2, index), v.gather(2, index)), o.rounds)
        compact = q.gather(2, index), k.gather(2, index), v.gather(2, index)
        attend_ms = {name: attention_ms(o, name, backend, *compact, True, **problem) for name, backend in backends()}
        attend_ms = {name: ms for name, ms in attend_ms.items() if ms is not None}
        full = torch.empty_like(q)
        scatter_ms = median_ms(lambda: full.zero_().scatter_(2, index, compact[0]), o.rounds)
        rest_ms = score_ms + select_ms + gather_ms + scatter_ms
        say(what="token_sparse", ratio=ratio, score_ms=score_ms, select_ms=select_ms, gather_ms=gather_ms,
            attend_ms=attend_ms, scatter_ms=scatter_ms, total_ms={name: rest_ms + ms for name, ms in attend_ms.items()},
            **problem)


def random_blocks(heads, blocks, density):
    """(heads, blocks, blocks), true where a query block attends to a key block: itself, and random ones before it."""
    mask = torch.eye(blocks, dtype=torch.bool, device="cuda").repeat(heads, 1, 1)
    for i in range(blocks):
        n = max(0, round(density * (i + 1)) - 1)
        mask[:, i].scatter_(1, torch.rand(heads, i, device="cuda").topk(n, 1).indices, True)
    return mask


def time_blocks(o, dtype_name, dtype, dim, length):
    """PyTorch's block-sparse attention on lists as `tamis bench attention --density` makes them; TFLOP/s of listed blocks."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    block, heads = 128, o.q_heads
    blocks = -(-length // block)
    q, k, v = (rand(n, length, dim, dtype) for n in (heads, o.kv_heads, o.kv_heads))
    diagonal = torch.eye(blocks, dtype=torch.bool, device="cuda").expand(heads, -1, -1)
    compiled = torch.compile(flex_attention, dynamic=False)

    def lists(mask):
        order = torch.argsort(mask.to(torch.uint8), dim=-1, descending=True, stable=True)
        return mask.sum(-1).to(torch.int32)[None].contiguous(), order.to(torch.int32)[None].contiguous()

    for density in map(float, o.density.split(",")):
        mask = random_blocks(heads, blocks, density)
        listed = BlockMask.from_kv_blocks(*lists(diagonal), *lists(mask & ~diagonal), BLOCK_SIZE=block,
                                          mask_mod=lambda b, h, i, j: i >= j)
        ms = median_ms(lambda: compiled(q, k, v, block_mask=listed, enable_gqa=o.kv_heads != heads), o.rounds)
        say(what="blocks", backend="flex_attention", density=density, ms=ms, head_dim=dim, seq_len=length,
            tflops=4 * block * block * dim * int(mask.sum()) / ms / 1e9, q_heads=heads, kv_heads=o.kv_heads,
            dtype=dtype_name)


def time_all(o):
    torch.manual_seed(o.seed)
    say(what="device", name=torch.cuda.get_device_name(), torch=torch.__version__, cudnn=torch.backends.cudnn.version())
    parts = o.only.split(",")
    if "ceilings" in parts:
        time_ceilings(o)
    for dtype_name in o.dtypes.split(","):
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype_name]
        for dim in map(int, o.head_dims.split(",")):
            for length in map(int, o.lengths.split(",")):
                for layout in LAYOUTS if "dense" in parts else ():
                    time_dense(o, dtype_name, dtype, dim, length, layout)
                if "sparse" in parts:
                    time_sparse(o, dtype_name, dtype, dim, length)
                if "blocks" in parts:
                    time_blocks(o, dtype_name, dtype, dim, length)


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def compare(bench_path, peer_paths):
    """A row a figure of the bench: its rate, and each backend's best time in all files over its time."""
    members = ("head_dim", "seq_len", "q_heads", "kv_heads", "dtype", "causal")
    best = {}
    for peer in (line for path in peer_paths for line in read_lines(path) if line["what"] == "dense"):
        times = best.setdefault(tuple(peer[m] for m in members), {})
        times[peer["backend"]] = min(peer["ms"], times.get(peer["backend"], peer["ms"]))
    names = sorted({name for times in best.values() for name in times})
    print("%4s %8s %7s %6s %7s %8s %10s %9s" % ("D", "L", "HEADS", "DTYPE", "MASK", "KEPT", "MS", "TFLOP/S"),
          *("%7s" % name.upper() for name in names), "%7s" % "DENSE")
    for line in read_lines(bench_path):
        if line["type"] != "bench_attention" or line["what"] == "blocks":  # peers attend to all blocks
            continue
        compact = line["what"] == "compact"
        key = dict(line, seq_len=line["kept"], kv_heads=line["q_heads"]) if compact else line
        times = best.get(tuple(key[m] for m in members), {})
        print("%4d %8d %7s %6s %7s %8s %10.3f %9.1f" % (
            line["head_dim"], line["seq_len"], "%d/%d" % (line["q_heads"], line["kv_heads"]), line["dtype"],
            "causal" if line["causal"] else "full", line["kept"] if compact else "-", line["ms"], line["tflops"]),
            *("%7s" % ("%.3f" % (times[name] / line["ms"]) if name in times else "-") for name in names),
            "%7s" % ("%.3f" % line["ratio"]["dense"] if "dense" in line["ratio"] else "-"))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--lengths", default="8192,32768,131072")
    a.add_argument("--head-dims", default="128")
    a.add_argument("--dtypes", default="bf16", help="of bf16, fp16")
    a.add_argument("--q-heads", type=int, default=32)
    a.add_argument("--kv-heads", type=int, default=8)
    a.add_argument("--mask", default="causal", help="of causal, full")
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--only", default="dense", help="of ceilings, dense, sparse, blocks")
    a.add_argument("--ratios", default="0.75,0.5,0.25", help="of tokens kept, for sparse")
    a.add_argument("--density", default="0.5,0.25,0.1", help="of blocks that are listed, for blocks")
    a.add_argument("--window", type=int, default=128, help="for sparse")
    a.add_argument("--compare", nargs="+", metavar="FILE", help="bench.json and one or more of this program's files")
    o = a.parse_args()
    if o.compare:
        compare(o.compare[0], o.compare[1:])
        return
    global torch
    import torch

    time_all(o)


if __name__ == "__main__":
    main()
