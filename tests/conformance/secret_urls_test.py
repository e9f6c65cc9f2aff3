"""No message shows a password, a token or a signature that stands in the URL of a source."""

import json

import httpx
import pytest
from pull_support import OK, hub, hub_env, model_files, serve_model, troupe, web  # noqa: F401
from remote_model_test import Serving

SECRET = "s3cr3t"
URLS = [
    f"https://127.0.0.1:1/m?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"https://joe:{SECRET}@127.0.0.1:1/m",
    f"https://joe:{SECRET}@127.0.0.1:1/m?{SECRET}",
    f"https://127.0.0.1:1/m#access_token={SECRET}",
    f"https://joe:{SECRET}?{SECRET}@127.0.0.1:1/m",
    f"hf://acme/tiny?token={SECRET}",
    f"hf.co/acme/tiny?token={SECRET}",
    f"s3://bucket/m?signature={SECRET}",
    f"s3://bucket/m?endpoint=ftp://joe:{SECRET}@127.0.0.1:1&region=x",
    f"gopher://joe:{SECRET}@127.0.0.1:1/m?{SECRET}",
]
PATIENCE = {"TROUPE_DOWNLOAD_RETRIES": "0"}


def said(done, fails=True):
    assert done.returncode != OK or not fails
    assert SECRET not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "words",
    [
        ("pull", "{}"),
        ("pull", "hf://acme/tiny", "--mirror", "{}"),
        ("rm", "{}"),
        ("run", "{}", "Hello"),
        ("run", "{}", "Hello", "--url", "http://127.0.0.1:1"),
        ("bench", "{}"),
    ],
    ids=lambda words: " ".join(words[:1] + words[2:3]),
)
def test_commands(troupe, hub, url, words):  # noqa: F811
    # A mirror that cannot be reached is left out.
    fails = "--mirror" not in words
    assert said(troupe(*(x.format(url) for x in words), env=hub_env(hub) | PATIENCE), fails)


@pytest.mark.parametrize("url", URLS)
def test_the_configuration(troupe, url):  # noqa: F811
    config = {"models": {"tiny": {"source": [url, "file:///x"]}}}
    (troupe.home / "troupe.yaml").write_text(json.dumps(config))
    assert "tiny" in said(troupe("serve", "--port", 0))
    shown = troupe("config", "show")
    assert SECRET not in shown.stdout + shown.stderr


def test_a_running_server(troupe, web):  # noqa: F811
    source = serve_model(web, model_files()).replace("//", f"//joe:{SECRET}@")
    web.faults.append(lambda handler, path, wanted: web.refuse(handler, 403))
    config = f"models: {{tiny: {{source: '{source}'}}}}\n"
    with Serving(troupe, config, env=PATIENCE) as node:
        answer = node.ask("tiny")
        assert answer.status_code >= 400 and "403" in answer.text, answer.text
        explained = troupe("explain", "--last", env={"TROUPE_URL": node.url})
        told = answer.text + explained.stdout + explained.stderr + node.text()
        told += httpx.get(f"{node.url}/admin/models").text
        told += httpx.get(f"{node.url}/admin/config").text
    assert SECRET not in told


def test_the_addresses_that_the_environment_names(troupe):  # noqa: F811
    env = {"HF_ENDPOINT": f"http://joe:{SECRET}@127.0.0.1:1"} | PATIENCE
    assert "127.0.0.1:1" in said(troupe("pull", "hf://acme/tiny", env=env))
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "x"}
    env = {"AWS_ENDPOINT_URL": f"http://joe:{SECRET}@127.0.0.1:1"} | keys | PATIENCE
    said(troupe("pull", "s3://bucket/m", env=env))
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:1/?token={SECRET}"}
    said(troupe("pull", "s3://bucket/m", env=container | PATIENCE))
