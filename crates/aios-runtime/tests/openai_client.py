"""The official openai client against a running aios-runtime. Arguments: base URL, API key."""

import json
import re
import sys

import openai

BASE_URL, API_KEY = sys.argv[1:]
CHAT = [{"role": "user", "content": "What is the capital of Germany?"}]


def raises(error, code, call):
    try:
        call()
    except error as caught:
        assert caught.code == code, f"{caught.code!r} instead of {code!r}: {caught}"
        return caught
    raise AssertionError(f"no {error.__name__}")


client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=120)

ids = [model.id for model in client.models.list()]
assert ids[0] == "default" and len(ids) == 3 and ids[2] == "all-minilm-l6-v2", ids
assert client.models.retrieve("default").owned_by == "aios"

whole = client.chat.completions.create(model="default", messages=CHAT, temperature=0, max_tokens=24)
text = whole.choices[0].message.content
assert "Berlin" in text, text
assert whole.choices[0].message.role == "assistant"
assert whole.choices[0].finish_reason in ("stop", "length")
assert whole.model == ids[1]
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.timings["predicted_n"] == whole.usage.completion_tokens
print("whole chat:", text)

stream = client.chat.completions.create(
    model="default",
    messages=CHAT,
    temperature=0,
    max_completion_tokens=24,
    stream=True,
    stream_options={"include_usage": True},
)
chunks = list(stream)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert streamed == text, f"{streamed!r} instead of {text!r}"
assert chunks[0].choices[0].delta.role == "assistant"
streamed_usage = chunks[-1].usage
assert streamed_usage.prompt_tokens == whole.usage.prompt_tokens, (streamed_usage, whole.usage)
assert streamed_usage.completion_tokens == whole.usage.completion_tokens, (streamed_usage, whole.usage)
assert streamed_usage.total_tokens == whole.usage.total_tokens, (streamed_usage, whole.usage)
assert len(chunks) > 5, len(chunks)

seeded = [
    client.chat.completions.create(model="default", messages=CHAT, seed=seed, top_p=0.9, max_tokens=12)
    for seed in (7, 7)
]
assert seeded[0].choices[0].message.content == seeded[1].choices[0].message.content

plain = client.completions.create(model="default", prompt="One, two, three,", temperature=0, max_tokens=8)
assert "four" in plain.choices[0].text, plain.choices[0].text
pieces = client.completions.create(
    model="default", prompt="One, two, three,", temperature=0, max_tokens=8, stream=True
)
assert "".join(piece.choices[0].text for piece in pieces) == plain.choices[0].text
stopped = client.completions.create(model="default", prompt="One, two, three,", temperature=0, max_tokens=20, stop=" five")
assert "five" not in stopped.choices[0].text and stopped.choices[0].finish_reason == "stop", stopped.choices[0]
print("plain completion:", plain.choices[0].text)

# Structured output: whatever the model thinks, the answer is valid by the schema.
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "mood": {"enum": ["glad", "sad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
ASK = [{"role": "user", "content": "Invent a person."}]
formed = client.chat.completions.create(model="default", messages=ASK, response_format=FORMAT, seed=3, max_tokens=100)
person = json.loads(formed.choices[0].message.content)
assert list(person) == ["name", "age", "mood"] and 0 <= person["age"] <= 130 and person["mood"] in ("glad", "sad"), person
assert formed.choices[0].finish_reason == "stop"
print("json schema:", person)
digits = client.chat.completions.create(
    model="default", messages=CHAT, extra_body={"structured_outputs": {"regex": "[0-9]{4}"}}, seed=3
)
assert re.fullmatch("[0-9]{4}", digits.choices[0].message.content), digits.choices[0].message
refused = raises(
    openai.BadRequestError,
    "invalid_schema",
    lambda: client.chat.completions.create(
        model="default",
        messages=CHAT,
        response_format={"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "strange"}}},
    ),
)
assert refused.param == "response_format" and "strange" in refused.message, refused.body

# Tools: a call that must be made, its result, and a choice between answer and call.
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Says what the weather in a city is.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["C", "F"]}},
                "required": ["city", "unit"],
            },
        },
    }
]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
made = client.chat.completions.create(
    model="default", messages=WEATHER, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, temperature=0
)
call = made.choices[0].message.tool_calls[0]
arguments = json.loads(call.function.arguments)
assert made.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather", made.choices[0]
assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("C", "F"), arguments
print("tool call:", arguments)
stream = client.chat.completions.create(
    model="default",
    messages=WEATHER,
    tools=TOOLS,
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
    temperature=0,
    stream=True,
)
name, said, finish = "", "", None
for chunk in stream:
    for delta in chunk.choices[0].delta.tool_calls or []:
        assert delta.index == 0
        name += delta.function.name or ""
        said += delta.function.arguments or ""
    finish = chunk.choices[0].finish_reason or finish
assert (name, json.loads(said), finish) == ("get_weather", arguments, "tool_calls"), (name, said, finish)
answered = client.chat.completions.create(
    model="default",
    messages=[*WEATHER, made.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 C"}],
    tools=TOOLS,
    temperature=0,
    max_tokens=30,
)
assert answered.choices[0].message.content or answered.choices[0].message.tool_calls, answered.choices[0]
print("after the result:", answered.choices[0].message.content)

# Log probabilities.
probable = client.chat.completions.create(
    model="default", messages=CHAT, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
)
places = probable.choices[0].logprobs.content
assert "".join(place.token for place in places) == probable.choices[0].message.content
assert all(place.top_logprobs[0].token == place.token and len(place.top_logprobs) == 3 for place in places), places
old = client.completions.create(model="default", prompt="One, two, three,", temperature=0, max_tokens=4, logprobs=2)
assert "".join(old.choices[0].logprobs.tokens) == old.choices[0].text
assert old.choices[0].logprobs.text_offset[0] == 0 and len(old.choices[0].logprobs.top_logprobs) == 4
# The client asks for base64 by itself.
near, same, far = (
    item.embedding
    for item in client.embeddings.create(
        model="all-minilm-l6-v2",
        input=["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."],
    ).data
)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


assert len(near) == 384 and abs(cosine(near, near) - 1) < 1e-5, len(near)
assert abs(cosine(near, same) - 0.75534) < 1e-4 and cosine(near, far) < 0.1, (cosine(near, same), cosine(near, far))
floats = client.embeddings.create(model="default", input="A man is eating food.", encoding_format="float")
assert max(abs(a - b) for a, b in zip(floats.data[0].embedding, near)) < 1e-5
assert floats.usage.prompt_tokens == floats.usage.total_tokens == 6, floats.usage
raises(
    openai.BadRequestError,
    "unsupported_parameter",
    lambda: client.embeddings.create(model="all-minilm-l6-v2", input="a", dimensions=8),
)
raises(openai.BadRequestError, "empty_string", lambda: client.embeddings.create(model="default", input=""))
raises(
    openai.NotFoundError,
    "model_not_found",
    lambda: client.embeddings.create(model="text-embedding-3-small", input="a"),
)

raises(
    openai.NotFoundError,
    "model_not_found",
    lambda: client.chat.completions.create(model="gpt-4o", messages=CHAT),
)
refused = raises(
    openai.BadRequestError,
    "unsupported_parameter",
    lambda: client.chat.completions.create(model="default", messages=CHAT, n=2),
)
assert refused.param == "n" and refused.type == "invalid_request_error", refused.body
raises(
    openai.BadRequestError,
    "context_length_exceeded",
    lambda: client.completions.create(model="default", prompt="word " * 20_000),
)
raises(
    openai.AuthenticationError,
    "invalid_api_key",
    lambda: client.with_options(api_key="not-the-right-key").models.list(),
)

# The server has one slot and no queue: while a stream runs, another request is refused, and once the stream is closed
# its slot is free.
long_answer = dict(model="default", prompt="The history of the world begins", max_tokens=4000, stream=True)
running = client.completions.create(**long_answer)
next(iter(running))
raises(
    openai.RateLimitError,
    "rate_limit_exceeded",
    lambda: client.completions.create(model="default", prompt="One,", max_tokens=1),
)
running.close()
patient = client.with_options(max_retries=10)
assert patient.completions.create(model="default", prompt="One,", max_tokens=1).usage.completion_tokens == 1
print("ok")
