"""Rewards as a service by a real judge, which vLLM runs; and what a client sees when the judge is killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest

from benchmarks.training_service import Service, service

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1800)]

JUDGE = ("model=tiny", "cpus=0.25", "dtype=float32", "max_tokens=160")
SAMPLE = {"question": "May the ego vehicle go? Answer yes or no.", "answer": "Yes", "kind": "yes_no"}
RUBRIC = {"type": "rubric", "name": "by_rubric", "rubric": "planning_vqa"}
SCORED = {"type": "score_model", "name": "scored", "model": "judge", "range": [0, 10],
          "input": [{"role": "user", "content": "How good is: {{sample.output_text}}"}]}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), *(f"reward.judge.{one}" for one in JUDGE)) as running:
        yield running


@pytest.fixture(scope="module")
def key(served: Service) -> str:
    return served.key("lab")


def judged(served: Service, key: str, *answers: str) -> list[dict[str, Any]]:
    body = {"grader": RUBRIC, "items": [{"sample": SAMPLE, "answer": answer} for answer in answers]}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{served.url}/v1/rewards", json=body, headers=headers, timeout=600.0)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_a_judge_fills_the_sheet_of_a_rubric(served: Service, key: str) -> None:
    answers = [f"Yes, {number} metres are free." for number in range(8)]
    scored = judged(served, key, *answers)
    assert all(0 <= one["value"] <= 100 and one["failure"] is None for one in scored)
    assert all(one["rubrics"]["by_rubric"].startswith("planning_vqa@") and one["parts"] for one in scored)
    again = judged(served, key, *answers)  # from the cache: a judge that draws would differ
    assert [one["value"] for one in again] == [one["value"] for one in scored]


def test_openais_client_runs_a_grader_that_asks_the_judge(served: Service, key: str) -> None:
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, timeout=600.0)
    graders: Any = client.fine_tuning.alpha.graders
    run = graders.run(grader=SCORED, model_sample="It may go.", item={})
    assert 0 <= run.reward <= 10
    assert not run.metadata.errors.model_grader_server_error


def test_a_judge_that_is_killed_is_replaced_and_the_answers_are_scored(served: Service, key: str) -> None:
    children = psutil.Process(served.process.pid).children(recursive=True)
    (engine,) = [one for one in children if one.cmdline() and one.cmdline()[0].startswith("ray::JudgeEngine")]
    engine.kill()
    scored = judged(served, key, *(f"No, {number} metres are blocked." for number in range(4)))
    assert all(one["failure"] is None and one["value"] is not None for one in scored)
