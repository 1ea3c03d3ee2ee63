"""What vLLM's own processor makes of a prompt's images, against the learner's: ids and pixels, grids and patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.rendered.samples import rendered_samples
from data.sample import LIDAR, DrivingSample
from policies.model import load_processor
from policies.patches import patch_arguments
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.views import views_of
from tests.families import tiny_idefics3, tiny_internvl, tiny_smolvlm


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> DrivingSample:
    """Six frames and a sweep."""
    folder = tmp_path_factory.mktemp("sample")
    np.random.default_rng(0).uniform(-20, 20, (500, 5)).astype("<f4").tofile(folder / "sweep.pcd.bin")
    plain = rendered_samples(folder, 1, seed=0)[0]
    return replace(plain, images={**plain.images, LIDAR: str(folder / "sweep.pcd.bin")})


@pytest.mark.parametrize("patches", [None, 1, 4])
@pytest.mark.parametrize("build", [tiny_idefics3, tiny_smolvlm, tiny_internvl])
def test_engine_and_learner_see_the_same_ids_and_pixels(
    build: Callable[[Path], Path], patches: int | None, sample: DrivingSample, tmp_path: Path
) -> None:
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.processing import ProcessorInputs
    from vllm.multimodal.processing.context import TimingContext

    folder = build(tmp_path / "model")
    settings = PolicySettings(views="stitched", image_size=(100, 60), lidar=True, image_patches=patches)
    processor = load_processor(folder, settings)
    encoder, views = PromptEncoder(processor, settings), views_of(sample)
    config = ModelConfig(
        model=str(folder),
        dtype="float32",
        limit_mm_per_prompt={"image": settings.images_per_prompt},
        mm_processor_kwargs=patch_arguments(processor.image_processor, patches) or None,
    )
    engine = MULTIMODAL_REGISTRY.create_processor(config)
    images = engine.info.parse_mm_data({"image": encoder.images(views)})
    ids = encoder.text_ids(sample)
    made = engine.apply(ProcessorInputs(prompt=ids, mm_data_items=images), TimingContext(enabled=False))

    assert tuple(made["prompt_token_ids"]) == encoder.prompt_ids(sample)
    tensors = made["mm_kwargs"].get_data()
    theirs = tensors.get("pixel_values", tensors.get("pixel_values_flat"))
    theirs = torch.cat(list(theirs)) if isinstance(theirs, (list, tuple)) else theirs
    ours = encoder.image_tensors(views)["pixel_values"]
    assert torch.equal(theirs.reshape(ours.shape), ours)
