"""The resource plan and its memory estimate: what a recipe asks of a cluster, known before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cluster.errors import PlanError
from cluster.memory import checkpoint_folder, read_shape
from cluster.placement import Node, Placement, first_unplaced
from cluster.plan import Bundle, resource_plan
from data.errors import DataError
from extension import ExtensionError
from policies.tiny import build_tiny_policy
from recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]


def recipe(**parts: Any) -> Recipe:
    return Recipe(**({"run": {"name": "r", "steps": 3}} | parts))


def write_checkpoint(folder: Path) -> Path:
    """A checkpoint small enough to count by hand: one layer, hidden size 8, 2 KV heads of size 4."""
    folder.mkdir()
    text = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    (folder / "config.json").write_text(json.dumps({"text_config": text}))
    shapes = {
        "vision_tower.vision_model.q_proj.weight": (8, 8),
        "language_model.model.layers.0.self_attn.q_proj.weight": (8, 8),
        "language_model.model.layers.0.self_attn.k_proj.weight": (8, 8),
        "language_model.model.layers.0.mlp.up_proj.weight": (32, 8),
        "language_model.lm_head.weight": (100, 8),
    }
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    first = dict(list(tensors.items())[:2])
    save_file(first, folder / "model-00001-of-00002.safetensors")
    save_file(
        {name: t for name, t in tensors.items() if name not in first}, folder / "model-00002-of-00002.safetensors"
    )
    return folder


def test_each_learner_rank_and_each_engine_is_a_bundle() -> None:
    plan = resource_plan(recipe(learner={"ranks": 2, "cpus": 1.5}, rollout={"engines": 3, "gpus": 1}))
    assert [(b.index, b.cpus, b.gpus) for b in plan.of("learner")] == [(0, 1.5, 0), (1, 1.5, 0)]
    assert [(b.index, b.cpus, b.gpus) for b in plan.of("rollout")] == [(0, 1, 1), (1, 1, 1), (2, 1, 1)]
    assert (plan.cpus, plan.gpus) == (6.0, 3.0)


def test_judge_engines_and_clip_actors_are_bundles_and_an_endpoint_is_none() -> None:
    judge = {"model": "m", "engines": 2, "tensor_parallel": 8, "gpus": 8}
    reward = {"judge": judge, "clip": {"actors": 3, "cpus": 0.5}}
    plan = resource_plan(recipe(reward=reward, cluster={"judge_label": "judge"}))
    assert [(b.gpus, b.label) for b in plan.of("judge")] == [(8, "judge"), (8, "judge")]
    assert [b.cpus for b in plan.of("clip")] == [0.5] * 3
    assert not resource_plan(recipe(reward={"judge": judge | {"url": "http://127.0.0.1:1/v1"}})).of("judge")
    with pytest.raises(PlanError, match=r"set reward.judge.gpus=8"):
        resource_plan(recipe(reward={"judge": judge | {"gpus": 1}}))


def test_a_judge_that_reserves_more_gpus_than_it_spreads_over_is_refused() -> None:
    judge = {"model": "m", "gpus": 8}
    with pytest.raises(PlanError, match=r"judge\.gpus=8 .*reward\.judge\.tensor_parallel=8"):
        resource_plan(recipe(reward={"judge": judge}))
    for fits in ({"gpus": 8, "tensor_parallel": 8}, {"gpus": 1}, {"gpus": 0.5}, {"gpus": 0}):
        assert resource_plan(recipe(reward={"judge": judge | fits})).of("judge")[0].gpus == fits["gpus"]


def test_a_label_becomes_a_selector_and_engines_take_that_of_the_learners_without_one_of_their_own() -> None:
    learner, engine = resource_plan(recipe(cluster={"learner_label": "trainer"})).bundles
    assert learner.selector == engine.selector == {"autodriverl/role": "trainer"}
    assert learner.resources == {"CPU": 1.0}
    own = {"learner_label": "trainer", "rollout_label": "autodriverl/gpu=in(A100-80GB,H100-80GB)"}
    assert resource_plan(recipe(cluster=own)).bundles[1].selector == {"autodriverl/gpu": "in(A100-80GB,H100-80GB)"}
    assert resource_plan(recipe()).bundles[0].selector == {}


@pytest.mark.parametrize("label", ["a b", "=judge", "key=", "in(", "-judge", "a=b=c", "!", "in()"])
def test_a_label_that_ray_would_not_take_is_refused(label: str) -> None:
    with pytest.raises(PlanError, match=r"label .* is no word such as judge"):
        resource_plan(recipe(cluster={"judge_label": label}))


def test_an_engine_spread_over_more_gpus_than_it_reserves_is_refused() -> None:
    with pytest.raises(PlanError, match=r"rollout\.tensor_parallel=4 .*rollout\.gpus=4"):
        resource_plan(recipe(rollout={"gpus": 1, "tensor_parallel": 4}))


def test_a_broken_number_of_gpus_is_refused() -> None:
    with pytest.raises(PlanError, match=r"learner\.gpus=1\.5"):
        resource_plan(recipe(learner={"gpus": 1.5}))


def test_the_description_shows_counts_amounts_marks_and_work() -> None:
    text = resource_plan(
        recipe(
            learner={"ranks": 8, "gpus": 1, "cpus": 4},
            rollout={"engines": 2, "gpus": 4, "tensor_parallel": 4, "prompts_per_step": 5, "group_size": 4},
            cluster={"learner_label": "a100"},
        )
    ).describe()
    rows = {row.split()[0]: row.split() for row in text.splitlines() if row.strip()}
    assert rows["learner"][1:6] == ["8", "4", "1", "labelled", "a100"]
    assert rows["total"][1:] == ["10", "34", "16"]
    assert "3 steps x 5 prompts x 4 responses = 60 responses of at most 64 tokens" in text


def test_what_is_not_on_this_machine_is_said_to_be_unknown() -> None:
    assert (
        "nobody/no-such-model: unknown until downloaded"
        in resource_plan(recipe(policy={"model": "nobody/no-such-model"})).describe()
    )


def test_a_folder_without_weights_is_said_to_be_unknown(tmp_path: Path) -> None:
    assert f"unknown, {tmp_path} does not hold both" in resource_plan(recipe(policy={"model": str(tmp_path)})).memory


def test_parameters_are_counted_from_the_headers_of_all_shards(tmp_path: Path) -> None:
    shape = read_shape(write_checkpoint(tmp_path / "m"))
    assert shape is not None
    assert (shape.parameters, shape.vision) == (64 + 64 + 64 + 256 + 800, 64)
    assert shape.projections == {"vision": 16, "projector": 0, "attention": 32, "mlp": 40}
    assert shape.cache_per_token == 2 * 1 * 2 * 4


def test_the_tiny_policys_headers_count_what_the_model_has(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    folder = build_tiny_policy(tmp_path / "tiny")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    shape = read_shape(folder)
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.vision == sum(parameter.numel() for parameter in model.model.vision_tower.parameters())
    assert shape.projector == sum(parameter.numel() for parameter in model.model.multi_modal_projector.parameters())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # float32: 4 bytes of weight twice (the reference policy), 4 of gradient, 8 of AdamW's moments
        ({}, (2 * 4 * 1248, 4 * 1248, 8 * 1248)),
        ({"algorithm": {"kl_beta": 0.0}}, (4 * 1248, 4 * 1248, 8 * 1248)),
        # bfloat16 keeps a float32 master copy beside the moments
        ({"policy": {"dtype": "bfloat16"}}, (2 * 2 * 1248, 2 * 1248, 12 * 1248)),
        ({"policy": {"freeze_vision": True}}, (2 * 4 * 1248, 4 * 1184, 8 * 1184)),
        # adapters: rank x (inputs + outputs); the reference is the model below them
        ({"policy": {"lora": {"rank": 2}}}, (4 * 1248, 4 * 144, 8 * 144)),
        ({"policy": {"lora": {"rank": 2, "targets": ["vision"]}}}, (4 * 1248, 4 * 32, 8 * 32)),
        ({"learner": {"ranks": 2, "zero_stage": 1}}, (2 * 4 * 1248, 4 * 1248, 4 * 1248)),
        ({"learner": {"ranks": 2, "zero_stage": 2}}, (2 * 4 * 1248, 2 * 1248, 4 * 1248)),
        ({"learner": {"ranks": 2, "zero_stage": 3}}, (4 * 1248, 2 * 1248, 4 * 1248)),
    ],
)
def test_a_learners_memory_follows_dtype_adapters_and_zero_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    monkeypatch.setattr("cluster.memory.GIB", 1)  # the estimate in bytes
    folder = write_checkpoint(tmp_path / "m")
    policy = {"model": str(folder)} | parts.get("policy", {})
    estimate = resource_plan(recipe(**(parts | {"policy": policy}))).memory
    weights, gradients, optimizer = expected
    assert f"weights {weights:.2f} GiB, gradients {gradients:.2f} GiB, optimizer {optimizer:.2f} GiB" in estimate


def test_an_engines_cache_is_given_in_tokens(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    estimate = resource_plan(recipe(policy={"model": str(folder)}, rollout={"options": {"memory_gib": 0.5}})).memory
    assert f"KV cache 0.5 GiB = {2**29 // (4 * 16):,} tokens" in estimate


def test_only_folders_and_hub_names_are_looked_up() -> None:
    assert checkpoint_folder("tiny", None) is None
    assert checkpoint_folder("nobody/no-such-model", None) is None
    assert checkpoint_folder(str(Path(__file__).parent), None) == Path(__file__).parent


def bundle(index: int, cpus: float = 1.0, gpus: float = 0.0) -> Bundle:
    return Bundle("rollout", index, cpus, gpus)


def test_the_first_bundle_without_room_is_named() -> None:
    nodes = [Node({"CPU": 2.0}), Node({"CPU": 1.0})]
    assert first_unplaced([bundle(0), bundle(1), bundle(2)], nodes) is None
    assert first_unplaced([bundle(0), bundle(1), bundle(2), bundle(3)], nodes) == bundle(3)


def test_a_bundle_is_never_split_over_nodes() -> None:
    halves = [Node({"CPU": 9.0, "GPU": 4.0}), Node({"CPU": 9.0, "GPU": 4.0})]
    assert first_unplaced([bundle(0, gpus=8.0)], halves) == bundle(0, gpus=8.0)


def test_small_bundles_fill_the_fullest_node_so_that_large_ones_still_fit() -> None:
    nodes = [Node({"CPU": 9.0, "GPU": 8.0}), Node({"CPU": 9.0, "GPU": 2.0})]
    assert first_unplaced([bundle(0, gpus=1.0), bundle(1, gpus=1.0), bundle(2, gpus=8.0)], nodes) is None


def test_many_small_bundles_do_not_take_the_node_that_a_large_one_needs_whole() -> None:
    nodes = [Node({"CPU": 16.0, "GPU": 8.0}), Node({"CPU": 16.0, "GPU": 8.0})]
    assert first_unplaced([*(bundle(i, gpus=1.0) for i in range(8)), bundle(8, gpus=8.0)], nodes) is None


def test_a_bundle_goes_only_to_nodes_with_its_label() -> None:
    judge = Bundle("judge", 0, 1.0, 0.0, "judge")
    assert first_unplaced([judge], [Node({"CPU": 1.0})]) == judge
    assert first_unplaced([judge], [Node({"CPU": 1.0}, {"autodriverl/role": "judge"})]) is None


def test_shares_that_are_whole_only_on_paper_still_fit() -> None:
    tenths = [bundle(index, cpus=0.1) for index in range(10)]
    assert first_unplaced(tenths, [Node({"CPU": 1.0})]) is None


@pytest.mark.parametrize("name", ["tiny", "tiny_judge"])
def test_the_recipes_for_a_bare_machine_fit_two_cores(name: str) -> None:
    plan = resource_plan(load_recipe([str(ROOT / f"recipes/{name}.yaml")]))
    assert (plan.cpus <= 2.0, plan.gpus) == (True, 0)


def test_the_plan_says_what_images_a_prompt_holds() -> None:
    stitched = {"views": "stitched", "image_size": [448, 252], "lidar": True, "image_patches": 12}
    said = resource_plan(recipe(policy=stitched)).work
    assert (
        "2 images (six frames of 448x252 pixels in one grid, a LiDAR sweep, each image in at most 12 patches)" in said
    )
    assert "6 images (six frames of the size of their files)" in resource_plan(recipe()).work


def test_the_work_is_that_of_the_processes_that_are_started() -> None:
    tiny = load_recipe([str(ROOT / "recipes/tiny.yaml")])
    assert "RL: 130 steps" in resource_plan(tiny).work
    supervised = resource_plan(tiny, roles=["learner"]).work
    assert "warm start: 120 steps" in supervised
    assert "RL" not in supervised
    measured = resource_plan(tiny, roles=["rollout", "judge", "clip"]).work
    assert "RL" not in measured
    assert "warm start" not in measured


def test_a_judge_with_limits_per_minute_says_how_long_a_step_takes_at_least() -> None:
    rollout = {"prompts_per_step": 32, "group_size": 8}

    def work(**judge: object) -> str:
        reward = {"judge": {"model": "m", "url": "http://127.0.0.1:1/v1", **judge}}
        return resource_plan(recipe(rollout=rollout, reward=reward)).work

    assert "256 answers, those of a step, take 196 s at least" in work(requests_per_minute=60)
    assert "take 708 s at least" in work(tokens_per_minute=5120, max_tokens=256)
    assert "judge" not in work(requests_per_minute=300)
    assert "judge" not in work()


def test_an_environment_takes_a_bundle_a_worker_and_is_checked_before_anything_starts() -> None:
    closed_loop = str(ROOT / "recipes/tiny_closed_loop.yaml")
    plan = resource_plan(load_recipe([closed_loop, "environment.workers=2", "environment.cpus=0.1"]))
    assert [bundle.cpus for bundle in plan.of("environment")] == [0.1, 0.1]
    assert "episodes of at most 60 turns" in plan.work
    with pytest.raises(ExtensionError, match=r"environment\.name=drivin is unknown"):
        resource_plan(load_recipe([closed_loop, "environment.name=drivin"]))
    with pytest.raises(DataError, match="no scenario family 'moon'"):
        resource_plan(load_recipe([closed_loop, "environment.options.families=[moon]"]))


def test_an_engine_beside_a_learner_rank_is_reserved_with_it() -> None:
    rollout = {"engines": 3, "gpus": 0.5, "on_learners": 2, "options": {"sleep_mode": True, "gpu_cache_gib": 8}}
    plan = resource_plan(recipe(learner={"ranks": 2, "gpus": 0.5, "zero_stage": 2}, rollout=rollout))
    assert [(b.role, b.index, b.gpus, b.beside_learner) for b in plan.bundles] == [
        ("learner", 0, 0.5, False),
        ("learner", 1, 0.5, False),
        ("rollout", 0, 0.5, True),
        ("rollout", 1, 0.5, True),
        ("rollout", 2, 1, False),
    ]
    assert [(b.role, b.index, b.cpus, b.gpus) for b in plan.reserved] == [
        ("learner", 0, 2, 1.0),
        ("learner", 1, 2, 1.0),
        ("rollout", 2, 1, 1),
    ]
    assert sum(bundle.gpus for bundle in plan.reserved) == plan.gpus
    assert "on the learners' devices" in plan.describe()


HALVES: dict[str, Any] = {"gpus": 0.5, "on_learners": 1, "options": {"sleep_mode": True, "gpu_cache_gib": 8}}


@pytest.mark.parametrize(
    ("rollout", "learner", "said"),
    [
        ({"on_learners": 2}, {"ranks": 2}, "rollout.engines=1"),
        ({"on_learners": 2, "engines": 2}, {}, "learner.ranks=1"),
        ({"on_learners": 1, "max_staleness": 1}, {}, "rollout.max_staleness=0"),
        (HALVES | {"gpus": 1}, {"gpus": 1}, "set both to 0.5"),
        (HALVES | {"options": {"gpu_cache_gib": 8}}, {"gpus": 0.5}, "rollout.options.sleep_mode=true"),
        (HALVES, {"gpus": 0.5, "zero_stage": 3}, "learner.offload_optimizer=true"),
    ],
)
def test_engines_that_cannot_lie_beside_learners_are_refused(
    rollout: dict[str, Any], learner: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlanError, match=re.escape(said)):
        resource_plan(recipe(rollout=rollout, learner=learner))


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"max_engines": 1, "engines": 2}, "rollout.max_engines=1 is below rollout.engines=2"),
        ({"max_engines": 2, "on_learners": 1}, "leave one out"),
    ],
)
def test_engines_that_could_never_join_are_refused(rollout: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=re.escape(said)):
        resource_plan(recipe(rollout=rollout))


def test_an_engine_that_may_join_has_the_others_shape_and_nothing_reserved() -> None:
    given = recipe(rollout={"max_engines": 3, "cpus": 2}, cluster={"rollout_label": "rollout"})
    plan, own = resource_plan(given), resource_plan(recipe(rollout={"cpus": 2}))
    assert plan.cpus == own.cpus
    assert plan.invited == (Bundle("rollout", 1, 2, 0, "rollout"), Bundle("rollout", 2, 2, 0, "rollout"))
    assert "up to 2 engines more join" in plan.describe()
    assert "engines more" not in own.describe()
    invited = Placement(plan, {}).options("rollout", 2)
    assert invited == {"num_cpus": 2, "num_gpus": 0, "label_selector": {"autodriverl/role": "rollout"}}
    with pytest.raises(KeyError, match="there is no rollout 3"):
        Placement(plan, {}).options("rollout", 3)


def test_what_only_evaluates_invites_nobody() -> None:
    assert resource_plan(recipe(rollout={"max_engines": 3}), ("rollout", "judge")).invited == ()


def test_what_a_refusal_of_engines_beside_learners_asks_for_is_accepted() -> None:
    learner = {"gpus": 0.5, "zero_stage": 3, "offload_optimizer": True}
    assert resource_plan(recipe(rollout=HALVES, learner=learner)).gpus == 1.0
