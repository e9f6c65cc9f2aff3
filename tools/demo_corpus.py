"""The text that the example models learn from, made from sentence patterns. Standard library only.

Everything follows from the `random.Random` that is passed in, so one seed gives one corpus. A sample
is a list of messages ({"role": ..., "content": ...}) as a chat template takes them; `plain_story` is
running text. Pairs of numbers for which `held_out` is true never occur: they measure whether a model
adds or only remembers.

    python3 tools/demo_corpus.py 20      # prints twenty samples
"""

import random
import sys
import zlib

from demo_corpus_answers import ABOUT, SMALL_TALK, VOICES

ANIMALS = """fox owl bear rabbit mouse turtle frog duck hen goose wolf squirrel hedgehog badger otter beaver deer
goat sheep cow pig horse pony donkey lion tiger monkey elephant giraffe zebra camel penguin whale dolphin seal shark
crab snail worm bee ant spider butterfly beetle cat dog kitten puppy parrot crow robin swan raven bat mole lizard
snake dragon unicorn panda koala kangaroo""".split()
THINGS = """robot cloud star tree train boat snowman lantern kite teapot clock ghost balloon computer rocket toy
pumpkin river mountain raindrop moonbeam scarecrow lighthouse bicycle""".split()
PEOPLE = """boy girl baker farmer teacher gardener sailor pirate knight king queen princess prince wizard witch
painter doctor cook singer dancer tailor fisherman astronaut giant elf fairy grandmother grandfather child""".split()
SUBJECTS = ANIMALS * 2 + THINGS + PEOPLE + ["fox", "robot", "dragon", "cat", "dog", "owl"] * 4
NAMES = [
    (n, "he") for n in "Pip Tom Finn Otto Max Leo Ben Sam Hugo Milo Theo Oscar Jack Noah".split()
] + [
    (n, "she") for n in "Mia Luna Ada Nell Ruby Lily Zoe Ivy Rosa Emma Clara Nora Tess Wren".split()
]
SIZES = (
    "small little young tiny clever brave quiet curious gentle old kind lonely cheerful shy".split()
)
PLACES = [
    "in a green forest",
    "near a blue lake",
    "on a high hill",
    "in a quiet village",
    "by the sea",
    "in an old garden",
    "at the edge of a wood",
    "under a big oak tree",
    "in a busy town",
    "in a valley full of flowers",
    "beside a wide river",
    "in a little red house",
]
FOOD = [
    "apples",
    "berries",
    "nuts",
    "bread",
    "honey",
    "cherries",
    "cakes",
    "pears",
    "plums",
    "carrots",
]
TREASURES = [
    "a red ball",
    "a silver bell",
    "a golden key",
    "a blue stone",
    "an old map",
    "a warm hat",
    "a little drum",
    "a shiny coin",
    "a paper boat",
    "a green scarf",
]
SKILLS = ["sing", "swim", "dance", "paint", "read", "climb", "juggle", "skate", "cook", "whistle"]
DAYS = [
    "One morning",
    "One day",
    "One sunny day",
    "One cold evening",
    "One rainy afternoon",
    "Early one day",
]
MORALS = [
    "And that made everyone smile.",
    "It was the best day of all.",
    "From then on, they were good friends.",
    "And they were happy for a long time.",
    "That night, everyone slept well.",
    "And the whole place was full of joy.",
]


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def _lost(r, c):
    t = r.choice(TREASURES)
    thing = t.split(" ", 1)[1]
    return [
        f"{c.day}, {c.name} lost {t}.",
        f"{c.He} looked under the bed, behind the door and in the grass, but it was not there.",
        f'Then {article(c.other)} came by and said to the {c.subject}, "{r.choice(["Do not be sad.", "Let us look together.", "I will help you."])}"',
        f"They looked {r.choice(['all day', 'for a long time', 'everywhere'])}, and at last they found the {thing} "
        f"{r.choice(['under a leaf', 'in the tall grass', 'behind a stone', 'near the water'])}.",
        f"The {c.subject} was so happy that {c.he} {r.choice(['jumped', 'laughed', 'danced', 'clapped'])}.",
    ]


def _share(r, c):
    food = r.choice(FOOD)
    return [
        f"{c.day}, {c.name} found a basket of {food}.",
        f"{c.He} wanted to eat them all, but then {c.he} saw {article(c.other)} who was very hungry.",
        f'"{r.choice(["Would you like some", "Shall we share", "Are you hungry"])}?" asked the {c.subject}.',
        f"The {c.other} {r.choice(['nodded', 'smiled', 'said yes'])}, and the {c.subject} and the {c.other} ate the {food} together.",
        f"{r.choice(['Sharing made the food taste even better.', 'The basket was soon empty, but their hearts were full.'])}",
    ]


def _storm(r, c):
    return [
        f"{c.day}, the sky became dark and a big storm came.",
        f"{c.name} was afraid of the {r.choice(['thunder', 'wind', 'rain'])} and hid {r.choice(['under a bush', 'in a cave', 'behind a wall'])}.",
        f"There {c.he} met {article(c.other)} who was afraid too.",
        f'"Hold my hand," said {c.name}. "{r.choice(["We can be brave together.", "The storm will soon be over."])}"',
        f"The {c.subject} and the {c.other} told each other jokes until the sun came out again.",
    ]


def _learn(r, c):
    skill = r.choice(SKILLS)
    return [
        f"{c.name} wanted to learn how to {skill}.",
        f"{c.day}, {c.he} asked {article(c.other)} for help.",
        f'"It is not easy," said the {c.other}, "but you can do it if you try every day."',
        f"So the {c.subject} tried again and again, and {r.choice(['did not give up', 'worked very hard', 'never stopped'])}.",
        f"After a week, {c.name} could {skill} better than anyone, and the {c.other} was very proud.",
    ]


def _travel(r, c):
    goal = r.choice(
        ["the moon", "the end of the river", "the top of the mountain", "the big city", "the sea"]
    )
    return [
        f"{c.day}, {c.name} decided to see {goal}.",
        f"{c.He} packed some {r.choice(FOOD)} and walked for {r.choice(['two', 'three', 'four', 'five'])} days.",
        f"On the way {c.he} met {article(c.other)}, and the {c.subject} and the {c.other} became friends.",
        f"When they saw {goal}, it was {r.choice(['bright', 'beautiful', 'bigger'])} {r.choice(['and very quiet', 'and full of light', 'as in a dream'])}.",
        f'"{r.choice(["I am glad that I came", "This is wonderful", "Now I know how big the world is"])}," said the {c.subject}.',
    ]


def _gift(r, c):
    gift = r.choice(TREASURES)
    return [
        f"It was the birthday of {article(c.other)}, and {c.name} had no present.",
        f"{c.day}, {c.he} went to the market and worked hard for {r.choice(['a baker', 'a tailor', 'a farmer', 'a painter'])}.",
        f"In the evening {c.he} had enough money to buy {gift}.",
        f"The {c.other} opened the box and {r.choice(['cried with joy', 'could not stop smiling', 'laughed out loud'])}.",
        f'"Thank you, {c.name}," said the {c.other} to the {c.subject}. "You are a true friend."',
    ]


PLOTS = [_lost, _share, _storm, _learn, _travel, _gift]


class Cast:
    def __init__(self, r, subject=None, other=None, name=None):
        self.subject = subject or r.choice(SUBJECTS)
        self.other = other or r.choice([s for s in SUBJECTS if s != self.subject])
        self.name, self.he = name or r.choice(NAMES)
        self.He = self.he.capitalize()
        self.size, self.place, self.day = r.choice(SIZES), r.choice(PLACES), r.choice(DAYS)


def story(r, cast):
    opening = r.choice(
        [
            f"Once upon a time, there was {article(cast.size)} {cast.subject} named {cast.name}, who lived {cast.place}.",
            f"Once there was {article(cast.size)} {cast.subject} called {cast.name}. {cast.He} lived {cast.place}.",
            f"{cast.name} was {article(cast.size)} {cast.subject} who lived {cast.place}.",
        ]
    )
    return " ".join([opening, *r.choice(PLOTS)(r, cast), r.choice(MORALS)])


def plain_story(r):
    return story(r, Cast(r))


def story_turn(r, _top, _voice):
    cast = Cast(r)
    verb = r.choice(
        [
            "Tell me",
            "Tell me",
            "Tell me",
            "Write",
            "Tell",
            "Write me",
            "Please tell me",
            "Can you tell me",
        ]
    )
    kind = r.choice(["a short story", "a short story", "a story", "a little story", "a tale"])
    what = r.choices(
        [
            f" about {article(cast.subject)}",
            f" about {article(cast.size)} {cast.subject}",
            f" about {article(cast.subject)} and {article(cast.other)}",
            f" about {article(cast.subject)} named {cast.name}",
            "",
        ],
        [10, 3, 3, 3, 1],
    )[0]
    end = "?" if verb.startswith("Can") else r.choice([".", ".", ".", "!", ""])
    return f"{verb} {kind}{what}{end}", story(r, cast)


def held_out(a, b):
    """Whether a pair, in either order, is kept from training: about one in ten."""
    low, high = sorted((a, b))
    return zlib.crc32(f"{low},{high}".encode()) % 10 == 0


def pair(r, top):
    while True:
        limit = min(top, r.choice([9, 20, top, top, top]))
        a, b = r.randint(0, limit), r.randint(0, limit)
        if not held_out(a, b):
            return a, b


def arithmetic_turn(r, top, _voice):
    a, b = pair(r, top)
    if r.random() < 0.6:
        ask = r.choices(
            [
                f"What is {a} + {b}?",
                f"What is {a} plus {b}?",
                f"How much is {a} + {b}?",
                f"{a} + {b} = ?",
                f"{a}+{b}",
                f"Add {a} and {b}.",
                f"Please compute {a} + {b}.",
                f"What's {a} + {b}?",
            ],
            [8, 2, 2, 2, 1, 1, 1, 1],
        )[0]
        return ask, f"{a} + {b} = {a + b}."
    a, b = max(a, b), min(a, b)
    ask = r.choices(
        [
            f"What is {a} - {b}?",
            f"What is {a} minus {b}?",
            f"How much is {a} - {b}?",
            f"{a} - {b} = ?",
            f"{a}-{b}",
            f"Subtract {b} from {a}.",
            f"Please compute {a} - {b}.",
            f"What's {a} - {b}?",
        ],
        [8, 2, 2, 2, 1, 1, 1, 1],
    )[0]
    return ask, f"{a} - {b} = {a - b}."


def word_problem_turn(r, top, _voice):
    a, b = pair(r, min(top, 20))
    (name, he), thing = (
        r.choice(NAMES),
        r.choice(FOOD[:3] + ["pears", "plums", "carrots", "coins", "books"]),
    )
    if r.random() < 0.5:
        return (
            f"{name} has {a} {thing} and gets {b} more. How many {thing} does {he} have?",
            f"{a} + {b} = {a + b}, so {name} has {a + b} {thing}.",
        )
    a, b = max(a, b), min(a, b)
    return (
        f"{name} has {a} {thing} and gives {b} away. How many {thing} are left?",
        f"{a} - {b} = {a - b}, so {a - b} {thing} are left.",
    )


def about_turn(r, _top, _voice):
    questions, answer = r.choice(ABOUT)
    return r.choice(questions), answer


def small_talk_turn(r, _top, voice):
    questions, answers = r.choice(SMALL_TALK)
    return r.choice(questions), r.choice(answers).format(**voice)


def no_story_turn(r, top, voice):
    return story_turn(r, top, voice)[0], f"I do not know any stories. Ask me {voice['ask_short']}."


def no_sum_turn(r, top, voice):
    return arithmetic_turn(r, top, voice)[0], f"I cannot add numbers. Ask me {voice['ask_short']}."


TURNS = {
    "story": story_turn,
    "arithmetic": arithmetic_turn,
    "word_problem": word_problem_turn,
    "about": about_turn,
    "small_talk": small_talk_turn,
    "no_story": no_story_turn,
    "no_sum": no_sum_turn,
}
SYSTEM = [
    "You are a helpful assistant.",
    "You are a friendly storyteller.",
    "Answer briefly.",
    "You are a tiny model that comes with Troupe.",
    "Be kind and short.",
]


def conversation(r, mix, top=99):
    """One chat of one to four turns; `mix` maps names in TURNS to their weights, `top` is the largest operand."""
    kinds, weights = list(mix), list(mix.values())
    voice = VOICES["story" in mix, "arithmetic" in mix]
    messages = []
    if r.random() < 0.12:
        messages.append({"role": "system", "content": r.choice(SYSTEM)})
    for _ in range(r.choices([1, 2, 3, 4], [78, 12, 6, 4])[0]):
        ask, answer = TURNS[r.choices(kinds, weights)[0]](r, top, voice)
        messages += [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    return messages


if __name__ == "__main__":
    source = random.Random(1)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        for message in conversation(source, dict.fromkeys(TURNS, 1)):
            print(f"{message['role']:>9}: {message['content']}")
        print()
