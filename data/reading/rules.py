"""Rules for answers that are right or wrong: exact match, verdicts (yes/no, true/false) and options. Pure text.

A rule that cannot tell what an answer means says None rather than guess; hedging ("A or B") is never right. Texts are
read in Unicode's form NFKC, so that full-width and other forms of a letter are that letter.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import regex

from data.reading.option_words import ALSO, BEHIND, DENIED_BEHIND, FINAL, IS, NO_NOUN, OPTION, PILLAR, STATED
from data.reading.option_words import DENIED as OPTION_DENIED
from data.reading.verdict_words import (
    AND,
    ANSWER,
    BE,
    BECAUSE,
    BECAUSE_UNSPACED,
    CONDITION,
    CONJUNCTION,
    CONJUNCTION_UNSPACED,
    DENIED,
    FALSE_WORDS,
    HEDGES,
    ITSELF,
    NO_WORDS,
    NOT,
    OR,
    STATEMENT,
    SURELY,
    THING,
    TONGUES,
    TRUE_WORDS,
    UNCLEAR,
    YES_WORDS,
    Tongue,
)
from data.reading.words import UNSPACED, folded, scripts_apart

_WRAPPED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mathbb)\s*\{([^{}]*)\}")
_MARKUP = re.compile(r"[*`#$\"“”「」『』《》〈〉【】]|</?(?:b|strong|i|em|u|code)>|(?<!\w)_+|_+(?!\w)")
_NESTED = 4
"""How deep LaTeX wrappers may lie in each other."""

# --- exact match ------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """Lower case, single spaces, no markdown or quotes, no punctuation at the ends; object tags stay as they are."""
    return " ".join(_plain(text).casefold().split()).strip(" .,;:!?'。、，；：！？،؛؟।…")


def exact_match(text: str, truth: str) -> bool:
    """Whether two answers are the same after `normalise`; an answer with nothing in it matches nothing.

    The DriveLM challenge's accuracy compares the strings as they are; this also forgives case and a full stop.
    """
    return normalise(text) == normalise(truth) != ""


# --- yes or no, true or false -----------------------------------------------------------------------------------------


_IN_WORD = r"[\p{L}\p{M}\p{N}]"


def _any_of(part: str, tongues: Sequence[Tongue]) -> str:
    """One part of some languages; in a language with spaces no part of a longer word."""
    of_tongues = []
    for tongue in tongues:
        alternatives = getattr(tongue, part)
        if part in ("yes", "no"):  # plain words, of which one may begin another
            alternatives = "|".join(sorted(alternatives.split("|"), key=len, reverse=True))
        word = f"(?:{alternatives})(?:{tongue.endings})?"
        of_tongues.append(rf"(?<!{_IN_WORD}){word}(?!{_IN_WORD})" if tongue.spaces else word)
    return f"(?P<{part}>{'|'.join(of_tongues)})"


def _mention(tongues: Sequence[Tongue], begins: str = "") -> regex.Pattern[str]:
    """Finds whatever may be a verdict in English and in some languages; `begins` is true where one can begin."""
    others = "|".join(_any_of(part, tongues) for part in ("true", "false", "yes", "no"))
    return regex.compile(
        rf"{begins}(?:(?P<unclear>{UNCLEAR}|(?:{BE}\s+|(?<![\w'-])){HEDGES}\s+(?:{TRUE_WORDS}|{FALSE_WORDS})\b)"
        rf"|(?<![\w'-])(?:(?P<english_yes>{YES_WORDS})|(?P<english_no>{NO_WORDS}))\b(?!-\w)"
        rf"|(?:(?P<be>{BE})\s+|(?<![\w'-]))(?:{SURELY}\s+){{0,3}}(?:(?P<not>{NOT})\s+)?(?:{SURELY}\s+){{0,3}}"
        rf"(?:an?\s+)?(?:(?P<adjective_true>{TRUE_WORDS})|(?P<adjective_false>{FALSE_WORDS}))(?:\s+{THING})?\b(?!-\w)"
        rf"|{others})"
    )


_MENTION = _mention(TONGUES)
_MENTION_IN_ASCII = _mention([tongue for tongue in TONGUES if regex.search("[a-z]", tongue.yes)], r"(?:\b(?=\w)|(?='))")
"""The same of text that can hold no other script, in a fraction of the time."""
_FIRST_WORD = regex.compile(_IN_WORD)
_LONE = regex.compile(
    rf"(?:^|[.,;:!?/(。，；：！？、،؛؟।—–…\n]|\s-)\s*$|(?:\b(?:{CONJUNCTION})\s+|{CONJUNCTION_UNSPACED})$"
)
_STATED = regex.compile(rf"(?:{ANSWER})$")
_ALONE = regex.compile(rf"\W*(?:{ANSWER}|(?:(?:the|this)\s+|[该此這这]个?)?(?:{STATEMENT}))?\s*")
"""What may stand before the verdict that is all of an answer."""
_ENDED = regex.compile(
    rf"[^\S\n]*(?:$|\n|[^\w\s?'-]|-+\s)|\s+(?:-|(?:{BECAUSE})(?!{_IN_WORD}))|\s*(?:{BECAUSE_UNSPACED})"
)
_OTHER_SCRIPT_BEHIND = regex.compile(r"(?<=[a-z])\s+[\p{L}--\p{Latin}]", regex.V1)
_THAT = regex.compile(r"\s+(?:that|to)\b")
_NO_SPACES_BEHIND = regex.compile(rf"(?<={UNSPACED}\p{{M}}*)\s", regex.V1)
_CLAUSE_START = regex.compile(r"[.!?;,:\n。！？；，、؛،।]")
_ABOUT = regex.compile(f"{STATEMENT}|{ITSELF}")
_CONDITION, _DENIED = regex.compile(CONDITION), regex.compile(DENIED)
_OR, _AND = regex.compile(OR), regex.compile(AND)
_CLOSELY, _NEXT_TO = 200, 40
"""Characters before a word that say how it is meant, and what it stands next to."""
_SHORT = {"t": True, "y": True, "f": False, "n": False}
_AROUND_SHORT = " .!()"
_QUOTES = regex.compile(r"(?<!\w)['‘]|['‘](?!\w)")
_UNREAD = regex.compile("[\u0640\u064b-\u0652\ufe0e\ufe0f]")
"""Signs that a text may be written with or without: Arabic vowels, variants of symbols."""


def extract_yes_no(text: str) -> bool | None:
    """True for yes and true, False for no and false, None when the text says neither or both.

    Counted are a text's first word, "the answer is yes", a verdict that stands alone between punctuation, and what is
    said of a statement ("it is not true"); where there is none of these, what any clause ends with ("... is false
    because ..."). "Yes, there are no cars." is a yes, "Yes. No." is neither. The languages are those of
    `verdict_words`.
    """
    plain = _for_verdicts(text)
    short = _SHORT.get(plain.strip(_AROUND_SHORT))
    if short is not None:
        return short
    mentions = _single(plain, list(_mention_in(plain).finditer(plain)))
    first = _FIRST_WORD.search(plain)
    begins = first.start() if first else 0
    said = [(_weight(plain, mention, begins), _polarity(plain, mention)) for mention in mentions or ()]
    for weight in (2, 1):
        verdicts = {verdict for of, verdict in said if of == weight}
        if verdicts:
            return verdicts.pop() if len(verdicts) == 1 else None
    return None


@lru_cache(maxsize=4096)
def is_verdict(answer: str) -> bool:
    """Whether an annotated answer is a yes or no, with or without its reason: "Yes, there are two.", "true", "错误。".

    "No entry." and "None, no, none." are other answers, although a response that says so can be read.
    """
    plain = _for_verdicts(answer[:_CLOSELY])  # a data set has many, and most are long and none
    pattern, lead = _mention_in(plain), _ALONE.match(plain)
    first = pattern.match(plain) or (pattern.match(plain, lead.end()) if lead else None)
    begins = _ended(plain, first) if first else plain.strip(_AROUND_SHORT) in _SHORT
    return begins and extract_yes_no(answer) is not None


def _for_verdicts(text: str) -> str:
    plain = _UNREAD.sub("", _QUOTES.sub("", _single_spaced(_plain(text)).casefold().replace("’", "'"))).strip()
    return scripts_apart(plain)


def _mention_in(plain: str) -> regex.Pattern[str]:
    return _MENTION_IN_ASCII if plain.isascii() else _MENTION


def _single(text: str, mentions: list[regex.Match[str]]) -> list[regex.Match[str]] | None:
    """The mentions without pairs like "true or false"; None where two opposites hold at once ("yes and no")."""
    single: list[regex.Match[str]] = []
    for mention in mentions:
        if mention["unclear"]:
            if mention["both"]:
                return None
            continue
        pair = _pair(text, single[-1], mention) if single else None
        if pair == "and":
            return None
        if pair == "or":
            single.pop()
        else:
            single.append(mention)
    return single


def _pair(text: str, one: regex.Match[str], other: regex.Match[str]) -> str | None:
    """The word that joins two opposites, "and" or "or", where there is one."""
    between = text[one.end() : other.start()]
    joined = "and" if _AND.fullmatch(between) else "or" if _OR.fullmatch(between) else None
    if joined is None or _polarity(text, one) == _polarity(text, other):
        return None
    return joined if joined == "or" or _ended(text, other) else None


def _polarity(text: str, mention: regex.Match[str]) -> bool:
    """What a mention says: "not false", "isn't wrong" and "I don't think it is false" are true."""
    found = mention.groupdict()
    verdict = any(found[name] for name in ("english_yes", "adjective_true", "true", "yes"))
    denied = bool(found["not"]) ^ bool(regex.search(r"n't|cannot|can\s+not|could\s+not", found["be"] or ""))
    return verdict ^ denied ^ bool(_DENIED.search(_clause(text, mention)))


def _clause(text: str, mention: regex.Match[str]) -> str:
    """What stands before a mention in its clause."""
    return _CLAUSE_START.split(_before(text, mention.start()))[-1]


def _before(text: str, position: int) -> str:
    """What stands closely before a position: enough to read it by, and no more, so that a long text costs no more."""
    return text[max(0, position - _CLOSELY) : position]


def _weight(text: str, mention: regex.Match[str], first: int) -> int:
    """2 for a mention that answers, 1 for one that may, 0 for others ("the correct lane", "if it is true")."""
    found, before, clause = mention.groupdict(), _before(text, mention.start())[-_NEXT_TO:], _clause(text, mention)
    begins = mention.start() <= first
    if begins and (found["english_yes"] or found["english_no"]):
        return 2
    stated = bool(_STATED.search(before))
    if found["english_yes"] or found["english_no"] or found["yes"] or found["no"]:
        ended = _ended(text, mention)
        return 2 * bool(stated and (ended or text[mention.end() :][:1].isspace()) or ended and _LONE.search(before))
    if _CONDITION.search(clause):
        return 0
    about = bool(_ABOUT.search(clause))
    stands = bool(found["be"] or found["true"] or found["false"])
    if (found["adjective_true"] or "").casefold() == "right" and not (stands and about):
        return 0  # a direction
    if not _ended(text, mention):
        return int(bool(_THAT.match(text, mention.end())) and (begins or (stands and about)))
    if begins or stated or _LONE.search(before) or (stands and about):
        return 2
    return int(stands)


def _ended(text: str, mention: regex.Match[str]) -> bool:
    return any(one.match(text, mention.end()) for one in (_ENDED, _NO_SPACES_BEHIND, _OTHER_SCRIPT_BEHIND))


# --- options ----------------------------------------------------------------------------------------------------------

_FINAL, _STATED_OPTION, _NAMED = (
    re.compile(f"(?:{one}){IS}", re.IGNORECASE) for one in (FINAL, STATED, rf"\b(?:{OPTION})")
)
_CAPITAL = re.compile(r"(?<!\w)(?<!\w['’-])(?=[A-Z](?!\w|['’-][A-Za-z\d]))")
_ENUMERATED = re.compile(
    r"(?:^|[\n.;:!?)。；]\s*)\(?(?:([A-Z])[.):]|([a-z])\))(?=\s|$)(?!\s+(?:is|was|would|are|seems|looks)\b)|(?<![^\s。；、])([A-Z])[、。]"
)
_LINE = re.compile(r"^\W*([A-Za-z])\s*[).:、](?=\s|$)", re.MULTILINE)
_LINE_START = re.compile(r"^", re.MULTILINE)
_LETTER = re.compile(
    rf"\s*(?:the\s+)?(?:(?:{OPTION})\b)?\s*[:(\[{{<'‘]*\s*([A-Za-z])(?!\w|['’-][A-Za-z\d])", re.IGNORECASE
)
_CLOSED = re.compile(r"[)\].:,;/'’!}<>|。、；،؛।…]|\s*$")
_OTHER_SCRIPT = r"(?=[^\W\d_A-Za-z\u00c0-\u024f])"
_GOES_ON = re.compile(rf"\s*[\n–—=>&/(+-]|\s+(?:{BEHIND})\b|\s*{_OTHER_SCRIPT}(?!{PILLAR})")
_NO_ARTICLE = re.compile(rf"\s+{NO_NOUN}")
_TEXT_ENDS = re.compile(r"\s*(?:[.;:!。；\n]|$)|\s+(?:because|since)\b")
_BEFORE_ALSO = r"[\s.):\]]*"
_ALSO = re.compile(rf"{_BEFORE_ALSO}(?:{ALSO}\s*)+(?:(?:maybe|perhaps|possibly)\s+)?", re.IGNORECASE)
_RUN = re.compile(r"(?:[\s.,;:/()\[\]]{0,8}([A-Za-z])(?![\w'’])){1,26}[\s.,;:)\]]{0,8}?(?:$|\n)")
_OPTION_DENIED, _DENIED_BEHIND = (re.compile(one, re.IGNORECASE) for one in (OPTION_DENIED, DENIED_BEHIND))

_Found = tuple[str, int]
"""An option letter and where in the text it ends."""


def extract_option(text: str, letters: Collection[str]) -> str | None:
    """The option letter that a text chooses, or None when it chooses none or several.

    In this order: the letter after the last "final answer"; the letter at the beginning ("B", "b.", "(B)", "B: ...",
    "B、...", "B because ...") or after "the answer is", "correct option:", "答案是", which must agree; "option B"; the
    one line that begins "b) ..."; a capital that stands alone. The article "a" is no option: an "a" or "A" before a
    word counts only where no article could stand ("A because ...", "A Going ahead"), or where the words are that
    option's text. Several letters side by side ("A or B", "A\\nB"), or a list of options that settles on none, choose
    nothing, and neither does a letter that is ruled out ("not B").

    Args:
        text: the answer, in any language of `option_words`.
        letters: the options there are, as capitals; with their texts, where they are known.
    """
    plain = scripts_apart(_single_spaced(_plain(text)))
    final = _after(_FINAL, plain, letters)
    if final:
        return None if _hedged(plain, final[-1], letters) else final[-1][0]
    run = {letter.upper() for letter in _run(plain, 0)} & set(letters)
    leading = [found for found in [_letter_at(plain, 0, letters)] if found and len(run) < 2]
    stated = _after(_STATED_OPTION, plain, letters)
    if leading and not stated and len(_listed(plain, letters) | {leading[0][0]}) > 1:
        return None
    found = [*leading, *stated] or _after(_NAMED, plain, letters)
    if not found and len(run) < 2:
        found = _after(_LINE, plain, letters) or _after(_CAPITAL, plain, letters)
    if any(_hedged(plain, one, letters) for one in found):
        return None
    chosen = {letter for letter, _ in found}
    return chosen.pop() if len(chosen) == 1 else None


def option_of(text: str, choices: Mapping[str, str]) -> str | None:
    """The option a text chooses by letter or, when it names none, by being exactly one option's text."""
    same = [letter for letter, choice in choices.items() if exact_match(text, choice)]
    letter = extract_option(text, choices)
    if letter is None:
        return same[0] if len(same) == 1 else None
    # "A car" may be the text of C while "car" is that of A.
    return letter if not same or letter in same else None


def _listed(text: str, letters: Collection[str]) -> set[str]:
    """The options that a text enumerates."""
    marked = {(one or two or three).upper() for one, two, three in _ENUMERATED.findall(text)}
    by_text = {found[0] for at in _LINE_START.finditer(text) if (found := _with_its_text(text, at.end(), letters))}
    return (marked | by_text) & set(letters)


def _run(text: str, position: int) -> list[str]:
    """The letters of a list that is nothing but letters, from a position to the end of a line."""
    run = _RUN.match(text, position)
    return re.findall(r"[A-Za-z]", run[0]) if run else []


def _after(pattern: re.Pattern[str], text: str, letters: Collection[str]) -> list[_Found]:
    """The option letters that stand where a pattern finds them, in its group or right after, and are not ruled out."""
    found = []
    for at in pattern.finditer(text):
        start = at.start(1) if pattern.groups else at.end()
        one = _letter_at(text, start, letters)
        if one and not any(_OPTION_DENIED.search(_before(text, place)) for place in (at.start(), one[1] - 1)):
            found.append(one)
    return found


def _letter_at(text: str, position: int, letters: Collection[str]) -> _Found | None:
    """The option letter standing at a position, unless it reads as an article."""
    match = _LETTER.match(text, position)
    if match is None or match[1].upper() not in letters:
        return None
    letter, end = match[1], match.end()
    if _DENIED_BEHIND.match(text, end):
        return None
    listed = set(_run(text, end)) & set(letters)  # "A B"
    if listed or _CLOSED.match(text, end) or _GOES_ON.match(text, end):
        return letter.upper(), end
    # Another word follows: "B car ahead" names an option, "A car ahead", "A given car" and "b car ahead" do not.
    if letter.isupper() and (letter not in "AI" or _NO_ARTICLE.match(text, end)):
        return letter, end
    return _with_its_text(text, position, letters)


def _with_its_text(text: str, position: int, letters: Collection[str]) -> _Found | None:
    """The capital at a position, where that option's own text follows and nothing more: "A Going ahead." """
    match = _LETTER.match(text, position)
    if match is None or not isinstance(letters, Mapping) or match[1] not in letters:
        return None
    said = scripts_apart(normalise(letters[match[1]])).split()
    follows = re.compile(r"\s+" + r"\s+".join(map(re.escape, said)), re.IGNORECASE).match(text, match.end())
    return (match[1], match.end()) if said and follows and _TEXT_ENDS.match(text, follows.end()) else None


def _hedged(text: str, found: _Found, letters: Collection[str]) -> bool:
    """Whether another option follows directly: "A or B", "A, C", "(A) and (B)", or a letter to a line."""
    also = _ALSO.match(text, found[1])
    if also is not None and _letter_at(text, also.end(), letters) is not None:
        return True
    return bool({letter.upper() for letter in _run(text, found[1])} & set(letters) - {found[0]})


def _single_spaced(text: str) -> str:
    """With one space between words and no empty line, so that no pattern has to try many."""
    return "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)


def _plain(text: str) -> str:
    """In form NFKC, without markdown, quotes and LaTeX wrappers."""
    plain = folded(text)
    for _ in range(_NESTED if "\\" in plain else 0):
        plain = _WRAPPED.sub(r"\1", plain)
    return _MARKUP.sub("", plain)
