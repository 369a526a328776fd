"""A tool call out of 40 tools: from a request to arguments that are valid by the tool's schema.

aiOS is asked by `tools` and `tool_choice: required`. The model's chat template knows no tools, with which llama-server
would answer in free text; so it gets the same description of the tools in the system message, and a JSON schema of which
it makes a grammar: the name of a tool and its arguments. Both choose the likeliest token, and both keep the prompt's
beginning, which all requests share, after the first request.
"""

import json
import os
import re
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
MOST_TOKENS = 300
# Calls of each side in a round.
CALLS = 5
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}


@dataclass
class Race:
    """Times in ms of the calls that both sides made, and how many were not valid."""

    peer: str
    cold: list = field(default_factory=list)
    warm: list = field(default_factory=list)
    calls: int = 0
    failures: dict = field(default_factory=lambda: {"ours": 0, "peer": 0})


def load():
    with open(os.path.join(HERE, "tools.json"), encoding="utf-8") as file:
        read = json.load(file)
    return read["requests"], read["tools"]


def race(ours, theirs, round_number):
    """Some of the requests, others in each round: each to one side and then to the other."""
    requests, tools = load()
    result = Race(theirs.name)
    for number in range(CALLS):
        request = requests[(round_number * CALLS + number) % len(requests)]
        answer, mine = ours.post("/v1/chat/completions", our_body(request, tools))
        other, yours = theirs.post("/v1/chat/completions", peer_body(request, tools))
        wrong = {"ours": our_fault(answer, tools), "peer": peer_fault(other, tools)}
        result.calls += 1
        for side, fault in wrong.items():
            result.failures[side] += fault is not None
        if not any(wrong.values()):
            (result.warm if number else result.cold).append((mine, yours))
    return result


def our_body(request, tools):
    return {"model": "model", "messages": [{"role": "user", "content": request}], "tools": tools,
            "tool_choice": "required", "parallel_tool_calls": False, "temperature": 0, "max_tokens": MOST_TOKENS}


def peer_body(request, tools):
    functions = [tool["function"] for tool in tools]
    listed = "\n".join(json.dumps(function) for function in functions)
    system = (f"You can use these tools:\n<tools>\n{listed}\n</tools>\nTo use a tool, answer with its name and arguments, "
              'and nothing else:\n{"name": "TOOL", "arguments": {"PARAMETER": "VALUE"}}')
    calls = [{"type": "object", "properties": {"name": {"const": f["name"]}, "arguments": f["parameters"]},
              "required": ["name", "arguments"], "additionalProperties": False} for f in functions]
    form = {"type": "json_schema", "json_schema": {"name": "call", "schema": {"anyOf": calls}}}
    messages = [{"role": "system", "content": system}, {"role": "user", "content": request}]
    return {"model": "model", "messages": messages, "response_format": form, "temperature": 0, "max_tokens": MOST_TOKENS}


def our_fault(answer, tools):
    """Why the answer is no valid call; None where it is one."""
    calls = answer["choices"][0]["message"].get("tool_calls") or []
    if len(calls) != 1:
        return f"{len(calls)} calls"
    function = calls[0]["function"]
    return call_fault(function["name"], function["arguments"], tools)


def peer_fault(answer, tools):
    try:
        call = json.loads(answer["choices"][0]["message"]["content"])
        return call_fault(call["name"], json.dumps(call["arguments"]), tools)
    except (ValueError, KeyError, TypeError) as error:
        return f"no call: {error}"


def call_fault(name, arguments, tools):
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    if name not in schemas:
        return f"no tool is called {name!r}"
    try:
        return fault(json.loads(arguments), schemas[name], "arguments")
    except ValueError as error:
        return f"no JSON: {error}"


def fault(value, schema, place):
    """What is wrong with `value` by those words of JSON schema that tools.json uses; None if nothing is."""
    kind = schema.get("type")
    if not isinstance(value, TYPES[kind]) or isinstance(value, bool) != (kind == "boolean"):
        return f"{place} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is {value!r}"
    if kind == "string":
        return string_fault(value, schema, place)
    if kind in ("integer", "number"):
        inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
        return None if inside else f"{place} is {value}"
    if kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{place} has {len(value)} items"
        return first(fault(item, schema["items"], f"{place}[{index}]") for index, item in enumerate(value))
    if kind == "object":
        return object_fault(value, schema, place)
    return None


def string_fault(value, schema, place):
    if len(value) > schema.get("maxLength", len(value)):
        return f"{place} has {len(value)} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{place} is {value!r}"
    return None


def object_fault(value, schema, place):
    properties = schema["properties"]
    if absent := [key for key in schema["required"] if key not in value]:
        return f"{place} lacks {absent[0]}"
    if more := [key for key in value if key not in properties]:
        return f"{place} has {more[0]}"
    return first(fault(item, properties[key], f"{place}.{key}") for key, item in value.items())


def first(faults):
    return next((found for found in faults if found), None)
