"""Kills `troupe pull` at random moments, again and again, and counts what is fetched twice.

usage: python3 tests/bench/pull_kills.py path/to/troupe [--kills 200] [--mib 1024] [--seed 1]
The server sends at the pace of a network, some 100 MB/s over each connection, so that little lies
in buffers. After every kill the same command goes on; a model that is complete is compared with what was
served, removed, and pulled anew until there were enough kills. Bytes count as sent when the server
has handed them to its kernel, so what was on its way to a killed process counts as well.
"""

import argparse
import hashlib
import pathlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from pull_support import Command, model_files, serve_model  # noqa: E402
from web_servers import Server  # noqa: E402

PATH = "/big/model.safetensors"


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Soak:
    def __init__(self, troupe, files, dice):
        self.troupe, self.dice = troupe, dice
        self.web = Server()
        self.web.pause = 0.0005  # after every 64 KiB
        self.url = serve_model(self.web, files, "big")
        self.web.etag = lambda path: f'"{len(self.web.files[path])}"'  # instead of hashing each time
        self.size = len(files["model.safetensors"])
        self.digest = hashlib.sha256(files["model.safetensors"]).hexdigest()

    def sent(self):
        return self.web.sent.get(PATH, 0)

    def kill_one(self):
        """Starts a pull and kills it once some more has come; False if it was done before that."""
        until = self.sent() + self.size * self.dice.uniform(0.0, 0.15)
        process = self.troupe.start("pull", self.url)
        while process.poll() is None and self.sent() < until:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def one_model(self, kills_left):
        """Pulls one model to its end; gives the number of kills and the bytes sent twice."""
        self.web.sent.clear()
        kills = 0
        while kills < kills_left and self.kill_one():
            kills += 1
        done = self.troupe("pull", self.url)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        model = self.troupe.store / "big"
        if sha256(model / "model.safetensors") != self.digest:
            raise SystemExit("what was pulled is not what was served")
        shutil.rmtree(model)
        return kills, self.sent() - self.size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("troupe", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="troupe-pull-kills-"))
    try:
        troupe = Command(given.troupe.resolve(), scratch)
        soak = Soak(troupe, model_files(given.mib << 20), random.Random(given.seed))
        kills, models, shares = 0, 0, []
        while kills < given.kills:
            some, again = soak.one_model(given.kills - kills)
            kills, models = kills + some, models + 1
            if some:
                shares.append(100 * again / some / soak.size)
        print(f"{kills} kills (seed {given.seed}), {models} models of {given.mib} MiB, all right")
        print(
            f"fetched twice for each kill: median {statistics.median(shares):.2f}%, "
            f"most {max(shares):.2f}% of the model"
        )
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
