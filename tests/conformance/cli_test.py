"""The command line as people and scripts use it: exit codes, what is printed where, signals.

usage: python3 -m pytest tests/conformance/cli_test.py --binary build/release/bin/troupe
"""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

END = rb"\Z.\A"  # matches nothing: wait for the end
OK, FAILED, USAGE, NO_SERVER, NOT_FOUND, ADDRESS_TAKEN = 0, 1, 2, 3, 4, 5


@pytest.fixture
def troupe(request, tmp_path):
    """Runs the binary to its end in an empty home; gives the completed process."""
    binary = str(pathlib.Path(request.config.getoption("--binary")).resolve())
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TROUPE_", "HF_"))}
    clean["HOME"] = str(tmp_path)

    def call(*arguments, env=None, stdin="", timeout=60):
        return subprocess.run(
            [binary, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env=clean | (env or {}),
        )

    call.binary, call.env = binary, clean
    return call


@pytest.fixture
def models(request):
    return pathlib.Path(request.config.getoption("--models")).resolve()


@pytest.fixture
def own_server(troupe, models, tmp_path):
    """Starts servers of the test's own: start(*arguments) gives (process, url, log). They serve the
    examples, or the directory `served`."""
    started = []

    def start(*arguments, served=models):
        port_file, log = tmp_path / f"port-{len(started)}", tmp_path / f"log-{len(started)}"
        process = subprocess.Popen(
            [troupe.binary, "serve", "--port", "0", "--port-file", port_file, *arguments, served],
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            env=troupe.env,
            cwd=tmp_path,
        )
        started.append(process)
        until = time.monotonic() + 30
        while not (port_file.exists() and port_file.read_text().strip()):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.01)
        return process, f"http://127.0.0.1:{port_file.read_text().strip()}", log

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_prompt_as_argument_and_one_on_standard_input_get_the_same_answer(troupe, models):
    words = troupe("run", models / "stories-llama", "Tell me a story.", "--temperature", 0)
    piped = troupe("run", models / "stories-llama", "--temperature", 0, stdin="Tell me a story.\n")
    assert words.returncode == piped.returncode == OK, words.stderr + piped.stderr
    assert len(words.stdout) > 40 and words.stdout == piped.stdout
    assert "\x1b" not in words.stdout and words.stderr == ""


def test_a_server_answers_run_as_this_process_does(troupe, models, server_url):
    here = troupe("run", models / "arith-qwen", "What is 12 + 30?", "--temperature", 0)
    there = troupe("run", "arith-qwen", "What is 12 + 30?", "--temperature", 0, "--url", server_url)
    by_environment = troupe(
        *("run", "arith-qwen", "What is 12 + 30?", "--temperature", 0),
        env={"TROUPE_URL": server_url},
    )
    assert "42" in here.stdout
    assert here.stdout == there.stdout == by_environment.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["frobnicate"], USAGE, "frobnicate"),
        (["ps", "--nope"], USAGE, "--nope"),
        (["ps", "-o", "xml"], USAGE, "xml"),
        (["run", "no-such-model", "hi", "--models-dir", "{models}"], NOT_FOUND, "no-such-model"),
        (["run", "story-llama", "hi", "--models-dir", "{models}"], NOT_FOUND, "stories-llama"),
        (["run", "./missing", "hi"], NOT_FOUND, "./missing"),
        (["run", "./here", "hi", "--url", "http://127.0.0.1:1"], USAGE, "./here is a place on"),
        (["run", "hf://a/b", "hi", "--url", "http://127.0.0.1:1"], USAGE, "name it (a/b"),
        (["ps", "--url", "http://127.0.0.1:1"], NO_SERVER, "troupe serve"),
        (["serve", "--config", "absent.yaml"], USAGE, "absent.yaml"),
        (["serve", "--port", "70000"], USAGE, "port"),
        (["serve", "--keep-alive", "soon"], USAGE, "soon"),
    ],
)
def test_what_is_wrong_is_said_once_and_gives_its_exit_code(troupe, models, arguments, code, says):
    done = troupe(*(a.format(models=models) for a in arguments))
    assert done.returncode == code, done
    assert says in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) <= 4, done.stderr


def test_models_are_shown_loaded_and_stopped(troupe, server_url):
    at = ["--url", server_url]
    assert troupe("load", "stories-llama", *at).returncode == OK
    loaded = json.loads(troupe("ps", "-o", "json", *at).stdout)
    assert [m["state"] for m in loaded if m["id"] == "stories-llama"] == ["ready"]
    table = troupe("models", *at).stdout.splitlines()
    assert table[0].split()[:2] == ["MODEL", "STATE"] and len(table) == 4
    assert troupe("models", "-q", *at).stdout.split() == [line.split()[0] for line in table[1:]]
    assert troupe("stop", "stories-llama", *at).returncode == OK
    assert "stories-llama" not in troupe("ps", *at).stdout
    for command in ("load", "stop"):
        absent = troupe(command, "no-such-model", *at)
        assert absent.returncode == NOT_FOUND and "no-such-model" in absent.stderr


def test_a_url_as_flag_beats_the_one_in_the_environment(troupe, server_url):
    nowhere = "http://127.0.0.1:1"
    assert troupe("ps", "--url", server_url, env={"TROUPE_URL": nowhere}).returncode == OK
    assert troupe("ps", "--url", nowhere, env={"TROUPE_URL": server_url}).returncode == NO_SERVER
    assert troupe("ps", env={"TROUPE_URL": server_url}).returncode == OK


def test_actors_are_listed_with_what_they_handled(troupe, server_url):
    rows = json.loads(troupe("actors", "list", "-o", "json", "--url", server_url).stdout)
    types = {row["type"] for row in rows}
    assert {"node", "registry", "scheduler", "gateway", "gpu-worker", "model"} <= types
    assert all(row["messages"] >= 0 and row["restarts"] == 0 for row in rows)
    assert "gpu-worker" in troupe("actors", "tree", "--url", server_url).stdout


def test_watch_prints_again_and_ends_at_a_signal(troupe, server_url):
    with subprocess.Popen(
        [troupe.binary, "ps", "--watch", "0.1", "--url", server_url],
        stdout=subprocess.PIPE,
        text=True,
        env=troupe.env,
    ) as watching:
        headers = 0
        while headers < 2:
            line = watching.stdout.readline()
            assert line, "it ended by itself"
            headers += line.startswith("MODEL ")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) in (130, -signal.SIGINT)  # a shell shows both as 130


def test_a_config_with_a_mistake_is_shown_with_its_place_and_the_fix(troupe, tmp_path):
    (tmp_path / "troupe.yaml").write_text("role: all\nmodel_dir: [a]\n")
    done = troupe("config", "check")
    assert done.returncode == USAGE
    assert re.search(r"troupe\.yaml:2:\d+", done.stderr + done.stdout)
    assert "did you mean 'model_dirs'" in done.stderr + done.stdout
    schema = json.loads(troupe("config", "schema").stdout)
    assert schema["$schema"].startswith("http://json-schema.org/") and schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_accepted_by_their_shell(troupe, shell):
    script = troupe("completion", shell)
    assert script.returncode == OK and "troupe" in script.stdout
    if shutil.which(shell):
        read = subprocess.run([shell, "-n"], input=script.stdout, text=True, capture_output=True)
        assert read.returncode == 0, read.stderr


def test_bench_measures_a_shape_and_says_on_what(troupe):
    words = ["bench", "tiny", "--reps", "1", "--batch", "1,2", "-o", "json"]
    done = troupe(*words)
    assert done.returncode == OK, done.stderr
    read = json.loads(done.stdout)
    assert read["machine"]["cpu"] and read["ceilings"]["read"][0]["bytes_per_second"] > 0
    assert [(one["measure"], one["batch"]) for one in read["results"]] == [
        ("prefill", 1),
        ("decode", 1),
        ("decode", 2),
    ]
    wrong = troupe("bench", "tinny")
    assert wrong.returncode == NOT_FOUND and "did you mean 'tiny'" in wrong.stderr
    large = troupe(*"bench llama-3.1-8b --dtype f32 --batch 1024 --context 1000000".split())
    assert large.returncode == FAILED and "are free" in large.stderr


def test_serve_says_at_its_end_what_the_ops_took(own_server):
    process, url, log = own_server("--profile")
    body = {"model": "stories-llama", "prompt": "Once", "max_tokens": 8}
    assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    lines = log.read_text().splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("OP "))
    ops = {line.split("    ")[0].strip() for line in lines[heading + 1 :]}
    assert "attention" in ops and any(op.startswith("linear [") for op in ops)


def test_bench_ends_at_ctrl_c_with_what_it_has(troupe):
    words = ["bench", "tiny", "--reps", "1000", "--tokens", "4096", "--context", "2048", "-o", "json"]
    with subprocess.Popen(
        [troupe.binary, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=troupe.env,
    ) as running:
        for line in running.stderr:
            if "prefill" in line:  # its figure is there, and decoding would take long
                break
        running.send_signal(signal.SIGINT)
        text = running.stdout.read()
        assert running.wait(60) == 130
    assert [one["measure"] for one in json.loads(text)["results"]] == ["prefill"]


def test_a_taken_port_has_an_exit_code_of_its_own(troupe, models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = troupe("serve", "--port", port, models)
    assert done.returncode == ADDRESS_TAKEN and str(port) in done.stderr


def long_stream(url, model, started):
    """The finish reason and the text of a stream of 400 tokens; tells when text flows."""
    body = {"model": model, "stream": True, "max_tokens": 400, "ignore_eos": True}
    body |= {"messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 0}
    text, reason = "", None
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                choice = json.loads(line[6:])["choices"][0]
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
                if text:
                    started.set()
    return reason, text


def test_sigterm_drains_running_streams_and_refuses_new_requests(own_server):
    process, url, log = own_server()
    started, outcome = threading.Event(), []
    thread = threading.Thread(
        target=lambda: outcome.append(long_stream(url, "stories-llama", started))
    )
    thread.start()
    assert started.wait(20)
    process.send_signal(signal.SIGTERM)
    thread.join(60)
    assert outcome and outcome[0][0] == "length", log.read_text()
    assert process.wait(20) == 0, log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_second_signal_ends_at_once(own_server):
    process, url, _ = own_server()
    # A client that never reads keeps its answer, and so the drain, going.
    body = {"model": "stories-llama", "stream": True, "max_tokens": 900, "ignore_eos": True, "n": 8}
    body |= {"messages": [{"role": "user", "content": "Tell me a story."}]}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) in (0, 143, -signal.SIGTERM)


def test_the_hub_cache_is_found_in_place(troupe, models, tmp_path):
    repo = tmp_path / ".cache/huggingface/hub/models--troupe--tiny-stories"
    snapshot = repo / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(models / "stories-llama", snapshot)
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text(snapshot.name)
    done = troupe("run", "troupe/tiny-stories", "Hello!", "--temperature", 0)
    assert done.returncode == OK and done.stdout.strip(), done.stderr


@pytest.fixture
def gguf(models, tmp_path):
    """Writes a model of the examples as GGUF: gguf(name, **how to convert) gives the file to name."""
    import hf_to_gguf as converter

    def convert(name, **how):
        where = tmp_path / "gguf"
        where.mkdir(exist_ok=True)
        converter.convert(models / name, where / f"{name}.gguf", **how)
        return sorted(where.glob(f"{name}*.gguf"))

    return convert


@pytest.mark.parametrize("model", ["stories-llama", "arith-qwen"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_gguf_file_answers_as_the_model_that_it_was_made_of(troupe, models, gguf, model, parts):
    files = gguf(model, parts=parts)
    assert len(files) == parts
    ask = ("What is 12 + 30?", "--temperature", 0, "--max-tokens", 40)
    whole = troupe("run", models / model, *ask)
    from_file = troupe("run", files[-1], *ask)  # any part names the model
    assert from_file.returncode == whole.returncode == OK, from_file.stderr
    assert from_file.stdout == whole.stdout and whole.stdout.strip()


def with_weights_decoded(model, wanted, out):
    """The model with the weights that a GGUF file in `wanted` says, as the `gguf` package decodes
    them, in F32; and how many of its tensors are in blocks."""
    import gguf as package
    import hf_to_gguf as converter
    import k_quants
    import numpy as np

    shutil.copytree(model, out)
    config = json.loads((model / "config.json").read_text())
    header, data, blocks = {}, b"", 0
    for name, (kind, array) in converter.read_safetensors(model / "model.safetensors").items():
        values = converter.as_float(kind, array)
        own = converter.gguf_name(name)
        to = values.ndim == 2 and converter.type_of(
            own, values, wanted, config["num_hidden_layers"]
        )
        if to:
            values = package.dequantize(k_quants.quantize(values, to), to)
            blocks += 1
        data += np.ascontiguousarray(values, np.float32).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": values.shape,
            "data_offsets": [len(data) - values.nbytes, len(data)],
        }
    text = json.dumps(header).encode()
    (out / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return blocks


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_K_M"])
def test_a_quantized_gguf_file_answers_as_its_weights_decoded(
    troupe, models, gguf, tmp_path, kind
):
    import gguf as package

    wanted = kind if kind == "Q4_K_M" else package.GGMLQuantizationType[kind]
    (file,) = gguf("arith-qwen", wanted=wanted)
    assert with_weights_decoded(models / "arith-qwen", wanted, tmp_path / "decoded") > 0
    for question in ("What is 12 + 30?", "What is 7 + 8?", "What is 41 + 22?"):
        ask = (question, "--temperature", 0)
        want = troupe("run", tmp_path / "decoded", *ask)
        got = troupe("run", file, *ask)
        assert got.returncode == want.returncode == OK, got.stderr + want.stderr
        assert got.stdout == want.stdout and got.stdout.strip()


def test_gguf_files_of_a_directory_are_listed_by_their_names(troupe, gguf, own_server):
    file = gguf("arith-qwen", parts=3)[0]
    _, url, _ = own_server(served=file.parent)
    assert "arith-qwen.gguf" not in troupe("models", "-q", "--url", url).stdout
    listed = json.loads(troupe("models", "-o", "json", "--url", url).stdout)
    assert any(m["path"].endswith("-00001-of-00003.gguf") for m in listed), listed


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f.write_bytes(f.read_bytes().replace(b"qwen3", b"gemma")), "'gemma', which is"),
        (lambda f: f.write_bytes(f.read_bytes()[:5000]), "download it again"),
        (lambda f: f.write_bytes(b"not a model"), "GGUF"),
        (lambda f: f.rename(f.with_name("a-00001-of-00002.gguf")), "missing"),
        (lambda f: f.unlink(), "no file"),
    ],
)
def test_what_is_wrong_with_a_gguf_file_is_said_once(troupe, gguf, spoil, says):
    (file,) = gguf("arith-qwen")
    spoil(file)
    here = next(iter(file.parent.glob("*.gguf")), file)
    done = troupe("run", here, "hi")
    assert done.returncode in (FAILED, NOT_FOUND) and done.stdout == "", done
    assert says in done.stderr and len(done.stderr.strip().splitlines()) <= 4, done.stderr


def test_a_conversation_in_a_terminal_remembers_and_ends_at_ctrl_d(troupe, models):
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(troupe.env | {"TERM": "xterm", "NO_COLOR": "1"})
        os.execv(troupe.binary, [troupe.binary, "run", str(models / "arith-qwen")])
    seen = b""

    def wait_for(pattern):
        nonlocal seen
        until = time.monotonic() + 30
        while not re.search(pattern, seen, re.S):
            assert time.monotonic() < until, seen
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    seen += os.read(terminal, 4096)
                except OSError:  # the other end is closed
                    assert pattern is END, seen
                    return

    try:
        wait_for(rb">>> ")
        os.write(terminal, b"What is 12 + 30?\r")
        wait_for(rb"= 42.*>>> ")
        os.write(terminal, b"\x04")
        wait_for(END)
        _, status = os.waitpid(child, 0)
        child = None
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == OK
