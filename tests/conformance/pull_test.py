"""`troupe pull` against web servers that behave and such that do not, and against itself.

A server of our own stalls, cuts, lies and changes files. Every byte that arrives is compared.
"""

import concurrent.futures
import json
import random
import signal
import subprocess
import time

import pytest
from pull_support import (  # noqa: F401
    FAILED,
    MIB,
    NOT_FOUND,
    OK,
    USAGE,
    assert_pulled,
    leftovers,
    model_files,
    safetensors,
    serve_model,
    troupe,
    wait_until,
    web,
)
from web_servers import Server, is_get

# A web server that behaves.


def test_a_model_is_fetched_over_http_and_the_second_time_nothing_is(troupe, web):
    files = model_files()
    url = serve_model(web, files)
    first = troupe("pull", url)
    assert first.returncode == OK, first.stderr
    assert "tiny is in" in first.stdout and "3 files" in first.stdout
    assert_pulled(troupe.store / "tiny", files)
    assert leftovers(troupe.store) == []
    web.sent.clear()
    second = troupe("pull", url)
    assert second.returncode == OK and "nothing to fetch" in second.stdout
    assert sum(web.sent.values()) <= len(files) + 20  # first bytes of probes


def test_shards_that_an_index_names_are_fetched_in_parts(troupe, web):
    shards = {f"model-0000{i}-of-00002.safetensors": safetensors(40 * MIB, i) for i in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    index["weight_map"]["b"] = "model-00002-of-00002.safetensors"
    files = model_files() | shards | {"model.safetensors.index.json": json.dumps(index).encode()}
    del files["model.safetensors"]
    done = troupe("pull", serve_model(web, files), "--name", "acme/big")
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "acme/big", files)
    ranges = [h["Range"] for m, p, h in web.requests if "Range" in h and "of-00002" in p]
    assert len([r for r in ranges if r != "bytes=0-0"]) >= 6


def test_a_changed_file_alone_is_fetched_again_and_replaced(troupe, web):
    files = model_files()
    url = serve_model(web, files)
    assert troupe("pull", url).returncode == OK
    files["config.json"] = files["config.json"].replace(b"}", b', "vocab_size": 3}')
    serve_model(web, files)
    web.sent.clear()
    assert troupe("pull", url).returncode == OK
    assert_pulled(troupe.store / "tiny", files)
    assert web.sent.get("/tiny/model.safetensors", 0) <= 1


def own_certificate(directory):
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch"
    words += f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key}"
    done = subprocess.run([*words.split(), "-out", certificate], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with certificate.open("a") as out:
        out.write(key.read_text())
    return certificate


def test_https_is_trusted_only_as_far_as_its_certificate(troupe, tmp_path):
    certificate = own_certificate(tmp_path)
    web = Server(certificate)
    files = model_files(12 * MIB)
    url = serve_model(web, files)
    refused = troupe("pull", url)
    assert refused.returncode == FAILED and "SSL_CERT_FILE" in refused.stderr, refused.stderr
    assert web.requests == []
    done = troupe("pull", url, env={"SSL_CERT_FILE": str(certificate)})
    web.close()
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)


# One that does not.


def test_a_connection_that_is_cut_goes_on_where_it_broke_off(troupe, web):
    files = model_files(12 * MIB)
    url = serve_model(web, files)
    path = "/tiny/model.safetensors"
    for _ in range(3):
        web.once(lambda h, p, r: is_get(h) and p == path and r != (0, 0), web.cut)
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)
    assert web.sent[path] <= len(files["model.safetensors"]) + 4096


def test_a_pull_that_gives_up_keeps_what_has_come(troupe, web):
    files = model_files(12 * MIB)
    url = serve_model(web, files)
    path = "/tiny/model.safetensors"

    def cut(handler, where, wanted):
        return is_get(handler) and where == path and web.cut(handler, where, wanted)

    web.faults.append(cut)
    given_up = troupe("pull", url, env={"TROUPE_DOWNLOAD_RETRIES": "0"})
    assert given_up.returncode == FAILED and "goes on from there" in given_up.stderr
    assert not (troupe.store / "tiny/config.json").exists()
    web.faults.clear()
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)
    assert web.sent[path] <= len(files["model.safetensors"]) + 4096


def test_a_server_that_stalls_is_asked_again(troupe, web):
    files = model_files()
    url = serve_model(web, files)

    def stall(handler, path, wanted):
        data = files["model.safetensors"]
        handler.send_response(200)
        handler.send_header("ETag", web.etag(path))
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:1000])
        handler.wfile.flush()
        handler.connection.settimeout(30)
        try:
            handler.connection.recv(1)  # until the client has had enough
        except OSError:
            pass
        handler.close_connection = True
        return True

    web.once(lambda h, p, r: is_get(h) and p.endswith(".safetensors") and r != (0, 0), stall)
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)


@pytest.mark.parametrize("status", [429, 503, 500, 502])
def test_refusals_that_pass_are_waited_for(troupe, web, status):
    files = model_files()
    url = serve_model(web, files)
    for path in ("/tiny/config.json", "/tiny/model.safetensors"):
        web.once(
            lambda h, p, r, path=path: p == path,
            lambda h, p, r: web.refuse(h, status, Retry_After="1"),
        )
    begun = time.monotonic()
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert time.monotonic() - begun >= 1  # as it was asked to
    assert_pulled(troupe.store / "tiny", files)


def test_a_server_without_ranges_is_read_in_one_go_and_again_when_it_breaks_off(troupe, web):
    web.ranges = False
    files = model_files(20 * MIB)
    url = serve_model(web, files)
    web.once(lambda h, p, r: is_get(h) and p.endswith(".safetensors"), web.cut)
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)
    assert web.sent["/tiny/model.safetensors"] <= 2 * len(files["model.safetensors"])


def test_a_file_that_changes_meanwhile_is_fetched_as_it_is_in_the_end(troupe, web):
    old, new = model_files(64 * MIB, 1), model_files(64 * MIB, 2)
    new["model.safetensors"] += b"!"
    url = serve_model(web, old)

    def change(handler, path, wanted):
        web.files[path] = new["model.safetensors"]
        return False

    web.once(lambda h, p, r: is_get(h) and r and r[0] >= 32 * MIB, change)
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", new | {"config.json": old["config.json"]})


def test_a_file_that_never_stops_changing_is_an_error_and_no_model(troupe, web):
    files = model_files(40 * MIB)
    url = serve_model(web, files)
    count = iter(range(1000))

    def change(handler, path, wanted):
        if is_get(handler) and path.endswith(".safetensors") and wanted != (0, 0):
            web.files[path] = safetensors(40 * MIB, 100 + next(count))
        return False

    web.faults.append(change)
    done = troupe("pull", url)
    assert done.returncode == FAILED, done.stdout
    assert "model.safetensors" in done.stderr and "changed" in done.stderr
    assert not (troupe.store / "tiny/model.safetensors").exists()
    assert not (troupe.store / "tiny/config.json").exists()


def test_a_length_that_is_a_lie_is_noticed(troupe, web):
    files = model_files()
    url = serve_model(web, files)

    def lie(handler, path, wanted):
        if not path.endswith(".safetensors") or handler.command != "GET" or wanted == (0, 0):
            return False
        data = files["model.safetensors"][: 1 * MIB]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        return True

    web.faults.append(lie)
    done = troupe("pull", url)
    assert done.returncode == FAILED
    assert "model.safetensors" in done.stderr
    assert not (troupe.store / "tiny/model.safetensors").exists()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [(404, NOT_FOUND, "404"), (401, FAILED, "denied"), (403, FAILED, "denied")],
)
def test_what_cannot_be_had_is_said_at_once(troupe, web, status, code, says):
    url = serve_model(web, model_files())
    web.faults.append(lambda h, p, r: p == "/tiny/config.json" and web.refuse(h, status))
    done = troupe("pull", url)
    assert done.returncode == code and says in done.stderr, done.stderr
    assert "config.json" in done.stderr and url in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_a_server_that_is_gone_is_named_with_what_to_do(troupe, web):
    url = serve_model(web, model_files())
    web.close()
    done = troupe("pull", url, env={"TROUPE_DOWNLOAD_RETRIES": "1"})
    assert done.returncode == FAILED
    assert "127.0.0.1" in done.stderr and "is the network up" in done.stderr


def test_a_web_directory_that_is_no_model_is_refused(troupe, web):
    web.files["/empty/readme"] = b"hello"
    done = troupe("pull", f"{web.url}/empty")
    assert done.returncode == NOT_FOUND and "config.json" in done.stderr


@pytest.mark.parametrize(
    "reference",
    [
        "hf://",
        "hf://a/b/c",
        "s3://x",
        "ftp://host/x",
        "https://",
        "hf://a/../b",
        "s3://bucket/a//b",
    ],
)
def test_references_that_make_no_sense_are_usage_errors(troupe, reference):
    done = troupe("pull", reference)
    assert done.returncode == USAGE and reference in done.stderr, done.stderr


# Death and rivals.


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_pull_goes_on_and_fetches_again_at_most_what_was_open(troupe, web, seed):
    files = model_files(96 * MIB)
    url = serve_model(web, files)
    path = "/tiny/model.safetensors"
    size = len(files["model.safetensors"])
    dice = random.Random(seed)
    connections = 4
    web.pause = 0.0005
    kills = 3
    for kill in range(1, kills + 1):
        process = troupe.start("pull", url, "--connections", connections)
        wait_until(lambda: web.sent.get(path, 0) >= size * kill * dice.uniform(0.15, 0.25), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (troupe.store / "tiny/model.safetensors").exists()
    web.pause = 0
    done = troupe("pull", url)
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.store / "tiny", files)
    # Of each open part: what was not yet written down (256 KiB), and what was under way to us.
    assert web.sent[path] - size <= kills * connections * 6 * MIB
    assert leftovers(troupe.store) == []


def test_two_processes_fetch_each_file_once(troupe, web):
    files = model_files(24 * MIB)
    url = serve_model(web, files)
    web.pause = 0.0005
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: troupe("pull", url), range(4)))
    assert [run.returncode for run in runs] == [OK] * 4, [run.stderr for run in runs]
    assert_pulled(troupe.store / "tiny", files)
    assert web.sent == {f"/tiny/{path}": len(data) for path, data in files.items()}


def test_an_interrupted_pull_says_how_to_go_on_and_lists_no_model(troupe, web):
    files = model_files(64 * MIB)
    url = serve_model(web, files)
    web.pause = 0.002
    process = troupe.start("pull", url)
    wait_until(lambda: web.sent.get("/tiny/model.safetensors", 0) > 4 * MIB, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and "goes on" in err
    rows = json.loads(troupe("df", "-o", "json").stdout)["models"]
    assert [(r["model"], r["complete"]) for r in rows] == [("tiny", False)]
    assert rows[0]["partial_bytes"] > 2 * MIB
    run = troupe("run", "tiny", "hi")
    assert run.returncode == NOT_FOUND, run.stderr


def test_too_little_room_is_noticed_before_the_first_byte(troupe, web):
    files = model_files()
    url = serve_model(web, files)

    def huge(handler, path, wanted):
        if path != "/tiny/model.safetensors":
            return False
        handler.send_response(200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("ETag", '"huge"')
        handler.send_header("Content-Length", str(1 << 55))
        handler.end_headers()
        return True

    web.faults.append(huge)
    done = troupe("pull", url)
    assert done.returncode == FAILED and "GiB" in done.stderr and "free" in done.stderr
    assert not any(is_get_of(r, "config.json") for r in web.requests)


def is_get_of(request, name):
    return (
        request[0] == "GET" and request[1].endswith(name) and request[2].get("Range") != "bytes=0-0"
    )
