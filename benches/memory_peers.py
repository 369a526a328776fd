#!/usr/bin/env python3
"""One of the peers of `make bench-memory`, told what to do line by line as crates/aios-vectors/examples/bench.rs is."""

import json
import os
import sys
import time

import apsw
import memory_data
import numpy

BATCH = 1000


class Usearch:
    """usearch in memory, its defaults but for the numbers that it keeps."""

    def __init__(self, _folder, dimensions, kind):
        from usearch.index import Index

        self.index = Index(ndim=dimensions, metric="cos", dtype=kind)

    def add(self, begin, vectors):
        self.index.add(numpy.arange(begin, begin + len(vectors), dtype=numpy.uint64), vectors, threads=1)

    def set_breadth(self, breadth):
        self.index.expansion_search = breadth

    def find(self, query, k):
        return self.index.search(query, k, threads=1).keys

    def find_all(self, queries, k):
        self.index.search(queries, k, threads=1)


class SqliteVec:
    """sqlite-vec in a file, which compares all vectors. Not every Python's own sqlite3 loads extensions; apsw does."""

    find_all = None

    def __init__(self, folder, dimensions, _kind):
        import sqlite_vec

        self.database = apsw.Connection(os.path.join(folder, "vectors.sqlite"))
        self.database.enable_load_extension(True)
        self.database.load_extension(sqlite_vec.loadable_path())
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute(f"CREATE VIRTUAL TABLE vectors USING vec0(v float[{dimensions}] distance_metric=cosine)")

    def add(self, begin, vectors):
        rows = [(begin + number, vector.tobytes()) for number, vector in enumerate(vectors)]
        with self.database:
            self.database.executemany("INSERT INTO vectors(rowid, v) VALUES (?, ?)", rows)

    def set_breadth(self, breadth):
        pass

    def find(self, query, k):
        rows = self.database.execute("SELECT rowid FROM vectors WHERE v MATCH ? AND k = ?", (query.tobytes(), k))
        return [row[0] for row in rows]


class Chroma:
    """chromadb with its files, its defaults but for one thread."""

    find_all = None

    def __init__(self, folder, _dimensions, _kind):
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(os.path.join(folder, "chroma"), settings=settings)
        hnsw = {"space": "cosine", "num_threads": 1}
        self.vectors = self.client.create_collection("vectors", configuration={"hnsw": hnsw}, embedding_function=None)

    def add(self, begin, vectors):
        self.vectors.add(ids=[str(begin + number) for number in range(len(vectors))], embeddings=vectors)

    def set_breadth(self, breadth):
        self.vectors.modify(configuration={"hnsw": {"ef_search": breadth}})

    def find(self, query, k):
        return self.vectors.query(query_embeddings=[query], n_results=k, include=[])["ids"][0]


PEERS = {"usearch": Usearch, "sqlite-vec": SqliteVec, "chromadb": Chroma}


def resident():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def main():
    name, folder, dimensions, data, k = sys.argv[1:]
    dimensions, k = int(dimensions), int(k)
    name, _, kind = name.partition(":")
    peer = PEERS[name](folder, dimensions, kind or None)
    for line in sys.stdin:
        command, *rest = line.split()
        print(json.dumps(answer(peer, command, rest, Data(data, dimensions), k)), flush=True)


class Data:
    """The files of vectors."""

    def __init__(self, folder, dimensions):
        self.folder, self.dimensions = folder, dimensions

    def batches(self):
        return memory_data.pieces(os.path.join(self.folder, "vectors"), self.dimensions, BATCH)

    def queries(self, part):
        return numpy.fromfile(os.path.join(self.folder, part), numpy.float32).reshape(-1, self.dimensions)


def answer(peer, command, rest, data, k):
    begin = time.perf_counter()
    if command == "ingest":
        for first, piece in data.batches():
            peer.add(first, piece)
    elif command == "open":
        peer.set_breadth(int(rest[0]))
    elif command == "resident":
        return {"bytes": resident()}
    elif command == "search":
        return search(peer, data.queries(rest[0])[:int(rest[1])], k)
    elif command == "search-all":
        return search_all(peer, data.queries(rest[0]), k)
    return {"seconds": time.perf_counter() - begin}


def search(peer, queries, k):
    times, found = [], []
    for query in queries:
        begin = time.perf_counter_ns()
        ids = peer.find(query, k)
        times.append(time.perf_counter_ns() - begin)
        found.append([int(number) for number in ids])
    return {"times": times, "found": found}


def search_all(peer, queries, k):
    """Mean time of a query where all are in one call, which has no Python in between; none where there is no such call."""
    if not peer.find_all:
        return {"each": None}
    begin = time.perf_counter_ns()
    peer.find_all(queries, k)
    return {"each": (time.perf_counter_ns() - begin) / len(queries)}


if __name__ == "__main__":
    main()
