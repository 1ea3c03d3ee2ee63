"""What a GPU run needs and a CPU can show: arguments of engines, addresses, buckets, recipes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from ray.util import get_node_ip_address

from actors.learning.deepspeed_config import deepspeed_config
from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.rollout.vllm_engine import VllmSettings
from actors.scoring.judge_engine import engine_arguments
from actors.settings import LearnerSettings
from cluster.errors import PlanError
from cluster.here import check_here
from cluster.plan import resource_plan
from policies.vllm_environment import spread_over
from recipe import Recipe, load_recipe
from rewards.settings import JudgeSettings

RECIPES = Path(__file__).parents[2] / "recipes"


def recipe(**parts: Any) -> Recipe:
    return Recipe(**({"run": {"name": "r", "steps": 3}} | parts))


def test_an_engine_over_several_gpus_names_the_executor_that_needs_one_bundle() -> None:
    assert spread_over(1) == {"tensor_parallel_size": 1}
    assert spread_over(8) == {"tensor_parallel_size": 8, "distributed_executor_backend": "mp"}
    judge = engine_arguments("judge", JudgeSettings(model="m", gpus=8, tensor_parallel=8))
    assert judge["distributed_executor_backend"] == "mp"
    assert not judge["enforce_eager"]


def test_rollouts_are_compiled_on_gpus_alone_unless_set_otherwise() -> None:
    assert VllmSettings().eager(gpus=0)
    assert not VllmSettings().eager(gpus=1)
    assert VllmSettings(compile=False).eager(gpus=1)


def test_learners_on_gpus_meet_where_ray_says_the_node_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def stock(name: str) -> str:
        return "127.0.1.1"

    monkeypatch.setattr(socket, "gethostbyname", stock)
    learner = DeepSpeedLearner.__new__(DeepSpeedLearner)
    learner.settings = LearnerSettings(gpus=1)
    host, port = learner.address()
    assert host == get_node_ip_address() != "127.0.1.1"
    assert port > 0


def test_no_bucket_is_as_large_as_deepspeed_would_make_it() -> None:
    for stage in (1, 2, 3):
        zero = deepspeed_config(LearnerSettings(zero_stage=stage), "bfloat16")["zero_optimization"]
        assert zero["reduce_bucket_size"] == 50_000_000


def test_an_engine_that_shares_its_gpu_must_say_how_large_its_cache_is() -> None:
    shared = {"gpus": 0.5, "options": {"gpu_memory_share": 0.4}}
    with pytest.raises(PlanError, match="rollout.gpus=0.5 shares a GPU.*rollout.options.gpu_cache_gib"):
        resource_plan(recipe(rollout=shared, learner={"gpus": 0.5}))
    shared["options"] = {"gpu_memory_share": 0.4, "gpu_cache_gib": 16}
    resource_plan(recipe(rollout=shared, learner={"gpus": 0.5}))


def test_more_processes_than_this_machine_has_cpus_are_refused() -> None:
    many = recipe(rollout={"engines": 20})
    with pytest.raises(
        PlanError, match="reserve 21 CPUs, 20 of them for rollout, and this machine has 2: lower rollout.en"
    ):
        check_here(resource_plan(many), many, cpus=2)
    check_here(resource_plan(many), many, cpus=32)
    elsewhere = recipe(rollout={"engines": 20}, cluster={"address": "10.0.0.1:6379"})
    check_here(resource_plan(elsewhere), elsewhere, cpus=2)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_for_gpus_bounds_its_micro_batches_and_compiles_its_rollouts(path: Path) -> None:
    text = path.read_text()
    if "gpus:" not in text or "stages:" in text or "learner: {" not in text and "learner:\n" not in text:
        return
    one = load_recipe([str(path)])
    if not one.learner.gpus:
        return
    assert one.learner.micro_batch_tokens is not None
    assert one.learner.gradient_checkpointing
    assert not VllmSettings.model_validate(one.rollout.options).eager(max(one.rollout.gpus, 1))
