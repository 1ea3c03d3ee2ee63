"""What a failing judge does to a batch: its rollouts leave their groups and are counted, and too many stop the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from actors.experience import Credit, ExperienceBatch, experience
from actors.rollout.pool import EnginePool, refuse
from actors.scoring.judge_pool import JudgePool
from actors.scoring.scorers import Scorers
from actors.settings import RolloutSettings, RunSettings
from actors.supervision.supervisor import Supervisor
from benchmarks.judge_server import completion
from data.quarantine import Quarantine
from data.rollout import GenerationRequest, Refusal, Rollout
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from evaluation.step_panels import step_panels
from failures import TooManyMasked
from policies.algorithms.registry import make_algorithm
from policies.prompt import PromptEncoder
from policies.settings import AlgorithmSettings
from recipe import Recipe
from rewards.judge_endpoint import JudgeEndpoint
from rewards.settings import JudgeSettings, RewardSettings, RouteSettings

SETTINGS = RolloutSettings(prompts_per_step=2, group_size=4)
NOBODY = Quarantine(Path("no folder"), 1, 1.0, print)


class CountingEngines(EnginePool):
    """Answers at once; the text of a rollout is its number in the group."""

    async def generate(
        self,
        requests: Sequence[GenerationRequest],
        finished: Callable[[Rollout], None],
        refused: Callable[[Refusal], None] = refuse,
    ) -> None:
        for number, request in enumerate(requests):
            text = f"Answer {number % SETTINGS.group_size}."
            sample = request.sample.id
            finished(Rollout(request.request_id, sample, (1,), (2,), (-0.5,), text, "stop", 0, "engine", 0.0, 1.0))


@pytest.fixture
async def judge() -> AsyncIterator[str]:
    """A judge that gives answer 3 full points, answers 1 and 2 half, and says nothing valid about answer 0."""

    async def complete(http: web.Request) -> web.Response:
        body = await http.json()
        sheets = {"Answer 0.": "no idea", "Answer 3.": '{"score": 100}'}
        said = next(
            (sheet for text, sheet in sheets.items() if text in body["messages"][1]["content"]), '{"score": 50}'
        )
        return web.json_response(completion(body, said))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


def credit(recipe: Recipe) -> Credit:
    """Of scores that come without increments, so that no encoder is asked."""
    return Credit(make_algorithm(recipe.algorithm), recipe.rollout.max_tokens, cast(PromptEncoder, None))


async def batch(url: str, max_masked_share: float) -> ExperienceBatch:
    settings = JudgeSettings(model="m", url=url, attempts=1)
    routes = (RouteSettings(scorers={"judge/drivelm": 1.0}),)
    reward = RewardSettings(judge=settings, routes=routes, max_masked_share=max_masked_share)
    scorers = Scorers(reward, JudgePool(JudgeEndpoint(settings), settings))
    samples = [
        DrivingSample(f"q{n}", f"s{n}", f"f{n}", "planning", "open_ended", "What?", "Stop.", {}) for n in range(2)
    ]
    order = TaskBalancedOrder(samples, {"planning": 1.0}, 0, 0)
    recipe = Recipe(run=RunSettings(name="masked"), rollout=SETTINGS, reward=reward)
    try:
        async for one in experience(
            order, CountingEngines(cast(Supervisor, None), 60.0, 1), scorers, credit(recipe), recipe, NOBODY, steps=[1]
        ):
            return one
    finally:
        await scorers.stop()
    raise AssertionError("one step was asked for")


async def test_a_masked_rollout_leaves_its_group_and_is_counted_by_reason(judge: str) -> None:
    (first, second) = (await batch(judge, max_masked_share=0.5)).groups
    for group in (first, second):
        assert group.rewards == [50.0, 50.0, 100.0]
        masked, *others = group.advantages
        assert masked is None
        assert others == pytest.approx(
            [-0.5774, -0.5774, 1.1547], abs=1e-4
        )  # mean and deviation of the three that are left
    panels = step_panels([first, second])
    assert (panels["rollouts/masked"], panels["rollouts/masked/judge/drivelm_invalid_reply"]) == (2, 2)
    assert panels["reward/mean"] == pytest.approx(200 / 3)


async def test_above_the_recipes_share_the_run_stops_and_says_why(judge: str) -> None:
    with pytest.raises(TooManyMasked, match=r"2 of 8 rollouts could not be scored \(2 x judge/drivelm_invalid_reply"):
        await batch(judge, max_masked_share=0.2)


async def test_a_judge_that_nobody_reaches_stops_the_run_and_rewards_nothing() -> None:
    with pytest.raises(TooManyMasked, match=r"8 of 8 rollouts .* judge/drivelm_connection"):
        await batch("http://127.0.0.1:9/v1", max_masked_share=0.9)


class LuckyEngines(CountingEngines):
    """Every second prompt gets the same text from all of its rollouts."""

    async def generate(
        self,
        requests: Sequence[GenerationRequest],
        finished: Callable[[Rollout], None],
        refused: Callable[[Refusal], None] = refuse,
    ) -> None:
        for number, request in enumerate(requests):
            group, place = divmod(number, SETTINGS.group_size)
            text = "A." if group % 2 == 0 else f"Answer {place}."
            sample = request.sample.id
            finished(Rollout(request.request_id, sample, (1,), (2,), (-0.5,), text, "stop", 0, "engine", 0.0, 1.0))


@pytest.mark.parametrize(("refills", "replaced", "useful"), [(0, 0, 1), (1, 1, 1), (2, 2, 1)])
async def test_groups_that_teach_nothing_give_way_to_fresh_questions(refills: int, replaced: int, useful: int) -> None:
    scorers = Scorers(RewardSettings(routes=(RouteSettings(scorers={"exact_match": 1.0}),)))
    samples = [
        DrivingSample(f"q{n}", f"s{n}", f"f{n}", "planning", "open_ended", "What?", "Answer 1.", {}) for n in range(6)
    ]
    order = TaskBalancedOrder(samples, {"planning": 1.0}, 0, 0)
    dynamic = AlgorithmSettings(options={"refills": refills})
    recipe = Recipe(run=RunSettings(name="refilled"), rollout=SETTINGS, algorithm=dynamic)
    async for one in experience(
        order, LuckyEngines(cast(Supervisor, None), 60.0, 1), scorers, credit(recipe), recipe, NOBODY, steps=[1]
    ):
        assert (len(one.groups), one.replaced, one.position) == (2, replaced, 2 + replaced)
        assert sum(not group.has_equal_rewards for group in one.groups) == useful
