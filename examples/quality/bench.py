"""A model and its tokenizer under the settings of methods.py: prompts, their times, and what comes behind them."""

import time

import torch

import methods
import words


class Bench:
    """A model, its tokenizer, and the methods; what a single measurement needs."""

    def __init__(self, o):
        from transformers import AutoModelForCausalLM

        self.device = torch.device(o.device)
        self.switch = methods.Switch(o.store, o.spec)
        self.tokenizer = words.load_tokenizer(o.model)
        self.model = (
            AutoModelForCausalLM.from_pretrained(
                o.model,
                dtype=getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[o.dtype]),
                local_files_only=True,
                attn_implementation=methods.Switch.NAME,
            )
            .to(self.device)
            .eval()
        )
        self.n_layers = self.model.config.num_hidden_layers
        self.counts, self.warm = {}, set()
        self.marks = self.find_marks()
        self.line_ends = {i for i in range(len(self.tokenizer)) if "\n" in self.tokenizer.decode([i])}

    def count(self, text):
        """Tokens of a piece; the tokenizer's own marks at a text's beginning left out."""
        if text not in self.counts:
            self.counts[text] = len(self.encode(text))
        return self.counts[text]

    def encode(self, text):
        if isinstance(self.tokenizer, words.WordTokenizer):
            return self.tokenizer.encode(text)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def find_marks(self):
        """What the tokenizer puts before a text of its own accord, and models expect there."""
        if isinstance(self.tokenizer, words.WordTokenizer):
            return []
        plain, marked = self.encode("a"), self.tokenizer.encode("a")
        n = len(marked) - len(plain)
        return marked[:n] if n > 0 and marked[n:] == plain else []

    def prompt(self, text):
        return [*self.marks, *self.encode(text)]

    def tensor(self, ids):
        return torch.tensor([ids], device=self.device)

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def prefill(self, ids, setting, layers, warm):
        """(output, milliseconds). The first of a setting and length is done twice, for plans and clocks."""
        self.switch.use(setting, layers)
        if warm and (setting, len(ids)) not in self.warm:
            self.model(self.tensor(ids), use_cache=True, logits_to_keep=1)
            self.warm.add((setting, len(ids)))
        prompt = self.tensor(ids)
        self.synchronize()
        begun = time.perf_counter()
        out = self.model(prompt, use_cache=True, logits_to_keep=1)
        self.synchronize()
        return out, 1000 * (time.perf_counter() - begun)

    def fit(self, setting, layers, prompts):
        """The matrices of a mapped setting, once."""
        self.switch.use(setting, layers)
        if self.switch.now.maps is not None:
            return
        self.switch.now.begin()
        for ids in prompts:
            self.model(self.tensor(ids), use_cache=True, logits_to_keep=1)
        self.switch.now.end()

    def answers(self, outs, lefts, most):
        """Of each prefill, and what its method had left then, the likeliest tokens: up to a line's end, the text's, or `most`.
        Several are made together, behind caches that are filled up at their beginning to the length of the longest."""
        lengths = [out.past_key_values.get_seq_length() for out in outs]
        cache = outs[0].past_key_values if len(outs) == 1 else joined([out.past_key_values for out in outs])
        self.switch.now.follow(lefts, lengths)
        steps = torch.tensor(lengths, device=self.device)[:, None]
        seen = (torch.arange(max(lengths), device=self.device)[None] >= max(lengths) - steps).long()
        tokens = torch.cat([out.logits[:, -1].argmax(-1, keepdim=True) for out in outs])
        made = [tokens]
        for i in range(max(most) - 1):
            if all(self.ends(row) for row in torch.cat(made, 1).tolist()):
                break
            seen = torch.cat([seen, seen.new_ones(len(outs), 1)], 1)
            more = {} if len(outs) == 1 else {"attention_mask": seen, "position_ids": steps + i}
            tokens = self.model(tokens, past_key_values=cache, use_cache=True, **more).logits[:, -1].argmax(-1, keepdim=True)
            made.append(tokens)
        said = [row[:n] for row, n in zip(torch.cat(made, 1).tolist(), most)]
        return [self.tokenizer.decode(row[: self.ends(row)]) for row in said]

    def ends(self, ids):
        """How many tokens an answer has; None where it goes on. A line's end before any word is none."""
        for i, token in enumerate(ids):
            if token == self.tokenizer.eos_token_id or i and token in self.line_ends:
                return i + 1
        return None

    def likelihood(self, out, left, ids):
        """Mean negative log-likelihood of ids, which follow the prompt."""
        self.switch.now.follow([left], [out.past_key_values.get_seq_length()])
        first = out.logits[:, -1:]
        rest = self.model(self.tensor(ids[:-1]), past_key_values=out.past_key_values, use_cache=True).logits
        logits = torch.cat([first, rest], 1).float()
        return float(torch.nn.functional.cross_entropy(logits[0], self.tensor(ids)[0]))


def joined(caches):
    """One cache of several sequences, zeros before the shorter ones."""
    from transformers import DynamicCache

    longest, cache = max(each.get_seq_length() for each in caches), DynamicCache()
    for layer in range(len(caches[0].layers)):
        pairs = [(each.layers[layer].keys, each.layers[layer].values) for each in caches]
        padded = [[torch.nn.functional.pad(t, (0, 0, longest - t.shape[2], 0)) for t in pair] for pair in pairs]
        cache.update(*(torch.cat(tensors) for tensors in zip(*padded)), layer)
    return cache
