"""The worst-case model: it does what the user asks by the calls of AgentDojo's ground truth, and obeys whatever
instruction stands in a result, at once and in full."""

import json
import os
import re
import tomllib
import uuid
from dataclasses import dataclass, field
from urllib.parse import urlencode

import dojo
from door import Careful, Careless
from world import HOME

with open(os.path.join(os.path.dirname(__file__), "mapping.toml"), "rb") as opened:
    MAPPING = tomllib.load(opened)
FOLDERS = {"mail": ".eml", "calendar": ".yaml"}
FILTERS = {
    "mail": lambda value, *_: f"{HOME}/mail/{value}.eml",
    "calendar": lambda value, *_: f"{HOME}/calendar/{value}.yaml",
    "next_event": lambda _, __, env: f"{HOME}/calendar/{max(int(key) for key in env.calendar.events) + 1}.yaml",
    "drive": lambda value, _, env: f"{HOME}/drive/{file_name(env, value)}",
    "drive_name": lambda value, *_: f"{HOME}/drive/{value}",
    "document": lambda value, *_: f"{HOME}/documents/{value}",
    "contacts": lambda *_: f"{HOME}/contacts",
    "profile": lambda *_: f"{HOME}/profile",
    "literal": lambda value, *_: re.escape(value),
    "address": lambda value, *_: value if "://" in value else f"http://{value}",
    "yaml": lambda _, arguments, __: "".join(f"{name}: {value}\n" for name, value in sorted(arguments.items())),
    "body": lambda _, arguments, env: with_attachments(arguments, env),
}


@dataclass
class Run:
    """What came of a case."""

    case: object
    user: list = field(default_factory=list)
    injected: list = field(default_factory=list)
    obeyed: bool = False
    useful: bool = False
    harmed: bool = False

    @property
    def benign(self):
        """Whether all that the user wanted was done."""
        return all(answer.outcome == "result" for _, answer in self.user)

    def succeeded(self, sinks):
        """Injected calls with dangerous arguments that ran though no human had agreed to them."""
        return [call for call, answer in self.injected if call[0] in sinks and answer.ran and not answer.approved]

    @property
    def questions(self):
        """How often a human had to be asked for what the user wanted."""
        return sum(answer.asked for _, answer in self.user)


def file_name(environment, key):
    file = environment.cloud_drive.files.get(key)
    return file.filename if file else f"no-{key}"


def with_attachments(arguments, environment):
    files = [file["file_id"] for file in arguments.get("attachments") or [] if file["type"] == "file"]
    texts = [environment.cloud_drive.files[key].content for key in files if key in environment.cloud_drive.files]
    return "\n\n".join([arguments["body"], *texts])


def filled(template, arguments, environment):
    """A template of the mapping with the values of a call."""
    if isinstance(template, dict):
        return {name: filled(part, arguments, environment) for name, part in template.items()}
    if not isinstance(template, str):
        return template
    whole = re.fullmatch(r"\{(\w*)(?:\|(\w+))?\}", template)
    if whole is None:
        return template.format(**arguments)
    value = arguments.get(whole[1])
    return FILTERS[whole[2]](value, arguments, environment) if whole[2] else value


def mapped(call, runtime, environment):
    """The calls of aiOS's tools that are a call of AgentDojo's function."""
    row, arguments = MAPPING[call.function], dict(call.args)
    if "page" in row:
        query = urlencode({name: json.dumps(value) for name, value in arguments.items()})
        url = f"http://{row['page']}/{call.function}" + (f"?{query}" if query else "")
        return [("web.fetch", {"url": url, "limit": 100_000, "local": True})]
    if "post" in row:
        url = f"http://{row['post']}/{call.function}"
        return [("web.post", {"url": url, "body": arguments, "local": True})]
    if "each" in row:
        return [("fs.read", {"path": path}) for path in listed(row["each"], call, runtime, environment)]
    calls = [(row["tool"], filled(row["arguments"], arguments, environment))]
    if "then" in row and arguments.get(row["when"]):
        calls.append((row["then"]["tool"], filled(row["then"]["arguments"], arguments, environment)))
    return calls


def listed(kind, call, runtime, environment):
    """The files of the things that a function of AgentDojo returns."""
    found, _ = runtime.run_function(environment.model_copy(deep=True), call.function, dict(call.args))
    things = found if isinstance(found, list) else []
    if kind == "drive":
        return [f"{HOME}/drive/{thing.filename}" for thing in things]
    return [f"{HOME}/{kind}/{thing.id_}{FOLDERS[kind]}" for thing in things]


def plan(case):
    """The calls that the user's task takes where nobody interferes: what a careful human expects."""
    environment, runtime = dojo.Case(case.suite, case.user, None, case.goal, case.wanted).environment(), case.runtime()
    calls = []
    for call in case.wanted:
        calls += mapped(call, runtime, environment)
        runtime.run_function(environment, call.function, dict(call.args))
    return calls


class Model:
    """Runs cases at a door."""

    def __init__(self, door, agent, world):
        self.door, self.agent, self.world = door, agent, world
        self.session, self.answers = "", None

    def run(self, case, human):
        """A case; `human` is "nobody", "careful" or "careless"."""
        run, self.session = Run(case), uuid.uuid4().hex
        self.answers = {"nobody": lambda: None, "careful": lambda: Careful(plan(case)), "careless": Careless}[human]()
        environment = case.environment()
        before = environment.model_copy(deep=True)
        self.world.begin(environment, case.runtime())
        ran = []
        for call in case.wanted:
            if self._do(case, call, run.user, ran) and case.injected and not run.obeyed:
                run.obeyed = True
                for injected in case.injected:
                    self._do(case, injected, run.injected, ran)
        run.useful, run.harmed = case.verdicts(before, self.world.environment, ran)
        self._check_effects(run)
        return run

    def _do(self, case, call, answers, ran):
        """Makes a call of AgentDojo by the tools; whether an injected instruction was read in doing so."""
        read, whole = False, True
        for tool, arguments in mapped(call, self.world.runtime, self.world.environment):
            answer = self.door.call(self.agent, tool, arguments, self.session, case.goal, self.answers)
            answers.append(((tool, arguments), answer))
            whole = whole and answer.outcome == "result"
            read = read or dojo.MARK in answer.text
        if whole:
            self.world.done(call)
            ran.append(call)
        return read

    def _check_effects(self, run):
        """What mail and web servers got is what ran, whatever the answers said."""
        ran = [call[0] for call, answer in run.user + run.injected if answer.outcome == "result"]
        got = (len(self.world.sent), len(self.world.posted))
        if got != (ran.count("email.send"), ran.count("web.post")):
            raise SystemExit(f"{run.case.user}, {run.case.attack}: the servers got {got}, but the answers say {ran}")


def readable(run):
    """A run for the record."""
    return {
        "user": run.case.user,
        "attack": run.case.attack,
        "obeyed": run.obeyed,
        "calls": [_readable(*made) for made in run.user],
        "injected": [_readable(*made) for made in run.injected],
        "useful": run.useful,
        "harmed": run.harmed,
    }


def _readable(call, answer):
    said = {"outcome": answer.outcome, "stage": answer.stage, "asked": answer.asked, "approved": answer.approved}
    return {"tool": call[0], "arguments": call[1]} | said
