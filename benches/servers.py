"""The servers that are measured beside each other: how long the first token of a prompt takes, and a tool call."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import tool_call
from programs import FIRST_TOKEN, Failed

CONTEXT = 8192
# Seconds: a busy machine with one thread reads 4,000 tokens in one of them.
PATIENCE = 300
WORDS = "time year people way day man thing woman life child world school state family student group country".split()


class Server:
    """A process that answers on a port of its own."""

    def __init__(self, name, command, port, folder, environment=None):
        self.name, self.port = name, port
        self.log = open(os.path.join(folder, f"{port}.log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=os.environ | (environment or {}))

    def wait(self):
        """Until it answers."""
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.05)
        self.log.seek(0)
        raise Failed(f"{self.name} did not begin to answer: {self.log.read().strip()[-2000:]}")

    def post(self, path, body):
        """(the answer, its time in ms)"""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        started = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Failed(f"{self.name}: {path}: {error.read().decode(errors='replace')[:2000]}") from error
        return json.loads(text), (time.monotonic() - started) * 1000

    def peak_rss(self):
        """MiB"""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def runtime(program, model, threads, folder):
    """aiOS' runtime with one model and one slot, as the peer has them."""
    port = free_port()
    inside = os.path.join(folder, "models", "model")
    os.makedirs(inside)
    os.symlink(os.path.abspath(model), os.path.join(inside, "model.gguf"))
    config = os.path.join(folder, "aios.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'[runtime]\ndefault-model = "model"\nmodel-dirs = ["{folder}/models"]\nthreads = {threads}\nslots = 1\n'
                   f'[runtime.http]\nlisten = "127.0.0.1:{port}"\n[runtime.grpc]\nsocket = "{folder}/grpc.sock"\n'
                   f'[models]\nkeys = "{folder}/keys"\nrequire-signature = false\n')
    return Server("aiOS", [program, "--config", config], port, folder)


def llama(peer, model, threads, folder):
    port = free_port()
    options = ["-m", peer.model(model), "-t", str(threads), "-fa", "on", "-c", str(CONTEXT), "-np", "1"]
    command = peer.command("llama-server", *options, "--host", "127.0.0.1", "--port", str(port))
    return Server(peer.name.replace("llama.cpp", "llama-server"), command, port, folder, peer.environment(threads))


def prompt(first, last):
    """About as many tokens as words; prompts with another `first` have no beginning in common."""
    middle = (WORDS[index * 7 % len(WORDS)] for index in range(FIRST_TOKEN - 2))
    return " ".join([WORDS[first % len(WORDS)], *middle, WORDS[last % len(WORDS)]])


def first_token(server, round_number):
    """Time until one token is there, and what the server has taken of memory by then."""
    def one(text):
        body = {"model": "model", "prompt": text, "max_tokens": 1, "temperature": 0}
        return server.post("/v1/completions", body)[1]

    # Code that runs for the first time is no part of the measurement.
    one("Hello")
    cold = one(prompt(round_number, 0))
    warm = statistics.median(one(prompt(round_number, end)) for end in (1, 2, 3))
    size = f"first-token-{FIRST_TOKEN}"
    return {f"{size}-cold": cold, f"{size}-warm": warm, "server-rss": server.peak_rss()}


def measure(args, model, threads, peers, round_number, with_tools):
    """(cases of aiOS, cases of each peer by its name, the calls as `tool_call.Race`)"""
    with contextlib.ExitStack() as stack:
        def start(make, *arguments):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aios-bench-"))
            server = make(*arguments, model, threads, folder)
            stack.callback(server.stop)
            return server.wait()

        ours = start(runtime, args.runtime)
        theirs = [start(llama, peer) for peer in peers]
        mine = first_token(ours, round_number)
        cases = {server.name: first_token(server, round_number) for server in theirs}
        if not with_tools:
            return mine, cases, None
        # The build that reads prompts faster; the other one may not even wait beside it.
        cold = f"first-token-{FIRST_TOKEN}-cold"
        fastest = min(theirs, key=lambda server: cases[server.name][cold])
        for server in theirs:
            if server is not fastest:
                server.stop()
        return mine, cases, tool_call.race(ours, fastest, round_number)
