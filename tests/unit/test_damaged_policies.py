"""A checkpoint that is cut short, or has the config of another model, is refused by name before anything learns."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commands.to_safetensors import main as to_safetensors
from policies.errors import PolicyError
from policies.model import check_checkpoint, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.source import judge_source
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


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"holds no weights: put the model's safetensors files there"):
        check_checkpoint(str(folder), SETTINGS)


FILLED = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")
"""What processors of LLaVA's kind lack that were saved before transformers asked for it, as Align-DS-V's was."""


def with_processor(folder: Path, change: dict[str, int | str | None]) -> None:
    path = folder / "processor_config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in FILLED}
    path.write_text(json.dumps(kept | change))


def test_what_an_older_processor_lacks_is_taken_from_the_model_s_config(whole: Path, folder: Path) -> None:
    with_processor(folder, {})
    check_checkpoint(str(folder), SETTINGS)
    ours, theirs = (PromptEncoder(load_processor(one, SETTINGS), SETTINGS).blank_prompt() for one in (folder, whole))
    assert ours == theirs


@pytest.mark.parametrize("change", [{"patch_size": 3}, {"vision_feature_select_strategy": "full"}], ids=str)
def test_a_processor_of_another_tower_is_refused_before_anything_starts(
    folder: Path, change: dict[str, int | str]
) -> None:
    with_processor(folder, dict(change))
    with pytest.raises(PolicyError, match="its processor puts [0-9]+ tokens into a prompt for an image"):
        check_checkpoint(str(folder), SETTINGS)


# --- what could run code ----------------------------------------------------------------------------------------------


def test_pickled_weights_are_refused_by_name_and_the_remedy_works(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(PolicyError, match=r"policy\.model: .*pytorch_model\.bin is pickled") as caught:
        check_checkpoint(str(folder), SETTINGS)
    with pytest.raises(PolicyError):
        load_policy(folder, SETTINGS, temperature=1.0)
    with pytest.raises(PolicyError, match=r"reward\.judge\.model: .*pytorch_model\.bin is pickled"):
        judge_source(str(folder), tmp_path, [])
    new = tmp_path / "new"
    given = str(caught.value).partition("python -m commands.to_safetensors ")[2].replace("NEW_FOLDER", str(new)).split()
    assert to_safetensors(given) == 0
    check_checkpoint(str(new), SETTINGS)
    load_policy(new, SETTINGS, temperature=1.0)
    assert not list(new.glob("*.bin"))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_that_would_run_code_is_not_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(PolicyError, match=r"pytorch_model\.bin holds more than tensors"):
        to_safetensors([str(folder), str(tmp_path / "new")])
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "new").exists()


def test_code_that_a_checkpoint_brings_is_neither_run_nor_asked_about(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    (folder / "mine.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import PretrainedConfig\n"
        "class Mine(PretrainedConfig):\n    model_type = 'mine'\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PolicyError, match="brings code of its own, which is never run here"):
        check_checkpoint(str(folder), SETTINGS)
    with pytest.raises(PolicyError):
        load_policy(folder, SETTINGS, temperature=1.0)
    assert not (tmp_path / "ran").exists()


def test_a_processor_that_a_checkpoint_brings_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    for file in folder.glob("*config.json"):
        config = json.loads(file.read_text())
        names = {"AutoProcessor": "mine.Mine", "AutoTokenizer": ["mine.Mine", None], "AutoImageProcessor": "mine.Mine"}
        file.write_text(json.dumps(config | {"auto_map": names}))
    with contextlib.suppress(PolicyError):
        load_processor(folder, SETTINGS)
    assert not (tmp_path / "ran").exists()
