#!/usr/bin/env python3
"""Trains a small Llama (GQA, RoPE, words for tokens) on the tasks of tasks.py until it solves the needles, for run.py to
measure on where no weights are at hand.

    train.py --out model                        one H200, minutes: 24 million parameters, 64 to 16384 tokens
    train.py --out model --preset tiny          a CPU: 64 to 256 tokens, to see it learn

Lengths double from stage to stage. A stage ends when the needles' answers of the last steps are right to --target, or at its
last step; so does not depend on a guess of how long each takes. The first stage is where attention learns to look a word up and
to go on as it went on there, and ends with that; each later one adds what takes several such steps, at twice the length. A
context has as many questions as fit, since one answer in 16384 tokens would teach slowly. Some, most at first, are plain lists
of facts that are asked one after another, and rows of words that come again and again, where every word teaches to look for
what came before.

A call that was stopped goes on behind the last stage that it finished. The same seed and options make the same batches. Of the
loss, answers count fully, the rest of the text by --text-weight.
"""

import argparse
import json
import pathlib
import random
import sys
import time

import numpy
import torch
from torch.nn import functional

import tasks
from words import EOS, PAD, WordTokenizer

_MODEL = ("hidden", "layers", "heads", "kv_heads", "inner", "rate")
_COURSE = ("first", "last", "step_tokens", "first_steps", "steps", "last_steps")
PRESETS = {
    "small": dict(zip(_MODEL + _COURSE, (512, 8, 8, 2, 1408, 1e-3, 64, 16384, 65536, 2500, 400, 300))),
    "tiny": dict(zip(_MODEL + _COURSE, (128, 3, 4, 2, 256, 2e-3, 64, 256, 2048, 1500, 400, 300))),
}
HEAD_DIM = 64  # which libtamis has kernels for
MIXTURE = {"multikey": 4, "single": 1, "multivalue": 3, "multiquery": 3, "variables": 2, "common": 1, "frequent": 1}
REPEATED = [*tasks.KEYS, *(str(number) for number in range(100, 1000))]
SHARES = {
    "first": (0.4, 0.4),
    1024: (0.1, 0.3),
    "last": (0.0, 0.3),
}  # of repeats and lists: first stage, up to 1024 tokens, then
STATE = "state.pt"  # weights and optimizer between two stages; goes when the last is done
RECENT = 20  # steps that a stage's end is judged by


class Lessons(torch.utils.data.Dataset):
    """Batches of one stage, by number: token ids and weights of the loss, (batch, length) each, and which are the keys and
    values that the answers to judge by have to name. repeats, lists: the shares of contexts that are repeated words, and lists
    of facts. judged: names of tasks, and "list"."""

    def __init__(self, tokenizer, length, batch, n, seed, text_weight, repeats, lists, judged=tasks.NEEDLES):
        self.tokenizer, self.length, self.batch, self.n = tokenizer, length, batch, n
        self.seed, self.text_weight, self.repeats, self.lists, self.judged = seed, text_weight, repeats, lists, judged
        self.looked_up = [tokenizer.ids[word] for word in REPEATED]
        self.counts = {}

    def __len__(self):
        return self.n

    def ids(self, text):
        """Of a piece; those that come again are kept."""
        if text not in self.counts:
            if len(self.counts) > 100_000:
                self.counts.clear()
            self.counts[text] = self.tokenizer.encode(text)
        return self.counts[text]

    def count(self, text):
        return len(self.ids(text))

    def __getitem__(self, number):
        shape = (self.batch, self.length)
        ids, weights, needles = numpy.full(shape, PAD, numpy.int64), numpy.zeros(shape, numpy.float32), numpy.zeros(shape, bool)
        for row in range(self.batch):
            self.fill(random.Random(f"{self.seed}/{self.length}/{number}/{row}"), ids[row], weights[row], needles[row])
        return torch.from_numpy(ids), torch.from_numpy(weights), torch.from_numpy(needles)

    def fill(self, rng, ids, weights, needles):
        kind = rng.random()
        if kind < self.repeats:
            return self.repeat(rng, ids, weights)
        is_list = kind < self.repeats + self.lists
        task = "multikey" if is_list else rng.choices(list(MIXTURE), MIXTURE.values())[0]
        example = self.list(rng) if is_list else self.example(task, rng)
        is_judged = ("list" if is_list else task) in self.judged
        at = 0

        def put(text, weight):
            nonlocal at
            new = self.ids(text)[: len(ids) - at]
            ids[at : at + len(new)], weights[at : at + len(new)] = new, weight
            at += len(new)
            return slice(at - len(new), at)

        for piece in example.pieces:
            put(piece, self.text_weight)
        for turn in example.turns:
            put(turn.question.rsplit("?", 1)[1] if is_list else turn.question, self.text_weight)
            answer = put(turn.answer, 1.0)
            if is_judged:
                needles[answer] = numpy.isin(ids[answer], self.looked_up)
        if at < len(ids):
            ids[at], weights[at] = EOS, self.text_weight

    def repeat(self, rng, ids, weights):
        row = [self.ids(word)[0] for word in rng.sample(REPEATED, rng.randint(8, min(len(ids) // 2, len(REPEATED))))]
        ids[:] = numpy.resize(row, len(ids))
        weights[len(row) :] = 1.0
        return None

    def list(self, rng):
        n = min(len(tasks.KEYS), max(2, self.length // 13))  # a fact takes 6 tokens, and its question with the answer 6
        return tasks.make("multikey", self.length, rng.getrandbits(48), self.count, turns=n, keys=n)

    def example(self, task, rng):
        """With as many questions as fit beside as much text; those of some tasks have four facts each."""
        room = max(1, self.length // 40 // (4 if task in ("multivalue", "multiquery", "variables") else 1))
        turns = min(rng.randint(1, 16), room)
        keys = min(len(tasks.KEYS), rng.randint(turns, max(turns, self.length // 20)))
        return tasks.make(
            task,
            self.length,
            rng.getrandbits(48),
            self.count,
            haystack=rng.choice(["text", "text", "text", "code"]),
            turns=turns,
            keys=keys,
        )


def build(o, vocabulary):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(o.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-vocabulary // 64) * 64,
            hidden_size=o.hidden,
            intermediate_size=o.inner,
            num_hidden_layers=o.layers,
            num_attention_heads=o.heads,
            num_key_value_heads=o.kv_heads,
            head_dim=HEAD_DIM,
            max_position_embeddings=2 * o.last,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e6,
            },  # slow enough that 16384 tokens are no turn of half the pairs
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=None,
            eos_token_id=EOS,
            attn_implementation="sdpa",
        )
    )


def stages(o):
    """(length, most steps) of each, doubling."""
    length, first = o.first, True
    while length <= o.last:
        yield length, o.first_steps if first else o.last_steps if 2 * length > o.last else o.steps
        length, first = 2 * length, False


def train_step(model, optimizer, batch, autocast):
    """(loss, how many of the needles' keys and values are right, each after the right ones before it, and of how many)."""
    ids, weights, needles = batch
    with autocast:
        logits = model(ids, use_cache=False).logits[:, :-1]
    target, weight, needle = ids[:, 1:], weights[:, 1:], needles[:, 1:]
    each = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), target.reshape(-1), reduction="none")
    loss = (each * weight.reshape(-1)).sum() / weight.sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        right = ((logits.argmax(-1) == target) & needle).sum()
    return loss.detach(), torch.stack([right, needle.sum()])


def run_stage(o, model, optimizer, lessons, device, history, is_first, is_last, say):
    """Until its needles are solved or its steps are over. The last one's rate falls to nothing, over all its steps."""
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    loader = torch.utils.data.DataLoader(
        lessons, batch_size=None, num_workers=o.workers, prefetch_factor=4 if o.workers else None
    )
    recent, begun = [], time.monotonic()
    for number, batch in enumerate(loader):
        rate = o.rate * (0.5 if lessons.length > 1024 else 1.0)
        if is_first:
            rate *= min(1.0, (number + 1) / o.warm_up)
        if is_last:
            rate *= 1 - number / len(lessons)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, right = train_step(model, optimizer, [t.to(device, non_blocking=True) for t in batch], autocast)
        recent = [*recent[1 - RECENT :], right]
        if (number + 1) % RECENT and number + 1 < len(lessons):
            continue
        right, of = torch.stack(recent).sum(0).tolist()
        score = right / max(of, 1)
        seconds = time.monotonic() - begun
        history.append(dict(length=lessons.length, step=number + 1, loss=float(loss), needles=score, seconds=round(seconds, 1)))
        say(f"{lessons.length:6} tokens  step {number + 1:5}  loss {float(loss):.4f}  needles {score:.4f}  {seconds:7.1f} s")
        if score >= o.target and not is_last:
            return


def build_optimizer(o, model, device):
    matrices, vectors = ([p for p in model.parameters() if (p.dim() > 1) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=o.rate, betas=(0.9, 0.95), fused=device.type == "cuda")


def train(o, say=print):
    """The history of all stages. Those that an earlier call with the same options finished are not done again."""
    device = torch.device(o.device)
    tokenizer = WordTokenizer(tasks.vocabulary())
    history, plan = [], list(stages(o))
    model = build(o, len(tokenizer)).to(device).train()
    optimizer = build_optimizer(o, model, device)
    done = take_up(o, model, optimizer, history)
    say(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, {len(tokenizer)} words, {device}")
    for i, (length, steps) in enumerate(plan):
        if i < done:
            continue
        shares = SHARES["first" if i == 0 else 1024 if length <= 1024 else "last"]
        judged = ("list", "single", "multikey") if i == 0 else tasks.NEEDLES  # the harder ones have all stages to be learned in
        lessons = Lessons(tokenizer, length, max(1, o.step_tokens // length), steps, o.seed, o.text_weight, *shares, judged)
        run_stage(o, model, optimizer, lessons, device, history, i == 0, i == len(plan) - 1, say)
        save(o, model, tokenizer, history, i + 1, optimizer)
    (pathlib.Path(o.out) / STATE).unlink(missing_ok=True)
    return history


def take_up(o, model, optimizer, history):
    """How many stages the folder has finished; their weights, optimizer and history with them."""
    out = pathlib.Path(o.out)
    path = out / "training.json"
    if not path.exists():
        return 0
    before = json.loads(path.read_text())
    if before["options"] != _said(o):
        raise SystemExit(f"train.py: {out} was trained with other options: choose another folder")
    if (out / STATE).exists():
        state = torch.load(out / STATE, map_location=o.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        before = state
    history += before["history"]
    return before["stages"]


def _said(o):
    """Options that make the model what it is."""
    return {name: value for name, value in vars(o).items() if name not in ("out", "workers", "device")}


def save(o, model, tokenizer, history, stages_done=0, optimizer=None):
    """After each stage: what there is can be measured, and gone on with."""
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save(out)
    if optimizer is not None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "stages": stages_done, "history": history}
        torch.save(state, out / (STATE + ".new"))
        (out / (STATE + ".new")).replace(out / STATE)
    made = {"options": _said(o), "torch": torch.__version__, "stages": stages_done, "history": history}
    (out / "training.json").write_text(json.dumps(made, indent=1))


def options(arguments):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder that the model is written to")
    p.add_argument("--preset", choices=PRESETS, default="small", help="sizes, rates and lengths; each can be given too")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--target", type=float, default=0.95, help="of the needles' answers, to go on to the next length")
    p.add_argument("--text-weight", type=float, default=0.1)
    p.add_argument("--warm-up", type=int, default=200)
    p.add_argument("--workers", type=int, default=12 if torch.cuda.is_available() else 0, help="processes that make batches")
    for name, value in PRESETS["small"].items():
        p.add_argument("--" + name.replace("_", "-"), type=type(value))
    o = p.parse_args(arguments)
    for name, value in PRESETS[o.preset].items():
        if getattr(o, name) is None:
            setattr(o, name, value)
    return o


if __name__ == "__main__":
    train(options(sys.argv[1:]))
