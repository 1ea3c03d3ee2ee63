from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from data.rendered.captions import caption_of
from data.rendered.scene import build_scene
from policies import tiny_clip
from policies.clip import ClipError, encode_text, load_clip
from policies.tiny_clip import TINY_CONFIG, build_clip, caption_recall, clip_source, save_clip, train_tiny_clip
from tests.rounding import assert_same_values

SHAPE: dict[str, Any] = TINY_CONFIG["model_cfg"]
TEXTS = ["", "Stop.", caption_of(build_scene(0, 0)), "word " * 200]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return open_clip.get_tokenizer("ViT-B-32")


def random_clip(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return build_clip(TINY_CONFIG).eval()


def test_texts_without_their_padding_have_the_features_that_open_clip_gives(tokenizer: Any) -> None:
    model, tokens = random_clip(), tokenizer(TEXTS)
    with torch.inference_mode():
        for some in (tokens, tokens[:2], tokens[:1]):
            assert_same_values(encode_text(model, some), model.encode_text(some))


def test_a_text_tower_that_sees_its_padding_goes_the_ordinary_way(tokenizer: Any) -> None:
    text = open_clip.CLIPTextCfg(**SHAPE["text_cfg"], no_causal_mask=True)
    model = open_clip.CLIP(SHAPE["embed_dim"], SHAPE["vision_cfg"], text).eval()
    tokens = tokenizer(TEXTS[:2])
    with torch.inference_mode():
        assert_same_values(encode_text(model, tokens), model.encode_text(tokens))


def test_captions_fit_into_the_context(tokenizer: Any) -> None:
    tokens = tokenizer([caption_of(build_scene(index, 0), seed) for index in range(300) for seed in (1, 2)])
    assert int((tokens != 0).sum(dim=1).max()) < tokens.shape[1]


def test_a_saved_clip_loads_with_its_weights_and_its_preprocessing(tmp_path: Path) -> None:
    model = random_clip()
    save_clip(tmp_path, model, TINY_CONFIG)
    clip = load_clip(tmp_path)
    loaded = clip.model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    config = open_clip.get_model_preprocess_cfg(clip.model)
    assert (config["resize_mode"], tuple(config["mean"])) == ("squash", (0.5, 0.5, 0.5))


def test_an_architecture_without_weights_is_refused() -> None:
    with pytest.raises(ClipError, match="ViT-B-32 is no folder.*needs weights"):
        load_clip("ViT-B-32")


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.touch()
    with pytest.raises(ClipError, match="ViT-Z-99"):
        load_clip("ViT-Z-99", str(weights))


def test_a_folder_without_a_clip_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=str(tmp_path)):
        load_clip(tmp_path)


def test_teaching_again_gives_the_same_clip(tmp_path: Path) -> None:
    folders = [train_tiny_clip(tmp_path / name, seed=1, scenes=6, steps=2) for name in ("a", "b")]
    one, other = (load_clip(folder).model.state_dict() for folder in folders)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_what_was_taught_finds_its_caption(tmp_path: Path) -> None:
    clip = load_clip(train_tiny_clip(tmp_path / "clip", seed=1, scenes=8, steps=60))
    found = caption_recall(clip, [build_scene(index, tiny_clip.TRAINING_SCENES + 1) for index in range(8)])
    assert found.chance == 1 / 8
    assert found.caption_of_scene >= 0.5


def test_the_tiny_clip_is_taught_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Path] = []

    def teach(folder: Path) -> Path:
        taught.append(folder)
        save_clip(folder, random_clip(), TINY_CONFIG)
        return folder

    monkeypatch.setattr(tiny_clip, "train_tiny_clip", teach)
    assert clip_source("tiny", tmp_path) == clip_source("tiny", tmp_path)
    assert len(taught) == 1
    assert clip_source(str(tmp_path), tmp_path / "elsewhere") == str(tmp_path)
    assert clip_source("hf-hub:o/n", tmp_path) == "hf-hub:o/n"
