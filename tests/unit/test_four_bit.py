"""Weights that are held in 4 bits: which they are, what they act as, and where they are refused."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file

from actors.sync.source import WeightSource
from cluster.errors import PlanError
from cluster.plan import resource_plan
from policies.checkpoint import save_checkpoint
from policies.errors import PolicyError
from policies.four_bit import is_packed, keep_format, shape_of, unpacked
from policies.lora import adapted_layers, merged_weight
from policies.model import Policy, load_policy, load_processor
from policies.settings import LoraSettings, PolicySettings
from policies.tiny import build_tiny_policy
from recipe import load_recipe

QLORA = PolicySettings(lora=LoraSettings(rank=4, targets=("attention",), four_bit=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny", 0))


@pytest.fixture
def policy(folder: Path) -> Policy:
    return load_policy(folder, QLORA, 1.0)


def test_only_the_language_models_matrices_are_packed(policy: Policy) -> None:
    packed = {name for name, parameter in policy.named_parameters() if is_packed(parameter)}
    assert len(packed) == 2 * 7
    assert all(".language_model.layers." in name and "_proj." in name for name in packed)
    assert all(parameter.dtype == torch.uint8 for name, parameter in policy.named_parameters() if name in packed)


def test_what_is_sent_has_every_weight_in_its_shape_as_it_is_rounded(policy: Policy, folder: Path) -> None:
    source, full = WeightSource(policy, "float32", 2.0**20), load_file(folder / "model.safetensors")
    shapes = {name: shape for b in source.buckets() for name, shape in zip(b.names, b.shapes, strict=True)}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in full.items()}
    sent = dict(zip(shapes, (tensor for bucket in source.gathered() for _, tensor in bucket), strict=True))
    rounded = {name for name in full if not torch.equal(full[name], sent[name])}
    assert len(rounded) == 2 * 7
    for name in rounded:
        error = (sent[name] - full[name]).norm() / full[name].norm()
        assert error < 0.15  # 16 levels over a normal distribution round by about a tenth


def test_what_is_written_is_a_checkpoint_in_full_that_any_engine_loads(
    policy: Policy, folder: Path, tmp_path: Path
) -> None:
    source = WeightSource(policy, "float32", 2.0**30)
    sent = {name: tensor.clone() for bucket in source.gathered() for name, tensor in bucket}
    save_checkpoint(tmp_path, policy.body, load_processor(folder, QLORA), sent)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    loaded = load_policy(tmp_path, PolicySettings(), 1.0)
    for name, parameter in loaded.model.named_parameters():
        assert not is_packed(parameter)
        assert torch.equal(parameter, sent[name]), name
    assert hasattr(policy.body.config, "quantization_config"), "the model that learns goes on as it was"


def test_a_merged_layer_acts_as_the_learners_own(policy: Policy) -> None:
    torch.manual_seed(0)
    name, layer = next(iter(adapted_layers(policy.model).items()))
    matrices: Any = layer
    torch.nn.init.normal_(matrices.lora_B["default"].weight, std=0.1)
    x_B_D = torch.randn(3, shape_of(matrices.get_base_layer().weight)[1])
    with torch.no_grad():
        expected = matrices(x_B_D)
        found = x_B_D @ merged_weight(layer).T
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), name


def test_layers_compute_in_the_dtype_that_was_asked_for_on_every_processor(policy: Policy) -> None:
    layers = [module for module in policy.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True  # what bitsandbytes finds on some
    keep_format(policy.model)
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_a_weight_in_full_is_itself() -> None:
    weight = torch.nn.Parameter(torch.randn(2, 3))
    assert unpacked(weight) is weight
    assert shape_of(weight) == (2, 3)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("learner.zero_stage=3", "set learner.zero_stage=2 or lower"),
        ("rollout.adapters=apart", "set rollout.adapters=merged"),
    ],
)
def test_what_cannot_hold_four_bits_is_refused_with_what_to_set(setting: str, said: str) -> None:
    recipe = load_recipe(["recipes/tiny.yaml", "policy.lora={rank: 4, four_bit: true}", setting])
    with pytest.raises(PlanError, match=re.escape(said)):
        resource_plan(recipe)


def test_without_bitsandbytes_one_sentence_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PolicyError, match="pip install bitsandbytes"):
        load_policy(folder, QLORA, 1.0)
