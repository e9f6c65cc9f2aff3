"""What the random templates of chat_template_snippets.py are made of.

CONTEXT is what every snippet is rendered with; the lists below it name its values, and what may be done with them,
sorted by the type that goes in and the type that comes out. Some entries are wrong on purpose.
"""

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
