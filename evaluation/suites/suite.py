"""A benchmark as the house sees it: questions to ask, and what the answers are worth. Pure data; no torch, no ray.

A suite reads its answer files, says what is to be asked and what is to be judged, and scores a predictions file. Who
answers (engines, an endpoint, a file) and who judges is decided elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.faults import Faults
from data.sample import DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.metrics.result import SuiteResult
from rewards.judge import JudgeRequest

Row = tuple[str, str]
"""A figure's name and its value as it is printed."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a benchmark; `sample.id` is what a predictions file calls it.

    `setting` sets apart the times one question is asked under different conditions: DriveBench's clean images, its
    corruptions, and no image. Empty where a benchmark has one.
    """

    sample: DrivingSample
    setting: str = ""
    file_ids: tuple[str, ...] = ()
    """What else a predictions file may call it, beside its key."""

    @property
    def key(self) -> str:
        """The question's name among all of its benchmark: `setting/id`, or the id where there is one setting."""
        return f"{self.setting}/{self.sample.id}" if self.setting else self.sample.id


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """What one answer is worth on 0-100, None where the benchmark gives single answers no value; `parts` are named."""

    value: float | None
    parts: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    """Why there is no value although there should be one: the judge's reason."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table in the layout in which a benchmark is published.

    `rows` are this model's: a name and a figure for each column, None where there is none. `published` are rows of a
    paper, for other models, named with their source; `note` says what keeps them from being compared.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    published: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    note: str = ""
    digits: int = 2


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars side by side: for each of `groups` one bar of each series; None leaves a gap. `unit` stands at the axis."""

    title: str
    unit: str
    groups: tuple[str, ...]
    series: tuple[tuple[str, tuple[float | None, ...]], ...]
    highest: float | None = None
    """Where the axis ends, 100 for percentages; None ends it at the highest bar."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything a suite says of one set of answers.

    `rows` are the figures as a terminal shows them, `told` the members of the JSON object that programs read, `figures`
    the headline numbers by name (a name is stable: curves and comparisons read it), `answers` the value of each
    question by its key.
    """

    result: SuiteResult
    rows: tuple[Row, ...]
    told: dict[str, Any]
    figures: Mapping[str, float | None]
    answers: dict[str, AnswerScore] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    bars: tuple[Bars, ...] = ()
    faults: dict[str, int] = field(default_factory=dict)
    """What was left out or odd in any file, and judgements that could not be had, counted by reason."""
    notes: tuple[str, ...] = ()
    """A sentence for each fault."""


class Suite(Protocol):
    """A module of `evaluation` that is a benchmark."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The suite's part of the command line: its answer files and what is particular to it."""

    def questions(self, options: argparse.Namespace, faults: Faults) -> Sequence[Question]:
        """What a model is asked, images and all; `faults` takes what cannot be asked.

        Raises:
            DataError: a file cannot be used, or, with `--strict`, has a fault.
        """

    def predictions(self, options: argparse.Namespace) -> Predictions:
        """What the file `options.predictions` holds, by question; `predictions_of`, or a form of the benchmark's own.

        Raises:
            DataError: the file cannot be used, or, with `--strict`, has a fault.
        """

    def judge_requests(self, options: argparse.Namespace) -> Mapping[str, JudgeRequest]:
        """What a judge is asked about the answers of `options.predictions`, by key; empty where none is needed."""

    def score(self, options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
        """Score the answers of `options.predictions`; without judgements, what needs them has no value.

        Raises:
            DataError: as `questions`, or the predictions file cannot be used.
        """
