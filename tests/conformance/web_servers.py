"""Servers for the tests of downloads: files over HTTP that misbehave on demand, and a hub.

Both count the bytes that they send, so that a test can say what was fetched twice.
"""

import hashlib
import http.server
import json
import re
import socket
import ssl
import threading
import time
import urllib.parse


def git_blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server:
    """Serves `files` (path -> bytes). `faults` is a list of functions (handler, path, range) that
    may answer themselves and return True; each test appends its own."""

    def __init__(self, certificate=None):
        self.files = {}
        self.faults = []
        self.sent = {}  # path -> bytes of bodies
        self.requests = []  # (method, path, headers)
        self.lock = threading.Lock()
        self.ranges = True
        self.etags = True
        self.pause = 0.0  # between pieces of a body
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.answer(self)

            do_HEAD = do_GET

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):  # clients that hang up are what these tests are about
                pass

        self.http = Threads(("127.0.0.1", 0), Handler)
        if certificate:  # a file with the key in it as well
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def etag(self, path):
        return '"' + hashlib.md5(self.files[path]).hexdigest() + '"'

    def answer(self, handler):
        path = urllib.parse.unquote(handler.path.split("?")[0])
        with self.lock:
            self.requests.append((handler.command, handler.path, dict(handler.headers)))
        wanted = None
        if self.ranges and (given := handler.headers.get("Range")):
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", given).groups()
            wanted = (int(first), int(last) if last else None)
        for fault in list(self.faults):
            if fault(handler, path, wanted):
                return
        self.serve(handler, path, wanted)

    def serve(self, handler, path, wanted):
        if path not in self.files:
            return self.refuse(handler, 404)
        self.send_file(handler, path, self.files[path], wanted)

    def refuse(self, handler, status, **fields):
        handler.send_response(status)
        for name, value in fields.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    def send_file(self, handler, path, data, wanted, extra=()):
        etag = self.etag(path) if self.etags and path in self.files else None
        condition = handler.headers.get("If-Range")
        if condition and condition != etag:
            wanted = None
        if wanted:
            first, last = wanted[0], min(wanted[1] or len(data), len(data) - 1)
            if first >= len(data):
                return self.refuse(handler, 416, Content_Range=f"bytes */{len(data)}")
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            body = data[first : last + 1]
        else:
            handler.send_response(200)
            body = data
        if self.ranges:
            handler.send_header("Accept-Ranges", "bytes")
        if etag:
            handler.send_header("ETag", etag)
        for name, value in extra:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            self.send_body(handler, path, body)
        return True

    def send_body(self, handler, path, body):
        step = 1 << 16 if self.pause else 1 << 20
        for at in range(0, len(body), step):
            piece = memoryview(body)[at : at + step]
            handler.wfile.write(piece)
            with self.lock:
                self.sent[path] = self.sent.get(path, 0) + len(piece)
            if self.pause:
                time.sleep(self.pause)

    # Faults.

    def once(self, matches, act):
        """Applies `act(handler, path, range)` to the first request that `matches` accepts."""
        used = threading.Lock()

        def fault(handler, path, wanted):
            if matches(handler, path, wanted) and used.acquire(blocking=False):
                return act(handler, path, wanted)
            return False

        self.faults.append(fault)

    def cut(self, handler, path, wanted, after=1 << 18):
        """Promises the whole, sends the beginning, and hangs up."""
        data = self.files[path]
        first, last = (wanted[0], wanted[1]) if wanted else (0, len(data) - 1)
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.send_header("ETag", self.etag(path))
        handler.send_header("Content-Length", str(last - first + 1))
        handler.end_headers()
        self.send_body(handler, path, data[first : first + after])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True


def is_get(handler):
    return handler.command == "GET"


class Hub(Server):
    """A hub: /api/models/NAME/revision/REVISION and /NAME/resolve/REVISION/FILE; weights are in
    LFS and come by a redirect to a second server, as from the storage of a real one."""

    def __init__(self, name="acme/tiny", token=None, lists_blobs=True):
        super().__init__()
        self.name, self.token, self.lists_blobs = name, token, lists_blobs
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.repository = {}
        self.storage = Server()
        self.seen_by_storage = self.storage.requests

    def close(self):
        self.storage.close()
        super().close()

    def add(self, files):
        self.repository.update(files)
        for path, data in files.items():
            if self.is_lfs(path):
                self.storage.files["/" + hashlib.sha256(data).hexdigest()] = data

    def lfs_digest(self, data):
        return hashlib.sha256(data).hexdigest()

    @staticmethod
    def is_lfs(path):
        return path.endswith(".safetensors")

    def sibling(self, path, data):
        out = {"rfilename": path}
        if not self.lists_blobs:
            return out
        out |= {"size": len(data), "blobId": git_blob_id(data)}
        if self.is_lfs(path):
            digest = hashlib.sha256(data).hexdigest()
            out["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
        return out

    def serve(self, handler, path, wanted):
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return self.refuse(handler, 401, X_Error_Code="GatedRepo")
        if match := re.fullmatch(rf"/api/models/{self.name}(?:/revision/(.+))?", path):
            return self.info(handler, match.group(1) or "main")
        if re.fullmatch(rf"/api/models/{self.name}/tree/{self.commit}", path):
            return self.send_json(handler, [self.tree_entry(*x) for x in self.repository.items()])
        match = re.fullmatch(rf"/{self.name}/resolve/([^/]+)/(.+)", path)
        if not match:
            return self.refuse(handler, 404, X_Error_Code="RepoNotFound")
        if match.group(1) not in (self.commit, "main"):
            return self.refuse(handler, 404, X_Error_Code="RevisionNotFound")
        if match.group(2) not in self.repository:
            return self.refuse(handler, 404, X_Error_Code="EntryNotFound")
        return self.resolve(handler, match.group(2), wanted)

    def info(self, handler, revision):
        if revision not in (self.commit, "main", "v1"):
            return self.refuse(handler, 404, X_Error_Code="RevisionNotFound")
        siblings = [self.sibling(p, d) for p, d in self.repository.items()]
        return self.send_json(handler, {"id": self.name, "sha": self.commit, "siblings": siblings})

    def tree_entry(self, path, data):
        out = {"type": "file", "path": path, "size": len(data), "oid": git_blob_id(data)}
        if self.is_lfs(path):
            out["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
            out["lfs"]["pointerSize"] = 134
        return out

    def send_json(self, handler, what):
        body = json.dumps(what).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    def resolve(self, handler, path, wanted):
        data = self.repository[path]
        fields = [("X-Repo-Commit", self.commit)]
        if not self.is_lfs(path):
            fields.append(("ETag", f'"{git_blob_id(data)}"'))
            return self.send_file(handler, path, data, wanted, fields)
        digest = self.lfs_digest(data)
        fields += [("X-Linked-Etag", f'"{digest}"'), ("X-Linked-Size", str(len(data)))]
        fields += [("Location", f"{self.storage.url}/{digest}"), ("Content-Length", "0")]
        handler.send_response(302)
        for name, value in fields:
            handler.send_header(name, value)
        handler.end_headers()
        return True
