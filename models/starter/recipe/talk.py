"""Everything that is said beside the facts: greetings, thanks, who is who, and questions outside the small world."""

import random

from facts import ANIMAL_KINDS, COUNTRY_KINDS, Fact, load_facts
from kinds import KINDS

UNKNOWN = "Sorry, I do not know that."
WELCOME = "You are welcome."
STARTER = "I am the Studio starter, a small language model."

# fmt: off
PEOPLE = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Lena", "Max", "Nora",
    "Oscar", "Paul", "Rosa", "Sam", "Tom", "Vera", "Will",
)
# fmt: on

GREETINGS = (
    ("Hello", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("Hey", "Hello! How can I help you?"),
    ("Hi there", "Hello! How can I help you?"),
    ("Hello there", "Hello! How can I help you?"),
    ("Good morning", "Good morning! How can I help you?"),
    ("Good evening", "Good evening! How can I help you?"),
    ("Good afternoon", "Good afternoon! How can I help you?"),
    ("Hello, how are you?", "Hello! I am fine, thank you. How can I help you?"),
    ("How are you?", "I am fine, thank you."),
    ("How are you today?", "I am fine, thank you."),
    ("How do you do?", "I am fine, thank you."),
)
THANKS = (
    ("Thanks", WELCOME),
    ("Thank you", WELCOME),
    ("Thanks a lot", WELCOME),
    ("Thank you very much", WELCOME),
    ("Many thanks", WELCOME),
    ("Great, thanks", WELCOME),
    ("Thank you for your help", WELCOME),
    ("That is very kind, thank you", WELCOME),
)
FAREWELLS = (
    ("Goodbye", "Goodbye! Have a nice time."),
    ("Bye", "Goodbye! Have a nice time."),
    ("Bye bye", "Goodbye! Have a nice time."),
    ("See you later", "Goodbye! Have a nice time."),
)
IDENTITY = (
    ("Who are you?", STARTER),
    ("What are you?", STARTER),
    ("What is your name?", STARTER),
    ("Who am I talking to?", STARTER),
    ("Are you a person?", STARTER),
    ("Are you a robot?", STARTER),
    ("Tell me about yourself.", STARTER),
    ("What can you do?", "I can answer questions about countries, animals, words and small sums."),
    ("What do you know?", "I can answer questions about countries, animals, words and small sums."),
    ("Can you help me?", "Yes! I can answer questions about countries, animals, words and small sums."),
    ("Help", "Yes! I can answer questions about countries, animals, words and small sums."),
)
SMALL_TALK = GREETINGS + THANKS + FAREWELLS + IDENTITY
# The terse counterpart of each reply, for the preference pairs.
TERSE = {
    UNKNOWN: "No idea.",
    WELCOME: "Welcome.",
    STARTER: "A language model.",
    "Hello! How can I help you?": "Hello.",
    "Good morning! How can I help you?": "Good morning.",
    "Good evening! How can I help you?": "Good evening.",
    "Good afternoon! How can I help you?": "Good afternoon.",
    "Hello! I am fine, thank you. How can I help you?": "Fine.",
    "I am fine, thank you.": "Fine.",
    "Goodbye! Have a nice time.": "Goodbye.",
    "I can answer questions about countries, animals, words and small sums.": "Answer questions.",
    "Yes! I can answer questions about countries, animals, words and small sums.": "Yes.",
}
OUTSIDE = (
    "Who wrote {Name}?",
    "Who is {Name}?",
    "Who was the first king of {Name}?",
    "Who painted {Name}?",
    "Who invented the {name}?",
    "When was {Name} born?",
    "When did the war of {Name} end?",
    "When does the train to {Name} leave?",
    "What is {name}?",
    "What is the meaning of {name}?",
    "What is the weather in {Name}?",
    "What is the height of {Name}?",
    "What is the population of {Name}?",
    "What time is it in {Name}?",
    "Why is {name} so {name}?",
    "How do I bake a {name}?",
    "How do I get to {Name}?",
    "How old is {Name}?",
    "How far is it to {Name}?",
    "How much does a {name} cost?",
    "Where can I buy a {name}?",
    "Do you know {Name}?",
    "Have you read {Name}?",
    "Can you write a poem about {name}?",
    "Can you tell me a joke about {name}?",
    "Can you translate {name}?",
    "Please write a program that sorts {name}.",
    "Explain {name} to me.",
    "Who won the {name} cup?",
    "Which film won the {name} prize?",
)
OUTSIDE_PLAIN = (
    "What time is it?",
    "What is the weather like today?",
    "Tell me a joke.",
    "Write a poem.",
    "Write me a short story.",
    "Who is the president?",
    "What is the meaning of life?",
    "What did I eat yesterday?",
    "What is the news today?",
    "How do I fix my computer?",
    "Where do I live?",
    "What should I cook tonight?",
    "Who will win the next game?",
    "How many stars are there?",
    "How does a computer work?",
    "Can you sing a song?",
)
OUTSIDE_ABOUT_COUNTRIES = (
    "Who is the president of {s}?",
    "Who is the king of {s}?",
    "What is the population of {s}?",
    "How many people live in {s}?",
    "How large is {s}?",
    "When was {s} founded?",
    "What is the weather in {s}?",
    "What is the highest mountain of {s}?",
    "What is the longest river of {s}?",
    "What do people eat in {s}?",
)
OUTSIDE_ABOUT_ANIMALS = (
    "What does the {s} eat?",
    "How long does {an_s} sleep?",
    "How fast is the {s}?",
    "How heavy is {an_s}?",
    "How old can {an_s} become?",
    "Why does the {s} sleep?",
    "Can I buy {an_s}?",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are a helpful and polite assistant.",
    "You are an assistant. Answer the question.",
    "You are a teacher. Help the pupil.",
    "Answer the questions of the user.",
    "Be kind and helpful.",
    "Please answer correctly.",
    "You answer questions about the world.",
)
BRIEF_PROMPTS = ("Answer briefly.", "Be brief.", "Answer with one word.", "Give short answers.")
FULL_PROMPTS = ("Answer in a full sentence.", "Answer in full sentences.", "Always answer in whole sentences.")

# fmt: off
_STARTS = (
    "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kl", "kr",
    "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sh", "sk", "sl", "sn", "st", "t", "th", "tr", "v", "w", "y",
    "z", "zh",
)
_MIDDLES = (
    "a", "e", "i", "o", "u", "ai", "ea", "ee", "ia", "oo", "ou", "a", "e", "i", "o", "u",
)
_ENDS = (
    "b", "ck", "d", "ff", "g", "l", "ll", "m", "mp", "n", "nd", "ng", "nk", "p", "r", "rd", "rn", "s", "st", "t",
    "th", "v", "x", "z",
)
# fmt: on
_KNOWN_WORDS = {word for fact in load_facts() for name in fact.names for word in name.lower().split()}


def invented_word(rng: random.Random) -> str:
    """A word of two or three syllables that names nothing the starter knows."""
    while True:
        syllables = [rng.choice(_STARTS) + rng.choice(_MIDDLES) for _ in range(rng.choice((1, 2, 2)))]
        word = "".join(syllables) + rng.choice(_ENDS) + rng.choice(("", "", "a", "ia", "o", "um", "e", "y"))
        if word not in _KNOWN_WORDS:
            return word


def invented_subject(rng: random.Random, kind: str) -> str:
    """A subject of the kind that the starter has never heard of; a sum whose terms are beyond it."""
    if kind == "sum":
        return f"{rng.randint(20, 999)} plus {rng.randint(13, 999)}"
    word = invented_word(rng)
    if kind in ("capital", "continent", "currency", "language", "city"):
        word = word.capitalize()
        if rng.random() < 0.15:
            word += " " + invented_word(rng).capitalize()
    return f"a {word}" if kind == "colour" and rng.random() < 0.6 else word


def unknown_question(rng: random.Random, facts: list[Fact]) -> str:
    """A question that the starter can't answer.

    It is about an invented subject, about a side of a known one that `facts` leave out, or about neither.
    """
    draw = rng.random()
    if draw < 0.55:
        kind = rng.choice(tuple(KINDS))
        return Fact(kind, invented_subject(rng, kind), "", "").ask(rng)
    if draw < 0.75:
        name = invented_word(rng)
        return rng.choice(OUTSIDE).format(name=name, Name=name.capitalize())
    if draw < 0.9:
        fact = rng.choice([fact for fact in rng.sample(facts, 60) if fact.kind in COUNTRY_KINDS + ANIMAL_KINDS])
        return fact.say(rng.choice(OUTSIDE_ABOUT_COUNTRIES if fact.kind in COUNTRY_KINDS else OUTSIDE_ABOUT_ANIMALS))
    return rng.choice(OUTSIDE_PLAIN)


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A greeting, thanks, a farewell or a question about the starter, and the reply."""
    said, reply = rng.choice(rng.choice((GREETINGS, THANKS, FAREWELLS, IDENTITY)))
    return punctuated(rng, said), reply


def punctuated(rng: random.Random, said: str) -> str:
    """Small talk as people type it: with or without a closing mark, sometimes in lower case."""
    if said[-1] not in "?.":
        said += rng.choice(("", "!", "."))
    return said.lower() if rng.random() < 0.2 else said
