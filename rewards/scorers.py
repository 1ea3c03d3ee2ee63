"""The scorers a recipe can name, each `(sample, response) -> 0-100`, and your own by import path. Rules only."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.coordinates import coordinate_pairs, without_coordinates
from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.coordinates import drivelm_match_f1, hybrid_coordinate_f1
from rewards.rules import exact_match, extract_yes_no, option_of
from rewards.text import bleu, rouge_l

Scorer = Callable[[DrivingSample, str], float]


class RewardError(ValueError):
    """A reward that cannot be used as the recipe asks; the message names the setting and what to do."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A scorer of the house: it reads the answer part of a response and needs something of the ground truth."""

    score: Scorer
    applies: Callable[[DrivingSample], bool]
    needs: str

    def __call__(self, sample: DrivingSample, text: str) -> float:
        """The score of a response, 0-100."""
        return self.score(sample, answer_part(text))


def _option(sample: DrivingSample, answer: str) -> float:
    return 100.0 * (option_of(answer, sample.choices) == sample.answer)


def _yes_no(sample: DrivingSample, answer: str) -> float:
    return 100.0 * (extract_yes_no(answer) == extract_yes_no(sample.answer))


def _exact_match(sample: DrivingSample, answer: str) -> float:
    return 100.0 * exact_match(answer, sample.answer)


def _words(sample: DrivingSample, text: str) -> str:
    """What BLEU and ROUGE_L read: of a structured answer only the words, its coordinates are scored apart."""
    return without_coordinates(text) if sample.kind == "structured" else text


def _has_pairs(sample: DrivingSample) -> bool:
    return bool(coordinate_pairs(sample.answer))


def _has_answer(sample: DrivingSample) -> bool:
    return bool(sample.answer.strip())


BUILT_IN: dict[str, BuiltIn] = {
    "exact_match": BuiltIn(_exact_match, _has_answer, "an answer"),
    "option": BuiltIn(_option, lambda sample: sample.answer in sample.choices, "choices, and an answer that is one"),
    "yes_no": BuiltIn(_yes_no, lambda sample: extract_yes_no(sample.answer) is not None, "an answer of yes or no"),
    "hybrid_coordinate_f1": BuiltIn(
        lambda sample, answer: hybrid_coordinate_f1(answer, sample.answer), _has_pairs, "coordinates in the answer"
    ),
    "drivelm_match_f1": BuiltIn(
        lambda sample, answer: drivelm_match_f1(answer, sample.answer), _has_pairs, "coordinates in the answer"
    ),
    "bleu": BuiltIn(
        lambda sample, answer: bleu(_words(sample, answer), _words(sample, sample.answer)), _has_answer, "an answer"
    ),
    "rouge_l": BuiltIn(
        lambda sample, answer: rouge_l(_words(sample, answer), _words(sample, sample.answer)), _has_answer, "an answer"
    ),
}


def find_scorer(name: str, setting: str) -> Scorer:
    """A scorer by name, or your own function by its import path `package.module:function`.

    Your function is called as `function(sample, text)` with the whole response (`rewards.answer.answer_part` gives
    the answer in it) and returns a number from 0 to 100. Its module is found as by `import`.

    Raises:
        RewardError: the name is unknown, the module or function cannot be had, or it does not take two arguments.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if ":" not in name:
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f"did you mean {close[0]}?" if close else f"scorers: {', '.join(BUILT_IN)}"
        raise RewardError(f"{setting}: unknown scorer {name} ({hint}); your own is named as package.module:function")
    return _import_function(name, setting)


def _import_function(path: str, setting: str) -> Scorer:
    module_name, _, function_name = path.partition(":")
    try:
        module: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module can fail in any way; the cause is kept
        raise RewardError(
            f"{setting}: cannot import {module_name} of scorer {path}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        close = difflib.get_close_matches(function_name, [n for n in dir(module) if callable(getattr(module, n))], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RewardError(f"{setting}: {module_name} has no function {function_name!r}{hint}")
    try:
        inspect.signature(function).bind(None, "")
    except TypeError as error:
        raise RewardError(f"{setting}: {path} must take (sample, text): {error}") from None
    return function
