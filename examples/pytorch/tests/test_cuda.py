"""The same on CUDA tensors: streams, CUDA graphs, compiled code, a model. Without a GPU these are skipped, and say nothing.

TAMIS_TEST_STORE: a store made beforehand of the specs of this folder, for machines without NVRTC or the tool.
"""

import os

import pytest
import torch
from small import SMALL, case_selection, generate, plain, random_qkv, read_case, reference_cases, relative, small_model, tokens

import tamis
import tamis.hf
from tamis import operator as module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
HALF = tamis.Selection("ratio", ratio=0.5, window=16, min_tokens=16)
LONG = tamis.Selection("ratio", ratio=0.5)


@pytest.fixture(scope="session")
def cuda_store(tmp_path_factory):
    given = os.environ.get("TAMIS_TEST_STORE")
    if given:
        return given
    major, minor = torch.cuda.get_device_capability()
    arch = f"sm_{major}{minor}" + ("a" if (major, minor) == (9, 0) else "")
    return generate(tmp_path_factory.mktemp("cuda") / "small.tamis", "--arch", arch)


@pytest.mark.parametrize("folder", reference_cases(), ids=lambda folder: folder.name)
def test_reference_case(folder, cuda_store):
    case = read_case(folder)
    q, k, v = (case[name].cuda() for name in "qkv")
    output, kept, _ = tamis.attention_with(q, k, v, case_selection(case), store=cuda_store)
    assert kept.tolist() == case["kept"].tolist()
    rows, wanted = (t.cpu().double().abs().sum(-1) != 0 for t in (output, case["output"]))
    # A score within rounding of the threshold may fall on its other side: one row in, another out.
    assert (rows != wanted).sum() <= 0.005 * wanted.sum()
    both = (rows & wanted)[..., None]
    assert relative(output.cpu() * both, case["output"] * both) <= (4e-3 if torch.equal(rows, wanted) else 2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", SMALL)
def test_dense(kind, dtype, cuda_store):
    q, k, v = random_qkv(SMALL[kind], 1000, batch=2, dtype=dtype, device="cuda")
    output, _, lse = tamis.attention_with(q, k, v, store=cuda_store, lse=True)
    expected, expected_lse = plain(q, k, v)
    assert relative(output, expected) <= (4e-3 if dtype == torch.bfloat16 else 1e-3)
    assert (lse - expected_lse).abs().max() <= 1e-3


def test_pattern(cuda_store):
    """A window is of positions alone, so both devices make the same lists."""
    pattern = tamis.Store(cuda_store).pattern("patterned")
    assert pattern == tamis.Pattern("sliding", sink_tokens=4, window_tokens=200)
    q, k, v = random_qkv(SMALL["gqa_d128"], 700, batch=2, device="cuda")
    output = tamis.attention(q, k, v, pattern=pattern, store=cuda_store)
    assert relative(output, tamis.attention(q.cpu(), k.cpu(), v.cpu(), pattern=pattern)) <= 4e-3


def test_a_gpu_needs_a_store():
    q, k, v = random_qkv(SMALL["gqa_d128"], 100, device="cuda")
    with pytest.raises(tamis.TamisError):
        tamis.attention(q, k, v)


def test_current_stream(cuda_store):
    """Inputs that a side stream is still writing are read after that, and its outputs are there in its order."""
    inputs = random_qkv(SMALL["gqa_d128"], 4096, device="cuda")
    expected = tamis.attention(*inputs, LONG, store=cuda_store)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = [torch.full_like(t, torch.nan) for t in inputs]
        torch.cuda._sleep(50_000_000)
        for to, t in zip(late, inputs):
            to.copy_(t)
        outputs = [tamis.attention(*late, LONG, store=cuda_store) for _ in range(3)]  # each its own workspace, in turn
        for t in late:
            t.fill_(torch.nan)
    side.synchronize()
    assert all(torch.equal(output, expected) for output in outputs)


def test_graph(cuda_store):
    """Captured once, replayed with other data; a replay allocates nothing."""
    shape = SMALL["gqa_d128"]
    static = random_qkv(shape, 4096, device="cuda")
    tamis.prepare(1, *shape[:2], 4096, shape[2], LONG, store=cuda_store)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, kept, _ = tamis.attention_with(*static, LONG, store=cuda_store)
    for seed in (5, 6):
        fresh = random_qkv(shape, 4096, device="cuda", seed=seed)
        for to, t in zip(static, fresh):
            to.copy_(t)
        output.fill_(torch.nan)
        before = torch.cuda.memory_allocated()
        graph.replay()
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == before
        assert torch.equal(output, tamis.attention(*fresh, LONG, store=cuda_store))
        assert kept.item() == 1984 + 128  # half of the 3968 before the window


def test_a_capture_wants_its_plan(cuda_store):
    q, k, v = random_qkv(SMALL["mha_d64"], 333, device="cuda")
    with pytest.raises(ValueError, match="before the capture"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            tamis.attention(q, k, v, HALF, store=cuda_store)
    tamis.attention(q, k, v, HALF, store=cuda_store)  # nothing is left broken


def test_operator_keeps_torchs_rules(cuda_store):
    q, k, v = random_qkv(SMALL["gqa_d128"], 256, device="cuda")
    torch.library.opcheck(
        module._operator,
        (q, k, v, cuda_store, *HALF.numbers(), *tamis.ALL_BLOCKS.numbers(), 0.0, True, True),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_compiled_with_graphs(cuda_store):
    """torch.compile with CUDA graphs around it, as serving code has it."""

    def layer(q, k, v):
        return tamis.attention(q * 2, k, v, HALF, store=cuda_store) + 1

    q, k, v = random_qkv(SMALL["gqa_d128"], 512, device="cuda")
    expected = layer(q, k, v)
    compiled = torch.compile(layer, mode="reduce-overhead", fullgraph=True)
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        assert relative(compiled(q, k, v), expected) <= 1e-2


@pytest.mark.parametrize("kind", SMALL)
def test_model(kind, cuda_store):
    """Dense against eager; a sparse prompt, and a generation after it, on the device that the CPU agrees with."""
    prefill = tamis.hf.register(cuda_store, kind, sparse_layers=())
    prefill.record = True
    model, x = small_model(kind).cuda(), tokens(2, 600).cuda()
    with torch.inference_mode():
        results = []
        for implementation in ("eager", "tamis"):
            model.set_attn_implementation(implementation)
            results.append(model(x).logits)
        assert relative(results[1], results[0]) <= 1e-2
        prefill.sparse_layers = frozenset((1, 2))
        padded = torch.ones_like(x)
        padded[1, :100] = 0
        made = model.generate(x, attention_mask=padded, max_new_tokens=5, do_sample=False)
        assert made.shape == (2, 605)
        assert prefill.kept[0].tolist() == [600, 500]
        assert prefill.kept[2].tolist() == [292 + 16, 242 + 16]
        static = dict(max_new_tokens=5, do_sample=False, cache_implementation="static")  # whose steps are compiled
        assert model.generate(x, attention_mask=padded, **static).shape == (2, 605)
        long = tokens(1, 3000).cuda()
        assert model.generate(long, attention_mask=torch.ones_like(long), max_new_tokens=3, do_sample=False).shape == (1, 3003)
