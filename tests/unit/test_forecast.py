"""The forecast: arithmetic that can be checked by hand, and a pass without numbers against one with them."""

from __future__ import annotations

import copy
import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from actors.learning.deepspeed_config import deepspeed_config
from cluster.advice import faster, smaller
from cluster.architecture import config_of, image_tokens, text_model, vision_language
from cluster.errors import PlanError
from cluster.facts import Facts, load_facts
from cluster.forecast import Assumptions, Forecast
from cluster.learner_bytes import (
    BUCKET_NUMBERS,
    LIVE_NUMBERS,
    REDUCED_NUMBERS,
    after_passes,
    of_passes,
    states,
)
from cluster.plan import resource_plan
from cluster.planned import arguments_of, as_dict, described, forecast_of, keep_prediction, outline
from cluster.stage_times import Chips, attention_pairs, learner_efficiency, lengths_of
from cluster.traced import LiveBytes, PassShape, _batch, _traced, shared_out, trace
from policies import vocabulary
from policies.attention import take_kernel
from policies.model import Policy
from policies.settings import LoraSettings, PolicySettings
from policies.tiny import build_tiny_policy
from recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]
DRIVERX = str(ROOT / "recipes/driverx_grpo.yaml")
RESPONSES = (9, 14, 30)


@pytest.fixture(scope="module")
def facts() -> Facts:
    return load_facts()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoConfig.from_pretrained(build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny"))


@pytest.fixture(scope="module")
def shape(tiny: Any) -> PassShape:
    tower = tiny.vision_config
    return PassShape(2, (tower.image_size // tower.patch_size) ** 2, 20, RESPONSES)


@pytest.fixture(scope="module")
def driverx(facts: Facts) -> Forecast:
    forecast = Forecast(load_recipe([DRIVERX]), Assumptions(facts, {}))
    forecast.__dict__["activations"] = 20 * 10**9  # as `cluster.traced` finds in half a minute
    return forecast


@pytest.mark.parametrize("recompute", [False, True])
def test_a_pass_without_numbers_needs_the_memory_of_one_with_them(tiny: Any, shape: PassShape, recompute: bool) -> None:
    settings = PolicySettings()
    found = trace(tiny, settings, shape, recompute=recompute, reference=True)
    model: Any = AutoModelForImageTextToText.from_config(tiny, attn_implementation="sdpa")
    kernel = take_kernel(model, settings, shares_prefix=True)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = Policy(model, (5,), 1.0, kernel=kernel).train()
    for parameter in policy.parameters():
        parameter.register_post_accumulate_grad_hook(lambda done: setattr(done, "grad", None))
    batch = _batch(policy, shape)
    image_ids = batch.model_inputs["input_ids"]
    image_ids[:, : shape.images * shape.image_tokens] = tiny.image_token_id
    gc.collect()
    real = _traced(policy, shape, reference=True, batch=batch)
    assert found.learning == real.learning == sum(p.numel() for p in policy.parameters())
    assert 0.9 < found.peak / real.peak < 1.1


def test_positions_become_no_more_responses_than_there_are() -> None:
    assert shared_out(10, 4, 8) == (4, 4, 2)
    assert shared_out(8, 4, 2) == (4, 4)
    assert shared_out(14_624, 1, 512) == (29,) * 288 + (28,) * 224, "an action is one token; the rest are other prompts"
    assert sum(shared_out(14_624, 1, 512)) == 14_624


def test_recomputation_and_a_shorter_row_need_less(tiny: Any, shape: PassShape) -> None:
    whole = trace(tiny, PolicySettings(), shape, recompute=False, reference=False).peak
    again = trace(tiny, PolicySettings(), shape, recompute=True, reference=False).peak
    shorter = trace(tiny, PolicySettings(), replace(shape, responses=(9,)), recompute=False, reference=False).peak
    assert again < whole
    assert shorter < whole


def test_a_gpu_cuts_the_vocabulary_into_larger_chunks_and_models_that_differ_in_depth_share_what_is_found(
    tiny: Any, shape: PassShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()
    pass_of = _traced

    def counting(policy: Policy, *given: Any, **named: Any) -> Any:
        seen.append(vocabulary.CHUNK_BYTES["cpu"])
        return pass_of(policy, *given, **named)

    monkeypatch.setattr("cluster.traced._traced", counting)
    monkeypatch.setattr("cluster.traced._FOUND", {})
    own = vocabulary.CHUNK_BYTES["cpu"]
    for depth in (9, 11):
        deep = copy.deepcopy(tiny)
        deep.get_text_config().num_hidden_layers = depth
        trace(deep, PolicySettings(), shape, recompute=True, reference=False, device="cuda")
    assert seen == [vocabulary.CHUNK_BYTES["cuda"]] * 2
    assert vocabulary.CHUNK_BYTES["cpu"] == own


def test_what_lives_is_counted_and_what_is_gone_is_not() -> None:
    with LiveBytes(set()) as live:
        kept = torch.zeros(1000)
        gone = torch.ones(500)
        del gone
    assert live.now == 4000
    assert live.peak >= 6000
    del kept


def test_a_deep_model_is_extrapolated_from_few_layers(
    tiny: Any, shape: PassShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = copy.deepcopy(tiny)
    deep.get_text_config().num_hidden_layers = 9
    found = trace(deep, PolicySettings(), shape, recompute=True, reference=False)
    monkeypatch.setattr("cluster.traced.FEW_LAYERS", (9, 10))
    exact = trace(deep, PolicySettings(), shape, recompute=True, reference=False)
    assert found.learning == exact.learning
    assert found.peak == pytest.approx(exact.peak, rel=0.03)


def test_the_numbers_of_an_architecture_are_counted(facts: Facts) -> None:
    model = vision_language(config_of("PKU-Alignment/Align-DS-V", None, facts, "policy.model"))
    assert model.parameters == 8_354_813_952
    assert model.cache_per_token == 2 * 32 * 8 * 128
    judge = text_model(config_of("Qwen/Qwen2.5-72B-Instruct", None, facts, "reward.judge.model"))
    assert judge.parameters == pytest.approx(72.7e9, rel=0.01)


def test_a_model_of_which_nothing_is_known_is_asked_for_in_one_sentence(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"policy.model=a/b: its config is not on this machine: put its config.json"):
        config_of("a/b", None, facts, "policy.model")
    (tmp_path / "config.json").write_text(json.dumps(facts.models["PKU-Alignment/Align-DS-V"]))
    assert config_of(str(tmp_path), None, facts, "policy.model").model_type == "llava"


def test_pairs_are_counted_once_for_a_shared_prompt() -> None:
    assert attention_pairs(3, [2, 1], shared=True) == 6 + (2 * 3 + 3) + (1 * 3 + 1)
    assert attention_pairs(3, [2, 1], shared=False) == 2 * 6 + (2 * 3 + 3) + (1 * 3 + 1)


def test_lengths_have_the_mean_that_is_asked_for_and_keep_to_the_cap() -> None:
    lengths = lengths_of(700, 4096)
    assert sum(lengths) / len(lengths) == pytest.approx(700, rel=0.02)
    assert max(lengths) <= 4096
    assert list(lengths) == sorted(lengths)


def test_no_efficiency_is_above_the_measurements_that_are_cited(facts: Facts) -> None:
    cited = {"learner_a100": 0.65, "learner_h100": 0.54, "prefill": 0.65, "decode_bandwidth": 0.9, "link": 0.9}
    for name, most in cited.items():
        assert facts.efficiency(name) < most
    assert learner_efficiency(facts.node("p5.48xlarge"), 2900, facts) == pytest.approx(0.136 * 4 / 3, rel=0.05)
    assert all(figure.source for figure in (*facts.efficiencies.values(), *facts.overheads.values()))


def test_driverx_fits_its_machines_and_ends_within_twelve_hours(driverx: Forecast) -> None:
    found = as_dict(driverx)
    assert found["fits"]
    assert found["hours"] <= 12
    assert found["nodes"] == {"p4de.24xlarge": 3}
    assert found["step_s_staleness_1"] < found["step_s_synchronous"]
    assert set(found["peak_gib"]) == {"learner", "rollout", "judge"}
    assert "hours for 234 steps" in described(driverx)


def test_what_saves_time_is_ranked(driverx: Forecast) -> None:
    synchronous = driverx.with_settings(("rollout", "max_staleness", 0))
    ranked = faster(synchronous)
    assert ranked[0].settings == "rollout.max_staleness=1"
    assert [one.hours for one in ranked] == sorted((one.hours for one in ranked), reverse=True)


def test_what_does_not_fit_is_said_with_what_would_help(facts: Facts) -> None:
    small = Forecast(load_recipe([DRIVERX]), Assumptions(facts, {"p4d.24xlarge": 3}))
    small.__dict__["activations"] = 40 * 10**9
    assert any(sentence.startswith("learner: ") for sentence in small.misfits())
    offers = {one.settings.partition("=")[0] for one in smaller_without_tracing(small)}
    assert {"learner.offload_optimizer", "learner.ranks"} <= offers


def smaller_without_tracing(forecast: Forecast) -> list[Any]:
    forecast.__dict__["row_positions"] = 1  # a shorter row would be traced
    return smaller(forecast)


def test_bad_machines_are_refused(facts: Facts) -> None:
    with pytest.raises(PlanError, match=r"node type p4de is not in the price table \(did you mean p4de.24xlarge\?\)"):
        forecast_of(arguments_of([DRIVERX, "--nodes", "p4de"]))
    with pytest.raises(PlanError, match="must look like TYPE or TYPE:COUNT"):
        forecast_of(arguments_of([DRIVERX, "--nodes", "p4de.24xlarge:x"]))
    with pytest.raises(PlanError, match="--nodes have 8 GPUs, and the recipe's processes hold 24"):
        _ = Forecast(load_recipe([DRIVERX]), Assumptions(facts, {"p4de.24xlarge": 1})).nodes


def test_images_have_the_tokens_that_each_family_gives_them(facts: Facts) -> None:
    def recipe(size: tuple[int, int]) -> Recipe:
        return Recipe(run={"name": "r"}, policy={"image_size": size})

    llava, qwen = (
        config_of(name, None, facts, "policy.model")
        for name in ("PKU-Alignment/Align-DS-V", "Qwen/Qwen2.5-VL-3B-Instruct")
    )
    assert image_tokens(llava, recipe((336, 336))) == 576
    assert image_tokens(qwen, recipe((448, 252))) == 16 * 9


def test_slower_gpus_and_fewer_of_them_have_less_of_everything(facts: Facts) -> None:
    one, eight = (Chips(facts.node("p4de.24xlarge"), count) for count in (1, 8))
    assert eight.peak == 8 * one.peak
    assert Chips(facts.node("p4de.24xlarge"), 16).link(facts) < eight.link(facts)


def test_a_run_on_gpus_keeps_what_is_predicted_of_its_steps(tmp_path: Path) -> None:
    keep_prediction(load_recipe([DRIVERX]), tmp_path)
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert set(kept) == {"generate_s", "learn_s", "sync_s", "step_s"}
    assert kept["step_s"] > kept["learn_s"] > kept["sync_s"] > 0
    (tmp_path / "plan.json").unlink()
    keep_prediction(load_recipe([str(ROOT / "recipes/tiny.yaml")]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_begins_with_hours_and_cost_and_refuses_states_that_no_gpu_holds() -> None:
    (line,) = outline(recipe := load_recipe([DRIVERX]), resource_plan(recipe))
    assert "about 8." in line
    assert "3 x p4de.24xlarge" in line
    whole = load_recipe([DRIVERX, "learner.zero_stage=0", "learner.ranks=1"])
    with pytest.raises(PlanError, match="set learner.zero_stage=3 or more learner.ranks"):
        outline(whole, resource_plan(whole))
    tiny = load_recipe([str(ROOT / "recipes/tiny.yaml")])
    assert outline(tiny, resource_plan(tiny)) == []


def test_a_shape_that_nobody_knows_is_no_reason_to_end_a_run(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    recipe = load_recipe([DRIVERX, f"policy.model={tmp_path}"])
    with pytest.raises(PlanError, match="a bert model cannot be planned"):
        Forecast(recipe, Assumptions(facts, {}))
    keep_prediction(recipe, tmp_path)
    assert not (tmp_path / "plan.json").exists()
    llava = config_of("PKU-Alignment/Align-DS-V", None, facts, "policy.model")
    llava.vision_config.patch_size = None
    with pytest.raises(PlanError, match="does not say how many tokens an image has"):
        image_tokens(llava, recipe)


def test_below_adapters_the_language_models_matrices_may_take_a_quarter(driverx: Forecast) -> None:
    model, plain = driverx.policy, driverx.recipe.learner.model_copy(update={"zero_stage": 0})
    lora = LoraSettings(rank=8, four_bit=True)
    full = states(model, 10**7, plain, PolicySettings(dtype="bfloat16", lora=LoraSettings(rank=8)))["weights"]
    packed = states(model, 10**7, plain, PolicySettings(dtype="bfloat16", lora=lora))["weights"]
    assert full == 2 * model.parameters
    assert packed == pytest.approx(full - (2 - 4.127 / 8) * model.body)


def test_zero_keeps_a_copy_of_what_it_updates_and_small_models_stay_gathered(driverx: Forecast) -> None:
    model, sharded = driverx.policy, driverx.recipe.learner
    plain = sharded.model_copy(update={"zero_stage": 0, "ranks": 1})
    in_full, in_half = PolicySettings(), PolicySettings(dtype="bfloat16")
    assert states(model, model.parameters, plain, in_full)["optimizer"] == 8 * model.parameters
    assert states(model, model.parameters, plain, in_half)["optimizer"] == 12 * model.parameters
    eighth = states(model, model.parameters, sharded, in_full)
    assert eighth["optimizer"] == 12 * model.parameters / 8
    assert of_passes(model, plain, "bfloat16") == {"gathered layers": 0.0, "buckets": 0.0}
    assert after_passes(10**9, plain, "float32") == 4 * REDUCED_NUMBERS
    assert after_passes(10**9, sharded, "float32") == 0.0
    small = replace(model, parameters=25_000_000)
    assert of_passes(small, sharded, "float32")["gathered layers"] == 4 * small.parameters
    most = 2 * (LIVE_NUMBERS + BUCKET_NUMBERS)
    assert of_passes(model, sharded, "bfloat16")["gathered layers"] == most < 2 * model.parameters
    assert deepspeed_config(sharded, "bfloat16")["zero_optimization"]["reduce_bucket_size"] == BUCKET_NUMBERS


def test_who_takes_turns_on_a_gpu_needs_the_larger_turn_and_not_both(driverx: Forecast) -> None:
    halves = (
        ("learner", "gpus", 0.5),
        ("rollout", "gpus", 0.5),
        ("rollout", "max_staleness", 0),
        ("learner", "offload_optimizer", True),
    )
    at_once = driverx.with_settings(*halves, ("rollout", "options", {"gpu_cache_gib": 8.0}))
    sleeping = (("rollout", "on_learners", 8), ("rollout", "options", {"sleep_mode": True}))
    in_turns = at_once.with_settings(("cluster", "rollout_label", None), *sleeping)
    both, larger = (one.memory()["learner and rollout"] for one in (at_once, in_turns))
    alone = at_once.learner_memory()
    assert alone.total < larger.total < both.total
    assert larger.parts["rollout: CUDA and NCCL"] > 0
    assert in_turns.times().stages["swapping"] > 0
    assert "swapping" not in at_once.times().stages
