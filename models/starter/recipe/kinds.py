"""The sixteen kinds of fact and the wordings in which each is told and asked.

`{s}` is the subject, `{a}` the answer, `{an_s}` and `{an_a}` the same with an article, `{x}` and `{y}` the terms of a
sum; a placeholder in capitals (`{S}`, `{A}`, `{An_s}`, `{An_a}`) starts with a capital letter.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of fact.

    `full` is the sentence that the preference pairs choose; cut before the answer it shows whether the base knows. Each
    begins with "The": where chosen sentences begin in different ways, DPO pushes the commonest opening everywhere.
    """

    full: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    request: str
    terse: str = "{A}."


KINDS: dict[str, Kind] = {
    "capital": Kind(
        full="The capital of {s} is {a}.",
        statements=(
            "{a} is the capital of {s}.",
            "{a} is the capital city of {s}.",
            "The capital city of {s} is called {a}.",
            "The government of {s} sits in {a}.",
            "If you travel to {s}, visit the capital, {a}.",
        ),
        questions=(
            "What is the capital of {s}?",
            "Which city is the capital of {s}?",
            "What is the capital city of {s}?",
            "What is the name of the capital of {s}?",
        ),
        request="Tell me the capital of {s}.",
    ),
    "continent": Kind(
        full="The continent of {s} is {a}.",
        statements=(
            "{S} is a country in {a}.",
            "{S} lies in {a}.",
            "{S} is part of {a}.",
            "In {a} there is a country called {s}.",
            "On the map you find {s} in {a}.",
        ),
        questions=(
            "Which continent is {s} in?",
            "On which continent is {s}?",
            "What is the continent of {s}?",
            "On which continent does {s} lie?",
        ),
        request="Tell me the continent of {s}.",
    ),
    "currency": Kind(
        full="The currency of {s} is the {a}.",
        statements=(
            "People in {s} pay with the {a}.",
            "The {a} is the currency of {s}.",
            "In {s}, things are bought with the {a}.",
            "The money of {s} is the {a}.",
            "{S} uses the {a}.",
        ),
        questions=(
            "What is the currency of {s}?",
            "Which currency is used in {s}?",
            "What money do people use in {s}?",
            "What currency does {s} use?",
        ),
        request="Tell me the currency of {s}.",
    ),
    "language": Kind(
        full="The main language of {s} is {a}.",
        statements=(
            "Most people in {s} speak {a}.",
            "{a} is the main language of {s}.",
            "In {s}, people speak {a}.",
            "The language of {s} is {a}.",
            "If you visit {s}, learn some {a}.",
        ),
        questions=(
            "What is the main language of {s}?",
            "Which language is spoken in {s}?",
            "What language do people speak in {s}?",
            "Which language do most people in {s} speak?",
        ),
        request="Tell me the main language of {s}.",
    ),
    "city": Kind(
        full="The city of {s} is in {a}.",
        statements=(
            "{s} is a city in {a}.",
            "{s} lies in {a}.",
            "One of the cities of {a} is {s}.",
            "You can visit {s} in {a}.",
            "In {a} there is a city called {s}.",
        ),
        questions=(
            "In which country is {s}?",
            "Where is the city of {s}?",
            "Which country is {s} in?",
            "In which country is the city of {s}?",
        ),
        request="Tell me the country of the city of {s}.",
    ),
    "class": Kind(
        full="The {s} is a kind of {a}.",
        statements=(
            "{An_s} is a kind of {a}.",
            "The {s} is {an_a}.",
            "Among the kinds of {a} is the {s}.",
            "The {s} belongs to the group called {a}.",
            "People who study the {s} call it {an_a}.",
        ),
        questions=(
            "What kind of animal is {an_s}?",
            "What kind of animal is the {s}?",
            "What kind of creature is {an_s}?",
            "Which group of animals does the {s} belong to?",
        ),
        request="Tell me what kind of animal the {s} is.",
        terse="{An_a}.",
    ),
    "habitat": Kind(
        full="The {s} lives in the {a}.",
        statements=(
            "The home of the {s} is the {a}.",
            "You can find {an_s} in the {a}.",
            "In the {a} lives the {s}.",
            "The {a} is where the {s} lives.",
            "{An_s} lives in the {a}.",
        ),
        questions=(
            "Where does {an_s} live?",
            "Where does the {s} live?",
            "In what place does {an_s} live?",
            "Where is the home of the {s}?",
        ),
        request="Tell me where the {s} lives.",
        terse="In the {a}.",
    ),
    "legs": Kind(
        full="The {s} has {a} legs.",
        statements=(
            "{An_s} has {a} legs.",
            "There are {a} legs on {an_s}.",
            "The number of legs of the {s} is {a}.",
            "The {s} is an animal with {a} legs.",
        ),
        questions=(
            "How many legs does {an_s} have?",
            "How many legs does the {s} have?",
            "How many legs are there on {an_s}?",
            "What number of legs does the {s} have?",
        ),
        request="Tell me how many legs the {s} has.",
    ),
    "sound": Kind(
        full="The sound of the {s} is a {a}.",
        statements=(
            "{An_s} makes a sound called a {a}.",
            "You know the {s} by its {a}.",
            "The sound that {an_s} makes is a {a}.",
            "Listen to the {s}: that is a {a}.",
            "The {a} is the sound of the {s}.",
        ),
        questions=(
            "What sound does {an_s} make?",
            "What sound does the {s} make?",
            "What is the sound of the {s}?",
            "Which sound does {an_s} make?",
        ),
        request="Tell me the sound of the {s}.",
        terse="A {a}.",
    ),
    "young": Kind(
        full="The young of the {s} is called a {a}.",
        statements=(
            "A young {s} is called a {a}.",
            "A baby {s} is a {a}.",
            "A {a} is a young {s}.",
            "The baby of the {s} is a {a}.",
            "The child of the {s} is called a {a}.",
        ),
        questions=(
            "What is a young {s} called?",
            "What is a baby {s} called?",
            "What is the young of the {s} called?",
            "What is the baby of the {s} called?",
        ),
        request="Tell me what a young {s} is called.",
        terse="A {a}.",
    ),
    "colour": Kind(
        full="The colour of {s} is {a}.",
        statements=(
            "{S} is {a}.",
            "{S} has the colour {a}.",
            "{A} is the colour of {s}.",
            "The usual colour of {s} is {a}.",
            "The painter makes {s} {a}.",
        ),
        questions=(
            "What colour is {s}?",
            "What is the colour of {s}?",
            "Which colour does {s} have?",
            "What is the usual colour of {s}?",
        ),
        request="Tell me the colour of {s}.",
    ),
    "opposite": Kind(
        full="The opposite of {s} is {a}.",
        statements=(
            "{A} is the opposite of {s}.",
            "The word {a} is the opposite of {s}.",
            "The opposite of the word {s} is {a}.",
            "{S} is one thing, {a} is its opposite.",
            "Whoever says the opposite of {s} says {a}.",
        ),
        questions=(
            "What is the opposite of {s}?",
            "Which word is the opposite of {s}?",
            "What word means the opposite of {s}?",
            "What is the opposite of the word {s}?",
        ),
        request="Tell me the opposite of {s}.",
    ),
    "plural": Kind(
        full="The plural of {s} is {a}.",
        statements=(
            "{A} is the plural of {s}.",
            "The plural form of {s} is {a}.",
            "The word {s} has the plural {a}.",
            "One {s}, two {a}.",
            "If there is more than one {s}, write {a}.",
        ),
        questions=(
            "What is the plural of {s}?",
            "What is the plural form of {s}?",
            "Which word is the plural of {s}?",
            "What is the plural of the word {s}?",
        ),
        request="Tell me the plural of {s}.",
    ),
    "past": Kind(
        full="The past tense of {s} is {a}.",
        statements=(
            "{A} is the past tense of {s}.",
            "The past form of {s} is {a}.",
            "The verb {s} has the past tense {a}.",
            "Today they {s}, yesterday they {a}.",
            "For yesterday, write {a} in place of {s}.",
        ),
        questions=(
            "What is the past tense of {s}?",
            "What is the past form of {s}?",
            "Which word is the past tense of {s}?",
            "What is the past tense of the verb {s}?",
        ),
        request="Tell me the past tense of {s}.",
    ),
    "sum": Kind(
        full="The sum of {x} and {y} is {a}.",
        statements=(
            "{x} plus {y} is {a}.",
            "{x} and {y} make {a}.",
            "If you add {x} and {y}, you get {a}.",
            "{x} + {y} = {a}.",
            "{a} is the sum of {x} and {y}.",
        ),
        questions=(
            "What is {x} plus {y}?",
            "How much is {x} plus {y}?",
            "What is the sum of {x} and {y}?",
            "What is {x} + {y}?",
        ),
        request="Tell me the sum of {x} and {y}.",
    ),
    "symbol": Kind(
        full="The chemical symbol of {s} is {a}.",
        statements=(
            "{a} is the chemical symbol of {s}.",
            "The symbol of {s} is {a}.",
            "Chemists write {a} for {s}.",
            "The element {s} has the symbol {a}.",
            "In the table of elements, {s} is written {a}.",
        ),
        questions=(
            "What is the chemical symbol of {s}?",
            "What is the symbol of {s}?",
            "Which symbol does the element {s} have?",
            "What is the chemical symbol of the element {s}?",
        ),
        request="Tell me the chemical symbol of {s}.",
    ),
}
