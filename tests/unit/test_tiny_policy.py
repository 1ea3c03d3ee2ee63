"""The tiny policy is a complete checkpoint: it loads, it sees, and it is the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from data.rendered.drawing import render_scene
from data.rendered.questions import questions_of
from data.rendered.scene import build_scene
from policies.tiny import build_tiny_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny")


def inputs(folder: Path, question: str, images: list[Image.Image]) -> dict[str, torch.Tensor]:
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"} for _ in images] + [{"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return dict(processor(text=text, images=images, return_tensors="pt"))


def test_the_folder_holds_all_that_transformers_and_vllm_read(folder: Path) -> None:
    needed = {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "processor_config.json",
    }  # fmt: skip
    assert needed <= {path.name for path in folder.iterdir()}


def test_weights_carry_the_names_vllm_looks_for(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    prefixes = ("vision_tower.vision_model.", "multi_modal_projector.", "language_model.")
    assert all(name.startswith(prefixes) for name in names)
    assert all(any(name.startswith(prefix) for name in names) for prefix in prefixes)


def test_every_weight_of_the_file_arrives_in_the_model(folder: Path) -> None:
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert sum(p.numel() for p in model.parameters()) < 5e6


def test_a_turn_ends_with_the_end_of_turn_token(folder: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    assert tokenizer.eos_token == "<|im_end|>"
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id


def test_a_prompt_with_six_images_is_short_and_the_whole_frame_is_seen(folder: Path) -> None:
    scene = build_scene(0, 0)
    images = list(render_scene(scene).values())
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    for question in questions_of(scene):
        batch = inputs(folder, question.question, images)
        assert batch["input_ids"].shape[1] < 180
    marked = [image.copy() for image in images]
    marked[1].paste((255, 0, 0), (0, 150, 40, 200))  # the far left of the front camera: a centre crop would lose it
    with torch.no_grad():
        before, after = (model(**inputs(folder, "What?", pictures)).logits[0, -1] for pictures in (images, marked))
    assert not torch.allclose(before, after, atol=1e-4)


def test_common_phrases_are_few_tokens_and_any_text_survives(folder: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    for scene in (build_scene(index, 77) for index in range(20)):
        for question in questions_of(scene):
            assert len(tokenizer(question.answer).input_ids) <= 8
    for text in ("Ein Käfer überholt, 3.14 km/h schnell — ja?", "A. b <c1,CAM_BACK,1.0,2.0> \n\n  x", "日本"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_an_option_letter_is_the_same_token_in_the_list_and_in_the_answer(folder: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    listed = tokenizer("options: A. Going ahead. B. Stopped. ").input_ids
    for letter in "AB":
        (token,) = tokenizer(letter).input_ids
        assert token in listed


def test_the_same_seed_gives_the_same_checkpoint_and_another_seed_does_not(folder: Path, tmp_path: Path) -> None:
    same, other = build_tiny_policy(tmp_path / "same"), build_tiny_policy(tmp_path / "other", seed=1)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (same / name).read_bytes() == (folder / name).read_bytes()
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


def test_a_corpus_of_ones_own_trains_the_tokenizer(tmp_path: Path) -> None:
    own = build_tiny_policy(tmp_path / "own", corpus=["The zebra crosses the road."] * 50)
    assert len(AutoProcessor.from_pretrained(own).tokenizer("The zebra crosses the road.").input_ids) == 1


def test_a_folder_that_is_not_empty_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path} is not empty"):
        build_tiny_policy(tmp_path)
