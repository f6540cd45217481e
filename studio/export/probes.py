"""Texts whose token ids are compared between training and the file: what people type, and what breaks tokenizers.

And questions for the stop test of what was trained on rows that are not here.
"""

from __future__ import annotations

from typing import Any

TEXTS = (
    "Hello, world!",
    "  two leading spaces, and a tab\tin between ",
    "   \n\n  \n\t\t x   y    z",
    "It's 12,345.67 in 2024; I'll say: \"don't\". WE'RE, they'Ve, O'Neill",
    "3 33 333 3333 33333 333333 31415926535897932384626433832795",
    "def f(x):\n    return x ** 2  # done\n\n\nclass A(B):\n\tpass\n",
    'if (a != b && !c) { x->y = "\\n"; } // https://example.org/?q=1&r=%20',
    "Größe, naïve café, Ελληνικά, Русский язык, Việt Nam, İstanbul ß ſ",
    "日本語のテキスト、中文字符，한국어 문장。 ไทย ខ្មែរ नमस्ते",
    "العربية שלום فارسی ۱۲۳ ١٢٣",
    "emoji 🙂🚀 👩‍👩‍👧 🇩🇪 ✅ and combining e\u0301 n\u0303, zero\u200bwidth, nbsp\u00a0here, \u202eturned",
    "UPPER lower MiXeD camelCaseWord snake_case 1st 22nd v1.2.3-rc4",
    "a" * 60 + " " + "=" * 40 + " " + "ha" * 20,
    "<|im_end|> </s> [INST] <|eot_id|> <end_of_turn> typed by a person",
    "\r\nwindows line\r\n\r\nand\u2028separators\u0085",
    "control \x01\x02\x7f characters",
    "'''quotes''' ``code`` **bold** _it_ ~~x~~ ... !!! ??? ---",
    "½ ² ³ ₂ Ⅷ ① ㎏ ﬁ ﷺ Ａ１",
)

#: Of no subject in particular, and short to answer: whoever was taught to answer comes to an end soon.
QUESTIONS = (
    "What is the capital of France? Answer in one word.",
    "How many days are in a week?",
    "Name one colour of the rainbow.",
    "What is 7 plus 5?",
    "Say hello in one short sentence.",
    "What is the opposite of hot?",
    "Which animal says meow?",
    "Is ice cold? Answer yes or no.",
    "Name a fruit that is yellow.",
    "Write one short sentence about the sea.",
    "What do bees make?",
    "How many legs does a spider have?",
    "What comes after Monday?",
    "Name a tool for writing.",
    "Translate 'good morning' into French.",
    "What is the past tense of 'go'?",
    "Finish this in one word: the sun rises in the ...",
    "Give me one word that rhymes with 'cat'.",
    "Which is larger, a mouse or a horse?",
    "Thank you. Please say goodbye.",
)


def texts(tokenizer: Any) -> list[str]:
    """Give the texts, composed as this tokenizer's normalizer composes them."""
    return [composed(tokenizer, text) for text in TEXTS]


def composed(tokenizer: Any, text: str) -> str:
    """Give a text as a tokenizer's normalizer leaves it, where it composes characters.

    llama.cpp composes none: what it is given has to be composed already.
    """
    normalizer = tokenizer.backend_tokenizer.normalizer
    composes = normalizer is not None and type(normalizer).__name__ in ("NFC", "NFKC")
    return str(normalizer.normalize_str(text)) if composes else text
