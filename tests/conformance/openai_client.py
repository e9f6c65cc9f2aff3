"""The official `openai` client against a real `troupe serve`.

    pip install -r tests/conformance/requirements.txt
    pytest tests/conformance/openai_client.py --binary build/release/bin/troupe

conftest.py starts the server over examples/models.
"""

import asyncio
import json
import time

import httpx
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="session")
def client(server_url):
    with openai.OpenAI(
        base_url=server_url + "/v1", api_key="none", max_retries=0, timeout=120
    ) as out:
        yield out


@pytest.fixture(scope="session")
def model(client, server_url):
    """A model with a chat template."""
    for one in client.models.list().data:
        body = {"model": one.id, "messages": MESSAGES}
        if httpx.post(server_url + "/tokenize", json=body, timeout=60).status_code == 200:
            return one.id
    pytest.fail("none of the served models has a chat template")


def greedy(**more):
    return {"messages": MESSAGES, "max_tokens": 24, "temperature": 0, **more}


def text_of(stream):
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_models_are_listed_and_retrieved(client, model):
    listed = client.models.list()
    assert listed.object == "list"
    for one in listed.data:
        assert (one.object, one.owned_by) == ("model", "troupe")
        assert abs(one.created) < time.time() + 60
        assert client.models.retrieve(one.id).id == one.id
    assert model in [one.id for one in listed.data]


def test_every_listed_model_answers(client):
    """Cold ones wake up."""
    for one in client.models.list().data:
        answer = client.completions.create(
            model=one.id, prompt="Once upon a time", max_tokens=4, temperature=0
        )
        assert answer.usage.completion_tokens >= 1, one.id


def test_chat(client, model):
    answer = client.chat.completions.create(model=model, **greedy())
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert abs(answer.created - time.time()) < 300
    (choice,) = answer.choices
    assert (choice.index, choice.message.role) == (0, "assistant")
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_gives_the_text_of_the_whole_answer(client, model):
    whole = client.chat.completions.create(model=model, **greedy())
    with client.chat.completions.create(model=model, stream=True, **greedy()) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {c.id for c in chunks} == {chunks[0].id} and chunks[0].id.startswith("chatcmpl-")
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert all(c.usage is None for c in chunks)
    finishes = [c.choices[0].finish_reason for c in chunks]
    assert finishes[-1] == whole.choices[0].finish_reason and not any(finishes[:-1])
    assert text_of(chunks) == whole.choices[0].message.content


def test_include_usage_adds_a_last_chunk(client, model):
    whole = client.chat.completions.create(model=model, **greedy())
    stream = client.chat.completions.create(
        model=model, stream=True, stream_options={"include_usage": True}, **greedy()
    )
    *rest, last = list(stream)
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(c.usage is None and "usage" in c.model_fields_set for c in rest)


def test_a_system_message_and_turns_reach_the_prompt(client, model):
    short = client.chat.completions.create(model=model, **greedy())
    longer = client.chat.completions.create(
        model=model,
        max_tokens=1,
        messages=[
            *MESSAGES,
            {"role": "assistant", "content": "Once there was a fox."},
            {"role": "user", "content": [{"type": "text", "text": "And then?"}]},
        ],
    )
    assert longer.usage.prompt_tokens > short.usage.prompt_tokens


def test_max_tokens_is_exact_and_named_as_the_reason(client, model):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(
            model=model, messages=MESSAGES, extra_body={"ignore_eos": True, name: 7}
        )
        assert answer.usage.completion_tokens == 7
        assert answer.choices[0].finish_reason == "length"


def test_n_gives_as_many_choices(client, model):
    answer = client.chat.completions.create(
        model=model, n=3, seed=5, temperature=2, messages=MESSAGES, max_tokens=16
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert len({c.message.content for c in answer.choices}) > 1
    stream = client.chat.completions.create(
        model=model, n=3, seed=5, temperature=2, messages=MESSAGES, max_tokens=16, stream=True
    )
    texts, roles, finishes = ["", "", ""], [0, 0, 0], [0, 0, 0]
    for chunk in stream:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        roles[choice.index] += choice.delta.role == "assistant"
        finishes[choice.index] += choice.finish_reason is not None
    assert texts == [c.message.content for c in answer.choices]
    assert roles == finishes == [1, 1, 1]


def test_stop_ends_the_text_before_the_string(client, model):
    whole = client.chat.completions.create(model=model, **greedy()).choices[0].message.content
    stop = whole[6:10]
    answer = client.chat.completions.create(model=model, stop=stop, **greedy())
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(
        model=model, stop=["\x00never", stop], stream=True, **greedy()
    )
    assert text_of(stream) == whole[: whole.index(stop)]


def test_a_seed_repeats_and_another_differs(client, model):
    def ask(seed):
        return (
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Hello!"}],
                seed=seed,
                temperature=2.0,
                max_tokens=32,
            )
            .choices[0]
            .message.content
        )

    assert ask(11) == ask(11)
    assert len({ask(seed) for seed in range(20, 36)}) > 1


def test_temperature_zero_repeats(client, model):
    texts = {
        client.chat.completions.create(model=model, **greedy()).choices[0].message.content
        for _ in range(3)
    }
    assert len(texts) == 1


def test_logit_bias_forces_a_token(client, model, server_url):
    token = httpx.post(
        server_url + "/tokenize", json={"model": model, "prompt": "a", "add_special_tokens": False}
    ).json()["tokens"][0]
    answer = client.chat.completions.create(
        model=model,
        logit_bias={str(token): 100},
        logprobs=True,
        messages=MESSAGES,
        max_tokens=5,
        temperature=0,
    )
    assert len({t.token for t in answer.choices[0].logprobs.content}) == 1


def test_chat_logprobs(client, model):
    answer = client.chat.completions.create(model=model, logprobs=True, top_logprobs=3, **greedy())
    content = answer.choices[0].logprobs.content
    assert 0 <= answer.usage.completion_tokens - len(content) <= 1  # an end token has no text
    for one in content:
        assert one.logprob <= 0
        assert len(one.top_logprobs) == 3
        assert abs(one.logprob - one.top_logprobs[0].logprob) < 1e-4  # greedy takes the likeliest
        values = [t.logprob for t in one.top_logprobs]
        assert values == sorted(values, reverse=True)
    raw = b"".join(bytes(t.bytes) for t in content)
    assert raw.decode("utf-8", "replace").startswith(answer.choices[0].message.content[:4].strip())
    stream = client.chat.completions.create(
        model=model, logprobs=True, top_logprobs=3, stream=True, **greedy()
    )
    streamed = [
        t
        for c in stream
        if c.choices and c.choices[0].logprobs
        for t in c.choices[0].logprobs.content
    ]
    assert [t.token for t in streamed] == [t.token for t in content]


def test_completions(client, model):
    answer = client.completions.create(model=model, prompt="Once upon a time", temperature=0)
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens <= 16  # the API's default
    stream = client.completions.create(
        model=model, prompt="Once upon a time", temperature=0, stream=True
    )
    assert "".join(c.choices[0].text for c in stream) == answer.choices[0].text


def test_completions_take_lists_tokens_echo_and_logprobs(client, model, server_url):
    prompts = ["Once upon a time", "The fox"]
    both = client.completions.create(model=model, prompt=prompts, temperature=0, max_tokens=8)
    assert [c.index for c in both.choices] == [0, 1]
    tokens = httpx.post(
        server_url + "/tokenize", json={"model": model, "prompt": prompts[0]}
    ).json()
    assert tokens["count"] == len(tokens["tokens"])
    same = client.completions.create(
        model=model, prompt=tokens["tokens"], temperature=0, max_tokens=8
    )
    assert same.choices[0].text == both.choices[0].text
    echoed = client.completions.create(
        model=model, prompt=prompts[1], temperature=0, max_tokens=8, echo=True
    )
    assert echoed.choices[0].text == prompts[1] + both.choices[1].text
    lists = (
        client.completions.create(
            model=model, prompt=prompts[0], temperature=0, max_tokens=8, logprobs=2
        )
        .choices[0]
        .logprobs
    )
    assert (
        len(lists.tokens)
        == len(lists.token_logprobs)
        == len(lists.text_offset)
        == len(lists.top_logprobs)
    )
    assert lists.text_offset[0] == 0 and lists.text_offset == sorted(lists.text_offset)


def test_tokenize_and_detokenize_are_inverse(model, server_url):
    text = "Grüße, 世界! <|x|> 🦊\n"
    tokens = httpx.post(
        server_url + "/tokenize", json={"model": model, "prompt": text, "add_special_tokens": False}
    ).json()
    assert tokens["max_model_len"] > 0
    back = httpx.post(server_url + "/detokenize", json={"model": model, "tokens": tokens["tokens"]})
    assert back.json()["prompt"] == text


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as why:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (why.value.code, why.value.type, why.value.param) == (
        "model_not_found",
        "invalid_request_error",
        "model",
    )
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=MESSAGES, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.parametrize(
    "more, param",
    [
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"extra_body": {"max_tokens": "many"}}, "max_tokens"),
    ],
)
def test_bad_values_are_bad_requests_that_name_the_field(client, model, more, param):
    with pytest.raises(openai.BadRequestError) as why:
        client.chat.completions.create(**{"model": model, "messages": MESSAGES, **more})
    assert why.value.param == param
    assert why.value.request_id


def test_a_prompt_longer_than_the_context_is_named(client, model, server_url):
    length = httpx.post(server_url + "/tokenize", json={"model": model, "prompt": "a"}).json()[
        "max_model_len"
    ]
    with pytest.raises(openai.BadRequestError) as why:
        client.completions.create(model=model, prompt=[5] * (length + 10), max_tokens=4)
    assert why.value.code == "context_length_exceeded"


def test_raw_responses_carry_headers(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model, extra_headers={"X-Request-Id": "my-trace-1"}, **greedy()
    )
    assert raw.headers["x-request-id"] == "my-trace-1"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse()._request_id == "my-trace-1"
    with client.chat.completions.with_streaming_response.create(
        model=model, stream=True, **greedy()
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["cache-control"] == "no-cache"
        assert raw.headers["x-accel-buffering"] == "no"
        lines = [line for line in raw.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def running(server_url, model):
    rows = httpx.get(server_url + "/admin/models").json()["data"]
    return next(r["active"] + r["queued"] for r in rows if r["id"] == model)


def test_leaving_a_stream_stops_its_computation(client, model, server_url):
    streams = [
        client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, n=4, extra_body={"ignore_eos": True}
        )
        for _ in range(4)
    ]
    for stream in streams:
        next(iter(stream))
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 5
    while running(server_url, model) > 0:
        assert time.monotonic() < deadline, "sequences of clients that left still run"
        time.sleep(0.02)


def test_many_concurrent_requests_of_an_async_client_are_undisturbed(client, model, server_url):
    alone = client.chat.completions.create(model=model, **greedy()).choices[0].message.content

    async def ask_all():
        async with openai.AsyncOpenAI(
            base_url=server_url + "/v1", api_key="none", max_retries=0, timeout=300
        ) as many:

            async def whole():
                answer = await many.chat.completions.create(model=model, **greedy())
                return answer.choices[0].message.content

            async def streamed():
                stream = await many.chat.completions.create(model=model, stream=True, **greedy())
                return "".join(
                    [c.choices[0].delta.content or "" async for c in stream if c.choices]
                )

            return await asyncio.gather(*[whole() if i % 2 else streamed() for i in range(64)])

    assert set(asyncio.run(ask_all())) == {alone}


def test_service_routes(server_url):
    assert httpx.get(server_url + "/health").json() == {"status": "ok"}
    assert httpx.get(server_url + "/ready").status_code == 200
    assert httpx.get(server_url + "/version").json()["version"]
    assert "troupe_http_requests_total" in httpx.get(server_url + "/metrics").text
    wrong = httpx.get(server_url + "/v1/chat/completions")
    assert wrong.status_code == 405 and set(wrong.json()["error"]) == {
        "message",
        "type",
        "param",
        "code",
    }


def test_load_and_unload(client, model, server_url):
    loaded = httpx.post(f"{server_url}/admin/models/{model}/load", timeout=60).json()
    assert loaded["state"] == "ready" and loaded["resident_bytes"] > 0
    gone = httpx.post(f"{server_url}/admin/models/{model}/unload", timeout=60).json()
    assert gone["state"] == "cold"
    assert client.chat.completions.create(model=model, **greedy()).choices[0].message.content


def test_a_cold_stream_says_that_it_loads(model, server_url):
    httpx.post(f"{server_url}/admin/models/{model}/unload", timeout=60)
    body = {"model": model, "stream": True, **greedy()}
    with httpx.stream("POST", server_url + "/v1/chat/completions", json=body, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line]
    comments = [i for i, line in enumerate(lines) if line.startswith(": ")]
    events = [i for i, line in enumerate(lines) if line.startswith("data: ")]
    assert comments and comments[0] < events[0]
    assert json.loads(lines[events[0]][6:])["choices"][0]["delta"]["role"] == "assistant"
