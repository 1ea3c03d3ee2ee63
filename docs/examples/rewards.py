"""Four rewards of one's own, as a recipe names them: `scorers: {"docs.examples.rewards:brief": 1.0}`."""

from __future__ import annotations

from collections.abc import Sequence

from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.clip import FrameTextSimilarity
from rewards.judge import Judge
from rewards.rubric import load_rubric, rubric_for
from rewards.score import Score


def brief(sample: DrivingSample, text: str) -> Score:
    """100 for an answer of at most ten words, less for each word more; how long the thinking is, is only logged."""
    answer = answer_part(text)
    thinking = len(text.split()) - len(answer.split())
    value = max(0.0, 100.0 - 5.0 * max(0, len(answer.split()) - 10))
    return Score(value, {"words_of_thinking": float(thinking)})


async def justified(sample: DrivingSample, text: str, judge: Judge) -> float:
    """What the judge gives the whole response, thinking too, where the answer names a reason; half of it elsewhere."""
    judgement = await judge.judge(load_rubric(rubric_for(sample)).request(sample, text))
    return judgement.value if "because" in answer_part(text) else judgement.value / 2


async def seen(sample: DrivingSample, text: str, clip: FrameTextSimilarity) -> float:
    """How well the answer describes what the front camera shows, by CLIP."""
    (cosine,) = await clip.similarities([sample.images["CAM_FRONT"]], [answer_part(text)])
    return 100.0 * max(0.0, cosine)


class Novel:
    """An answer is worth less the more of its group say the same."""

    def score(self, sample: DrivingSample, text: str) -> float:
        """While the group is not complete: as if nobody said the same."""
        return 100.0

    def group(self, sample: DrivingSample, texts: Sequence[str]) -> list[float]:
        """One value for each response of the complete group."""
        answers = [answer_part(text).strip().casefold() for text in texts]
        return [100.0 / answers.count(answer) for answer in answers]
