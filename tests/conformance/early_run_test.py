"""Layers run while the weights of those behind them are still being fetched; no word is said before
all of them have come and are known to be right."""

import json
import re
import threading

import httpx
import pytest
from early_load_test import (  # noqa: F401
    LAYERS,
    MIB,
    PATIENT,
    SOURCE,
    WEIGHTS,
    Held,
    asking,
    expected,
    files,
    hub,
    pool,
    text_of,
    web,
)
from pull_support import hub_env, troupe, wait_until  # noqa: F401
from remote_model_test import Serving


def layers_run(node):
    """Layers that the worker has run in a step that waits for weights."""
    shown = json.dumps(httpx.get(f"{node.url}/admin/actors").json())
    found = re.search(rf"(\d+) of {LAYERS} layers run", shown)
    return int(found[1]) if found else 0


def model_state(node):
    (model,) = httpx.get(f"{node.url}/admin/models").json()["data"]
    return model["state"]


def stream(node, lines):
    body = {"model": "big", "stream": True, "max_tokens": 4}
    body |= {"messages": [{"role": "user", "content": "Hello"}]}
    url = f"{node.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=120) as answer:
        lines += answer.iter_lines()


def words_of(lines):
    return [x for x in lines if '"content":"' in x and '"content":""' not in x]


def held_end(origin, files):  # noqa: F811
    """Keeps the last MiB of the weights: nearly all layers are in front of it."""
    server, name = (origin.storage, "") if hasattr(origin, "storage") else (origin, WEIGHTS)
    return Held(server, name, len(files[WEIGHTS]) - MIB)


@pytest.mark.parametrize("kind", ["web", "hub"])
def test_layers_run_before_the_last_bytes_have_come(
    troupe, request, files, pool, expected, kind  # noqa: F811
):
    origin = request.getfixturevalue(kind)
    held = held_end(origin, files)
    source = f"{origin.url}/big" if kind == "web" else "hf://acme/big"
    env = PATIENT | (hub_env(origin) if kind == "hub" else {})
    with Serving(troupe, SOURCE.format(source=source, pool=pool), env=env) as node:
        with asking(node) as answers:
            wait_until(lambda: layers_run(node) >= LAYERS - 4, node.process)
            # It waits, whatever else the worker does meanwhile.
            assert layers_run(node) < LAYERS and not answers
            assert model_state(node) == "loading"
            held.release()
        assert text_of(answers[0]) == expected
        assert model_state(node) == "ready"
        assert text_of(node.ask("big")) == expected


def cut_and_refused(server, name, offset):
    """Breaks off at `offset` once `release` is called, and refuses what is asked for then, until
    `mend` is called."""
    held = Held(server, name, offset)

    def refuse(handler, path, wanted):
        return held.event.is_set() and path.endswith(name) and server.refuse(handler, 403)

    class Cut(Exception):
        pass

    send_body = server.send_body

    def send(handler, path, body):
        if held.event.is_set() and path.endswith(name):
            raise Cut
        send_body(handler, path, body)

    def mend():
        server.send_body = send_body
        server.faults.clear()

    server.send_body = send
    server.faults.insert(0, refuse)
    held.mend = mend
    return held


def test_a_source_that_fails_while_layers_run_fails_the_request_at_once(
    troupe, web, files, pool, expected  # noqa: F811
):
    held = cut_and_refused(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    with Serving(troupe, config, env=PATIENT) as node:
        with asking(node) as answers:
            wait_until(lambda: layers_run(node) >= LAYERS - 4, node.process)
            asked = len(web.requests)
            held.release()
        assert answers[0].status_code == 503, answers[0].text
        message = answers[0].json()["error"]["message"]
        assert "loading model big" in message and "403" in message and WEIGHTS in message, message
        # No more than what was open was asked for again.
        assert len(web.requests) - asked <= 8, web.requests[asked:]
        assert model_state(node) == "failed"
        held.mend()
        answer = None

        def answered():
            nonlocal answer
            answer = node.ask("big")
            return answer.status_code == 200

        wait_until(answered, node.process)
        assert text_of(answer) == expected
    assert web.sent[f"/big/{WEIGHTS}"] <= len(files[WEIGHTS]) + 8 * MIB


def test_layers_that_ran_on_damaged_bytes_say_nothing(troupe, hub, files, pool):  # noqa: F811
    blob = "/" + hub.lfs_digest(files[WEIGHTS])
    damaged = bytearray(files[WEIGHTS])
    damaged[len(damaged) // 2] ^= 1
    hub.storage.files[blob] = bytes(damaged)
    held = held_end(hub, files)
    config = SOURCE.format(source="hf://acme/big", pool=pool)
    with Serving(troupe, config, env=PATIENT | hub_env(hub)) as node:
        lines = []
        asker = threading.Thread(target=stream, args=(node, lines))
        asker.start()
        wait_until(lambda: layers_run(node) >= LAYERS - 4, node.process)
        held.release()
        asker.join()
        assert not words_of(lines), lines
        assert any("sha256" in x and "acme/big" in x for x in lines), lines
        assert httpx.get(f"{node.url}/admin/models").json()["pool"]["held_bytes"] == 0
        hub.storage.files[blob] = files[WEIGHTS]
        wait_until(lambda: node.ask("big").status_code == 200, node.process)


def test_what_comes_and_goes_while_layers_wait_changes_nothing_for_others(
    troupe, web, files, pool, expected  # noqa: F811
):
    held = held_end(web, files)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    with Serving(troupe, config, env=PATIENT) as node:
        with asking(node) as first:
            wait_until(lambda: layers_run(node) >= LAYERS - 4, node.process)
            with asking(node) as second:
                with pytest.raises(httpx.TimeoutException):
                    node.ask("big", 1)  # joins, and hangs up
                wait_until(lambda: layers_run(node) >= LAYERS - 4, node.process)
                assert not first and not second
                held.release()
        assert text_of(first[0]) == expected and text_of(second[0]) == expected
