"""New weights between two tokens: what was under way is kept, computed again or begun again, as the recipe says.

Each engine runs in a process of its own and tells what it saw; log-probabilities are compared token by token with those
of a learner that holds the older or the newer weights.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.rollout.vllm_engine import VllmEngine, VllmSettings
from actors.settings import RolloutSettings, RunSettings
from actors.sync.transport import Bucket, Meeting, join
from data.rendered.questions import driving_text
from data.rendered.samples import rendered_samples
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from policies.checkpoint import disk_name
from policies.model import Policy, load_policy
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from recipe import Recipe
from serve.operations.listening import free_port
from tests.learner_gap import token_gaps

POLICY = PolicySettings(image_size=(32, 32))
TEMPERATURE, SHORT, LONG, VERSION = 1.3, 8, 200, 7
NOISE = 0.03
"""Standard deviation of what is added to every weight."""


def recipe_of(in_flight: str) -> Recipe:
    rollout = {"temperature": TEMPERATURE, "max_model_len": 512, "threads": 1, "in_flight": in_flight}
    return Recipe(run=RunSettings(name="swap"), policy=POLICY, rollout=RolloutSettings.model_validate(rollout))


async def observed(in_flight: str, folder: Path) -> dict[str, Any]:
    """Swap the weights when the first, short answers have ended; what the long ones were sampled from."""
    samples = rendered_samples(folder / "scenes", 1, seed=0)[:4]
    by_id = {sample.id: sample for sample in samples}
    engine = VllmEngine("engine 0", str(folder), recipe_of(in_flight), VllmSettings(), seed=3)
    await engine.start()
    older = load_policy(folder, POLICY, TEMPERATURE).eval()
    newer = load_policy(folder, POLICY, TEMPERATURE).eval()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in newer.body.parameters():
            parameter += NOISE * torch.randn(parameter.shape, generator=draws)

    def requests(name: str, length: int) -> list[GenerationRequest]:
        sampling = SamplingSettings(TEMPERATURE, length)
        return [GenerationRequest(f"{name}-{sample.id}", sample, sampling) for sample in samples]

    def gaps(policy: Policy, found: Iterable[Rollout]) -> list[list[float]]:
        answers = list(found)
        return token_gaps(policy, folder, POLICY, [by_id[one.sample_id] for one in answers], answers)

    long: list[Rollout] = []

    async def drain() -> None:
        async for one in engine.generate(requests("long", LONG)):
            assert isinstance(one, Rollout)
            long.append(one)

    draining = asyncio.create_task(drain())
    short = [one async for one in engine.generate(requests("short", SHORT)) if isinstance(one, Rollout)]
    await publish(engine, newer)
    await draining
    later = [one async for one in engine.generate(requests("later", SHORT)) if isinstance(one, Rollout)]
    health = await engine.health()
    await engine.stop()
    ended_before = [one for one in long if one.weight_version == -1 and not one.weight_spans]
    through = [one for one in long if one not in ended_before]
    cuts = [one.weight_spans[-1].start if one.weight_spans else 0 for one in through]
    on_older, on_newer = gaps(older, through), gaps(newer, through)
    return {
        "short": [[one.weight_version, len(one.weight_spans)] for one in short],
        "short_gap": max(map(max, gaps(older, short))),
        "through": [[one.weight_version, one.weight_spans, one.dropped, len(one.token_ids)] for one in through],
        "gap_before": max((max(row[:cut]) for row, cut in zip(on_older, cuts, strict=True) if cut), default=0.0),
        "gap_behind": max(max(row[cut:]) for row, cut in zip(on_newer, cuts, strict=True)),
        "later_versions": [one.weight_version for one in later],
        "later_gap": max(map(max, gaps(newer, later))),
        "health": [health.state, health.version, health.running],
    }


async def publish(engine: VllmEngine, policy: Policy) -> None:
    names, tensors = zip(*policy.body.named_parameters(), strict=True)
    disk = tuple(disk_name(name, policy.model_type) for name in names)
    buckets = [Bucket(disk, tuple(tuple(one.shape) for one in tensors), "float32")]
    meeting = Meeting("gloo", "127.0.0.1", free_port(), 2, 300.0)
    sender, _ = await asyncio.gather(asyncio.to_thread(join, meeting, 0), engine.join_weight_channel(meeting, 1))
    await asyncio.gather(
        asyncio.to_thread(sender.send, list(tensors), "float32"), engine.receive_weights(VERSION, buckets, 300.0)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("policy"), 0, driving_text())


@pytest.fixture(scope="module", params=["keep", "recompute", "drop"])
def swapped(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    environ = os.environ | VllmEngine.environment(recipe_of(request.param), VllmSettings())
    command = [sys.executable, "-m", "tests.integration.test_weight_swap", request.param, str(folder)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, json.loads(done.stdout.splitlines()[-1])


def test_each_token_is_recorded_under_the_weights_that_sampled_it(swapped: tuple[str, dict[str, Any]]) -> None:
    mode, seen = swapped
    assert seen["short"] == [[-1, 0]] * 4
    assert seen["short_gap"] < 1e-4
    assert seen["through"], "some of the long responses were under way"
    for oldest, spans, dropped, length in seen["through"]:
        if mode == "drop":
            assert (oldest, spans, dropped) == (VERSION, [], 1)
            continue
        (old, start, cut), (new, behind, end) = spans
        assert (old, new, start, behind, end) == (-1, VERSION, 0, cut, length)
        assert (oldest, dropped) == (-1, 0)
        assert cut >= SHORT


def test_log_probabilities_are_those_of_the_weights_that_sampled_each_token(
    swapped: tuple[str, dict[str, Any]],
) -> None:
    mode, seen = swapped
    assert seen["gap_before"] < 1e-4
    if mode == "keep":
        assert seen["gap_behind"] > 1e-2, "keys and values of the older weights are still looked at"
    else:
        assert seen["gap_behind"] < 1e-4


def test_what_is_asked_afterwards_sees_nothing_of_the_older_weights(swapped: tuple[str, dict[str, Any]]) -> None:
    _, seen = swapped
    assert seen["later_versions"] == [VERSION] * 4
    assert seen["later_gap"] < 1e-4, "the same prompts and images were computed with the older weights before"
    assert seen["health"] == ["generating", VERSION, 0]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(observed(sys.argv[1], Path(sys.argv[2])))))
