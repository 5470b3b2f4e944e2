#!/usr/bin/env python3
"""Runs a causal model of a local folder on long-context tasks with several attention settings, and writes down how right its
answers are, how long a prompt takes, and how many tokens each layer kept.

    run.py --model model --out results --lengths 4096,8192 --samples 20 dense sparse:coverage=.005,layers=delta:0.5
    run.py --help; settings: methods.py; tasks: tasks.py

One row a prompt and setting in OUT/results.csv, written as soon as it is known: a run that was stopped goes on where it was.
OUT/summary.json has the means. On a GPU --store names the file of `tamis gen` that has the model's kernels.

--jobs divides the settings among processes, which write to OUT/part-*/; the rows of all are put together then, and their times
are those of a few prompts that are measured when no other runs. --batch makes the answers of several prompts together, each
after a prefill of its own. Small models, which leave a GPU waiting for Python, are through several times as fast with both.
"""

import argparse
import csv
import functools
import itertools
import json
import math
import multiprocessing
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pytorch"))

import torch  # noqa: E402

import methods  # noqa: E402
import tasks  # noqa: E402
from bench import Bench  # noqa: E402

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
TIMED = 5  # prompts of a setting and length, where times are measured apart
CONTINUED = 128  # tokens of a text whose likelihood is measured, behind the prompt


def say(text):
    print(text, file=sys.stderr, flush=True)


def plan(o):
    """All prompts, samples innermost."""
    for length in o.lengths:
        for task in o.tasks:
            depths = o.depths if task == "single" else [None]
            for depth in depths:
                for sample in range(o.samples):
                    yield dict(task=task, haystack=o.haystack, length=length, depth=depth, sample=sample)
        for path in o.text:
            for sample in range(o.samples):
                yield dict(task="perplexity", haystack=path, length=length, depth=None, sample=sample)


def batches(o, settings, done):
    """(setting, cases to be answered together) of all that is not done: one prompt after the other, but its settings after one
    another, so that what there is at any time can be compared."""
    for _, group in itertools.groupby(plan(o), lambda case: [case[name] for name in KEY[1:-1]]):
        group = list(group)
        for cases in (group[at : at + o.batch] for at in range(0, len(group), o.batch)):
            for setting in settings:
                left = [case for case in cases if (setting.text, *(text_of(case[name]) for name in KEY[1:])) not in done]
                if left:
                    yield setting, left


def text_of(number):
    return "" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def ask(o, bench, case, texts):
    """(prompt's ids, what it should go on with: ids of a text, or a Turn); None where a text is too short."""
    if case["task"] == "perplexity":
        ids = texts(case["haystack"])[case["sample"] * case["length"] :][: case["length"]]
        return None if len(ids) < case["length"] else ([*bench.marks, *ids[:-CONTINUED]], ids[-CONTINUED:])
    example = tasks.make(
        case["task"],
        case["length"] - len(bench.marks),
        f"{o.seed}/{case['sample']}",
        bench.count,
        haystack=case["haystack"],
        depth=case["depth"],
        digits=o.digits,
    )
    return bench.prompt(example.prompt()), example.turns[0]


def judge(o, bench, outs, lefts, wanted):
    """Columns of each prefill."""
    if not isinstance(wanted[0], tasks.Turn):
        return [{"nll": f"{bench.likelihood(*each):.6f}"} for each in zip(outs, lefts, wanted)]
    said = bench.answers(outs, lefts, [bench.count(turn.answer) + o.slack for turn in wanted])
    return [
        {
            "accuracy": f"{tasks.accuracy(text, turn.expected):.4f}",
            "expected": " ".join(turn.expected),
            "said": text.strip(),
        }
        for text, turn in zip(said, wanted)
    ]


def layer_text(layers):
    """As a spec has them: 1,2,5-8, where three in a row make a run."""
    runs = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def row_of(setting, layers, case, ids, ms, kept, n_layers):
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


def read_settings(o):
    base = tamis.Store(o.store).selection(o.spec) if o.store else tamis.DENSE
    return [methods.parse(text, base) for text in o.settings]


def run(o):
    out, settings = pathlib.Path(o.out), read_settings(o)
    out.mkdir(parents=True, exist_ok=True)
    options_stay(o, out)
    shared = side_by_side(o, out) if o.jobs > 1 else None
    bench = Bench(o)
    with torch.inference_mode():
        layers = find_layers(o, bench, settings, out)
        if shared is None:
            rows = run_here(o, bench, out, settings, layers)
        else:
            rows = measure_alone(o, bench, settings, layers, shared)
            write_again(out / "results.csv", rows)
    (out / "summary.json").write_text(json.dumps(summary(o, bench, rows), indent=1))
    return rows


def run_here(o, bench, out, settings, layers):
    """The rows that were there, and then those that were not."""
    path = out / "results.csv"
    rows = read_done(path)
    write_again(path, rows)
    done = {tuple(row[name] for name in KEY) for row in rows}
    left = list(batches(o, settings, done))
    n, n_done, asked = sum(len(cases) for _, cases in left), 0, asker(o, bench)
    say(f"{n} prompts to do, {len(rows)} done before")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        for setting, cases in left:
            made = measure(o, bench, cases, setting, layers[setting], asked)
            writer.writerows(made)
            file.flush()
            rows += [{name: str(row.get(name, "")) for name in COLUMNS} for row in made]
            for row in made:
                n_done += 1
                say(
                    f"[{n_done}/{n}] {row['task']} {row['length']} {setting.text}: "
                    f"{row.get('accuracy') or row.get('nll')}, {row['prefill_ms']} ms, kept {row['kept']}"
                )
    return rows


def side_by_side(o, out):
    """The rows of all processes, each of which has a share of the settings and a folder. Their times are of no worth."""
    shares = []
    for i in range(min(o.jobs, len(o.settings))):
        own = dict(out=str(out / f"part-{i}"), settings=o.settings[i :: o.jobs], jobs=1, warm_up=False)
        shares.append(argparse.Namespace(**{**vars(o), **own}))
    start = multiprocessing.get_context("spawn")
    processes = [start.Process(target=run_share, args=(share,)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("run.py: a process failed; what it said stands above, and what was done is kept")
    rows = [row for share in shares for row in read_done(pathlib.Path(share.out) / "results.csv")]
    return list({tuple(row[name] for name in KEY): row for row in rows}.values())


def run_share(o):
    torch.set_num_threads(1)  # there is a process for each
    run(o)


def measure_alone(o, bench, settings, layers, rows):
    """The rows, with the median time of some prompts of their setting and length, none other beside them. Settings take turns
    at each prompt: what a machine does at first, or now and then, is no one setting's."""
    asked, times = asker(o, bench), {}
    for setting in settings:
        if setting.kind == "mapped":
            bench.fit(setting, layers[setting], fit_prompts(o, bench))
    for length in o.lengths:
        each = {setting: [] for setting in settings}
        for i in range(TIMED):
            ids = asked(dict(task="single", haystack=o.haystack, length=length, depth=0.5, sample=i))[0]
            for setting in settings:
                each[setting].append(bench.prefill(ids, setting, layers[setting], True)[1])
        for setting in settings:
            times[setting.text, str(length)] = f"{statistics.median(each[setting]):.3f}"
            say(f"alone: {length} {setting.text}: {times[setting.text, str(length)]} ms")
    return [{**row, "prefill_ms": times.get((row["setting"], row["length"]), row["prefill_ms"])} for row in rows]


def read_texts(bench):
    read = {}

    def texts(path):
        if path not in read:
            read[path] = bench.encode(pathlib.Path(path).read_text())
        return read[path]

    return texts


def asker(o, bench):
    """ask(), which makes the prompts that several settings have in common once."""
    texts = read_texts(bench)
    kept = functools.lru_cache(2 * o.batch)(lambda *case: ask(o, bench, dict(case), texts))
    return lambda case: kept(*case.items())


def measure(o, bench, cases, setting, layers, asked):
    """A row for each of the cases that there is enough text for."""
    rows, outs, lefts, wanted = [], [], [], []
    if setting.kind == "mapped":
        bench.fit(setting, layers, fit_prompts(o, bench))
    for case in cases:
        found = asked(case)
        if found is None:
            say(f"{case['haystack']}: too short for sample {case['sample']} of {case['length']} tokens")
            continue
        out, ms = bench.prefill(found[0], setting, layers, o.warm_up)
        rows.append(row_of(setting, layers, case, found[0], ms, bench.switch.kept, bench.n_layers))
        outs.append(out)
        lefts.append(bench.switch.now.left)
        wanted.append(found[1])
    return [{**row, **columns} for row, columns in zip(rows, judge(o, bench, outs, lefts, wanted) if outs else [])]


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
    p.add_argument("--jobs", type=int, default=1, help="processes; more than one: times are measured afterwards")
    p.add_argument("--batch", type=int, default=1, help="answers that are made together; there must be room for the caches")
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
