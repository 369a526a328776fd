"""The programs that are measured: the runtime, stock candle, and Debian's llama.cpp inside of its private root."""

import json
import mmap
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time

PREFILL = [128, 512]
DECODE = [(64, 0), (256, 0), (64, 1024), (256, 1024)]
STREAMS = 8
# Bytes: more than the models take that loading is compared for.
TOUCHED = 512 << 20
FIRST_TOKEN = 512
SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "records.schema.json")


class Failed(Exception):
    """A program ended otherwise than well; the text is the end of what it said."""


def touch_memory():
    """Writes to free memory, so that a process that is started next gets what was in use just before.

    A virtual machine may give free memory back to its host, which takes milliseconds a megabyte to get it again: more than
    all else that loading a model takes, and only for programs that have memory of their own.
    """
    # In a process of its own: a program inherits the peak of the one that starts it.
    child = os.fork()
    if child == 0:
        with mmap.mmap(-1, TOUCHED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(mmap.MADV_HUGEPAGE)
            zeros = bytes(1 << 20)
            for _ in range(TOUCHED // len(zeros)):
                memory.write(zeros)
        os._exit(0)
    os.waitpid(child, 0)


def measured(command, environment=None):
    """Runs a command to its end: (standard output, peak resident memory in MiB, time in ms)."""
    touch_memory()
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   env=os.environ | (environment or {}))
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = (time.monotonic() - started) * 1000
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode != 0:
            said = err.read().strip()[-2000:]
            raise Failed(f"{os.path.basename(command[0])} ended with {process.returncode}: {said}")
        return out.read(), usage.ru_maxrss / 1024, elapsed


def case_name(count, depth):
    return f"decode-{count}-at-{depth}" if depth else f"decode-{count}"


class Runtime:
    """aiOS' own runtime."""

    def __init__(self, program, isa):
        self.program, self.isa = program, isa

    def bench(self, model, threads, *options):
        command = [self.program, "bench", "--json", "--repeat", "1", "--model", model, "--threads", str(threads), *options]
        out, rss, _ = measured(command + (["--isa", self.isa] if self.isa else []))
        return json.loads(out), rss

    def arithmetic(self, model):
        """What computes a model; fails where the runtime can't run it."""
        return self.bench(model, 1, "--prefill", "8", "--decode", "1")[0]["arithmetic"]

    def cases(self, model, threads):
        """Prefill, decode, load and memory."""
        cases = {}
        for number, (count, depth) in enumerate(DECODE):
            prefill = ",".join(map(str, PREFILL)) if number == 0 else "1"
            options = ("--prefill", prefill, "--decode", str(count), "--depth", str(max(depth, 1)))
            figures, rss = self.bench(model, threads, *options)
            decode = figures["decode"]["tokens_per_second"]
            if number == 0:
                cases |= {f"prefill-{row['tokens']}": row["tokens_per_second"] for row in figures["prefill"]}
                cases |= {"load": figures["load_ms"] + 1000 / decode, "peak-rss": rss}
            cases[case_name(count, depth)] = decode
        return cases

    def own(self, model, threads):
        """What is beside aiOS itself: the samples of both sides, by case."""
        options = ("--prefill", "1", "--decode", "64", "--depth", "1")
        alone = self.bench(model, threads, *options, "--memory", "--first-token", str(FIRST_TOKEN))[0]
        streams = self.bench(model, threads, *options, "--streams", str(STREAMS))[0]
        form = self.bench(model, threads, "--prefill", "1", "--decode", "256", "--schema", SCHEMA)[0]["form"]
        decode, first, memory = alone["decode"]["tokens_per_second"], alone["first_token"], alone["memory"]
        return {
            f"streams-{STREAMS}": (streams["decode"]["tokens_per_second"], decode),
            "first-token-warm": (first["warm_ms"], first["cold_ms"]),
            "form": (form["formed"]["tokens_per_second"], form["free"]["tokens_per_second"]),
            "memory": (memory["weights_per_second"] / 1e9, memory["bytes_per_second"] / 1e9),
        }


OWN_PEERS = {
    f"streams-{STREAMS}": "one stream",
    "first-token-warm": f"cold, {FIRST_TOKEN} tokens",
    "form": "free generation",
    "memory": "reading memory",
}


def candle_cases(program, model, threads):
    """Stock candle, by the example program of the runtime's crate."""
    count, _ = DECODE[0]
    prefill = ",".join(map(str, PREFILL))
    command = [program, "--model", model, "--threads", str(threads), "--prefill", prefill, "--decode", str(count)]
    out, rss, _ = measured(command)
    figures = json.loads(out)
    decode = figures["decode"]["tokens_per_second"]
    cases = {f"prefill-{row['tokens']}": row["tokens_per_second"] for row in figures["prefill"]}
    return cases | {"load": figures["load_ms"] + 1000 / decode, "peak-rss": rss, case_name(count, 0): decode}


class Llama:
    """Debian's llama.cpp, with or without its BLAS backend, run inside of a root of its own."""

    LIBRARIES = f"/usr/lib/{platform.machine()}-linux-gnu"
    LOADER = "/lib64/ld-linux-x86-64.so.2" if platform.machine() == "x86_64" else "/lib/ld-linux-aarch64.so.1"

    def __init__(self, root, blas):
        self.root, self.blas = root, blas
        said = subprocess.run(self.command("llama-bench", "--version"), capture_output=True, text=True, check=True)
        found = re.search(r"version: (\S+)", said.stdout + said.stderr)
        self.name = f"llama.cpp {found.group(1) if found else ''} {'BLAS' if blas else '-fa 1'}"

    def command(self, program, *arguments):
        enter = ["unshare", "--root", self.root] if os.geteuid() == 0 else ["unshare", "-r", "--root", self.root]
        folders = [self.LIBRARIES, f"{self.LIBRARIES}/llama", f"{self.LIBRARIES}/openblas-openmp"]
        loader = [self.LOADER, "--library-path", ":".join(folders)]
        return [*enter, *loader, f"/usr/bin/{program}", *arguments]

    def environment(self, threads):
        """ggml takes the backend from where peer-llama.sh put it only if it is told to."""
        if not self.blas:
            return {}
        backend = f"{self.LIBRARIES}/ggml/libggml-blas.so"
        return {"GGML_BACKEND_PATH": backend, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}

    def model(self, path):
        """Where a model is inside of the root."""
        inside = f"/models/{os.path.basename(os.path.dirname(path))}-{os.path.basename(path)}"
        place = self.root + inside
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if not os.path.exists(place) or not os.path.samefile(place, path):
            if os.path.exists(place):
                os.remove(place)
            try:
                os.link(path, place)
            except OSError:
                shutil.copyfile(path, place)
        return inside

    def bench(self, model, threads, prefill, count, depth):
        options = ["-m", self.model(model), "-t", str(threads), "-p", prefill, "-n", str(count), "-d", str(depth)]
        command = self.command("llama-bench", *options, "-fa", "1", "-r", "1", "-o", "json")
        out, rss, _ = measured(command, self.environment(threads))
        return json.loads(out), rss

    def cases(self, model, threads):
        """All cases; with BLAS the prompts alone, as it takes no part in products of few tokens."""
        prefill = ",".join(map(str, PREFILL))
        if self.blas:
            figures = self.bench(model, threads, prefill, 0, 0)[0]
            return {f"prefill-{case['n_prompt']}": case["avg_ts"] for case in figures}
        cases = {}
        for number, (count, depth) in enumerate(DECODE):
            figures, rss = self.bench(model, threads, prefill if number == 0 else "0", count, depth)
            for case in figures:
                name = f"prefill-{case['n_prompt']}" if case["n_prompt"] else case_name(case["n_gen"], depth)
                cases[name] = case["avg_ts"]
            if number == 0:
                cases["peak-rss"] = rss
        one = ["-m", self.model(model), "-t", str(threads), "-p", "The", "-n", "1", "-no-cnv", "--no-warmup", "-c", "2048"]
        cases["load"] = measured(self.command("llama-completion", *one))[2]
        return cases
