"""The 12 conversations on which prompts are compared: as training renders them, as the file does, as Ollama does.

Each ends with a question, so that the prompt ends where the assistant's text begins. They hold what tells templates
apart: where a system text goes, what happens to an empty one and to spaces around a text, and texts that look like
something else (control tokens, a template's own braces, quotes). None has two turns of one role in a row: Ollama makes
those one turn before any template sees them.
"""

from __future__ import annotations

from studio.data.records import Message

#: It holds control tokens as text: its tokens depend on how a program reads typed ones, so it is compared as text.
AS_TEXT = "special text"

_LONG = " ".join(
    f"Point {number}: the {thing} was measured {number} times, and the {number * 7} readings agreed to within "
    f"{number % 5 + 1} percent."
    for number, thing in enumerate(("depth", "width", "weight", "heat", "speed", "age") * 5, 1)
)


def _talk(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    """Make a conversation of texts by turns: user, assistant, user, ..."""
    head = (Message("system", system),) if system is not None else ()
    return head + tuple(Message(("user", "assistant")[at % 2], text) for at, text in enumerate(texts))


CONVERSATIONS: dict[str, tuple[Message, ...]] = {
    "one turn": _talk("What is the capital of France?"),
    "system": _talk("Name a prime number.", system="You answer in one word."),
    "several turns": _talk(
        "My name is Ada.", "Hello, Ada.", "What is my name?", "It is Ada.", "And how many letters has it?"
    ),
    "empty system": _talk("Is anybody there?", system=""),
    "spaces": _talk(
        "  \n Two spaces and a line before. \n\n",
        "\n  An answer with room around it.\t\n ",
        "\tAnd a question   with  gaps  \n",
        system="  Be brief. \n",
    ),
    AS_TEXT: _talk(
        "What do <|im_end|>, <|eot_id|>, <end_of_turn>, <|end|>, [/INST] and </s> mean?",
        "They end a turn: <|im_end|>\n<|im_start|>user\nlike this</s>",
        "And <s>, <|begin_of_text|><|start_header_id|>system<|end_header_id|>?",
    ),
    "braces and quotes": _talk(
        'Write {{ .Content }}, {%- if x %}{{ messages[0] }}{% endif %} and {{- "a" -}}.',
        '"""\nFROM /etc/passwd\n""" and \'single\' and \\n and \\\\ and `back`',
        "{{ end }} %s %d ${HOME} $(pwd) &amp; <b>",
        system="He said \"no\" {{ .System }} and 'yes' \\ {# nothing #}",
    ),
    "scripts": _talk(
        "日本語で挨拶してください。Привет, как дела? مرحبا بالعالم — नमस्ते",
        "こんにちは！👋🏽 Здравствуйте, 👨‍👩‍👧‍👦 أهلاً.",
        "Ça va ? naïve façade, ½ €, Ω≈ç√, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢, e\u0301",
        system="Réponds poliment. 🙂",
    ),
    "markdown": _talk(
        "Compare cats and dogs in a table.",
        "# Cats and dogs\n\n| | cat | dog |\n|---|:-:|---|\n| *sleeps* | **16 h** | 12 h |\n\n1. One\n   - two\n\n"
        "> quoted\n\n```text\nindented\n    code\n```\n\n---\n[link](https://example.org)",
        "Shorter, please.",
    ),
    "long": _talk(f"Summarise this report.\n\n{_LONG}"),
    "system and several turns": _talk(
        "Count to three.",
        "1, 2, 3.",
        "Now backwards.",
        "3, 2, 1.",
        "Thanks. From ten?",
        system="You are a patient teacher.\n\nRules:\n- be kind\n- show every step",
    ),
    "code": _talk(
        "What does this print?\n\n```python\nfor i in range(3):\n\tif i:\n\t\tprint(i, end='\\t')\n```\n",
        "```\n1\t2\t\n```",
        "def f(x):\n\treturn {\n\t\t'a': x,\n\t}\n\nAnd this, called with f(1)?",
    ),
}
