"""What holds in every model family: shared prompts, kept features and adapters, each against the plain computation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from data.rendered.samples import rendered_samples
from data.sample import LIDAR
from policies.batch import TrainingGroup, TrainingResponse, pack
from policies.checkpoint import plain_name
from policies.errors import PolicyError
from policies.four_bit import is_packed, unpacked
from policies.lora import adapted_layers
from policies.model import ROTARY_GRID_MODELS, Policy, load_policy, load_processor
from policies.parts import LANGUAGE_MODELS, LANGUAGE_PROJECTIONS, PROJECTORS, TOWERS
from policies.prompt import PromptEncoder
from policies.settings import LoraSettings, PolicySettings
from policies.tiny import build_tiny_policy
from policies.views import Views, views_of
from policies.vision import FrameFeatures, keeps_features
from tests.families import tiny_idefics3, tiny_internvl, tiny_mllama, tiny_qwen2_5_vl, tiny_qwen3_vl, tiny_smolvlm
from tests.rounding import assert_same_gradient, assert_same_values

A_ROW_EACH = ("LlavaProcessor", "InternVLProcessor")
"""Processors that give an image one row of pixels and nothing else: those of one image are then computed together."""
SETTINGS = PolicySettings(image_size=(64, 48))
LENGTHS = ((3, 1, 6), (2, 4))
CUTTING_FAMILIES = ("idefics3", "smolvlm", "internvl")


FAMILIES = [build_tiny_policy, tiny_qwen2_5_vl, tiny_qwen3_vl, tiny_idefics3, tiny_smolvlm, tiny_internvl]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda build: build.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build: Callable[[Path], Path] = request.param
    return build(tmp_path_factory.mktemp(build.__name__) / "model")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> PromptEncoder:
    return PromptEncoder(load_processor(folder, SETTINGS), SETTINGS)


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(folder, SETTINGS, temperature=0.8)


@pytest.fixture(scope="module")
def groups(encoder: PromptEncoder, tmp_path_factory: pytest.TempPathFactory) -> list[TrainingGroup]:
    """Two prompts of unequal length, with six images each, and responses of unequal length."""
    samples = rendered_samples(tmp_path_factory.mktemp("scenes"), 1, seed=0)
    chosen = sorted(samples, key=lambda sample: len(sample.question))[:: len(samples) - 1]
    generator = torch.Generator().manual_seed(1)

    def response(length: int) -> TrainingResponse:
        ids = tuple(torch.randint(10, 200, (length,), generator=generator).tolist())
        return TrainingResponse(ids, (0.0,) * length, (float(length),) * length)

    return [
        TrainingGroup(views_of(sample), encoder.prompt_ids(sample), tuple(response(n) for n in lengths))
        for sample, lengths in zip(chosen, LENGTHS, strict=True)
    ]


def learnt(policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup], shared: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the groups' responses, and the gradient of their sum weighted by the credits."""
    batch = pack(
        groups, encoder.image_tensors, pad_id=0, shared_prefix=shared, prompt_positions=policy.prompt_positions
    )
    policy.zero_grad()
    logprobs, _ = policy(batch)
    (logprobs * batch.mask_R_T * batch.credits_R_T).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    return (logprobs * batch.mask_R_T).detach(), gradient


def test_a_shared_prefix_changes_neither_log_probabilities_nor_gradients(
    policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    assert policy.shares_prefix
    assert len(groups[0].prompt_ids) != len(groups[1].prompt_ids)
    shared, shared_gradient = learnt(policy, encoder, groups, shared=True)
    plain, plain_gradient = learnt(policy, encoder, groups, shared=False)
    assert_same_values(shared, plain)
    assert_same_gradient(shared_gradient, plain_gradient)


def test_layers_that_are_computed_again_in_the_backward_pass_give_the_same_gradient(
    policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    """What tells a layer which parts of its row share a prompt must reach the second time too."""
    _, expected = learnt(policy, encoder, groups, shared=True)
    layer = next(part for name, part in policy.named_modules() if name.endswith("layers.0") and "vision" not in name)
    runs = list[None]()
    handle = layer.register_forward_pre_hook(lambda *_: runs.append(None))
    policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.train()
    try:
        _, found = learnt(policy, encoder, groups, shared=True)
    finally:
        handle.remove()
        policy.model.gradient_checkpointing_disable()
        policy.eval()
    assert len(runs) == 2
    assert_same_gradient(found, expected)


def test_the_gpu_s_attention_is_that_of_the_mask(
    folder: Path, policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    """FlexAttention in its plain form and forward alone: it has no backward on CPU."""
    asked = SETTINGS.model_copy(update={"attention": "flex"})
    if policy.model_type in ROTARY_GRID_MODELS:
        with pytest.raises(PolicyError, match="policy.attention=flex: transformers has none for qwen"):
            load_policy(folder, asked, temperature=0.8)
        return
    batch = pack(groups, encoder.image_tensors, pad_id=0, shared_prefix=True, prompt_positions=policy.prompt_positions)
    flex = load_policy(folder, asked, temperature=0.8)
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        found, expected = flex(batch)[0] * batch.mask_R_T, policy(batch)[0] * batch.mask_R_T
    assert_same_values(found, expected)


def test_the_images_reach_the_log_probabilities(
    policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    other = [TrainingGroup(group.images[::-1], group.prompt_ids, group.responses) for group in groups]
    ours, theirs = (learnt(policy, encoder, some, shared=True)[0] for some in (groups, other))
    assert float((ours - theirs).abs().max()) > 1e-4


def test_as_many_image_tokens_stand_in_a_prompt_as_its_images_have_features(
    folder: Path, policy: Policy, groups: list[TrainingGroup], tmp_path: Path
) -> None:
    """Also of images that are far from square, and where nothing is said of patches."""
    wide = PolicySettings(views="stitched", image_size=(100, 40))
    encoder = PromptEncoder(load_processor(folder, wide), wide)
    sample = rendered_samples(tmp_path, 1, seed=0)[0]
    tensors = encoder.image_tensors(views_of(sample))
    with torch.no_grad():
        found = policy.body.model.get_image_features(**tensors, return_dict=True).pooler_output
    features = torch.cat(list(found)) if isinstance(found, (list, tuple)) else found.flatten(0, -2)
    placeholders = encoder.prompt_ids(sample).count(policy.body.config.image_token_id)
    assert placeholders == len(features) > 0


def test_images_prepared_together_are_those_of_each_prompt_alone(
    folder: Path, groups: list[TrainingGroup], tmp_path: Path
) -> None:
    views = [views_of(sample) for sample in rendered_samples(tmp_path, 3, seed=4)]
    prompts = [*dict.fromkeys(views), views[0][:2], views[0][2:3], views[0][3:4], ()]
    together, alone = (PromptEncoder(load_processor(folder, SETTINGS), SETTINGS) for _ in range(2))
    together.prepare([*prompts, *prompts])
    a_row_each = type(together.processor).__name__ in A_ROW_EACH
    assert set(together._tensors) == ({*prompts[:3], *prompts[4:6]} if a_row_each else set())
    for images in prompts:
        ours, theirs = together.image_tensors(images), alone.image_tensors(images)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def patched(folder: Path, policy: Policy) -> PromptEncoder:
    """One grid of six cameras, in four patches beside its overview where the family cuts images."""
    patches = 4 if policy.model_type in CUTTING_FAMILIES else None
    settings = SETTINGS.model_copy(update={"views": "stitched", "lidar": True, "image_patches": patches})
    return PromptEncoder(load_processor(folder, settings), settings)


@pytest.fixture(scope="module")
def patched_groups(
    patched: PromptEncoder, groups: list[TrainingGroup], tmp_path_factory: pytest.TempPathFactory
) -> list[TrainingGroup]:
    """Two stitched prompts, of which the second shows a LiDAR sweep too: other numbers of images and of patches."""
    folder = tmp_path_factory.mktemp("patched")
    sweep = np.random.default_rng(0).uniform(-20, 20, (500, 5)).astype("<f4")
    sweep.tofile(folder / "sweep.pcd.bin")
    first, second = rendered_samples(folder, 1, seed=3)[:2]
    second = replace(second, images={**second.images, LIDAR: str(folder / "sweep.pcd.bin")})
    return [
        TrainingGroup(views_of(sample), patched.prompt_ids(sample), group.responses)
        for sample, group in zip((first, second), groups, strict=True)
    ]


def test_stitched_views_in_patches_are_learnt_from_alike_with_and_without_a_shared_prefix(
    policy: Policy, patched: PromptEncoder, patched_groups: list[TrainingGroup]
) -> None:
    shared, shared_gradient = learnt(policy, patched, patched_groups, shared=True)
    plain, plain_gradient = learnt(policy, patched, patched_groups, shared=False)
    assert_same_values(shared, plain)
    assert_same_gradient(shared_gradient, plain_gradient)


def test_patches_are_more_image_tokens_in_prompt_and_learner_alike(
    policy: Policy, patched: PromptEncoder, patched_groups: list[TrainingGroup], folder: Path
) -> None:
    if policy.model_type not in CUTTING_FAMILIES:
        with pytest.raises(PolicyError, match=r"policy\.image_patches: .* does not cut images"):
            load_processor(folder, SETTINGS.model_copy(update={"image_patches": 4}))
        return
    overview = patched.settings.model_copy(update={"image_patches": 1})
    whole = PromptEncoder(load_processor(folder, overview), overview)
    images = patched_groups[0].images
    image_token = policy.body.config.image_token_id
    counts = []
    for encoder in (whole, patched):
        tensors = encoder.image_tensors(images)
        patches = tensors["pixel_values"].shape[0]
        assert tensors["pixel_values"].shape[-1] == policy_side(policy)
        text = encoder.processor(images=encoder.images(images), text=encoder.processor.image_token, return_tensors="pt")
        tokens = int((text["input_ids"] == image_token).sum())
        counts.append((patches, tokens))
    (one, whole_tokens), (several, patch_tokens) = counts
    assert one == 1
    assert 1 < several <= 1 + 4
    assert patch_tokens == several * whole_tokens


def policy_side(policy: Policy) -> int:
    side = policy.body.config.vision_config.image_size
    return int(side[0] if isinstance(side, (list, tuple)) else side)


def test_the_patches_of_an_exported_processor_are_those_that_were_trained_with(
    patched: PromptEncoder, patched_groups: list[TrainingGroup], tmp_path: Path
) -> None:
    patched.processor.save_pretrained(tmp_path)
    plain = patched.settings.model_copy(update={"image_patches": None})
    exported = PromptEncoder(load_processor(tmp_path, plain), plain)
    ours, theirs = (encoder.image_tensors(patched_groups[1].images) for encoder in (patched, exported))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_kept_features_stand_for_the_pixels_of_frozen_towers(
    folder: Path, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    settings = SETTINGS.model_copy(update={"freeze_vision": True, "freeze_projector": True})
    frozen = load_policy(folder, settings, temperature=0.8)
    assert keeps_features(frozen.body) == (frozen.model_type != "qwen3_vl")
    if frozen.model_type == "qwen3_vl":
        return
    asked: list[Views] = []

    def pixels(images: Views) -> dict[str, Tensor]:
        asked.append(images)
        return encoder.image_tensors(images)

    expected, expected_gradient = learnt(frozen, encoder, groups, shared=True)
    features = FrameFeatures(frozen.body, pixels)
    for _ in range(2):  # computed, then kept
        batch = pack(groups, features, pad_id=0, shared_prefix=True, prompt_positions=frozen.prompt_positions)
        frozen.zero_grad()
        logprobs, _ = frozen(batch)
        (logprobs * batch.mask_R_T * batch.credits_R_T).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in frozen.parameters() if p.grad is not None])
        assert_same_values(logprobs.detach() * batch.mask_R_T, expected)
        assert_same_gradient(gradient, expected_gradient)
    assert len(asked) == len({group.images for group in groups})


def test_features_are_not_kept_while_something_there_learns(folder: Path, policy: Policy) -> None:
    assert not keeps_features(policy.body)
    adapted = load_policy(folder, SETTINGS.model_copy(update={"lora": LoraSettings(rank=2)}), temperature=1.0)
    assert keeps_features(adapted.body) == (adapted.model_type != "qwen3_vl")


@pytest.mark.parametrize("target", ["attention", "mlp", "vision", "projector"])
def test_adapters_lie_on_the_chosen_group_alone(folder: Path, target: Any) -> None:
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=2, targets=(target,))})
    part = {"vision": TOWERS, "projector": PROJECTORS}.get(target, LANGUAGE_MODELS)
    if target == "projector" and "qwen" in folder.parent.name:
        with pytest.raises(PolicyError, match=r"projector matches no layer of a qwen\w+ model"):
            load_policy(folder, settings, temperature=1.0)
        return
    adapted = adapted_layers(load_policy(folder, settings, temperature=1.0).model)
    assert adapted
    assert all(any(f".{name}." in layer for name in part) for layer in adapted)
    if target in LANGUAGE_PROJECTIONS:
        assert {layer.rpartition(".")[2] for layer in adapted} == set(LANGUAGE_PROJECTIONS[target])


def test_in_four_bits_a_policy_acts_as_one_with_its_weights_rounded(
    folder: Path, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    lora = LoraSettings(rank=2, four_bit=True)
    packed = load_policy(folder, SETTINGS.model_copy(update={"lora": lora}), temperature=0.8)
    held = {plain_name(name): parameter for name, parameter in packed.model.named_parameters() if is_packed(parameter)}
    assert held
    assert all(any(f".{part}." in f".{name}" for part in LANGUAGE_MODELS) for name in held)
    rounded = load_policy(folder, SETTINGS, temperature=0.8)
    weights = {plain_name(name): parameter for name, parameter in rounded.model.named_parameters()}
    with torch.no_grad():
        for name, parameter in held.items():
            weights[name].copy_(unpacked(parameter))
    expected, _ = learnt(rounded, encoder, groups, shared=True)
    found, _ = learnt(packed, encoder, groups, shared=True)
    assert_same_values(found, expected)


def test_llama_vision_sees_its_images_in_every_row_and_takes_adapters(tmp_path: Path) -> None:
    folder = tiny_mllama(tmp_path / "model")
    encoder = PromptEncoder(load_processor(folder, SETTINGS), SETTINGS)
    policy = load_policy(folder, SETTINGS.model_copy(update={"lora": LoraSettings(rank=2)}), temperature=0.8)
    assert not policy.shares_prefix
    assert not keeps_features(policy.body)
    samples = rendered_samples(tmp_path / "scenes", 1, seed=0)
    response = TrainingResponse((11, 12, 13), (0.0,) * 3, (1.0,) * 3)
    groups = [TrainingGroup(views_of(one), encoder.prompt_ids(one), (response,)) for one in (samples[0], samples[-1])]
    other = [TrainingGroup(group.images[::-1], group.prompt_ids, group.responses) for group in groups]
    (ours, gradient), (theirs, _) = (learnt(policy, encoder, some, shared=False) for some in (groups, other))
    assert float((ours - theirs).abs().amax(dim=1).min()) > 1e-4  # in either row
    alone = torch.cat([learnt(policy, encoder, [one], shared=False)[0] for one in groups])
    assert_same_values(ours, alone)  # however long its neighbour is
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize(
    ("build", "writes"),  # Mllama's processor writes it too where its template does not, which no real one leaves out
    [*((build, writes) for build in FAMILIES for writes in (True, False)), (tiny_mllama, True)],
)
def test_a_prompt_has_the_ids_of_the_processors_own_chat_template_and_begins_once(
    build: Callable[[Path], Path], writes: bool, tmp_path: Path
) -> None:
    folder = build(tmp_path / "model")
    processor = load_processor(folder, SETTINGS)
    tokenizer = processor.tokenizer
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin[0]} $A", None, [begin])
    if writes:
        processor.chat_template = "{{ bos_token }}" + processor.chat_template
    encoder = PromptEncoder(processor, SETTINGS)
    for sample in rendered_samples(tmp_path / "scenes", 1, seed=0)[:2]:
        shown = [{"type": "image", "image": image} for image in encoder.images(views_of(sample))]
        turn = {"role": "user", "content": [*shown, {"type": "text", "text": sample.question}]}
        given = {"tokenize": True, "add_generation_prompt": True, "return_dict": True}
        (ids,) = processor.apply_chat_template([turn], **given)["input_ids"]
        assert encoder.prompt_ids(sample) == tuple(ids)
        assert ids.count(begin[1]) == encoder.text_ids(sample).count(begin[1]) == 1
