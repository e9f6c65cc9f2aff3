"""The expressions inside the random templates of chat_template_snippets.py."""

import random

from chat_template_words import (
    BINARY,
    DICTS,
    FILTERS_PLAIN,
    FORMATS,
    LIST_TO_ANY,
    LIST_TO_LIST,
    LISTS,
    MESSAGES,
    METHODS,
    NUMBER_TO_NUMBER,
    NUMBERS,
    OTHERS,
    STRINGS,
    TESTS,
    TEXT_TO_LIST,
    TEXT_TO_NUMBER,
    TEXT_TO_TEXT,
)


class Expressions:
    """Random expressions over the values of CONTEXT, all drawn from one seed."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def typed(self, kind, depth=0):
        """An expression of one type, so that most of them render."""
        deep = depth < 4 and self.r.random() < 0.75
        sub = lambda k: self.typed(k, depth + 1)
        group = lambda k: "(%s)" % sub(k)
        if kind == "text":
            if not deep:
                return self.pick(STRINGS)
            return self.pick(
                [
                    lambda: group("text") + self.pick(TEXT_TO_TEXT),
                    lambda: group("text") + self.index(False),
                    lambda: "%s + %s" % (sub("text"), sub("text")),
                    lambda: "%s ~ %s" % (group("any"), group("any")),
                    lambda: "%s * %d" % (group("text"), self.r.randint(-1, 3)),
                    lambda: self.pick(FORMATS),
                    lambda: "%s if %s else %s" % (group("text"), sub("truth"), group("text")),
                ]
            )()
        if kind == "number":
            if not deep:
                return self.pick(NUMBERS)
            return self.pick(
                [
                    lambda: group("text") + self.pick(TEXT_TO_NUMBER),
                    lambda: group("number") + self.pick(NUMBER_TO_NUMBER),
                    lambda: group("list") + "|length",
                    lambda: (
                        "%s %s %s"
                        % (
                            group("number"),
                            self.pick(["+", "-", "*", "/", "//", "%"]),
                            group("number"),
                        )
                    ),
                ]
            )()
        if kind == "list":
            if not deep:
                return self.pick(LISTS)
            return self.pick(
                [
                    lambda: group("list") + self.pick(LIST_TO_LIST),
                    lambda: group("text") + self.pick(TEXT_TO_LIST),
                    lambda: group("list") + "|list" + self.index(False),
                    lambda: "[%s, %s]" % (sub("any"), sub("any")),
                    lambda: "%s|list + %s|list" % (group("list"), group("list")),
                ]
            )()
        if kind == "truth":
            return self.pick(
                [
                    lambda: "%s is %s" % (group("any"), self.pick(TESTS[:15])),
                    lambda: (
                        "%s %s %s"
                        % (
                            group("number"),
                            self.pick(["<", ">", "<=", ">=", "==", "!="]),
                            group("number"),
                        )
                    ),
                    lambda: (
                        "%s %s %s"
                        % (
                            group("text"),
                            self.pick(["in", "not in", "<", ">=", "=="]),
                            group("text"),
                        )
                    ),
                    lambda: "not " + group("any"),
                    lambda: (
                        "%s %s %s" % (group("any"), self.pick(["and", "or", "=="]), group("any"))
                    ),
                    lambda: "%s in %s" % (group("any"), group("list")),
                ]
            )()
        return self.pick(
            [
                lambda: sub("text"),
                lambda: sub("number"),
                lambda: sub("list"),
                lambda: sub("truth"),
                lambda: "msgs" + self.pick(MESSAGES),
                lambda: (
                    self.pick(DICTS)
                    + self.pick(
                        ["|tojson", "", "|length", "|list", "|items|list", "|tojson(indent=2)"]
                    )
                ),
                lambda: group("list") + self.pick(LIST_TO_ANY),
                lambda: self.pick(OTHERS),
            ]
        )()

    def pick(self, xs):
        return self.r.choice(xs)

    def atom(self):
        return self.pick(
            self.r.choices([STRINGS, NUMBERS, LISTS, DICTS, OTHERS], [4, 4, 3, 2, 2])[0]
        )

    def index(self, single=True):
        n = lambda: self.pick(["", "0", "1", "2", "-1", "-2", "5", "-9", "n", "neg", "100"])
        kind = self.r.random()
        if single and kind < 0.35:
            return "[%s]" % self.pick(
                ["0", "1", "-1", "-2", "9", "'a'", "'name'", "'b'", "n", "true", "none", "s", "'x'"]
            )
        if kind < 0.7:
            return "[%s:%s]" % (n(), n())
        return "[%s:%s:%s]" % (n(), n(), self.pick(["", "1", "2", "-1", "-2", "0", "-3"]))

    def expr(self, depth=0):
        kind = self.r.random()
        if depth > 2 or kind < 0.16:
            return self.atom()
        sub = lambda: self.expr(depth + 1)
        if kind < 0.36:
            return "%s|%s" % (self.wrap(sub()), self.pick(FILTERS_PLAIN))
        if kind < 0.50:
            return "%s.%s" % (self.wrap(sub()), self.pick(METHODS))
        if kind < 0.60:
            key = self.index()
            # Jinja folds constants, and a folded slice of a number is undefined instead of an error.
            return (
                self.wrap(sub())
                if ":" not in key
                else self.wrap(self.pick(STRINGS + LISTS + ["msgs", "d", "n", "nil"]))
            ) + key
        if kind < 0.75:
            op = self.pick(BINARY)
            if op == "**":
                return "%s ** %s" % (
                    self.pick(["2", "n", "f", "z", "4"]),
                    self.pick(["0", "1", "2", "3", "-1", "n", "b"]),
                )
            return "%s %s %s" % (self.wrap(sub()) if self.r.random() < 0.6 else sub(), op, sub())
        if kind < 0.83:
            return "%s is %s%s" % (
                self.wrap(sub()),
                self.pick(["", "", "not "]),
                self.pick(TESTS).replace("\0", " "),
            )
        if kind < 0.88:
            return "%s if %s%s" % (sub(), sub(), self.pick(["", " else " + sub()]))
        if kind < 0.91:
            return self.pick(["not ", "-", "+", "- -"]) + sub()
        if kind < 0.94:
            return self.pick(
                ["[%s, %s]", "(%s, %s)", "{'p': %s, 'q': %s}", "[%s] + [%s]", "dict(a=%s, b=%s)"]
            ) % (sub(), sub())
        if kind < 0.97:
            return "%s %s %s %s %s" % (
                sub(),
                self.pick(["<", "==", "<=", "in"]),
                sub(),
                self.pick(["<", ">=", "!="]),
                sub(),
            )
        return self.pick(FORMATS)

    def wrap(self, text):
        return (
            text
            if text.replace("_", "a").isalnum() and not text[0].isdigit() and self.r.random() < 0.9
            else "(%s)" % text
        )
