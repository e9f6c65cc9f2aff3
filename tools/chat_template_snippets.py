"""Random little templates for comparing the chat template interpreter with Python's jinja2.

Every snippet is rendered with the same CONTEXT. `generate(seed)` yields template sources without end;
they cover literals, operators, slices, filters, tests, methods, statements and white space control,
and a part of them is wrong on purpose.
"""

from chat_template_expressions import Expressions
from chat_template_words import LISTS


class Maker(Expressions):
    """Random templates: statements around random expressions."""

    def mark(self):
        return self.pick(["", "", "", "-", "-", "+"])

    def tag(self, body):
        return "{%%%s %s %s%%}" % (self.mark(), body, self.mark())

    def out(self, expression):
        return "{{%s %s %s}}" % (self.pick(["", "", "-"]), expression, self.pick(["", "", "-"]))

    def text(self):
        return "".join(
            self.pick(
                [
                    "a",
                    "b ",
                    "\n",
                    "  ",
                    "\t",
                    "\n\n",
                    " \n ",
                    "x.",
                    "",
                    "<|x|>",
                    "é",
                    "\r\n",
                    "{",
                    "}",
                    "%}",
                ]
            )
            for _ in range(self.r.randint(0, 4))
        )

    def small(self):
        return self.pick(
            [
                lambda: self.expr(2),
                self.atom,
                lambda: self.typed("any", 2),
                lambda: self.typed("any", 3),
                lambda: self.typed("text", 3),
                lambda: self.typed("truth", 3),
            ]
        )()

    def statement(self, depth):
        body = lambda: self.template(depth + 1)
        kind = self.r.randint(0, 15)
        if kind <= 2:
            arms = "".join(
                self.tag("elif " + self.small()) + body() for _ in range(self.pick([0, 0, 1, 2]))
            )
            tail = self.pick(["", self.tag("else") + body()])
            return self.tag("if " + self.small()) + body() + arms + tail + self.tag("endif")
        if kind <= 6:
            return self.loop(depth, body)
        if kind == 7:
            return self.tag("set v = " + self.small()) + body() + self.out("v")
        if kind == 8:
            return (
                self.tag("set v" + self.pick(["", " | upper", " | trim | length"]))
                + body()
                + self.tag("endset")
                + self.out("v")
            )
        if kind == 9:
            return (
                self.tag("set ns = namespace(c=0, v=%s)" % self.small())
                + self.tag("for i in l")
                + self.tag("set ns.c = ns.c + i")
                + body()
                + self.tag("endfor")
                + self.out("ns.c")
                + self.out("ns.v")
            )
        if kind == 10:
            return (
                self.tag("macro m(p, q=%s)" % self.atom())
                + self.pick(
                    ["", "{{ caller() if caller else '' }}", "{{ varargs }}", "{{ kwargs }}"]
                )
                + "<{{ p }}|{{ q }}>"
                + body()
                + self.tag("endmacro")
                + self.out(
                    self.pick(
                        [
                            "m(1)",
                            "m(1, 2)",
                            "m(q=s)",
                            "m()",
                            "m(n, q=f)",
                            "m(1, 2, 3)",
                            "m(1, z=4)",
                            "m(*l)",
                            "m(**{'p': 5})",
                        ]
                    )
                )
            )
        if kind == 11:
            return (
                self.tag(
                    "filter "
                    + self.pick(
                        ["upper", "trim", "replace('a', 'A')", "indent(2) | upper", "title"]
                    )
                )
                + body()
                + self.tag("endfilter")
            )
        if kind == 12:
            return self.pick(["{#%s c %s#}", "{#%s\n{{ x }}\n%s#}"]) % (self.mark(), self.mark())
        if kind == 13:
            return (
                self.tag("raw") + self.text() + "{{ n }}{% if %}" + self.text() + self.tag("endraw")
            )
        if kind == 14:
            return self.tag("generation") + body() + self.tag("endgeneration")
        return (
            self.tag("with v = %s, w = %s" % (self.atom(), self.atom()))
            + self.out("v")
            + body()
            + self.out("w")
            + self.tag("endwith")
        )

    def loop(self, depth, body):
        source = self.pick(
            [
                "l",
                "ls",
                "msgs",
                "users",
                "range(4)",
                "le",
                "s",
                "d",
                "ll",
                self.pick(LISTS),
                self.small(),
            ]
        )
        head, use = self.pick(
            [
                ("i", "i"),
                ("i", "loop.index"),
                ("i", "loop.index0 ~ loop.revindex ~ loop.revindex0"),
                ("i", "loop.first ~ loop.last ~ loop.length"),
                ("i", "loop.previtem ~ '/' ~ loop.nextitem"),
                ("i", "loop.cycle('odd', 'even')"),
                ("i", "loop.changed(i)"),
                ("k, v", "k ~ v"),
                ("i", "loop.depth"),
                ("i", "'' if loop.last else ','"),
            ]
        )
        if head == "k, v":
            source = self.pick(
                [
                    "d.items()",
                    "ll",
                    "d|dictsort",
                    "users|groupby('age')",
                    "[('a', 1)]",
                    "dn|items",
                    "l",
                ]
            )
        test = (
            self.pick(["", "", " if i", " if i is defined", " if loop is defined"])
            if head == "i"
            else ""
        )
        jump = self.pick(
            [""] * 4
            + ["{% if i == 1 %}{% break %}{% endif %}", "{% if i %}{% continue %}{% endif %}"]
        )
        tail = self.pick(["", "", self.tag("else") + body()])
        if depth == 0 and self.r.random() < 0.05:
            return "{% for i in [[1, [2]], [3]] recursive %}({{ loop(i) if i is iterable and i is not string else i }}@{{ loop.depth }}){% endfor %}"
        return (
            self.tag("for %s in %s%s" % (head, source, test))
            + jump
            + self.out(use)
            + body()
            + tail
            + self.tag("endfor")
        )

    def template(self, depth=0):
        parts = []
        for _ in range(self.r.randint(1, 3 if depth == 0 else 2)):
            parts.append(self.text())
            if depth < 2 and self.r.random() < 0.6:
                parts.append(self.statement(depth))
            else:
                parts.append(self.out(self.small()))
        return "".join(parts) + self.text()

    def scopes(self, depth=0):
        """Statements that read and write the same few names: s and n come from the context."""
        name = lambda: self.pick(["s", "n", "p", "w", "n"])
        body = lambda: self.scopes(depth + 1)
        parts = []
        for _ in range(self.r.randint(1, 4)):
            kind = self.r.randint(0, 14 if depth < 3 else 5)
            if kind <= 2:
                parts.append("{{ %s }}," % name())
            elif kind <= 4:
                parts.append(
                    "{%% set %s = %s %%}"
                    % (name(), self.pick(["1", "2", "%s ~ 'x'" % name(), name()]))
                )
            elif kind == 5:
                parts.append("{%% if %s is defined %%}d{%% endif %%}" % name())
            elif kind <= 7:
                parts.append(
                    "{%% if %s %%}%s%s{%% endif %%}"
                    % (
                        self.pick(["true", "false", name(), "n == 1"]),
                        body(),
                        self.pick(
                            [
                                "",
                                "{% else %}" + body(),
                                "{% elif z %}" + body() + "{% else %}" + body(),
                            ]
                        ),
                    )
                )
            elif kind <= 9:
                parts.append(
                    "{%% for %s in %s%s %%}%s%s{%% endfor %%}"
                    % (
                        name(),
                        self.pick(["[1, 2]", "'ab'", "[]", "l"]),
                        self.pick(["", "", " if " + name()]),
                        body(),
                        self.pick(["", "", "{% else %}" + body()]),
                    )
                )
            elif kind == 10:
                macro = self.pick(["f", "g"])
                parts.append(
                    "{%% macro %s(%s) %%}%s{%% endmacro %%}"
                    % (macro, self.pick(["", name(), "p=%s" % name(), "p, w=p"]), body())
                    + self.pick(["", "{{ %s() }}" % macro, "{{ %s(5) }}" % macro])
                )
            elif kind == 11:
                parts.append("{%% set %s %%}%s{%% endset %%}" % (name(), body()))
            elif kind == 12:
                parts.append(
                    self.pick(
                        [
                            "{%% with %s = %s %%}%%s{%% endwith %%}" % (name(), name()),
                            "{% filter upper %}%s{% endfilter %}",
                            "{% generation %}%s{% endgeneration %}",
                        ]
                    ).replace("%s", body())
                )
            elif kind == 13:
                parts.append(
                    "{%% macro h() %%}%s({{ caller() }}){%% endmacro %%}{%% call h() %%}%s{%% endcall %%}"
                    % (body(), body())
                )
            else:
                parts.append(
                    self.pick(
                        [
                            "{{ f() if f is defined }}",
                            "{{ g(7) if g is defined }}",
                            "{{ loop.index if loop is defined }}",
                        ]
                    )
                )
        return "".join(parts)


def generate(seed):
    maker = Maker(seed)
    while True:
        kind = maker.r.random()
        if kind < 0.3:
            yield "{{ %s }}" % maker.typed("any")
        elif kind < 0.4:
            yield maker.scopes()
        elif kind < 0.6:
            yield "{{ %s }}" % (maker.expr() + maker.pick([""] * 12 + [" | e", " | escape | safe"]))
        else:
            yield maker.template()
