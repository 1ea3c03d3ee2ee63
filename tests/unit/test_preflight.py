"""What a run on GPUs tries first, and what it says where that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.crew import Crew
from actors.preflight import BEFORE, on_gpus, try_judge, try_weights
from data.sample import DrivingSample
from recipe import Recipe, load_recipe
from rewards.errors import RewardError
from rewards.judge import JudgeFailed, Judgement, JudgeRequest
from rewards.route import Router
from rewards.settings import RewardSettings

SAMPLES = [
    DrivingSample("q1", "s", "f", "planning", "coordinates", "Where?", "<c1,CAM_FRONT,1.0,2.0>", {}),
    DrivingSample("q2", "s", "f", "behavior", "open_ended", "What now?", "Go.", {}),
]
ROUTES = {
    "judge": {"model": "tiny"},
    "routes": [{"kind": "coordinates", "scorers": {"rouge_l": 1.0}}, {"kind": "any", "scorers": {"judge": 1.0}}],
}


class Judge:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.asked = fails, list[JudgeRequest]()

    async def judge(self, request: JudgeRequest) -> Judgement:
        self.asked.append(request)
        if self.fails:
            raise JudgeFailed("connection", "nobody answers")
        return Judgement(100.0, {criterion.name: criterion.highest for criterion in request.criteria}, "{}")


def crew_with(judge: Judge | None, sync: Any = None) -> Crew:
    router = Router(RewardSettings.model_validate(ROUTES), judge)
    return cast(Crew, SimpleNamespace(scorers=SimpleNamespace(router=router, judge=judge), sync=sync))


async def test_the_judge_is_asked_once_about_a_sample_that_goes_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    judge = Judge()
    assert await try_judge(crew_with(judge), SAMPLES) is not None
    (request,) = judge.asked
    assert "Go." in request.user
    assert "preflight: the judge answered in" in capsys.readouterr().out


async def test_a_judge_that_gives_no_judgement_ends_the_run_before_it_learns() -> None:
    with pytest.raises(RewardError, match=r"true answer to sample q2 could not be scored \(judge_connection: nobody"):
        await try_judge(crew_with(Judge(fails=True)), SAMPLES)


async def test_without_a_judge_or_a_sample_for_it_nobody_is_asked() -> None:
    judge = Judge()
    assert await try_judge(crew_with(judge), SAMPLES[:1]) is None
    assert await try_judge(crew_with(None), SAMPLES) is None
    assert judge.asked == []


async def test_the_first_weights_travel_under_the_checkpoints_version_and_leave_none_behind() -> None:
    published = list[int]()

    async def publish(version: int) -> Any:
        published.append(version)
        return SimpleNamespace(seconds=0.5, mebibytes=10.0, engines=2)

    sync = SimpleNamespace(publish=publish, learnt=0)
    assert await try_weights(crew_with(None, sync)) == 0.5
    assert (published, sync.learnt) == ([BEFORE], None)


def test_only_runs_on_gpus_do_so() -> None:
    assert on_gpus(load_recipe(["recipes/driverx_grpo.yaml"]))
    assert not on_gpus(Recipe.model_validate({"run": {"name": "r"}}))
