"""How a text is cut into words and sentences, in every script. The one way for rules, the gate, text scores and CLIP.

Scripts that put no space between words (Han, Kana, Thai, Lao, Khmer, Burmese, Tibetan) count each character as a word,
as sacrebleu does for Chinese. Everywhere else, Korean too, a word is a run of letters, marks and digits. Pure text.
"""

from __future__ import annotations

import re
import unicodedata

import regex

_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー"
UNSPACED = rf"[[{_SCRIPTS}]&&[\p{{L}}\p{{Nl}}]]"
"""A letter of a script without spaces between words (as a set of `regex`'s version 1)."""
SENTENCE_END = r"(?:[.!?]+(?=\s|$)|[。！？｡؟۔।॥።။။។]+|．(?!\d))"
"""Where a sentence ends; the marks of other scripts need no space behind them."""
CLAUSE_END = rf"(?:{SENTENCE_END}|[,;:]+(?=\s|$)|[，；：、､،؛]+)"
"""Where a sentence or a part of it ends."""

_ONE = rf"{UNSPACED}\p{{M}}*"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d]--{UNSPACED}]+"
_NUMBER = r"-?\p{Nd}+(?:\.\p{Nd}+)?"
_WORD = regex.compile(f"{_RUN}|{_ONE}", regex.V1)
_WORD_OR_NUMBER = regex.compile(f"{_NUMBER}|{_RUN}|{_ONE}", regex.V1)
_ASCII_WORD = re.compile("[a-z0-9]+")
_ASCII_WORD_OR_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|[a-z0-9]+")
_SCRIPTS_MEET = regex.compile(
    r"(?<=[A-Za-z])(?=[\p{L}--\p{Latin}])|(?<=[[\p{L}\p{M}]--\p{Latin}])(?=[A-Za-z])", regex.V1
)
_APART = regex.compile(rf"\s*({_ONE}|[。、《-】،؛؟۔।॥])\s*", regex.V1)


def folded(text: str) -> str:
    """The text in Unicode's form NFKC: full-width letters, ligatures and parts of syllables read as what they mean."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def scripts_apart(text: str) -> str:
    """The text with a space where a Latin letter meets another script: "选B" as "选 B"."""
    return text if text.isascii() else str(_SCRIPTS_MEET.sub(" ", text))


def words(text: str, *, whole_numbers: bool = False) -> list[str]:
    """The words of a text, in lower case and without punctuation.

    Of ASCII text these are rouge-score's tokens.

    Args:
        text: anything.
        whole_numbers: keep "-3.5" as one word; else it is "3" and "5".
    """
    if text.isascii():  # the same words, several times faster
        return (_ASCII_WORD_OR_NUMBER if whole_numbers else _ASCII_WORD).findall(text.lower())
    pattern = _WORD_OR_NUMBER if whole_numbers else _WORD
    return pattern.findall(folded(text).casefold())


def spaced(text: str) -> str:
    """The text with spaces around each character of a script without spaces, and around that script's marks.

    Then a tool that knows spaces alone can count words; ASCII text stays as it is.
    """
    return text if text.isascii() else " ".join(_APART.sub(r" \1 ", folded(text)).split())
