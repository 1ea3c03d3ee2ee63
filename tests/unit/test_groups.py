"""Groups come together while others are still generated; where more were begun than are wanted, some are enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from actors.experience import begun
from actors.groups import collect_groups
from actors.rollout.pool import EnginePool
from actors.scoring.scorers import Scorers
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from failures import ActorLost
from recipe import load_recipe
from rewards.group import ScoredRollout
from rewards.score import Score

SAMPLES = [DrivingSample(f"q{n}", f"scene{n}", "f", "behavior", "open_ended", "What?", "Go.", {}) for n in range(4)]
SAMPLING = SamplingSettings(1.0, 8)


class Engines:
    """Answers sample by sample; holds those in `slow` back for ever, and refuses those in `refused`."""

    def __init__(self, slow: Sequence[str] = (), refused: Sequence[str] = ()) -> None:
        self.slow, self.refused, self.ended_early = slow, refused, False

    def requests(
        self, samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings, draw: str
    ) -> list[GenerationRequest]:
        return [GenerationRequest(f"{one.id}-{n}", one, sampling) for one in samples for n in range(count)]

    async def generate(
        self,
        requests: Sequence[GenerationRequest],
        finished: Callable[[Rollout], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        try:
            for one in requests:
                await asyncio.sleep(0)
                if one.sample.id in self.refused:
                    refused(Refusal(one.request_id, one.sample.id, "no image"))
                elif one.sample.id not in self.slow:
                    finished(Rollout(one.request_id, one.sample.id, (1,), (2,), (-0.1,), "a", "stop", 0, "e", 0.0, 1.0))
            if self.slow:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended_early = True
            raise


class OwnScorers:
    """Gives every response the same score."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def score(self, sample: DrivingSample, rollout: Rollout) -> ScoredRollout:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return ScoredRollout(rollout, Score(50.0), 1.0)

    async def complete(self, sample: DrivingSample, scored: list[ScoredRollout]) -> list[ScoredRollout]:
        return scored


async def collected(engines: Engines, enough: int | None = None, error: Exception | None = None) -> list[Any]:
    refused: list[Refusal] = []
    work = collect_groups(
        SAMPLES, 2, SAMPLING, cast(EnginePool, engines), cast(Scorers, OwnScorers(error)), "test", refused.append,
        enough=enough,
    )  # fmt: skip
    found = await asyncio.wait_for(work, 60)
    return [None if group is None else [one.rollout.request_id for one in group] for group in found]


async def test_every_group_is_whole_and_in_the_order_of_its_sample() -> None:
    assert await collected(Engines()) == [[f"q{n}-0", f"q{n}-1"] for n in range(4)]


async def test_a_refused_sample_has_an_empty_group() -> None:
    assert await collected(Engines(refused=["q1"])) == [["q0-0", "q0-1"], [], ["q2-0", "q2-1"], ["q3-0", "q3-1"]]


async def test_enough_groups_end_what_is_under_way() -> None:
    engines = Engines(slow=["q0", "q2"])
    assert await collected(engines, enough=2) == [None, ["q1-0", "q1-1"], None, ["q3-0", "q3-1"]]
    await asyncio.sleep(0)
    assert engines.ended_early


async def test_no_more_groups_are_kept_than_are_wanted() -> None:
    found = await collected(Engines(), enough=2)
    assert sum(group is not None for group in found) == 2


async def test_where_too_few_come_all_that_come_are_kept() -> None:
    found = await collected(Engines(refused=["q0", "q1"]), enough=3)
    assert found == [[], [], ["q2-0", "q2-1"], ["q3-0", "q3-1"]]


@pytest.mark.parametrize("enough", [None, 2])
async def test_what_ends_the_scoring_ends_the_call(enough: int | None) -> None:
    with pytest.raises(ActorLost, match="the judge died"):
        await collected(Engines(), enough, ActorLost("the judge died"))


def test_over_provision_says_how_many_are_begun() -> None:
    recipe = load_recipe(["recipes/tiny.yaml", "rollout.over_provision=1.1"])
    assert [begun(wanted, recipe.rollout) for wanted in (1, 10, 32)] == [2, 11, 36]
    assert begun(32, load_recipe(["recipes/tiny.yaml"]).rollout) == 32
