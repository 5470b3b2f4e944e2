"""tamis::attention on CPU tensors: results, strides, tracing, refusals."""

import threading

import pytest
import torch
from small import SMALL, case_selection, plain, random_qkv, read_case, reference_cases, relative

import tamis
from tamis import operator as module

HALF = tamis.Selection("ratio", ratio=0.5, window=16, min_tokens=16)


@pytest.mark.parametrize("folder", reference_cases(), ids=lambda folder: folder.name)
def test_reference_case(folder):
    case = read_case(folder)
    output, kept, _ = tamis.attention_with(case["q"], case["k"], case["v"], case_selection(case))
    assert kept.tolist() == case["kept"].tolist()
    expected = case["output"].to(torch.float64)
    assert relative(output, expected) <= 4e-3
    dropped = expected.abs().sum(-1) == 0
    assert not output[dropped].view(torch.int16).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_dense(kind, dtype, causal):
    q, k, v = random_qkv(SMALL[kind], 150, batch=2, dtype=dtype)
    output, kept, lse = tamis.attention_with(q, k, v, causal=causal, lse=True)
    expected, expected_lse = plain(q, k, v, causal)
    assert relative(output, expected) <= 4e-3
    assert (lse - expected_lse).abs().max() <= 1e-4
    assert kept.tolist() == [150, 150]


@pytest.mark.parametrize(
    "policy", [dict(policy="ratio", ratio=0.25), dict(policy="count", count=40), dict(policy="coverage", coverage=0.3)]
)
@pytest.mark.parametrize("scope", ["head", "kv_group", "layer"])
def test_sparse_rows(policy, scope):
    q, k, v = random_qkv(SMALL["gqa_d128"], 300)
    selection = tamis.Selection(**policy, scope=scope, window=16, min_tokens=16)
    output, kept, lse = tamis.attention_with(q, k, v, selection, lse=True)
    rows = output.abs().sum(-1) != 0
    assert 32 <= kept.item() < 300
    assert (rows.sum(-1) == kept).all()
    assert torch.equal(rows, lse.isfinite())
    assert (rows == rows[:, :1]).all() == (scope == "layer")


def test_ratio_one_is_dense():
    q, k, v = random_qkv(SMALL["gqa_d128"], 200)
    assert torch.equal(tamis.attention(q, k, v), tamis.attention(q, k, v, HALF.replace(ratio=1.0)))


def test_scale():
    q, k, v = random_qkv(SMALL["mha_d64"], 100)
    assert relative(tamis.attention(q, k, v, scale=0.25), plain(q * 2, k, v)[0]) <= 4e-3


def test_any_strides():
    """Token-major tensors, slices of a longer cache, one of unaligned rows, and expanded ones give what contiguous ones do."""
    q, k, v = random_qkv(SMALL["gqa_d128"], 120, batch=2)
    expected = tamis.attention(q, k, v, HALF)
    assert expected.transpose(1, 2).is_contiguous()
    token_major = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    assert torch.equal(tamis.attention(*token_major, HALF), expected)
    cache = [torch.full((2, 2, 500, 128), torch.nan, dtype=q.dtype) for _ in range(2)]
    for long, t in zip(cache, (k, v)):
        long[:, :, :120] = t
    assert torch.equal(tamis.attention(q, *(t[:, :, :120] for t in cache), HALF), expected)
    odd = torch.zeros(q.numel() + 1, dtype=q.dtype)[1:].view(q.shape).copy_(q)
    assert torch.equal(tamis.attention(odd, k, v, HALF), expected)
    shared = [t[:1].expand(2, -1, -1, -1) for t in (q, k, v)]
    assert torch.equal(tamis.attention(*shared, HALF)[1], tamis.attention(*(t[:1] for t in (q, k, v)), HALF)[0])
    one = [t[:1].as_strided(t[:1].shape, (3, *t.stride()[1:])) for t in (q, k, v)]  # a batch stride that nothing multiplies
    assert torch.equal(tamis.attention(*one, HALF)[0], expected[0])


PATTERNS = [
    tamis.Pattern("sliding", sink_tokens=5, window_tokens=40),
    tamis.Pattern("vertical_slash", vertical_lines=0, slash_lines=0),
    tamis.Pattern("flexprefill", gamma=0.5, min_tokens=128),
    tamis.Pattern("xattention", stride=8, threshold=0.5),
    tamis.Pattern("topk_blocks", ratio=0.3),
]


@pytest.mark.parametrize("selection", [tamis.DENSE, HALF], ids=["dense", "sparse"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.kind)
def test_patterns_change_rows_and_choose_no_tokens(pattern, selection):
    q, k, v = random_qkv(SMALL["gqa_d128"], 1200)
    plain_output, plain_kept, _ = tamis.attention_with(q, k, v, selection)
    output, kept, _ = tamis.attention_with(q, k, v, selection, pattern=pattern)
    assert torch.equal(kept, plain_kept)
    assert torch.equal(output.abs().sum(-1) == 0, plain_output.abs().sum(-1) == 0)
    assert not torch.equal(output, plain_output)
    assert torch.equal(output[:, :, :1], plain_output[:, :, :1])  # the first query sees itself alone


def test_a_sliding_window():
    q, k, v = random_qkv(SMALL["gqa_d128"], 300)
    pattern = tamis.Pattern("sliding", sink_tokens=5, window_tokens=40)
    far = torch.ones(300, 300).tril(-40).bool()
    far[:, :5] = False
    logits = q.double() @ k.double().repeat_interleave(2, 1).transpose(2, 3) / 128**0.5
    unseen = far | torch.ones(300, 300).triu(1).bool()
    expected = logits.masked_fill(unseen, -torch.inf).softmax(-1) @ v.double().repeat_interleave(2, 1)
    assert relative(tamis.attention(q, k, v, pattern=pattern), expected) <= 4e-3


def test_plans_are_made_once():
    tamis.clear()
    q, k, v = random_qkv(SMALL["mha_d64"], 77)
    tamis.prepare(1, 4, 4, 77, 64, HALF, device="cpu")
    assert len(module._plans) == 1
    for _ in range(3):
        tamis.attention(q, k, v, HALF)
    assert len(module._plans) == 1
    tamis.attention(q, k, v)
    assert len(module._plans) == 2
    tamis.prepare(1, 4, 4, 77, 64, HALF, pattern=PATTERNS[0], device="cpu")
    assert len(module._plans) == 3
    tamis.attention(q, k, v, HALF, pattern=PATTERNS[0])
    assert len(module._plans) == 3


def test_threads():
    q, k, v = random_qkv(SMALL["mha_d64"], 200)
    expected, results = tamis.attention(q, k, v, HALF), [None] * 4

    def run(i):
        results[i] = tamis.attention(q, k, v, HALF)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(results))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(result, expected) for result in results)


def test_operator_keeps_torchs_rules():
    """torch's own check: schema, fake kernel against the real one, tracing with symbolic shapes."""
    q, k, v = random_qkv(SMALL["gqa_d128"], 64)
    for lse in (False, True):
        arguments = (q, k, v, "", *HALF.numbers(), *PATTERNS[0].numbers(), 0.0, True, lse)
        torch.library.opcheck(
            module._operator, arguments, test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
        )


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q, k = (torch.empty(1, heads, 1 << 20, 128, dtype=torch.bfloat16, device="cuda") for heads in (32, 8))
        output, kept, lse = tamis.attention_with(q, k, k, HALF, store="absent.tamis", lse=True)
        assert output.shape == q.shape and output.transpose(1, 2).is_contiguous() and output.device.type == "cuda"
        assert kept.shape == (1,) and kept.dtype == torch.int32
        assert lse.shape == q.shape[:3] and lse.dtype == torch.float32


def test_compile():
    def layer(q, k, v):
        return tamis.attention(q * 2, k, v, HALF) + 1

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for length in (64, 100, 140):  # the second makes the length symbolic
        q, k, v = random_qkv(SMALL["gqa_d128"], length)
        assert torch.equal(compiled(q, k, v), layer(q, k, v))


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda q, k, v: (q.float(), k.float(), v.float()), TypeError, "torch.float32: torch.bfloat16 or torch.float16"),
        (lambda q, k, v: (q, k.half(), v), ValueError, "k is torch.float16 on cpu"),
        (lambda q, k, v: (q[0], k, v), ValueError, "q has 3 dimensions"),
        (lambda q, k, v: (q, k, v[:, :, :9]), ValueError, "the same would be right"),
        (lambda q, k, v: (q[:, :, :9], k, v), ValueError, "only the number of heads may differ"),
        (lambda q, k, v: (q[:, :3], k, v), tamis.TamisError, "heads"),
        (lambda q, k, v: (q[..., :40], k[..., :40], v[..., :40]), tamis.TamisError, "head_dim"),
        (lambda q, k, v: (q.requires_grad_(), k, v), ValueError, "has no gradient"),
    ],
)
def test_refusals(change, error, message):
    with pytest.raises(error, match=message):
        tamis.attention(*change(*random_qkv(SMALL["gqa_d128"], 32)), HALF)


def test_refused_selections():
    q, k, v = random_qkv(SMALL["gqa_d128"], 32)
    with pytest.raises(tamis.TamisError, match="coverage"):
        tamis.attention(q, k, v, tamis.Selection("coverage", coverage=1.5))
    with pytest.raises(tamis.TamisError, match="mask"):
        tamis.attention(q, k, v, HALF, causal=False)
    with pytest.raises(tamis.TamisError, match="patterns are causal"):
        tamis.attention(q, k, v, pattern=PATTERNS[0], causal=False)
    with pytest.raises(tamis.TamisError, match="pattern.flexprefill.gamma is 2"):
        tamis.attention(q, k, v, pattern=tamis.Pattern("flexprefill", gamma=2))
