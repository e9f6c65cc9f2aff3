"""Models that several places have: all are drawn on, none is trusted, each may be lost."""

import pathlib
import re

import httpx
import pytest
from early_load_test import files, pool  # noqa: F401
from pull_support import (  # noqa: F401
    FAILED,
    MIB,
    OK,
    USAGE,
    assert_pulled,
    hub_env,
    model_files,
    serve_model,
    troupe,
    wait_until,
    web,
)
from remote_model_test import Serving
from web_servers import Hub, Server, is_get

WEIGHTS = "model.safetensors"
# A busy machine is no server that stalls.
PATIENT = {"TROUPE_DOWNLOAD_STALL_TIMEOUT": "30s"}


@pytest.fixture
def model():
    return model_files(64 * MIB)


@pytest.fixture
def hub(model):
    server = Hub()
    server.add(model)
    yield server
    server.close()


@pytest.fixture
def second():
    server = Server()
    yield server
    server.close()


def assert_right(done, model):
    assert done.returncode == OK, done.stderr
    assert_pulled(pathlib.Path(re.search(r" is in (\S+): ", done.stdout)[1]), model)


def warnings(done):
    return [line for line in done.stderr.splitlines() if "left out" in line]


def pull(troupe, hub, *mirrors, reference="hf://acme/tiny", env=(), more=()):
    words = [x for one in mirrors for x in ("--mirror", one)]
    return troupe("pull", reference, *words, *more, env=hub_env(hub) | PATIENT | dict(env))


def test_parts_come_from_all_of_them(troupe, hub, web, model):
    mirror = serve_model(web, model)
    done = pull(troupe, hub, mirror)
    assert_right(done, model)
    assert not warnings(done), done.stderr
    there, here = sum(hub.storage.sent.values()), web.sent[f"/tiny/{WEIGHTS}"]
    assert there and here and there + here == len(model[WEIGHTS])
    assert f"from {mirror}" in done.stdout and "from hf://acme/tiny" in done.stdout
    again = pull(troupe, hub, mirror)
    assert "nothing to fetch" in again.stdout
    assert there + here == sum(hub.storage.sent.values()) + web.sent[f"/tiny/{WEIGHTS}"]


def test_the_faster_one_gives_more(troupe, hub, web, model):
    hub.storage.pause = 0.2
    done = pull(troupe, hub, serve_model(web, model), env={"TROUPE_DOWNLOAD_CONNECTIONS": "2"})
    assert done.returncode == OK, done.stderr
    assert web.sent[f"/tiny/{WEIGHTS}"] > sum(hub.storage.sent.values())


def cut(server):
    return lambda h, p, w: p.endswith(WEIGHTS) and is_get(h) and server.cut(h, p, w)


def stall(server):
    """Promises a part and sends nothing of it."""

    def fault(handler, path, wanted):
        if not path.endswith(WEIGHTS) or not is_get(handler):
            return False
        return server.cut(handler, path, wanted, after=0) if not wanted else hold(handler, path, wanted)

    def hold(handler, path, wanted):
        data = server.files[path]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {wanted[0]}-{wanted[1]}/{len(data)}")
        handler.send_header("ETag", server.etag(path))
        handler.send_header("Content-Length", str(wanted[1] - wanted[0] + 1))
        handler.end_headers()
        handler.wfile.flush()
        handler.rfile.read(1)  # until the client hangs up
        handler.close_connection = True
        return True

    return fault


def shrink(server):
    """Says of each part that the file has another length."""

    def fault(handler, path, wanted):
        if not path.endswith(WEIGHTS) or not is_get(handler) or not wanted:
            return False
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {wanted[0]}-{wanted[1]}/12345678")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return fault


@pytest.mark.parametrize("fault", [cut, stall, shrink])
def test_one_that_fails_costs_what_it_owed_and_is_left_out(troupe, hub, web, model, fault):
    mirror = serve_model(web, model)
    web.faults.append(fault(web))
    env = {"TROUPE_DOWNLOAD_STALL_TIMEOUT": "5s"} if fault is stall else {}
    done = pull(troupe, hub, mirror, env=env)
    assert_right(done, model)
    (line,) = warnings(done)
    assert f"{mirror} is left out" in line
    assert sum(hub.storage.sent.values()) <= len(model[WEIGHTS])


def test_the_first_one_may_be_the_one_that_fails(troupe, hub, web, model):
    mirror = serve_model(web, model)
    hub.storage.faults.append(lambda h, p, w: is_get(h) and hub.storage.cut(h, p, w))
    web.pause = 0.01  # else it may have everything before the other has failed often enough
    done = pull(troupe, hub, mirror)
    assert_right(done, model)
    (line,) = warnings(done)
    assert "hf://acme/tiny is left out" in line


def test_wrong_bytes_of_a_mirror_are_fetched_again_from_the_first(troupe, hub, web, model):
    mirror = serve_model(web, model)
    lie = bytearray(model[WEIGHTS])
    for at in range(MIB, len(lie), MIB):
        lie[at] ^= 1
    web.files[f"/tiny/{WEIGHTS}"] = bytes(lie)
    done = pull(troupe, hub, mirror)
    assert_right(done, model)
    (line,) = warnings(done)
    assert mirror in line and "wrong" in line
    # Nothing that came from the first one is fetched twice.
    assert sum(hub.storage.sent.values()) == len(model[WEIGHTS])


@pytest.mark.parametrize("what", ["length", "sha256"])
def test_another_file_is_never_mixed_in(troupe, hub, model, what):
    rival = Hub("acme/other")
    try:
        other = model_files(65 * MIB if what == "length" else 64 * MIB, seed=2)
        rival.add(other)
        # One server for both: the hub's endpoint is one for all.
        hub.faults.append(lambda h, p, w: "acme/other" in p and rival.serve(h, p, w))
        done = pull(troupe, hub, "hf://acme/other")
        assert_right(done, model)
        (line,) = warnings(done)
        assert "hf://acme/other is left out" in line
        assert not sum(rival.storage.sent.values())
    finally:
        rival.close()


def test_without_any_checksum_the_first_one_alone_is_used(troupe, hub, web, second, model):
    mirror = serve_model(second, model)
    done = pull(troupe, hub, mirror, reference=serve_model(web, model))
    assert_right(done, model)
    (line,) = warnings(done)
    assert mirror in line and "nothing proves" in line
    assert not second.sent


def test_a_first_one_that_is_gone_is_replaced(troupe, hub, web, model):
    mirror = serve_model(web, model)
    gone = Hub()
    gone.close()
    done = troupe("pull", "hf://acme/tiny", "--mirror", mirror, env=hub_env(gone) | PATIENT)
    assert_right(done, model)
    (line,) = warnings(done)
    assert "hf://acme/tiny is left out" in line


def test_when_all_are_gone_each_is_named(troupe, hub, web, model):
    mirror = serve_model(web, model)
    web.close(), hub.close()
    done = pull(troupe, hub, mirror, env={"TROUPE_DOWNLOAD_RETRIES": "0"})
    assert done.returncode == FAILED
    assert "acme/tiny" in done.stderr and mirror in done.stderr, done.stderr


def test_a_mirror_that_makes_no_sense_is_a_usage_error(troupe, hub):
    done = pull(troupe, hub, "gopher://x/y")
    assert done.returncode == USAGE and "gopher" in done.stderr
    done = pull(troupe, hub, "/a/directory")
    assert done.returncode == USAGE and "one of several sources" in done.stderr


CONFIG = """
models:
  big:
    source: [{sources}]
storage: {{pool: {pool}, pool_memory: 256MiB}}
"""


def test_serve_draws_on_all_that_the_configuration_names(troupe, request, web, files, pool):
    hub = Hub("acme/big")
    try:
        hub.add(files)
        web.files.update({f"/big/{path}": data for path, data in files.items()})

        def guard(handler, path, wanted):
            given = handler.headers.get("Authorization")
            return given != "Basic am9lOnNlY3JldA==" and web.refuse(handler, 401)

        web.faults.append(guard)
        mirror = f"{web.url}/big".replace("//", "//joe:secret@")
        config = CONFIG.format(sources=f"hf://acme/big, '{mirror}'", pool=pool)
        with Serving(troupe, config, env=hub_env(hub) | PATIENT) as node:
            shown = httpx.get(f"{node.url}/admin/models").text
            assert "hf://acme/big" in shown and web.url in shown and "secret" not in shown
            answer = node.ask("big", 120)
            assert answer.status_code == 200, answer.text
            kept = httpx.get(f"{node.url}/admin/config").text
            assert "//***@" in kept and "secret" not in kept
            # What was hidden is put back, so what was got can be put.
            put = httpx.put(f"{node.url}/admin/config", content=kept)
            assert put.status_code == 200, put.text
            other = httpx.put(f"{node.url}/admin/config", content=kept.replace("/big", "/small"))
            assert other.status_code == 400 and "password" in other.text, other.text
            told = troupe("explain", "--last", env={"TROUPE_URL": node.url})
            assert "secret" not in told.stdout + told.stderr + node.text()
        assert sum(hub.storage.sent.values()) and web.sent[f"/big/{WEIGHTS}"]
        total = sum(hub.storage.sent.values()) + web.sent[f"/big/{WEIGHTS}"]
        assert total == len(files[WEIGHTS])
    finally:
        hub.close()


def test_config_check_knows_a_list_of_sources(troupe):
    good = troupe.home / "troupe.yaml"
    good.write_text("models: {a: {source: [hf://x/y, s3://bucket/z]}, b: {source: hf://x/y}}\n")
    done = troupe("config", "check", good)
    assert done.returncode == OK, done.stderr
    shown = troupe("config", "show", "--config", good)
    assert re.search(r"source: \[.hf://x/y., .s3://bucket/z.\]", shown.stdout), shown.stdout
    good.write_text("models: {a: {source: 'https://joe:s3cret@host/a'}}\n")
    shown = troupe("config", "show", "--config", good)
    assert "https://***@host/a" in shown.stdout and "s3cret" not in shown.stdout, shown.stdout
    good.write_text("models: {a: {source: {x: y}}}\n")
    assert troupe("config", "check", good).returncode != OK
