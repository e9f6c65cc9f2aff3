"""`troupe explain`: what a request was expected to take, and what it took."""

import json

import httpx
from http_asking import until

SECRET = "a violet walrus nobody has heard of"


def ask(server, model):
    body = {"model": model, "prompt": SECRET, "max_tokens": 8, "temperature": 0}
    answer = httpx.post(server.url + "/v1/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"], answer.json()["id"]


def test_cold_and_warm_requests_are_explained_by_both_ids(make_server):
    server, model = make_server("keep_alive: 5m\n"), "stories-llama"
    cold = ask(server, model)
    # The account of a load may be complete only after a request as short as this.
    until(lambda: json.loads(server.troupe("explain", "-o", "json", cold[0]))["load"])
    warm = ask(server, model)
    for ids in (cold, warm):
        assert server.troupe("explain", ids[0]) == server.troupe("explain", ids[1])
    first, second = (json.loads(server.troupe("explain", "-o", "json", x[0])) for x in (cold, warm))
    for one in (first, second):
        assert one["state"] == "finished" and one["completion_tokens"] == 8
        assert one["forecast"]["first_token_seconds"] > 0 and one["first_token_seconds"] > 0
    assert first["forecast"]["model_state"] not in ("resident", "unknown")
    assert sum(first["load"]["bytes"].values()) > 1_000_000
    assert first["load"]["total_seconds"] <= first["first_token_seconds"] + 0.01
    assert second["forecast"]["model_state"] == "resident" and second["load"] is None
    assert json.loads(server.troupe("explain", "--last", "-o", "json"))["id"] == warm[0]
    listed = server.troupe("explain")
    assert cold[0] in listed and warm[0] in listed
    everything = listed + server.troupe("explain", "-o", "json") + server.troupe("explain", cold[0])
    assert "walrus" not in everything
    metrics = httpx.get(server.url + "/metrics").text
    assert 'troupe_first_token_prediction_error_ratio_count{state="resident"}' in metrics
