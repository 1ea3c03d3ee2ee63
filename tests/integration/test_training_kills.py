"""The service's process is killed outright, again and again, under a loop that gets no notice; with stub workers.

The learner's model is one number: a step that is lost, or taken twice, shows in every later loss. The same with a real
learner and a real engine: `python -m benchmarks.training_service --parts kills`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tinker
from sqlalchemy import func, select
from tinker import types

from benchmarks.stub_service import service_recipe, tiny_base
from serve.assembly import database_of
from serve.database.tables import Model, Request
from serve.tenants.keys import make_key

pytestmark = [pytest.mark.slow, pytest.mark.fault]
KILLS = 3
STEPS_AFTER = 5


def datum() -> types.Datum:
    inputs: dict[str, Any] = {"target_tokens": [41, 42], "weights": [0.0, 1.0]}
    return types.Datum(model_input=types.ModelInput.from_ints([40, 41]), loss_fn_inputs=inputs)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def start(recipe: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.stub_service", recipe.model_dump_json()])
    until = time.monotonic() + 300.0
    while not answers(f"http://127.0.0.1:{recipe.serve.port}"):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    return process


def test_a_server_that_is_killed_again_and_again_loses_nothing_and_learns_nothing_twice(tmp_path: Path) -> None:
    recipe = service_recipe(tmp_path, tiny_base(tmp_path), snapshot_steps=4)
    url, database = f"http://127.0.0.1:{recipe.serve.port}", database_of(recipe, os.environ)
    process = start(recipe)
    service = tinker.ServiceClient(base_url=url, api_key=make_key(database, "lab", "test"))
    policy = service.create_lora_training_client(base_model=recipe.policy.model, rank=4).result()
    losses, sampled, ended = list[float](), list[int](), threading.Event()

    def loop() -> None:
        left = STEPS_AFTER
        while left:
            left -= ended.is_set()
            sent = [(policy.forward_backward([datum()], "cross_entropy"),
                     policy.optim_step(types.AdamParams(learning_rate=1e-3))) for _ in range(2)]  # fmt: skip
            losses.extend(looked.result().metrics["loss:sum"] for looked, stepped in sent if stepped.result())
            sampler = policy.save_weights_and_get_sampling_client().result()
            answer = sampler.sample(datum().model_input, 2, types.SamplingParams(max_tokens=4)).result()
            sampled.append(len(answer.sequences))

    working = threading.Thread(target=loop)
    working.start()
    for _ in range(KILLS):
        time.sleep(1.5)
        process.kill()
        process.wait()
        process = start(recipe)
    ended.set()
    working.join(120.0)
    assert not working.is_alive()
    process.kill()
    process.wait()
    np.testing.assert_allclose(losses, 1.0 - 1e-3 * np.arange(len(losses)), atol=1e-6)
    assert len(losses) > 2 * (KILLS + STEPS_AFTER)
    assert set(sampled) == {2}
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Request).where(Request.state == "queued")) == 0
        assert session.scalar(select(Model.steps)) == len(losses)
    database.close()
