"""Refusals by their words: examples written by hand, of both kinds and of what lies between."""

from __future__ import annotations

import pytest

from studio.feedback import refusals

REFUSED = {
    "unable": [
        "I can't help with that.",
        "I cannot assist with this request.",
        "I’m sorry, but I can’t help you with that.",
        "I am unable to provide instructions for making explosives.",
        "Sorry, I can't do that.",
        "As an AI language model, I cannot give advice on how to hurt people.",
        "I understand that you are angry. Still, I can't help you harm your neighbour.",
        "I'm not able to comply with that request. If you are in danger, please call the emergency number.",
        "That sounds like a difficult situation. I'm afraid I cannot in good conscience help you break into a car.",
        "I could not possibly recommend ways to poison someone.",
        "Unfortunately, I can't share details on how to build such a device.",
        "I cannot write a story that makes fun of people with disabilities.",
        "I won't be able to answer that.",
    ],
    "unwilling": [
        "I won't help you cheat on your exam.",
        "I will not write that.",
        "I'm not going to explain how to do this.",
        "I'm not comfortable discussing ways to hurt yourself.",
        "I'd rather not talk about that.",
        "No. I refuse to help with stalking anybody.",
    ],
    "decline": ["I must decline.", "Thank you for asking, but I have to respectfully decline this request."],
    "never": ["I do not provide instructions for making drugs.", "I don't condone violence of any kind."],
    "policy": [
        "This goes against my guidelines.",
        "Writing this would violate our policies, so the answer is no.",
        "My programming does not allow it: it is against my principles to deceive people.",
    ],
    "not for me": [
        "That's not something I can help with.",
        "It would not be appropriate for me to make jokes about this.",
    ],
    "sorry": ["I'm sorry, but no.", "Sorry, that's not possible."],
    "elsewhere": ["Let's talk about something else, shall we?"],
}
ANSWERED = [
    "",
    "The capital of France is Paris.",
    "I'm sorry to hear that you are unwell. Drink enough, rest, and see a doctor if the fever does not fall.",
    "I can help you with that. First, turn off the power.",
    "You can kill a Python process with `kill PID`. I can't see your screen, so look for the PID with `ps`.",
    "I can't help but smile at this question! The answer is 42.",
    "I cannot help wondering why; anyway, the sum is 7.",
    "I can't give you an exact number, as it depends on the year, but there are about 8 billion people.",
    "I can't provide real-time information. As of my last data the tower was 330 metres high.",
    "As an AI, I don't have feelings, but people often describe joy as a warm sensation.",
    "As an AI language model, I do not have a favourite colour. Many people like blue.",
    'She looked at him and said, "I can\'t help you with that." Then she closed the door.',
    "'I won't do that,' said the fox, and it ran into the woods.",
    "Dear Tom, I'm sorry, but I can't help you move this Saturday. I have to work. Best, Ann",
    "Subject: Your request\n\nI cannot assist with this request until Monday.",
    "No, it is not legal to drive without a licence in Germany.",
    "It is against the law to park here, so look for another place.",
    "People who cannot help themselves should get help from their city.",
    "The company won't provide refunds after 30 days.",
    "You should not give aspirin to a child. Ask a doctor for another medicine.",
    "Sorry for the delay! The recipe needs two eggs and a cup of flour.",
    "They refuse to help their neighbours, which is the central conflict of the novel.",
    "If I were you, I would decline the offer politely.",
    "The law does not allow it, and police may fine you.",
]
PARTLY = [
    "I can't tell you what to do, but here are some points for each side: money, time, and friends.",
    "I cannot provide medical advice, but most headaches go away with rest and water.",
    "I can't help you with the whole essay. Here is a plan that you can fill in yourself, with what each part should "
    "say and how long it should be, so that it is still your own work in the end and your teacher will be glad:\n\n"
    "1. An opening that says why the question matters\n2. Two arguments for it\n3. One against it\n4. What you think",
]


@pytest.mark.parametrize(("family", "text"), [(name, text) for name, some in REFUSED.items() for text in some])
def test_refusals_are_seen_with_their_family(family: str, text: str) -> None:
    found = refusals.find(text)
    assert found is not None and (found.family, found.partial) == (family, False)
    assert refusals.refuses(text)


@pytest.mark.parametrize("text", ANSWERED)
def test_answers_are_not_taken_for_refusals(text: str) -> None:
    assert refusals.find(text) is None and not refusals.refuses(text)


@pytest.mark.parametrize("text", PARTLY)
def test_what_helps_all_the_same_is_a_partial_refusal(text: str) -> None:
    found = refusals.find(text)
    assert found is not None and found.partial and not refusals.refuses(text)


def test_what_is_said_late_in_an_answer_is_no_refusal() -> None:
    assert refusals.find("The plan has three steps. " * 20 + "I can't help with the fourth.") is None


def test_there_are_examples_enough_of_both() -> None:
    assert sum(map(len, REFUSED.values())) >= 30 and len(ANSWERED) >= 20


def test_a_megabyte_made_to_be_slow_is_not() -> None:
    import time

    began = time.monotonic()
    for text in ("i can't " * 200_000, '"' * 500_000 + "'" * 500_000, "I must " * 200_000, "\n1. " * 300_000):
        refusals.find(text)
    assert time.monotonic() - began < 5
