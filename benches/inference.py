#!/usr/bin/env python3
"""Inference beside llama.cpp: same GGUF, same threads, runs in turn, medians as ratios.

Prints a table and writes a list of {case, unit, ours, peer, peer_name, ratio}; a ratio above 1 is better for aiOS.
Speeds are tokens per second; `decode-N-at-D` generates N tokens behind D others; `load` is milliseconds until one token
is there: for aiOS the load and one token as its benchmark reports them, for the peer a process that ends after one token;
`peak-rss` is MiB of the process that ran the prefill and decode cases.

Some cases are beside aiOS itself: `streams-8` generates in eight contexts at once, beside one; `first-token-warm` is a
prompt of 512 tokens that begins as an earlier one did, beside one that does not; `memory` is the bytes of weights that
generation reads, beside what the same threads read at best; `form` is generation of JSON by a schema, beside free
generation.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

PREFILL = [128, 512]
DECODE = [(64, 0), (256, 0), (64, 1024)]
STREAMS = 8
SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "records.schema.json")
FIRST_TOKEN = 512


def main():
    args = arguments()
    peer = Peer(args.peer_root, args.model)
    ours, theirs = {}, {}
    for number in range(args.rounds):
        for side, run in ((ours, lambda: run_ours(args)), (theirs, lambda: peer.run(args.threads))):
            for case, value in run().items():
                side.setdefault(case, []).append(value)
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
    rows = [row(case, ours[case], theirs[case], peer.name) for case in ours if case in theirs]
    rows += own_rows(ours)
    report(rows, args)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", required=True, help="the aios-runtime binary")
    parser.add_argument("--peer-root", required=True, help="root that peer-llama.sh unpacked")
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--isa", help="instructions that aiOS computes with (avx2, ...); the CPU's fastest if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", required=True, help="JSON file to write")
    return parser.parse_args()


def measured(command):
    """Runs a command to its end: (standard output and error, peak resident memory in MiB, time in ms)."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = (time.monotonic() - started) * 1000
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode != 0:
            sys.exit(f"error: {' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
        return out.read(), usage.ru_maxrss / 1024, elapsed


def case_name(count, depth):
    return f"decode-{count}-at-{depth}" if depth else f"decode-{count}"


def run_ours(args):
    common = [args.runtime, "bench", "--json", "--repeat", "1", "--model", args.model, "--threads", str(args.threads)]
    if args.isa:
        common += ["--isa", args.isa]

    def bench(*options):
        out, rss, _ = measured([*common, *options])
        return json.loads(out), rss

    cases = {}
    for number, (count, depth) in enumerate(DECODE):
        prefill = ",".join(map(str, PREFILL)) if number == 0 else "1"
        figures, rss = bench("--prefill", prefill, "--decode", str(count), "--depth", str(max(depth, 1)))
        decode = figures["decode"]["tokens_per_second"]
        cases[case_name(count, depth)] = decode
        if number == 0:
            cases |= {f"prefill-{row['tokens']}": row["tokens_per_second"] for row in figures["prefill"]}
            cases |= {"load": figures["load_ms"] + 1000 / decode, "peak-rss": rss}
    figures, _ = bench("--prefill", "1", "--streams", str(STREAMS), "--first-token", str(FIRST_TOKEN), "--memory")
    cases["streams"] = figures["decode"]["tokens_per_second"]
    cases["cold"], cases["warm"] = figures["first_token"]["cold_ms"], figures["first_token"]["warm_ms"]
    cases["memory"] = figures["memory_bytes_per_second"]
    cases["token-bytes"] = figures["token_bytes"]
    form = bench("--prefill", "1", "--decode", "256", "--schema", SCHEMA)[0]["form"]
    cases |= {side: form[side]["tokens_per_second"] for side in ("formed", "free")}
    return cases


def own_rows(ours):
    """The cases beside aiOS itself."""
    read = [rate * size / 1e9 for rate, size in zip(ours["decode-64"], ours["token-bytes"])]
    memory = [rate / 1e9 for rate in ours["memory"]]
    return [
        row(f"streams-{STREAMS}", ours["streams"], ours["decode-64"], "one stream", "tokens/s"),
        row("first-token-warm", ours["warm"], ours["cold"], f"cold, {FIRST_TOKEN} tokens", "ms", True),
        row("form", ours["formed"], ours["free"], "free generation", "tokens/s"),
        row("memory", read, memory, "reading memory", "GB/s"),
    ]


class Peer:
    """Debian's llama.cpp, run inside its private root."""

    def __init__(self, root, model):
        self.root = root
        link = os.path.join(root, "model.gguf")
        if not os.path.exists(link) or not os.path.samefile(link, model):
            with open(model, "rb") as source, open(link, "wb") as target:
                target.write(source.read())
        version = subprocess.run(self.command("llama-bench", "--version"), capture_output=True, text=True, check=True)
        found = re.search(r"version: (\S+)", version.stdout + version.stderr)
        self.name = f"llama.cpp {found.group(1)} -fa 1" if found else "llama.cpp -fa 1"

    def command(self, program, *arguments):
        enter = ["unshare", "--root", self.root] if os.geteuid() == 0 else ["unshare", "-r", "--root", self.root]
        libraries = "/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/llama"
        loader = ["/lib64/ld-linux-x86-64.so.2", "--library-path", libraries]
        return [*enter, *loader, f"/usr/bin/{program}", *arguments]

    def run(self, threads):
        shared = ["-m", "/model.gguf", "-t", str(threads)]
        cases = {}
        for number, (count, depth) in enumerate(DECODE):
            prefill = ",".join(map(str, PREFILL)) if number == 0 else "0"
            bench = ["-p", prefill, "-n", str(count), "-d", str(depth), "-fa", "1", "-r", "1", "-o", "json"]
            out, rss, _ = measured(self.command("llama-bench", *shared, *bench))
            for case in json.loads(out):
                name = f"prefill-{case['n_prompt']}" if case["n_prompt"] else case_name(case["n_gen"], depth)
                cases[name] = case["avg_ts"]
            if number == 0:
                cases["peak-rss"] = rss
        one = ["-p", "The", "-n", "1", "-no-cnv", "--no-warmup", "-c", "2048"]
        load = measured(self.command("llama-completion", *shared, *one))[2]
        cases["load"] = load
        return cases


def row(case, ours, peer, peer_name, unit=None, smaller_is_better=None):
    mine, theirs = statistics.median(ours), statistics.median(peer)
    if unit is None:
        unit = {"load": "ms", "peak-rss": "MiB"}.get(case, "tokens/s")
        smaller_is_better = unit != "tokens/s"
    ratio = theirs / mine if smaller_is_better else mine / theirs
    return {"case": case, "unit": unit, "ours": round(mine, 1), "peer": round(theirs, 1), "peer_name": peer_name,
            "ratio": round(ratio, 3)}


def report(rows, args):
    print(f"{args.threads} threads, median of {args.rounds} rounds in turn; a ratio above 1 is better for aiOS")
    print(f"{'case':17} {'unit':>9} {'aiOS':>9} {'peer':>9} {'ratio':>6}  peer")
    for r in rows:
        print(f"{r['case']:17} {r['unit']:>9} {r['ours']:>9} {r['peer']:>9} {r['ratio']:>6.2f}  {r['peer_name']}")
    os.makedirs(os.path.dirname(args.out), exist_ok=True)
    with open(args.out + ".new", "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=2)
        file.write("\n")
    os.replace(args.out + ".new", args.out)


if __name__ == "__main__":
    main()
