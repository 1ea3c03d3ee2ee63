"""A real vLLM judge in Ray actors: valid sheets from a random model, cached rubrics, and life after a killed engine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.scoring.judge_engines import JudgeEngines
from actors.scoring.judge_pool import JudgePool
from data.sample import DrivingSample
from rewards.judge import JudgeFailed
from rewards.rubric import load_rubric, rubric_names
from rewards.settings import JudgeSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

SETTINGS = JudgeSettings(
    model="tiny", cpus=0.1, threads=1, dtype="float32", max_concurrent=16, max_tokens=256, timeout_s=600.0
)


def sample(number: int) -> DrivingSample:
    choices = {"A": "Turn left.", "B": "Stopped."}
    return DrivingSample(f"q{number}", "s", "f", "behavior", "multiple_choice", "What will it do?", "A", {}, choices)


def anywhere(role: str, index: int) -> dict[str, float]:
    return {"num_cpus": 0}


async def test_every_rubric_is_filled_validly_by_a_random_model_and_computed_once(tmp_path: Path) -> None:
    pool = await JudgePool.start(SETTINGS, tmp_path, anywhere)
    rubrics = [load_rubric(name) for name in rubric_names()]
    requests = [rubric.request(sample(n), f"A. Turn left, {n}.") for rubric in rubrics for n in range(4)]
    judgements = await asyncio.gather(*(pool.judge(request) for request in requests))
    assert (len(judgements), pool.counts.judged, pool.counts.failed) == (4 * len(rubrics), 4 * len(rubrics), {})
    assert all(0 <= judgement.value <= 100 for judgement in judgements)
    assert isinstance(pool.backend, JudgeEngines)
    assert (
        pool.backend.cached_tokens > 0.5 * pool.backend.prompt_tokens
    )  # three of four prompts of a rubric share its blocks

    with pytest.raises(JudgeFailed) as caught:
        await pool.judge(dataclasses.replace(rubrics[0].request(sample(0), ""), user="word " * 20_000))
    assert caught.value.reason == "refused"
    assert (await pool.judge(rubrics[0].request(sample(1), "Still alive."))).points
    await pool.stop()


async def test_a_judge_killed_while_judging_is_replaced_and_one_lost_too_often_is_given_up(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"restarts": 1, "attempts": 2, "backoff_s": 0.01})
    pool = await JudgePool.start(settings, tmp_path, anywhere)
    assert isinstance(pool.backend, JudgeEngines)
    rubric = load_rubric("planning_vqa")
    judging = [asyncio.create_task(pool.judge(rubric.request(sample(n), f"Slow down, {n}."))) for n in range(48)]
    while pool.counts.judged < 4:
        await asyncio.sleep(0.05)
    kill(pool.backend.engines.members[0].actor)
    assert len(await asyncio.gather(*judging)) == 48
    assert (pool.counts.lost, pool.counts.failed) == (1, {})
    assert pool.counts.retried > 0

    kill(pool.backend.engines.members[0].actor)
    with pytest.raises(JudgeFailed) as caught:
        await pool.judge(load_rubric("drivelm").request(sample(0), "Stop."))
    assert (caught.value.reason, pool.counts.failed) == ("actor_lost", {"actor_lost": 1})
    await pool.stop()


async def test_a_judge_that_hangs_is_replaced_after_its_timeout_and_the_answer_judged_after_all(tmp_path: Path) -> None:
    """The short timeout is that of the engine that hangs alone: how fast a sound one replies is not the point."""
    settings = SETTINGS.model_copy(update={"restarts": 1, "attempts": 2, "backoff_s": 0.01})
    pool = await JudgePool.start(settings, tmp_path, anywhere)
    assert isinstance(pool.backend, JudgeEngines)
    hung = send(pool.backend.engines.members[0].actor, signal.SIGSTOP)
    pool.backend.timeout_s = 2.0
    judging = asyncio.create_task(pool.judge(load_rubric("planning_vqa").request(sample(1), "Slow down.")))
    while pool.counts.lost == 0:
        await asyncio.sleep(0.05)
    pool.backend.timeout_s = settings.timeout_s
    assert 0 <= (await judging).value <= 100
    assert (pool.counts.lost, pool.counts.failed) == (1, {})
    assert pool.counts.retried == 1
    hung.wait(timeout=300)  # raises where the process is still there
    await pool.stop()


def kill(actor: Any) -> None:
    send(actor, signal.SIGKILL)


def send(actor: Any, what: signal.Signals) -> psutil.Process:
    process = psutil.Process(ray.get(actor.__ray_call__.remote(lambda engine: os.getpid()), timeout=300))
    process.send_signal(what)
    return process
