"""Shipped recipes, with tiny models and counts, run a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.rendered.samples import rendered_samples
from data.sample import DrivingSample
from policies.tiny import build_tiny_policy
from recipe import load_recipe
from tests.families import tiny_qwen2_5_vl
from tests.integration.conftest import QUICK_ENGINE, ROOT, MakeRecipe
from tests.integration.test_run import run

STEPPED = ("drivelm", "driverx_grpo", "ppo", "qwen2_5_vl_3b", "tiny_judge")
"""The recipes whose step is run here; `tiny`, `tiny_a2c` and `tiny_closed_loop` have tests of their own, the
staged one data of its own."""
WITHOUT_VLLM = ("drivelm", "ppo")
"""Those whose policy another one here has with vLLM."""
COUNTS = (
    "learner.ranks=1",
    "learner.gpus=0",
    "learner.cpus=1",
    "rollout.engines=1",
    "rollout.gpus=0",
    "rollout.cpus=1",
    "rollout.max_model_len=1024",
    "rollout.options.max_concurrent=16",
    "evaluation.before_and_after=false",
    "cluster.learner_label=null",
    "cluster.rollout_label=null",
)
TINY_JUDGE = (
    "reward.judge.model=tiny",
    "reward.judge.dtype=float32",
    "reward.judge.tensor_parallel=1",
    "reward.judge.gpus=0",
    "reward.judge.cpus=1",
    "reward.judge.max_concurrent=16",
    "reward.judge.max_model_len=4096",
    "reward.gate.overlong=false",  # two steps of warm start teach nobody to stop
    "cluster.judge_label=null",
    "evaluation.canaries_per_task=0",
)


def write_drivelm(folder: Path) -> tuple[Path, Path]:
    """Rendered scenes in DriveLM's train format."""
    samples = rendered_samples(folder / "nuscenes/samples", 4, seed=0)
    scenes: dict[str, dict[str, object]] = {}
    for sample in samples:
        scenes.setdefault(sample.scene_id, {"scene_description": "", "key_frames": {sample.frame_id: frame(sample)}})
        key_frame = scenes[sample.scene_id]["key_frames"][sample.frame_id]  # type: ignore[index]
        key_frame["QA"][sample.task].append({"Q": sample.question, "A": sample.answer})
    annotations = folder / "train.json"
    annotations.write_text(json.dumps(scenes))
    return annotations, folder / "nuscenes"


def frame(sample: DrivingSample) -> dict[str, object]:
    images = {camera: f"../nuscenes/samples{path.split('/samples')[-1]}" for camera, path in sample.images.items()}
    empty: dict[str, list[object]] = {"perception": [], "prediction": [], "planning": [], "behavior": []}
    return {"key_object_infos": {}, "QA": empty, "image_paths": images}


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("name", STEPPED)
def test_with_tiny_models_and_counts_a_step_runs(name: str, small_recipe: MakeRecipe, tmp_path: Path) -> None:
    overrides = list(COUNTS)
    recipe = load_recipe([str(ROOT / f"recipes/{name}.yaml")])
    if recipe.policy.model != "tiny":
        build = tiny_qwen2_5_vl if "Qwen" in recipe.policy.model else build_tiny_policy
        overrides.append(f"policy.model={build(tmp_path / 'model')}")
    if recipe.data.source == "drivelm":
        annotations, image_root = write_drivelm(tmp_path / "given")
        overrides += [
            f"data.options.annotations={annotations}",
            f"data.options.image_root={image_root}",
            "data.held_out=0.25",
        ]
    if recipe.reward.judge is not None:
        overrides += TINY_JUDGE
    if name in WITHOUT_VLLM:
        overrides += [QUICK_ENGINE, "rollout.options={}"]
    folder = run(small_recipe(*overrides, recipe=name))
    (step,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert step["weight_version"] == 1
    if recipe.reward.judge is not None:
        assert step["judge/judged"] > 0
        assert any(0 < value < 100 for name, value in step.items() if name == "parts/judge")
    assert step["probe_gap"] <= recipe.sync.max_logprob_gap
    assert (folder / "policy/model.safetensors").is_file()
