"""A draft model: the same texts, in fewer steps; models that do not match are refused by name."""

import re
import shutil
import time
import urllib.request

import openai
import pytest

PROMPTS = ["Tell me a short story about a fox.", "Tell me a story about a brave mouse."]


@pytest.fixture
def small(request, tmp_path):
    """A copy of the model: a draft model that is always right, found by its path."""
    path = tmp_path / "small"
    shutil.copytree(request.config.getoption("--models") / "stories-llama", path)
    return path


def answers(server):
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", timeout=60)
    texts, tokens = [], 0
    for prompt in PROMPTS:
        for temperature in (0, 0.9):
            answer = client.chat.completions.create(
                model="stories-llama",
                messages=[{"role": "user", "content": prompt}],
                temperature=temperature,
                seed=7,
                max_tokens=80,
            )
            texts.append(answer.choices[0].message.content)
            tokens += answer.usage.completion_tokens
    return texts, tokens


def counter(server, name, labels=""):
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    found = re.findall(rf"^{name}{{.*{labels}.*}} (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, found))


def work(server, tokens):
    """(steps, right guesses), once the worker has reported what made so many tokens."""
    deadline = time.monotonic() + 30
    while True:
        steps = counter(server, "troupe_engine_steps_total")
        right = counter(server, "troupe_draft_tokens_total", 'result="right"')
        if steps + right >= tokens or time.monotonic() > deadline:
            return steps, right
        time.sleep(0.05)


def test_a_draft_model_changes_no_text_and_saves_steps(make_server, small):
    plain = make_server("engine: {draft_tokens_max: 0}\n")
    expected, tokens = answers(plain)
    assert work(plain, tokens) == (tokens, 0)
    plain.stop()
    guessing = make_server(f"models: {{stories-llama: {{draft_model: {small}}}}}\n")
    assert answers(guessing) == (expected, tokens)
    # How much it guesses depends on whether that pays, as measured: it is as slow as its model.
    steps, right = work(guessing, tokens)
    assert right > 0 and steps + right == tokens


def test_a_draft_model_with_another_tokenizer_is_refused(make_server):
    server = make_server("models: {stories-llama: {draft_model: arith-qwen}}\n")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError, match="another tokenizer than stories-llama"):
        client.completions.create(model="stories-llama", prompt="Once")
    assert client.completions.create(model="arith-qwen", prompt="1 + 1", max_tokens=2).choices
