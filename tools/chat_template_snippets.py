"""Random little templates for comparing the chat template interpreter with Python's jinja2.

Every snippet is rendered with the same CONTEXT. `generate(seed)` yields template sources without end;
they cover literals, operators, slices, filters, tests, methods, statements and white space control,
and a part of them is wrong on purpose.
"""

import random

CONTEXT = {
    "s": "Hello, World",
    "e": "",
    "u": "naïve café – 日本語 🙂 ß",
    "ws": "  a b\tc \n",
    "q": 'it\'s "x" \\ \n\x7f',
    "html": "<b>&'\"</b>",
    "lines": "one\ntwo\r\n\nthree",
    "num": "42",
    "fl": "3.75",
    "word": "ab-cd ef_gh (ij)",
    "n": 7,
    "z": 0,
    "neg": -3,
    "big": 1099511627776,
    "f": 2.5,
    "f2": 0.1,
    "f3": -1e22,
    "f4": 1e-7,
    "t": True,
    "b": False,
    "nil": None,
    "l": [3, 1, 2],
    "le": [],
    "ls": ["b", "A", "c", "a", "B"],
    "lm": [1, "x", None, 2.0, True],
    "ll": [[1, 2], [3, 4], [5, 6]],
    "d": {"b": 1, "a": [1, 2], "name": "x", "n": None},
    "de": {},
    "dn": {"x": {"y": {"z": "deep"}}, "items": 5, "2": "two"},
    "msgs": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi 🙂"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "ok", "name": "f"},
        {"role": "assistant", "content": "<think>hm</think>\n\ndone"},
    ],
    "users": [
        {"name": "Zed", "age": 30, "city": "b"},
        {"name": "amy", "age": 4, "city": "A"},
        {"name": "Bob", "age": 30, "city": "a"},
    ],
}

STRINGS = [
    "s",
    "e",
    "u",
    "ws",
    "q",
    "html",
    "lines",
    "num",
    "fl",
    "word",
    "'abc'",
    "'a,b,,c'",
    '"x\\ty\\u00e9"',
    "'%s-%d'",
    "'ÀÉÎ ǅ'",
    "'ﬁne STRASSE'",
]
NUMBERS = [
    "n",
    "z",
    "neg",
    "f",
    "f2",
    "1",
    "2",
    "10",
    "-4",
    "0.5",
    "3.0",
    "1e3",
    "t",
    "b",
    "1_000",
    "0x1f",
    "f4",
]
LISTS = [
    "l",
    "le",
    "ls",
    "ll",
    "[1, 2, 3]",
    "['a', 'b']",
    "(1, 2)",
    "(4,)",
    "[]",
    "range(5)",
    "range(6, 0, -2)",
    "users",
    "lm",
    "d.keys()|list",
    "dn.items()|list",
]
DICTS = [
    "d",
    "de",
    "dn",
    "{'k': 1, 'j': [2]}",
    "msgs[0]",
    "msgs[2]",
    "users[1]",
    "{1: 'one', 'x': none, none: 2.5}",
]
OTHERS = ["nil", "none", "missing", "d.nope", "true", "False", "msgs", "dn.x", "big", "f3"]

FILTERS_PLAIN = """trim upper lower title capitalize length count first last list string int float replace('a','b')
sort unique|list reverse|list items|list dictsort tojson abs round sum min max wordcount join join(',') join('-')
default('D') d('D',true) default indent indent(2) indent(2,true) indent(width=3,blank=true) tojson(indent=2) tojson(sort_keys=true)
tojson(ensure_ascii=true) tojson(separators=(',',':')) batch(2)|list batch(2,'x')|list slice(2)|list slice(3,'-')|list
round(1) round(2,'floor') round(0,'ceil') int(5) float(1.5) truncate(5) truncate(5,true,'~',0) center(20) sort(reverse=true)
sort(attribute='name') sort(attribute='age,name') sort(case_sensitive=true) map('upper')|list map('string')|join('|')
map(attribute='name')|list map(attribute='name',default='-')|list map('length')|list map('int')|sum select|list reject|list
select('string')|list select('odd')|list select('none')|list reject('none')|list selectattr('name')|list selectattr('age','gt',10)|list
selectattr('role','equalto','user')|list rejectattr('role','in',['user','tool'])|list selectattr('tool_calls','defined')|list
groupby('age') groupby('city')|list groupby('city',default='Z') unique(attribute='city')|list min(attribute='age') max(attribute='name') sum(attribute='age')
sum(start=10) last first format(1,2) format('a') replace('l','L',1) replace('','-') trim('Hd') trim(' a') reverse string|length
dictsort(by='value') dictsort(reverse=true) dictsort(true) attr('name') filesizeformat urlencode xmlattr int(base=16) map('default','x')|list
map('trim')|list map('tojson')|list map('round',1)|list map('first')|list map(attribute=0)|list map(attribute='1')|list list|length
count|string tojson|length selectattr('content')|map(attribute='role')|join(',') map('replace','a','b')|list select('in',[1,2])|list
select('divisibleby',2)|list reject('equalto','a')|list min(case_sensitive=true) sort|first sort|join items|map('last')|list""".split()

TESTS = """defined undefined none string number integer float boolean mapping iterable sequence true false odd even lower upper
callable escaped divisibleby(3) divisibleby\x002 eq(7) equalto(7) ==(7) ne(1) lt(5) gt(5) le(7) ge(7) in([1,2,7]) in('Hello') sameas(none)
sameas(true) filter test in\x00l""".split()

METHODS = """upper() lower() strip() lstrip() rstrip() strip('Hd') lstrip(' ') rstrip('\\n ') split() split(',') split(' ',1) split(sep='a') split(None,1)
rsplit() rsplit(' ',1) rsplit(None,1) startswith('He') endswith('d') startswith(('a','H')) startswith('l',2) endswith('o',0,5) replace('l','L')
replace('l','L',1) title() capitalize() swapcase() casefold() join(['a','b']) join(ls) find('o') find('o',5) rfind('o') index('l') count('l')
count('') splitlines() splitlines(true) isdigit() isalpha() isalnum() isspace() isupper() islower() istitle() isnumeric() isdecimal()
isidentifier() isascii() isprintable() zfill(15) ljust(14,'.') rjust(14) center(15,'*') partition(',') rpartition('o') format(1,2) format(a=1)
removeprefix('He') removesuffix('ld') expandtabs(4) nope() items() keys() values() get('a') get('zz') get('zz',5) get('name','q')
append(1) pop() update({}) index(1) count(1) copy() items()|list keys()|list values()|list index('a') name real __class__ is_integer()
items()|first values()|sum bit_length()""".split()

BINARY = [
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "~",
    "==",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "in",
    "not in",
    "and",
    "or",
]
FORMATS = [
    "'%s %s' % (n, s)",
    "'%5d|%-5d|%05d' % (n, neg, 3)",
    "'%.2f %e %g' % (f, f2, f)",
    "'%(a)s-%(b)r' % {'a': 1, 'b': 'x'}",
    "'%x %X %o %#x' % (255, 255, 8, 255)",
    "'%c%%' % 'z'",
    "'%r' % [[1, 'a']]",
    "'{} {}'.format(n, s)",
    "'{0:>8}|{1:<6}|{0:^9}'.format('ab', 12)",
    "'{a.name} {a[b]}'.format(a=d)",
    "'{:,} {:.3f} {:+d} {:%}'.format(1234567, 2.5, 3, 0.25)",
    "'{:08.3f} {:x} {:#b} {:e}'.format(3.14159, 255, 5, 12345.678)",
    "'{!r:>10}'.format('x')",
    "'%s' % nil",
    "'%s %s' % n",
    "'%d' % 'x'",
    "'{} {'.format(1)",
    "'{}'.format()",
    "'%5s|%-5s|%.2s' % ('ab', 'cd', 'efgh')",
    "'{:{w}}|'.format('a', w=5)",
    "'{{}} {}'.format(1)",
    "'%i %u' % (3.9, 4)",
    "'%s' % missing",
    "'%*d' % (5, 3)",
    "'{0[0]} {0[1]}'.format(l)",
    "'{:>{}}'.format('x', 4)",
    "'{:_} {:g} {:n}'.format(1000000, 1e10, 5)",
]


TEXT_TO_TEXT = """|trim |upper |lower |title |capitalize |replace('a','b') |replace('l','LL',1) |replace('','-') |indent |indent(2,true) |indent('> ',blank=true) |reverse |string
|truncate(5) |truncate(7,true,'~',0) |center(30) |trim('Hd') |default('x') |d('D',true) .upper() .lower() .strip() .lstrip() .rstrip() .strip('Hda') .title() .capitalize() .swapcase()
.casefold() .replace('l','L') .zfill(15) .ljust(14,'.') .rjust(14) .center(15,'*') .removeprefix('He') .removesuffix('ld') .expandtabs(4) |urlencode .split(',')|first .split()|last
.split('o')[-1] .rsplit(' ',1)|join('_') .partition(',')[2] .rpartition('o')[0] .splitlines()|join('/') .split()|join('+') |list|join('.') |string |tojson""".split()
TEXT_TO_NUMBER = """|length |wordcount |int |float .find('o') .rfind('o') .count('l') .count('') |int(base=16) .find('o',5) .split()|length .splitlines()|length""".split()
TEXT_TO_LIST = """|list .split() .split(',') .split(None,1) .rsplit(None,1) .rsplit('l',1) .splitlines() .splitlines(true) .partition('o') |map('upper')|list |select|list |batch(3)|list |unique|list |sort""".split()
NUMBER_TO_NUMBER = (
    """|abs |round |round(1) |round(2,'floor') |round(0,'ceil') |int |float |round|int""".split()
)
LIST_TO_LIST = """|list |reverse|list |sort|list |unique|list |batch(2)|list |batch(2,'x')|list |slice(2)|list |slice(3,'-')|list |select|list |map('string')|list |reject('none')|list |select('defined')|list
|map('tojson')|list |map('string')|map('upper')|list |select('string')|list |reject('string')|map('string')|sort |map('default','x',true)|list [::-1] |map('string')|map('length')|list""".split()
LIST_TO_ANY = """|length |join |join(',') |first |last |tojson |tojson(indent=2) |string |length is_odd |map('string')|join('|') |count |select('number')|sum |select('number')|list|max |map('string')|list|min""".replace(
    " |length is_odd", ""
).split()
MESSAGES = """|map(attribute='role')|join(',') |selectattr('role','equalto','user')|list |rejectattr('role','in',['user','tool'])|map(attribute='content')|list |selectattr('tool_calls','defined')|list|length
|selectattr('content','none')|list|length |groupby('role') |map(attribute='content')|list|tojson(ensure_ascii=true) |first |last |tojson(indent=4) [1:]|map(attribute='role')|list [-1].role [0]['content'] |length
|map(attribute='content',default='-')|list |selectattr('content')|map(attribute='content')|map('length')|list |tojson(separators=(',',':'),sort_keys=true) [2].tool_calls[0].function.arguments|tojson
|map(attribute='role')|unique|list |selectattr('role','ne','tool')|map(attribute='role')|list [::2]|map(attribute='role')|join |map('items')|map('list')|map('length')|list
|rejectattr('tool_calls','undefined')|list|length [-1].content.split('</think>')[-1].lstrip('\\n') [1].content[-1] |reverse|map(attribute='role')|list""".split()


class Maker:
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
