"""What a server holds after many requests, and after many models took turns in little memory: no
more memory and no more files than before. SWITCHES=2000 makes it a longer run."""

import concurrent.futures
import http.client
import json
import os
import random
import re
import shutil
import threading
import urllib.request

import openai

MODELS = 20
SWITCHES = int(os.environ.get("SWITCHES", "500"))
CONFIG = """
# Room for about four of them.
memory_limit: 11MiB
engine: {kv_memory: 4MiB, sequences_max: 8}
storage: {pool_memory: 64MiB}
"""


def make_models(source, scratch):
    """Copies of the smallest models with different weights, so that none shares its bytes."""
    for number in range(MODELS):
        to = scratch / "models" / f"model-{number:02}"
        shutil.copytree(source / ("arith-qwen", "parrot-mistral")[number % 2], to)
        with (to / "model.safetensors").open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(bytes([number, 0x3C]))
    return scratch / "models"


def held(process):
    """(KiB that are its own, open files)."""
    with open(f"/proc/{process.pid}/status") as status:
        anonymous = re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]
    return int(anonymous), len(os.listdir(f"/proc/{process.pid}/fd"))


def metric(server, name):
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as answer:
        page = answer.read().decode()
    return sum(float(x) for x in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def test_hundreds_of_switches_fail_nobody_and_leave_nothing_behind(make_server, request, tmp_path):
    models = make_models(request.config.getoption("--models"), tmp_path)
    server = make_server(CONFIG, models=models)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    first, guard = {}, threading.Lock()

    def ask(number):
        which = f"model-{number:02}"
        answer = client.completions.create(
            model=which,
            prompt="12 + 7 =",
            max_tokens=12,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        with guard:
            assert first.setdefault(which, answer.choices[0].text) == answer.choices[0].text

    def switch(until):
        """Four clients ask for one model after the other, until there were so many loads."""
        random_model = random.Random(until)

        def run():
            while metric(server, "troupe_evictions_total") < until:
                with guard:
                    number = random_model.randrange(MODELS)
                ask(number)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(run) for _ in range(4)]:
                done.result()

    switch(until=100)
    before = held(server.process)
    switch(until=100 + SWITCHES)
    after = held(server.process)
    print(f"KiB and files held: {before} after 100 switches, {after} after {SWITCHES} more")
    assert len(first) == MODELS
    assert after[0] < before[0] + 8 * 1024
    assert after[1] <= before[1] + 8


def test_thousands_of_requests_leave_nothing_behind(make_server):
    server = make_server("request_history: 16\nengine: {kv_memory: 4MiB}\nlog: {level: warn}\n")
    line = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=60)
    body = {"model": "arith-qwen", "prompt": "12 + 7 =", "max_tokens": 2, "ignore_eos": True}

    def ask(times):
        for _ in range(times):
            line.request("POST", "/v1/completions", json.dumps(body))
            answer = line.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

    ask(1000)
    before = held(server.process)
    ask(4000)
    after = held(server.process)
    print(f"KiB and files held: {before} after 1,000 requests, {after} after 4,000 more")
    assert after[0] < before[0] + 4 * 1024
    assert after[1] <= before[1] + 8
