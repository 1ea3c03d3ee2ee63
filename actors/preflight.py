"""What a run on GPUs tries before it computes for hours: the way of the weights, and the judge.

An image goes through the real processor earlier, before Ray starts (`policies.source.check_source`). Without this the
first broadcast would come after the warm start, and the judge's first request with the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.crew import Crew
from actors.supervision.waiting import now
from data.sample import DrivingSample
from recipe import Recipe
from rewards.errors import RewardError

BEFORE = -1
"""The version of the weights that a checkpoint came with; engines hold these already."""


def on_gpus(recipe: Recipe) -> bool:
    """Whether a run holds GPUs; on CPUs a start is quick enough to try things when they are due."""
    judge = recipe.reward.judge
    return bool(recipe.learner.gpus or recipe.rollout.gpus or (judge is not None and judge.gpus))


async def try_weights(crew: Crew) -> float:
    """Send the first weights to every engine over the real transport, with receipts and probes; the seconds it took.

    Raises:
        SyncError: what arrived, what was installed or what engines make of it is not what the learner holds.
        ActorLost, ActorTimeout: nobody met, or an engine was lost.
    """
    report = await crew.sync.publish(BEFORE)
    crew.sync.learnt = None  # what follows changes weights without a version
    reached = f"{report.mebibytes:,.0f} MiB of weights reached {report.engines} engine(s)"
    print(f"preflight: {reached} in {report.seconds:.1f} s", flush=True)
    return report.seconds


async def try_judge(crew: Crew, samples: Sequence[DrivingSample]) -> float | None:
    """Have the true answer of a question judged; the seconds it took, or None where nobody asks a judge.

    Raises:
        RewardError: there was no judgement, with its reason.
    """
    router, judge = crew.scorers.router, crew.scorers.judge
    asked = next((sample for sample in samples if sample.answer and router.rubrics(sample)), None)
    if judge is None or asked is None:
        return None
    began = now()
    score = await router.score(asked, asked.answer, "stop")
    if score.failure is not None:
        raise RewardError(
            f"preflight: the true answer to sample {asked.id} could not be scored ({score.failure}): mend "
            "reward.judge, or what its route asks beside it; python -m commands.score_answer tries the same alone"
        )
    took = now() - began
    print(f"preflight: the judge answered in {took:.1f} s", flush=True)
    return took
