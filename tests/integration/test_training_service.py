"""`python -m serve.app` with a real learner and a real engine: the shipped programs, and nothing lost over kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tinker
from tinker import types

from benchmarks.stub_service import free_port
from docs.examples.tinker_driving import base_of, driving_questions, tokenizer_of
from docs.examples.tinker_grpo import Options, grpo
from docs.examples.tinker_supervised import demonstration, train
from recipe import load_recipe
from serve.tenants.keys import make_key
from serve.tenants.quotas import Quotas
from serve.training.assembly import database_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
READY_S = 600.0
GAP = 1e-4
PROCESSES = ("serve.training.server", "ray::AdapterLearner", "ray::AdapterEngine")


class Served:
    """A service in processes of its own."""

    def __init__(self, root: Path) -> None:
        port = free_port()
        threads = ("rollout.threads=1", "learner.threads=1", "serve.training.max_rank=8")
        settings = ["recipes/service.yaml", f"run.root={root}", f"serve.port={port}", *threads]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, "-m", "serve.app", *settings], cwd=ROOT)
        self.wait()
        self.key = make_key(database_of(load_recipe(settings), {}), "lab", "test", quotas=Quotas(models=100))
        self.base = base_of(self.url, self.key)

    def client(self) -> tinker.ServiceClient:
        return tinker.ServiceClient(base_url=self.url, api_key=self.key)

    def wait(self) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5.0).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError("the service did not become ready")

    def kill(self, name: str) -> None:
        found = [
            one for one in psutil.Process(self.process.pid).children(recursive=True) if name in " ".join(one.cmdline())
        ]
        assert found, f"no process is called {name}"
        found[0].kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    service = Served(tmp_path_factory.mktemp("service"))
    yield service
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(120) == 0


def losses_of(served: Served, steps: int) -> list[float]:
    return train(served.client(), served.base, steps, batch=8, scenes=4, rank=8, lr=2e-3)[0]


def test_supervised_steps_lower_the_loss_and_the_sampler_agrees_with_the_trainer(served: Served) -> None:
    losses, path = train(served.client(), served.base, 6, batch=8, scenes=4, rank=8, lr=5e-3)
    assert losses[-1] < losses[0]
    history = grpo(served.client(), served.base, Options(steps=2, prompts=8, group=4, scenes=4, rank=8), start=path)
    assert all(figures["sampler_gap"] <= GAP for figures in history if "sampler_gap" in figures)


def test_samplers_of_two_models_and_of_the_base_answer_each_by_its_own_weights(served: Served) -> None:
    service, tokenizer = served.client(), tokenizer_of(served.base)
    asked = [demonstration(one, tokenizer) for one in driving_questions(tokenizer, 0, 1)]
    models = [
        service.create_lora_training_client(base_model=served.base, rank=8, seed=seed).result() for seed in (1, 2)
    ]
    for model, rate in zip(models, (1e-3, 1e-2), strict=True):
        model.forward_backward(asked, "cross_entropy").result()
        model.optim_step(types.AdamParams(learning_rate=rate)).result()
    samplers: list[Any] = [model.save_weights_and_get_sampling_client().result() for model in models]
    samplers.append(service.create_sampling_client(base_model=served.base).result())
    words = types.ModelInput.from_ints([40, 41, 42, 43, 44, 45, 46, 47])
    scores = [np.array(sampler.compute_logprobs(words).result()[1:]) for sampler in samplers]
    targets: dict[str, Any] = {"target_tokens": np.array([41, 42, 43, 44, 45, 46, 47, 0])}
    looked = types.Datum(model_input=words, loss_fn_inputs=targets)
    for model, score in zip(models, scores, strict=False):
        trained = model.forward([looked], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].to_numpy()[:-1]
        # The engine scores a prompt over the whole vocabulary, the trainer without the ids that stand for images.
        np.testing.assert_allclose(score, trained, atol=5e-3)
    assert max(np.abs(scores[0] - scores[1]).max(), np.abs(scores[0] - scores[2]).max()) > 1e-3


@pytest.mark.fault
@pytest.mark.parametrize("name", PROCESSES)
def test_a_kill_is_a_pause_and_the_losses_are_those_of_an_unbroken_run(served: Served, name: str) -> None:
    unbroken = losses_of(served, 6)
    sampler = served.client().create_sampling_client(base_model=served.base).result()
    asked = next(driving_questions(tokenizer_of(served.base), 0, 1))
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(losses_of, served, 6)
        time.sleep(2.0)
        waiting = sampler.sample(asked.prompt, 8, types.SamplingParams(max_tokens=24))
        served.kill(name)
        assert len(waiting.result().sequences) == 8
        np.testing.assert_allclose(broken.result(), unbroken, atol=GAP)
