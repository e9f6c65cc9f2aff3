"""HTTPS: official client and curl, certificates that change under load, and what is no TLS or no good certificate."""

import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading

import pytest
from conftest import Server
from http_asking import until

CONFIG = "tls: {cert_file: cert.pem, key_file: key.pem}\n"
STORY = {"model": "stories-llama", "prompt": "Once", "max_tokens": 8, "ignore_eos": True}


class Authority:
    """A CA of its own, and certificates for this machine."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.file = self.folder / "ca.pem"
        self.openssl(
            *"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca".split(),
            *["-keyout", self.folder / "ca.key", "-out", self.file],
        )

    @staticmethod
    def openssl(*words):
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def issue(self, folder, serial, days=2):
        """cert.pem and key.pem in `folder`, each at once; negative days: expired."""
        new_key, request, new_cert = (folder / name for name in ("key.new", "request", "cert.new"))
        self.openssl(
            *"req -newkey rsa:2048 -nodes -subj /CN=localhost".split(),
            *["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            *["-keyout", new_key, "-out", request],
        )
        self.openssl(
            *["x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key"],
            *["-copy_extensions", "copy", "-set_serial", str(serial), "-days", str(days)],
            *["-out", new_cert],
        )
        os.replace(new_key, folder / "key.pem")
        os.replace(new_cert, folder / "cert.pem")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def make_tls_server(request, tmp_path, authority):
    started = []

    def make(config=CONFIG, environment=None, more=()):
        authority.issue(tmp_path, 1)
        server = Server(request.config, tmp_path, config, environment)
        started.append(server)
        server.start(*more)
        server.port = int(server.url.rsplit(":", 1)[1])
        server.url = f"https://127.0.0.1:{server.port}"
        return server

    yield make
    for server in started:
        server.stop()


def trusting(authority):
    return ssl.create_default_context(cafile=authority.file)


def connect(server, authority):
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.port, timeout=60, context=trusting(authority)
    )
    connection.connect()
    return connection


def serial_of(connection):
    return int(connection.sock.getpeercert()["serialNumber"], 16)


def tell_story(connection):
    connection.request(
        "POST", "/v1/completions", json.dumps(STORY), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    return answer.status, json.load(answer)


def test_the_official_client_and_curl_speak_to_it(make_tls_server, authority):
    import httpx
    import openai

    server = make_tls_server()
    assert "https://127.0.0.1" in server.log.read_text()
    with httpx.Client(verify=trusting(authority)) as transport:
        client = openai.OpenAI(
            base_url=server.url + "/v1", api_key="none", max_retries=0, http_client=transport
        )
        words = dict(model="stories-llama", prompt="Once", max_tokens=8, temperature=0)
        whole = client.completions.create(**words)
        parts = client.completions.create(**words, stream=True)
        assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url + "/health")
    told = subprocess.run(
        ["curl", "-sSN", "--cacert", authority.file, "-w", "%{http_version} %{num_connects}"]
        + ["-H", "Content-Type: application/json", "-d", json.dumps(STORY | {"stream": True})]
        + [server.url + "/v1/completions", "--next", "-sS", "--cacert", authority.file]
        + ["-w", " %{num_connects}", server.url + "/health"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert "data: [DONE]\n\n1.1 1" in told.stdout and told.stdout.endswith(" 0"), "kept alive"


def test_large_bodies_and_requests_sent_ahead(make_tls_server, authority):
    server = make_tls_server()
    connection = connect(server, authority)
    text = "ab " * 300_000
    body = json.dumps({"model": "stories-llama", "prompt": text})
    connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    assert answer["count"] > 300_000 and len(answer["tokens"]) == answer["count"]
    ahead = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5
    connection.sock.sendall(ahead)
    got = b""
    while got.count(b'"status":"ok"') < 5:
        more = connection.sock.recv(65536)
        assert more
        got += more


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions_and_protocols(make_tls_server, authority):
    server = make_tls_server()
    for version, accepted in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = trusting(authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        if not accepted:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(raw, server_hostname="127.0.0.1")
            continue
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as spoken:
            assert spoken.selected_alpn_protocol() == "http/1.1"


def test_what_is_no_tls_ends_soon_and_clearly(make_tls_server, authority):
    server = make_tls_server(CONFIG + "limits: {read_timeout: 1s}\n")
    plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    plain.request("GET", "/v1/models")
    answer = plain.getresponse()
    error = json.load(answer)["error"]
    assert answer.status == 400 and error["code"] == "wants_tls" and "https://" in error["message"]
    for sent in (b"\x00" * 100, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05\x01\x00", b""):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
            raw.sendall(sent)
            while raw.recv(4096):
                pass  # an alert at most, then the end: also where nothing more is ever sent
    # Ended without a word, in the middle of a request and between two.
    for sent in (b"", b"POST /v1/completions HTTP/1.1\r\nContent-Le"):
        connection = connect(server, authority)
        connection.sock.sendall(sent)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
    connection = connect(server, authority)
    connection.sock.sendall(b"NONSENSE\r\n\r\n")
    assert connection.sock.recv(4096).startswith(b"HTTP/1.1 400 ")
    connection = connect(server, authority)
    assert tell_story(connection)[0] == 200


def test_a_renewed_certificate_is_taken_under_load(make_tls_server, authority):
    server = make_tls_server()
    old = connect(server, authority)
    assert serial_of(old) == 1 and tell_story(old)[0] == 200
    stop, failures, served = threading.Event(), [], [0]

    def client():
        while not stop.is_set():
            try:
                connection = connect(server, authority)
                assert tell_story(connection)[0] == 200
                connection.close()
                served[0] += 1
            except Exception as why:
                failures.append(why)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for one in clients:
        one.start()
    try:
        for serial in range(2, 5):
            authority.issue(server.scratch, serial)
            if serial % 2:
                server.process.send_signal(signal.SIGHUP)
            until(lambda: serial_of(connect(server, authority)) == serial)
            old.request("GET", "/health")
            assert old.getresponse().read() and serial_of(old) == 1, "what is open stays open"
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert not failures and served[0] > 0
    # A key of another certificate: told, and what was good before goes on.
    (server.scratch / "key.pem").write_bytes((authority.folder / "ca.key").read_bytes())
    until(lambda: "is not that of the certificate" in server.log.read_text())
    assert serial_of(connect(server, authority)) == 4


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda folder, ca: (folder / "cert.pem").unlink(), "cert.pem: No such file"),
        (lambda folder, ca: (folder / "key.pem").write_text(""), "key.pem: the file is empty"),
        (lambda folder, ca: (folder / "cert.pem").write_text("x"), "cert.pem holds no certificate"),
        (lambda folder, ca: (folder / "key.pem").write_text("x"), "key.pem holds no private key"),
        (
            lambda folder, ca: (folder / "key.pem").write_bytes(
                (ca.folder / "ca.key").read_bytes()
            ),
            "is not that of the certificate",
        ),
        (
            lambda folder, ca: ca.openssl(
                *["pkey", "-in", ca.folder / "ca.key", "-aes128", "-passout", "pass:x"],
                *["-out", folder / "key.pem"],
            ),
            "has a passphrase",
        ),
    ],
)
def test_files_that_cannot_be_used_are_told(request, tmp_path, authority, damage, told):
    authority.issue(tmp_path, 1)
    damage(tmp_path, authority)
    (tmp_path / "troupe.yaml").write_text(CONFIG)
    done = subprocess.run(
        [request.config.getoption("--binary"), "serve", "--config", tmp_path / "troupe.yaml"]
        + ["--port", "0", "--no-hub-cache", request.config.getoption("--models")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and told in done.stderr, done.stderr


def test_an_expired_certificate_is_a_warning(make_tls_server, authority, tmp_path):
    server = make_tls_server()
    server.stop()
    authority.issue(tmp_path, 9, days=-1)
    server.start()
    assert "expired at" in server.log.read_text()


def test_admin_has_a_certificate_of_its_own_and_commands_trust_it(
    make_tls_server, authority, tmp_path
):
    server = make_tls_server(
        "admin_listen: 127.0.0.1:0\nadmin_tls: {cert_file: cert.pem, key_file: key.pem}\n",
        more=["--admin-port-file", tmp_path / "admin-port"],
    )
    port = (tmp_path / "admin-port").read_text().strip()
    server.environment |= {
        "CURL_CA_BUNDLE": str(authority.file),  # SSL_CERT_FILE does as well, where this is not set
        "TROUPE_ADMIN_URL": f"https://localhost:{port}",
    }
    assert "stories-llama" in server.troupe("models")
    (tmp_path / "other").mkdir()
    server.environment["CURL_CA_BUNDLE"] = str(Authority(tmp_path / "other").file)
    code, _, errors = server.troupe("models", check=False)
    assert code == 3 and "certificate" in errors.lower()
    plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    plain.request("GET", "/health")
    assert plain.getresponse().status == 200


def test_half_a_configuration_is_refused(request, tmp_path):
    for text, told in {
        "tls: {cert_file: a.pem}\n": "takes both cert_file and key_file",
        "admin_tls: {cert_file: a.pem, key_file: b.pem}\n": "is for admin_listen",
    }.items():
        server = Server(request.config, tmp_path, text)
        server.url = ""
        code, _, errors = server.troupe("config", "check", server.file, check=False)
        assert code == 2 and told in errors
