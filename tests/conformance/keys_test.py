"""Keys that servers keep: made, listed and revoked from outside while two servers run on one state_dir."""

import json
import subprocess

import pytest
from conftest import Server
from http_asking import ask, until

CONFIG = """
admin_keys: [{env: ADMIN}]
state_dir: %s
tenants: {acme: {models: ["stories*", "arith*"]}, other: {}}
"""
STORY = {"model": "stories-llama", "prompt": "Once", "max_tokens": 8, "ignore_eos": True}


@pytest.fixture
def servers(request, tmp_path):
    """Two servers of one configuration and one state_dir."""
    started = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        server = Server(
            request.config,
            tmp_path / name,
            CONFIG % (tmp_path / "state"),
            {"ADMIN": "key-of-admin"},
        )
        started.append(server)
        server.start()
    yield started
    for server in started:
        server.stop()


def keys(server, *words, check=True):
    options = ["-o", "json", "--config", server.file]
    if check:
        return json.loads(server.troupe("keys", *words, *options))
    return server.troupe("keys", *words, "--config", server.file, check=False)


def status(server, key):
    return ask(server.url, "/v1/models", key)[0]


def test_a_key_is_good_at_both_servers_until_it_is_revoked(servers):
    one, two = servers
    made = keys(one, "create", "--tenant", "acme", "--name", "ci")
    for server in servers:
        until(lambda: status(server, made["key"]) == 200)
        assert ask(server.url, "/v1/completions", made["key"], STORY)[0] == 200
        assert status(server, "") == 401
    other = keys(two, "create", "other")
    until(lambda: status(one, other["key"]) == 200)
    listed = keys(one, "list")
    assert [(x["id"], x["tenant"], x["state"]) for x in listed] == [
        (made["id"], "acme", "active"),
        (other["id"], "other", "active"),
    ]
    table = one.troupe("keys", "list", "acme", "--config", one.file)
    assert made["id"] in table and "ci" in table and other["id"] not in table
    for secret in (made["key"], made["key"][3:], made["hash"][7:]):
        assert secret not in table and secret not in json.dumps(listed)
    assert keys(two, "revoke", made["id"])["state"] == "revoked"
    for server in servers:
        until(lambda: status(server, made["key"]) == 401)
        refused = ask(server.url, "/v1/completions", made["key"], STORY)[1]["error"]
        assert refused["code"] == "invalid_api_key" and "revoked" in refused["message"]
        assert set(refused) == {"message", "type", "param", "code"}
        assert status(server, other["key"]) == 200
    assert keys(one, "list", "acme")[0]["state"] == "revoked"
    again = keys(one, "revoke", made["id"], check=False)
    assert again[0] == 0 and "is revoked" in again[1]
    for server in servers:
        server.stop()
        assert made["key"] not in server.log.read_text()
    assert status(two.start(), made["key"]) == 401, "it stays revoked"
    assert status(two, other["key"]) == 200


def test_keys_end_reach_less_far_and_open_admin(servers):
    one, _ = servers
    narrow = keys(one, "create", "acme", "--models", "stories*", "--expires", "1h")
    until(lambda: status(one, narrow["key"]) == 200)
    refused = ask(one.url, "/v1/completions", narrow["key"], STORY | {"model": "arith-qwen"})
    assert refused[0] == 403 and refused[1]["error"]["code"] == "model_not_allowed"
    assert {x["id"] for x in ask(one.url, "/v1/models", narrow["key"])[1]["data"]} == {
        "stories-llama"
    }
    admin = keys(one, "create", "--admin")
    until(lambda: ask(one.url, "/admin/tenants", admin["key"])[0] == 200)
    assert ask(one.url, "/admin/tenants", narrow["key"])[0] == 403
    shown = {x["name"]: x for x in ask(one.url, "/admin/tenants", admin["key"])[1]["data"]}
    assert shown["acme"]["keys"] == [narrow["id"]]
    brief = keys(one, "create", "acme", "--expires", "1s")
    until(lambda: "expired" in str(ask(one.url, "/v1/models", brief["key"])[1].get("error")))
    assert keys(one, "list", "acme")[-1]["state"] == "expired"


def test_what_makes_no_sense_is_said(servers):
    one, _ = servers
    for words, told in {
        ("create",): "name the tenant",
        ("create", "acme", "--admin"): "not both",
        ("create", "nobody"): "there is acme, other",
        ("create", "acme", "--expires", "soon"): "write 24h, 90d",
        ("create", "acme", "--expires", "2020-01-01"): "is over already",
        ("create", "acme", "--print", "--models", "a"): "keeps",
    }.items():
        code, out, errors = keys(one, *words, check=False)
        assert code == 2 and told in errors and not out, (words, errors)
    code, _, errors = keys(one, "revoke", "key_none", check=False)
    assert code == 4 and "troupe keys list" in errors


def test_without_tenants_or_a_state_dir_the_lines_for_the_file_are_printed(servers, tmp_path):
    one, _ = servers
    (tmp_path / "empty.yaml").write_text("")
    unkept = CONFIG % "false"
    (tmp_path / "unkept.yaml").write_text(unkept)
    for options in (["--config", tmp_path / "empty.yaml"], ["--config", tmp_path / "unkept.yaml"]):
        code, out, errors = one.troupe(
            "keys", "create", "acme", "--name", "ci", *options, check=False
        )
        assert code == 0 and out.startswith("tr-") and len(out.split()) == 1
        assert "tenants:\n  acme:\n    keys:\n      - {hash:" in errors and "name: ci}" in errors
        code, _, errors = one.troupe("keys", "list", *options, check=False)
        assert code == 1 and "no keys are kept" in errors
    code, _, errors = one.troupe("keys", "create", "acme", "--print", check=False)
    assert code == 0 and "stored nowhere" in errors
    assert not (tmp_path / "state" / "keys.db").stat().st_mode & 0o077


def test_admin_can_have_an_address_of_its_own(request, tmp_path):
    server = Server(
        request.config,
        tmp_path,
        "admin_listen: 127.0.0.1:0\n" + CONFIG % (tmp_path / "state"),
        {"ADMIN": "key-of-admin"},
    )
    try:
        server.start("--admin-port-file", tmp_path / "admin-port")
        admin_url = "http://127.0.0.1:" + (tmp_path / "admin-port").read_text().strip()
        assert admin_url in server.log.read_text()
        for url, path, key, expected in (
            (server.url, "/admin/tenants", "key-of-admin", 404),
            (server.url, "/v1/models", "key-of-admin", 200),
            (server.url, "/health", "", 200),
            (admin_url, "/admin/tenants", "key-of-admin", 200),
            (admin_url, "/admin/tenants", "", 401),
            (admin_url, "/v1/models", "key-of-admin", 404),
            (admin_url, "/health", "", 200),
        ):
            assert ask(url, path, key)[0] == expected, (url, path)
        code, _, errors = server.troupe("tenants", "list", key="key-of-admin", check=False)
        assert code == 1 and "admin_listen" in errors
        server.environment |= {"TROUPE_ADMIN_URL": admin_url, "TROUPE_ADMIN_KEY": "key-of-admin"}
        assert "acme" in server.troupe("tenants", "list", key="another")
        code, _, errors = server.troupe("ps", "--admin-url", server.url, check=False)
        assert code == 1 and "admin_listen" in errors
        del server.environment["TROUPE_ADMIN_KEY"]
        code, _, errors = server.troupe("ps", check=False)
        assert code == 1 and "TROUPE_ADMIN_KEY" in errors
    finally:
        server.stop()


def test_commands_find_the_server_of_a_configuration(request, tmp_path):
    server = Server(request.config, tmp_path, "admin_listen: 127.0.0.1:1\n")
    server.environment.pop("TROUPE_URL", None)
    told = subprocess.run(
        [server.binary, "ps", "--config", server.file],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 3 and "http://127.0.0.1:1 " in told.stderr


def test_an_admin_address_that_others_reach_needs_a_key(tmp_path, request):
    server = Server(request.config, tmp_path, 'admin_listen: "0.0.0.0:0"\n')
    server.url = ""
    code, _, errors = server.troupe("config", "check", server.file, check=False)
    assert code == 2 and ":1:1: others can reach" in errors and "admin_keys" in errors
