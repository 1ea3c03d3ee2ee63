"""BDD-OIA's metrics: F1 over sets of actions and reasons that an output names (Xu et al. 2020). No torch, no ray.

All figures are percentages. An output is read by the words of `data.formats.bdd_oia_words`; outputs that name nothing
known are counted, never silently lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from data.formats.bdd_oia_words import ACTION_TEXTS, ACTIONS, REASONS, Action, action_of, actions_in, named_in
from data.reading.words import folded
from evaluation.metrics.predictions import match
from evaluation.metrics.result import SuiteResult
from rewards.answer import answer_part
from rewards.json_answer import json_answer

_LABEL = re.compile(r"\b(actions?|reasons?|justifications?|explanations?)[\s*_]*:[*_]*", re.IGNORECASE)
_BETWEEN_ACTIONS = re.compile(r"[,;.、。\n&]|\band\b", re.IGNORECASE)
_ACTION_KEYS = ("action", "actions")
_REASON_KEYS = ("justification", "reason", "reasons", "explanation")

Bits = NDArray[np.uint8]
"""Samples x classes, 1 where a sample has the label."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The actions of a scene or an output, and the bits of its reasons (`data.formats.bdd_oia_words.REASONS`)."""

    actions: frozenset[Action]
    reasons: frozenset[int]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One action or reason: how many samples have it in truth, how many outputs name it, and its F1 (percent)."""

    name: str
    true: int
    predicted: int
    f1: float


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The metrics of the actions, or of the reasons, in percent."""

    f1_all: float
    """Mean over samples of F1(predicted set, true set); empty against empty counts 0."""
    mf1: float
    """Mean over all classes of the class F1; a class that nobody has and nobody names counts 0."""
    accuracy: float
    """Share of single labels that are right, present or absent: (TP + TN) / all."""
    exact_match: float
    """Share of samples whose whole set is right."""
    classes: tuple[ClassScore, ...]


@dataclass(frozen=True, slots=True)
class BddOiaResult(SuiteResult):
    """BDD-OIA's figures, and how many outputs named nothing that is known."""

    actions: LabelScores
    reasons: LabelScores
    no_known_action: int
    no_known_reason: int
    neither: int


def parse_labels(text: str) -> Labels:
    """The actions and reasons that an output names.

    Read is the answer part: a JSON object with `action` and `justification`; else what follows "Action:" and "Reason:",
    as often as they stand; else the whole text, as a sentence. An action or reason that is denied is not named.
    """
    found = json_answer(text) if "{" in text else None
    if found is not None:
        fields = {key.casefold(): value for key, value in found[0].items()}
        return Labels(_actions(_texts(fields, _ACTION_KEYS)), _reasons(_texts(fields, _REASON_KEYS)))
    answer = folded(answer_part(text))
    head, *labelled = _LABEL.split(answer) if ":" in answer else [answer]
    if not labelled:
        return _of_sentence(head)
    pairs = list(zip(labelled[::2], labelled[1::2], strict=True))
    actions = [part for label, part in pairs if label.casefold().startswith("action")]
    reasons = [part for label, part in pairs if not label.casefold().startswith("action")]
    return Labels(_actions(actions or [head]), _reasons(reasons or actions))


def score(predictions: Mapping[str, str], answers: Mapping[str, Labels], *, strict: bool = False) -> BddOiaResult:
    """As `score_labels`, without the labels."""
    return score_labels(predictions, answers, strict=strict)[0]


def score_labels(
    predictions: Mapping[str, str],
    answers: Mapping[str, Labels],
    *,
    strict: bool = False,
    left_out: Iterable[str] = (),
) -> tuple[BddOiaResult, dict[str, Labels]]:
    """Score outputs against annotated labels; also what each output names, by sample id.

    Args:
        predictions: output by sample id.
        answers: labels by sample id.
        strict: refuse samples without an output and outputs without a sample; else they are listed and left out.
        left_out: ids of the samples whose truth cannot be used; an output for one is passed over.

    Raises:
        DataError: no output belongs to a sample; with `strict`, any fault.
    """
    matched = match(predictions, answers, strict=strict, left_out=left_out)
    said = [parse_labels(predictions[id_]) for id_ in matched.ids]
    true = [answers[id_] for id_ in matched.ids]
    result = BddOiaResult(
        scored=len(matched.ids),
        faults=matched.faults,
        actions=label_scores(_action_bits(true), _action_bits(said), [ACTION_TEXTS[action] for action in ACTIONS]),
        reasons=label_scores(_reason_bits(true), _reason_bits(said), [reason.text for reason in REASONS]),
        no_known_action=sum(not labels.actions for labels in said),
        no_known_reason=sum(not labels.reasons for labels in said),
        neither=sum(not labels.actions and not labels.reasons for labels in said),
    )
    return result, dict(zip(matched.ids, said, strict=True))


def sample_f1(true: Collection[object], said: Collection[object]) -> float:
    """F1 of one sample's sets, 0 to 1; empty against empty is 0, as everywhere in this benchmark."""
    hits = len(set(true) & set(said))
    return 2 * hits / (len(true) + len(said)) if hits else 0.0


def label_scores(true: Bits, predicted: Bits, names: Sequence[str]) -> LabelScores:
    """The metrics of two label matrices (samples x classes), at least one sample."""
    by_class = 100.0 * f1_score(true, predicted, average=None, zero_division=0)
    return LabelScores(
        f1_all=100.0 * float(f1_score(true, predicted, average="samples", zero_division=0)),
        mf1=float(np.mean(by_class)),
        accuracy=100.0 * float(np.mean(true == predicted)),
        exact_match=100.0 * float(accuracy_score(true, predicted)),
        classes=tuple(
            ClassScore(name, int(of_truth), int(of_output), float(f1))
            for name, of_truth, of_output, f1 in zip(
                names, true.sum(axis=0, dtype=int), predicted.sum(axis=0, dtype=int), by_class, strict=True
            )
        ),
    )


def _texts(fields: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    values = [fields[key] for key in keys if key in fields]
    listed = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in listed if isinstance(item, str)]


def _actions(texts: Iterable[str]) -> frozenset[Action]:
    return frozenset(action for text in texts for action in _named_actions(text))


@lru_cache(maxsize=4096)
def _named_actions(text: str) -> frozenset[Action]:
    """What a text whose business is to name actions names: one, a list of them, or a sentence."""
    whole = action_of(text)
    if whole is not None:
        return frozenset({whole})
    listed = frozenset(
        action for part in _BETWEEN_ACTIONS.split(folded(text)) if (action := action_of(part)) is not None
    )
    return listed or actions_in(text)


def _of_sentence(text: str) -> Labels:
    named, whole = named_in(text), action_of(text)
    return Labels(named.actions if whole is None else frozenset({whole}), named.reasons)


def _reasons(texts: Iterable[str]) -> frozenset[int]:
    return frozenset[int]().union(*(named_in(text).reasons for text in texts))


def _action_bits(labels: Sequence[Labels]) -> Bits:
    bits: Bits = np.zeros((len(labels), len(ACTIONS)), dtype=np.uint8)
    for row, of_sample in enumerate(labels):
        for action in of_sample.actions:
            bits[row, ACTIONS.index(action)] = 1
    return bits


def _reason_bits(labels: Sequence[Labels]) -> Bits:
    bits: Bits = np.zeros((len(labels), len(REASONS)), dtype=np.uint8)
    for row, of_sample in enumerate(labels):
        for bit in of_sample.reasons:
            bits[row, bit] = 1
    return bits
