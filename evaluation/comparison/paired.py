"""The same questions in two sets of answers: which pair, which are left out, and why. Pure data; no torch, no ray."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.sample import Task
from evaluation.held_out import AnswerRecord
from evaluation.suites.record import NO_VALUE

ONLY_IN_A, ONLY_IN_B = "only_in_a", "only_in_b"
ANOTHER_QUESTION = "another_question_under_the_same_id"
UNSCORED_IN_A, UNSCORED_IN_B, UNSCORED_IN_BOTH = "unscored_in_a", "unscored_in_b", "unscored_in_both"
IN_WORDS = {
    ONLY_IN_A: "asked in A only",
    ONLY_IN_B: "asked in B only",
    ANOTHER_QUESTION: "another question in B than in A, under the same id",
    UNSCORED_IN_A: "without a score in A",
    UNSCORED_IN_B: "without a score in B",
    UNSCORED_IN_BOTH: "without a score in A and in B",
    NO_VALUE: "to which the benchmark gives no value of their own",
}
"""Why questions are left out."""

Key = tuple[str, str]
"""Sample id and setting."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One question under one setting, as both sides answered it; a side's value is the mean of its scored repeats."""

    sample_id: str
    setting: str
    scene_id: str
    task: Task
    a: tuple[AnswerRecord, ...]
    """The scored repeats of A, in order."""
    b: tuple[AnswerRecord, ...]
    value_a: float
    """On 0-100."""
    value_b: float

    @property
    def change(self) -> float:
        """B less A."""
        return self.value_b - self.value_a


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs, in A's order, and the questions that were left out, counted by reason; each under one only."""

    pairs: tuple[Pair, ...]
    left_out: dict[str, int]


def pair_answers(a: Iterable[AnswerRecord], b: Iterable[AnswerRecord]) -> Pairing:
    """Pair two sets of answers by sample id and setting.

    Left out are questions of one side, those whose text, options, task or ground truth is not the same in all answers
    that bear the id, and those without a single scored repeat on either side. Answers whose benchmark gives them no
    value of their own are counted apart from those whose score failed.
    """
    of_a, of_b = _by_key(a), _by_key(b)
    pairs, left_out = [], Counter[str]()
    for key in [*of_a, *(key for key in of_b if key not in of_a)]:
        found = _pair(key, of_a.get(key, []), of_b.get(key, []))
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            left_out[found] += 1
    return Pairing(tuple(pairs), dict(sorted(left_out.items())))


def _by_key(answers: Iterable[AnswerRecord]) -> dict[Key, list[AnswerRecord]]:
    found: dict[Key, list[AnswerRecord]] = {}
    for answer in answers:
        found.setdefault((answer.sample_id, answer.setting), []).append(answer)
    return found


def _pair(key: Key, a: Sequence[AnswerRecord], b: Sequence[AnswerRecord]) -> Pair | str:
    """The pair, or the reason why there is none."""
    if not a or not b:
        return ONLY_IN_A if a else ONLY_IN_B
    first = a[0]
    if any(_asked(answer) != _asked(first) for answer in (*a, *b)):
        return ANOTHER_QUESTION
    scored_a, scored_b = _scored(a), _scored(b)
    if not scored_a or not scored_b:
        if any(all(one.failure == NO_VALUE for one in of_side) for of_side in (a, b)):
            return NO_VALUE
        return UNSCORED_IN_B if scored_a else UNSCORED_IN_A if scored_b else UNSCORED_IN_BOTH
    value_a, value_b = (statistics.fmean(one.value for one in scored) for scored in (scored_a, scored_b))
    return Pair(*key, first.scene_id, first.task, scored_a, scored_b, value_a, value_b)


def _asked(answer: AnswerRecord) -> tuple[str, str, dict[str, str], str]:
    """What makes it the same question; image paths do not, since a run may have read them elsewhere."""
    return answer.task, answer.question, answer.choices, answer.ground_truth


def _scored(answers: Iterable[AnswerRecord]) -> tuple[AnswerRecord, ...]:
    kept = [answer for answer in answers if answer.failure is None and math.isfinite(answer.value)]
    return tuple(sorted(kept, key=lambda answer: answer.repeat))
