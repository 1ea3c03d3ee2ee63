"""A benchmark of one's own, whole: `evaluate.py docs.examples.signs:Signs --answers signs.json ...`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from pydantic import Field

from data.errors import DataError
from data.faults import Faults
from data.sample import DrivingSample
from data.text_file import read_text
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions, match
from evaluation.metrics.result import SuiteResult
from evaluation.suites.file_scoring import fault_counts, fault_notes, needed_folder
from evaluation.suites.suite import AnswerScore, Question, Scored, Suite, SuiteOptions
from rewards.answer import answer_part


class SignsOptions(SuiteOptions):
    """The signs, and how a model is asked for them."""

    answers: Path
    """JSON object from the file name of an image to what its sign says."""
    image_root: Path | None = None
    """Folder of the images; needed to ask a model."""
    asked: str = "What does the sign say?"
    """The question."""
    wrong: Path | None = Field(None, exclude=True)
    """Write the names of the images that were read wrongly to this file."""


@dataclass(frozen=True)
class Signs(Suite):
    """The share of signs that are read letter by letter. A predictions file calls a question by its image's name."""

    options: SignsOptions
    Options: ClassVar[type[SuiteOptions]] = SignsOptions
    title: ClassVar[str] = "Signs: share of them that are read"
    headline: ClassVar[tuple[str, ...]] = ("read",)

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """One about each image."""
        images = needed_folder("image_root", self.options.image_root).resolve()
        return [Question(self._sample(name, says, images)) for name, says in self._signs().items()]

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Compare the part of each response behind its thinking."""
        signs = self._signs()
        matched = match(predictions.texts, signs, strict=self.options.strict)
        right = {name: answer_part(predictions.texts[name]).strip() == signs[name] for name in matched.ids}
        if self.options.wrong is not None:
            self.options.wrong.write_text("\n".join(name for name in right if not right[name]))
        result = SuiteResult(scored=len(right), faults=matched.faults)
        share = 100.0 * fmean(right.values())
        return Scored(
            result=result,
            rows=(("signs read (%)", f"{share:.2f}"),),
            reported=asdict(result) | {"read": share},
            figures={"read": share},
            answers={name: AnswerScore(100.0 * is_right) for name, is_right in right.items()},
            faults=fault_counts(result, None, predictions.faults),
            notes=fault_notes(result, None, predictions.faults),
        )

    def _signs(self) -> dict[str, str]:
        try:
            return dict(json.loads(read_text(self.options.answers)))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{self.options.answers} is no JSON object of signs: {error}") from None

    def _sample(self, name: str, says: str, images: Path) -> DrivingSample:
        shown = {"CAM_FRONT": str(images / name)}
        return DrivingSample(name, name, name, "perception", "open_ended", self.options.asked, says, shown)
