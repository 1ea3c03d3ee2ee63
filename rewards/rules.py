"""Rules for answers that are right or wrong: exact match, yes/no and options. Pure text.

A rule that cannot tell what an answer means says None rather than guess; hedging ("A or B") is never right.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_MARKUP = re.compile(r"\\boxed\{([^{}]*)\}|\\text\{([^{}]*)\}|[*`#$\"“”]")

# --- exact match ------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """Lower case, single spaces, no markdown or quotes, no punctuation at the ends; object tags stay as they are."""
    return " ".join(_plain(text).casefold().split()).strip(" .,;:!?'")


def exact_match(text: str, truth: str) -> bool:
    """Whether two answers are the same after `normalise`; an answer with nothing in it matches nothing.

    The DriveLM challenge's accuracy compares the strings as they are; this also forgives case and a full stop.
    """
    return normalise(text) == normalise(truth) != ""


# --- yes or no --------------------------------------------------------------------------------------------------------

_LEADING_VERDICT = re.compile(r"\W*(yes|no)\b(?!-)")
_LONE_VERDICT = re.compile(
    r"(?:[.,;:!?/\n(]\s*|\b(?:and|or|but|so|then)\s+)(yes|no)(?=\s*(?:[.,;:!?/)\n]|$|\b(?:and|or)\b))"
)
_STATED_VERDICT = re.compile(r"\banswer\s*(?:is|:|=)?\s*:?\s*(yes|no)\b")


def extract_yes_no(text: str) -> bool | None:
    """True for yes, False for no, None when the text says neither or both.

    Counted are a text's first word, "the answer is yes", and a yes or no that stands alone between punctuation:
    "Yes, there are no cars." is a yes, "Yes. No." is neither.
    """
    plain = _plain(text).casefold().strip()
    leading = _LEADING_VERDICT.match(plain)
    verdicts = {leading[1]} if leading else set()
    verdicts |= set(_LONE_VERDICT.findall(plain)) | set(_STATED_VERDICT.findall(plain))
    return verdicts == {"yes"} if len(verdicts) == 1 else None


# --- options ----------------------------------------------------------------------------------------------------------

_IS = r"\b(?:\s*(?:is|are|was|would\s+be|should\s+be|must\s+be)\b|\s*[:=])*"
_FINAL = re.compile(r"\bfinal\s+(?:answer|choice)" + _IS, re.IGNORECASE)
_STATED = re.compile(
    r"\b(?:answer|(?:correct|right|best)\s+(?:option|choice|one)|i\s+(?:choose|pick|select))" + _IS, re.IGNORECASE
)
_NAMED = re.compile(r"\b(?:option|choice)" + _IS, re.IGNORECASE)
_CAPITAL = re.compile(r"(?<!\w)(?<!\w['’-])(?=[A-Z](?!\w|['’-]\w))")
_ENUMERATED = re.compile(r"(?:^|[\n.;:!?)]\s*)\(?([A-Z])[.):](?=\s|$)")
_LETTER = re.compile(r"\s*(?:the\s+)?(?:(?:option|choice)\b)?\s*[:(\['‘]?\s*([A-Za-z])(?!\w|['’-]\w)", re.IGNORECASE)
_CLOSED = re.compile(r"[)\].:,;/'’]|\s*$")
_GOES_ON = re.compile(r"\s*[\n–—=>&/(-]|\s+(?:is|was|because|since|as|for|which|and|or|but|with|would|seems|looks)\b")
_ALSO = re.compile(r"\s*[.):]*\s*(?:,|/|&|\band\b|\bor\b)+")

_Found = tuple[str, int]
"""An option letter and where in the text it ends."""


def extract_option(text: str, letters: Collection[str]) -> str | None:
    """The option letter that a text chooses, or None when it chooses none or several.

    In this order: the letter after the last "final answer"; the letter at the beginning ("B", "b.", "(B)", "B: ...",
    "B because ...") or after "the answer is", "correct option:", which must agree; "option B"; a capital that stands
    alone. The article "a" is no option: an "a" or "A" before a word counts only where no article could stand
    ("A because ..."). Two letters side by side ("A or B"), or a list of options that settles on none, choose nothing.

    Args:
        letters: the options there are, as capitals.
    """
    plain = _plain(text).strip()
    final = _after(_FINAL, plain, letters)
    if final:
        return None if _hedged(plain, final[-1], letters) else final[-1][0]
    leading = [found for found in [_letter_at(plain, 0, letters)] if found]
    stated = _after(_STATED, plain, letters)
    listed = {letter for letter in _ENUMERATED.findall(plain) if letter in letters}
    if leading and not stated and len(listed | {leading[0][0]}) > 1:
        return None
    found = [*leading, *stated] or _after(_NAMED, plain, letters) or _after(_CAPITAL, plain, letters)
    if any(_hedged(plain, one, letters) for one in found):
        return None
    chosen = {letter for letter, _ in found}
    return chosen.pop() if len(chosen) == 1 else None


def option_of(text: str, choices: Mapping[str, str]) -> str | None:
    """The option a text chooses by letter or, when it names none, by being exactly one option's text."""
    letter = extract_option(text, choices)
    if letter is not None:
        return letter
    same = [letter for letter, choice in choices.items() if exact_match(text, choice)]
    return same[0] if len(same) == 1 else None


def _after(place: re.Pattern[str], text: str, letters: Collection[str]) -> list[_Found]:
    """The option letters that stand right after the places a pattern finds."""
    candidates = (_letter_at(text, at.end(), letters) for at in place.finditer(text))
    return [found for found in candidates if found]


def _letter_at(text: str, position: int, letters: Collection[str]) -> _Found | None:
    """The option letter standing at a position, unless it reads as an article."""
    match = _LETTER.match(text, position)
    if match is None or match[1].upper() not in letters:
        return None
    letter, end = match[1], match.end()
    if _CLOSED.match(text, end):
        return letter.upper(), end
    if _GOES_ON.match(text, end):
        return letter.upper(), end
    # Another word follows: "B car ahead" names an option, "A car ahead", "A given car" and "b car ahead" do not.
    return (letter, end) if letter.isupper() and letter not in "AI" else None


def _hedged(text: str, found: _Found, letters: Collection[str]) -> bool:
    """Whether another option follows directly: "A or B", "A, C", "(A) and (B)"."""
    also = _ALSO.match(text, found[1])
    return also is not None and _letter_at(text, also.end(), letters) is not None


def _plain(text: str) -> str:
    """Without markdown, quotes and LaTeX wrappers."""
    return _MARKUP.sub(lambda found: found[1] or found[2] or "", text)
