"""The words of BDD-OIA: its 4 actions, its 21 reasons in bit order, and how a text names them. Pure text.

Facts of Xu et al. 2020 and its annotation notes. How an answer is judged by them is a matter of `rewards`, how label
sets are compared one of `evaluation`. The phrases that name a reason are ours: the data set has bits, not sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from data.reading.words import folded

Action = Literal["forward", "stop", "left", "right"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""The four actions in bit order; the fifth bit of an annotation ("confused") is no action."""

ACTION_TEXTS: dict[Action, str] = {
    "forward": "Move forward",
    "stop": "Stop/slow down",
    "left": "Turn left",
    "right": "Turn right",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One of the 21 reasons: the bit it has, its words, and the action it is about.

    `rules_out` marks reasons 15 to 20: the table lists them under left and right, and they say why that action is
    *not* possible ("Solid line on the left").
    """

    bit: int
    text: str
    action: Action
    rules_out: bool = False


def _sided(first: int, text: str, side: Action, rules_out: bool = False) -> Reason:
    return Reason(first, text.format(side=side), side, rules_out)


REASONS: tuple[Reason, ...] = (
    Reason(0, "Follow traffic", "forward"),
    Reason(1, "Road is clear", "forward"),
    Reason(2, "Traffic light is green", "forward"),
    Reason(3, "Obstacle: car", "stop"),
    Reason(4, "Obstacle: person", "stop"),
    Reason(5, "Obstacle: rider", "stop"),
    Reason(6, "Obstacle: others", "stop"),
    Reason(7, "Traffic light", "stop"),
    Reason(8, "Traffic sign", "stop"),
    _sided(9, "Front car turning {side}", "left"),
    _sided(10, "On the {side}-turn lane", "left"),
    _sided(11, "Traffic light allows turning {side}", "left"),
    _sided(12, "Front car turning {side}", "right"),
    _sided(13, "On the {side}-turn lane", "right"),
    _sided(14, "Traffic light allows turning {side}", "right"),
    _sided(15, "Obstacles on the {side} lane", "left", rules_out=True),
    _sided(16, "No lane on the {side}", "left", rules_out=True),
    _sided(17, "Solid line on the {side}", "left", rules_out=True),
    _sided(18, "Obstacles on the {side} lane", "right", rules_out=True),
    _sided(19, "No lane on the {side}", "right", rules_out=True),
    _sided(20, "Solid line on the {side}", "right", rules_out=True),
)
"""The reasons in the annotations' true bit order."""

_VEHICLE = r"(?:cars?|vehicles?|trucks?|bus(?:es)?|vans?|suvs?)"
_LIGHT = r"(?:lights?|signals?)"
_FEW = r"(?:\w+\s+){0,3}"
_IS = r"(?:is|are|was|were|turns?|turned|turning|shows?|stays?|looks?|seems?|appears?)"

_SIDED_PHRASES: tuple[tuple[int, str], ...] = (
    (9, rf"(?:front|lead(?:ing)?|preceding)\s+{_VEHICLE}\s+{_FEW}turn(?:s|ing|ed)?\s+(?:to\s+the\s+)?SIDE"),
    (9, rf"{_VEHICLE}\s+(?:ahead|in\s+front(?:\s+of\s+\w+)?)\s+{_FEW}turn(?:s|ing|ed)?\s+(?:to\s+the\s+)?SIDE"),
    (10, r"(?:in|on)\s+(?:the\s+|a\s+)?SIDE[\s-]*turn(?:ing)?\s+lane"),
    (11, rf"(?:{_LIGHT}|arrow|sign)\s+{_FEW}(?:allow|permit)(?:s|ed|ing)?\s+{_FEW}SIDE(?:\s+turns?)?"),
    (11, rf"green\s+SIDE(?:[\s-]*turn)?\s+(?:arrow|{_LIGHT})"),
    (11, rf"SIDE(?:[\s-]*turn)?\s+(?:arrow|{_LIGHT})\s+{_IS}\s+green"),
    (15, rf"(?:obstacles?|obstructions?|{_VEHICLE}|pedestrians?|cyclists?|riders?|person|people)\s+{_FEW}"
         r"(?:on|in|to)\s+(?:the\s+|our\s+)?SIDE(?:[\s-]*hand)?\s+(?:lane|side)"),
    (15, rf"SIDE(?:[\s-]*hand)?\s+lane\s+{_IS}\s+(?:blocked|occupied|busy)"),
    (16, rf"no\s+(?:other\s+|free\s+)?lanes?\s+{_FEW}SIDE(?:\s+side)?"),
    (16, r"no\s+SIDE(?:[\s-]*(?:hand|turn))?\s+lanes?"),
    (17, rf"solid\s+(?:\w+\s+)?(?:lines?|markings?)\s+{_FEW}SIDE(?:\s+side)?"),
    (17, r"SIDE(?:[\s-]*(?:hand|lane))?\s+(?:\w+\s+){0,2}solid(?:\s+(?:\w+\s+)?lines?)?"),
)  # fmt: skip
"""First bit and phrase; SIDE is left or right. Bits 9 to 11 and 15 to 17 are left, three more each is right."""

_PHRASES: tuple[tuple[int, str], ...] = (
    (2, rf"green\s+(?:traffic\s+)?{_LIGHT}"),
    (2, rf"{_LIGHT}\s+(?:ahead\s+)?(?:has\s+)?{_IS}\s+(?:now\s+)?green"),
    (7, rf"(?:red|yellow|amber)\s+(?:traffic\s+)?{_LIGHT}"),
    (7, rf"{_LIGHT}\s+(?:ahead\s+)?(?:has\s+)?{_IS}\s+(?:now\s+)?(?:red|yellow|amber)"),
    (7, r"(?<![^.,;:\n]) ?(?:the\s+)?traffic\s+(?:light|signal) ?(?![^.,;\n])"),  # the table's own words, no colour
    (8, r"(?:traffic|stop|yield|road|speed\s+limit)\s+signs?"),
    (0, rf"follow(?:s|ing|ed)?\s+(?:the\s+)?(?:flow\s+of\s+)?(?:\w+\s+)?(?:traffic|flow|{_VEHICLE})"),
    (0, r"(?:flow\s+of|with\s+the)\s+traffic"),
    (0, r"traffic\s+(?:ahead\s+)?is\s+(?:moving|flowing)"),
    (1, rf"(?:road|way|path|lane|street)s?\s+(?:ahead\s+|in\s+front\s+)?(?:of\s+\w+\s+)?{_IS}\s+(?:(?!not\b)\w+\s+)?"
        r"(?:clear|free|open|empty)"),
    (1, r"(?:clear|free|open|empty)\s+(?:road|way|path|lane|street)s?"),
    (1, rf"no\s+(?:other\s+)?(?:obstacles?|obstructions?|traffic|{_VEHICLE})"),
    (3, rf"obstacles?\s*:?\s*(?:an?\s+)?{_VEHICLE}"),
    (3, rf"{_VEHICLE}\s+{_FEW}(?:ahead|in\s+front|block\w*|stop(?:s|ped|ping)|brak\w+|slow\w*|park\w+|cross\w+)"
        r"(?:\s+down)?"),
    (3, r"(?:blocked\s+by|behind|front|lead(?:ing)?|preceding|stopped|parked|slow(?:ing)?|braking)\s+"
        rf"(?:an?\s+|the\s+)?(?:\w+\s+)?{_VEHICLE}"),
    (4, r"(?:obstacles?\s*:?\s*)?(?:pedestrians?|persons?|people|child(?:ren)?)"),
    (5, r"(?:obstacles?\s*:?\s*)?(?:riders?|cyclists?|bicycl\w+|bikes?|motorcycl\w+|motorbikes?)"),
    (6, r"(?:obstacles?|obstructions?|debris|barriers?|cones?|animals?|roadworks?)(?:\s*:\s*others?)?"),
)  # fmt: skip
"""Bit and phrase, the more particular first: what one phrase has read, no later one reads again."""

_SIDED_NEEDS: dict[int, str] = {
    9: "turn",
    10: "lane",
    11: "allow permit green",
    15: "lane side",
    16: "lane",
    17: "solid",
}
_NEEDS: dict[int, tuple[frozenset[str], ...]] = {
    bit: tuple(frozenset(words.split()) for words in needs)
    for bit, needs in {
        0: ("follow traffic",),
        1: ("clear free open empty no",),
        2: ("green", "light signal"),
        3: ("car vehicle truck bus van suv",),
        4: ("pedestrian person people child",),
        5: ("rider cyclist bicycl bike motorcycl",),
        6: ("obstacle obstruction debris barrier cone animal roadwork",),
        7: ("light signal", "red yellow amber traffic"),
        8: ("sign", "traffic stop yield road limit"),
        **{bit: ("left", words) for bit, words in _SIDED_NEEDS.items()},
        **{bit + 3: ("right", words) for bit, words in _SIDED_NEEDS.items()},
    }.items()
}
"""Wherever a phrase of the bit stands, so does one word of each set: phrases are slow to look for, words are not."""
_NEEDED = tuple(sorted({word for needs in _NEEDS.values() for words in needs for word in words}))


def _compiled() -> tuple[tuple[int, re.Pattern[str]], ...]:
    sided = [
        (first + 3 * (side == "right"), phrase.replace("SIDE", side))
        for side in ("left", "right")
        for first, phrase in _SIDED_PHRASES
    ]
    return tuple((bit, re.compile(rf"(?<!\w){phrase}(?!\w)")) for bit, phrase in [*sided, *_PHRASES])


_REASON_PHRASES = _compiled()

_GO = r"(?:keep\s+)?(?:mov(?:e|ing)|go|going|driv(?:e|ing)|keep|continu(?:e|ing)|proceed(?:ing)?)"
_ONWARD = r"(?:forward|straight(?:\s+ahead)?|ahead)"
_TURN = r"(?:turn(?:ing)?|go|going|mov(?:e|ing)|chang(?:e|ing)(?:\s+lanes?)?)\s+(?:to\s+)?(?:the\s+)?"
_ACTION_NAMES: dict[Action, re.Pattern[str]] = {
    "forward": re.compile(rf"(?:{_GO}\s+)?{_ONWARD}"),
    "stop": re.compile(r"stop(?:ping)?|slow(?:ing)?(?:\s+down)?|stop(?:\s+or)?\s+slow(?:\s+down)?"),
    "left": re.compile(rf"(?:{_TURN})?left(?:\s+turn|\s+lane)?"),
    "right": re.compile(rf"(?:{_TURN})?right(?:\s+turn|\s+lane)?"),
}
_LONGEST_NAME = 6
"""Words: those of "changing lanes to the left turn"."""
_ACTION_PHRASES: dict[Action, re.Pattern[str]] = {
    "forward": re.compile(rf"(?<!\w){_GO}\s+{_ONWARD}(?!\w)"),
    "stop": re.compile(r"(?<!\w)(?:stop|slow(?:ing)?\s+down|brake(?!\s+lights?)|halt)(?!\w)"),
    "left": re.compile(rf"(?<!\w){_TURN}left(?!\w)"),
    "right": re.compile(rf"(?<!\w){_TURN}right(?!\w)"),
}
_ACTION_WORDS = ("forward", "straight", "ahead", "stop", "slow", "brake", "halt", "left", "right")
"""Wherever a phrase of an action stands, so does one of these."""
_TELLING = re.compile("|".join(map(re.escape, sorted({*_NEEDED, *_ACTION_WORDS}))))
"""A part of a text without any of these names nothing."""

_OBJECT_WORDS: dict[str, str] = {
    "car": _VEHICLE,
    "person": r"(?:pedestrians?|persons?|people|child(?:ren)?)",
    "rider": r"(?:riders?|cyclists?|bicycl\w+|bikes?|motorcycl\w+|motorbikes?)",
    "obstacle": r"(?:obstacles?|obstructions?|debris|barriers?|cones?|animals?|roadworks?)",
    "light": rf"(?:traffic\s+)?{_LIGHT}",
    "sign": r"(?:traffic\s+)?signs?",
    "lane": r"lanes?",
    "line": r"(?:lines?|markings?)",
    "road": r"(?:roads?|streets?|highways?|intersections?|crossings?|way|path)",
    "traffic": r"traffic(?!\s+(?:light|sign))",
}
_OBJECTS = {name: re.compile(rf"(?<!\w){words}(?!\w)") for name, words in _OBJECT_WORDS.items()}
OBJECTS: tuple[str, ...] = tuple(_OBJECT_WORDS)
"""What the 21 reasons speak of."""

_NEGATION = re.compile(r"(?<!\w)(?:not|no|never|without|cannot|instead|rather|nor|unable|\w+n['’]t)(?!\w)")
_CLAUSE_START = re.compile(r"[.,;:!?。、\n]|(?<!\w)(?:because|since|but|so|as|while)(?!\w)")
_PART_END = re.compile(r"[.,;!?。、]")
"""Marks that no phrase and no negation reaches across."""
_NEGATED_WITHIN = 3


class Named(NamedTuple):
    """What a text names: the bits of reasons, and the actions it says to take."""

    reasons: frozenset[int]
    actions: frozenset[Action]


_NOTHING = Named(frozenset(), frozenset())


@lru_cache(maxsize=4096)
def action_of(text: str) -> Action | None:
    """The action that a text is the name of, whole: "Stop/slow down", "turn left.", "forward"; else None."""
    words = re.findall(r"\w+", folded(text).casefold())
    if len(words) > _LONGEST_NAME:
        return None
    name = " ".join(words)
    return next((action for action, names in _ACTION_NAMES.items() if names.fullmatch(name)), None)


def named_in(text: str) -> Named:
    """The reasons a text names and the actions it says to take; what it denies is not named.

    Denied are "no pedestrian" and "the light is not green". An action that is part of a reason does not count: "We
    stop, the front car is turning left" says to stop.
    """
    found = [named for part in _PART_END.split(folded(text).casefold()) if (named := _read_part(part)) is not _NOTHING]
    if len(found) < 2:
        return found[0] if found else _NOTHING
    reasons, actions = zip(*found, strict=True)
    return Named(frozenset().union(*reasons), frozenset().union(*actions))


def reasons_in(text: str) -> tuple[Reason, ...]:
    """The reasons of `named_in`, in bit order."""
    return tuple(REASONS[bit] for bit in sorted(named_in(text).reasons))


def actions_in(text: str) -> frozenset[Action]:
    """The actions of `named_in`."""
    return named_in(text).actions


def objects_in(text: str) -> frozenset[str]:
    """Which of `OBJECTS` a text speaks of, denied or not."""
    lower = folded(text).casefold()
    return frozenset(name for name, words in _OBJECTS.items() if words.search(lower))


@lru_cache(maxsize=16_384)
def _read_part(text: str) -> Named:
    """What a part of a text between two marks names. Answers share such parts: they are kept."""
    if _TELLING.search(text) is None:
        return _NOTHING
    denies = _NEGATION.search(text) is not None
    absent = {word for word in _NEEDED if word not in text}
    possible = {bit for bit, needs in _NEEDS.items() if not any(map(absent.issuperset, needs))}
    rest, reasons = text, set()
    for bit, phrase in _REASON_PHRASES:
        if bit in possible and phrase.search(rest):
            if not denies or any(_affirmed(phrase, rest)):
                reasons.add(bit)
            rest = phrase.sub(" ; ", rest)
    denies = denies and _NEGATION.search(rest) is not None
    actions = {
        action
        for action, phrase in _ACTION_PHRASES.items()
        if phrase.search(rest) and (not denies or any(_affirmed(phrase, rest)))
    }
    return Named(frozenset(reasons), frozenset(actions)) if reasons or actions else _NOTHING


def _affirmed(phrase: re.Pattern[str], text: str) -> Iterator[bool]:
    """For each place where a phrase stands, whether no negation stands within the three words before it."""
    for match in phrase.finditer(text):
        clause = _CLAUSE_START.split(text[max(0, match.start() - 80) : match.start()])[-1]
        yield _NEGATION.search(" ".join(clause.split()[-_NEGATED_WITHIN:])) is None
