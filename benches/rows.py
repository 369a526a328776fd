"""What a row of a benchmark is, and the bars that rows of `make bench-inference` are held to."""

import json
import os
import statistics

# The least ratio of a row, by what its case is called up to the numbers: with AVX-512, with any other vector unit.
BARS = {
    "prefill-fa": (5.0, 2.5),
    "prefill-blas": (2.5, None),
    "decode": (2.2, 1.3),
    "load": (1.0, 1.0),
    "peak-rss": (1.0, 1.0),
    "server-rss": (1.0, 1.0),
    "tool-call-cold": (3.0, 3.0),
    "tool-call-warm": (3.0, 3.0),
}
# The same of models that are held to others.
BARS_OF_MODELS = {"gemma3": {"prefill-fa": (3.0, 3.0), "prefill-blas": (None, None), "decode": (1.3, 1.3)}}
UNITS = {"load": "ms", "first": "ms", "tool": "ms", "peak": "MiB", "server": "MiB", "memory": "GB/s"}
COLUMNS = ("model", "threads", "case", "unit", "ours", "peer", "ratio", "bar", "peer_name")


def kind(case):
    """`prefill-fa` of `prefill-128-fa`: the case without its numbers and without the depth."""
    return "-".join(part for part in case.split("-") if not part.isdigit() and part != "at")


def bar(case, arithmetic, model):
    bars = BARS | BARS_OF_MODELS.get(model.split("-", maxsplit=1)[0], {})
    wide, other = bars.get(kind(case), (None, None))
    return wide if arithmetic == "avx512" else other


def row(case, ours, peer, peer_name):
    """A row of the medians of both sides' samples; a ratio above 1 is better for the first."""
    mine, theirs = statistics.median(ours), statistics.median(peer)
    unit = UNITS.get(case.split("-", maxsplit=1)[0], "tokens/s")
    ratio = theirs / mine if unit in ("ms", "MiB") else mine / theirs
    return {"case": case, "unit": unit, "ours": round(mine, 1), "peer": round(theirs, 1), "peer_name": peer_name,
            "ratio": round(ratio, 3)}


def better(case, sides):
    """The name of the side whose median is better in `case`, of those that have it; None where none has."""
    having = [name for name, samples in sides.items() if samples.get(case)]
    smaller = UNITS.get(case.split("-", maxsplit=1)[0], "tokens/s") in ("ms", "MiB")
    best = min if smaller else max
    return best(having, key=lambda name: statistics.median(sides[name][case]), default=None)


def peer_rows(ours, llama, candle):
    """The rows beside other software.

    `llama` has the samples of each build of llama.cpp by its name, `candle` those of stock candle, or nothing. The better
    build counts as llama.cpp; where one of them reads prompts, each has a row of its own as well.
    """
    rows = []
    for case in ours:
        name = better(case, llama)
        if name:
            rows.append(row(case, ours[case], llama[name][case], name))
        if case.startswith("prefill"):
            for other, samples in llama.items():
                if case in samples:
                    short = "blas" if "BLAS" in other else "fa"
                    rows.append(row(f"{case}-{short}", ours[case], samples[case], other))
        if case in candle:
            rows.append(row(f"{case}-candle", ours[case], candle[case], "candle"))
    return rows


def finish(rows, model, threads, arithmetic):
    """Says of each row what it was measured on, and its bar."""
    for number, plain in enumerate(rows):
        held = bar(plain["case"], arithmetic, model)
        whole = {"model": model, "threads": threads, "arithmetic": arithmetic, **plain}
        rows[number] = whole | ({"bar": held} if held else {})
    return rows


def missed(rows):
    return [r for r in rows if r.get("bar") and r["ratio"] < r["bar"]]


def table(rows, columns=COLUMNS, left=("model", "case", "peer_name")):
    """The rows as lines of text."""
    def cell(r, column):
        value = r.get(column, "")
        return f"{value:.2f}" if column in ("ratio", "bar") and value != "" else str(value)

    cells = [columns] + [tuple(cell(r, column) for column in columns) for r in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    justified = ([text.ljust(width) if column in left else text.rjust(width)
                  for column, text, width in zip(columns, line, widths)] for line in cells)
    return ["  ".join(line).rstrip() for line in justified]


def write(rows, path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=2)
        file.write("\n")
    os.replace(path + ".new", path)
