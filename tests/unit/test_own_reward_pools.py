"""Rewards of a user's that hang, crash or take their time: they hold up neither each other, nor rules, nor the exit."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.sample import DrivingSample
from rewards.judge import Judgement, JudgeRequest
from rewards.route import Router
from rewards.score import Score
from rewards.settings import RewardSettings

pytestmark = pytest.mark.slow  # plain rewards run in processes of their own

SOURCE = """
import asyncio, os, re, sys, time
from rewards.rubric import load_rubric, rubric_for

def slow(sample, text):
    time.sleep(0.2)
    return 50.0

def hangs(sample, text):
    while text == "hang":
        pass
    return 50.0

def holds_the_interpreter(sample, text):
    if text == "hang":
        re.match(r"(a+)+$", "a" * 60 + "b")
    return 50.0

def leaves(sample, text):
    if text == "hang":
        sys.exit(3)
    return 50.0

def dies(sample, text):
    if text == "hang":
        os._exit(7)
    return 50.0

async def waits_for_ever(sample, text):
    await asyncio.sleep(1e6 if text == "hang" else 0)
    return 50.0

async def blocks(sample, text):
    if text == "hang":
        time.sleep(60)
    await asyncio.sleep(0.1)
    return 50.0

async def leaves_a_loop(sample, text):
    if text == "hang":
        sys.exit(3)
    return 50.0

async def asks(sample, text, judge):
    return (await judge.judge(load_rubric(rubric_for(sample)).request(sample, text))).value

class Compares:
    def score(self, sample, text):
        return 100.0

    def group(self, sample, texts):
        while "hang" in texts:
            pass
        return [50.0] * len(texts)

class ComparesLater(Compares):
    async def group(self, sample, texts):
        return [70.0] * len(texts)
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("mine", None)


def router(name: str, asked: Any = None, **more: Any) -> Router:
    route = {"kind": "any", "scorers": {f"mine:{name}": 1.0, "exact_match": 0.0}}
    return Router(RewardSettings.model_validate({"routes": [route], "processes": 2, **more}), asked)


def sample() -> DrivingSample:
    return DrivingSample("s", "scene", "frame", "planning", "open_ended", "What now?", "go 1", {})


def scored(routes: Router, texts: list[str]) -> list[Score]:
    async def all_at_once() -> list[Score]:
        return await asyncio.gather(*(routes.score(sample(), text, "stop") for text in texts))

    return asyncio.run(all_at_once())


def test_an_answer_that_waits_for_its_turn_loses_no_time() -> None:
    found = scored(router("slow", timeout_s=2), [f"go {n}" for n in range(40)])  # four seconds and more, two at a time
    assert [one.failure for one in found] == [None] * 40


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hangs", "scoring_timeout: mine:hangs took longer than reward.timeout_s=1 s"),
        ("holds_the_interpreter", "scoring_timeout: "),
        ("waits_for_ever", "scoring_timeout: mine:waits_for_ever took longer than reward.timeout_s=1 s"),
        ("blocks", "scoring_timeout: mine:blocks took longer than reward.timeout_s=1 s"),
        ("leaves", "mine:leaves: SystemExit: 3"),
        ("leaves_a_loop", "mine:leaves_a_loop: SystemExit: 3"),
        ("dies", r"scorer_died: mine:dies ended its process \(exit code 7\)"),
    ],
)
def test_one_answer_that_fails_leaves_every_other_its_score(name: str, reason: str) -> None:
    first, hung, *others = scored(router(name, timeout_s=1), ["go 1", "hang", *(f"go {n}" for n in range(2, 20))])
    assert hung.failure is not None
    assert re.match(reason, hung.failure), hung.failure
    assert hung.parts["exact_match"] == 0.0
    assert {one.value for one in (first, *others)} == {50.0}
    assert first.parts["exact_match"] == 100.0


def test_a_comparison_that_hangs_masks_its_group_alone() -> None:
    routes = router("Compares", timeout_s=1)
    for texts, failure in ((["a", "hang"], "scoring_timeout"), (["a", "b"], None)):
        found = routes.complete(sample(), texts, scored(routes, texts))
        assert [one.failure and one.failure.partition(":")[0] for one in found] == [failure] * 2


def test_a_comparison_may_be_a_coroutine() -> None:
    routes = router("ComparesLater")
    assert [one.value for one in routes.complete(sample(), ["a", "b"], scored(routes, ["a", "b"]))] == [70.0, 70.0]


class Slow:
    """A judge that takes longer than a reward may."""

    async def judge(self, request: JudgeRequest) -> Judgement:
        await asyncio.sleep(1.5)
        return Judgement(80.0, {}, "")


def test_what_a_reward_waits_for_the_judge_is_not_its_own_time() -> None:
    routes = router("asks", Slow(), timeout_s=0.5, judge={"model": "tiny"})
    assert [one.value for one in scored(routes, ["go 1", "go 2"])] == [80.0, 80.0]


HUNG_RUN = """
import asyncio
from tests.unit.test_own_reward_pools import router, sample, scored

for name in ("hangs", "blocks"):
    print([one.value for one in scored(router(name, timeout_s=0.5), ["hang", "go 1"])])

async def leave():
    hung = asyncio.ensure_future(router("hangs", timeout_s=500).score(sample(), "hang", "stop"))
    await asyncio.wait({hung}, timeout=2)

asyncio.run(leave())
print("end")
"""


def test_a_reward_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    path = f"import sys; sys.path[:0] = {[str(tmp_path), str(Path(__file__).parents[2])]!r}"
    run = subprocess.run([sys.executable, "-c", path + HUNG_RUN], capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout) == (0, "[0.0, 50.0]\n[0.0, 50.0]\nend\n"), run.stderr
