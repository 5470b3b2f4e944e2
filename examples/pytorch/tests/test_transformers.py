"""attn_implementation="tamis" in small random models, against transformers' own attention."""

import pytest
import torch
import transformers
from small import SMALL, random_qkv, relative, small_model, tokens

import tamis
import tamis.hf

HALF = tamis.Selection("ratio", ratio=0.5, window=16, min_tokens=16)
LENGTH = 120


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def prefill():
    prefill = tamis.hf.register(selection=HALF, sparse_layers=(1, 2))
    prefill.record = True
    return prefill


def logits(model, implementation, *arguments, **named):
    model.set_attn_implementation(implementation)
    return model(*arguments, **named).logits


class Seen:
    """Queries, keys, values and output of each layer's attention, as a forward leads to them."""

    def __init__(self, implementation):
        self.layers = {}
        inner = transformers.AttentionInterface()[implementation]

        def attention(module, query, key, value, attention_mask, **others):
            output, weights = inner(module, query, key, value, attention_mask, **others)
            self.layers[module.layer_idx] = (query, key, value, output.transpose(1, 2))
            return output, weights

        transformers.AttentionInterface.register("seen", attention)
        transformers.AttentionMaskInterface.register("seen", transformers.AttentionMaskInterface()[implementation])


# ---- prompts


@pytest.mark.parametrize("kind", SMALL)
def test_dense_layers_equal_eager(kind, prefill):
    """Each layer on the same queries, keys and values; and the model's logits."""
    prefill.sparse_layers = frozenset()
    model, x = small_model(kind), tokens(2, LENGTH)
    eager = logits(model, "eager", x)
    seen = Seen("tamis")
    assert relative(logits(model, "seen", x), eager) <= 1e-2
    assert len(seen.layers) == 3
    from transformers.models.llama.modeling_llama import eager_attention_forward

    mask = torch.full((LENGTH, LENGTH), torch.finfo(torch.bfloat16).min, dtype=torch.bfloat16).triu(1)[None, None]
    for layer, (q, k, v, output) in seen.layers.items():
        module = model.model.layers[layer].self_attn
        expected = eager_attention_forward(module, q, k, v, mask, scaling=module.scaling)[0].transpose(1, 2)
        assert relative(output, expected) <= 1e-2
    assert all(kept.tolist() == [LENGTH, LENGTH] for kept in prefill.kept.values())


@pytest.mark.parametrize("kind", SMALL)
def test_sparse_layers_are_the_operator(kind, prefill):
    model, x = small_model(kind), tokens(2, LENGTH)
    seen = Seen("tamis")
    logits(model, "seen", x)
    for layer, (q, k, v, output) in seen.layers.items():
        assert torch.equal(output, tamis.attention(q, k, v, HALF if layer in (1, 2) else tamis.DENSE))
    keep = 52 + 16  # half of the 104 before the window, and the window
    assert {layer: kept.tolist() for layer, kept in prefill.kept.items()} == {0: [120, 120], 1: [keep, keep], 2: [keep, keep]}


def test_settings_come_from_the_store(store):
    prefill = tamis.hf.register(store, "gqa_d128")
    assert (prefill.selection, prefill.sparse_layers) == (HALF, {1, 2})
    model, x = small_model("gqa_d128"), tokens(1, LENGTH)
    from_store = logits(model, "tamis", x)
    tamis.hf.register(selection=HALF, sparse_layers=(1, 2))
    assert torch.equal(logits(model, "tamis", x), from_store)
    override = tamis.hf.register(store, "gqa_d128", selection=HALF.replace(ratio=0.25), sparse_layers=range(3))
    assert (override.selection.ratio, override.sparse_layers) == (0.25, {0, 1, 2})


def test_the_pattern_comes_from_the_store(store):
    """In all layers; of sparse ones among the kept tokens."""
    prefill = tamis.hf.register(store, "patterned")
    pattern = tamis.Pattern("sliding", sink_tokens=4, window_tokens=200)
    assert (prefill.pattern, prefill.sparse_layers) == (pattern, frozenset())
    model, x = small_model("gqa_d128"), tokens(1, 400)
    prefill.selection, prefill.sparse_layers = HALF, frozenset((1,))
    seen = Seen("tamis")
    logits(model, "seen", x)
    for layer, (q, k, v, output) in seen.layers.items():
        assert torch.equal(output, tamis.attention(q, k, v, HALF if layer == 1 else tamis.DENSE, pattern=pattern))
        assert not torch.equal(output, tamis.attention(q, k, v, HALF if layer == 1 else tamis.DENSE))
    assert tamis.hf.register(store, "patterned", pattern=tamis.ALL_BLOCKS, sparse_layers=()).pattern == tamis.ALL_BLOCKS
    with pytest.raises(ValueError, match="names no sparse_layers"):
        tamis.hf.register(store, "patterned", pattern=tamis.ALL_BLOCKS)


def test_several_names_stand_side_by_side(prefill):
    model, x = small_model("gqa_d128"), tokens(1, LENGTH)
    sparse = logits(model, "tamis", x)
    tamis.hf.register(name="tamis_dense", selection=tamis.DENSE, sparse_layers=())
    dense = logits(model, "tamis_dense", x)
    assert not torch.equal(sparse, dense)
    assert torch.equal(logits(model, "tamis", x), sparse)


def test_a_class_of_ones_own():
    class Shifted(tamis.hf.Prefill):
        def attend(self, module, query, key, value, scaling):
            output, kept = super().attend(module, query, key, value, scaling)
            return output + 1, kept

    shifted = Shifted(selection=HALF, sparse_layers=())
    transformers.AttentionInterface.register("shifted", shifted.attention)
    transformers.AttentionMaskInterface.register("shifted", shifted.mask)
    tamis.hf.register(selection=HALF, sparse_layers=())
    model, x = small_model("mha_d64"), tokens(1, LENGTH)
    assert not torch.equal(logits(model, "shifted", x), logits(model, "tamis", x))


# ---- generation


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("kind", SMALL)
def test_generation_after_a_sparse_prompt(kind, cache, prefill):
    """Greedy tokens are those of single steps of torch's attention over the cache that the sparse prompt has left."""
    model, x = small_model(kind), tokens(2, LENGTH)
    model.set_attn_implementation("tamis")
    named = {"cache_implementation": cache} if cache == "static" else {}
    made = model.generate(x, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(x), **named)
    assert made.shape == (2, LENGTH + 6)
    assert prefill.kept[1].tolist() == [68, 68]
    first = model(x)
    model.set_attn_implementation("sdpa")
    out, new = first, []
    for _ in range(6):
        new.append(out.logits[:, -1].argmax(-1, keepdim=True))
        out = model(new[-1], past_key_values=out.past_key_values)
    if cache == "dynamic":
        assert torch.equal(made[:, LENGTH:], torch.cat(new, 1))
    else:  # a mask in place of none is another path of torch's attention, whose last bits may differ
        assert torch.equal(made[:, LENGTH], new[0][:, 0])


def test_steps_equal_torch(prefill):
    """After a dense prompt: a step of one token, and one of several, as speculation and a second turn have it."""
    prefill.sparse_layers = frozenset()
    model, x = small_model("gqa_d128"), tokens(1, LENGTH + 9)
    for begin in (LENGTH, LENGTH + 8):
        results = []
        for implementation in ("sdpa", "tamis"):
            model.set_attn_implementation(implementation)
            cache = model(x[:, :begin]).past_key_values
            results.append(model(x[:, begin:], past_key_values=cache).logits)
        assert relative(results[1], results[0]) <= 1e-2


# ---- padding


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_what_they_are_alone(side, prefill):
    model, x = small_model("gqa_d128"), tokens(3, LENGTH)
    lengths = (LENGTH, 90, 40)
    mask = torch.zeros_like(x)
    for b, length in enumerate(lengths):
        mask[b, LENGTH - length :] = 1
    if side == "right":
        mask = mask.flip(1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    together = logits(model, "tamis", x, attention_mask=mask, position_ids=positions)
    kept = torch.stack([prefill.kept[layer] for layer in range(3)])
    for b in range(3):
        real = mask[b].bool()
        alone = logits(model, "tamis", x[b : b + 1, real])
        assert relative(together[b : b + 1, real], alone) <= 1e-2
        assert kept[:, b].tolist() == [prefill.kept[layer].item() for layer in range(3)]
    made = model.generate(x[:2], attention_mask=mask[:2], max_new_tokens=3, do_sample=False)
    assert made.shape == (2, LENGTH + 3)


# ---- what is refused


def refused(model, message, *arguments, **named):
    model.set_attn_implementation("tamis")
    with pytest.raises(tamis.hf.Unsupported, match=message):
        model(*arguments, **named)


def test_refused_calls(prefill):
    model, x = small_model("gqa_d128"), tokens(2, LENGTH)
    holes = torch.ones_like(x)
    holes[1, 50:60] = 0
    refused(model, "row 1 of attention_mask has holes", x, attention_mask=holes)
    holes[1] = 0
    refused(model, "row 1 of attention_mask is all padding", x, attention_mask=holes)
    refused(model, "no 4-D masks", x, attention_mask=torch.zeros(2, 1, LENGTH, LENGTH, dtype=torch.bfloat16))
    refused(model, "output_attentions must be false", x, output_attentions=True)
    packed = torch.cat([torch.arange(50), torch.arange(LENGTH - 50)])[None].expand(2, -1)
    refused(model, "no packed sequences", x, position_ids=packed, use_cache=False)


def test_training_is_refused(prefill):
    with torch.inference_mode(False), torch.enable_grad():
        x = tokens(1, LENGTH)
        model = small_model("gqa_d128", attention_dropout=0.1)
        refused(model, "has no gradient", x)
        refused(model.train(), "does not train", x)


def test_dropout_is_refused(prefill):
    model = small_model("gqa_d128")
    q, k, v = random_qkv(SMALL["gqa_d128"], 50)
    with pytest.raises(tamis.hf.Unsupported, match="no dropout"):
        prefill.attention(model.model.layers[0].self_attn, q, k, v, None, dropout=0.1)
    with pytest.raises(tamis.hf.Unsupported, match="attends causally"):
        prefill.attention(model.model.layers[0].self_attn, q, k, v, None, is_causal=False)
    with pytest.raises(tamis.hf.Unsupported, match="50 queries and 40 keys"):
        prefill.attention(model.model.layers[0].self_attn, q, k[:, :, :40], v[:, :, :40], None)


def build(name, **changes):
    config_class = getattr(transformers, name + "Config")
    config = dict(
        vocab_size=256,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        pad_token_id=0,
    )
    torch.manual_seed(3)
    return getattr(transformers, name + "ForCausalLM")(config_class(**{**config, **changes})).eval().to(torch.bfloat16)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("Mistral", dict(sliding_window=64), "no sliding or chunked windows: this prompt of 120 tokens .* window of 64"),
        ("Gemma2", dict(sliding_window=1000), "no soft caps"),
        ("GptOss", dict(num_local_experts=2, num_experts_per_tok=1, sliding_window=1000), "no attention sinks"),
    ],
)
def test_refused_models(name, changes, message, prefill):
    refused(build(name, **changes), message, tokens(1, LENGTH))


@pytest.mark.parametrize(
    "name, changes",
    [
        ("Mistral", dict(sliding_window=LENGTH)),  # no longer than the window: plain causal attention
        ("Qwen2", {}),
        ("Qwen3", {}),
        ("Phi3", {}),
    ],
)
def test_other_models(name, changes, prefill):
    prefill.sparse_layers = frozenset()
    model, x = build(name, **changes), tokens(1, LENGTH)
    assert relative(logits(model, "tamis", x), logits(model, "eager", x)) <= 1e-2


def test_windows_hold_for_the_steps_that_follow(prefill):
    """A prompt within the window, and a generation beyond it, where torch's mask cuts off the oldest keys."""
    prefill.sparse_layers = frozenset()
    model, x = build("Mistral", sliding_window=64), tokens(1, 70)
    results = []
    for implementation in ("eager", "tamis"):
        model.set_attn_implementation(implementation)
        out = model(x[:, :60])
        for i in range(60, 70):
            out = model(x[:, i : i + 1], past_key_values=out.past_key_values)
        results.append(out.logits)
    assert relative(results[1], results[0]) <= 1e-2


def test_another_models_store_is_refused(store):
    tamis.hf.register(store, "gqa_d128")
    model, x = small_model("mha_d64"), tokens(1, 50)
    model.set_attn_implementation("tamis")
    with pytest.raises(ValueError, match="4 KV heads and head_dim 64; the store's spec says 4, 2 and 128"):
        model(x)
    model = small_model("gqa_d128", layers=2)
    model.set_attn_implementation("tamis")
    with pytest.raises(ValueError, match="the model has 2 layers; the store's spec says 3"):
        model(x)
    with pytest.raises(ValueError, match="must be given"):
        tamis.hf.register(selection=HALF)


# ---- torch.compile


def test_compiled_model(prefill):
    model = small_model("gqa_d128", layers=2)
    model.set_attn_implementation("tamis")
    prefill.record = False
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.inference_mode(False), torch.no_grad():
        for length in (64, LENGTH):
            x = tokens(2, length)
            assert torch.equal(compiled(x).logits, model(x).logits)


def test_compiled_steps(prefill):
    """generate() compiles the steps of a static cache, on a GPU by itself."""
    model, x = small_model("gqa_d128", layers=2), tokens(2, 50)
    model.set_attn_implementation("tamis")
    torch._dynamo.reset()
    made = []
    with torch.inference_mode(False):
        for compiled in (False, True):
            if compiled:
                config = transformers.CompileConfig(backend="aot_eager", fullgraph=True, mode=None)
                config._compile_all_devices = True
                model.generation_config.compile_config = config
            static = dict(cache_implementation="static", max_new_tokens=3, do_sample=False)
            made.append(model.generate(x, attention_mask=torch.ones_like(x), **static))
    assert torch.equal(made[0], made[1])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
