"""`evaluate.py driveaction`: accuracy on every level of the tree that the files name. No torch, no ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.driveaction import Language, Mode, read_driveaction
from data.sample import Task
from evaluation.metrics import driveaction
from evaluation.metrics.driveaction import MODES, ActionTruth, is_right
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out
from evaluation.suites.published import DRIVEACTION, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Question, Scored, Suite, SuiteOptions, Table

LEVELS: dict[Task, str] = {"perception": "Vision", "planning": "Language", "behavior": "Action"}
"""The first level of the tree by the task that the loader tells, for a file whose columns do not say it."""
ACTION = "Action"


class DriveActionOptions(SuiteOptions):
    """Its files, and what stands in the prompts."""

    answers: Path
    """A parquet file, or a folder of them."""
    mode: Mode | None = None
    """What stands in the prompts (a model is asked in mode A, if none is named)."""
    language: Language = "en"
    """The column content_en or content_cn."""
    image_root: Path | None = Field(None, exclude=True)
    """Where the images are unpacked (default: beside those of other runs)."""


@dataclass(frozen=True)
class DriveAction(Suite):
    """Scored by rule, on every level of the tree that the files name.

    A predictions file calls a question slice_n, n counting the rows of a slice from 0.
    """

    options: DriveActionOptions
    Options: ClassVar[type[SuiteOptions]] = DriveActionOptions
    title: ClassVar[str] = "DriveAction: accuracy per level"
    headline: ClassVar[tuple[str, ...]] = ("accuracy",)

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Every question of the file; in the modes with context, the action questions with what leads to them."""
        options = self.options
        root = options.image_root or folder / "driveaction-images"
        samples = read_driveaction(options.answers, root, faults, options.mode or "A", options.language)
        return [Question(sample) for sample in samples]

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score by rule."""
        options = self.options
        faults = Faults(options.strict)
        truths = _truths(options, faults)
        asked: Mode | None = "A" if predictions.by_model else None  # of a file nobody knows it
        mode = options.mode or asked
        result = driveaction.score(
            predictions.texts, truths, strict=options.strict, mode=mode, left_out=left_out(faults)
        )
        levels = [(f"{name} ({level.questions:,})", fixed(level.accuracy, 2)) for name, level in result.levels.items()]
        action = result.levels[ACTION].accuracy if ACTION in result.levels else None
        row = tuple(action if column == mode else None for column in MODES)
        return Scored(
            result=result,
            rows=(("accuracy", fixed(result.accuracy, 2)), ("unreadable", f"{result.unreadable:,}"), *levels),
            reported=asdict(result),
            figures={"accuracy": result.accuracy}
            | {f"accuracy/{name}": level.accuracy for name, level in result.levels.items()},
            answers={
                id_: AnswerScore(100.0 * bool(is_right(text, truths[id_])))
                for id_, text in predictions.texts.items()
                if id_ in truths
            },
            tables=(Table("Accuracy on action questions (%)", MODES, (("this run", row),), DRIVEACTION, OTHER_JUDGE),),
            faults=fault_counts(result, faults, predictions.faults),
            notes=fault_notes(result, faults, predictions.faults),
        )


def _truths(options: DriveActionOptions, faults: Faults) -> dict[str, ActionTruth]:
    paths = dict[str, tuple[str, ...]]()
    samples = read_driveaction(options.answers, None, faults, language=options.language, paths=paths)
    truths = {
        sample.id: ActionTruth(
            sample.answer, paths[sample.id] or (LEVELS.get(sample.task, sample.task),), sample.choices
        )
        for sample in samples
    }
    if not truths:
        raise DataError(f"{options.answers} holds no usable question{first_note(faults)}")
    return truths
