"""attn_implementation="tamis" for transformers: prompts by libtamis, token-sparse in the layers that were asked for; the rest
of the generation by torch's own attention.

What a step does is told from its mask, which transformers has made once a forward, by Prefill.mask():
  - queries that are all the keys there are: a prompt. libtamis, dense or sparse by layer;
  - a prompt with padding at its ends: the same, sequence by sequence. This reads the mask on the host;
  - queries behind keys that are in the cache already, one or several: torch's scaled_dot_product_attention, dense.
Whatever libtamis does not do is refused with Unsupported, never done otherwise.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from .operator import attention_with
from .library import ALL_BLOCKS, DENSE, Store


class Unsupported(NotImplementedError):
    """A model or a call asks for what this attention does not do."""


def register(store=None, spec=None, *, name="tamis", selection=None, sparse_layers=None, pattern=None):
    """Make `attn_implementation=name` known to transformers; returns the Prefill behind it, whose settings may be changed
    between forwards. Registering a name again replaces it.

    store, spec: file of `tamis gen` and the name of a spec in it, where there are several: kernels, selection, sparse layers
    and the block pattern come from there. On the CPU it may be left out. selection, sparse_layers, pattern: instead of the
    spec's.
    """
    prefill = Prefill(store, spec, selection, sparse_layers, pattern)
    AttentionInterface.register(name, prefill.attention)
    AttentionMaskInterface.register(name, prefill.mask)
    return prefill


class Prefill:
    """Settings of one registered name.

    selection: a tamis.Selection, of the sparse layers. sparse_layers: a frozenset of layer indices. pattern: a
    tamis.Pattern, of all layers: among the kept tokens in the sparse ones. record: whether kept is filled: by layer the
    tokens that each sequence kept at its last prompt, an int32 tensor (B) on the model's device. In dense layers, all; of a
    padded batch, of its real tokens.
    """

    def __init__(self, store=None, spec=None, selection=None, sparse_layers=None, pattern=None):
        self.store = store
        self.model_layers, self.heads = 0, None  # what a spec says of its model; 0 and None: nothing
        if store is not None:
            self._read(Store(store), spec, selection, sparse_layers, pattern)
        elif selection is None or sparse_layers is None:
            raise ValueError("without a store, selection and sparse_layers must be given")
        else:
            self.selection, self.sparse_layers = selection, frozenset(sparse_layers)
            self.pattern = ALL_BLOCKS if pattern is None else pattern
        self.record, self.kept = False, {}

    def _read(self, store, spec, selection, sparse_layers, pattern):
        problem = store.problem(spec)
        self.heads = (problem.q_heads, problem.kv_heads, problem.head_dim)
        self.selection = store.selection(spec) if selection is None else selection
        self.pattern = store.pattern(spec) if pattern is None else pattern
        self.model_layers, stored = store.layers(spec)
        if sparse_layers is None and not stored and self.pattern == ALL_BLOCKS:
            raise ValueError(f"the spec in {store.path} names no sparse_layers: give them, `range(n)` for all")
        self.sparse_layers = frozenset(stored if sparse_layers is None else sparse_layers)

    # ---- the mask

    def mask(
        self,
        batch_size,
        q_length,
        kv_length,
        q_offset=0,
        kv_offset=0,
        mask_function=causal_mask_function,
        attention_mask=None,
        local_size=None,
        allow_is_causal_skip=True,
        use_vmap=False,
        **others,
    ):
        """Called by transformers once a forward and kind of layer. None: a causal prompt; 2-D: one with padding; 4-D: a step
        for torch's attention, which takes the mask as it is."""
        if q_length == 1 or not _is_first(q_offset):
            return sdpa_mask(
                batch_size=batch_size,
                q_length=q_length,
                kv_length=kv_length,
                q_offset=q_offset,
                kv_offset=kv_offset,
                mask_function=mask_function,
                attention_mask=attention_mask,
                local_size=local_size,
                allow_is_causal_skip=allow_is_causal_skip,
                use_vmap=use_vmap,
                **others,
            )
        if use_vmap or not allow_is_causal_skip:
            raise Unsupported(
                "tamis attends causally to one sequence a row: no packed sequences, no mask functions of one's own"
            )
        if mask_function is not causal_mask_function and not (local_size is not None and q_length <= local_size):
            raise Unsupported(
                f"tamis has no sliding or chunked windows: this prompt of {q_length} tokens is longer than the "
                f"layer's window{f' of {local_size}' if local_size is not None else ''}"
            )
        return None if attention_mask is None else _padding(attention_mask[:, :q_length])

    # ---- the attention

    def attention(self, module, query, key, value, attention_mask, dropout=0.0, scaling=None, **others):
        """Called by transformers in each layer; (output (B, L, Hq, D), None)."""
        self._refuse(module, query, key, value, dropout, others)
        length, keys = query.shape[2], key.shape[2]
        if length == 1 or (attention_mask is not None and attention_mask.dim() == 4 and keys > length):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=0.0, scaling=scaling, is_causal=True
            )
        if attention_mask is not None and attention_mask.dim() == 4:
            raise Unsupported("tamis attends causally: no 4-D masks over a prompt")
        if keys < length:
            raise Unsupported(f"tamis attends among the prompt's own tokens: here are {length} queries and {keys} keys")
        key, value = key[:, :, :length], value[:, :, :length]  # of a static cache, whose rest is empty
        if attention_mask is None:
            output, kept = self.attend(module, query, key, value, scaling)
        else:
            output, kept = self._ragged(module, query, key, value, attention_mask, scaling)
        if self.record:
            self.kept[module.layer_idx] = kept
        return output.transpose(1, 2), None

    def attend(self, module, query, key, value, scaling):
        """One layer's prompt: (output (B, Hq, L, D), kept (B)). What a class of one's own would override."""
        selection = self.selection if module.layer_idx in self.sparse_layers else DENSE
        output, kept, _ = attention_with(query, key, value, selection, pattern=self.pattern, store=self.store, scale=scaling)
        return output, kept

    def _ragged(self, module, query, key, value, padding, scaling):
        """Sequences one by one, each without its padding, whose rows become zero."""
        batch, heads, length, dim = query.shape
        output = query.new_zeros(batch, length, heads, dim).transpose(1, 2)
        kept = []
        for b, (begin, end) in enumerate(_spans(padding)):
            parts = (t[b : b + 1, :, begin:end] for t in (query, key, value))
            part, part_kept = self.attend(module, *parts, scaling)
            output[b : b + 1, :, begin:end] = part
            kept.append(part_kept)
        return output, torch.cat(kept)

    def _refuse(self, module, query, key, value, dropout, others):
        causal = others.get("is_causal")
        if module.training or dropout:
            raise Unsupported("tamis does not train: call model.eval(), and have no dropout")
        if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
            raise Unsupported("tamis has no gradient: call the model under torch.no_grad() or torch.inference_mode()")
        if not (getattr(module, "is_causal", True) if causal is None else causal):
            raise Unsupported("tamis attends causally: this layer does not")
        if others.get("output_attentions"):
            raise Unsupported("tamis keeps no attention weights: output_attentions must be false")
        for member, what in (("softcap", "soft caps"), ("s_aux", "attention sinks"), ("position_bias", "position biases")):
            if others.get(member) is not None:
                raise Unsupported(f"tamis has no {what}, which this model's attention asks for ({member})")
        window = others.get("sliding_window")
        if window is not None and 1 < query.shape[2] > window:
            raise Unsupported(
                f"tamis has no sliding windows: this prompt of {query.shape[2]} tokens is longer than the layer's "
                f"window of {window}"
            )
        if getattr(module, "layer_idx", None) is None:
            raise Unsupported("tamis goes by module.layer_idx, which this model's attention does not have")
        self._compare(module, query, key)

    def _compare(self, module, query, key):
        """The store's spec with the model, where there is one."""
        here = (query.shape[1], key.shape[1], query.shape[3])
        if self.heads is not None and here != self.heads:
            raise ValueError(
                "the model has %d query heads, %d KV heads and head_dim %d; the store's spec says %d, %d and %d"
                % (here + self.heads)
            )
        layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        if self.model_layers and layers is not None and layers != self.model_layers:
            raise ValueError(f"the model has {layers} layers; the store's spec says {self.model_layers}")


def _is_first(q_offset):
    """Whether nothing was in the cache before. A static cache has its length on the device."""
    return int(q_offset) == 0


def _padding(mask):
    """None where nothing is padded; else the mask, with the spans of real tokens noted, once for all layers."""
    if torch.compiler.is_compiling():
        raise Unsupported(
            "tamis reads attention_mask on the host, which a compiled model cannot: leave it out where no row is padded"
        )
    if bool(mask.all()):
        return None
    mask.tamis_spans = _find_spans(mask)
    return mask


def _spans(mask):
    spans = getattr(mask, "tamis_spans", None)  # lost where a hook has moved the mask to another device
    return _find_spans(mask) if spans is None else spans


def _find_spans(mask):
    spans = []
    for b, row in enumerate(mask.to("cpu", torch.bool)):
        real = row.nonzero()
        begin, end = (int(real[0]), int(real[-1]) + 1) if len(real) else (0, 0)
        if end - begin != len(real) or not len(real):
            raise Unsupported(
                f"tamis takes padding before and after a row's tokens: row {b} of attention_mask "
                + ("has holes" if len(real) else "is all padding")
            )
        spans.append((begin, end))
    return spans
