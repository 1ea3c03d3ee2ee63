"""A benchmark: questions to ask, and what the answers are worth. Pure data; no torch, no ray.

A suite reads its answer files, says what is to be asked and what is to be judged, and scores a predictions file. What
answers (engines, an endpoint, a file) and what judges is decided elsewhere.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from data.errors import DataError
from data.faults import Faults
from data.sample import DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions, PredictionsFile
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

    `rows` are the figures as a terminal shows them, `reported` the members of the JSON object for programs, `figures`
    the headline numbers by name (a name is stable: curves and comparisons read it), `answers` the value of each
    question by its key.
    """

    result: SuiteResult
    rows: tuple[Row, ...]
    reported: dict[str, Any]
    figures: Mapping[str, float | None]
    answers: dict[str, AnswerScore] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    bars: tuple[Bars, ...] = ()
    faults: dict[str, int] = field(default_factory=dict)
    """What was left out or odd in any file, and judgements that could not be had, counted by reason."""
    notes: tuple[str, ...] = ()
    """A sentence for each fault."""


class SuiteOptions(BaseModel):
    """What every benchmark takes; the options of one are a subclass with a documented field for each.

    The fields are the flags of `evaluate.py NAME`, the keys of `evaluation.suites.NAME` in a recipe, and what tells two
    measurements apart: replies are never taken for those to another's questions. A field that changes neither a
    question nor its truth is declared with `Field(..., exclude=True)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    strict: bool = Field(False, exclude=True)
    """A fault in any file ends the scoring."""
    limit: int | None = Field(None, ge=1, exclude=True)
    """Ask a model this many questions or a few more: whole frames, drawn by the seed."""

    def about_questions(self) -> dict[str, str]:
        """The options that decide questions and truths, as text."""
        fields = type(self).model_fields
        return {name: str(value) for name, value in self if not fields[name].exclude}

    def files(self) -> dict[str, Path]:
        """The files and folders behind the questions, by option."""
        fields = type(self).model_fields
        return {name: value for name, value in self if isinstance(value, Path) and not fields[name].exclude}


class OptionError(DataError):
    """An option whose value cannot be used; `option` is its field, `problem` what a sentence says of it.

    As text it names the flag; code that read the option from a recipe names the setting instead.
    """

    def __init__(self, option: str, problem: str) -> None:
        """`problem` follows the option's name and value: "is no folder"."""
        super().__init__(f"--{option.replace('_', '-')} {problem}")
        self.option, self.problem = option, problem


class Suite(Protocol):
    """A benchmark: a class in a file of its own, and nothing else to change. Inherit from it, for what most share.

    Built-in ones stand in `registry.SUITES`; yours is named `module:Class` where those have a name, in
    `evaluate.py my_package.signs:Signs` and in `evaluation.suites` of a recipe alike. It is built from its options. It
    asks no model and no judge: it says what is to be asked and judged, and what answers are worth. What can be mended
    in a file or an option is a `DataError` or `OptionError` of one sentence. It needs neither torch nor ray.
    """

    Options: ClassVar[type[SuiteOptions]]
    """The model of its options."""
    title: ClassVar[str]
    """What it measures, in a few words."""
    headline: ClassVar[tuple[str, ...]]
    """The figures that stand first in its report, and that a training run draws as curves."""
    judged: ClassVar[bool] = False
    """Whether a judge has something to say of its answers."""
    asks: ClassVar[bool] = True
    """Whether a model can be asked its questions; the result of a leaderboard is only scored."""

    def __init__(self, options: Any) -> None:
        """From an instance of `Options`; reads no file yet. A dataclass with the one field `options` has it."""

    @abstractmethod
    def questions(self, faults: Faults, folder: Path) -> Sequence[Question]:
        """What a model is asked, images and all, each under a key of its own.

        Args:
            faults: takes what cannot be asked.
            folder: where images may be written that lie in no file of the benchmark; several runs share it.

        Raises:
            DataError: a file cannot be used, or, where `faults` are strict, has a fault.
        """

    def predictions(self, file: PredictionsFile) -> Predictions:
        """What a predictions file holds, by question key: the usual form, or one of the benchmark's own.

        Raises:
            DataError: the file cannot be used, or has a fault and is read strictly.
        """
        return file.read()

    def handed_in(self, predictions: Predictions, questions: Sequence[Question]) -> Any:
        """What a model said, as the JSON of a predictions file, in the form that the benchmark is handed.

        `predictions` reads it back.
        """
        return predictions.texts

    def judge_requests(self, predictions: Predictions) -> Mapping[str, JudgeRequest]:
        """What a judge is asked about the predictions, by question key; empty where none is needed."""
        return {}

    @abstractmethod
    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """What the predictions are worth; without judgements, what needs them has no value.

        Raises:
            DataError: as `questions`, or no question is answered.
        """
