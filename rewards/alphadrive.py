"""AlphaDrive's planning reward: action-weighted F1 of meta-actions, diversity within a group, and format. Pure text.

As in Algorithm 1 of the paper (arXiv 2503.07608) accuracy, action weight and diversity are multiplied on the
longitudinal and on the lateral axis, and format stands beside them. The released code instead adds +0.4 to an answer
all of whose actions are new in the group so far, which an answer without any action is as well. Here no action earns
nothing, and the whole group is counted, not the part of it before an answer, so that its order does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.score import Score

LONGITUDINAL: dict[str, float] = {"KEEP": 0.8, "ACCELERATE": 0.9, "DECELERATE": 1.0, "STOP": 1.0}
LATERAL: dict[str, float] = {
    "STRAIGHT": 0.8,
    "LEFT_TURN": 1.0,
    "RIGHT_TURN": 1.0,
    "LEFT_CHANGE": 1.0,
    "RIGHT_CHANGE": 1.0,
}
"""The meta-actions of an axis with their weights, as in AlphaDrive's released code: the rare or urgent count more."""

DIVERSITY = 0.2
"""The most that sharing one's actions with others of the group costs: the paper's "up to 20 %"."""
SHARES = {"longitudinal": 1.0, "lateral": 1.0, "format": 1.0}
"""Weights of the parts in the value: equal, as the released code sums its three rewards; the scale is ours."""

_FORM = re.compile(r"\s*<think>(?:(?!</?(?:think|answer)>).)*</think>\s*<answer>[^<>]*</answer>\s*", re.DOTALL)
_BETWEEN = re.compile(r"[,;\n]|\band\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """The meta-actions that an answer names on each axis, and whether it names anything else beside them."""

    longitudinal: frozenset[str]
    lateral: frozenset[str]
    stray: bool


def read_plan(text: str) -> Plan:
    """The plan in a response: names separated by commas, semicolons, line ends or "and", in any case.

    Read is the answer part. A space or hyphen may stand for the underscore, and "turn left" for "LEFT_TURN" as "change
    left" for "LEFT_CHANGE". A piece that is not exactly a name is `stray` and names nothing: prose is no plan.
    """
    names = [_name(piece) for piece in _BETWEEN.split(answer_part(text))]
    pieces = {name for name in names if name}
    known = pieces & (LONGITUDINAL.keys() | LATERAL.keys())
    return Plan(frozenset(known & LONGITUDINAL.keys()), frozenset(known & LATERAL.keys()), pieces != known)


def has_plan(sample: DrivingSample) -> bool:
    """Whether a sample's answer names a meta-action on both axes, as every plan of AlphaDrive's data does."""
    truth = read_plan(sample.answer)
    return bool(truth.longitudinal and truth.lateral)


def diversity_bonuses(answers: Sequence[frozenset[str]]) -> list[float]:
    """How far each answer of a group differs from the others on one axis, 0-1.

    The share of the *other* answers that name other actions. An answer without a valid action gets 0, and is no other
    answer to anyone: silence is neither diverse nor makes its neighbours so. An answer that has no others gets 1.
    """
    return [_bonus(answer, [*answers[:index], *answers[index + 1 :]]) for index, answer in enumerate(answers)]


def planning_group(sample: DrivingSample, texts: Sequence[str]) -> list[Score]:
    """The planning reward of each response of one group, 0-100; diversity is measured within the group.

    On each axis F1(actions named, actions true) x mean weight of the actions named x (1 - min(DIVERSITY, 1 - bonus)),
    where 1 - bonus is the share of the other answers that say the same (`diversity_bonuses`): the paper's factor, on
    each axis by itself and with the answer left out of its own share. A wrong action's diversity is worth nothing.

    The part `format` is full for `<think>...</think><answer>...</answer>` with nothing but names of meta-actions as the
    answer, at least one on each axis: a form without a plan is worth 0. The value is the mean of the three parts by
    `SHARES`, each 0-100; the parts `longitudinal_diversity` and `lateral_diversity` (0-1) are logged. Since KEEP and
    STRAIGHT weigh 0.8, a right answer can be worth less than 100 (86.7 for both); with one true action on an axis, a
    wrong one is never worth more than the right one, however many share that.

    Raises:
        ValueError: the sample's answer names no meta-action on an axis.
    """
    if not has_plan(sample):
        raise ValueError(f"sample {sample.id}: answer {sample.answer!r} names no meta-action on one of the two axes")
    truth, plans = read_plan(sample.answer), [read_plan(text) for text in texts]
    longitudinal = diversity_bonuses([plan.longitudinal for plan in plans])
    lateral = diversity_bonuses([plan.lateral for plan in plans])
    return [
        _score(
            _quality(plan.longitudinal, truth.longitudinal, LONGITUDINAL),
            _quality(plan.lateral, truth.lateral, LATERAL),
            _well_formed(text, plan),
            one,
            other,
        )
        for text, plan, one, other in zip(texts, plans, longitudinal, lateral, strict=True)
    ]


def planning(sample: DrivingSample, text: str) -> Score:
    """The planning reward of one response: a group of one, in which nothing is shared and nothing is taken off.

    For scorers that see a response the moment it ends. Where the whole group is at hand, `planning_group` gives what
    the same responses are worth with diversity; it only ever lowers a value. Takes the whole response, thinking too.
    """
    return planning_group(sample, [text])[0]


def _name(piece: str) -> str:
    name = "_".join(re.findall(r"[a-z]+", piece.casefold())).upper()
    turned = re.fullmatch(r"(TURN|CHANGE)_(LEFT|RIGHT)", name)
    return f"{turned[2]}_{turned[1]}" if turned else name


def _bonus(answer: frozenset[str], others: list[frozenset[str]]) -> float:
    if not answer:
        return 0.0
    speaking = [other for other in others if other]
    return sum(other != answer for other in speaking) / len(speaking) if speaking else 1.0


def _quality(named: frozenset[str], true: frozenset[str], weights: dict[str, float]) -> float:
    """F1 times the mean weight of the actions named, 0-1."""
    if not named:
        return 0.0
    f1 = 2.0 * len(named & true) / (len(named) + len(true))
    return f1 * sum(weights[action] for action in named) / len(named)


def _well_formed(text: str, plan: Plan) -> bool:
    return bool(_FORM.fullmatch(text) and plan.longitudinal and plan.lateral and not plan.stray)


def _score(longitudinal: float, lateral: float, well_formed: bool, bonus: float, lateral_bonus: float) -> Score:
    parts = {
        "longitudinal": 100.0 * longitudinal * (1.0 - min(DIVERSITY, 1.0 - bonus)),
        "lateral": 100.0 * lateral * (1.0 - min(DIVERSITY, 1.0 - lateral_bonus)),
        "format": 100.0 * well_formed,
    }
    value = sum(SHARES[name] * part for name, part in parts.items()) / sum(SHARES.values())
    return Score(min(100.0, value), {**parts, "longitudinal_diversity": bonus, "lateral_diversity": lateral_bonus})
