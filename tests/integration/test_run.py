"""Whole runs on the real stack: what they leave behind, and that a fault ends them with its name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from actors.training import prepare, run_reinforcement
from data.sample import CAMERAS
from evaluation.held_out import EvaluationResult
from failures import SyncError
from policies.model import load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.views import View
from recipe import Recipe
from tests.integration import faults
from tests.integration.conftest import QUICK_ENGINE, MakeRecipe, any_node

pytestmark = pytest.mark.usefixtures("ray_session")


def run(recipe: Recipe, **classes: Any) -> Path:
    prepared = prepare(recipe)
    assert asyncio.run(run_reinforcement(prepared, any_node, **classes))
    return prepared.folder


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of every step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_curves_rollouts_checkpoints_policy_and_report(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("run.steps=2", "run.checkpoint_every=1", "evaluation.control=true")
    folder = run(recipe)

    steps = steps_of(folder)
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["sync_gap"] < 1e-4 and step.get("logprob_gap_max", 0.0) < 1e-4 for step in steps)
    assert all(step["staleness"] == 0 for step in steps)
    assert [step["weight_version"] for step in steps] == [1, 2]

    rows = pq.read_table(folder / "samples/step_000002.parquet").to_pylist()
    assert len(rows) == recipe.rollout.prompts_per_step * recipe.rollout.group_size
    assert {row["weight_version"] for row in rows} == {1}

    assert (folder / "checkpoints/step_000001/manifest.json").is_file()
    assert (folder / "report.html").stat().st_size > 10_000
    assert "event" in next((folder / "tensorboard").iterdir()).name
    names = {path.stem for path in (folder / "evaluation").glob("*.json")}
    assert names == {"before", "after", "swapped", "continued_warm_start"}

    after = EvaluationResult.from_json((folder / "evaluation/after.json").read_text())
    answer = after.answers[0]
    assert greedy(folder / "policy", recipe, answer.question, answer.images) == answer.response


def greedy(policy_folder: Path, recipe: Recipe, question: str, images: dict[str, str]) -> str:
    """What transformers answers with the exported policy."""
    from policies.prompt import chat_messages

    policy = load_policy(policy_folder, recipe.policy, temperature=1.0).eval()
    encoder = PromptEncoder(load_processor(policy_folder, recipe.policy), recipe.policy)
    messages = chat_messages(question, len(images), recipe.policy.system_prompt)
    text = encoder.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    views = tuple(View(camera, images[camera]) for camera in CAMERAS)
    inputs = encoder.processor(images=encoder.images(views), text=text, return_tensors="pt")
    with torch.no_grad():
        output = policy.body.generate(
            **inputs, do_sample=False, max_new_tokens=recipe.rollout.max_tokens, suppress_tokens=policy.forbidden_ids
        )
    return encoder.processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_scoring_of_a_group_begins_before_its_last_token(small_recipe: MakeRecipe) -> None:
    folder = run(small_recipe("rollout.max_tokens=48", "rollout.group_size=8", "evaluation.before_and_after=false"))
    rows = pq.read_table(folder / "samples/step_000001.parquet").to_pylist()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["sample_id"], []).append(row)
    overlapped = [
        min(row["scoring_started_at"] for row in group) < max(row["finished_at"] for row in group)
        for group in groups.values()
    ]
    assert any(overlapped)


def test_an_interrupted_run_goes_on_from_its_checkpoint(small_recipe: MakeRecipe) -> None:
    short = ("run.checkpoint_every=1", QUICK_ENGINE, "evaluation.before_and_after=false", "algorithm.kl_beta=0.01")
    folder = run(small_recipe("run.steps=1", *short))
    assert run(small_recipe("run.steps=3", "run.resume=true", *short)) == folder
    steps = [step["step"] for step in steps_of(folder)]
    assert steps == [1, 2, 3]


def test_generation_may_run_ahead_by_the_staleness_allowed(small_recipe: MakeRecipe) -> None:
    folder = run(small_recipe("run.steps=3", "rollout.max_staleness=1", "evaluation.before_and_after=false"))
    steps = steps_of(folder)
    assert steps[0]["staleness"] == 0
    assert max(step["staleness"] for step in steps) == 1


def test_several_updates_per_batch_clip_against_the_first_policy(small_recipe: MakeRecipe) -> None:
    folder = run(
        small_recipe(
            QUICK_ENGINE,
            "algorithm.updates_per_batch=2",
            "algorithm.clip_low=1e-4",
            "algorithm.clip_high=1e-4",
            "algorithm.kl_beta=0.01",
            "learner.lr=1e-3",
            "evaluation.before_and_after=false",
        )
    )
    (step,) = steps_of(folder)
    assert step["updates"] == 2


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"learner_class": faults.LearnerWithFlippedByte}, r"rollout engine 0 received bucket\(s\) \[0\].*in transit"),
        ({"engine_class": faults.EngineWithPerturbedWeight}, "disagree on the probes' first tokens by"),
        ({"engine_class": faults.EngineWithStaleImages}, "disagree on the probes' first tokens by"),
    ],
    ids=["flipped byte", "perturbed weight", "stale image embeddings"],
)
def test_a_damaged_sync_stops_the_run(small_recipe: MakeRecipe, classes: dict[str, Any], message: str) -> None:
    recipe = small_recipe("run.steps=3", "learner.lr=3e-3", "evaluation.before_and_after=false")
    with pytest.raises(SyncError, match=message):
        run(recipe, **classes)
    assert not (Path(recipe.run.root) / recipe.run.name / "policy").exists()


def test_biases_that_an_engine_keeps_in_float32_are_the_same_weights(small_recipe: MakeRecipe) -> None:
    recipe = small_recipe("policy.dtype=bfloat16", "sync.max_logprob_gap=0.2", "evaluation.before_and_after=false")
    folder = run(recipe, engine_class=faults.EngineWithWideBiases)
    (step,) = steps_of(folder)
    biases = [name for name in load_file(folder / "policy/model.safetensors") if name.endswith("bias")]
    assert step["sync_compared"] > len(biases), "norms and embeddings are compared too"
    assert step["sync_incomparable"] > 0, "fused and packed weights are not"


def test_adapters_that_travel_alone_act_in_the_engine_as_in_the_learner(small_recipe: MakeRecipe) -> None:
    adapters = ("policy.lora={rank: 4, alpha: 32}", "rollout.adapters=apart", "warm_start.lr=1e-2", "learner.lr=1e-2")
    folder = run(small_recipe("run.steps=2", "evaluation.before_and_after=false", *adapters))
    steps = steps_of(folder)
    assert all(step["sync_gap"] < 1e-4 for step in steps)
    whole = (folder / "policy/model.safetensors").stat().st_size / 2**20
    assert 0 < steps[0]["sync_mib"] < whole / 5


OWN = (
    "rollout.backend=docs.examples.engine:OwnEngine",
    "rollout.options.threads=1",
    "sync.transport=docs.examples.transport:FileTransport",
)


@pytest.mark.parametrize("own", [False, True], ids=["transformers", "engine and transport of one's own"])
def test_another_engine_trains_like_vllm(small_recipe: MakeRecipe, tmp_path: Path, own: bool) -> None:
    other = (*OWN, f"sync.options.folder={tmp_path / 'buckets'}") if own else (QUICK_ENGINE,)
    folder = run(small_recipe(*other, "evaluation.before_and_after=false"))
    assert any((tmp_path / "buckets").glob("*/bucket-*")) == own
    (step,) = steps_of(folder)
    assert step["sync_gap"] < 1e-4
    assert step.get("logprob_gap_max", 0.0) < 1e-4  # no group with unequal rewards, no update
