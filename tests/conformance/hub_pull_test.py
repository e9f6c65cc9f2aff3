"""`troupe pull` from a hub, `rm` and `df`, and what a terminal sees.

The hub's own client reads what was written for it, and writes what must be found.
"""

import hashlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys

import pytest
from pull_support import (  # noqa: F401
    FAILED,
    MIB,
    NOT_FOUND,
    OK,
    assert_pulled,
    hub,
    hub_env,
    model_files,
    serve_model,
    troupe,
    wait_until,
    web,
)
from web_servers import git_blob_id

# The hub.


def ask_the_hubs_client(troupe, code, **env):
    """Runs Python with huggingface_hub that may use nothing but the cache."""
    env = troupe.env | {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | env
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("lists_blobs", [True, False])
def test_the_hubs_own_client_reads_what_was_fetched(troupe, hub, lists_blobs):
    hub.lists_blobs = lists_blobs
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    snapshot = troupe.hub_cache / "models--acme--tiny/snapshots" / hub.commit
    files = {p: d for p, d in hub.repository.items() if "/" not in p}
    assert_pulled(snapshot, files)
    blobs = {p.name for p in (troupe.hub_cache / "models--acme--tiny/blobs").iterdir()}
    weights = hub.repository["model.safetensors"]
    config = hub.repository["config.json"]
    assert {hashlib.sha256(weights).hexdigest(), git_blob_id(config)} <= blobs and len(blobs) == 4
    path = ask_the_hubs_client(
        troupe,
        "from huggingface_hub import hf_hub_download, snapshot_download, scan_cache_dir\n"
        "scan = scan_cache_dir()\n"
        "assert not scan.warnings, scan.warnings\n"
        "assert [r.repo_id for r in scan.repos] == ['acme/tiny']\n"
        "assert [list(r.refs) for r in scan.repos] == [['main']]\n"
        "hf_hub_download('acme/tiny', 'model.safetensors')\n"
        "print(snapshot_download('acme/tiny'))",
    )
    assert pathlib.Path(path) == snapshot
    assert_pulled(pathlib.Path(path), files)


def test_what_the_hubs_client_fetched_is_used_with_no_byte_fetched(troupe, hub):
    ask_the_hubs_client(
        troupe,
        "from huggingface_hub import snapshot_download; snapshot_download('acme/tiny')",
        **hub_env(hub, HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1"),
    )
    hub.sent.clear()
    hub.storage.sent.clear()
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == OK and "nothing to fetch" in done.stdout, done.stderr
    assert not hub.storage.sent and not hub.sent


def test_offline_means_that_the_hub_is_not_asked(troupe, hub):
    offline = hub_env(hub, HF_HUB_OFFLINE="1")
    absent = troupe("pull", "hf://acme/tiny", env=offline)
    assert absent.returncode == NOT_FOUND and "HF_HUB_OFFLINE" in absent.stderr
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK
    hub.requests.clear()
    assert troupe("pull", "hf://acme/tiny", env=offline).returncode == OK
    assert not hub.requests


def test_a_revision_is_fetched_by_its_name(troupe, hub):
    done = troupe("pull", "hf://acme/tiny@v1", env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    refs = troupe.hub_cache / "models--acme--tiny/refs"
    assert (refs / "v1").read_text() == hub.commit and not (refs / "main").exists()
    wrong = troupe("pull", "hf://acme/tiny@v9", env=hub_env(hub))
    assert wrong.returncode == NOT_FOUND and "v9" in wrong.stderr


def test_a_token_goes_to_the_hub_and_never_to_the_storage_behind_it(troupe, hub):
    hub.token = "hf_secret"
    without = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert without.returncode == FAILED and "HF_TOKEN" in without.stderr, without.stderr
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub, HF_TOKEN="hf_secret"))
    assert done.returncode == OK, done.stderr
    assert hub.seen_by_storage
    assert not any("Authorization" in headers for _, _, headers in hub.seen_by_storage)
    shutil.rmtree(troupe.hub_cache)
    (troupe.home / ".cache/huggingface/token").write_text("hf_secret\n")
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK


def test_a_damaged_file_is_fetched_again_and_never_published(troupe, hub):
    weights = hub.repository["model.safetensors"]
    path = "/" + hashlib.sha256(weights).hexdigest()
    hub.storage.files[path] = weights[:-1] + bytes([weights[-1] ^ 1])
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == FAILED
    assert "model.safetensors" in done.stderr and "sha256" in done.stderr
    assert not (troupe.hub_cache / "models--acme--tiny/snapshots").exists()
    hub.storage.files[path] = weights
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK


@pytest.mark.parametrize("lists_blobs", [True, False])
def test_a_small_file_that_comes_damaged_is_noticed_by_its_git_id(troupe, hub, lists_blobs):
    hub.lists_blobs = lists_blobs
    whole = hub.repository["tokenizer.json"]
    fields = [("ETag", f'"{git_blob_id(whole)}"')]
    wanted = lambda h, p, w: h.command == "GET" and p.endswith("/tokenizer.json")  # noqa: E731
    damage = lambda h, p, w: hub.send_file(h, p, whole[:-1] + b"x", w, fields)  # noqa: E731
    hub.faults.append(lambda *x: wanted(*x) and damage(*x))
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == FAILED
    assert "tokenizer.json" in done.stderr and git_blob_id(whole) in done.stderr, done.stderr
    assert not (troupe.hub_cache / "models--acme--tiny/snapshots").exists()
    # Damaged once on its way, it is simply fetched again.
    hub.faults.clear()
    hub.once(wanted, damage)
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    (found,) = troupe.hub_cache.glob("models--acme--tiny/snapshots/*/tokenizer.json")
    assert found.read_bytes() == whole


def test_a_killed_pull_goes_on_and_its_sha256_is_still_checked(troupe, hub):
    files = model_files(48 * MIB, 7)
    hub.add(files)
    weights = files["model.safetensors"]
    path = "/" + hub.lfs_digest(weights)
    sent = hub.storage.sent
    hub.storage.pause = 0.001
    for share in (0.2, 0.5):
        process = troupe.start("pull", "hf://acme/tiny", "--connections", 2, env=hub_env(hub))
        wait_until(lambda share=share: sent.get(path, 0) >= share * len(weights), process)
        process.kill()
        process.wait()
        assert not (troupe.hub_cache / "models--acme--tiny/refs/main").exists()
    hub.storage.pause = 0
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    assert_pulled(troupe.hub_cache / "models--acme--tiny/snapshots" / hub.commit, files)
    assert sent[path] - len(weights) <= 2 * 2 * 6 * MIB


def test_rivals_fetch_the_weights_once_the_hubs_client_among_them(troupe, hub):
    files = model_files(24 * MIB, 8)
    hub.add(files)
    path = "/" + hub.lfs_digest(files["model.safetensors"])
    hub.storage.pause = 0.0005
    pulls = [troupe.start("pull", "hf://acme/tiny", env=hub_env(hub)) for _ in range(3)]
    wait_until(lambda: hub.storage.sent.get(path, 0) > 0)
    fetch = "from huggingface_hub import hf_hub_download as get\n"
    fetch += "print(get('acme/tiny', 'model.safetensors'))"
    online = hub_env(hub, HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")
    got = ask_the_hubs_client(troupe, fetch, **online)
    for pull in pulls:
        _, err = pull.communicate(timeout=60)
        assert pull.returncode == OK, err
    assert pathlib.Path(got).read_bytes() == files["model.safetensors"]
    assert_pulled(troupe.hub_cache / "models--acme--tiny/snapshots" / hub.commit, files)
    assert hub.storage.sent[path] == len(files["model.safetensors"])


def test_names_in_a_listing_cannot_leave_the_cache(troupe, hub):
    hub.repository["../../../evil.json"] = b"{}"
    done = troupe("pull", "hf://acme/tiny", env=hub_env(hub))
    assert done.returncode == FAILED and "makes no sense" in done.stderr
    assert not list(troupe.home.rglob("evil.json"))


# rm and df.


def test_removed_models_free_their_blobs_but_not_those_of_other_snapshots(troupe, hub):
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK
    first = hub.commit
    hub.commit = "f" * 40
    hub.repository["config.json"] = b'{"architectures": ["LlamaForCausalLM"], "other": 1}'
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK
    repository = troupe.hub_cache / "models--acme--tiny"
    assert len(list((repository / "blobs").iterdir())) == 5
    done = troupe("rm", f"acme/tiny@{first}")
    assert done.returncode == OK and "frees" in done.stdout, done.stderr
    assert len(list((repository / "blobs").iterdir())) == 4
    assert [p.name for p in (repository / "snapshots").iterdir()] == [hub.commit]
    assert troupe("rm", "acme/tiny").returncode == OK
    assert not repository.exists()
    assert json.loads(troupe("df", "-o", "json").stdout)["models"] == []
    absent = troupe("rm", "acme/tiny")
    assert absent.returncode == NOT_FOUND and "acme/tiny" in absent.stderr


def test_df_adds_up_what_the_disk_holds(troupe, web, hub):
    assert troupe("pull", "hf://acme/tiny", env=hub_env(hub)).returncode == OK
    assert troupe("pull", serve_model(web, model_files(5 * MIB))).returncode == OK
    usage = json.loads(troupe("df", "-o", "json").stdout)
    by_name = {row["model"]: row for row in usage["models"]}
    assert by_name["acme/tiny"]["source"] == "hf://acme/tiny"
    assert by_name["tiny"]["source"] == f"{web.url}/tiny"
    for name, root in (
        ("acme/tiny", troupe.hub_cache / "models--acme--tiny"),
        ("tiny", troupe.store / "tiny"),
    ):
        said = subprocess.run(["du", "-s", "-B1", root], capture_output=True, text=True).stdout
        assert abs(by_name[name]["disk_bytes"] - int(said.split()[0])) <= 64 * 1024
    assert usage["disk_bytes"] == sum(row["disk_bytes"] for row in usage["models"])
    table = troupe("df").stdout
    assert "acme/tiny" in table and "complete" in table and "2 models" in table


# What a terminal sees.


def test_a_terminal_sees_bars_and_a_pipe_sees_lines(troupe, web):
    files = model_files(32 * MIB)
    url = serve_model(web, files)
    web.pause = 0.002
    child, terminal = pty.fork()
    if child == 0:
        os.environ.clear()
        os.environ.update(troupe.env | {"TERM": "xterm"})
        os.execv(troupe.binary, [troupe.binary, "pull", url])
    seen = b""
    while True:
        if select.select([terminal], [], [], 60)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == OK
    assert re.search(rb"model\.safetensors +\[=+>? *\] +\d+%", seen), seen[-2000:]
    assert re.search(rb"downloading 2/3 files +\[=+>? *\] +\d+%", seen)
    assert troupe("rm", "tiny").returncode == OK
    web.pause = 0
    piped = troupe("pull", url)
    assert "\x1b" not in piped.stderr + piped.stdout and "\r" not in piped.stderr
    assert re.search(r"model\.safetensors: .*done \(3/3\)", piped.stderr), piped.stderr
