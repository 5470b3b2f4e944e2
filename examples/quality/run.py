#!/usr/bin/env python3
"""Runs a causal model of a local folder on long-context tasks with several attention settings, and writes down how right its
answers are, how long a prompt takes, and how many tokens each layer kept.

    run.py --model model --out results --lengths 4096,8192 --samples 20 dense sparse:coverage=.005,layers=delta:0.5
    run.py --help; settings: methods.py; tasks: tasks.py

One row a prompt and setting in OUT/results.csv, written as soon as it is known: a run that was stopped goes on where it was.
OUT/summary.json has the means. On a GPU --store names the file of `tamis gen` that has the model's kernels.
"""

import argparse
import csv
import json
import math
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pytorch"))

import torch  # noqa: E402

import methods  # noqa: E402
import tasks  # noqa: E402
import words  # noqa: E402

import tamis  # noqa: E402

KEY = ("setting", "task", "haystack", "length", "depth", "sample")
COLUMNS = (
    *KEY,
    "tokens",
    "accuracy",
    "nll",
    "prefill_ms",
    "kept",
    "kept_all",
    "method",
    "policy",
    "amount",
    "scope",
    "window",
    "pool",
    "min_tokens",
    "sparse_layers",
    "layers",
    "kept_by_layer",
    "expected",
    "said",
)
CONTINUED = 128  # tokens of a text whose likelihood is measured, behind the prompt


def say(text):
    print(text, file=sys.stderr, flush=True)


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

    def answer(self, out, n):
        """n tokens, the likeliest each, or up to the end that the model itself makes."""
        said = []
        for _ in range(n):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            said.append(int(token))
            if said[-1] == self.tokenizer.eos_token_id:
                break
            out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
        return self.tokenizer.decode(said)

    def likelihood(self, out, ids):
        """Mean negative log-likelihood of ids, which follow the prompt."""
        first = out.logits[:, -1:]
        rest = self.model(self.tensor(ids[:-1]), past_key_values=out.past_key_values, use_cache=True).logits
        logits = torch.cat([first, rest], 1).float()
        return float(torch.nn.functional.cross_entropy(logits[0], self.tensor(ids)[0]))


def plan(o):
    """All that is to be measured, settings innermost, so that what there is at any time can be compared."""
    for length in o.lengths:
        for task in o.tasks:
            depths = o.depths if task == "single" else [None]
            for depth in depths:
                for sample in range(o.samples):
                    yield dict(task=task, haystack=o.haystack, length=length, depth=depth, sample=sample)
        for path in o.text:
            for sample in range(o.samples):
                yield dict(task="perplexity", haystack=path, length=length, depth=None, sample=sample)


def text_of(number):
    return "" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def ask(o, bench, case, texts):
    """(prompt's ids, what measures the output of its prefill and returns columns); None where a text is too short."""
    if case["task"] == "perplexity":
        ids = texts(case["haystack"])[case["sample"] * case["length"] :][: case["length"]]
        if len(ids) < case["length"]:
            return None
        prompt, rest = ids[:-CONTINUED], ids[-CONTINUED:]
        return [*bench.marks, *prompt], lambda out: {"nll": f"{bench.likelihood(out, rest):.6f}"}
    example = tasks.make(
        case["task"],
        case["length"] - len(bench.marks),
        f"{o.seed}/{case['sample']}",
        bench.count,
        haystack=case["haystack"],
        depth=case["depth"],
        digits=o.digits,
    )
    turn = example.turns[0]
    n = bench.count(turn.answer) + o.slack

    def measure(out):
        said = bench.answer(out, n)
        return {
            "accuracy": f"{tasks.accuracy(said, turn.expected):.4f}",
            "expected": " ".join(turn.expected),
            "said": said.strip(),
        }

    return bench.prompt(example.prompt()), measure


def layer_text(layers):
    """As a spec has them: 1,2,5-8, where three in a row make a run."""
    runs = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def row_of(setting, layers, case, ids, ms, kept, n_layers, measured):
    shares = [kept[layer] / len(ids) for layer in range(n_layers)]
    s = setting.selection
    return {
        **{name: text_of(case.get(name)) for name in KEY},
        "setting": setting.text,
        "tokens": len(ids),
        "prefill_ms": f"{ms:.3f}",
        "kept": f"{statistics.fmean([shares[layer] for layer in layers] or [1.0]):.4f}",
        "kept_all": f"{statistics.fmean(shares):.4f}",
        "method": setting.kind,
        "policy": s.policy,
        "amount": "" if s.policy == "dense" else f"{getattr(s, s.policy):g}",
        "scope": s.scope,
        "window": s.window,
        "pool": s.pool,
        "min_tokens": s.min_tokens,
        "sparse_layers": layer_text(layers),
        "layers": n_layers,
        "kept_by_layer": " ".join(f"{share:.4f}" for share in shares),
        **measured,
    }


def read_done(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("said") is not None]  # a row cut short is made again


def write_again(path, rows):
    """The whole rows that there are, and the head; at no time less than was there."""
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


def options_stay(o, out):
    """What the rows have in common must not change between runs into one folder."""
    path = out / "options.json"
    mine = {
        name: getattr(o, name)
        for name in ("model", "store", "spec", "dtype", "device", "digits", "seed", "slack", "fit_samples")
    }
    if path.exists() and (before := json.loads(path.read_text())) != mine:
        changed = ", ".join(name for name in mine if before.get(name) != mine[name])
        raise SystemExit(f"run.py: {out} was begun with another {changed}: choose another folder")
    path.write_text(json.dumps(mine, indent=1))


def find_layers(o, bench, settings, out):
    stored = tamis.Store(o.store).layers(o.spec)[1] if o.store else None
    known = {}

    def drift():
        if "drift" not in known:
            example = tasks.make("single", max(o.lengths), f"{o.seed}/drift", bench.count, haystack=o.haystack, digits=o.digits)
            bench.switch.use(methods.parse("dense"), ())
            known["drift"] = methods.measure_drift(bench.model, bench.tensor(bench.prompt(example.prompt())))
            (out / "drift.json").write_text(json.dumps(known["drift"]))
        return known["drift"]

    return {setting: methods.layer_list(setting.layers, bench.n_layers, stored, drift) for setting in settings}


def run(o):
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    base = tamis.Store(o.store).selection(o.spec) if o.store else tamis.DENSE
    settings = [methods.parse(text, base) for text in o.settings]
    options_stay(o, out)
    bench = Bench(o)
    path = out / "results.csv"
    rows = read_done(path)
    done = {tuple(row[name] for name in KEY) for row in rows}
    write_again(path, rows)
    with torch.inference_mode(), path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        layers = find_layers(o, bench, settings, out)
        left = [
            (case, setting)
            for case in plan(o)
            for setting in settings
            if (setting.text, *(text_of(case[name]) for name in KEY[1:])) not in done
        ]
        say(f"{len(left)} prompts to do, {len(rows)} done before")
        texts = read_texts(bench)
        for i, (case, setting) in enumerate(left):
            row = measure(o, bench, case, setting, layers[setting], texts)
            if row is None:
                continue
            writer.writerow(row)
            file.flush()
            rows.append({name: str(row.get(name, "")) for name in COLUMNS})
            say(
                f"[{i + 1}/{len(left)}] {case['task']} {case['length']} {setting.text}: "
                f"{row.get('accuracy') or row.get('nll')}, {row['prefill_ms']} ms, kept {row['kept']}"
            )
    (out / "summary.json").write_text(json.dumps(summary(o, bench, rows), indent=1))
    return rows


def read_texts(bench):
    read = {}

    def texts(path):
        if path not in read:
            read[path] = bench.encode(pathlib.Path(path).read_text())
        return read[path]

    return texts


def measure(o, bench, case, setting, layers, texts):
    asked = ask(o, bench, case, texts)
    if asked is None:
        say(f"{case['haystack']}: too short for sample {case['sample']} of {case['length']} tokens")
        return None
    ids, rest = asked
    if setting.kind == "mapped":
        bench.fit(setting, layers, fit_prompts(o, bench))
    out, ms = bench.prefill(ids, setting, layers, o.warm_up)
    kept = bench.switch.kept
    return row_of(setting, layers, case, ids, ms, kept, bench.n_layers, rest(out))


def fit_prompts(o, bench):
    """What maps are fitted on: contexts with needles, none of them asked for later."""
    for sample in range(o.fit_samples):
        example = tasks.make(
            "multikey", max(o.lengths), f"{o.seed}/fit/{sample}", bench.count, haystack=o.haystack, digits=o.digits, keys=32
        )
        yield bench.prompt(example.prompt())


def summary(o, bench, rows):
    """By setting: mean accuracy by task and length, median prefill time, mean kept share of each layer, perplexity."""
    device = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    result = {"model": o.model, "device": device, "torch": torch.__version__, "layers": bench.n_layers, "settings": {}}
    for row in rows:
        of = result["settings"].setdefault(
            row["setting"], {"method": row["method"], "sparse_layers": row["sparse_layers"], "by": {}}
        )
        at = of["by"].setdefault(
            f"{row['task']}/{row['length']}", {"n": 0, "accuracy": [], "nll": [], "prefill_ms": [], "kept": []}
        )
        at["n"] += 1
        for name in ("accuracy", "nll", "prefill_ms"):
            if row[name]:
                at[name].append(float(row[name]))
        at["kept"].append([float(share) for share in row["kept_by_layer"].split()])
    for of in result["settings"].values():
        for at in of["by"].values():
            at["accuracy"] = round(statistics.fmean(at["accuracy"]), 4) if at["accuracy"] else None
            nll = at.pop("nll")
            at["perplexity"] = round(math.exp(statistics.fmean(nll)), 4) if nll else None
            at["prefill_ms"] = round(statistics.median(at["prefill_ms"]), 3)
            at["kept"] = [round(statistics.fmean(shares), 4) for shares in zip(*at["kept"])]
    return result


def options(arguments):
    def numbers(kind):
        return lambda text: [kind(part) for part in text.split(",")]

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "settings", nargs="+", metavar="SETTING", help="attention, as methods.py lists them: dense, sparse:ratio=.5, ..."
    )
    p.add_argument("--model", required=True, help="folder of a causal model, with its tokenizer or words.json")
    p.add_argument("--out", required=True, help="folder of the results")
    p.add_argument("--store", help="file of tamis gen: kernels, selection, sparse layers; a GPU needs one")
    p.add_argument("--spec", help="name of the spec in it, where there are several")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16")
    p.add_argument("--tasks", type=numbers(str), default=list(tasks.TASKS), help=",".join(tasks.TASKS))
    p.add_argument("--lengths", type=numbers(int), default=[4096], help="tokens of a prompt with its answer")
    p.add_argument("--depths", type=numbers(float), default=[0.0, 0.25, 0.5, 0.75, 1.0], help="of the single needle")
    p.add_argument("--samples", type=int, default=10, help="of each task, length and depth")
    p.add_argument("--haystack", choices=list(tasks.HAYSTACKS), default="text")
    p.add_argument("--digits", type=int, default=3, help="of the needles' values; RULER has 7")
    p.add_argument("--text", action="append", default=[], help="a file whose perplexity is measured too; can be given again")
    p.add_argument("--slack", type=int, default=8, help="tokens that an answer may be longer than the expected one")
    p.add_argument("--fit-samples", type=int, default=8, help="prompts that the maps of `mapped` are fitted on")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--no-warm-up", dest="warm_up", action="store_false", help="time first prompts too: quicker, times worth less"
    )
    o = p.parse_args(arguments)
    unknown = [task for task in o.tasks if task not in tasks.TASKS]
    if unknown:
        p.error(f"no task {', '.join(unknown)}: {', '.join(tasks.TASKS)}")
    return o


if __name__ == "__main__":
    try:
        run(options(sys.argv[1:]))
    except (ValueError, tamis.TamisError) as error:
        raise SystemExit(f"run.py: {error}") from None
