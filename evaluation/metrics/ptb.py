"""Penn Treebank tokens as the Stanford tokeniser of COCO's caption evaluation makes them, in Python. Pure text.

The published language figures (BLEU, ROUGE_L, CIDEr) stand on these tokens, and their tokeniser needs Java. This one
reads the same kinds of token: at every place the rule that reaches farthest wins, what it only looks at counted in; of
two that reach equally far, the first. Compared with CoreNLP 3.4.1 (`-lowerCase`) on every text of DriveLM's samples and
on generated ones; of scripts other than Latin only letters and digits are its aim.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that COCO's caption evaluation leaves out. It means to drop brackets too, but names them in capitals
("-LRB-"), which lower-cased tokens never are: they stay, and belong to the published figures."""

CACHED_CHUNKS = 1_000_000
"""Driving answers repeat their words; the tokens of this many of the pieces between spaces are remembered."""

# --- the parts of the rules -------------------------------------------------------------------------------------------

_LETTER = r"[^\W\d_²³¹¼-¾\u2070-\u2089\u2150-\u218b\u2460-\u24ff]"
_WORD = rf"{_LETTER}(?:{_LETTER}|\d)*(?:[.!?]{_LETTER}(?:{_LETTER}|\d)*)*"
_APOSTROPHE = r"['’\x92]"
_ANY_APOSTROPHE = r"[`'’‘‛\x91\x92]"
_SPACE = r"[ \t\xa0\u2000-\u200a\u3000]"
_SPACE_OR_END = r"[ \t\xa0\u2000-\u200a\u3000\r\n]"
_PLAIN = r"[A-Za-z0-9]"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_DECIMAL = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_AUXILIARY = rf"{_APOSTROPHE}(?:[msd]|re|ve|ll)"
_NOT = rf"n{_ANY_APOSTROPHE}t"
_INITIALS = r"[a-z](?:\.[a-z])+"
_JOINABLE = rf"(?:[dol]{_ANY_APOSTROPHE}{_PLAIN})?{_PLAIN}+"
_THING = rf"{_JOINABLE}(?:{_HYPHEN}{_JOINABLE})*"
_HYPHENED = rf"{_PLAIN}[a-z0-9.,]*(?:-(?:{_INITIALS}\.|{_PLAIN}+))+"
_ALTERNATIVE = rf"{_PLAIN}+(?:-[a-z]+){{0,2}}"
_FIGURE = r"\d{1,4}(?:\\?/|\u2044)\d{1,4}"
_JOINED_CAPITALS = "(?-i:[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)"
_TAG_NAME = r"[a-z][a-z0-9_:.\-]*"
_ATTRIBUTE = rf"{_TAG_NAME}(?: *= *(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|{_TAG_NAME}))?"
_TAG = rf"<(?:[!?][a-z\-][^>\r\n]*|{_TAG_NAME}(?: +{_ATTRIBUTE})* */?|/{_TAG_NAME}) *>"
_MAIL = r"""[^\s"<>|(){}]"""
_MAIL_END = r"""[^\s"<>|(){}.]"""
_FILE_ENDINGS = (
    "3gp|avi|bat|bmp|bz2|c|class|cgi|cpp|dll|docx?|exe|flv|gif|gz|h|html?|jar|java|jpe?g|mov|mp[34]|mpeg|o|pdf|php|pl|png|ppt"
    "|ps|py|sql|tar|txt|wav|wm[va]|x|xml|zip"
)
_FACE = r"[<>]?[:;=](?-i:[-o*']?[()DPdpO\\{@|\[\]])"
_EYES = "(?-i:[-^x=~<>'])"
_PATH = r"""(?:[^\s"<>|()]+[^\s"<>|()\[\]{}.,!?-])"""
_SYMBOL = (
    "¡¥¦§¨©¬®¯°±´¶·¸¿×÷\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u207a-\u207e\u208a-\u208e"
    "\u20a4\u2100-\u214f\u2190-\u245f\u2500-\u2775\u2794-\u2bff\u3001\u3002\u3012\u30fb"
)

_ABBREVIATIONS = (
    "adj|adm|adv|al|ala|alex|apr|ariz|assn|assoc|asst|atty|attys|aug|ave|bancorp|bhd|bldg|blvd|brig|bros|calif"
    "|capt|cf|cie|cmdr|co|col|colo|comdr|conn|corp|cos|cpl|ct|dak|dec|dept|det|dr|drs|elec|ens|esq|est|etc|ext"
    "|feb|fla|fri|ft|ga|gen|gov|govs|hon|inc|ind|insp|intl|invt|jan|jos|jr|jul|jun|kan|kans|ky|lieut|lt|ltd|maj"
    "|mar|md|messrs|mfg|mich|minn|mlle|mme|mo|mon|mont|mr|mrs|ms|msgr|mt|mtg|natl|neb|nev|nov|oct|okla|penn|pfc"
    "|ph|plc|ppte|ppty|pptys|pres|prof|profs|pte|pty|ptys|pvt|rd|rep|reps|rev|rt|sen|sens|sep|sept|seq|sfc|sgt"
    "|spc|sq|sr|st|ste|supt|supts|sys|tel|tenn|thu|thurs|treas|tue|tues|univ|va|vs|vt|wed|wis|wisc|wm|wyo"
)
"""Words that keep their full stop wherever they stand."""

_NAMES = "Ark|Az|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
"""The same, with a capital only: the small word is another one."""

_BEFORE_NUMBER = "art|ca|fig|figs|no|nos|op|p|pp|prop"
"""Words that keep their full stop before a number."""

_OPENS_SENTENCE = (
    "About|According|Additionally|After|An|A|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|Many|More|Mr\\."
    "|Ms\\.|Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Then|There|These|They|This|We|When|While|What"
    "|Yet|You"
)
"""Words before which the full stop of a lone letter ends a sentence: "The answer is A. The car is near."."""


def _with_capital(words: str) -> str:
    """The words, each with its capital as it is and the rest in any case."""
    return re.sub(r"\b([A-Z])", r"(?-i:\1)", words)


_OPENING = _with_capital(_OPENS_SENTENCE)

# --- the rules --------------------------------------------------------------------------------------------------------


def _as_it_is(token: str) -> list[str]:
    return [token]


def _always(token: str) -> Callable[[str], list[str]]:
    return lambda _: [token]


def _one_token(token: str) -> list[str]:
    return [token.replace(" ", "\xa0")]


def _telephone(token: str) -> list[str]:
    return _round_brackets(token.replace(" ", "\xa0"))


def _round_brackets(token: str) -> list[str]:
    return [token.replace("(", "-lrb-").replace(")", "-rrb-")]


def _closing_quotes(token: str) -> list[str]:
    return [_quotes(token, "'", "''")]


def _opening_quotes(token: str) -> list[str]:
    return [_quotes(token, "`", "``")]


def _quotes(token: str, single: str, double: str) -> str:
    token = token.replace("'", single).replace('"', double)
    token = re.sub("[\x91‘‛‹]", "`", token)
    token = re.sub("[\x92’›]", "'", token)
    token = re.sub("[\x93“«]", "``", token)
    return re.sub("[\x94”»]", "''", token)


def _bracket(token: str) -> list[str]:
    return [_BRACKETS[token]]


def _currency(token: str) -> list[str]:
    return [{"¢": "cents", "£": "#", "¥": "¥"}.get(token, "$")]


def _vulgar_fraction(token: str) -> list[str]:
    return [{"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3"}.get(token, token)]


def _split_before(last: int) -> Callable[[str], list[str]]:
    return lambda token: [token[:-last], token[-last:]]


_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
_ALNUM = _LETTERS + _DIGITS

_RULES: list[tuple[str, str, str, Callable[[str], list[str]]]] = [
    # the ASCII characters it can begin with, what is a token, what must follow it, what it becomes
    ("c", "cannot", "", _split_before(3)),
    ("gw", "gonna|gotta|gimme|wanna", "", _split_before(2)),
    ("l", "lemme", "", _split_before(2)),
    ("'", rf"{_APOSTROPHE}tis", "", _split_before(2)),
    ("'", rf"{_APOSTROPHE}twas", "", _split_before(3)),
    ("<", _TAG, "", _one_token),
    ("&", "&(?:md|mdash|ndash);|[\x96\x97–—―]", "", _always("--")),
    ("&", "&amp;", "", _always("&")),
    (_LETTERS, _WORD, _AUXILIARY, _as_it_is),
    (_LETTERS, "[a-z]*[a-mo-z]", _NOT, _as_it_is),
    (_LETTERS, _WORD, "", _as_it_is),
    ("'", rf"{_APOSTROPHE}(?:n{_APOSTROPHE}?|em|cause|till?|[2-9]0s)", "", _as_it_is),
    (_LETTERS, rf"(?:[ldj]|ol){_APOSTROPHE}", "", _as_it_is),
    (_LETTERS, rf"(?-i:[A-HJ-XZn]){_ANY_APOSTROPHE}{_LETTER}{{2,}}", "", _as_it_is),
    (_LETTERS, rf"{_LETTER}+[aeiouy]{_ANY_APOSTROPHE}(?-i:[aeiouA-Z]){_LETTER}*", "", _as_it_is),
    ("y", rf"y{_APOSTROPHE}", _LETTER, _as_it_is),
    ("h", rf"https?://{_PATH}", "", _as_it_is),
    ("w", rf"""www(?:\.[^\s"<>|().,!?{{}}]+)+\.[a-z]{{2,4}}(?:/{_PATH})?""", "", _as_it_is),
    (_ALNUM + "<", rf"<?{_PLAIN}{_MAIL}*@(?:{_MAIL_END}+\.)*{_MAIL_END}+>?", "", _as_it_is),
    (_ALNUM, rf"{_PLAIN}+\.(?:{_FILE_ENDINGS})", r"[\s.?!,]", _as_it_is),
    ("@#", rf"@[a-z_][a-z_0-9]*|#{_LETTER}+", "", _as_it_is),
    ("'", _AUXILIARY, "[^a-z]", _closing_quotes),
    ("n", _NOT, "", _closing_quotes),
    (_DIGITS, r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", "", _as_it_is),
    (_DIGITS + "+-.,:", rf"[-+]?{_DECIMAL}", "", _as_it_is),
    ("", "[\u2070¹²³\u2074-\u2079]+|[\u2080-\u2089]+", "", _as_it_is),
    (_DIGITS, rf"(?:\d{{1,4}}[- \xa0])?{_FIGURE}", "", _one_token),
    ("", "[¼½¾⅓-⅞]", "", _vulgar_fraction),
    ("-", "-(?:rrb|lrb|rcb|lcb|rsb|lsb)-", "", _as_it_is),
    (_LETTERS, "pro-|anti-|c\\+\\+|[cf]#", "", _as_it_is),
    ("'", rf"{_APOSTROPHE}\d\d", _SPACE_OR_END, _as_it_is),
    (_ALNUM, rf"{_ALTERNATIVE}(?:\\?/{_ALTERNATIVE}){{1,2}}", "", _as_it_is),
    (_LETTERS + "$#", r"(?-i:[A-Z]*)\$|#", "", _as_it_is),
    ("", "[¢£¤¥\x80₠€]", "", _currency),
    (_LETTERS, "[a-z]", rf"\.{_SPACE}+(?:(?:{_OPENING}){_SPACE}|{_TAG})", _as_it_is),
    (_LETTERS, rf"(?:{_ABBREVIATIONS}|{_with_capital(_NAMES)})\.", "", _as_it_is),
    (_LETTERS, rf"(?:{_BEFORE_NUMBER})\.", r" ?\d", _as_it_is),
    (_LETTERS, rf"(?:{_INITIALS}|(?:ed|ph)\.d|[a-z])\.", "", _as_it_is),
    (_LETTERS, _INITIALS, _SPACE_OR_END, _as_it_is),
    (_LETTERS, rf"{_WORD}\.", "[,;:]", _as_it_is),
    (_DIGITS + "(", r"(?:\(\d{3}\)[ \xa0]?|\d{3}[- \xa0.])\d{3}[- \xa0.]\d{4}", "", _telephone),
    ('"&', '"|&quot;', "[a-z0-9$]", _always("``")),
    ('"&', '"|&quot;', "", _always("''")),
    ("<>", "<<|>>|[<>]", "", _as_it_is),
    ("&", "&lt;", "", _always("<")),
    ("&", "&gt;", "", _always(">")),
    ("()[]{}", r"[()\[\]{}]", "", _bracket),
    ("<>:;=", _FACE, "[^A-Za-z0-9]", _round_brackets),
    ("-^x=~<>'(", rf"{_EYES}_{_EYES}|\({_EYES}[_.]?{_EYES}\)", "", _round_brackets),
    ("-", "-{2,4}", "", _always("--")),
    ("-", "-+", "", _as_it_is),
    (".", r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\x85…]", "", _always("...")),
    ("@#_*\\", r"@+|#+|_+|\*+|(?:\\\*){1,3}", "", _as_it_is),
    (",;:?!.+%&~^|\\=/", r"[,;:]|[?!]+|[.¡¿]|[+%&~^|\\=/]", "", _as_it_is),
    (_ALNUM, rf"{_HYPHENED}\.", "[,;:]", _as_it_is),
    (_ALNUM, _HYPHENED, "", _as_it_is),
    (_ALNUM, rf"{_THING}\.", "[,;:]", _as_it_is),
    (_ALNUM, _THING, "", _as_it_is),
    (_LETTERS, rf"{_JOINED_CAPITALS}\.", "[,;:]", _as_it_is),
    (_LETTERS, _JOINED_CAPITALS, "", _as_it_is),
    ("'", "'", r"[a-z][^ \t\n\r\xa0]", _opening_quotes),
    ("'", _AUXILIARY, "", _closing_quotes),
    ("'`", rf"''|[`‘’‚‛“”„‟‹›«»\x91-\x94]{{1,2}}|{_APOSTROPHE}", "", _closing_quotes),
    ("", f"[{_SYMBOL}]", "", _as_it_is),
]
_COMPILED = [
    (starts, re.compile(f"({token})(?:{then})", re.IGNORECASE), becomes) for starts, token, then, becomes in _RULES
]
_BY_FIRST = {
    first: [(rule, becomes) for starts, rule, becomes in _COMPILED if first.lower() in starts]
    for first in map(chr, range(33, 127))
}
_OF_OTHERS = [(rule, becomes) for _, rule, becomes in _COMPILED]

_CHUNK = re.compile(
    # A piece between spaces, or several where a rule looks across a space: tags, fractions, telephone numbers, "no. 5",
    # and a sentence that begins after a lone letter.
    rf"\S*(?:{_TAG}|\d [\d]{{1,4}}\\?/\d|\(\d{{3}}\) \d|\d{{3}} \d{{3}}[- .]\d{{4}}|\. \."
    rf"|\b(?:{_BEFORE_NUMBER})\. \d|(?<![a-z])[a-z]\.{_SPACE}+(?:(?:{_OPENING})(?!\S)|{_TAG}))\S*|\S+",
    re.IGNORECASE,
)

_MAY_LOOK_ACROSS = re.compile(r"(?<=\d)[ \xa0]\d|(?<=[.)])[ \xa0][\d.]|(?<![A-Za-z])[A-Za-z]\.\s|<[!?/A-Za-z][^<>]*\s")
_LETTER_ENDS = re.compile(r"(?<![A-Za-z])[A-Za-z]\.\s*$")
_LONE_LETTER = re.compile(r"(?<!\S)[a-z]\.$")
_NUMBERED_ENDS = re.compile(rf"(?<!\S)(?:{_BEFORE_NUMBER})\.$", re.IGNORECASE)
_OPENS = re.compile(rf"\s*(?:(?:{_OPENING})(?!\S)|{_TAG})", re.IGNORECASE)

# --- the tokens -------------------------------------------------------------------------------------------------------


def captions(texts: Sequence[str]) -> list[str]:
    """What COCO's caption evaluation makes of texts: their tokens without punctuation, one space between them.

    A token can hold a no-break space ("1 1/2"). A text with nothing but punctuation is empty.

    The reference reads all texts as one file, a line each, and at the end of a line looks into the next: the full stop
    of "... or B." goes when the next text begins "The car ...". Here too, so that the figures stay equal to the last
    digit. A character that breaks a line for the reference (such as a carriage return) shifts its texts against each
    other; here it is a space.
    """
    found = [" ".join(filter(None, map(_kept, _chunks(text)))) for text in texts]
    for index, (text, after) in enumerate(pairwise(texts)):
        if _LETTER_ENDS.search(text) and _LONE_LETTER.search(found[index]) and _OPENS.match(after):
            found[index] = found[index][:-1]
        elif _NUMBERED_ENDS.search(text) and after[:1].isdecimal():
            found[index] += "."
    return found


def _chunks(text: str) -> list[str]:
    """The pieces whose tokens do not depend on each other; almost always those between spaces."""
    return _CHUNK.findall(text) if _MAY_LOOK_ACROSS.search(text) else text.split()


@lru_cache(CACHED_CHUNKS)
def _kept(chunk: str) -> str:
    return " ".join([token for token in _lex(chunk) if token not in DROPPED])


def _lex(chunk: str) -> list[str]:
    """The tokens of a piece that stands between spaces; a character that begins no token is passed over."""
    found: list[str] = []
    text, at = chunk + " ", 0
    while at < len(chunk):
        end, reach, becomes = at + 1, at, None
        for rule, of_rule in _BY_FIRST.get(text[at], _OF_OTHERS):
            match = rule.match(text, at)
            if match and match.end() > reach:
                end, reach, becomes = match.end(1), match.end(), of_rule
        if becomes:
            found += becomes(text[at:end])
        at = end
    return [token.lower() for token in found]
