"""The three recipes of driving tokens with tiny models: taught, exported, measured, and driving."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForImageTextToText

from actors.training import prepare, run_reinforcement, train_sft
from data.reasoning.reasoning import ReasoningRecord
from data.sample import CAMERAS
from data.tokens.bins import Bins
from data.tokens.codebook import Codebook
from evaluation.driving import read_driving
from policies.heads.files import heads_in
from policies.model import load_processor
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from recipe import load_recipe
from tests.drawn import six_cameras, written
from tests.families import tiny_qwen2_5_vl
from tests.integration.conftest import QUICK_ENGINE, ROOT, any_node
from tests.unit.test_carla_drives import asked, measured
from tests.unit.test_driving_tokens import ARCS, drives

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.fault]

FEW = (
    "learner.ranks=1",
    "learner.gpus=0",
    "learner.cpus=1",
    "learner.threads=1",
    "rollout.engines=1",
    "rollout.gpus=0",
    "rollout.cpus=1",
    "rollout.threads=1",
    "policy.dtype=float32",
    "warm_start.steps=3",
    "warm_start.batch_size=4",
    "warm_start.warmup_steps=0",
    "cluster.learner_label=null",
    "cluster.rollout_label=null",
    "data.held_out=0.25",
)


def test_the_agent_is_taught_with_reasoning_and_measured_in_open_loop(
    tmp_path: Path,
) -> None:
    bins, _ = Bins.fit(ARCS, 32)
    bins.write(tmp_path / "bins.json", {})
    six_cameras(tmp_path / "samples", *map(str, range(16)))
    futures = [[list(point) for point in one.future] for one in ARCS[40:56]]
    entries = [
        {
            "scene_token": f"s{number // 4}",
            "token": f"f{number}",
            "images": [f"samples/{camera}/{number}.jpg" for camera in CAMERAS],
            "sdc_planning": [future],
        }
        for number, future in enumerate(futures)
    ]
    file = written(tmp_path / "way.json", entries)
    with (tmp_path / "reasoning.jsonl").open("w") as lines:
        for number, one in enumerate(ARCS[40:56]):
            id_, said = f"s{number // 4}_f{number}", bins.encode(one.future)
            record = ReasoningRecord(
                id_, f"s{number // 4}", f"f{number}", "planning", said, "The road is free.", "", "", 1, "t", "p"
            )
            lines.write(record.to_line() + "\n")
    recipe = load_recipe(
        [
            str(ROOT / "recipes/driverx_agent.yaml"),
            f"run.root={tmp_path / 'runs'}",
            f"policy.model={build_tiny_policy(tmp_path / 'model')}",
            f"policy.heads.trajectory={tmp_path / 'bins.json'}",
            f"data.options.bins={tmp_path / 'bins.json'}",
            f"reward.trajectory_bins={tmp_path / 'bins.json'}",
            f"data.options.annotations={file}",
            f"data.options.image_root={tmp_path}",
            f"data.reasoning={tmp_path / 'reasoning.jsonl'}",
            "warm_start.variant=reason",
            "policy.image_size=[32, 32]",
            *FEW,
        ]
    )
    assert asyncio.run(train_sft(prepare(recipe, engines=False), any_node))
    folder = tmp_path / "runs/driverx_agent"
    assert heads_in(folder / "policy").hash == bins.hash
    AutoModelForImageTextToText.from_pretrained(folder / "policy")
    given = ["open_loop", "--model", str(folder), "--answers", str(file), "--image-root", str(tmp_path)]
    more = ["--bins", str(folder / "policy/trajectory_bins.json"), QUICK_ENGINE, "policy.heads.answer=tokens"]
    command = [sys.executable, str(ROOT / "evaluate.py"), *given, *more, "--out", str(tmp_path / "out")]
    answered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert answered.returncode == 0, answered.stderr
    assert "uniad/l2_mean" in answered.stdout
    assert "vad_stp3/l2_mean" in answered.stdout
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert "tokens_" not in json.dumps(results), "what is due is a whole trajectory"


def test_the_vla_is_taught_on_drivelm_carla_and_keeps_its_codebook(tmp_path: Path) -> None:
    book, _ = Codebook.fit(drives(0, 200), 16)
    book.write(tmp_path / "codes.json", {})
    for frame in range(8):
        measured(tmp_path, frame)
    asked(tmp_path, book, 8)
    images = tmp_path / "images/data/Accident"
    (images / "Route_2").mkdir()
    for part in ("rgb", "measurements"):
        (images / "Route_2" / part).symlink_to(images / "Route_1" / part)
    entries = json.loads((tmp_path / "a.json").read_text())
    entries += [one | {"image": one["image"].replace("Route_1", "Route_2")} for one in entries]
    recipe = load_recipe(
        [
            str(ROOT / "recipes/driverx_vla.yaml"),
            f"run.root={tmp_path / 'runs'}",
            f"policy.model={tiny_qwen2_5_vl(tmp_path / 'model')}",
            f"policy.heads.actions={tmp_path / 'codes.json'}",
            f"data.options.codebook={tmp_path / 'codes.json'}",
            f"data.options.annotations={written(tmp_path / 'b.json', entries)}",
            f"data.options.image_root={tmp_path / 'images'}",
            "policy.image_size=[56, 56]",
            "learner.zero_stage=3",
            "policy.lora={rank: 4}",
            *FEW,
        ]
    )
    run = prepare(recipe, engines=False)
    assert any(sample.id.endswith("_act") for sample in run.data.split.train)
    assert asyncio.run(train_sft(run, any_node))
    policy = tmp_path / "runs/driverx_vla/policy"
    assert heads_in(policy).hash == book.hash
    tokenizer = load_processor(policy, PolicySettings()).tokenizer
    row = tokenizer.convert_tokens_to_ids("<act_0003>")
    before = AutoModelForImageTextToText.from_pretrained(run.source).get_input_embeddings().weight
    after = AutoModelForImageTextToText.from_pretrained(policy).get_input_embeddings().weight
    changed = (before - after).abs().amax(dim=1) > 0
    first = min(tokenizer.convert_tokens_to_ids(word) for word in book.words)
    assert not changed[:first].any(), "adapters leave the old rows alone"
    assert changed[first : first + 16].any()
    assert row >= first
    assert (policy.parent / "policy/adapter/driving_token_rows.safetensors").is_file()


@pytest.mark.parametrize("name", ["tiny_vla_rl", "driverx_vla_rl"])
def test_a_vla_copies_the_expert_drives_by_tokens_and_learns(name: str, tmp_path: Path) -> None:
    overrides: list[str] = []
    if name == "driverx_vla_rl":
        overrides = [
            f"policy.model={tiny_qwen2_5_vl(tmp_path / 'model')}",
            "policy.heads.actions=driving",
            "data.options.codebook=driving",
            "environment.options.codebook=driving",
            "environment.cpus=0.25",
            "rollout.max_model_len=1024",
            "sync.max_logprob_gap=0.0001",
            *FEW,
        ]
    small: tuple[str, ...] = (
        "run.steps=2",
        "data.options.scenarios=8",
        "data.options.families=[bend, van_child]",
        "rollout.prompts_per_step=2",
        "rollout.group_size=2",
        "rollout.threads=1",
        "learner.threads=1",
        "warm_start.steps=2",
        "warm_start.batch_size=4",
        "warm_start.evaluate_every=0",
        "environment.measured_each=1",
        "environment.max_turns=4",
        "environment.workers=1",
        "environment.options.families=[bend, van_child]",
        "environment.options.held_out_families=[bus_stop]",
        "evaluation.control=false",
        QUICK_ENGINE,
    )
    given = [str(ROOT / f"recipes/{name}.yaml"), f"run.root={tmp_path}", *overrides, *small]
    assert asyncio.run(run_reinforcement(prepare(load_recipe(given)), any_node))
    folder = tmp_path / name
    steps: list[dict[str, Any]] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["episodes/unknown_actions"] == 0, "only motions are due"
        assert step["probe_gap"] < 1e-4
        assert step["rollout_gap_max"] < 1e-4
    result = read_driving(folder, "after")
    assert result is not None
    assert all(action.startswith("<act_") for action in result.episodes[0].trace["actions"])
    assert heads_in(folder / "policy").book is not None
