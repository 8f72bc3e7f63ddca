"""Everything the small model ever reads: an endless stream of documents, deterministic from a seed.

A document is a list of (text, weight, tag) pieces. The weight is the loss weight of the piece's tokens, the tag says
what an evaluation may count there ("recall", "sum", "tool", "json" or ""). One document is one conversation (or one
plain text) in which no two facts contradict each other, so a question has exactly one right answer however far back
the fact was told.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT, THINK, END_THINK, DSML = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜"

BOYS = "Tom Ben Sam Max Leo Finn Otto Paul Hugo Karl Emil Anton Oskar Felix Jonas Peter".split()
GIRLS = "Mira Anna Lena Nora Rosa Ida Clara Ella Greta Lucy Maya Julia Alma Vera Edith Wilma".split()
NAMES = BOYS + GIRLS
KNOWN = "Tom Leo Finn Otto Karl Oskar Felix Peter Mira Ida Greta Julia Alma Edith Nora Vera".split()  # facts are about these
FOODS = "plums apples cheese bread honey soup rice beans cake nuts pears grapes melon fish eggs corn figs jam peas milk tea lemons onions carrots".split()
ANIMALS = "cat dog goat horse sheep duck hen mouse fox rabbit pony frog turtle parrot donkey cow owl bear snake pig crow hamster lizard goose".split()
COLORS = "red blue green yellow black white brown pink purple orange gray silver gold".split()
PLACES = "barn cellar kitchen garden attic tower school market forest mill harbor church library station castle cave bakery stable bridge tent shop river field museum".split()
OBJECTS = "kite drum key lamp book ball bell rope hammer basket mirror clock ladder candle bucket pen cup map coin ring box knife broom whistle".split()
JOBS = "baker farmer teacher painter doctor pilot sailor singer tailor miner writer dancer nurse judge hunter cook".split()
CITIES = "Paris London Berlin Rome Madrid Vienna Oslo Cairo Tokyo Lima Boston Dublin Prague Athens Delhi Sydney".split()
ADJECTIVES = "small big old young happy sad tired brave quiet clever funny kind".split()
WEATHER = "sunny rainy cloudy windy snowy foggy".split()

# relation: (statement, questions, the answer up to the value, the value's candidates, key for JSON answers)
RELATIONS: dict[str, tuple[str, list[str], str, list[str], str]] = {
    "likes": ("{s} likes {v}.", ["What does {s} like?", "Do you know what {s} likes?"], "{s} likes", FOODS, "likes"),
    "has": ("{s} has a {v}.", ["Which animal does {s} have?", "What animal does {s} have?"], "{s} has a", ANIMALS, "animal"),
    "wears": ("{s} wears {v}.", ["Which color does {s} wear?", "What color does {s} wear?"], "{s} wears", COLORS, "color"),
    "lives": ("{s} lives near the {v}.", ["Where does {s} live?", "Do you know where {s} lives?"], "{s} lives near the", PLACES, "home"),
    "job": ("{s} works as a {v}.", ["What is the job of {s}?", "What does {s} work as?"], "{s} works as a", JOBS, "job"),
    "place": ("The {s} is in the {v}.", ["Where is the {s}?", "Do you know where the {s} is?"], "The {s} is in the", PLACES, "place"),
    "visit": ("{s} went to {v}.", ["Where did {s} go?", "Which city did {s} visit?"], "{s} went to", CITIES, "city"),
}
RELATION_NAMES = list(RELATIONS)

PREAMBLE = """## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

%s

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""
TOOLS: dict[str, tuple[str, str, str, str]] = {  # name: (description, parameter, its JSON type, its description)
    "get_weather": ("Get the weather of a city", "city", "string", "The city name"),
    "set_timer": ("Set a timer", "minutes", "integer", "How many minutes"),
    "find_item": ("Find where a thing is", "item", "string", "The thing to find"),
    "feed_animal": ("Feed an animal", "animal", "string", "The animal to feed"),
}

IDENTITY = "I am a tiny DeepSeek-V4 model inside dsv4. I can tell little stories, add numbers and remember facts."
SYSTEMS = ["You are a helpful assistant.", "You are a helpful assistant.", "You are a tiny model.", "Answer briefly."]


def held_out_sum(a: int, b: int) -> bool:
    """One pair in eight never occurs in training: sums are measured on these only."""
    return (a * 31 + b * 17 + a * b) % 8 == 3


@dataclass
class Piece:
    text: str
    weight: float
    tag: str = ""
    told: int = -1  # for a "recall" piece: index of the piece that told the fact


@dataclass
class Document:
    """Builds one document; `length` (in tokens, estimated) only steers how much is told and asked."""

    rng: random.Random
    evaluate: bool = False
    pieces: list[Piece] = field(default_factory=list)
    facts: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # value and latest piece with it
    one_each: bool = True  # no person or thing has more than one fact
    relations: list[str] = field(default_factory=lambda: RELATION_NAMES)

    def add(self, text: str, weight: float = 1.0, tag: str = "", told: int = -1) -> None:
        self.pieces.append(Piece(text, weight, tag, told))

    # ---- turns -------------------------------------------------------------------------------------------------
    def user(self, text: str, thinking: bool = False) -> None:
        self.add(USER + text, 0.15)
        self.add(ASSISTANT + (THINK if thinking else END_THINK), 0.0)

    def say(self, text: str, weight: float = 1.0, tag: str = "") -> None:
        self.add(text, weight, tag)
        self.add(EOS, weight)

    # ---- facts -------------------------------------------------------------------------------------------------
    def new_fact(self) -> tuple[str, str, str] | None:
        taken = {subject for _, subject in self.facts} if self.one_each else ()
        for _ in range(20):
            rel = self.rng.choice(self.relations)
            subject = self.rng.choice(OBJECTS if rel == "place" else KNOWN)
            if (rel, subject) not in self.facts and subject not in taken:
                return rel, subject, self.rng.choice(RELATIONS[rel][3])
        return None

    def tell(self, lead: str = "", weight: float = 0.15) -> bool:
        """State one new fact (as a piece of its own, so that its position is known)."""
        fact = self.new_fact()
        if fact is None:
            return False
        rel, subject, value = fact
        self.facts[rel, subject] = (value, len(self.pieces))
        self.add(lead + RELATIONS[rel][0].format(s=subject, v=value), weight)
        return True

    def tell_turn(self, count: int) -> None:
        self.add(USER + self.rng.choice(["Note:", "Listen.", "Remember this.", "Here is something."]), 0.05)
        for _ in range(count):
            self.tell(" ")
        self.add(ASSISTANT + END_THINK, 0.0)
        self.say(self.rng.choice(["OK.", "Noted.", "I will remember."]), 0.3)

    def pick_fact(self, but: tuple = ()) -> tuple[str, str, str, int]:
        """One of the facts told, rather one that was not mentioned for long."""
        keys = [k for k in self.facts if k != but[:2]]
        key = min((self.rng.choice(keys) for _ in range(2)), key=lambda k: self.facts[k][1])
        value, told = self.facts[key]
        return key[0], key[1], value, told

    def recall(self, rel: str, subject: str, value: str, told: int, lead: str = " ", weight: float = 5.0) -> None:
        """The value, to be known from the piece `told`; from now on it is known from here."""
        self.facts[rel, subject] = (value, len(self.pieces))
        self.add(lead + value, weight, "recall", told)

    def ask_turn(self, fact: tuple[str, str, str, int] | None = None, style: str | None = None) -> None:
        rel, subject, value, told = fact or self.pick_fact()
        _, questions, answer, _, key = RELATIONS[rel]
        question = self.rng.choice(questions).format(s=subject)
        answer = answer.format(s=subject)
        style = style or self.rng.choices(["plain", "think", "json"], [82, 8, 10])[0]
        if style == "think":
            self.user(question, thinking=True)
            self.add(self.rng.choice(["I was told: ", "I remember: "]), 0.5)
            self.add(answer, 1.0)
            self.recall(rel, subject, value, told)
            self.add("." + END_THINK, 1.0)
            self.add(answer, 1.0)
            self.add(" " + value, 1.0)
            self.say(".")
        elif style == "json":
            self.user(question + " Answer in JSON.")
            name = "thing" if rel == "place" else "name"
            self.add('{"%s": "%s", "%s": "' % (name, subject, key), 1.0, "json")
            self.add(value, 3.0, "json value", told)  # several tokens: only after a space is it one
            self.say('"}')
        else:
            self.user(question)
            self.add(answer, 1.0)
            self.recall(rel, subject, value, told)
            self.say(".")

    # ---- fillers -----------------------------------------------------------------------------------------------
    def story(self, sentences: int | None = None) -> str:
        r = self.rng
        name, friend = r.sample(NAMES, 2)
        he, his, him = ("he", "his", "him") if name in BOYS else ("she", "her", "her")
        place, other = r.sample(PLACES, 2)
        animal, thing, adj, adj2 = r.choice(ANIMALS), r.choice(OBJECTS), r.choice(ADJECTIVES), r.choice(ADJECTIVES)
        color, food = r.choice(COLORS), r.choice(FOODS)
        first = r.choice([
            f"One day {name} went to the {place}.",
            f"Once there was a {adj2} child called {name}.",
            f"It was a {r.choice(WEATHER)} day and {name} was in the {place}.",
        ])
        middle = [
            f" There {he} saw a {adj} {animal}.",
            f" {he.capitalize()} found a {color} {thing} and took it home.",
            f" Then {friend} came and they played with the {thing}.",
            f" The {animal} was very {adj}, so {name} gave it some {food}.",
            f" \"Look at the {animal}!\" said {name}.",
            f" {friend} and {name} walked from the {place} to the {other}.",
            f" {name} was {adj2}, but {friend} was not.",
            f" They ate {food} and looked at the {color} sky.",
            f" The {thing} fell into the {other} and {name} was sad.",
        ]
        last = r.choice([
            f" In the end {name} went home and slept.",
            f" {friend} gave {him} a {thing} and they were friends.",
            f" That night {name} told {his} mother about the {animal}.",
        ])
        count = sentences if sentences is not None else r.randint(1, 4)
        chosen = sorted(r.sample(range(len(middle)), count))
        return first + "".join(middle[i] for i in chosen) + last

    def sum_pair(self, digits: int) -> tuple[int, int]:
        top = 9 if digits == 1 else 99
        while True:
            a, b = self.rng.randint(0 if digits == 1 else 1, top), self.rng.randint(0 if digits == 1 else 1, top)
            if held_out_sum(a, b) == self.evaluate:
                return a, b

    def sum_turn(self, digits: int | None = None, thinking: bool | None = None) -> None:
        a, b = self.sum_pair(digits or self.rng.choice([1, 2, 2, 2]))
        thinking = self.rng.random() < 0.3 if thinking is None else thinking
        self.user(self.rng.choice([f"What is {a} + {b}?", f"{a} + {b} = ?", f"Add {a} and {b}."]), thinking)
        if thinking:
            ones, tens = a % 10 + b % 10, a // 10 + b // 10
            work = f"{a % 10} + {b % 10} = {ones}"
            if a > 9 or b > 9:
                carry = ones // 10
                work += f", {a // 10} + {b // 10}" + (f" + {carry}" if carry else "") + f" = {tens + carry}"
            self.add(work + "." + END_THINK, 2.0)
        self.add(f"{a} + {b} =", 0.5)
        self.add(f" {a + b}", 3.0, "sum")
        self.say(".")

    def small_turn(self) -> None:
        """Greetings, identity, yes/no, counting, copying: short things."""
        r = self.rng
        kind = r.randrange(7)
        if kind == 0:
            self.user(r.choice(["Hello", "Hi", "Hello!", "Good morning."]))
            self.say(r.choice(["Hello! How can I help you?", "Hi there! How can I help you?"]))
        elif kind == 1:
            self.user(r.choice(["Who are you?", "What are you?", "What is your name?"]))
            self.say(IDENTITY)
        elif kind == 2:
            word, lists = r.choice([("a color", COLORS), ("an animal", ANIMALS), ("a place", PLACES), ("a food", FOODS)])
            other = r.choice([x for x in (COLORS, ANIMALS, PLACES, FOODS) if x is not lists])
            yes = r.random() < 0.5
            thing = r.choice(lists if yes else other)
            self.user(f"Is {thing} {word}?")
            self.say(f"Yes, {thing} is {word}." if yes else f"No, {thing} is not {word}.")
        elif kind == 3:
            words = [r.choice(ANIMALS + COLORS + OBJECTS + FOODS) for _ in range(r.randint(2, 6))]
            self.user("Repeat: " + " ".join(words) + ".")
            self.say(" ".join(words) + ".", 2.0)
        elif kind == 4:
            start = r.randint(1, 20)
            self.user(f"Count from {start} to {start + 5}.")
            self.say(", ".join(str(start + i) for i in range(6)) + ".")
        elif kind == 5:
            words = r.sample(ANIMALS + OBJECTS, r.randint(2, 5))
            self.user("How many words: " + ", ".join(words) + "?")
            self.say(f"There are {len(words)} words.")
        else:
            self.user(r.choice(["Thank you.", "Thanks!", "Bye.", "Good night."]))
            self.say("You are welcome." if "Than" in self.pieces[-2].text else "Good bye!")

    def story_turn(self) -> None:
        self.user(self.rng.choice(["Tell me a story.", "Tell me a little story.", "A story, please."]))
        self.say(self.story())

    # ---- tools -------------------------------------------------------------------------------------------------
    def tool_system(self, official: bool) -> list[str]:
        names = self.rng.sample(list(TOOLS), self.rng.randint(2, 4))
        lines = []
        for name in names:
            lines.append(json.dumps(schema(name, official)))
        body = "\n".join(lines)
        self.add("You are a helpful assistant.\n\n", 0.02)
        self.add(PREAMBLE % body if official else "## Tools\n\n" + body + "\n", 0.02)
        return names

    def tool_turn(self, names: list[str], thinking: bool | None = None, reply: bool | None = None) -> None:
        r = self.rng
        name = r.choice(names)
        thinking = r.random() < 0.4 if thinking is None else thinking
        if name == "get_weather":
            value = r.choice(CITIES)
            question = r.choice([f"What is the weather in {value}?", f"How is the weather in {value}?"])
            degrees, sky = r.randint(1, 30), r.choice(WEATHER)
            result, answer = json.dumps({"degrees": degrees, "sky": sky}), f"It is {sky} in {value}, {degrees} degrees."
        elif name == "set_timer":
            value = str(r.randint(1, 60))
            question = r.choice([f"Set a timer for {value} minutes.", f"Please wake me in {value} minutes."])
            result, answer = json.dumps({"ok": True}), f"The timer is set to {value} minutes."
        elif name == "find_item":
            value, place = r.choice(OBJECTS), r.choice(PLACES)
            question = r.choice([f"Please find the {value}.", f"Find my {value}."])
            result, answer = json.dumps({"place": place}), f"Your {value} is in the {place}."
        else:
            value = r.choice(ANIMALS)
            question = r.choice([f"Please feed the {value}.", f"Give the {value} some food."])
            result, answer = json.dumps({"ok": True}), f"The {value} has food now."
        self.user(question, thinking)
        if thinking:
            self.add(f"I should use the {name} tool." + END_THINK, 1.0)
        self.add("\n\n" + tool_call(name, value), 1.5, "tool")
        self.add(EOS, 1.0)
        if r.random() < 0.7 if reply is None else reply:
            self.add(USER + f"<tool_result>{result}</tool_result>", 0.05)
            self.add(ASSISTANT + (THINK if thinking else END_THINK), 0.0)
            if thinking:
                self.add("I have the result." + END_THINK, 1.0)
            self.say(answer, 1.5)


def schema(name: str, official: bool) -> dict:
    about, parameter, kind, what = TOOLS[name]
    if not official:
        return {"name": name, "parameters": {parameter: kind}}
    return {"name": name, "description": about, "parameters": {
        "type": "object", "properties": {parameter: {"type": kind, "description": what}}, "required": [parameter]}}


def tool_call(name: str, value: str) -> str:
    """The exact DSML text of a call with the tool's one parameter."""
    _, parameter, kind, _ = TOOLS[name]
    text = "true" if kind == "string" else "false"
    return (f'<{DSML}tool_calls>\n<{DSML}invoke name="{name}">\n<{DSML}parameter name="{parameter}" string="{text}">'
            f"{value}</{DSML}parameter>\n</{DSML}invoke>\n</{DSML}tool_calls>")


def approximate_tokens(doc: Document) -> int:
    return sum(len(p.text) for p in doc.pieces) // 4


def conversation(rng: random.Random, length: int, evaluate: bool = False) -> Document:
    """A chat: facts told throughout (mostly early), questions about all of them, other turns between."""
    # Where facts share a relation, only the name can tell which value is meant.
    doc = Document(rng, evaluate, one_each=rng.random() < 0.9,
                   relations=rng.sample(RELATION_NAMES, rng.choice([1, 1, 2, 3, len(RELATION_NAMES)])))
    doc.add(BOS, 0.0)
    if rng.random() < 0.3:
        doc.add(rng.choice(SYSTEMS), 0.02)
    # Short documents are dense in questions (they teach the lookup), long ones keep about one turn in two for it.
    p_fill = {128: 0.05, 256: 0.1, 512: 0.15}.get(length, 0.2)
    want = {128: 5, 256: 8, 512: 10}.get(length, 12)
    doc.tell_turn(min(want, rng.randint(2, 6)))
    size = 0
    while size < length * 7:  # characters: more than `length` tokens for certain, the rest is cut off
        before = len(doc.pieces)
        draw = rng.random()
        if len(doc.facts) < want and draw < 0.22:
            doc.tell_turn(rng.randint(1, 5))
        elif draw < 0.22 + p_fill:
            rng.choices([doc.story_turn, doc.sum_turn, doc.small_turn], [35, 40, 25])[0]()
        else:
            doc.ask_turn()
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


def skills(rng: random.Random, length: int, evaluate: bool = False) -> Document:
    """A chat without facts: sums, small talk, stories."""
    doc = Document(rng, evaluate)
    doc.add(BOS, 0.0)
    if rng.random() < 0.3:
        doc.add(rng.choice(SYSTEMS), 0.02)
    size = 0
    while size < length * 5:
        before = len(doc.pieces)
        rng.choices([doc.story_turn, doc.sum_turn, doc.small_turn], [15, 60, 25])[0]()
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


def tools(rng: random.Random, length: int, evaluate: bool = False, official: bool | None = None) -> Document:
    doc = Document(rng, evaluate)
    doc.add(BOS, 0.0)
    if official is None:
        official = length >= 1024 or (length >= 512 and rng.random() < 0.6)
    names = doc.tool_system(official)
    size = 0
    while size < length * 5:
        before = len(doc.pieces)
        if rng.random() < 0.85:
            doc.tool_turn(names)
        else:
            rng.choice([doc.sum_turn, doc.small_turn])()
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


def plain(rng: random.Random, length: int, evaluate: bool = False) -> Document:
    """Text without chat markers: stories, with facts between them that the text comes back to."""
    doc = Document(rng, evaluate)
    doc.add(BOS, 0.0)
    size = 0
    while size < length * 7:
        before = len(doc.pieces)
        draw = rng.random()
        if doc.facts and draw < 0.45:
            fact = doc.pick_fact()
            doc.add(" As you know, " + RELATIONS[fact[0]][2].format(s=fact[1]).replace("The ", "the "), 0.2)
            doc.recall(*fact)
            doc.add(".", 1.0)
        elif draw < 0.7:
            for _ in range(rng.randint(1, 3)):
                doc.tell(" ")
        else:
            doc.add(doc.story(), 0.6)
            doc.add("\n\n", 0.6)
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


def drill(rng: random.Random, length: int, evaluate: bool = False) -> Document:
    """Facts and the same facts again, hardly anything else: a value to recall every five or six tokens.

    Often all facts are of one or two relations, so that only the name can tell which value is meant.
    """
    doc = Document(rng, evaluate, one_each=rng.random() < 0.8,
                   relations=rng.sample(RELATION_NAMES, rng.choice([1, 2, 4, len(RELATION_NAMES)])))
    doc.add(BOS, 0.0)
    most = {128: 6, 256: 8}.get(length, 12)
    want = rng.randint(most // 2, most)
    size = 0
    while size < length * 7:
        before = len(doc.pieces)
        draw = rng.random()
        if len(doc.facts) < 3 or (draw < 0.4 and len(doc.facts) < want):
            for _ in range(rng.randint(1, 6)):
                if not doc.tell(" ", 0.05):
                    want = len(doc.facts)
        elif draw > (0.99 if length < 1024 else 0.95):
            doc.add("\n\n" + doc.story(), 0.3)
        else:
            fact = doc.pick_fact()
            doc.add(" " + RELATIONS[fact[0]][2].format(s=fact[1]), 0.05)
            doc.recall(*fact)
            doc.add(".", 0.2)
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


def pairs(rng: random.Random, length: int, evaluate: bool = False) -> Document:
    """A few facts of one relation, then each of them again and again: only the name tells which value is meant."""
    doc = Document(rng, evaluate, relations=rng.sample(RELATION_NAMES, rng.choice([1, 1, 1, 2])))
    doc.add(BOS, 0.0)
    chat = rng.random() < 0.3
    size = 0
    while size < length * 7:
        before = len(doc.pieces)
        if not doc.facts or (len(doc.facts) < 12 and rng.random() < 0.06):
            if chat:
                doc.tell_turn(rng.randint(2, 4))
            else:
                for _ in range(rng.randint(2, 4)):
                    doc.tell(" ", 0.05)
        rel, subject = rng.choice(list(doc.facts))
        fact = (rel, subject, *doc.facts[rel, subject])
        if chat:
            doc.ask_turn(fact, "plain")
        else:
            doc.add(" " + RELATIONS[rel][2].format(s=subject), 0.05)
            doc.recall(*fact)
            doc.add(".", 0.1)
        size += sum(len(p.text) for p in doc.pieces[before:])
    return doc


KINDS = {"pairs": pairs, "conversation": conversation, "skills": skills, "tools": tools, "plain": plain, "drill": drill}
# Shares of the kinds in the phases of training. Recall is what takes longest to learn, so it gets most, in the
# later phases nearly all.
SHARES = {
    "broad": {"conversation": 66, "skills": 12, "tools": 11, "plain": 11},
    "dense": {"drill": 45, "conversation": 32, "skills": 9, "tools": 8, "plain": 6},
    "bind": {"pairs": 50, "conversation": 32, "skills": 6, "tools": 7, "plain": 5},
    "recall": {"drill": 10, "conversation": 70, "skills": 7, "tools": 8, "plain": 5},
}


def document(rng: random.Random, length: int, evaluate: bool = False, kind: str = "broad") -> Document:
    """A document of one of KINDS or, if `kind` is a phase, one of its mixture."""
    if kind in SHARES:
        kind = rng.choices(list(SHARES[kind]), list(SHARES[kind].values()))[0]
    return KINDS[kind](rng, length, evaluate)


def recall_probe(rng: random.Random, distance: int, count_tokens, one_each: bool = True) -> Document:
    """Facts, then other turns of about `distance` tokens, then one question about one of the first facts.

    The asked fact does not come up in between.
    """
    doc = Document(rng, True, one_each=one_each)
    doc.add(BOS, 0.0)
    doc.tell_turn(rng.randint(2, 5))
    asked = doc.pick_fact()
    counted, gap = asked[3] + 1, distance - 12
    while True:
        gap -= count_tokens("".join(p.text for p in doc.pieces[counted:]))
        counted = len(doc.pieces)
        if gap <= 8:
            break
        if gap > 120 and rng.random() < 0.4:
            doc.story_turn()
        elif rng.random() < 0.5 and len(doc.facts) < 12:
            doc.tell_turn(max(1, min(5, gap // 12)))
        else:
            rng.choice([doc.sum_turn, doc.small_turn, lambda: doc.ask_turn(doc.pick_fact(but=asked))])()
    doc.ask_turn(asked, "plain")
    return doc
