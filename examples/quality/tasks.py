"""Long-context tasks in the manner of RULER (arXiv 2404.06654), with text of our own: needles in a haystack, variables that
are copied, words that are counted. Any length and depth; the same seed makes the same example.

An example is a list of pieces, short texts whose tokens can be counted and cached one by one, a question, the beginning of
its answer, and what the answer must contain. train.py learns from the same functions, with several questions a context.
"""

import random
import re
from dataclasses import dataclass

NEEDLES = ("single", "multikey", "multivalue", "multiquery")
TASKS = NEEDLES + ("variables", "common", "frequent")

_SUBJECTS = (
    "farmer teacher sailor child doctor baker painter driver king queen student soldier hunter singer writer guest".split()
)
_VERBS = "saw found carried painted sold bought washed moved opened closed kept lost wanted liked feared watched".split()
_OBJECTS = "table chair lamp horse bridge garden letter basket bottle window coat boat wheel ladder mirror clock".split()
_ADJECTIVES = "old young small large quiet bright heavy broken clean empty green cold warm strange narrow simple".split()
_PLACES = (
    "near the river|behind the house|in the market|on the hill|under the tree|by the sea|in the kitchen|at the station".split(
        "|"
    )
)
_TIMES = "In the morning|Late at night|After the rain|Before dinner|On that day|Every winter|Long ago|Once more".split("|")
_NAMES = "count total index offset limit width height depth first last left right begin end size step".split()
_CALLS = "load store merge split sort shift check update reset clear".split()


def _pseudo_words(n):
    """Words that mean nothing, so that no model knows more of one than of another."""
    rng = random.Random(20)
    made = {}
    while len(made) < n:
        word = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("klmnrsx")
        made[word] = None
    return tuple(made)


KEYS = _pseudo_words(512)


def _sentence(rng):
    one = rng.choice
    form = rng.randrange(4)
    if form == 0:
        return f" The {one(_ADJECTIVES)} {one(_SUBJECTS)} {one(_VERBS)} the {one(_OBJECTS)} {one(_PLACES)}."
    if form == 1:
        return f" {one(_TIMES)}, the {one(_SUBJECTS)} {one(_VERBS)} a {one(_ADJECTIVES)} {one(_OBJECTS)}."
    if form == 2:
        return f" The {one(_SUBJECTS)} and the {one(_SUBJECTS)} {one(_VERBS)} the {one(_OBJECTS)}."
    return f" A {one(_OBJECTS)} {one(_PLACES)} was {one(_ADJECTIVES)} and {one(_ADJECTIVES)}."


def _line(rng):
    one = rng.choice
    form = rng.randrange(4)
    if form == 0:
        return f"    {one(_NAMES)} = {one(_NAMES)} + {one(_NAMES)}\n"
    if form == 1:
        return f"    if {one(_NAMES)} < {one(_NAMES)}: {one(_CALLS)}({one(_NAMES)})\n"
    if form == 2:
        return f"    return {one(_CALLS)}({one(_NAMES)}, {one(_NAMES)})\n"
    return f"def {one(_CALLS)}({one(_NAMES)}, {one(_NAMES)}):\n"


def _bank(make, n, seed):
    rng = random.Random(seed)
    return tuple(make(rng) for _ in range(n))


HAYSTACKS = {"text": _bank(_sentence, 2048, 1), "code": _bank(_line, 2048, 2)}


@dataclass
class Turn:
    question: str  # with the beginning of the answer: what the model reads
    answer: str  # what it should go on with
    expected: tuple  # the words that must be in what it says
    free: bool = False  # in any order; the answer's own is random, so that none is to be guessed


@dataclass
class Example:
    pieces: list
    turns: list
    task: str = ""

    def prompt(self):
        """What a test asks: the context and the first question."""
        return "".join(self.pieces) + self.turns[0].question


def accuracy(said, expected):
    """The share of the expected words that were said."""
    words = set(re.findall(r"\w+", said))
    return sum(word in words for word in expected) / len(expected)


def make(task, length, seed, count, *, haystack="text", depth=None, digits=3, turns=1, keys=None):
    """An example of about `length` tokens, answers included, and no more than that as far as count(text), a number of tokens,
    is additive over pieces.

    depth: of a single needle, 0 the beginning, 1 the end; None: random. digits: of a value. turns: how many questions follow
    the context. keys: how many needles there are in "multikey"; None: as many as RULER's 4.
    """
    rng = random.Random(f"{task}/{length}/{seed}/{haystack}/{depth}/{digits}")
    if task in ("common", "frequent"):
        return _words(task, length, rng, count)
    placed, asked = _variables(rng, digits, turns) if task == "variables" else _needles(task, rng, digits, turns, keys)
    if haystack == "code":
        placed = [f"#{piece}\n" for piece in placed]
    room = length - sum(count(turn.question) + count(turn.answer) for turn in asked) - sum(count(piece) for piece in placed)
    pieces = _haystack(HAYSTACKS[haystack], room, rng, count)
    depths = sorted(rng.random() if depth is None else depth for _ in placed)
    for at, piece in reversed(list(zip(depths, placed))):  # from behind, so that places in front stay what they are
        pieces.insert(round(at * len(pieces)), piece)
    return Example(pieces, asked, task)


def _haystack(bank, room, rng, count):
    pieces = []
    while True:
        piece = rng.choice(bank)
        room -= count(piece)
        if room < 0:
            return pieces
        pieces.append(piece)


def _value(rng, digits):
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def _needle(key, value):
    return f" The code of {key}: {value}."


def _question(key, value):
    return Turn(f"\nWhat is the code of {key}? The code of {key}:", f" {value}.", (value,))


def _needles(task, rng, digits, turns, n_keys):
    """What is placed, in its order, and what is asked."""
    n_keys = {"single": max(turns, 1), "multikey": n_keys or 4, "multivalue": max(turns, 1), "multiquery": 4 * max(turns, 1)}[
        task
    ]
    keys = rng.sample(KEYS, n_keys)
    n_values = 4 if task == "multivalue" else 1
    pairs = [(key, _value(rng, digits)) for key in keys for _ in range(n_values)]
    rng.shuffle(pairs)
    placed = [_needle(*pair) for pair in pairs]
    values = {key: [value for k, value in pairs if k == key] for key in keys}
    rng.shuffle(keys)
    for key in keys:
        rng.shuffle(values[key])
    if task == "multivalue":
        return placed, [_all_values(key, values[key]) for key in keys[:turns]]
    if task == "multiquery":
        return placed, [_several(keys[4 * i : 4 * i + 4], values) for i in range(max(turns, 1))]
    return placed, [_question(key, values[key][0]) for key in keys[:turns]]


def _all_values(key, values):
    answer = f" {', '.join(values)}."
    return Turn(f"\nWhat are all the codes of {key}? The codes of {key}:", answer, tuple(values), free=True)


def _several(keys, values):
    asked = ", ".join(keys[:-1]) + " and " + keys[-1]
    answer = f" {values[keys[0]][0]}." + "".join(_needle(key, values[key][0]) for key in keys[1:])
    return Turn(f"\nWhat are the codes of {asked}? The code of {keys[0]}:", answer, tuple(values[key][0] for key in keys))


def _variables(rng, digits, turns):
    """Chains of 4: a value has a name, that name a copy, and so on; two chains at least, so that names must be told apart. The
    answer names them in order."""
    n = max(turns, 2)
    names = rng.sample(KEYS, 4 * n)
    chains = [(_value(rng, digits), names[4 * i : 4 * i + 4]) for i in range(n)]
    queue = [list(reversed(_chain(value, names))) for value, names in chains]
    placed = []
    while any(queue):
        placed.append(rng.choice([chain for chain in queue if chain]).pop())
    asked = [
        Turn(
            f"\nWhat are the name of {value} and all copies of it? The names of {value}:",
            f" {', '.join(names)}.",
            tuple(names),
        )
        for value, names in chains[: max(turns, 1)]
    ]
    return placed, asked


def _chain(value, names):
    return [f" The name of {value}: {names[0]}."] + [f" The copy of {old}: {new}." for old, new in zip(names, names[1:])]


def _words(task, length, rng, count):
    """A list of words; a few of them are often there. "common": 5 words ten times as often as each other; "frequent": shares
    that fall as the power of -2 of a word's place, of which the first 3 are asked."""
    pool = rng.sample(KEYS, 105 if task == "common" else 60)
    n = 5 if task == "common" else 3
    what = f"\nWhich {n} words are the most common? The {n} most common words are"
    named = rng.sample(pool[:n], n)
    answer = f" {', '.join(named)}."
    room = length - count(what) - count(answer)
    total = max(room // max(count(f" {pool[0]}"), 1), 4 * n)
    if task == "common":
        times = [10 * total / (10 * n + len(pool) - n)] * n + [total / (10 * n + len(pool) - n)] * (len(pool) - n)
    else:
        weights = [(i + 1) ** -2.0 for i in range(len(pool))]
        times = [total * weight / sum(weights) for weight in weights]
    pieces, due = [], 0.0
    for word, often in zip(pool, times):
        due += often
        pieces += [f" {word}"] * max(round(due) - len(pieces), 1)
    rng.shuffle(pieces)
    used, kept = 0, []
    for piece in pieces:
        used += count(piece)
        if used > room:
            break
        kept.append(piece)
    return Example(kept, [Turn(what, answer, tuple(named), free=True)], task)


def vocabulary():
    """All that these texts are made of, for a tokenizer of words: the same list each time."""
    text = "".join(bank_piece for bank in HAYSTACKS.values() for bank_piece in bank)
    rng = random.Random(0)
    for task in ("multikey", "multivalue", "multiquery"):
        placed, asked = _needles(task, rng, 3, 1, None)
        text += "".join(placed) + "".join(turn.question + turn.answer for turn in asked)
    placed, asked = _variables(rng, 3, 1)
    text += "".join(placed) + asked[0].question + "# Which words most common"
    return sorted(
        set(split(text)) | {"words", "5", "3", *KEYS, *(str(i) for i in range(1000)), *(f"{i:03}" for i in range(100))}
    )


def split(text):
    """Words, numbers in threes of digits, marks and line ends. Spaces and colons are left out: a key's value comes right behind
    it, where attention learns to look first of all."""
    return re.findall(r"\d{1,3}|[A-Za-z]+|\n|[^\sA-Za-z0-9:]", text)
