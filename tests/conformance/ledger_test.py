"""The usage ledger: it holds what clients were told that they used, also after SIGKILL."""

import collections
import concurrent.futures
import json
import signal
import sqlite3
import time

import openai
import pytest

CONFIG = """
admin_keys: [{env: ADMIN}]
state_dir: state
tenants:
  acme: {keys: [{env: ACME}]}
  umbrella: {keys: [{env: UMBRELLA}]}
"""
KEYS = {"ADMIN": "key-of-admin", "ACME": "key-of-acme", "UMBRELLA": "key-of-umbrella"}
FIELDS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


def client(server, tenant):
    return openai.OpenAI(
        base_url=server.url + "/v1", api_key=f"key-of-{tenant}", max_retries=0, timeout=120
    )


def told(usage):
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details and details.cached_tokens else 0
    return (1, usage.prompt_tokens, cached, usage.completion_tokens)


def ask(server, tenant, number):
    """One request of a kind that its number says; what the client was told that it used."""
    model = ("stories-llama", "arith-qwen")[number % 2]
    text = "Once upon a time there was a fox. " * (1 + number % 5)
    options = {"model": model, "max_tokens": 8 + number % 7 * 5, "seed": number}
    if number % 3 == 0:
        answer = client(server, tenant).completions.create(prompt=[text, "One"], n=2, **options)
        return model, told(answer.usage)
    if number % 3 == 1:
        chunks = client(server, tenant).completions.create(
            prompt=text, stream=True, stream_options={"include_usage": True}, **options
        )
        return model, told([x.usage for x in chunks if x.usage][-1])
    answer = client(server, tenant).completions.create(prompt=text, stop=["."], **options)
    return model, told(answer.usage)


def ask_many(server, numbers):
    """{(tenant, model): sums of what clients were told}"""
    sums = collections.defaultdict(lambda: (0,) * len(FIELDS))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = []
        for number in numbers:
            tenant = ("acme", "umbrella")[number // 2 % 2]
            running.append((tenant, pool.submit(ask, server, tenant, number)))
        for tenant, answer in running:
            model, used = answer.result()
            sums[tenant, model] = tuple(map(sum, zip(sums[tenant, model], used)))
    return dict(sums)


def ledger_of(rows):
    return {(x["tenant"], x["model"]): tuple(x[field] for field in FIELDS) for x in rows}


def ledger(server, *words):
    text = server.troupe("tenants", "usage", *words, "-o", "json", key="key-of-admin")
    return ledger_of(json.loads(text))


def file_sums(server):
    """What the ledger's file holds, read by another program."""
    file = sqlite3.connect(f"file:{server.scratch}/state/usage.db?mode=ro", uri=True)
    try:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        columns = ", ".join(f"sum({field})" for field in FIELDS)
        rows = file.execute(f"SELECT tenant, model, {columns} FROM usage GROUP BY 1, 2")
        return {(x[0], x[1]): tuple(x[2:]) for x in rows}
    finally:
        file.close()


def test_a_budget_ends_streams_and_outlives_the_server(make_server):
    budget = "{tokens: 150, per: 2h, soft: 50%, cost: 'output'}"
    server = make_server(CONFIG.replace("[{env: ACME}]", f"[{{env: ACME}}], budget: {budget}"), KEYS)
    many = {"model": "stories-llama", "prompt": "Once upon a time", "max_tokens": 400}
    many["extra_body"] = {"ignore_eos": True}
    told_first = client(server, "acme").completions.create(**many | {"max_tokens": 60}).usage
    assert told_first.completion_tokens == 60
    reasons, used = [], None
    with pytest.raises(openai.APIError, match="budget of 'acme' is spent") as ended:
        for chunk in client(server, "acme").completions.create(
            stream=True, stream_options={"include_usage": True}, **many
        ):
            reasons += [x.finish_reason for x in chunk.choices if x.finish_reason]
            used = chunk.usage or used
    assert ended.value.code == "insufficient_quota"
    assert reasons == ["length"] and used.completion_tokens == 90, "to the token"
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as refused:
            client(server, "acme").completions.create(**many)
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert client(server, "umbrella").completions.create(**many | {"max_tokens": 2}).usage
        shown = server.troupe("tenants", "show", "acme", key="key-of-admin")
        assert "100% of 150" in shown
        server.stop(signal.SIGTERM)
        server.start()
    assert "soft limit" in server.log.read_text()
    server.stop()
    server.file.write_text(server.file.read_text().replace("tokens: 150", "tokens: 160"))
    server.start()
    answer = client(server, "acme").completions.create(**many)
    assert answer.usage.completion_tokens == 10
    assert answer.choices[0].finish_reason == "length"
    assert sum(x[3] for key, x in ledger(server).items() if key[0] == "acme") == 160


def test_an_alias_is_accounted_as_its_model(make_server):
    aliases = "models: {stories-llama: {aliases: [tale]}}\n"
    server = make_server(CONFIG + aliases, KEYS)
    used = [
        told(client(server, "acme").completions.create(model=name, prompt="One", max_tokens=3).usage)
        for name in ("tale", "stories-llama", "tale")
    ]
    assert ledger(server) == {("acme", "stories-llama"): tuple(map(sum, zip(*used)))}


def test_the_ledger_holds_what_clients_were_told(make_server):
    server = make_server(CONFIG, KEYS)
    sums = ask_many(server, range(60))
    assert len(sums) == 4
    assert ledger(server) == sums
    assert ledger(server, "acme") == {key: x for key, x in sums.items() if key[0] == "acme"}
    assert ledger(server, "--since", "1h") == sums, "this hour's and the one before"
    assert ledger(server, "--since", "2999-01-01") == {}
    code, _, why = server.troupe(
        "tenants", "usage", "--since", "soon", key="key-of-admin", check=False
    )
    assert code == 2 and "--since soon" in why
    text = server.troupe("tenants", "usage", key="key-of-admin")
    assert text.split("\n")[0].split() == [
        "TENANT",
        "MODEL",
        "REQUESTS",
        "PROMPT",
        "CACHED",
        "COMPLETION",
    ]
    total = text.strip().split("\n")[-1].split()
    assert total[0] == "total" and total[2] == "60"
    server.stop()
    assert file_sums(server) == sums
    server.start()
    assert ledger(server) == sums, "it outlives the server"


def test_a_killed_server_leaves_a_whole_ledger(make_server):
    server = make_server(CONFIG, KEYS)
    sums = ask_many(server, range(20))
    # Nobody asks the server for it: it writes by itself.
    deadline = time.monotonic() + 60
    while not (written := file_sums(server)) or written != sums:
        assert time.monotonic() < deadline, (written, sums)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        stream = {"stream": True, "max_tokens": 400, "extra_body": {"ignore_eos": True}}
        running = [
            pool.submit(
                lambda: [
                    chunk.id
                    for chunk in client(server, "acme").completions.create(
                        model="stories-llama", prompt="Once upon a time", **stream
                    )
                ]
            )
            for _ in range(8)
        ]
        # What runs is written down too, before it has ended.
        key = ("acme", "stories-llama")
        while file_sums(server)[key][3] == sums[key][3] and not all(x.done() for x in running):
            pass
        server.stop(signal.SIGKILL)
        for one in running:
            one.exception()
    left = file_sums(server)
    assert {x: y for x, y in left.items() if x != key} == {
        x: y for x, y in sums.items() if x != key
    }
    assert sums[key][3] <= left[key][3] <= sums[key][3] + 8 * 400
    server.start()
    assert ledger(server) == left
    more = ask_many(server, range(20, 40))
    assert ledger(server) == {
        x: tuple(map(sum, zip(left.get(x, (0,) * 4), more.get(x, (0,) * 4)))) for x in left | more
    }


def test_the_first_tenants_may_come_while_the_server_runs(make_server):
    server = make_server("state_dir: state\n", KEYS)
    story = {"model": "stories-llama", "prompt": "Once", "max_tokens": 5}
    client(server, "nobody").completions.create(**story)
    assert not (server.scratch / "state").exists(), "nobody's use is nobody's business"
    server.file.write_text(CONFIG)
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    with pytest.raises(openai.AuthenticationError):
        while time.monotonic() < deadline:
            client(server, "nobody").models.list()
    client(server, "acme").completions.create(**story)
    assert ledger(server)[("acme", "stories-llama")][3] >= 5
    server.stop()
    assert file_sums(server)[("acme", "stories-llama")][3] >= 5
