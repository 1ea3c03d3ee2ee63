"""A checkpoint that is cut short, or has the config of another model, is refused by name before anything learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from policies.errors import PolicyError
from policies.model import check_checkpoint, load_policy
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy

SETTINGS = PolicySettings(dtype="float32")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "policy")


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    check_checkpoint(str(folder), SETTINGS)
    load_policy(folder, SETTINGS, temperature=1.0)


def test_weights_that_were_cut_short_are_found_before_they_are_loaded(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PolicyError, match=r"model\.safetensors is damaged or cut short"):
        check_checkpoint(str(folder), SETTINGS)
    with pytest.raises(PolicyError, match="no image-text-to-text model could be loaded"):
        load_policy(folder, SETTINGS, temperature=1.0)


def test_weights_without_a_table_of_contents_are_found(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(PolicyError, match=r"model\.safetensors is damaged or cut short"):
        check_checkpoint(str(folder), SETTINGS)


@pytest.mark.parametrize(
    ("change", "missing"),
    [({"num_hidden_layers": 5}, "layers.2"), ({"intermediate_size": 64}, "mlp")],
    ids=["a layer too many", "narrower layers"],
)
def test_a_config_of_another_model_is_refused(folder: Path, change: dict[str, int], missing: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PolicyError, match=rf"of the weights .* missing or of another shape .*{missing}.*config\.json"):
        load_policy(folder, SETTINGS, temperature=1.0)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PolicyError, match=r"model-00002-of-00002\.safetensors"):
        check_checkpoint(str(folder), SETTINGS)
