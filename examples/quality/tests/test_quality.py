"""The harness: tasks, methods, a whole run on a tiny random model on the CPU, the trainer's first steps, the page."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest
import torch

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "pytorch")]

import methods  # noqa: E402
import plot  # noqa: E402
import run  # noqa: E402
import tasks  # noqa: E402
import tamis  # noqa: E402
import train  # noqa: E402
import words  # noqa: E402

TOKENIZER = words.WordTokenizer(tasks.vocabulary())
HALF = "ratio=.5,window=16,min_tokens=16"


def count(text):
    return len(TOKENIZER.encode(text))


# ---- tasks


@pytest.mark.parametrize("haystack", tasks.HAYSTACKS)
@pytest.mark.parametrize("length", [150, 600])
@pytest.mark.parametrize("task", tasks.TASKS)
def test_task(task, length, haystack):
    example = tasks.make(task, length, 1, count, haystack=haystack)
    prompt, turn = example.prompt(), example.turns[0]
    assert length - 80 <= count(prompt + turn.answer) <= length
    assert words.UNK not in TOKENIZER.encode(prompt + turn.answer)
    context = "".join(example.pieces)
    assert all(f" {word}" in context for word in turn.expected)
    assert tasks.accuracy(turn.answer, turn.expected) == 1
    assert tasks.accuracy("nothing of it", turn.expected) == 0
    assert tasks.make(task, length, 1, count, haystack=haystack) == example
    assert tasks.make(task, length, 2, count, haystack=haystack) != example


def test_a_needle_lies_at_its_depth():
    for depth in (0.0, 0.25, 1.0):
        example = tasks.make("single", 1000, 3, count, depth=depth)
        places = [i for i, piece in enumerate(example.pieces) if "code of" in piece]
        assert places == [round(depth * (len(example.pieces) - 1))]


def test_answers_are_right():
    example = tasks.make("multivalue", 500, 4, count)
    key = example.turns[0].question.split("codes of ")[1].split("?")[0]
    values = [piece.split(": ")[1].rstrip(".") for piece in example.pieces if f"code of {key}:" in piece]
    assert sorted(values) == sorted(example.turns[0].expected) and len(values) == 4
    example = tasks.make("variables", 500, 4, count)
    names, value = example.turns[0].expected, example.turns[0].question.split("name of ")[1].split(" ")[0]
    context = "".join(example.pieces)
    assert f"The name of {value}: {names[0]}." in context
    places = [context.index(f"The copy of {old}: {new}.") for old, new in zip(names, names[1:])]
    assert places == sorted(places)
    for task, n in (("common", 5), ("frequent", 3)):
        example = tasks.make(task, 4000, 4, count)
        often = {}
        for piece in example.pieces:
            often[piece.strip()] = often.get(piece.strip(), 0) + 1
        assert set(sorted(often, key=often.get, reverse=True)[:n]) == set(example.turns[0].expected)


# ---- settings


def test_settings():
    setting = methods.parse("sparse:coverage=.01,scope=layer,layers=1-3+5,pool=5")
    assert setting.selection == tamis.Selection("coverage", coverage=0.01, scope="layer", pool=5)
    assert methods.layer_list(setting.layers, 6) == (1, 2, 3, 5)
    assert methods.parse("sparse:layers=all", tamis.Selection("ratio", ratio=0.3)).selection.ratio == 0.3
    assert methods.layer_list("random:3:7", 10) == methods.layer_list("random:3:7", 10)
    assert len(methods.layer_list("random:3:7", 10)) == 3
    assert methods.layer_list("store", 4, stored=(2, 3)) == (2, 3)
    drift = [5.0, 1.0, 2.0, 1.5, 0.5]
    assert methods.layer_list("delta:0.5", 5, drift=lambda: drift) == (1, 3, 4)
    assert methods.layer_list("delta:0.3", 5, drift=lambda: drift) == (1, 4)  # the quantile is between 1 and 1.5


@pytest.mark.parametrize(
    "text, message",
    [
        ("sparser:ratio=1", "'sparser' is none of"),
        ("sparse:ratio=much", "ratio is 'much', a number"),
        ("sparse:depth=1", "'depth=1'; members are"),
        ("sparse:ratio=.5,count=3", "ratio and count, one would be right"),
        ("sparse:layers=all", "how many tokens"),
        ("evict:coverage=.01", "takes ratio= or count="),
        ("dense:ratio=1", "dense has no members"),
        ("sparse:ratio=.5,scope=world", "'world' is none of"),
    ],
)
def test_bad_settings(text, message):
    with pytest.raises(ValueError, match=message):
        methods.parse(text)


def test_bad_layers():
    with pytest.raises(ValueError, match="the model has 0 to 3"):
        methods.layer_list("2-4", 4)
    with pytest.raises(ValueError, match="no store"):
        methods.layer_list("store", 4)


# ---- methods


def qkv(length=200, heads=(4, 2, 64)):
    torch.manual_seed(5)
    return [torch.randn(1, h, length, heads[2], dtype=torch.bfloat16) for h in (heads[0], heads[1], heads[1])]


def rows(output):
    return output.abs().sum(-1) != 0


@pytest.mark.parametrize(
    "policy", [dict(policy="ratio", ratio=0.37), dict(policy="count", count=50), dict(policy="count", count=3)]
)
@pytest.mark.parametrize("length", [20, 32, 33, 200])
def test_baselines_keep_what_sparse_keeps(policy, length):
    selection = tamis.Selection(**policy, window=16, min_tokens=16)
    _, kept, _ = tamis.attention_with(*qkv(length), selection)
    assert methods.keep_count(selection, length) == kept.item()


def test_mean_score_is_libtamis_own():
    q, k, v = qkv()
    selection = tamis.Selection("ratio", ratio=0.4, scope="layer", window=16, min_tokens=16)
    kept = rows(tamis.attention(q, k, v, selection))[0, 0]
    best = methods.mean_score(q, k, selection, 64**-0.5).topk(int(kept.sum()) - 16).indices
    assert set(best[0].tolist()) | set(range(184, 200)) == set(kept.nonzero()[:, 0].tolist())


def test_attention_among_all_is_dense():
    q, k, v = qkv()
    output = methods.attend_among(q, k, v, torch.arange(200)[None, None], 64**-0.5)
    expected = tamis.attention(q, k, v)
    assert (output - expected).norm() / expected.norm() < 1e-2


# ---- a whole run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    o = train.options(
        ["--out", str(folder), "--preset", "tiny", "--hidden", "64", "--inner", "64", "--layers", "4", "--device", "cpu"]
    )
    made = train.build(o, len(TOKENIZER))
    train.save(o, made, TOKENIZER, [])
    return folder


SETTINGS = [
    "dense",
    f"sparse:{HALF},layers=1-3",
    f"sparse:{HALF},layers=all,scope=layer",
    "sparse:coverage=.2,window=16,min_tokens=16,layers=delta:0.5",
    f"sparse:{HALF.replace('.5', '1')},layers=all",
    f"evict:{HALF},layers=1-3",
    f"random:{HALF},layers=random:2",
    f"recent:{HALF},layers=all",
    f"mapped:{HALF},layers=1-3",
]


def options(model, out, *more):
    fixed = f"--model {model} --out {out} --device cpu --lengths 256 --samples 1 --no-warm-up".split()
    return run.options([*SETTINGS, *fixed, *more])


def test_run(model, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("".join(tasks.make("single", 600, 9, count).pieces))
    o = options(model, tmp_path / "out", "--tasks", "single,variables", "--depths", "0,1", "--text", str(text))
    made = run.run(o)
    assert len(made) == len(SETTINGS) * 4  # two depths, variables, a text
    by = {}
    for row in made:
        by.setdefault(row["setting"], []).append(row)
    for plain, full in zip(by["dense"], by[SETTINGS[4]]):
        assert plain["said"] == full["said"] and plain["kept"] == full["kept"] == "1.0000"
        assert plain["nll"] == full["nll"]
    length = int(by["dense"][0]["tokens"])
    for setting in (SETTINGS[1], SETTINGS[2], *SETTINGS[5:]):
        kept = methods.keep_count(methods.parse(setting).selection, length)
        assert float(by[setting][0]["kept"]) == pytest.approx(kept / length, abs=1e-4)
    assert by[SETTINGS[1]][0]["kept_by_layer"].split()[0] == "1.0000"
    assert [row["sparse_layers"] for row in by[SETTINGS[1]]] == ["1-3"] * 4
    assert 0 < float(by[SETTINGS[3]][0]["kept"]) < 1
    assert by["dense"][3]["task"] == "perplexity" and float(by["dense"][3]["nll"]) > 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["settings"]) == set(SETTINGS)
    assert len(summary["settings"]["dense"]["by"]["single/256"]["kept"]) == 4


def test_calibrate_reads_it(model, tmp_path, capsys):
    """The tool on a run's results: the setting that keeps all is as right as dense, whatever the others are."""
    run.run(options(model, tmp_path, "--tasks", "multikey,frequent"))
    tool = os.environ.get("TAMIS_TOOL", "tamis")
    made = subprocess.run(
        [tool, "calibrate", tmp_path / "results.csv", "--loss", "1", "--json"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    rows = {row["setting"]: row for row in map(json.loads, made.stdout.splitlines())}
    assert set(rows) == {setting for setting in SETTINGS if setting.startswith("sparse")}
    full = rows[SETTINGS[4]]
    assert (full["prompts"], full["loss"], full["sparse_layers"], full["policy"]) == (2, 0, "0-3", "ratio")
    assert sum(row["verdict"] == "chosen" for row in rows.values()) == 1


def test_layers_as_a_spec_has_them():
    assert run.layer_text((0, 1, 3, 5, 6, 7)) == "0,1,3,5-7"
    assert run.layer_text(()) == ""


def test_a_model_with_a_tokenizer_of_its_own(tmp_path, capsys):
    """Bytes and their pairs, with marks at a text's beginning, as models that one downloads have them."""
    import tokenizers
    import transformers

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    text = ["".join(tasks.HAYSTACKS["code"][:300] + tasks.HAYSTACKS["text"][:300]), " ".join(tasks.KEYS)]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(text, trainer)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
    o = train.options(f"--out {tmp_path} --preset tiny --hidden 64 --inner 64 --layers 4 --device cpu".split())
    train.build(o, bpe.get_vocab_size()).save_pretrained(tmp_path)
    more = "--tasks single,variables,frequent --depths 0.5 --haystack code --digits 7 --lengths 400"
    made = run.run(options(tmp_path, tmp_path / "out", *more.split()))
    assert len(made) == 3 * len(SETTINGS)
    for row in made:
        assert 250 <= int(row["tokens"]) <= 400 and 0 <= float(row["accuracy"]) <= 1
    assert len(made[0]["expected"]) == 7
    bench = run.Bench(options(tmp_path, "unused"))
    assert bench.prompt("def load")[0] == 0 and bench.prompt("def load")[1:] == bench.encode("def load")


def test_a_run_goes_on(model, tmp_path, capsys):
    """A file that ends within a row: that row and what was not reached are made, the others stand."""
    out = tmp_path / "out"
    o = options(model, out, "--tasks", "multikey")
    first = run.run(o)
    path = out / "results.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:40])
    capsys.readouterr()
    again = run.run(o)
    assert "6 prompts to do, 3 done before" in capsys.readouterr().err
    steady = [[{k: v for k, v in row.items() if k != "prefill_ms"} for row in rows] for rows in (first, again)]
    assert steady[0] == steady[1]
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(SETTINGS)
    o.digits = 5
    with pytest.raises(SystemExit, match="begun with another digits"):
        run.run(o)


def test_answers_together(model, tmp_path, capsys):
    """Prompts of different lengths, answered in one batch and in processes of their own, say what they say alone."""
    more = "--tasks multikey,variables --samples 3 --slack 2".split()
    one = run.run(options(model, tmp_path / "one", *more))
    many = run.run(options(model, tmp_path / "many", *more, "--batch", "2", "--jobs", "2"))
    assert len({row["tokens"] for row in one}) > 1
    plain, shared = ({tuple(row[name] for name in run.KEY): row for row in rows} for rows in (one, many))
    assert set(plain) == set(shared)
    for key, row in plain.items():
        assert {**row, "prefill_ms": 0} == {**shared[key], "prefill_ms": 0}
    times = {}
    for row in many:
        times.setdefault((row["setting"], row["length"]), set()).add(row["prefill_ms"])
    assert all(len(each) == 1 and float(*each) > 0 for each in times.values())
    assert "alone: 256 dense" in capsys.readouterr().err
    with (tmp_path / "many" / "results.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{name: str(value) for name, value in row.items()} for row in many]


def test_settings_take_turns_when_timed(model, monkeypatch, capsys):
    """A machine that becomes faster with every prompt: no setting is the better for its place."""
    clock = iter(range(1000, 0, -1))
    o = options(model, "unused", "--samples", "1")
    bench = run.Bench(o)
    monkeypatch.setattr(bench, "prefill", lambda *_: (None, float(next(clock))))
    monkeypatch.setattr(bench, "fit", lambda *_: None)
    settings = run.read_settings(o)
    rows = [{"setting": setting.text, "length": "256", "prefill_ms": "0"} for setting in settings]
    made = run.measure_alone(o, bench, settings, dict.fromkeys(settings, (1,)), rows)
    times = [float(row["prefill_ms"]) for row in made]
    assert len(times) > 3 and max(times) - min(times) == len(times) - 1


def test_an_answer_ends_with_its_line(model):
    bench = run.Bench(options(model, "unused"))
    line, word = TOKENIZER.ids["\n"], TOKENIZER.ids["the"]
    assert bench.ends([word, word]) is None
    assert bench.ends([line, word, word]) is None
    assert bench.ends([word, line, word]) == 2 and bench.ends([word, words.EOS]) == 2


def test_eviction_is_permanent(model):
    """One set for all heads and layers; what is not in it changes nothing any more."""
    o = options(model, "unused")
    bench = run.Bench(o)
    setting = methods.parse(f"evict:{HALF},layers=1-3")
    ids = bench.encode(tasks.make("multikey", 256, 1, count).prompt())
    with torch.inference_mode():
        out, _ = bench.prefill(ids, setting, (1, 2, 3), False)
        evict = bench.switch.now
        left = evict.left
        evict.follow([left], [len(ids)])
        assert len(left) == methods.keep_count(setting.selection, len(ids)) and (left.diff() > 0).all()
        gone = torch.ones(len(ids), dtype=torch.bool)
        gone[left] = False
        cache = out.past_key_values
        token = bench.tensor([7])
        expected = bench.model(token, past_key_values=cache).logits
        cache.crop(-1)
        for layer in (1, 2, 3):
            cache.layers[layer].values[:, :, : len(ids)][:, :, gone] = 1000.0
        assert torch.equal(bench.model(token, past_key_values=cache).logits, expected)
        cache.crop(-1)
        cache.layers[2].values[:, :, left[3]] = 1000.0
        assert not torch.equal(bench.model(token, past_key_values=cache).logits, expected)


def test_maps_come_nearer_to_dense():
    """On what they were fitted on they must; the identity is one of the maps. Dropped rows stay zero."""
    q, k, v = qkv()
    module = type("Module", (), {"layer_idx": 1})()
    mapped = methods.Switch().methods["mapped"]
    setting = methods.parse(f"mapped:{HALF}")
    mapped.use(setting, (1,))
    mapped.begin()
    dense, _ = mapped.attend(module, q, k, v, None)
    assert torch.equal(dense, tamis.attention(q, k, v))
    mapped.end()
    plain = tamis.attention(q, k, v, setting.selection)
    output, _ = mapped.attend(module, q, k, v, None)
    assert torch.equal(rows(output), rows(plain))
    errors = [(t - dense)[rows(plain)].float().norm() for t in (output, plain)]
    assert errors[0] < 0.99 * errors[1]
    mapped.use(setting, (1,))
    assert torch.equal(mapped.attend(module, q, k, v, None)[0], output)  # kept for the setting


def test_random_and_recent(model):
    q, k, v = qkv()
    module = type("Module", (), {"layer_idx": 1})()
    for kind, same in (("random", False), ("recent", True)):
        switch = methods.Switch()
        switch.use(methods.parse(f"{kind}:{HALF}"), (1,))
        output, kept = switch.now.attend(module, q, k, v, None)
        seen = rows(output)[0]
        assert (seen.sum(-1) == kept.item()).all() and seen[:, -16:].all()
        assert (seen == seen[:1]).all() == same
    assert seen[:, -kept.item() :].all()


# ---- the page


def test_page(model, tmp_path, capsys):
    """Well formed, nothing from elsewhere, each setting named, a dot for each setting that has a dense prompt beside it."""
    text = tmp_path / "text.txt"
    text.write_text("".join(tasks.make("single", 600, 9, count).pieces))
    run.run(options(model, tmp_path / "out", "--tasks", "single,common", "--depths", "0,1", "--text", str(text)))
    made = plot.page([tmp_path / "out"])
    root = xml.etree.ElementTree.fromstring(made.split("\n", 1)[1])
    assert not any(word in made for word in ("<script", "src=", "href=", "@import", "url("))
    titles = [element.text for element in root.iter() if element.tag.endswith("title")]
    for setting in SETTINGS:
        assert any(setting in title for title in titles[1:])
    assert made.count("Accuracy against speed</h2>") == made.count("Accuracy by depth") == made.count("Perplexity behind") == 1
    assert "nan" not in made and "inf" not in made


def results(folder, settings):
    """A folder of results, of a dense setting and others: (method, ratio, layers, accuracy)."""
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, run.COLUMNS, restval="")
        writer.writeheader()
        for method, amount, layers, accuracy in settings:
            setting = method if method == "dense" else f"{method}:ratio={amount},layers={layers}"
            same = dict(task="single", haystack="text", length=256, depth=0.5, sample=0, said="7", nll="", scope="head")
            policy = "dense" if method == "dense" else "ratio"
            kept = f"1.0000 {amount or 1:.4f}"
            row = dict(setting=setting, accuracy=accuracy, prefill_ms=2, kept=amount or 1, kept_by_layer=kept, method=method)
            writer.writerow({**same, **row, "policy": policy, "amount": amount, "sparse_layers": layers})


def test_page_of_many_settings(tmp_path):
    """More than there are colours: tables instead of lines, in one order whatever that of the rows is; baselines have no speed;
    what is near dense is drawn larger."""
    some = [(method, amount, "1", 0.96) for method in ("random", "sparse") for amount in (0.1, 0.2, 0.3, 0.4, 0.5)]
    results(tmp_path, [*some, ("dense", "", "", 1.0), ("sparse", 0.05, "0,1", 0.25)])
    made = plot.page([tmp_path])
    xml.etree.ElementTree.fromstring(made.split("\n", 1)[1])
    parts = dict(part.split("</h2>", 1) for part in made.split("<h2>")[1:])
    assert "random:" not in parts["Accuracy against speed"] and parts["Accuracy against speed"].count("<figure>") == 2
    assert parts["Accuracy against tokens kept"].count("<figcaption>layers 1, 256 tokens") == 1
    assert "layers 0,1" not in parts["Accuracy against tokens kept"]
    for title in ("Accuracy by depth", "Tokens kept by layer"):
        assert "<svg" not in parts[title]
    table = parts["Accuracy by task"]
    names = ["<td>dense<", *(f"<td>{method}:ratio=" for method in ("sparse", "random"))]
    assert sorted(names, key=table.index) == names
    assert table.index("sparse:ratio=0.5") < table.index("sparse:ratio=0.1,")
    assert "rgb(214 39 40 / 0.62)'>0.250" in table and "<td>1.000" in table


def test_page_of_nothing(tmp_path):
    (tmp_path / "results.csv").write_text(",".join(run.COLUMNS) + "\n")
    with pytest.raises(SystemExit, match="no results yet"):
        plot.page([tmp_path])


def test_round_numbers():
    assert plot.steps(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert plot.steps(0.97, 1.53) == [1.0, 1.2, 1.4]
    assert plot.steps(3, 3) == [3]


# ---- the trainer


def test_lessons():
    """The same number makes the same batch; what counts as a needle's answer is what its context says, and is in the loss."""
    lessons = train.Lessons(TOKENIZER, 256, 16, 5, 0, 0.25, 0.25)
    ids, kinds, needles, free = lessons[3]
    assert ids.shape == kinds.shape == needles.shape == (16, 256)
    assert all(torch.equal(a, b) for a, b in zip(lessons[3], lessons[3]))
    assert not torch.equal(ids, lessons[4][0])
    assert (kinds[needles > 0] == train.ANSWER).all() and (needles > 0).sum() >= 16
    assert not kinds[ids == words.PAD].any()
    assert len(free) and (kinds[free[:, 0], free[:, 1]] == train.ANSWER).all()
    assert (ids[free[:, 0], free[:, 1]] == free[:, 2]).all()
    for row, marked in zip(ids.tolist(), needles.tolist()):
        asked = [i for i, is_asked in enumerate(marked) if is_asked]
        assert all(row[i] in row[: asked[0]] for i in asked)


def test_repeats_and_lists():
    ids, kinds, needles, _ = train.Lessons(TOKENIZER, 64, 4, 1, 0, 1.0, 0.0)[0]
    for row, kind in zip(ids.tolist(), kinds.tolist()):
        period = kind.index(train.ANSWER)
        assert row[:period] == row[period : 2 * period] or 2 * period > 64
        assert len(set(row)) == period and not any(kind[:period])
    keyed = dict(mixture={"multikey": 1})
    ids, kinds, needles, _ = train.Lessons(TOKENIZER, 64, 4, 1, 0, 0.0, 1.0, judged=("list",), **keyed)[0]
    assert needles.sum() == 16 and not train.Lessons(TOKENIZER, 64, 4, 1, 0, 0.0, 1.0, **keyed)[0][2].any()
    for row in ids.tolist():
        said = TOKENIZER.decode(row).split()
        values = [word for word in said if word.isdigit()]
        assert len(values) == 8 and sorted(values[:4]) == sorted(values[4:])


def test_words_in_any_order():
    """Where three words are as right as one another, their likelihoods add up; elsewhere there is one."""
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 9), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    kinds = torch.full((2, 4), train.ANSWER)
    kinds[1, 3] = train.TEXT
    free = torch.tensor([[0, 2, 2, 5, 7, -1, -1], [1, 1, 5, -1, -1, -1, -1]])  # columns of the ids, which have one more before
    logits[0, 1, 7] = 9.0
    loss, right = train.lose(logits, target, kinds, free, 0.5)
    likely = logits.softmax(-1)
    each = [likely[row, i, target[row, i]] for row in (0, 1) for i in range(4)]
    each[1] = likely[0, 1, [2, 5, 7]].sum()
    expected = -torch.stack(each).log()
    torch.testing.assert_close(loss, expected[:7].mean() + 0.5 * expected[7])
    assert right[0, 1] and right.sum() == 1 + (logits.argmax(-1) == target).sum()


def test_training_starts(tmp_path):
    """A few steps on a micro model: its loss falls, each stage is saved, and run.py reads what was saved."""
    said = []
    micro = "--hidden 64 --inner 64 --layers 2 --step-tokens 512 --rate 5e-3 --warm-up 10 --text-weight 1"
    stages = "--first 64 --first-steps 40 --last 128 --last-steps 20"
    o = train.options(f"--out {tmp_path} --preset tiny --device cpu {micro} {stages}".split())
    history = train.train(o, said.append)
    assert [entry["length"] for entry in history] == [64, 64, 128]
    assert history[-1]["loss"] < 12.0  # of a guess: 7.5, the vocabulary's logarithm, for answers and text each
    assert set(history[0]["needles"]) == {"list", "single", "multikey"} and set(history[-1]["needles"]) == set(tasks.NEEDLES)
    assert len(said) == 4 and "128 tokens" in said[-1]
    assert json.loads((tmp_path / "training.json").read_text())["history"] == history
    assert train.train(o, said.append) == history  # it is done
    bench = run.Bench(options(tmp_path, "unused"))
    assert bench.n_layers == 2 and isinstance(bench.tokenizer, words.WordTokenizer)


def test_training_goes_on(tmp_path, monkeypatch):
    """Stopped within the second stage and called again: what comes out is what one call makes, to the bit."""

    def options_for(name):
        micro = (
            "--hidden 64 --inner 64 --layers 1 --step-tokens 256"
            " --first 32 --last 128 --first-steps 6 --second-steps 4 --last-steps 4"
        )
        return train.options(f"--out {tmp_path / name} --preset tiny --device cpu {micro}".split())

    def stop(*arguments):
        if arguments[3].length == 64:
            raise KeyboardInterrupt
        return whole(*arguments)

    whole = train.run_stage
    history = train.train(options_for("one"), lambda _: None)
    monkeypatch.setattr(train, "run_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train(options_for("two"), lambda _: None)
    monkeypatch.setattr(train, "run_stage", whole)
    again = train.train(options_for("two"), lambda _: None)
    assert [{**entry, "seconds": 0} for entry in again] == [{**entry, "seconds": 0} for entry in history]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "two" / "state.pt").exists()
    other = options_for("two")
    other.rate = 1.0
    with pytest.raises(SystemExit, match="trained with other options"):
        train.train(other, lambda _: None)
