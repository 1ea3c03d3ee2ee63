"""`evaluate.py rendered`: scenes drawn here, with exact ground truth, for a first look. No torch, no ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from data.faults import Faults
from data.rendered.questions import samples_of
from data.rendered.samples import FORMAT, rendered_samples
from data.rendered.scene import build_scene
from data.sample import TASKS, DrivingSample
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.suites.suite import Question, Scored, Suite, SuiteOptions
from evaluation.suites.task_scores import rubric_requests, score_by_task
from rewards.judge import JudgeRequest

UNSEEN_SEED = 1_000_003
"""Far from any seed that a recipe draws its training scenes with."""


class RenderedOptions(SuiteOptions):
    """Which scenes are drawn."""

    scenes: int = Field(40, ge=1)
    """How many scenes are drawn, with seven questions each."""
    scene_seed: int = UNSEEN_SEED
    """Seed of the scenes; the default is one that no recipe trains on."""


@dataclass(frozen=True)
class Rendered(Suite):
    """Scenes are drawn once, and kept for all runs. Scoring draws none."""

    options: RenderedOptions
    Options: ClassVar[type[SuiteOptions]] = RenderedOptions
    title: ClassVar[str] = "rendered scenes with exact ground truth, by task"
    headline: ClassVar[tuple[str, ...]] = tuple(TASKS)
    judged: ClassVar[bool] = True

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Seven questions about each scene."""
        scenes, seed = self.options.scenes, self.options.scene_seed
        images = folder / f"rendered-{scenes}-{seed}-v{FORMAT}"
        return [Question(sample) for sample in rendered_samples(images, scenes, seed)]

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """Every answer."""
        return rubric_requests(self._truths(), predictions.texts)

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score task by task."""
        strict = self.options.strict
        return score_by_task("Rendered scenes", self._truths(), predictions, Faults(), judgements, strict=strict)

    def _truths(self) -> dict[str, DrivingSample]:
        scenes = (build_scene(index, self.options.scene_seed) for index in range(self.options.scenes))
        return {sample.id: sample for scene in scenes for sample in samples_of(scene, {})}
