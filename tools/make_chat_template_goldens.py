#!/usr/bin/env python3
"""Writes what Python's jinja2, set up by transformers, makes of every template and snippet.

    pip install transformers jinja2
    python3 tools/make_chat_template_goldens.py [--snippets 1500] [--seed 1]

Reads tests/golden/chat_templates/*.jinja and conversations.json and writes, beside them,
expected/<template>.json (one result per conversation) and snippets.json (random little templates,
see chat_template_snippets.py). A result is the text, {"raised": text} where the template called
raise_exception, or null for every other error. The clock stands still at NOW, in UTC.
"""

import argparse
import copy
import datetime
import json
import pathlib
import re
import signal
import warnings

import jinja2
from transformers.utils.chat_template_utils import (
    _cached_compile_jinja_template as compile_template,
)

from chat_template_snippets import generate
from chat_template_words import CONTEXT

HERE = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/chat_templates"
NOW = datetime.datetime.fromtimestamp(1722470400, datetime.timezone.utc)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
# Texts that name an address or a type of CPython, sets, and integers beyond 64 bits.
NOT_COMPARABLE = re.compile(
    r"0x[0-9a-f]{6,}|<generator|<built-in|<function|object at|<Macro|<bound|<LoopContext|<class|<method|<Namespace|\d{19,}",
    re.I,
)


class Raised(jinja2.exceptions.TemplateError):
    pass


def render(source, context):
    def raise_exception(message):
        raise Raised(str(message))

    extra = {"strftime_now": NOW.strftime, "raise_exception": raise_exception}
    try:
        return compile_template(source).render(**copy.deepcopy(context), **extra)
    except Raised as error:
        return {"raised": error.message}
    except TimeoutError:
        raise
    except Exception:
        return None


def write_templates():
    conversations = json.loads((HERE / "conversations.json").read_text())
    (HERE / "expected").mkdir(exist_ok=True)
    for path in sorted(HERE.glob("*.jinja")):
        source = path.read_text()
        results = {}
        for index, (name, conversation) in enumerate(conversations.items()):
            # Both ways for the common shapes, one way for the others.
            ways = [False, True] if conversation.get("both") else [index % 2 == 0]
            for add in ways:
                context = {
                    "tools": None,
                    "documents": None,
                    **TOKENS,
                    **conversation["variables"],
                    "add_generation_prompt": add,
                }
                results[name + ("+prompt" if add else "")] = render(source, context)
        text = json.dumps(results, ensure_ascii=False, indent=0)
        (HERE / "expected" / (path.stem + ".json")).write_text(text + "\n")
        good = sum(isinstance(x, str) for x in results.values())
        print(f"{path.stem}: {good} of {len(results)} rendered")


def on_alarm(*_):
    raise TimeoutError


def write_snippets(wanted, seed):
    signal.signal(signal.SIGALRM, on_alarm)
    rows, seen, errors = [], set(), 0
    for source in generate(seed):
        if len(rows) == wanted:
            break
        if source in seen or len(source) > 160:
            continue
        seen.add(source)
        signal.setitimer(signal.ITIMER_REAL, 2)
        try:
            result = render(source, CONTEXT)
        except TimeoutError:
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(result, str) and (len(result) > 200 or NOT_COMPARABLE.search(result)):
            continue
        if result is None:
            if errors * 5 > len(rows) + 5:
                continue
            errors += 1
        rows.append([source, result])
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    head = json.dumps(CONTEXT, ensure_ascii=False)
    (HERE / "snippets.json").write_text('{"context": %s,\n"cases": [\n%s\n]}\n' % (head, body))
    print(f"snippets: {len(rows)}, {errors} of them errors")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--snippets", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # jinja2 compiles to Python, which warns of things like 1()
    write_templates()
    write_snippets(arguments.snippets, arguments.seed)


if __name__ == "__main__":
    main()
