#!/usr/bin/env python3
"""Search among embeddings beside chromadb, sqlite-vec and usearch: same vectors, one thread each, in turn.

For each size, every subject takes all vectors in batches of 1000, and is set so that its recall@10 is 0.985 or more on half of
the queries; then all search with the other half, round after round. sqlite-vec reads all vectors for each query, so beyond
50,000 of them it gets 50 queries. Prints a table and writes a list of rows, {vectors, case, unit, ours, peer, peer_name, ratio,
bar}; a ratio above 1 is better for aiOS. memory_data.py says what the vectors are.
Needs Python with numpy and the peers (support/bench-memory.sh brings it).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import memory_data
import memory_figures as figures
import page_cache
import rows

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = "aiOS"
# Hits of a search.
K = 10
# A subject that reads all vectors for each query gets so many beyond so many vectors.
SLOW, SLOW_FROM, SLOW_QUERIES = ("sqlite-vec",), 50_000, 50
PEERS = ("usearch", "usearch:i8", "sqlite-vec", "chromadb")
# Never reaches the recall that is asked for, and is not waited for beyond so many vectors.
SHORT, SHORT_TO = ("usearch:i8",), 100_000


def main():
    args = arguments()
    found = []
    for count in args.vectors:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            found += measure(args, count, folder)
    for line in rows.table(found, figures.COLUMNS):
        print(line)
    rows.write(found, args.out)
    missed = [row for row in found if row.get("bar") and row["ratio"] < row["bar"]]
    for row in missed:
        print(f"missed: {row['case']} of {row['vectors']} vectors: {row['ratio']} of {row['peer_name']}")
    return 1 if missed and args.strict else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the example `bench` of aios-vectors")
    parser.add_argument("--folder", required=True, help="where databases and vectors are put meanwhile")
    parser.add_argument("--vectors", type=numbers, default=[10_000, 100_000, 1_000_000], metavar="N,N,...")
    parser.add_argument("--file", help="vectors to take instead of synthetic ones (single precision); the last 2000 are queries")
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000, help="so many to set the breadth, and as many to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=PEERS, metavar="NAME,...")
    parser.add_argument("--graph-from", type=int, help="so many vectors get a graph (default: that of the program)")
    parser.add_argument("--strict", action="store_true", help="fail where a peer is better")
    parser.add_argument("--out", required=True, help="JSON file to write")
    return parser.parse_args()


def numbers(text):
    return [int(word) for word in text.split(",")]


def measure(args, count, folder):
    """All rows of one size."""
    paths = prepare(args, count, folder)
    truths = {part: memory_data.exact(paths["vectors"], args.dimensions, queries(args, paths[part]), K)
              for part in ("tune", "queries")}
    peers = [name for name in args.peers if count <= SHORT_TO or name not in SHORT]
    subjects = {name: Subject(args, name, folder, count) for name in (OURS, *peers)}
    for subject in subjects.values():
        subject.begin()
    for subject in subjects.values():
        subject.ingest()
        subject.tune(truths["tune"])
        print(f"{count} vectors: {subject.report()}", file=sys.stderr)
    for _ in range(args.rounds):
        for subject in subjects.values():
            subject.search(truths["queries"])
    found = {name: subject.finish() for name, subject in subjects.items()}
    return figures.rows(count, found.pop(OURS), found)


def prepare(args, count, folder):
    """Files of vectors, of queries to set the breadth with, and of queries to measure with."""
    paths = {part: os.path.join(folder, part) for part in ("vectors", "tune", "queries")}
    if args.file:
        all_vectors = memory_data.numpy.fromfile(args.file, memory_data.numpy.float32).reshape(-1, args.dimensions)
        held = 2 * args.queries
        parts = (all_vectors[:-held][:count], all_vectors[-held:-args.queries], all_vectors[-args.queries:])
    else:
        sizes = ((count, 2), (args.queries, 3), (args.queries, 4))
        parts = (memory_data.synthetic(size, args.dimensions, count, seed) for size, seed in sizes)
    for path, vectors in zip(paths.values(), parts):
        vectors.tofile(path)
    return paths


def queries(args, path):
    return memory_data.numpy.fromfile(path, memory_data.numpy.float32).reshape(-1, args.dimensions)


class Subject:
    """One index, in a process of its own."""

    def __init__(self, args, name, folder, count):
        self.name, self.count, self.times, self.figures = name, count, [], {}
        self.queries = SLOW_QUERIES if name in SLOW and count > SLOW_FROM else args.queries
        self.place = place = os.path.join(folder, name.replace(":", "-"))
        os.makedirs(place)
        rest = [folder, str(K)]
        if name == OURS:
            graph_from = str(args.graph_from or "default")
            command = [args.program, os.path.join(place, "vectors.redb"), str(args.dimensions), graph_from, *rest]
        else:
            command = [sys.executable, os.path.join(HERE, "memory_peers.py"), name, place, str(args.dimensions), *rest]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended at {words[0]} with status {self.process.wait()}")
        return json.loads(line)

    def begin(self):
        """Waits until it has started: what a program reads and compiles at its start is done before the first one is timed."""
        self.figures["before"] = self.ask("resident")["bytes"]

    def ingest(self):
        seconds = self.ask("ingest")["seconds"]
        graph = self.ask("link") if self.name == OURS else {"seconds": 0}
        self.figures |= {"ingest": self.count / seconds, "complete": self.count / (seconds + graph["seconds"]),
                         "longest": graph.get("longest", 0)}

    def tune(self, truth):
        def reached(breadth):
            self.figures["open"] = self.ask("open", breadth)["seconds"]
            return figures.recall(self.ask("search", "tune", self.queries)["found"], truth[:self.queries])

        breadths = figures.BREADTHS if self.name not in SLOW else (0,)
        self.figures["breadth"], self.figures["tuned"] = figures.enough(reached, breadths)
        # Searching alone decides what is cached of its files from here on.
        page_cache.evict(self.place)

    def search(self, truth):
        answer = self.ask("search", "queries", self.queries)
        self.times.append(answer["times"])
        self.figures["recall"] = figures.recall(answer["found"], truth[:self.queries])

    def finish(self):
        each = None if self.name == OURS else self.ask("search-all", "queries")["each"]
        resident = self.ask("resident")["bytes"] - self.figures["before"]
        cached = page_cache.cached(self.place)
        self.process.stdin.close()
        self.process.wait()
        return self.figures | {"times": self.times, "resident": resident, "memory": resident + cached, "each": each}

    def report(self):
        shown = {name: round(value, 4) for name, value in self.figures.items()}
        return f"{self.name}: {shown}"


if __name__ == "__main__":
    sys.exit(main())
