#!/usr/bin/env python3
"""A page of what run.py has measured: accuracy against speed and against the tokens kept, a curve a method; accuracy by length,
by depth and by task; what each layer kept. One HTML file with its drawings inside, for any browser, without scripts or a
network. More settings than there are colours are put in tables instead of lines, shaded by what they lose.

    plot.py results [results...] -o page.html        folders of run.py; several become one page, say of one model each
"""

import argparse
import csv
import html
import json
import math
import pathlib
import statistics
import sys

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17a2b8", "#8c564b", "#e377c2", "#7f7f7f", "#b8a800")
DASHES = ("none", "6 4", "2 3", "9 3 2 3")  # when the colours begin again; dots are hollow then
METHODS = ("dense", "sparse", "mapped", "evict", "random", "recent")  # the order of rows and curves
TIMED = METHODS[:3]  # the others are baselines in plain torch, whose times say nothing
NEAR = 0.05  # what is drawn once more, larger: settings that lose no more than that
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
body { color: #1b1f24; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } p.note { color: #57606a; max-width: 60rem }
figure { display: inline-block; margin: 0 1.5rem 1rem 0; vertical-align: top }
figcaption { font-weight: 600; margin-bottom: .2rem }
svg text { font: 12px system-ui, sans-serif; fill: currentColor } svg .grid { stroke: #d0d7de } svg .axis { stroke: #57606a }
ul.legend { list-style: none; padding: 0; columns: 25rem; margin: .4rem 0 1rem }
ul.legend li { break-inside: avoid; white-space: nowrap } ul.legend svg { vertical-align: middle }
div.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .6rem 0 } caption { font-weight: 600; text-align: left }
td, th { font-variant-numeric: tabular-nums; padding: .15rem .6rem; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid #57606a }
tr:nth-child(even) td { background: #f3f5f7 }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117 } p.note { color: #9aa4af }
  svg .grid { stroke: #30363d } svg .axis { stroke: #9aa4af }
  tr:nth-child(even) td { background: #161b22 }
}
"""


def read(folder):
    with (pathlib.Path(folder) / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("said") is not None]
    for row in rows:
        row["length"] = int(row["length"])
        row["right"] = float(row["accuracy"]) if row["accuracy"] else None
        row["ms"] = float(row["prefill_ms"])
    return sorted(rows, key=place)


def place(row):
    """Dense first, then by method and layers; what keeps most before what keeps less, whatever order it was run in."""
    amount = float(row["amount"] or 0)
    method = METHODS.index(row["method"])
    return method, row["sparse_layers"], row["policy"], amount if row["policy"] == "coverage" else -amount, row["setting"]


def case(row):
    return tuple(row[name] for name in ("task", "haystack", "length", "depth", "sample"))


def curve_of(row):
    """Settings that differ in how much they keep only are one curve."""
    if row["method"] == "dense":
        return "dense"
    return f"{row['method']} by {row['policy']}, {row['scope']}, layers {row['sparse_layers'] or 'none'}"


def pairs(rows):
    """(setting's row, dense row of the same prompt), where both were asked for an answer."""
    dense = {case(row): row for row in rows if row["method"] == "dense" and row["right"] is not None}
    return [(row, dense[case(row)]) for row in rows if row["right"] is not None and case(row) in dense]


def by(items, key):
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def mean(values):
    return statistics.fmean(values) if values else None


# ---- drawing


def steps(low, high, about=5):
    """Round numbers that lie between, some five of them."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    scale = next(s for s in sorted(m * 10.0**e for e in range(-6, 8) for m in (1, 2, 5)) if s >= raw * 0.999)
    first = int(-(-low // scale))
    return [round(i * scale, 10) for i in range(first, int(high / scale + 1e-9) + 1)]


class Chart:
    """Axes and lines in SVG. x may be a list of words, which are then set side by side."""

    WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 430, 280, 60, 42, 12, 14

    def __init__(self, title, x_title, y_title, x, y):
        self.title, self.x_title, self.y_title = title, x_title, y_title
        self.words = x if x and isinstance(x[0], str) else None
        self.x = (-0.5, len(x) - 0.5) if self.words else self.spread(min(x), max(x))
        self.y = self.spread(min(y), max(y))
        self.parts = []

    @staticmethod
    def spread(low, high):
        pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
        return low - pad, high + pad

    def at(self, x, y):
        if self.words:
            x = self.words.index(x)
        wide, high = self.WIDTH - self.LEFT - self.RIGHT, self.HEIGHT - self.TOP - self.BOTTOM
        return (
            self.LEFT + wide * (x - self.x[0]) / (self.x[1] - self.x[0]),
            self.TOP + high * (1 - (y - self.y[0]) / (self.y[1] - self.y[0])),
        )

    def level(self, y):
        """A broken line all the way across."""
        _, y = self.at(self.words[0] if self.words else self.x[0], y)
        self.parts.append(
            f'<line class="axis" stroke-dasharray="4 4" x1="{self.LEFT}" x2="{self.WIDTH - self.RIGHT}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/>'
        )

    def line(self, points, pen, name, notes=None):
        """points: (x, y); notes: what a pointer over each shows."""
        color, dashes = pen
        placed = [self.at(*point) for point in points]
        if len(placed) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            self.parts.append(
                f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>'
            )
        for (x, y), note in zip(placed, notes or [f"{name}: {x}, {y:.4g}" for x, y in points]):
            self.parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {dot(pen)}><title>{html.escape(note)}</title></circle>'
            )

    def svg(self):
        out = [
            f'<svg viewBox="0 0 {self.WIDTH} {self.HEIGHT}" width="{self.WIDTH}" height="{self.HEIGHT}" role="img" '
            f'aria-label="{html.escape(self.title)}" xmlns="http://www.w3.org/2000/svg">'
        ]
        left, bottom, right = self.LEFT, self.HEIGHT - self.BOTTOM, self.WIDTH - self.RIGHT
        for value in steps(*self.y):
            _, y = self.at(self.words[0] if self.words else self.x[0], value)
            out.append(
                f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        for value in self.words or steps(*self.x):
            x, _ = self.at(value, self.y[0])
            label = value if self.words else f"{value:g}"
            out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{html.escape(label)}</text>')
        out.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        out.append(
            f'<text x="{(left + right) / 2}" y="{self.HEIGHT - 6}" text-anchor="middle">{html.escape(self.x_title)}</text>'
        )
        out.append(
            f'<text transform="translate(12 {bottom / 2 + 8}) rotate(-90)" text-anchor="middle">'
            f"{html.escape(self.y_title)}</text>"
        )
        return "".join([*out, *self.parts, "</svg>"])

    def figure(self):
        return f"<figure><figcaption>{html.escape(self.title)}</figcaption>{self.svg()}</figure>"


def dot(pen):
    """Full with an unbroken line, hollow with a dashed one."""
    color, dashes = pen
    return f'fill="{color}"' + ("" if dashes == "none" else f' fill-opacity="0" stroke="{color}" stroke-width="2"')


def legend(names, pens):
    items = []
    for name in names:
        color, dashes = pens[name]
        line = f'<line x1="0" x2="28" y1="5" y2="5" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        line += f'<circle cx="14" cy="5" r="4" {dot(pens[name])}/>'
        items.append(
            f'<li><svg width="28" height="10" xmlns="http://www.w3.org/2000/svg">{line}</svg> {html.escape(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def palette(names):
    """A pen for each: colour and dashes."""
    return {name: (COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]) for i, name in enumerate(names)}


# ---- the parts of the page


def grid(caption, heads, lines):
    """A table. lines: (name, what stands beside it, values, what each value would be at best): the less, the redder."""
    body = []
    for name, beside, values, best in lines:
        cells = "".join(
            "<td></td>" if value is None else f"<td{shade(value, most)}>{value:.3f}</td>" for value, most in zip(values, best)
        )
        body.append(f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{text}</td>' for text in beside)}{cells}</tr>")
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    return (
        f"<div class='wide'><table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{''.join(body)}</table></div>"
    )


def shade(value, best):
    lost = 0.0 if best is None else min(max(best - value, 0.0), 1.0)
    return f" style='background: rgb(214 39 40 / {0.1 + 0.7 * lost:.2f})'" if lost >= 0.005 else ""


def curves_of(group):
    """By curve, each setting's pairs; what keeps most first."""
    return {
        name: by(of, lambda pair: pair[0]["setting"]) for name, of in by(group, lambda pair: curve_of(pair[0])).items()
    }


def speed_up(group):
    return sum(d["ms"] for _, d in group) / sum(r["ms"] for r, _ in group)


def right(group):
    return mean([row["right"] for row, _ in group])


def kept(group):
    return mean([float(row["kept"]) for row, _ in group])


def dense_right(group):
    return mean([dense["right"] for _, dense in group])


def against(title, x_title, curves, x_of, pens, level=None):
    """A figure of accuracy over x_of a setting's pairs. level: what dense attention has right, as a line."""
    points = {name: [(x_of(g), right(g), setting, g) for setting, g in of.items()] for name, of in curves.items()}
    every = [p for of in points.values() for p in of]
    levels = [] if level is None else [level, level - NEAR / 2, level + NEAR / 2]  # noise is to look like noise
    chart = Chart(title, x_title, "accuracy", [p[0] for p in every], [p[1] for p in every] + levels)
    if level is not None:
        chart.level(level)
    for name, of in points.items():
        notes = [f"{setting}: {speed_up(g):.2f}x, {y:.4f}, keeps {kept(g):.2f}" for _, y, setting, g in of]
        chart.line([p[:2] for p in of], pens[name], name, notes)
    return chart.figure()


def nearest(curves):
    """Those settings that lose no more than NEAR against dense ones; None where all do, or none."""
    near = {
        name: {setting: g for setting, g in of.items() if right(g) >= dense_right(g) - NEAR}
        for name, of in curves.items()
    }
    near = {name: of for name, of in near.items() if of}
    return near if len(near) > 1 and sum(map(len, near.values())) < sum(map(len, curves.values())) else None


def speed_part(rows):
    paired = [pair for pair in pairs(rows) if pair[0]["method"] in TIMED]
    pens = palette(curves_of(paired))
    figures = []
    lengths = sorted({row["length"] for row, _ in paired})
    for title, chosen in [("all lengths", paired)] * (len(lengths) > 1) + [
        (f"{length} tokens", [pair for pair in paired if pair[0]["length"] == length]) for length in lengths
    ]:
        curves = curves_of(chosen)
        for caption, part in (title, curves), (f"{title}, within {NEAR:g} of dense", nearest(curves)):
            if part:
                figures.append(against(caption, "prompt, times as fast as dense", part, speed_up, pens))
    note = (
        "Mean over prompts of what answers have right; time of the prompt alone. A pointer over a dot shows its setting. "
        "Baselines in plain torch are left out: their times say nothing."
    )
    return f'<h2>Accuracy against speed</h2><p class="note">{note}</p>' + legend(pens, pens) + "".join(figures)


def tokens_part(rows):
    """Methods beside one another, in the same layers."""
    paired = pairs(rows)
    groups = by([pair for pair in paired if pair[0]["sparse_layers"]], lambda pair: pair[0]["sparse_layers"])
    groups = {layers: group for layers, group in groups.items() if len({row["setting"] for row, _ in group}) > 1}
    pens = palette(dict.fromkeys(curve_of(row).rsplit(", layers ", 1)[0] for group in groups.values() for row, _ in group))
    figures = []
    for layers, group in groups.items():
        for length, part in sorted(by(group, lambda pair: pair[0]["length"]).items()):
            curves = {name.rsplit(", layers ", 1)[0]: of for name, of in curves_of(part).items()}
            title = f"layers {layers}, {length} tokens"
            figures.append(against(title, "tokens kept in these layers", curves, kept, pens, dense_right(part)))
    if not figures:
        return ""
    note = "Mean over prompts, for those layers in which there are several settings. The broken line is dense attention."
    return f'<h2>Accuracy against tokens kept</h2><p class="note">{note}</p>' + legend(pens, pens) + "".join(figures)


def along(rows, title, note, column, x_title, words, wanted):
    """Accuracy of each setting over one column: lines, or a table where these would be too many."""
    chosen = [row for row in rows if row["right"] is not None and wanted(row)]
    values = words(chosen)
    if not values:
        return ""
    names = list(by(chosen, lambda row: row["setting"]))
    dense = next((row["setting"] for row in chosen if row["method"] == "dense"), None)
    pens = palette(names)
    parts = [] if len(names) > len(COLORS) else [legend(names, pens)]
    for length in [None] if column == "length" else sorted({row["length"] for row in chosen}):
        part = [row for row in chosen if length is None or row["length"] == length]
        lines = {
            name: [mean([row["right"] for row in group if str(row[column]) == value]) for value in values]
            for name, group in by(part, lambda row: row["setting"]).items()
        }
        caption = f"{length} tokens" if length else "all tasks"
        if len(names) > len(COLORS):
            best = lines.get(dense, [None] * len(values))
            parts.append(grid(caption, ["setting", *values], [(name, (), of, best) for name, of in lines.items()]))
            continue
        points = {name: [p for p in zip(values, of) if p[1] is not None] for name, of in lines.items()}
        chart = Chart(caption, x_title, "accuracy", values, [y for of in points.values() for _, y in of])
        for name, of in points.items():
            chart.line(of, pens[name], name)
        parts.append(chart.figure())
    return f'<h2>{title}</h2><p class="note">{note}</p>' + "".join(parts)


def kept_part(rows):
    groups = {
        name: [[float(share) for share in row["kept_by_layer"].split()] for row in group]
        for name, group in by(rows, lambda row: row["setting"]).items()
        if group[0]["method"] != "dense"
    }
    if not groups:
        return ""
    shares = {name: [mean(layer) for layer in zip(*of)] for name, of in groups.items()}
    layers = list(range(max(map(len, shares.values()))))
    if len(groups) > len(COLORS):
        lines = [(name, (), of, [1.0] * len(layers)) for name, of in shares.items()]
        return "<h2>Tokens kept by layer</h2>" + grid("all prompts", ["setting", *map(str, layers)], lines)
    pens = palette(groups)
    chart = Chart("all prompts", "layer", "tokens kept", layers, [share for of in shares.values() for share in of])
    for name, of in shares.items():
        chart.line(list(enumerate(of)), pens[name], name)
    return "<h2>Tokens kept by layer</h2>" + legend(groups, pens) + chart.figure()


def table_part(rows):
    answered = [row for row in rows if row["right"] is not None]
    return "<h2>Accuracy by task</h2>" + "".join(
        table(length, group) for length, group in sorted(by(answered, lambda row: row["length"]).items())
    )


def table(length, rows):
    tasks = list(by(rows, lambda row: row["task"]))

    def cells(group):
        of = by(group, lambda row: row["task"])
        return [mean([row["right"] for row in group]), *(mean([row["right"] for row in of.get(task, [])]) for task in tasks)]

    dense = [row for row in rows if row["method"] == "dense"]
    best = cells(dense) if dense else [None] * (1 + len(tasks))
    lines = [
        (name, (f"{statistics.median(row['ms'] for row in group):.1f}",), cells(group), best)
        for name, group in by(rows, lambda row: row["setting"]).items()
    ]
    return grid(f"{length} tokens", ["setting", "prompt, ms", "mean", *tasks], lines)


def perplexity_part(rows):
    groups = by([row for row in rows if row["nll"]], lambda row: (row["setting"], row["length"]))
    if not groups:
        return ""
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{length}</td><td>{math.exp(mean([float(r['nll']) for r in of])):.3f}</td>"
        f"<td>{len(of)}</td></tr>"
        for (name, length), of in groups.items()
    )
    head = "<tr><th>setting</th><th>tokens</th><th>perplexity</th><th>texts</th></tr>"
    return f"<h2>Perplexity behind a prompt of text</h2><table>{head}{body}</table>"


def section(folder):
    rows = read(folder)
    if not rows:
        raise SystemExit(f"plot.py: {folder} has no results yet")
    path = pathlib.Path(folder) / "summary.json"
    about = json.loads(path.read_text()) if path.exists() else {}
    facts = ", ".join(str(about[name]) for name in ("model", "device") if name in about) or str(folder)
    numbers = sorted({row["length"] for row in rows})
    settings = len(by(rows, lambda row: row["setting"]))
    return f"<h1>{html.escape(facts)}</h1><p class='note'>{len(rows)} answers and texts, {settings} settings.</p>" + "".join(
        (
            speed_part(rows),
            tokens_part(rows),
            along(
                rows,
                "Accuracy by length",
                "Mean over prompts.",
                "length",
                "tokens",
                lambda _: [str(n) for n in numbers],
                lambda row: True,
            )
            if len(numbers) > 1
            else "",
            along(
                rows,
                "Accuracy by depth",
                "The single needle, by its place: 0 is the beginning of the prompt, 1 its end.",
                "depth",
                "depth",
                lambda chosen: sorted({row["depth"] for row in chosen}, key=float),
                lambda row: row["depth"] != "",
            ),
            table_part(rows),
            perplexity_part(rows),
            kept_part(rows),
        )
    )


def page(folders):
    body = "".join(section(folder) for folder in folders)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'/><meta name='viewport' content='width=device-width'/>"
        f"<title>Accuracy against speed</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="what run.py was given as --out")
    parser.add_argument("-o", "--output", default="quality.html")
    o = parser.parse_args(sys.argv[1:])
    pathlib.Path(o.output).write_text(page(o.folders))
