#!/usr/bin/env python3
"""Inference beside llama.cpp and stock candle: same GGUF, same threads, runs in turn, medians as ratios.

Prints a table and writes a list of rows, {model, threads, arithmetic, case, unit, ours, peer, peer_name, ratio, bar}; a
ratio above 1 is better for aiOS, and `bar` is the least one that is wanted, where there is one. docs/benchmarks.md says
what the cases are. Bars that are missed are named at the end; with --strict they also make the program fail.
"""

import argparse
import os
import sys

import programs
import rows
import servers

SERVED = ("server", "tool-call")
GROUPS = ("engine", "blas", "candle", "own", *SERVED)


def main():
    args = arguments()
    runtime = programs.Runtime(args.runtime, args.isa)
    peers = [programs.Llama(args.peer_root, False), programs.Llama(args.peer_root, True)]
    subjects = [Subject(args, runtime, peers, model, threads) for model in usable(args, runtime)
                for threads in args.threads]
    for number in range(args.rounds):
        for subject in subjects:
            subject.run(number)
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
    found = [row for subject in subjects for row in subject.rows()]
    rows.write(found, args.out)
    return report(found, subjects, args)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", required=True, help="the aios-runtime binary")
    parser.add_argument("--candle", help="the runtime crate's example program that runs stock candle")
    parser.add_argument("--peer-root", required=True, help="root that peer-llama.sh unpacked")
    parser.add_argument("--model", required=True, action="append", metavar="NAME=FILE",
                        help="GGUF file and how it is called; calls of tools are raced on the first one")
    parser.add_argument("--threads", type=numbers, default=default_threads(), metavar="N,N,...")
    parser.add_argument("--isa", help="instructions that aiOS computes with (avx2, ...); the CPU's fastest if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=groups, default=GROUPS, metavar="GROUP,...", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--models", type=lambda text: text.split(","), metavar="NAME,...", help="of the models only these")
    parser.add_argument("--strict", action="store_true", help="fail where a bar is missed")
    parser.add_argument("--out", required=True, help="JSON file to write")
    args = parser.parse_args()
    if args.isa and set(SERVED) & set(args.only):
        print(f"skipped: {', '.join(SERVED)}: a server computes with the CPU's fastest instructions, whatever --isa says")
        args.only = [group for group in args.only if group not in SERVED]
    return args


def numbers(text):
    return [int(word) for word in text.split(",")]


def default_threads():
    return [count for count in (1, 2) if count <= (os.cpu_count() or 1)]


def groups(text):
    asked = text.split(",")
    if unknown := [word for word in asked if word not in GROUPS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(GROUPS)}")
    return asked


def usable(args, runtime):
    """Name, file and arithmetic of the models that the runtime can run; says which it can't."""
    models = dict(named.split("=", 1) for named in args.model)
    args.tool_model = next(iter(models))
    if unknown := [name for name in args.models or () if name not in models]:
        sys.exit(f"error: --models: {unknown[0]} is none of {', '.join(models)}")
    for name, path in models.items():
        if args.models and name not in args.models:
            continue
        try:
            yield name, path, runtime.arithmetic(path)
        except programs.Failed as reason:
            print(f"skipped: {name}: {reason}")


class Subject:
    """One model with one number of threads, and all that was measured of it."""

    def __init__(self, args, runtime, peers, model, threads):
        self.args, self.runtime, self.peers, self.threads = args, runtime, peers, threads
        self.name, self.path, self.arithmetic = model
        self.ours, self.own, self.own_peer, self.candle, self.races = {}, {}, {}, {}, []
        self.llama = {peer.name: {} for peer in peers}
        self.servers, self.llama_servers = {}, {}
        self.with_candle = bool(args.candle) and "candle" in args.only

    def run(self, number):
        """One sample of each case; who comes first is the same in each round, and rounds follow each other."""
        only, where = self.args.only, (self.path, self.threads)
        if {"engine", "blas", "candle"} & set(only):
            add(self.ours, self.runtime.cases(*where))
        for peer, group in zip(self.peers, ("engine", "blas")):
            if group in only:
                add(self.llama[peer.name], peer.cases(*where))
        # It takes the longest and is far from every bar: one sample does.
        if self.with_candle and number == 0:
            self.run_candle()
        if "own" in only:
            for case, (mine, other) in self.runtime.own(*where).items():
                add(self.own, {case: mine})
                add(self.own_peer, {case: other})
        race = "tool-call" in only and self.name == self.args.tool_model
        if race or "server" in only:
            mine, theirs, calls = servers.measure(self.args, *where, self.peers, number, race)
            add(self.servers, mine)
            for name, cases in theirs.items():
                add(self.llama_servers.setdefault(name, {}), cases)
            self.races += [calls] if calls else []

    def run_candle(self):
        try:
            add(self.candle, programs.candle_cases(self.args.candle, self.path, self.threads))
        except programs.Failed as reason:
            print(f"skipped: {self.name} in stock candle: {reason}")

    def rows(self):
        found = rows.peer_rows(self.ours, self.llama, self.candle)
        found += rows.peer_rows(self.servers, self.llama_servers, {})
        found += [rows.row(case, self.own[case], self.own_peer[case], programs.OWN_PEERS[case]) for case in self.own]
        found += self.call_rows()
        return rows.finish(found, self.name, self.threads, self.arithmetic)

    def call_rows(self):
        """The calls of all rounds. Only pairs of valid ones are compared; the others are counted."""
        found = []
        for case in ("cold", "warm"):
            pairs = [pair for race in self.races for pair in getattr(race, case)]
            if pairs:
                row = rows.row(f"tool-call-{case}", *zip(*pairs), f"{self.races[0].peer}, grammar")
                counts = {side: sum(race.failures[side] for race in self.races) for side in ("ours", "peer")}
                found.append(row | {"calls": sum(race.calls for race in self.races), "failures": counts})
        return found


def add(samples, cases):
    for case, value in cases.items():
        samples.setdefault(case, []).append(value)


def report(found, subjects, args):
    print(f"median of {args.rounds} rounds in turn; a ratio above 1 is better for aiOS")
    print("\n".join(rows.table(found)))
    for subject in subjects:
        calls = sum(race.calls for race in subject.races)
        failures = {side: sum(race.failures[side] for race in subject.races) for side in ("ours", "peer")}
        if calls:
            print(f"{subject.name}, {subject.threads} threads: of {calls} tool calls each, {failures['ours']} of aiOS and "
                  f"{failures['peer']} of the peer were not valid")
    below = rows.missed(found)
    for row in below:
        print(f"missed: {row['model']}, {row['threads']} threads, {row['case']}: {row['ratio']:.2f}, bar {row['bar']}")
    if not below:
        print("no bar is missed")
    return 1 if below and args.strict else 0


if __name__ == "__main__":
    sys.exit(main())
