#!/usr/bin/env python3
"""Trains a small Llama (GQA, RoPE, words for tokens) on the tasks of tasks.py until it solves the needles, for run.py to
measure on where no weights are at hand.

    train.py --out model                        one H200, minutes: 24 million parameters, 64 to 16384 tokens
    train.py --out model --preset tiny          a CPU: 64 to 256 tokens, to see it learn

Lengths double from stage to stage. A stage ends when the answers of the last steps are right to --target in each of the needle
tasks, or at its last step; so does not depend on a guess of how long each takes. The first stage is where attention learns to
look a word up and to go on as it went on there, and ends with that; each later one adds what takes several such steps, at twice
the length. A context has as many questions as fit, since one answer in 16384 tokens would teach slowly. Some, most at first,
are plain lists of facts that are asked one after another, and rows of words that come again and again, where every word teaches
to look for what came before.

The loss is the answers' mean and, times --text-weight, that of the rest of the text: in long contexts there is so much of it
that a mean over all would be of little else. Where words may come in any order, each that was not said yet is as right as any.

A call that was stopped goes on behind the last stage that it finished. The same seed and options make the same batches.
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
_COURSE = ("first", "last", "step_tokens", "first_steps", "second_steps", "steps", "last_steps")
PRESETS = {
    "small": dict(zip(_MODEL + _COURSE, (512, 8, 8, 2, 1408, 1e-3, 64, 16384, 65536, 2500, 1000, 300, 500))),
    "tiny": dict(zip(_MODEL + _COURSE, (128, 3, 4, 2, 256, 2e-3, 64, 256, 2048, 1500, 600, 400, 300))),
}
HEAD_DIM = 64  # which libtamis has kernels for
MIXTURE = {"multikey": 3, "single": 1, "multivalue": 4, "multiquery": 3, "variables": 4, "common": 2, "frequent": 2}
REPEATED = [*tasks.KEYS, *(str(number) for number in range(100, 1000))]
SHARES = {
    "first": (0.4, 0.4),
    1024: (0.1, 0.3),
    "last": (0.0, 0.15),
}  # of repeats and lists: first stage, up to 1024 tokens, then
STATE = "state.pt"  # weights and optimizer between two stages; goes when the last is done
RECENT = 20  # steps that a stage's end is judged by
NOTHING, TEXT, ANSWER = range(3)  # what a token is for the loss
MOST_FREE = 5  # words of an answer that may come in any order


class Lessons(torch.utils.data.Dataset):
    """Batches of one stage, by number: token ids (batch, length); what each is for the loss; which are the words that answers
    to judge by have to name, as 1 + the task's place in `judged`; and a row (batch's, column, words...) for each token in whose
    place others would be as right, -1 where there is no further word. repeats, lists: the shares of contexts that are repeated
    words, and lists of facts; the rest is of `mixture`, tasks and their weights. judged: names of tasks, and "list"."""

    def __init__(self, tokenizer, length, batch, n, seed, repeats, lists, judged=tasks.NEEDLES, mixture=MIXTURE):
        self.tokenizer, self.length, self.batch, self.n, self.mixture = tokenizer, length, batch, n, mixture
        self.seed, self.repeats, self.lists, self.judged = seed, repeats, lists, judged
        self.listed = [task for task in ("multikey", "multivalue") if task in mixture]
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
        ids, free = numpy.full(shape, PAD, numpy.int64), []
        kinds, needles = numpy.zeros(shape, numpy.uint8), numpy.zeros(shape, numpy.uint8)
        for row in range(self.batch):
            rng = random.Random(f"{self.seed}/{self.length}/{number}/{row}")
            free += [(row, *entry) for entry in self.fill(rng, ids[row], kinds[row], needles[row])]
        free = numpy.array(free, numpy.int64).reshape(-1, 2 + MOST_FREE)
        return tuple(torch.from_numpy(array) for array in (ids, kinds, needles, free))

    def fill(self, rng, ids, kinds, needles):
        """Makes one context; gives (column, words...) of each of its tokens in whose place others would be as right."""
        kind = rng.random()
        if kind < self.repeats:
            self.repeat(rng, ids, kinds)
            return []
        is_list = kind < self.repeats + self.lists
        task = rng.choice(self.listed) if is_list else rng.choices(list(self.mixture), self.mixture.values())[0]
        example = self.list(task, rng) if is_list else self.example(task, rng)
        name, free, at = "list" if is_list and task == "multikey" else task, [], 0
        judge = self.judged.index(name) + 1 if name in self.judged else 0

        def put(text, kind):
            nonlocal at
            new = self.ids(text)[: len(ids) - at]
            ids[at : at + len(new)], kinds[at : at + len(new)] = new, kind
            at += len(new)
            return slice(at - len(new), at)

        for piece in example.pieces:
            put(piece, TEXT)
        for turn in example.turns:
            put(turn.question.rsplit("?", 1)[1] if is_list else turn.question, TEXT)
            answer = put(turn.answer, ANSWER)
            if judge:
                needles[answer] = judge * numpy.isin(ids[answer], [self.ids(word)[0] for word in turn.expected])
            if turn.free:
                free += self.alternatives(turn, ids, answer)
        if at < len(ids):
            ids[at], kinds[at] = EOS, TEXT
        return free

    def alternatives(self, turn, ids, answer):
        """Of each word of an answer: those that were not said before it."""
        left, made = [self.ids(word)[0] for word in turn.expected], []
        for column in range(answer.start, answer.stop):
            if left and ids[column] == left[0]:
                made.append((column, *left, *[-1] * (MOST_FREE - len(left))))
                left = left[1:]
        return made

    def repeat(self, rng, ids, kinds):
        row = [self.ids(word)[0] for word in rng.sample(REPEATED, rng.randint(8, min(len(ids) // 2, len(REPEATED))))]
        ids[:] = numpy.resize(row, len(ids))
        kinds[len(row) :] = ANSWER

    def list(self, task, rng):
        """Facts alone, each of which takes 6 tokens, and its question with the answer 6; with four values a key 24 and 12."""
        n = min(len(tasks.KEYS), max(1, self.length // (13 if task == "multikey" else 38)))
        return tasks.make(task, self.length, rng.getrandbits(48), self.count, turns=n, keys=n)

    def example(self, task, rng):
        """With as many questions as fit beside as much text; those of some tasks have four facts each."""
        room = max(1, self.length // 40 // (4 if task in ("multivalue", "multiquery", "variables") else 1))
        turns = min(rng.randint(1, 32), room)
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
    """(length, most steps) of each, doubling. The second has all the tasks for the first time, and is the shortest for them."""
    length = o.first
    while length <= o.last:
        begun = {o.first: o.first_steps, 2 * o.first: o.second_steps}
        yield length, o.last_steps if 2 * length > o.last else begun.get(length, o.steps)
        length = 2 * length


def lose(logits, target, kinds, free, text_weight):
    """(loss, whether the likeliest word of each token is right). logits (batch, n, vocabulary) are of target (batch, n)."""
    each = functional.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none").view_as(target)
    best = logits.detach().argmax(-1)
    right = best == target
    rows, columns, words = free[:, 0], free[:, 1] - 1, free[:, 2:]
    likely = logits[rows, columns].float().log_softmax(-1).gather(1, words.clamp_min(0)).masked_fill(words < 0, -torch.inf)
    each = each.index_put((rows, columns), -likely.logsumexp(1))
    right = right.index_put((rows, columns), (best[rows, columns, None] == words).any(1))
    parts = [(each * (kinds == kind)).sum() / (kinds == kind).sum().clamp_min(1) for kind in (ANSWER, TEXT)]
    return parts[0] + text_weight * parts[1], right


def train_step(o, model, optimizer, batch, autocast, n_judged):
    """(loss, (n_judged, 2): of each task that is judged how many words are right, each after right ones before it, and of how
    many)."""
    ids, kinds, needles, free = batch
    with autocast:
        logits = model(ids, use_cache=False).logits[:, :-1]
    loss, right = lose(logits, ids[:, 1:], kinds[:, 1:], free, o.text_weight)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        asked = [needles[:, 1:] == i + 1 for i in range(n_judged)]
        return loss.detach(), torch.stack([torch.stack([(right & of).sum(), of.sum()]) for of in asked])


def run_stage(o, model, optimizer, lessons, device, history, is_first, is_last, say):
    """Until its needles are solved or its steps are over. The last one's rate falls to nothing, over all its steps."""
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    loader = torch.utils.data.DataLoader(
        lessons, batch_size=None, num_workers=o.workers, prefetch_factor=4 if o.workers else None
    )
    judged, recent, begun = lessons.judged, [], time.monotonic()
    for number, batch in enumerate(loader):
        rate = o.rate * (0.5 if lessons.length > 1024 else 1.0)
        if is_first:
            rate *= min(1.0, (number + 1) / o.warm_up)
        if is_last:
            rate *= 1 - number / len(lessons)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [t.to(device, non_blocking=True) for t in batch]
        loss, right = train_step(o, model, optimizer, batch, autocast, len(judged))
        recent = [*recent[1 - RECENT :], right]
        if (number + 1) % RECENT and number + 1 < len(lessons):
            continue
        scores = {name: right / max(of, 1) for name, (right, of) in zip(judged, torch.stack(recent).sum(0).tolist())}
        entry = dict(length=lessons.length, step=number + 1, loss=float(loss), needles=scores)
        history.append({**entry, "seconds": round(time.monotonic() - begun, 1)})
        said = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
        say(f"{lessons.length:6} tokens  step {number + 1:5}  loss {float(loss):.4f}  {said}  {history[-1]['seconds']:7.1f} s")
        if min(scores.values()) >= o.target and not is_last:
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
        judged = ("list", "single", "multikey") if i == 0 else tasks.NEEDLES
        mixture = {name: MIXTURE[name] for name in judged[1:]} if i == 0 else MIXTURE
        lessons = Lessons(tokenizer, length, max(1, o.step_tokens // length), steps, o.seed, *shares, judged, mixture)
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
    p.add_argument("--target", type=float, default=0.97, help="of each needle task's answers, to go on to the next length")
    p.add_argument("--text-weight", type=float, default=0.15)
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
