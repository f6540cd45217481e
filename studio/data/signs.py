"""What one record gives away by itself: secrets, personal data, broken characters, markers, odd turns.

Made for one pass over millions of rows: cheap checks of the whole text decide which of the exact patterns are asked.
What is found is never shown as it stands: a secret in a warning is a secret in a log.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from studio.data import fill
from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text, turns


@dataclasses.dataclass(frozen=True, slots=True)
class Sign:
    """A code of the lint, what was seen (a kind, never the thing itself), and a masked picture of it."""

    code: str
    what: str = ""
    shown: str = ""


def signs(record: Record) -> list[Sign]:
    """Give everything odd about a record, without regard to other records."""
    said = texts(record)
    found = _of_text("\n".join(said))
    found += _of_turns(record, said)
    return found


def texts(record: Record) -> list[str]:
    """Give every text in a record."""
    if isinstance(record, Text):
        return [record.text]
    said = []
    for turn in turns(record) + record.rejected if isinstance(record, Preference) else turns(record):
        said.append(turn.content)
        if turn.reasoning:
            said.append(turn.reasoning)
        if turn.tool_calls:
            said.append(repr(turn.tool_calls))
    return said


def answers(record: Record) -> list[str]:
    """Give the answers that are learned; of a pair the chosen one first, then the rejected one."""
    if isinstance(record, Conversation):
        return [turn.content for turn in record.messages if turn.role == "assistant" and turn.train]
    if isinstance(record, Preference):
        return [_spoken(record.chosen), _spoken(record.rejected)]
    return [_spoken(record.completion)] if isinstance(record, Rated) else []


def _spoken(messages: Sequence[Message]) -> str:
    return "\n".join([turn.content for turn in messages if turn.role == "assistant"])


# --- the text --------------------------------------------------------------------------------------------------------

# Letters and digits become w, what nobody types on purpose becomes a NUL, everything else a space.
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r") | {127}
_KINDS = bytes(0 if i in _CONTROL else 119 if (i < 128 and chr(i).isalnum()) or i in b"_-." else 32 for i in range(256))
_DIGITS = bytes(48 if 48 <= i < 58 else 120 for i in range(256))
_BETWEEN = b" ().-"
_TOKEN = b"w" * 20
_NUMBER = b"0" * 9

# Every pattern is bounded, so that a megabyte made to be slow is not.
_SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key (sk-...)": re.compile(r"\bsk-(?=[\w-]{0,80}\d)(?=[\w-]{0,80}[A-Z])[\w-]{20,}"),
    "a Stripe key": re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{20,}"),
    "a Slack token": re.compile(r"\bxox[abeprs]-[\w-]{16,}"),
    "an AWS key id": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google API key": re.compile(r"\bAIza[\w-]{35}"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,200}\.eyJ[\w-]{10,1500}\.[\w-]{10,}"),
}
_KEY_BLOCK = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
_MAIL = re.compile(r"\b[\w.+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})\b")
_MADE_UP = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net)|example|test|invalid|localhost)$")
_PHONE = re.compile(r"(?<![\w.+/-])(?:\+\d[\d ().-]{7,18}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-]|\.\d)")
_FICTION = re.compile(r"555\D?\d{4}$")  # the exchange that films use
_CARD = re.compile(  # Visa, Mastercard, Discover, JCB in fours; American Express 4-6-5
    r"(?<![\w.+-])(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|6[45]\d\d|35\d\d)(?:[ -]?\d{4}){3}"
    r"|3[47]\d\d[ -]?\d{6}[ -]?\d{5})"
    r"(?![\w-]|\.\d)"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")

_MARKERS = re.compile(
    r"<(?:\|[A-Za-z_][\w .-]{0,30}\|>|[|｜][\w▁]{1,40}[|｜]>|</?SYS>>|/?s>|(?:bos|eos|pad)>|(?:start|end)_of_turn>)"
    r"|\[(?:/?INST|/?SYSTEM_PROMPT|/?AVAILABLE_TOOLS|/?TOOL_RESULTS|TOOL_CALLS)\]"
)
_HEADS = re.compile(
    r"^### ?(?:Instruction|Response|Input|Human|Assistant)\b:?|^\s?(?:Human|Assistant|USER|ASSISTANT):", re.MULTILINE
)
_SPEAKERS = ("Human:", "Assistant:", "USER:", "ASSISTANT:")
_CALCULATOR = re.compile(r"<<[-+*/().,%\d\s]+=[^<>\n]{1,30}>>")
# UTF-8 read as Latin-1 or Windows-1252: a lead byte's letter, then what a continuation byte looks like in either.
_TRAIL = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"[ÃÂ][{_TRAIL}]|[âïðÐÑÎÏ][{_TRAIL}]{{2}}|â€|[\x80-\x84\x86-\x9f]|�")
_BROKEN_PAIRS = re.compile(f"(?:[ÐÑÎÏ][{_TRAIL}]){{2}}")
_INVISIBLE = re.compile("[\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]")
# Where the scripts begin; kana and the ideographs count as one, or Japanese would be two.
_SCRIPTS = (
    ("\u0370", "Greek"),
    ("\u0400", "Cyrillic"),
    ("\u0530", "Armenian"),
    ("\u0590", "Hebrew"),
    ("\u0600", "Arabic"),
    ("\u0700", "another script"),
    ("\u0900", "Devanagari"),
    ("\u0980", "another Indian script"),
    ("\u0e00", "Thai"),
    ("\u0e80", "another script"),
    ("\u10a0", "Georgian"),
    ("\u1100", "Korean"),
    ("\u1200", "another script"),
    ("\u2e80", "Chinese or Japanese"),
    ("\ua000", "another script"),
    ("\uac00", "Korean"),
    ("\uf900", "Chinese or Japanese"),
    ("\ufb1d", "Hebrew"),
    ("\ufb50", "Arabic"),
    ("\uff66", "Chinese or Japanese"),
    ("\U00020000", "Chinese or Japanese"),
)
_STARTS = [start for start, _ in _SCRIPTS]
_BEYOND_LATIN = re.compile(
    "[\u0370-\u1dff\u1f00-\u1fff\u2e80-\u2fff\u3005-\u3007\u3040-\ud7ff\uf900-\ufaff\ufb1d-\ufdff\ufe70-\ufefc"
    "\uff66-\uffdc\U00020000-\U0003ffff]+"
)
_REFUSAL = re.compile(
    r"\b[Aa]s an? (?:large )?(?:AI|artificial intelligence)(?: language)?(?: model| assistant)?\b"
    r"|\bI(?:'m| am) (?:really |very )?sorry, but I (?:can(?:'t|not)|am (?:not able|unable))"
    r"|\bI (?:can(?:'t|not)|am unable to) (?:assist|help) (?:you )?with (?:that|this)"
)


def _of_text(text: str) -> list[Sign]:
    found: list[Sign] = []
    ascii_only = text.isascii()
    raw = text.encode("utf-8", "replace")
    kinds = raw.translate(_KINDS)
    if _TOKEN in kinds:
        found += _secrets(text)
    if "-----BEGIN" in text and _KEY_BLOCK.search(text):
        found.append(Sign("secret", "a private key", "-----BEGIN ... PRIVATE KEY-----"))
    if "@" in text:
        found += _mails(text)
    if _NUMBER in raw.translate(_DIGITS, _BETWEEN):
        found += _numbers(text)
    if b"\0" in kinds:
        found.append(Sign("control_characters", "control characters"))
    seen = _MARKERS.findall(text) if "<" in text or "[" in text else []
    if ("#" in text and "###" in text) or (":" in text and any(speaker in text for speaker in _SPEAKERS)):
        seen += _HEADS.findall(text)
    found += [Sign("foreign_markers", mark.strip()) for mark in dict.fromkeys(seen)]
    if "{{" in text:
        found += [Sign("placeholder", name) for name in dict.fromkeys(fill.names(text))]
    if "<<" in text and _CALCULATOR.search(text):
        found.append(Sign("calculator_marks"))
    if not ascii_only:
        if _MOJIBAKE.search(text) or _BROKEN_PAIRS.search(text):
            lost = "�" in text
            found.append(Sign("mojibake", "U+FFFD, where a character was lost" if lost else "text in a wrong encoding"))
        if _INVISIBLE.search(text):
            found.append(Sign("control_characters", "invisible or direction-changing characters"))
        if "\xa0" in text:
            found.append(Sign("no_break_space"))
        if script := _script(text):
            found.append(Sign("scripts", script))
    return found


def _script(text: str) -> str:
    """Name the script that much of a text is in, unless it is Latin.

    Counted are letters beyond Latin, so punctuation, symbols and emoji do not matter.
    """
    letters = "".join(_BEYOND_LATIN.findall(text))
    if len(letters) * 5 < len(text):
        return ""
    places = Counter(bisect.bisect_right(_STARTS, letter) for letter in letters[:: 1 + len(letters) // 200])
    return _SCRIPTS[places.most_common(1)[0][0] - 1][1]


def _secrets(text: str) -> Iterator[Sign]:
    for what, pattern in _SECRETS.items():
        if match := pattern.search(text):
            yield Sign("secret", what, f"{match[0][:4]}••• ({len(match[0])} characters)")


def _mails(text: str) -> Iterator[Sign]:
    for match in _MAIL.finditer(text):
        if not _MADE_UP.search(match[1].lower()):
            yield Sign("pii", "an e-mail address", f"{match[0][0]}•••@•••.{match[1].rsplit('.', 1)[1]}")
            return


def _numbers(text: str) -> Iterator[Sign]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if luhn(digits):
            yield Sign("pii", "a card number", f"•••• ({len(digits)} digits)")
            break
    for match in _IBAN.finditer(text):
        if iban(match[0].replace(" ", "")):
            yield Sign("pii", "a bank account (IBAN)", f"{match[0][:2]}•• ••••")
            break
    for match in _PHONE.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if 9 <= len(digits) <= 13 and not _FICTION.search(match[0]):
            yield Sign("pii", "a phone number", f"••• ({len(digits)} digits)")
            break


def luhn(digits: str) -> bool:
    """Tell whether a card number's check digit holds: from the right, every second digit doubled, the sum mod 10."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def iban(text: str) -> bool:
    """Tell whether an account number's check digits hold: the first four last, letters as 10 to 35, mod 97 is 1."""
    return 15 <= len(text) <= 34 and int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


# --- the turns -------------------------------------------------------------------------------------------------------


def _of_turns(record: Record, said: Sequence[str]) -> list[Sign]:
    found = []
    if isinstance(record, Text):
        return [] if record.text.strip() else [Sign("empty", "text")]
    spoken = turns(record)
    if any(not turn.content.strip() and not turn.tool_calls for turn in spoken if turn.role != "system"):
        found.append(Sign("empty"))
    if isinstance(record, Conversation):
        first = next((turn for turn in spoken if turn.role != "system"), None)
        if first is not None and first.role == "assistant":
            found.append(Sign("assistant_first"))
    found += [Sign("role_order", what) for what in _order(spoken, not isinstance(record, Prompt))]
    learned = answers(record)
    if any(text and (text[0].isspace() or text[-1].isspace()) for text in learned):
        found.append(Sign("edge_space"))
    if isinstance(record, Preference):
        chosen, rejected = ("".join(text.split()).casefold() for text in learned[:2])
        if chosen == rejected:
            found.append(Sign("white_equal"))
        learned = learned[:1]
    if any(_refuses(text[:200]) for text in learned):
        found.append(Sign("refusal"))
    return found


def _refuses(head: str) -> bool:
    return any(hint in head for hint in ("AI", "artificial", "sorry", "with th")) and bool(_REFUSAL.search(head))


def _order(spoken: Sequence[Message], whole: bool) -> list[str]:
    """Say what is odd about the order of the turns; `whole` conversations and sides end with the assistant's."""
    found: dict[str, None] = {}
    before = ""
    called = False
    for index, turn in enumerate(spoken):
        role = turn.role
        if role == "system":
            if index:
                found["a system turn that is not the first"] = None
        elif role == "tool":
            if not called:
                found["a tool's turn that no call asked for"] = None
        else:
            if role == before:
                found[f"two {role} turns running"] = None
            called = role == "assistant" and bool(turn.tool_calls)
        before = role
    if whole and before not in ("assistant", ""):
        found[f"a last turn that is the {before}'s"] = None
    return list(found)
