"""Rewards of a user's: plain functions, coroutines that ask the judge, classes that compare a group."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.sample import DrivingSample
from rewards.errors import RewardError
from rewards.judge import Judgement, JudgeRequest
from rewards.route import Router
from rewards.score import Score
from rewards.settings import JudgeSettings, RewardSettings

pytestmark = pytest.mark.slow  # plain rewards run in processes of their own

SOURCE = """
from rewards.rubric import load_rubric, rubric_for
from rewards.score import Score

async def doubled(sample, text, judge):
    request = load_rubric(rubric_for(sample)).request(sample, text)
    return (await judge.judge(request)).value / 2

async def waits(sample, text):
    return 70.0

async def raises(sample, text):
    raise KeyError("lost")

def asks_without_waiting(sample, text, judge):
    return 1.0

def three(sample, text, more):
    return 1.0

def trl(prompts, completions, **kwargs):
    return [1.0 for _ in completions]

class Called:
    async def __call__(self, sample, text):
        return 60.0

called = Called()

class Rarest:
    def score(self, sample, text):
        return 100.0

    def group(self, sample, texts):
        return [Score(100.0 / texts.count(text), {"copies": float(texts.count(text))}) for text in texts]

class Short(Rarest):
    def group(self, sample, texts):
        return [50.0]

class Broken(Rarest):
    def group(self, sample, texts):
        raise ValueError("no")

class Wild(Rarest):
    def group(self, sample, texts):
        return [10.0, 101.0, 20.0]

class Leaves(Rarest):
    def __init__(self):
        raise SystemExit("no licence")

class NoScore:
    pass

class NeedsArguments(Rarest):
    def __init__(self, size):
        self.size = size
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine", None)


class Generous:
    """A judge that gives 80."""

    async def judge(self, request: JudgeRequest) -> Judgement:
        return Judgement(80.0, {}, "")


def settings(scorers: dict[str, float], **more: Any) -> RewardSettings:
    return RewardSettings.model_validate({"routes": [{"kind": "any", "scorers": scorers}], **more})


def scored(scorers: dict[str, float], asked: Any = None, **more: Any) -> Score:
    return asyncio.run(Router(settings(scorers, **more), asked).score(sample(), "A. Going ahead.", "stop"))


def sample() -> DrivingSample:
    choices = {"A": "Going ahead.", "B": "Stopping."}
    return DrivingSample("s", "scene", "frame", "behavior", "multiple_choice", "What now?", "A", {}, choices=choices)


def group_of(scorers: dict[str, float], texts: list[str]) -> list[Score]:
    router = Router(settings(scorers))
    scores = [asyncio.run(router.score(sample(), text, "stop")) for text in texts]
    return router.complete(sample(), texts, scores)


class Sees:
    """A CLIP to which every text is 0.3 like every frame."""

    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        return [0.3] * len(texts)


def test_the_rewards_that_the_documentation_shows_score_an_answer() -> None:
    names = ("brief", "justified", "seen", "Novel")
    given = settings(
        {f"docs.examples.rewards:{name}": 1.0 for name in names}, judge={"model": "tiny"}, clip={"model": "tiny"}
    )
    shown = replace(sample(), images={"CAM_FRONT": "front.jpg"})
    router = Router(given, Generous(), Sees())
    texts = ["<think>Green.</think><answer>Going ahead because it is green.</answer>", "Going ahead.", "going ahead."]
    scores = [asyncio.run(router.score(shown, text, "stop")) for text in texts]
    found = router.complete(shown, texts, scores)
    parts = [{name: round(one.parts[f"docs.examples.rewards:{name}"]) for name in names} for one in found]
    assert parts[0] == {"brief": 100, "justified": 80, "seen": 30, "Novel": 100}
    assert parts[1] == {"brief": 100, "justified": 40, "seen": 30, "Novel": 50}


def test_a_coroutine_is_awaited() -> None:
    assert scored({"mine:waits": 1.0}).value == 70.0


def test_an_object_whose_call_is_a_coroutine_is_awaited() -> None:
    assert scored({"mine:called": 1.0}).value == 60.0


def test_a_module_that_leaves_python_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)")
    with pytest.raises(RewardError, match="cannot import leaving of scorer leaving:f: SystemExit: 0"):
        Router(settings({"leaving:f": 1.0}))


def test_a_reward_that_names_the_judge_is_given_it() -> None:
    found = scored({"mine:doubled": 1.0}, Generous(), judge=JudgeSettings(model="tiny"))
    assert found.value == 40.0


def test_a_coroutine_that_raises_masks_the_rollout() -> None:
    assert scored({"mine:raises": 1.0}).failure == "mine:raises: KeyError: 'lost'"


def test_a_class_compares_the_responses_of_a_group() -> None:
    found = group_of({"mine:Rarest": 1.0}, ["a", "b", "b"])
    assert [one.value for one in found] == [100.0, 50.0, 50.0]
    assert found[1].parts["mine:Rarest/copies"] == 2.0


@pytest.mark.parametrize(("name", "said"), [("Short", "gave 1 scores for 3 responses"), ("Broken", "ValueError: no")])
def test_a_comparison_that_fails_masks_the_whole_group(name: str, said: str) -> None:
    found = group_of({f"mine:{name}": 1.0}, ["a", "b", "c"])
    assert all(one.failure is not None and said in one.failure for one in found)


def test_a_comparison_fails_for_the_response_whose_number_is_none() -> None:
    found = group_of({"mine:Wild": 1.0}, ["a", "b", "c"])
    assert [one.failure is None for one in found] == [True, False, True]


def test_a_comparison_without_weight_fails_no_score() -> None:
    found = group_of({"mine:waits": 1.0, "mine:Wild": 0.0}, ["a", "b", "c"])
    assert [one.value for one in found] == [70.0, 70.0, 70.0]
    assert "failed_mine:Wild" in found[1].parts


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("doubled", {}, "wants the judge, but reward.judge is not set"),
        ("asks_without_waiting", {"judge": {"model": "tiny"}}, "make it async def"),
        ("trl", {}, r"takes a list of completions, as TRL's rewards do.*wrap it.*100 \* trl\(prompts="),
        ("Leaves", {}, "mine:Leaves cannot be made without arguments: SystemExit: no licence"),
        ("three", {}, r"must take \(sample, text\), and may name judge and clip"),
        ("NoScore", {}, r"the class mine:NoScore lacks score\(sample, text\)"),
        ("NeedsArguments", {}, "cannot be made without arguments"),
        ("Rarst", {}, "did you mean Rarest?"),
    ],
)
def test_a_reward_that_cannot_be_used_is_one_sentence(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(RewardError, match=said):
        Router(settings({f"mine:{name}": 1.0}, **more))
