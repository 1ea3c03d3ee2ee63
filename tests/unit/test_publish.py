"""A policy's adapter taken, merged and pushed; nothing here reaches the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from actors.learning.own_adapter import write_adapter
from commands.publish import merge, push, take_adapter
from policies.errors import PolicyError
from policies.lora import adapted_layers, merged_weight
from policies.model import load_policy
from policies.settings import LoraSettings, PolicySettings
from policies.tiny import build_tiny_policy
from rewards.settings import JudgeSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, torch.Tensor]]:
    """A base, the run of an adapter on it, and what its layers act with."""
    root = tmp_path_factory.mktemp("trained")
    base = build_tiny_policy(root / "base")
    settings = PolicySettings(model=str(base), lora=LoraSettings(rank=4, alpha=8.0, targets=("attention", "vision")))
    policy = load_policy(base, settings, 1.0)
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    write_adapter(policy, root / "run" / "policy" / "adapter", writes=True)
    (root / "run" / "policy" / "config.json").write_text("{}")
    acts = {
        name.removeprefix("base_model.model."): merged_weight(layer).detach().clone()
        for name, layer in adapted_layers(policy.model).items()
    }
    return base, root / "run", acts


def test_a_runs_adapter_merged_into_its_base_acts_as_the_policy_did(
    trained: tuple[Path, Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    base, run, acts = trained
    assert take_adapter(run, tmp_path / "adapter", "me/base") == 0
    assert '"base_model_name_or_path": "me/base"' in (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert merge(str(base), tmp_path / "adapter", tmp_path / "merged") == 0
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    weights = dict(merged.named_parameters())
    assert len(acts) > 4
    for name, wanted in acts.items():
        torch.testing.assert_close(weights[f"{name}.weight"], wanted, atol=1e-6, rtol=1e-5)


def test_what_cannot_be_taken_or_merged_is_one_sentence(
    trained: tuple[Path, Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    base, run, _ = trained
    with pytest.raises(PolicyError, match="holds no adapter"):
        take_adapter(tmp_path, tmp_path / "out", None)
    with pytest.raises(PolicyError, match=r"holds no adapter_config\.json"):
        merge(str(base), tmp_path, tmp_path / "out")
    with pytest.raises(PolicyError, match="exists already"):
        take_adapter(run, tmp_path, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match="cannot be merged into"):
        merge(str(tmp_path / "empty"), run / "policy" / "adapter", tmp_path / "out")


def test_a_push_without_a_token_or_offline_sends_nothing_and_says_so(
    trained: tuple[Path, Path, dict[str, torch.Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, run, _ = trained
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert push(run, "me/policy", private=False, dry=False) == 0
    said = capsys.readouterr().out
    assert "nothing was sent to me/policy (HF_HUB_OFFLINE is set)" in said
    assert "adapter/adapter_model.safetensors" in said
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(PolicyError, match=r"no token; hf auth login stores one, or export HF_TOKEN"):
        push(run, "me/policy", private=False, dry=False)
    with pytest.raises(PolicyError, match="must be OWNER/NAME"):
        push(run, "policy", private=False, dry=True)


def test_four_bits_are_for_engines_of_our_own_on_gpus() -> None:
    with pytest.raises(ValueError, match="four_bit: runs on GPUs only: set gpus"):
        JudgeSettings(model="m", four_bit=True)
    with pytest.raises(ValueError, match="four_bit: an endpoint loads its own weights"):
        JudgeSettings(model="m", url="http://judge:8000/v1", four_bit=True, gpus=1)
    assert JudgeSettings(model="m", four_bit=True, gpus=1).four_bit
