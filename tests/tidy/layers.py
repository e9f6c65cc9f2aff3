#!/usr/bin/env python3
"""Checks the shape of the tree: include arrows, banned calls, sizes, README files, local paths.

usage: tests/tidy/layers.py [ROOT]     check the tree at ROOT (default: the one around this file)
       tests/tidy/layers.py --self-test

Standard library only. Prints `file:line: what` and exits 1 if anything is wrong. The rules are tables
below; a rule that no snippet of the self-test breaks is itself an error.
"""

import os
import re
import subprocess
import sys

FOLDERS = (
    "base",
    "schemas",
    "policies",
    "storage",
    "gpu",
    "engine",
    "config",
    "actors",
    "gateway",
    "cli",
)

# What a folder's files may include of the others, besides itself and base/.
MAY_INCLUDE = {
    "base": set(),
    "schemas": set(),
    "policies": set(),
    "config": set(),
    "gpu": set(),
    "storage": {"schemas"},
    "engine": {"gpu", "policies"},
    "actors": {
        "engine",
        "storage",
        "policies",
        "schemas",
        "gpu",
    },  # gpu: workers create the devices
    # Text in, tokens out, but never a step: what tokenizing and rendering need.
    "gateway": {
        "actors",
        "engine/engine.hpp",
        "engine/errors.hpp",
        "engine/frontend/",
        "engine/tokenizer/",
        "engine/chat_template/",
    },
    "cli": set(FOLDERS),
}
# Conversions between schemas and the domain types they carry live with the schemas.
CAF_ERRORS = {"caf/error.hpp", "caf/expected.hpp"}
# base/error.* is the one door to CAF's errors: it needs what they are made of.
CAF_IN_BASE_ERROR = CAF_ERRORS | {"caf/make_message.hpp", "caf/atom.hpp", "caf/message.hpp"}
CAF_LIMITED = ("base", "gpu", "storage", "engine", "config", "gateway")

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

# (name, pattern, folders it holds in or None for everywhere, folders it does not hold in, why)
BANNED = (
    ("rand", r"\b(std::)?s?rand\s*\(", None, (), "use a seeded std::mt19937_64 that is passed in"),
    ("system", r"(?<![\w.>])(std::)?system\s*\(", None, (), "start no shell"),
    (
        "sleep",
        r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\(|(?<![\w.>:])sleep\s*\(",
        ("actors", "policies", "gateway", "engine"),
        (),
        "a scheduler thread never blocks: delayed_send, or an event",
    ),
    ("infinite", r"\bcaf::infinite\b", None, ("tests",), "give every request a finite timeout"),
    (
        "scoped_actor",
        r"\bscoped_actor\b",
        None,
        ("tests",),
        "it blocks a thread: use an actor or a callback",
    ),
    (
        "using namespace",
        r"\busing\s+namespace\s+(caf|std)\s*;",
        None,
        (),
        "write the namespace out",
    ),
    (
        "clock in policies",
        r"\b(steady_clock|system_clock)::now\s*\(",
        ("policies",),
        (),
        "time is an argument",
    ),
    (
        "thread in policies",
        r"\bstd::(jthread|thread|mutex|async)\b",
        ("policies",),
        (),
        "a policy is arithmetic",
    ),
    ("march native", r"-march=native", None, (), "the binary runs on any x86-64-v2 machine"),
)
LOCAL_PATHS = re.compile(r"(?<![\w.])/(work|home|root|tmp/w|Users)/\w")
SOURCES = (".cpp", ".hpp", ".cu", ".cuh")
WRITTEN = SOURCES + (".py", ".sh", ".cmake", ".capnp")  # by hand, so the limit on lines holds
TEXTS = SOURCES + (".py", ".sh", ".txt", ".cmake", ".md", ".yaml", ".yml", ".json", ".capnp")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


CODE_NOISE = re.compile(
    r'R"(?P<d>[^()\s\\]{0,16})\(.*?\)(?P=d)"'  # raw strings
    r'|"(?:\\.|[^"\\\n])*"'  # strings
    r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'"  # characters, not digit separators
    r"|//[^\n]*|/\*.*?\*/",
    re.S,
)


def code_only(text):
    """The text with comments and literals blanked out, line structure kept."""
    return CODE_NOISE.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def folder_of(path):
    return path.split("/", 1)[0]


def include_allowed(folder, included):
    target = folder_of(included)
    if target == folder or target == "base":
        return True
    return any(
        included.startswith(rule) if "/" in rule else rule == target for rule in MAY_INCLUDE[folder]
    )


def check_includes(path, text):
    folder = folder_of(path)
    if folder not in MAY_INCLUDE:
        return
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.M):
        line, quoted, included = line_of(text, match.start()), match.group(1) == '"', match.group(2)
        target = folder_of(included)
        if included.startswith("caf/"):
            yield from check_caf(path, folder, line, included)
        elif folder == "policies" and not quoted and not re.fullmatch(r"[a-z0-9_]+", included):
            yield line, f"policies/ includes the standard library and base/ alone, not <{included}>"
        elif target in FOLDERS and "/" in included and not include_allowed(folder, included):
            yield line, f"{folder}/ must not include {included}: arrows point down only"
        elif quoted and "/" not in included:
            yield line, f'write "{included}" from the project root'
        elif quoted and included.startswith("."):
            yield line, f'write "{included}" from the project root'


def check_caf(path, folder, line, included):
    if folder == "policies":
        yield line, f"policies/ must not include CAF ({included})"
    elif folder in CAF_LIMITED:
        allowed = CAF_IN_BASE_ERROR if path.startswith("base/error.") else CAF_ERRORS
        if included not in allowed:
            yield (
                line,
                f"{folder}/ may include only caf/error.hpp and caf/expected.hpp of CAF, not {included}",
            )
    if path.endswith((".cu", ".cuh")):
        yield line, "CUDA files must not include CAF"


def check_banned(path, code, raw):
    folder = folder_of(path)
    for name, pattern, only, never, why in BANNED:
        if (only and folder not in only) or folder in never:
            continue
        where = raw if name == "march native" else code
        for match in re.finditer(pattern, where):
            yield line_of(where, match.start()), f"{match.group(0).strip()} is banned: {why}"


def functions(code):
    """(line, length) of every brace block that is a function body."""
    code = re.sub(
        r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", blank, code, flags=re.M
    )  # macros have braces of their own
    stack = []
    for match in re.finditer(r"[{}]", code):
        if match.group(0) == "{":
            head = re.split(r"[;{}]", code[max(0, match.start() - 400) : match.start()])[-1]
            stack.append((match.start(), is_function(head)))
        elif stack:
            start, function = stack.pop()
            if function:
                first = line_of(code, start)
                yield first, line_of(code, match.start()) - first + 1


def is_function(head):
    head = head.strip()
    if not re.search(r"\)[\s\w:&<>,*\->()]*$", head) and not re.search(r"\][\s]*(mutable)?$", head):
        return False
    return not re.match(r"(if|for|while|switch|catch|else|do|return)\b", head) and not re.search(
        r"\b(namespace|class|struct|enum|union)\b[^()]*$", head
    )


def check_length(text):
    lines = len(text.splitlines())
    if lines > FILE_LINES_MAX:
        yield lines, f"{lines} lines: split files at {FILE_LINES_MAX}"


def check_sizes(text, code):
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns: at most {COLUMNS_MAX}"
    for number, length in functions(code):
        # Tests of one table may be long; helper functions in them may not hide behind that.
        if length > FUNCTION_LINES_MAX:
            yield number, f"a function of {length} lines: at most {FUNCTION_LINES_MAX}"


def check_file(path, text):
    """Yields (line, what) for one file, by its path from the root."""
    if path != "tests/tidy/layers.py":
        for match in LOCAL_PATHS.finditer(text):
            if not path.startswith("tests/"):  # tests use made-up absolute paths as data
                yield line_of(text, match.start()), f"a local path: {match.group(0)}..."
    if path.endswith(WRITTEN):
        yield from check_length(text)
    if not path.endswith(SOURCES):
        return
    code = code_only(text)
    if path.endswith((".hpp", ".cuh")) and not re.match(r"(?:\s|//[^\n]*\n)*#pragma once", text):
        yield 1, "a header begins with #pragma once"
    yield from check_includes(path, text)
    yield from check_banned(path, code, text)
    yield from check_sizes(text, code)


def tracked_files(root):
    """Files of the project: what git tracks or would, else everything outside build/ and dist/."""
    try:
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        return sorted(path for path in listed if os.path.exists(os.path.join(root, path)))
    except (OSError, subprocess.CalledProcessError):
        found = []
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if name not in ("build", "dist", ".git")]
            found += [os.path.relpath(os.path.join(folder, name), root) for name in files]
        return sorted(found)


def check_tree(root):
    problems = []
    files = tracked_files(root)
    for folder in FOLDERS + ("examples",):
        if (
            any(path.startswith(folder + "/") for path in files)
            and folder + "/README.md" not in files
        ):
            problems.append(f"{folder}/: has no README.md")
    for path in files:
        if not path.endswith(TEXTS) and path != "dev":
            continue
        try:
            with open(os.path.join(root, path), encoding="utf-8") as handle:
                text = handle.read()
        except UnicodeDecodeError:
            if path.endswith(SOURCES):
                problems.append(f"{path}:1: is not UTF-8")
            continue
        if (
            path.startswith(("tests/golden/", "tests/fuzz/corpus/", "examples/models/"))
            or "/golden" in path
        ):
            continue  # data made by others' tools
        problems += [f"{path}:{line}: {what}" for line, what in check_file(path, text)]
    return problems


# (path, text, part of the expected complaint, or None when the snippet is fine)
SNIPPETS = (
    ("policies/a.hpp", '#pragma once\n#include "base/ids.hpp"\n#include <vector>\n', None),
    ("policies/a.cpp", '#include "engine/engine.hpp"\n', "policies/ must not include"),
    ("policies/a.cpp", "#include <caf/error.hpp>\n", "must not include CAF"),
    ("policies/a.cpp", "#include <sys/mman.h>\n", "standard library and base/ alone"),
    ("policies/a.cpp", "auto now = std::chrono::steady_clock::now();\n", "time is an argument"),
    ("policies/a.cpp", "std::mutex lock;\n", "a policy is arithmetic"),
    ("engine/a.cpp", '#include "storage/catalog.hpp"\n', "engine/ must not include storage/"),
    ("engine/a.cpp", '#include "gpu/device.hpp"\n#include "policies/x.hpp"\n', None),
    ("engine/a.cpp", "#include <caf/all.hpp>\n", "only caf/error.hpp"),
    ("storage/a.cpp", '#include "engine/engine.hpp"\n', "storage/ must not include engine/"),
    ("gpu/a.cpp", '#include "policies/x.hpp"\n', "gpu/ must not include"),
    ("gpu/a.cu", "#include <caf/error.hpp>\n", "CUDA files"),
    ("config/a.cpp", '#include "actors/node.hpp"\n', "config/ must not include"),
    ("gateway/a.cpp", '#include "storage/catalog.hpp"\n', "gateway/ must not include storage/"),
    (
        "gateway/a.cpp",
        '#include "engine/frontend/frontend.hpp"\n#include "actors/services.hpp"\n',
        None,
    ),
    ("gateway/a.cpp", '#include "engine/kv/kv_arena.hpp"\n', "gateway/ must not include engine/kv"),
    ("gateway/a.cpp", "#include <caf/scheduled_actor.hpp>\n", "only caf/error.hpp"),
    ("actors/a.cpp", '#include "gateway/server.hpp"\n', "actors/ must not include gateway/"),
    ("cli/a.cpp", '#include "gateway/server.hpp"\n#include "config/keys.hpp"\n', None),
    ("cli/a.cpp", '#include "keys.hpp"\n', "from the project root"),
    ("cli/a.cpp", '#include "../config/keys.hpp"\n', "from the project root"),
    ("base/a.hpp", "int x;\n", "#pragma once"),
    ("base/a.hpp", "// A comment first.\n#pragma once\n", None),
    ("base/a.cpp", "int x = std::rand();\n", "is banned: use a seeded"),
    ("base/a.cpp", "int x = operand(1);\n", None),
    ("base/a.cpp", 'int x = system("ls");\n', "start no shell"),
    ("base/a.cpp", "auto& s = self->system();\nauto& t = self.system();\n", None),
    ("actors/a.cpp", "std::this_thread::sleep_for(1s);\n", "never blocks"),
    ("actors/a.cpp", '// sleep_for(1s) would block\nconst char* x = "sleep_for(1)";\n', None),
    ("tests/a.cpp", "self->request(x, caf::infinite, y);\ncaf::scoped_actor self{sys};\n", None),
    ("actors/a.cpp", "self->request(x, caf::infinite, y);\n", "finite timeout"),
    ("cli/a.cpp", "caf::scoped_actor self{sys};\n", "blocks a thread"),
    ("cli/a.cpp", "using namespace std;\n", "write the namespace out"),
    ("cli/a.cpp", "using namespace std::chrono_literals;\n", None),
    ("cmake/a.cpp", "// -march=native\n", "x86-64-v2"),
    ("base/a.cpp", "\n" * 501, "split files at 500"),
    ("tools/a.py", "x = 1\n" * 501, "split files at 500"),
    ("tools/a.py", "x = 1\n" * 500, None),
    ("docs/a.json", "1\n" * 501, None),
    ("base/a.cpp", "int x;" + " " * 100 + "\n", "columns"),
    ("base/a.cpp", "void f() {\n" + "  g();\n" * 68 + "}\n", None),
    ("base/a.cpp", "void f() {\n" + "  g();\n" * 69 + "}\n", "a function of 71 lines"),
    (
        "base/a.cpp",
        "int c::f(int a) const noexcept {\n" + "  if (a) {\n  }\n" * 35 + "}\n",
        "a function of 72 lines",
    ),
    ("base/a.cpp", "auto f = [&](int x) {\n" + "  g();\n" * 80 + "};\n", "a function of 82 lines"),
    ("base/a.cpp", "struct x {\n" + "  int f();\n" * 100 + "};\n", None),
    ("base/a.cpp", "constexpr int table[] = {\n" + "  f(1),\n" * 100 + "};\n", None),
    ("base/a.cpp", "namespace x {\n" + "int y;\n" * 100 + "}\n", None),
    (
        "base/a.cpp",
        "const char brace = '{';\nint million = 1'000'000;\nvoid f() {\n}\n" + "int y;\n" * 90,
        None,
    ),
    ("docs/a.md", "See /" + "work/main for it.\n", "a local path"),
    ("docs/a.md", "See https://example.org/home/x.\n", None),
    ("tools/a.py", 'open("/' + 'home/me/x")\n', "a local path"),
)


def self_test():
    failures, broken = [], set()
    for path, text, expected in SNIPPETS:
        found = [what for _, what in check_file(path, text)]
        broken |= {rule[0] for rule in BANNED for what in found if rule[4] in what}
        fine = not found if expected is None else any(expected in what for what in found)
        if not fine:
            failures.append(f"{path} {text[:60]!r}: expected {expected!r}, found {found}")
    failures += [
        f"no snippet breaks the rule '{rule[0]}'" for rule in BANNED if rule[0] not in broken
    ]
    return failures


def main(arguments):
    if arguments == ["--self-test"]:
        problems = self_test()
    else:
        here = os.path.dirname(os.path.abspath(__file__))
        problems = check_tree(arguments[0] if arguments else os.path.dirname(os.path.dirname(here)))
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems" if problems else "the tree is tidy", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
