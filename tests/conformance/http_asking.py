"""Plain HTTP requests of the tests of this folder, and waiting for what becomes true."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request


def exchange(url, path, key="", body=None, method=None):
    """(status, headers, JSON or text). `body`: what JSON can hold, or the bytes of YAML."""
    kind = "application/yaml" if isinstance(body, bytes) else "application/json"
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=body, method=method)
    request.add_header("Content-Type", kind)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        answer = urllib.request.urlopen(request, timeout=120)
    except urllib.error.HTTPError as refused:
        answer = refused
    with contextlib.closing(answer):
        text = answer.read().decode()
        return answer.status, answer.headers, json.loads(text) if text.startswith("{") else text


def ask(url, path, key="", body=None, method=None):
    """(status, JSON or text)"""
    status, _, answer = exchange(url, path, key, body, method)
    return status, answer


def until(condition):
    """Asks again and again; a minute at most."""
    alarm = threading.Timer(60, lambda: os.kill(os.getpid(), signal.SIGINT))
    alarm.start()
    try:
        while not condition():
            time.sleep(0.002)
    finally:
        alarm.cancel()
