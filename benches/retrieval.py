#!/usr/bin/env python3
"""How well aiOS finds things: nDCG@10 of words, vectors and both, on three public sets that packages carry.

- tools: requests and the functions that answer them, of the Berkeley Function Calling Leaderboard (PyPI bfcl-eval,
  Apache-2.0). The documents are all functions of its single-turn Python categories, by name and description.
- faq: questions of the Debian FAQ (Debian package debian-faq, GPL-2+); the documents are the answers.
- perlfaq: the same of Perl's (Debian package perl-doc, Artistic or GPL-1+).

Vectors are those of all-MiniLM-L6-v2. Half of each set's queries (the even ones) chooses, the other half tells: figures
are of the second. Arguments: folder of the model, wheel of bfcl-eval, folders of the unpacked Debian packages, program
`rank`, file for the figures.
"""

import argparse
import html
import json
import math
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy
from safetensors.numpy import load_file
from tokenizers import Tokenizer

CATEGORIES = ["simple_python", "multiple", "live_simple", "live_multiple"]
# So many queries of each category at most, evenly taken: the rest only takes time.
QUERIES_OF_CATEGORY = 150
# Documents by vectors that are fused with those by words: as many as the memory takes for ten.
DEPTH = 100
# What the memory does (aios-memory's hybrid.rs): one of the ways of aios-recall's example `rank`.
USED = "sum words=0.2"
LAYERS, HEADS = 6, 12


def tools(wheel):
    """Functions, requests, and for each request the functions that answer it."""
    documents, numbers, queries, relevant = [], {}, [], []
    with zipfile.ZipFile(wheel) as archive:
        def rows(path):
            return [json.loads(line) for line in archive.read(f"bfcl_eval/data/{path}").splitlines() if line.strip()]

        for category in CATEGORIES:
            answers = {row["id"]: row["ground_truth"] for row in rows(f"possible_answer/BFCL_v4_{category}.json")}
            asked = rows(f"BFCL_v4_{category}.json")
            for row in asked:
                for function in row["function"]:
                    text = f"{function['name']}: {function['description']}"
                    if text not in numbers:
                        numbers[text] = len(documents)
                        documents.append(text)
            step = math.ceil(len(asked) / QUERIES_OF_CATEGORY)
            for row in asked[::step]:
                names = {name for call in answers.get(row["id"], []) for name in call}
                right = {numbers[f"{f['name']}: {f['description']}"] for f in row["function"] if f["name"] in names}
                request = " ".join(turn["content"] for turn in row["question"][0] if turn["role"] == "user")
                if right and request:
                    queries.append(request)
                    relevant.append(right)
    return documents, queries, relevant


def faq(folder):
    """Answers, questions, and for each question its answer."""
    documents, queries, relevant = [], [], []
    for page in sorted(Path(folder).glob("usr/share/doc/debian/FAQ/*.en.html")):
        source = page.read_text(encoding="utf-8", errors="replace")
        parts = re.split(r'<h([23])[^>]*class="title"[^>]*>(.*?)</h\1>', source, flags=re.S)
        for title, body in zip(parts[2::3], parts[3::3]):
            question = re.sub(r"^[\d.\s\xa0]+", "", plain(title))
            answer = plain(re.split(r'<div class="navfooter"', body)[0])
            if question and len(answer) > 80:
                relevant.append({len(documents)})
                documents.append(answer)
                queries.append(question)
    return documents, queries, relevant


def perlfaq(folder):
    """Answers, questions, and for each question its answer."""
    documents, queries, relevant = [], [], []
    for page in sorted(Path(folder).glob("usr/share/perl/*/pod/perlfaq[1-9].pod")):
        source = page.read_text(encoding="utf-8", errors="replace")
        parts = re.split(r"^=head([12]) +(.*(?:\n\S.*)*)\n", source, flags=re.M)
        for level, title, body in zip(parts[1::3], parts[2::3], parts[3::3]):
            question, answer = pod(title), pod(re.sub(r"^=\w+.*$", "", body, flags=re.M))
            if level == "2" and len(answer) > 80:
                relevant.append({len(documents)})
                documents.append(answer)
                queries.append(question)
    return documents, queries, relevant


def pod(source):
    """The text of Perl's documentation without its marks: C<code>, L<name|page>."""
    return " ".join(re.sub(r"[A-Z]<+ ?(?:[^<>|]*\|)?([^<>]*?) ?>+", r"\1", source).split())


def plain(source):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", source)).split())


class MiniLm:
    """all-MiniLM-L6-v2: BERT's layers, the mean of the tokens, at length 1."""

    def __init__(self, folder):
        self.weights = load_file(f"{folder}/model.safetensors")
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.enable_truncation(256)
        self.tokenizer.no_padding()

    def embed(self, texts):
        return numpy.stack([self.one(text) for text in texts])

    def one(self, text):
        ids = self.tokenizer.encode(text).ids
        hidden = (self.weights["embeddings.word_embeddings.weight"][ids]
                  + self.weights["embeddings.position_embeddings.weight"][:len(ids)]
                  + self.weights["embeddings.token_type_embeddings.weight"][0])
        hidden = self.norm(hidden, "embeddings.LayerNorm")
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            query, key, value = (self.heads(self.linear(hidden, f"{layer}.attention.self.{name}"))
                                 for name in ("query", "key", "value"))
            scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
            scores = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
            mixed = mixed.transpose(1, 0, 2).reshape(hidden.shape)
            hidden = self.norm(hidden + self.linear(mixed, f"{layer}.attention.output.dense"),
                               f"{layer}.attention.output.LayerNorm")
            inner = gelu(self.linear(hidden, f"{layer}.intermediate.dense"))
            hidden = self.norm(hidden + self.linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = hidden.mean(axis=0)
        return mean / numpy.linalg.norm(mean)

    def linear(self, values, name):
        return values @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, values, name):
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / numpy.sqrt((centred ** 2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    @staticmethod
    def heads(values):
        return values.reshape(len(values), HEADS, -1).transpose(1, 0, 2)


def gelu(values):
    # Abramowitz and Stegun 7.1.26, to 2e-7: numpy has no erf.
    scaled = numpy.abs(values) / math.sqrt(2)
    step = 1 / (1 + 0.3275911 * scaled)
    series = step * (0.254829592 + step * (-0.284496736 + step * (1.421413741 + step * (-1.453152027
                                                                                      + step * 1.061405429))))
    erf = numpy.sign(values) * (1 - series * numpy.exp(-scaled ** 2))
    return values * 0.5 * (1 + erf)


def ndcg(ranking, right):
    gain = sum(1 / math.log2(place + 2) for place, number in enumerate(ranking[:10]) if number in right)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(right))))


def measure(name, collection, model, program):
    """nDCG@10 of every query by every method."""
    documents, queries, relevant = collection
    vectors = model.embed(documents)
    cosines = model.embed(queries) @ vectors.T
    near = [[(int(number), float(row[number])) for number in numpy.argsort(-row, kind="stable")[:DEPTH]]
            for row in cosines]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"documents": documents, "queries": queries, "vectors": near}, file)
        file.flush()
        rankings = json.loads(subprocess.run([program, file.name], check=True, capture_output=True).stdout)
    values = {method: numpy.array([ndcg(found, right) for found, right in zip(ranking, relevant)])
              for method, ranking in rankings.items()}
    print(f"== {name}: {len(documents)} documents, {len(queries)} queries; nDCG@10 of each half")
    for method in sorted(values):
        print(f"{method:28} {chooses(values[method]):.4f} {tells(values[method]):.4f}")
    return values


def chooses(values):
    return float(values[0::2].mean())


def tells(values):
    return float(values[1::2].mean())


def interval(differences):
    """95 % of what the mean difference is in samples of the queries, drawn with replacement."""
    draws = numpy.random.default_rng(1).integers(len(differences), size=(10_000, len(differences)))
    low, high = numpy.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]


def row(name, peer, values, method):
    ours, theirs = tells(values[method]), tells(values[peer])
    return {"case": f"retrieval-{name}", "unit": "nDCG@10", "ours": round(ours, 4), "peer": round(theirs, 4),
            "peer_name": peer, "ratio": round(ours / theirs, 4),
            "difference_95": interval(values[method][1::2] - values[peer][1::2])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for argument in ("--model", "--bfcl", "--faq", "--perlfaq", "--rank", "--out"):
        parser.add_argument(argument, required=True)
    options = parser.parse_args()
    model = MiniLm(options.model)
    collections = {"faq": faq(options.faq), "perlfaq": perlfaq(options.perlfaq), "tools": tools(options.bfcl)}
    measured = {name: measure(name, collection, model, options.rank) for name, collection in collections.items()}
    # Each set counts alike, however many queries it has.
    means = {method: sum(chooses(values[method]) for values in measured.values()) / len(measured)
             for method in next(iter(measured.values()))}
    print("== mean of the sets, half that chooses")
    for method in sorted(means, key=means.get, reverse=True):
        print(f"{method:28} {means[method]:.4f}{'  the memory uses this one' if method == USED else ''}")
    rows = [row(name, peer, values, USED) for name, values in measured.items() for peer in ("cosine", "bm25")]
    print(f"== '{USED}', half that tells")
    for each in rows:
        low, high = each["difference_95"]
        print(f"{each['case']:20} {each['ours']:.4f} beside {each['peer_name']:6} {each['peer']:.4f}, "
              f"difference with 95 % between {low:+.4f} and {high:+.4f}")
    Path(options.out).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
