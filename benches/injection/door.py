"""`aios tools` itself, an agent's process at its socket, and the human who answers its questions."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass

import grpc
from grpc_tools import protoc

PROTO = "aios/tools/v1/tools.proto"


@dataclass
class Answer:
    """What came of a call."""

    outcome: str
    text: str
    stage: str
    asked: bool
    approved: bool
    id: str

    @property
    def ran(self):
        """Whether the tool was run, failures included: then the harm may be done."""
        return self.outcome != "refusal"


def stubs(tree):
    """The classes of the interface, made from its definition."""
    protos = f"{tree}/crates/aios-api/proto"
    with tempfile.TemporaryDirectory() as folder:
        to = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        code = protoc.main(["", f"-I{protos}", *to, f"{protos}/{PROTO}"])
        if code:
            raise SystemExit(f"protoc: {code}")
        sys.path.insert(0, folder)
        names = ("tools_pb2", "tools_pb2_grpc")
        return tuple(importlib.import_module(f"aios.tools.v1.{name}") for name in names)


def channel(socket):
    # By itself gRPC names the socket's path as the host, which HTTP does not allow.
    return grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])


class Agent:
    """A process of an agent's user. It says what a model may say: tool and arguments. Session and goal come from the
    program around the model, which is this one."""

    def __init__(self, uid, modules):
        self.modules = modules
        self.pipe, other = multiprocessing.Pipe()
        # Begun before this process has a channel: gRPC does not live through a fork.
        process = multiprocessing.get_context("fork").Process(target=self._serve, args=(uid, other), daemon=True)
        process.start()

    def begin(self, socket, tool, arguments, session, goal, wait):
        self.pipe.send((socket, tool, json.dumps(arguments), session, goal, wait))

    def _serve(self, uid, pipe):
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        pb2, pb2_grpc = self.modules
        channels = {}
        while True:
            socket, tool, arguments, session, goal, wait = pipe.recv()
            if socket not in channels:
                channels[socket] = pb2_grpc.ToolsServiceStub(channel(socket))
            request = pb2.ExecuteRequest(tool=tool, arguments=arguments, session=session, goal=goal)
            request.approval = pb2.APPROVAL_MODE_WAIT if wait else pb2.APPROVAL_MODE_REFUSE
            answer = channels[socket].Execute(request)
            which = answer.WhichOneof("outcome")
            text = answer.result if which == "result" else getattr(answer, which).message
            stage = answer.refusal.stage if which == "refusal" else ""
            pipe.send((which, text, stage, answer.call_id))


class Door:
    """A running `aios tools`."""

    def __init__(self, program, policy, modules):
        self.modules = modules
        self.folder = tempfile.TemporaryDirectory()
        os.chmod(self.folder.name, 0o755)
        self.socket = f"{self.folder.name}/tools.sock"
        config = f"{self.folder.name}/aios.toml"
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'[tools]\nsocket = "{self.socket}"\nmax-calls = 128\n')
        self.log = f"{self.folder.name}/log"
        with open(self.log, "w", encoding="utf-8") as log:
            command = [program, "tools", "--without-groups", "--config", config, "--policy", policy]
            command += ["--state", f"{self.folder.name}/state", "--keys", f"{self.folder.name}/keys"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.human = modules[1].ToolsServiceStub(channel(self.socket))
        self._wait_until_ready()

    def _wait_until_ready(self):
        for _ in range(3000):
            try:
                self.human.ListTools(self.modules[0].ListToolsRequest())
                return
            except grpc.RpcError as error:
                if self.process.poll() is not None:
                    raise SystemExit(open(self.log, encoding="utf-8").read()) from error
                time.sleep(0.02)
        raise SystemExit("aios tools is not ready after a minute")

    def call(self, agent, tool, arguments, session, goal, human):
        """Makes a call, while `human` (None: nobody is there) answers what is asked."""
        agent.begin(self.socket, tool, arguments, session, goal, human is not None)
        asked = approved = False
        while human is not None and not agent.pipe.poll(0.003):
            for question in self.human.ListApprovals(self.modules[0].ListApprovalsRequest()).approvals:
                asked, approved = True, human.agrees(question)
                request = self.modules[0].ApproveRequest(
                    call_id=question.call_id, digest=question.digest, approve=approved
                )
                self.human.Approve(request)
        outcome, text, stage, call_id = agent.pipe.recv()
        asked = asked or stage == "approval"
        return Answer(outcome, text, stage, asked, approved, call_id)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Careful:
    """Agrees to exactly the calls that the user's task takes: each once, or, where it only reads, whenever it comes."""

    def __init__(self, wanted):
        self.wanted = Counter(spelled(*call) for call in wanted)
        self.given = Counter()

    def agrees(self, question):
        key = spelled(question.tool, json.loads(question.arguments))
        reads = question.risk == 1  # RISK_LOW
        if self.given[key] >= self.wanted[key] and not (reads and self.wanted[key]):
            return False
        self.given[key] += 1
        return True


class Careless:
    """Agrees to everything."""

    def agrees(self, _):
        return True


def spelled(tool, arguments):
    return f"{tool} {json.dumps(arguments, sort_keys=True)}"
