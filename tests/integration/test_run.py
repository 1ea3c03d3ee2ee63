"""Whole runs on the real stack: what they leave behind, and that a fault ends them with its name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from actors.training import prepare, run_reinforcement
from data.sample import CAMERAS
from evaluation.held_out import EvaluationResult
from failures import SyncError
from policies.model import load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.views import View
from recipe import Recipe, load_recipe
from tests.integration import faults
from tests.integration.conftest import QUICK_ENGINE, ROOT, SMALL, MakeRecipe, any_node
from tests.integration.varied import VARIED

pytestmark = pytest.mark.usefixtures("ray_session")


def run(recipe: Recipe, **classes: Any) -> Path:
    prepared = prepare(recipe)
    assert asyncio.run(run_reinforcement(prepared, any_node, **classes))
    return prepared.folder


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics of every step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A run of two steps with everything, long answers and large groups."""
    wanted = ("run.steps=2", "run.checkpoint_every=1", "rollout.max_tokens=48", "rollout.group_size=8", *VARIED)
    folders = (f"run.root={tmp_path_factory.mktemp('trained')}", "evaluation.control=true")
    recipe = load_recipe([str(ROOT / "recipes/tiny.yaml"), *SMALL, *wanted, *folders])
    return recipe, run(recipe)


def test_a_run_leaves_curves_rollouts_checkpoints_policy_and_report(trained: tuple[Recipe, Path]) -> None:
    recipe, folder = trained
    steps = steps_of(folder)
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["updates"] == 1 and step["probe_gap"] < 1e-4 and step["rollout_gap_max"] < 1e-4 for step in steps)
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


def test_scoring_of_a_group_begins_before_its_last_token(trained: tuple[Recipe, Path]) -> None:
    rows = pq.read_table(trained[1] / "samples/step_000001.parquet").to_pylist()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["sample_id"], []).append(row)
    overlapped = [
        min(row["scoring_started_at"] for row in group) < max(row["finished_at"] for row in group)
        for group in groups.values()
    ]
    assert any(overlapped)


def test_generation_may_run_ahead_by_the_staleness_allowed(small_recipe: MakeRecipe) -> None:
    allowed = ("run.steps=4", "rollout.max_staleness=2", "evaluation.before_and_after=false")
    steps = steps_of(run(small_recipe(*allowed, *VARIED)))
    assert [step["staleness"] for step in steps] == [0, 1, 2, 2]
    assert all(step["updates"] == 1 for step in steps)


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
            *VARIED,
        )
    )
    (step,) = steps_of(folder)
    assert step["updates"] == 2
    assert step["clip_share"] > 0.1, "the second update meets tokens that the first has moved beyond the clip"


def test_a_damaged_sync_stops_the_run_and_leaves_no_policy(small_recipe: MakeRecipe) -> None:
    """The faults one by one: `test_sync_faults.py`."""
    recipe = small_recipe("run.steps=3", QUICK_ENGINE, "evaluation.before_and_after=false")
    with pytest.raises(SyncError, match="rollout engine 0 .* changed in transit"):
        run(recipe, learner_class=faults.LearnerWithFlippedByte)
    assert not (Path(recipe.run.root) / recipe.run.name / "policy").exists()


def test_adapters_that_travel_alone_act_in_the_engine_as_in_the_learner(small_recipe: MakeRecipe) -> None:
    adapters = ("policy.lora={rank: 4, alpha: 32}", "rollout.adapters=apart", "warm_start.lr=1e-2", "learner.lr=1e-2")
    folder = run(small_recipe("run.steps=2", "evaluation.before_and_after=false", *adapters))
    steps = steps_of(folder)
    assert all(step["probe_gap"] < 1e-4 for step in steps)
    whole = (folder / "policy/model.safetensors").stat().st_size / 2**20
    assert 0 < steps[0]["sync_mib"] < whole / 5


def test_adapters_over_four_bits_act_in_the_engine_as_in_the_learner(small_recipe: MakeRecipe) -> None:
    """Of the weights as they are rounded: an engine that kept the checkpoint's own would be far off."""
    lora = "policy.lora={rank: 4, alpha: 32, four_bit: true}"
    adapters = (lora, "warm_start.lr=1e-2", "learner.lr=1e-2", "algorithm.kl_beta=0.01")
    steps = steps_of(run(small_recipe("run.steps=2", "evaluation.before_and_after=false", *adapters)))
    assert all(step["probe_gap"] < 1e-4 and step["updates"] == 1 for step in steps)
    assert 0 < steps[-1]["grad_norm"] < 1e6
    assert all(min(step["gather_s"], step["send_s"], step["install_s"]) > 0 for step in steps)
    assert steps[0]["kl"] > 0  # the warm start moved the adapters away from the model below them


OWN = (
    "rollout.backend=docs.examples.engine:OwnEngine",
    "rollout.options.threads=1",
    "sync.transport=docs.examples.transport:FileTransport",
)


@pytest.mark.parametrize("own", [False, True], ids=["transformers", "engine and transport of one's own"])
def test_another_engine_trains_and_agrees_with_the_learner(small_recipe: MakeRecipe, tmp_path: Path, own: bool) -> None:
    """Against vLLM, token for token: `test_engine_contract.py`."""
    other = (*OWN, f"sync.options.folder={tmp_path / 'buckets'}") if own else (QUICK_ENGINE,)
    folder = run(small_recipe(*other, "evaluation.before_and_after=false", *VARIED))
    assert any((tmp_path / "buckets").glob("*/bucket-*")) == own
    (step,) = steps_of(folder)
    assert step["updates"] == 1
    assert step["probe_gap"] < 1e-4
    assert step["rollout_gap_max"] < 1e-4
