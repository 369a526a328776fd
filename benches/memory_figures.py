"""The arithmetic of `make bench-memory`: recall, quantiles, which breadth is enough, and rows."""

import statistics

# What is wanted of all, and what they are set to on the other half of the queries: recall on one half differs from that on the
# other by some thousandths.
RECALL = 0.98
TUNED = 0.985
# Tried one after the other, until recall is enough.
BREADTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
COLUMNS = ("vectors", "case", "unit", "ours", "peer", "ratio", "bar", "peer_name")
SMALLER_IS_BETTER = ("us", "MiB", "s")


def recall(found, exact):
    """The share of the exact neighbours that were found, of all queries."""
    hits = sum(len(set(ids) & set(true)) for ids, true in zip(found, exact, strict=True))
    return hits / sum(len(true) for true in exact)


def quantile(values, part):
    """The value that so large a part of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def enough(measure, breadths=BREADTHS, wanted=TUNED):
    """The first breadth whose recall is enough, and that recall; the last one where none is."""
    for breadth in breadths:
        reached = measure(breadth)
        if reached >= wanted:
            break
    return breadth, reached


def row(vectors, case, unit, ours, peer, peer_name):
    """A row whose ratio above 1 is better for aiOS; the bar of all is 1."""
    best, other = (peer, ours) if unit in SMALLER_IS_BETTER else (ours, peer)
    ratio = best / other if other else float("inf")
    return {"vectors": vectors, "case": case, "unit": unit, "ours": round(ours, 1), "peer": round(peer, 1),
            "peer_name": peer_name, "ratio": round(ratio, 3), "bar": 1.0}


def rows(vectors, ours, peers):
    """Rows of all cases beside each peer. Subjects have `times` (rounds of nanoseconds), `recall`, `ingest` and
    `complete` (vectors a second), `resident` (bytes), `memory` (the same and what the kernel keeps of its files), and `each`
    (mean nanoseconds of many queries in one call, or None)."""
    found = []
    for name, peer in peers.items():
        for case, part in (("search-p50", 0.5), ("search-p99", 0.99)):
            mine, theirs = (statistics.median(quantile(times, part) for times in subject["times"]) / 1e3
                            for subject in (ours, peer))
            found.append(row(vectors, case, "us", mine, theirs, name))
        if peer["each"]:
            mine = statistics.median(statistics.fmean(times) for times in ours["times"])
            found.append(row(vectors, "search-mean", "us", mine / 1e3, peer["each"] / 1e3, f"{name}, all in one call"))
        found.append(row(vectors, "ingest", "vectors/s", ours["ingest"], peer["ingest"], name))
        found.append(row(vectors, "ingest-complete", "vectors/s", ours["complete"], peer["complete"], name))
        for case in ("resident", "memory"):
            found.append(row(vectors, case, "MiB", ours[case] / 2**20, peer[case] / 2**20, name))
    for name, subject in {"aiOS": ours, **peers}.items():
        found.append({"vectors": vectors, "case": "recall", "unit": f"at breadth {subject['breadth']}",
                      "ours": round(subject["recall"], 4), "peer_name": name})
    return found
