"""The gate: rules that settle an over-long or repetitive response at 0 before any other scorer sees it. Pure text.

AutoDriveRL scores in two stages; this is the first, and it keeps worthless answers away from an expensive judge.
"""

from __future__ import annotations

from collections import Counter

import regex

from data.reading.words import SENTENCE_END, words
from rewards.settings import GateSettings

OVERLONG = "overlong"
REPEATED_NGRAMS = "repeated_ngrams"
REPEATED_SENTENCE = "repeated_sentence"

LONGEST_WORD = 40
"""A longer run of letters is no word of any language ("gogogo..."): its characters are counted in its place."""

_SENTENCE_END = regex.compile(rf"{SENTENCE_END}|\n+")


def gate_reason(text: str, finish_reason: str, settings: GateSettings) -> str | None:
    """Why a response is worth 0 without a look at its content, or None when it passes.

    `finish_reason` is the engine's: `length` means cut off at the token cap. The whole response counts, thinking too.
    """
    if settings.overlong and finish_reason == "length":
        return OVERLONG
    if most_repeated_sentence(text) > settings.max_repeated_sentence:
        return REPEATED_SENTENCE
    words = _words(text)
    if len(words) >= settings.min_words and repeated_share(words, settings.ngram) > settings.max_repeated_share:
        return REPEATED_NGRAMS
    return None


def repeated_share(words: list[str], n: int) -> float:
    """The share of n-grams that are repetitions of an earlier one, in [0, 1); 0 when there are none."""
    ngrams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1.0 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def most_repeated_sentence(text: str) -> int:
    """How often the most frequent sentence occurs; case and punctuation do not tell sentences apart."""
    sentences = (" ".join(_words(part)) for part in _SENTENCE_END.split(text))
    return max(Counter(sentence for sentence in sentences if sentence).values(), default=0)


def _words(text: str) -> list[str]:
    """Words and numbers; a pixel coordinate is one word, so a list of many objects is no repetition."""
    found = words(text, whole_numbers=True)
    if max(map(len, found), default=0) <= LONGEST_WORD:
        return found
    return [
        part
        for word in found
        for part in (word if len(word) > LONGEST_WORD and any(map(str.isalpha, word)) else [word])
    ]
