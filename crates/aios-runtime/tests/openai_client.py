"""The official openai client against a running aios-runtime. Arguments: base URL, API key."""

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
assert ids[0] == "default" and len(ids) == 2, ids
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
