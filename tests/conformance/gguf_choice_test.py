"""Repositories with several GGUF models: one is named by its quantization or its file, and only its
bytes are fetched. The files are real models, so what was chosen can be asked."""

import pathlib
import re

import httpx
import pytest
from pull_support import (  # noqa: F401
    FAILED,
    NOT_FOUND,
    OK,
    USAGE,
    assert_pulled,
    hub_env,
    random_bytes,
    troupe,
)
from remote_model_test import Serving
from web_servers import Hub, Server, is_get

REFERENCE = "hf://acme/stories-GGUF"
SPLIT = "stories-Q8_0-0000{}-of-00003.gguf"
ASK = ("Hello!", "--temperature", 0, "--max-tokens", 12)


@pytest.fixture(scope="module")
def models(request):
    return pathlib.Path(request.config.getoption("--models")).resolve()


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """What a repository of quantized models holds. Two models are real, of different words."""
    import hf_to_gguf as converter

    scratch = tmp_path_factory.mktemp("gguf")
    converter.convert(models / "stories-llama", scratch / "whole.gguf")
    converter.convert(models / "stories-llama", scratch / "split.gguf", parts=3)
    converter.convert(models / "arith-qwen", scratch / "other.gguf")
    parts = sorted(scratch.glob("split*-of-*.gguf"))
    assert len(parts) == 3
    out = {
        "README.md": b"# stories\n",
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b" " * (2 << 20),
        "imatrix.dat": b"i" * 50_000,
        "mmproj-F16.gguf": b"GGUF" + b"m" * 60_000,
        "imatrix.gguf": b"GGUF" + b"n" * 60_000,
        "stories-IQ4_XS.gguf": b"GGUF" + random_bytes(70_000),
        "stories-Q4_K_M.gguf": (scratch / "whole.gguf").read_bytes(),
        "stories-Q4_K_S.gguf": b"GGUF" + random_bytes(80_000),
        "stories-BF16.gguf": (scratch / "other.gguf").read_bytes(),
    }
    return out | {SPLIT.format(i + 1): p.read_bytes() for i, p in enumerate(parts)}


class GgufHub(Hub):
    @staticmethod
    def is_lfs(path):
        return path.endswith(".gguf")


@pytest.fixture
def hub(files):
    server = GgufHub("acme/stories-GGUF")
    server.add(files)
    yield server
    server.close()


@pytest.fixture
def said(troupe, models):
    """What the models say that the repository was made of."""
    out = {}
    for name in ("stories-llama", "arith-qwen"):
        done = troupe("run", models / name, *ASK)
        assert done.returncode == OK and done.stdout.strip(), done.stderr
        out[name] = done.stdout
    assert out["stories-llama"] != out["arith-qwen"]
    return out


def sent_names(hub, files):
    """Files of which weights were sent."""
    return {
        name
        for name, data in files.items()
        if hub.is_lfs(name) and hub.storage.sent.get("/" + hub.lfs_digest(data))
    }


def snapshot(troupe):
    (out,) = (troupe.hub_cache / "models--acme--stories-GGUF" / "snapshots").iterdir()
    return out


@pytest.mark.parametrize(
    "reference, wanted",
    [
        (f"{REFERENCE}:q4_k_m", ["stories-Q4_K_M.gguf"]),
        (f"{REFERENCE}@v1:BF16", ["stories-BF16.gguf"]),
        ("hf.co/acme/stories-GGUF:Q4_K_S", ["stories-Q4_K_S.gguf"]),
        (f"{REFERENCE}:Q8_0", [SPLIT.format(i) for i in (1, 2, 3)]),
        (f"{REFERENCE}/{SPLIT.format(2)}", [SPLIT.format(i) for i in (1, 2, 3)]),
        (f"{REFERENCE}@main/stories-IQ4_XS.gguf", ["stories-IQ4_XS.gguf"]),
        (REFERENCE, ["stories-Q4_K_M.gguf"]),
    ],
)
def test_only_the_named_one_is_fetched(troupe, hub, files, reference, wanted):
    done = troupe("pull", reference, env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    assert sent_names(hub, files) == set(wanted)
    assert sum(hub.storage.sent.values()) == sum(len(files[x]) for x in wanted)
    here = {p.name for p in snapshot(troupe).iterdir()}
    assert here == set(wanted) | {"README.md", "config.json"}
    assert_pulled(snapshot(troupe), {x: files[x] for x in wanted})
    again = troupe("pull", reference, env=hub_env(hub))
    assert "nothing to fetch" in again.stdout, again.stdout + again.stderr
    listed = troupe("df")
    assert re.search(r"acme/stories-GGUF .*(complete|partial)", listed.stdout), listed.stdout


def test_one_of_them_is_removed_and_the_others_stay(troupe, hub, files, said):
    env = hub_env(hub)
    for tag in ("Q4_K_M", "Q8_0", "BF16"):
        assert troupe("pull", f"{REFERENCE}:{tag}", env=env).returncode == OK
    listed = troupe("df").stdout
    for name in ("stories-Q4_K_M", "stories-Q8_0", "stories-BF16"):
        assert re.search(rf"  acme/stories-GGUF/{name} .*[KM]iB", listed), listed
    wrong = troupe("rm", "acme/stories-GGUF:Q5_K_M")
    assert wrong.returncode == NOT_FOUND and "stories-BF16" in wrong.stderr, wrong.stderr
    done = troupe("rm", "hf://acme/stories-GGUF:q8_0")
    assert done.returncode == OK and "frees" in done.stdout, done.stderr
    here = {p.name for p in snapshot(troupe).iterdir()}
    assert here == {"README.md", "config.json", "stories-Q4_K_M.gguf", "stories-BF16.gguf"}
    blobs = {p.name for p in (snapshot(troupe).parents[1] / "blobs").iterdir()}
    for i in (1, 2, 3):
        assert hub.lfs_digest(files[SPLIT.format(i)]) not in blobs
    assert "Q8_0" not in troupe("df").stdout
    assert troupe("rm", "acme/stories-GGUF/stories-Q4_K_M.gguf").returncode == OK
    assert troupe("run", f"{REFERENCE}:BF16", *ASK, env=env).stdout == said["arith-qwen"]
    assert troupe("rm", "acme/stories-GGUF@main:BF16").returncode == OK
    assert "acme" not in troupe("df").stdout
    assert troupe("rm", "acme/stories-GGUF").returncode == NOT_FOUND


def test_one_is_removed_and_fetched_again_while_another_is_served(troupe, hub, files):
    env = hub_env(hub)
    for tag in ("Q4_K_M", "BF16"):
        assert troupe("pull", f"{REFERENCE}:{tag}", env=env).returncode == OK
    with Serving(troupe, "", f"{REFERENCE}:Q4_K_M", env=env) as server:
        name = httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"]
        assert server.ask(name).status_code == 200
        for what in ("acme/stories-GGUF", "acme/stories-GGUF:Q4_K_M"):
            refused = troupe("rm", what)
            assert refused.returncode == FAILED and "in use" in refused.stderr, refused.stderr
        for tag, more in (("BF16", ()), ("Q4_K_M", ("--force",))):
            done = troupe("rm", f"acme/stories-GGUF:{tag}", *more)
            assert done.returncode == OK, done.stderr
            hub.storage.sent.clear()
            assert troupe("pull", f"{REFERENCE}:{tag}", env=env).returncode == OK
            assert sent_names(hub, files) == {f"stories-{tag}.gguf"}
            assert sum(hub.storage.sent.values()) == len(files[f"stories-{tag}.gguf"])
        assert server.ask(name).status_code == 200
    here = {x: files[x] for x in ("stories-Q4_K_M.gguf", "stories-BF16.gguf")}
    assert_pulled(snapshot(troupe), here)


def test_what_is_not_there_is_answered_with_what_there_is(troupe, hub):
    for reference in (f"{REFERENCE}:Q4_K", f"{REFERENCE}:F16", f"{REFERENCE}/none.gguf"):
        done = troupe("pull", reference, env=hub_env(hub))
        assert done.returncode != OK and "stories-Q4_K_S.gguf" in done.stderr, done.stderr
        assert "mmproj" not in done.stderr and not hub.storage.sent
    for name in ("stories-Q4_K_M.gguf", *(SPLIT.format(i) for i in (1, 2, 3))):
        del hub.repository[name]
    done = troupe("pull", REFERENCE, env=hub_env(hub))
    assert done.returncode == FAILED and "stories-BF16.gguf" in done.stderr, done.stderr
    assert "hf://org/name:Q5_K_M" in done.stderr, done.stderr
    assert troupe("pull", f"{REFERENCE}:", env=hub_env(hub)).returncode == USAGE


def test_a_model_without_one_of_its_parts_is_refused(troupe, hub):
    del hub.repository[SPLIT.format(3)]
    done = troupe("pull", f"{REFERENCE}:Q8_0", env=hub_env(hub))
    assert done.returncode == FAILED and "2 of the 3" in done.stderr, done.stderr
    assert not hub.storage.sent


def test_two_of_one_repository_stand_side_by_side(troupe, hub, files, said):
    env = hub_env(hub)
    first = troupe("run", f"{REFERENCE}:Q4_K_M", *ASK, env=env)
    assert first.stdout == said["stories-llama"], first.stderr
    second = troupe("run", f"{REFERENCE}:BF16", *ASK, env=env)
    assert second.stdout == said["arith-qwen"], second.stderr
    assert sent_names(hub, files) == {"stories-Q4_K_M.gguf", "stories-BF16.gguf"}
    hub.close()  # neither needs the hub again, by whichever name
    for name, words in (
        (f"{REFERENCE}:Q4_K_M", "stories-llama"),
        (f"{REFERENCE}/stories-BF16.gguf", "arith-qwen"),
        (REFERENCE, "stories-llama"),
        ("acme/stories-GGUF:bf16", "arith-qwen"),
        ("acme/stories-GGUF", "stories-llama"),
    ):
        done = troupe("run", name, *ASK, env=env)
        assert done.stdout == said[words], name + done.stderr


CONFIG = """
models:
  small: {{source: '{0}:BF16'}}
  large: {{source: ['{0}:Q8_0', '{1}']}}
"""


def test_a_source_may_name_one_and_so_may_its_mirror(troupe, hub, files, said):
    mirror = Server()
    try:
        mirror.files.update({f"/m/{SPLIT.format(i)}": files[SPLIT.format(i)] for i in (1, 2, 3)})
        config = CONFIG.format(REFERENCE, f"{mirror.url}/m")
        with Serving(troupe, config, env=hub_env(hub)) as node:
            assert node.ask("small").status_code == 200
            assert sent_names(hub, files) == {"stories-BF16.gguf"}
            assert node.ask("large", 120).status_code == 200
            shown = httpx.get(f"{node.url}/v1/models").json()["data"]
            assert {m["id"] for m in shown} == {"small", "large"}
        wanted = {"stories-BF16.gguf", *(SPLIT.format(i) for i in (1, 2, 3))}
        assert sent_names(hub, files) <= wanted
        assert mirror.sent and {p.removeprefix("/m/") for p in mirror.sent} <= wanted
    finally:
        mirror.close()


def test_damage_and_cuts_on_the_way_are_mended(troupe, hub, files):
    name = "stories-Q4_K_M.gguf"
    blob = "/" + hub.lfs_digest(files[name])
    lie = bytearray(files[name])
    lie[len(lie) // 2] ^= 1
    hub.storage.files[blob] = bytes(lie)
    hub.storage.once(lambda h, p, w: is_get(h), lambda h, p, w: hub.storage.cut(h, p, w))
    done = troupe("pull", f"{REFERENCE}:Q4_K_M", env=hub_env(hub))
    assert done.returncode == FAILED and "sha256" in done.stderr, done.stderr
    assert not list((troupe.hub_cache / "models--acme--stories-GGUF").glob("snapshots/*/*.gguf"))
    hub.storage.files[blob] = files[name]
    done = troupe("pull", f"{REFERENCE}:Q4_K_M", env=hub_env(hub))
    assert done.returncode == OK, done.stderr
    assert_pulled(snapshot(troupe), {name: files[name]})


def test_a_folder_of_gguf_files_is_understood_in_the_same_way(troupe, files, said):
    folder = troupe.home / "folder"
    folder.mkdir()
    for name in ("stories-Q4_K_M.gguf", "stories-BF16.gguf", "README.md"):
        (folder / name).write_bytes(files[name])
    assert troupe("run", folder, *ASK).stdout == said["stories-llama"]
    assert troupe("run", folder / "stories-BF16.gguf", *ASK).stdout == said["arith-qwen"]
    sources = f"models: {{a: {{source: {folder}}}, b: {{source: {folder}/stories-BF16.gguf}}}}\n"
    with Serving(troupe, sources) as node:
        assert node.ask("a").status_code == 200 and node.ask("b").status_code == 200
    (folder / "stories-Q4_K_M.gguf").rename(folder / "stories-Q5_K_M.gguf")
    refused = troupe("run", folder, *ASK)
    assert refused.returncode != OK and "stories-Q5_K_M.gguf" in refused.stderr, refused.stderr
    (troupe.home / "troupe.yaml").write_text(f"models: {{a: {{source: {folder}}}}}\n")
    refused = troupe("serve", "--port", 0)
    assert refused.returncode != OK and "stories-Q5_K_M.gguf" in refused.stderr, refused.stderr
