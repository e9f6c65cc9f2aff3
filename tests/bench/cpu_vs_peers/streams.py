"""A load generator for the completions API: many streams from one thread, every token timed.

Standard library only. Chunks are read off plain sockets by asyncio, so that the generator takes as
little as it can of the cores that the server runs on.
"""

import asyncio
import dataclasses
import json
import time


@dataclasses.dataclass
class Answer:
    prompt: int  # tokens
    sent: float
    arrivals: list = dataclasses.field(default_factory=list)  # of each token
    cached: int = 0  # tokens of the prompt that did not have to be computed

    @property
    def first_token(self):
        return self.arrivals[0] - self.sent

    @property
    def gaps(self):
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:])]


async def ask(port, tokens, output, extra):
    """Streams one completion of a prompt of token ids."""
    body = {
        "model": extra.get("model", "default"),
        "prompt": tokens,
        "max_tokens": output,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "ignore_eos": True,
        **extra,
    }
    text = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    )
    answer = Answer(len(tokens), time.perf_counter())
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"the server answered {status!r}: {(await reader.read())[:1000]!r}")
    try:
        async for line in reader:
            if line.startswith(b"data: {"):
                note(answer, json.loads(line[6:]), time.perf_counter())
    finally:
        writer.close()
    if len(answer.arrivals) < 2:
        raise SystemExit("an answer had fewer than two tokens: is the model a random one?")
    return answer


def note(answer, event, now):
    usage = event.get("usage") or {}
    answer.cached = max(
        answer.cached, (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    )
    choices = event.get("choices") or [{}]
    if choices[0].get("text"):
        answer.arrivals.append(now)


async def closed_loop(port, prompts, output, streams, extra):
    """Answers to all prompts, `streams` of them at a time."""
    waiting = list(reversed(prompts))
    answers = []

    async def work():
        while waiting:
            answers.append(await ask(port, waiting.pop(), output, extra))

    await asyncio.gather(*(work() for _ in range(streams)))
    return answers


def load(port, prompts, output, streams, extra=None):
    """(answers, seconds)"""
    begun = time.perf_counter()
    answers = asyncio.run(closed_loop(port, prompts, output, streams, extra or {}))
    return answers, time.perf_counter() - begun


def share(values, part):
    """The value below which `part` of all lie."""
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]
