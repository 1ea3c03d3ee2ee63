"""`evaluate.py drivelm_hard`: DriveLM-Hard, or any driving samples (JSONL), judged by task. No torch, no ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from data.errors import DataError
from data.faults import Faults, first_note
from data.jsonl import read_jsonl
from data.sample import TASKS, DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.suites.published import DRIVELM_HARD
from evaluation.suites.suite import Question, Scored, Suite, SuiteOptions
from evaluation.suites.task_scores import rubric_requests, score_by_task
from rewards.judge import JudgeRequest


class DriveLMHardOptions(SuiteOptions):
    """The samples."""

    answers: Path
    """JSONL of samples (docs/data.md)."""
    image_root: Path | None = None
    """Folder of the images, where it is not the file's own."""


@dataclass(frozen=True)
class DriveLMHard(Suite):
    """The rubrics are AutoDriveRL's; `prepare_data.py build` makes the set and reads the scores back as difficulty."""

    options: DriveLMHardOptions
    Options: ClassVar[type[SuiteOptions]] = DriveLMHardOptions
    title: ClassVar[str] = "DriveLM-Hard, or any samples of yours, by task"
    headline: ClassVar[tuple[str, ...]] = tuple(TASKS)
    judged: ClassVar[bool] = True

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Every sample of the file, in its order."""
        return [Question(sample) for sample in self._samples(faults, to_show=True).values()]

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """Every answer."""
        return rubric_requests(self._samples(Faults()), predictions.texts)

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score task by task."""
        faults = Faults(self.options.strict)
        samples = self._samples(faults)
        return score_by_task(
            "DriveLM-Hard", samples, predictions, faults, judgements, DRIVELM_HARD, strict=self.options.strict
        )

    def _samples(self, faults: Faults, *, to_show: bool = False) -> dict[str, DrivingSample]:
        """The samples by id; their images need be there only to be shown."""
        options = self.options
        read = read_jsonl(options.answers, faults, options.image_root, check_images=to_show)
        samples = {sample.id: sample for sample in read}
        if not samples:
            raise DataError(f"{options.answers} holds no usable sample{first_note(faults)}")
        return samples
