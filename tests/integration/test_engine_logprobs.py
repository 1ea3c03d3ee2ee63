"""Engine and learner give the same tokens the same log-probabilities, in every model family (float32).

LLaVA and Qwen2.5-VL are held by every sync of the runs in this folder (`probe_gap`). Llama-3.2-Vision rolls out through
the transformers engine, since vLLM has dropped it; the others through vLLM, all in one process of their own, because
engines leave threads behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.rollout.engine import RolloutEngine, engine_of
from actors.settings import RolloutSettings, RunSettings
from data.rendered.samples import rendered_samples
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from data.sample import DrivingSample
from policies.model import load_policy
from policies.settings import PolicySettings
from recipe import Recipe
from tests import families
from tests.learner_gap import largest_gap

SETTINGS = RolloutSettings(temperature=1.3, max_tokens=16, max_model_len=2048, options={"max_concurrent": 8})
POLICY = PolicySettings(image_size=(64, 48))
RECIPE = Recipe(run=RunSettings(name="logprobs"), policy=POLICY, rollout=SETTINGS)
CLOCKS_APART_S = 0.05
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "qwen3_vl": families.tiny_qwen3_vl,
    "idefics3": families.tiny_idefics3,
    "smolvlm": families.tiny_smolvlm,
    "internvl": families.tiny_internvl,
    "mllama": families.tiny_mllama,
}


async def rollouts(engine: RolloutEngine, samples: list[DrivingSample]) -> list[Rollout]:
    await engine.start()
    sampling = SamplingSettings(SETTINGS.temperature, SETTINGS.max_tokens, seed=0)
    requests = [GenerationRequest(f"{i}", sample, sampling) for i, sample in enumerate(samples)]
    found = [one async for one in engine.generate(requests) if isinstance(one, Rollout)]
    await engine.stop()
    return sorted(found, key=lambda rollout: int(rollout.request_id))


def compare(family: str, scratch: Path) -> float:
    folder = BUILDERS[family](scratch / family)
    samples = rendered_samples(scratch / "scenes", 1, seed=0)[:3]
    other = {"backend": "transformers", "options": {}} if family == "mllama" else {}
    recipe = RECIPE.model_copy(update={"rollout": SETTINGS.model_copy(update=other)})
    chosen = engine_of(recipe)
    engine = chosen.engine_class("engine", str(folder), recipe, chosen.options, seed=0)
    found = asyncio.run(rollouts(engine, samples))
    assert all(len(rollout.token_ids) > 1 for rollout in found)
    for one in found:  # where its seconds went, as far as the engine says
        took = one.finished_at - one.started_at
        assert other if one.times is None else min(one.times) >= 0 and 0 < sum(one.times) <= took + CLOCKS_APART_S
    return largest_gap(load_policy(folder, POLICY, SETTINGS.temperature).eval(), folder, POLICY, samples, found)


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    engine_class, options, _ = engine_of(RECIPE)
    environ = os.environ | engine_class.environment(RECIPE, options)
    command = [sys.executable, "-m", "tests.integration.test_engine_logprobs", str(tmp_path_factory.mktemp("models"))]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("family", BUILDERS)
def test_engine_and_learner_agree(gaps: dict[str, float], family: str) -> None:
    assert gaps[family] < 1e-4


if __name__ == "__main__":
    print(json.dumps({family: compare(family, Path(sys.argv[1])) for family in BUILDERS}))
