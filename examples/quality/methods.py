"""The methods that run.py compares, as transformers' attention implementations, one text a setting:

    dense                                          plain attention, by libtamis
    sparse:ratio=.5,scope=head,layers=15-30        token-sparse attention, by libtamis; or coverage=.005, or count=2048
    mapped:ratio=.5,layers=15-30                   as sparse, and each head's kept rows times a matrix of its own, fitted to
                                                   what dense attention gives for those rows: a reading of the paper has them
    evict:ratio=.5,layers=15-30                    permanent eviction: what the first of the layers keeps, by its heads' mean
                                                   score, is all that the other ones see of the prompt, while decoding too
    random:ratio=.5,layers=15-30                   each head tokens at random
    recent:ratio=.5,layers=15-30                   the last tokens

layers: all, none, 15-30, 14+15+20-37, store (the default, where there is one), delta:0.5 (those whose representation drift is
at or below that quantile), random:16 (as many at random). All but dense keep the last `window` tokens, and never fewer than
min_tokens besides; other members are scope, window, pool, min_tokens, seed.

The last three are reference baselines: plain torch, scores in fp32, rows gathered and written back; nothing in them is fast.
They keep as many tokens as `sparse` does at the same ratio or count, and like it leave zeros in the other rows.
"""

import math
import random
from dataclasses import dataclass, replace

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

import tamis
import tamis.hf

KINDS = ("dense", "sparse", "mapped", "evict", "random", "recent")
NUMBERS = {"coverage": float, "ratio": float, "count": int, "window": int, "pool": int, "min_tokens": int, "seed": int}


@dataclass(frozen=True)
class Setting:
    text: str  # as it was given: its name in every result
    kind: str
    selection: tamis.Selection
    layers: str = "store"
    seed: int = 0


def parse(text, base=tamis.DENSE):
    """A Setting; what the text does not say is as in `base`, the store's selection. ValueError with the word that is wrong."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"{text}: {kind!r} is none of {', '.join(KINDS)}")
    setting = Setting(text, kind, base, "none" if kind == "dense" else "store")
    if kind == "dense":
        if rest:
            raise ValueError(f"{text}: dense has no members")
        return replace(setting, selection=tamis.DENSE)
    members = dict(_member(text, part) for part in rest.split(",") if part)
    policies = [name for name in ("coverage", "ratio", "count") if name in members]
    if len(policies) > 1:
        raise ValueError(f"{text}: {' and '.join(policies)}, one would be right")
    if policies:
        members["policy"] = policies[0]
    setting = replace(setting, layers=members.pop("layers", setting.layers), seed=members.pop("seed", 0))
    setting = replace(setting, selection=base.replace(**members))
    setting.selection.numbers()
    if setting.selection.policy == "dense":
        raise ValueError(f"{text}: how many tokens? coverage=, ratio= or count=")
    if kind not in ("sparse", "mapped") and setting.selection.policy not in ("ratio", "count"):
        raise ValueError(f"{text}: {kind} takes ratio= or count=, since it has no scores to cover")
    return setting


def _member(text, part):
    name, equals, value = part.partition("=")
    if not equals or name not in (*NUMBERS, "scope", "layers"):
        raise ValueError(f"{text}: {part!r}; members are {', '.join(NUMBERS)}, scope, layers")
    try:
        return name, NUMBERS.get(name, str)(value)
    except ValueError:
        raise ValueError(f"{text}: {name} is {value!r}, a number would be right") from None


def layer_list(text, n, stored=None, drift=None):
    """Of Setting.layers, for a model of n layers. drift: a function that gives the drift of each."""
    word, _, argument = text.partition(":")
    if text in ("all", "none"):
        return tuple(range(n)) if text == "all" else ()
    if text == "store":
        if not stored:
            raise ValueError("layers=store, but there is no store with sparse layers: name them")
        return tuple(stored)
    if word == "delta":
        return drift_layers(drift(), float(argument))
    if word == "random":
        count, _, seed = argument.partition(":")
        return tuple(sorted(random.Random(int(seed or 0)).sample(range(n), int(count))))
    layers = set()
    for part in text.split("+"):
        first, _, last = part.partition("-")
        layers |= set(range(int(first), int(last or first) + 1))
    if not all(0 <= layer < n for layer in layers):
        raise ValueError(f"layers={text}: the model has 0 to {n - 1}")
    return tuple(sorted(layers))


def drift_layers(drift, delta):
    """The layers at or below the delta quantile, linearly interpolated, of the drift that is normalised to sum 1."""
    total = math.fsum(drift)
    shares = sorted(d / total for d in drift)
    place = delta * (len(shares) - 1)
    low = int(place)
    bound = shares[low] + (place - low) * (shares[min(low + 1, len(shares) - 1)] - shares[low])
    return tuple(i for i, d in enumerate(drift) if d / total <= bound)


def measure_drift(model, ids):
    """Mean over tokens of ||out - in|| / (||in|| + 1e-8) for each decoder layer, in one forward."""
    drift, handles = [], []

    def hook(_module, arguments, output):
        before, after = (t.float() for t in (arguments[0], output[0] if isinstance(output, tuple) else output))
        drift.append(float(((after - before).norm(dim=-1) / (before.norm(dim=-1) + 1e-8)).mean()))

    try:
        for layer in model.model.layers:
            handles.append(layer.register_forward_hook(hook))
        with torch.inference_mode():
            model.model(ids, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    return drift


# ---- the attention


def keep_count(selection, length):
    """Tokens kept, window included; the operator's definition for ratio and count. The length itself: dense."""
    before = length - selection.window
    if before <= selection.min_tokens:
        return length
    wanted = math.ceil(selection.ratio * before) if selection.policy == "ratio" else selection.count
    return min(max(selection.min_tokens, wanted), before) + selection.window


def mean_score(q, k, selection, scale):
    """The operator's score of each token before the window, pooled, mean over the query heads: (B, L - W)."""
    window, length = selection.window, q.shape[2]
    group = q.shape[1] // k.shape[1]
    total = 0.0
    rows = torch.arange(length - window, length, device=q.device)
    seen = torch.arange(length, device=q.device)[None, :] <= rows[:, None]
    for head in range(q.shape[1]):  # one at a time: (W, L) in fp32 for each
        logits = (q[:, head, -window:].float() @ k[:, head // group].float().transpose(1, 2)) * scale
        total = total + logits.masked_fill(~seen, -torch.inf).softmax(-1).mean(1)[:, : length - window]
    pooled = functional.avg_pool1d(total[:, None], selection.pool, 1, selection.pool // 2)[:, 0]
    return pooled / q.shape[1]


def attend_among(q, k, v, indices, scale):
    """Causal attention among the tokens at indices (B, H or 1, n), ascending; zero in every other row."""
    batch, heads, length, dim = q.shape
    rows = indices.expand(batch, heads, -1)[..., None].expand(-1, -1, -1, dim)
    group = heads // k.shape[1]
    k, v = (t.repeat_interleave(group, 1) for t in (k, v))
    compact = functional.scaled_dot_product_attention(*(t.gather(2, rows) for t in (q, k, v)), is_causal=True, scale=scale)
    output = torch.zeros(batch, length, heads, dim, dtype=q.dtype, device=q.device).transpose(1, 2)
    return output.scatter_(2, rows, compact)


class Method(tamis.hf.Prefill):
    """Dense and token-sparse, by libtamis; `use` sets what the next forwards do."""

    left = None

    def use(self, setting, layers):
        self.setting, self.selection, self.sparse_layers = setting, setting.selection, frozenset(layers)
        self.kept = {}

    def follow(self, lefts, lengths):
        """The next steps come behind these prompts: `left` as it was after each, and their tokens. Their cache begins with as
        many places more as a prompt is shorter than the longest."""


class Mapped(Method):
    """With a matrix (D, D) for each sparse layer and query head, by least squares on the rows that the layer keeps.

    Between begin() and end() forwards are dense, and what both kinds of attention make of one layer is summed up. Dropped
    rows are zero, and so add nothing.
    """

    RIDGE = 1e-3  # of the mean diagonal: rows that never vary keep the identity

    def use(self, setting, layers):
        super().use(setting, layers)
        self.maps, self.sums = getattr(self, "fitted", {}).get(setting), None

    def begin(self):
        self.sums = {}

    def end(self):
        self.maps = {layer: self._solve(*sums) for layer, sums in self.sums.items()}
        self.sums = None
        self.fitted = {**getattr(self, "fitted", {}), self.setting: self.maps}

    def _solve(self, own, cross):
        dim = own.shape[-1]
        ridge = self.RIDGE * own.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(dim, device=own.device)
        return torch.linalg.solve(own + ridge, cross + ridge)

    def attend(self, module, query, key, value, scaling):
        output, kept = super().attend(module, query, key, value, scaling)
        layer = module.layer_idx
        if layer not in self.sparse_layers:
            return output, kept
        if self.sums is None:
            return (output.float() @ self.maps[layer]).to(output.dtype), kept
        dense, _, _ = tamis.attention_with(query, key, value, store=self.store, scale=scaling)
        rows, wanted = output[0].float(), dense[0].float()
        own, cross = self.sums.get(layer, (0.0, 0.0))
        self.sums[layer] = (own + rows.mT @ rows, cross + rows.mT @ wanted)
        return dense, kept


class Baseline(Method):
    """One that chooses its tokens itself: choose() gives positions (B, Hq or 1, keep), ascending."""

    def attend(self, module, query, key, value, scaling):
        layer, length = module.layer_idx, query.shape[2]
        keep = keep_count(self.selection, length) if layer in self.sparse_layers else length
        if keep >= length:
            output, kept, _ = tamis.attention_with(query, key, value, store=self.store, scale=scaling)
            return output, kept
        indices = self.choose(layer, query, key, keep, scaling)
        kept = torch.full((query.shape[0],), keep, dtype=torch.int32, device=query.device)
        return attend_among(query, key, value, indices, scaling), kept

    def with_window(self, before, length):
        """Positions before the window, put in order, and those of the window."""
        tail = torch.arange(length - self.selection.window, length, device=before.device)
        return torch.cat([before.sort(-1).values, tail.expand(*before.shape[:-1], -1)], -1)


class Random(Baseline):
    def choose(self, layer, query, key, keep, scaling):
        batch, heads, length, _ = query.shape
        generator = torch.Generator().manual_seed(self.setting.seed * 1000 + layer)
        order = torch.rand(batch, heads, length - self.selection.window, generator=generator)
        return self.with_window(order.topk(keep - self.selection.window, -1).indices.to(query.device), length)


class Recent(Baseline):
    def choose(self, layer, query, key, keep, scaling):
        return torch.arange(query.shape[2] - keep, query.shape[2], device=query.device).expand(query.shape[0], 1, -1)


class Evict(Baseline):
    """The set is chosen in the first of the layers, for all heads and for the others; one prompt at a time."""

    left = None  # positions of the last prompt that are left (n); None: all of it
    seen = None  # (batch, length): which tokens steps see of the prompts that they follow; None: all

    def attend(self, module, query, key, value, scaling):
        if module.layer_idx == 0:
            self.left = None
        return super().attend(module, query, key, value, scaling)

    def follow(self, lefts, lengths):
        if all(left is None for left in lefts):
            self.seen = None
            return
        longest = max(lengths)
        self.seen = torch.zeros(len(lefts), longest, dtype=torch.bool, device=lefts[0].device)
        for seen, left, length in zip(self.seen, lefts, lengths):
            seen[longest - length :] = left is None
            if left is not None:
                seen[longest - length + left] = True

    def choose(self, layer, query, key, keep, scaling):
        if layer == min(self.sparse_layers):
            score = mean_score(query, key, self.selection, scaling)
            best = score.topk(keep - self.selection.window, -1).indices
            self.left = self.with_window(best, query.shape[2])[0]
        return self.left[None, None]

    def attention(self, module, query, key, value, attention_mask, **others):
        """A step after the prompt sees of it what is left, and all that came since."""
        if query.shape[2] < key.shape[2] and module.layer_idx in self.sparse_layers and self.seen is not None:
            since = key.shape[2] - self.seen.shape[1]
            seen = functional.pad(self.seen, (0, since), value=True)[:, None, None]
            attention_mask = seen if attention_mask is None else attention_mask & seen
        return super().attention(module, query, key, value, attention_mask, **others)


class Switch:
    """All methods behind one name of transformers': use() says which the next forwards are."""

    NAME = "tamis_quality"
    CLASSES = {"dense": Method, "sparse": Method, "mapped": Mapped, "evict": Evict, "random": Random, "recent": Recent}

    def __init__(self, store=None, spec=None):
        self.methods = {}
        for kind, method in self.CLASSES.items():
            self.methods[kind] = method(store, spec, selection=tamis.DENSE, sparse_layers=(), pattern=tamis.ALL_BLOCKS)
            self.methods[kind].record = True
        self.now = self.methods["dense"]
        AttentionInterface.register(self.NAME, lambda *a, **k: self.now.attention(*a, **k))
        AttentionMaskInterface.register(self.NAME, lambda *a, **k: self.now.mask(*a, **k))

    def use(self, setting, layers):
        self.now = self.methods[setting.kind]
        self.now.use(setting, layers)

    @property
    def kept(self):
        """Tokens that each layer kept at the last prompt, as numbers, by layer."""
        return {layer: int(kept[0]) for layer, kept in self.now.kept.items()}
