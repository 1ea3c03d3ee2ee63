"""Loops of Tinker's client for `benchmarks.training_service`: the shipped programs, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tinker
from tinker import types

from benchmarks.stub_service import running, service_recipe
from benchmarks.stub_workers import StubPool, StubTrainer
from docs.examples.tinker_driving import driving_questions, tokenizer_of
from docs.examples.tinker_grpo import Options, grpo
from docs.examples.tinker_supervised import demonstration, train
from policies.tiny import build_tiny_policy
from serve.tenants.quotas import Quotas


def supervised_loop(service: tinker.ServiceClient, base: str, steps: int) -> list[float]:
    """The losses of the shipped supervised program, from one seed."""
    losses, _ = train(service, base, steps, batch=16, scenes=16, rank=8, lr=1e-3)
    return losses


def rl_loop(
    service: tinker.ServiceClient, base: str, steps: int, prompts: int, group: int, seed: int = 0
) -> list[dict[str, float]]:
    """The figures of the shipped GRPO program, with the seconds of each step."""
    given = Options(steps=steps, prompts=prompts, group=group, scenes=40, rank=8, lr=2e-4, temperature=0.7, seed=seed)
    return grpo(service, base, given)


def overlapping_loop(service: tinker.ServiceClient, base: str, rounds: int = 8) -> float:
    """Seconds of some rounds of one sampling request and one step, each waited for."""
    policy = service.create_lora_training_client(base_model=base, rank=8, seed=0).result()
    tokenizer = tokenizer_of(base)
    asked = next(driving_questions(tokenizer, 0, 1))
    sampler = policy.save_weights_and_get_sampling_client().result()
    began = time.monotonic()
    for _ in range(rounds):
        sampler.sample(asked.prompt, 8, types.SamplingParams(max_tokens=24)).result()
        policy.forward_backward([demonstration(asked, tokenizer)] * 8, "cross_entropy").result()
        policy.optim_step(types.AdamParams(learning_rate=1e-4)).result()
    return time.monotonic() - began


@contextmanager
def fixed_service(folder: Path, seconds: float) -> Iterator[tuple[str, str, Callable[[str], str]]]:
    """A service whose learner takes `seconds` for a forward_backward and its step, and whose engine for a batch."""
    folder.mkdir(parents=True)
    base = build_tiny_policy(folder / "base", seed=3)
    recipe = service_recipe(folder, base)
    with running(recipe, StubTrainer(seconds=seconds / 2), StubPool(seconds=seconds)) as served:
        many: Any = Quotas(requests_per_minute=1_000_000, models=100)
        yield served.url, str(base), lambda tenant: served.key(tenant, quotas=many)
