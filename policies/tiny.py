"""The tiny policy: a LLaVA-shaped model (CLIP tower + Llama) of about 1.5 million parameters, built from nothing.

It has the shape of a real driving VLM, so every code path is the real one; it is small enough to learn on two CPU
cores. Needs no download.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from data.rendered.questions import driving_text
from policies.checkpoint import save_checkpoint
from policies.settings import TinySettings
from policies.tokenizer import IMAGE_TOKEN, train_tokenizer

VOCABULARY = 1024
VISION = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
HEAD = 32
"""Numbers in a head of the language model."""
EMBEDDING_STD, POSITION_STD, HEAD_STD = 0.1, 0.5, 0.02
"""Text embeddings start quieter than the image tokens (about 1), so that seeing is learnt early."""


def build_tiny_policy(
    folder: Path,
    seed: int = 0,
    corpus: Iterable[str] | None = None,
    shape: TinySettings = TinySettings(),  # noqa: B008
) -> Path:
    """Writes a fresh, untrained checkpoint in Hugging Face layout into `folder` and returns the folder.

    `corpus` is what the tokenizer is trained on (default: the questions and answers of rendered scenes). The files
    are those transformers and vLLM read: weights (float32 safetensors under the names of the LLaVA hub checkpoints),
    configuration, generation configuration, tokenizer, chat template and processor. Deterministic in (seed, corpus).

    Raises:
        FileExistsError: `folder` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a folder that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(driving_text() if corpus is None else corpus, VOCABULARY)
    model = _build_model(tokenizer, seed, shape)
    save_checkpoint(folder, model, _build_processor(tokenizer, shape), model.state_dict())
    return folder


def _build_model(tokenizer: PreTrainedTokenizerFast, seed: int, shape: TinySettings) -> LlavaForConditionalGeneration:
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlavaConfig(
        architectures=[LlavaForConditionalGeneration.__name__],
        dtype="float32",
        vision_config=CLIPVisionConfig(
            image_size=shape.image_size, patch_size=shape.patch_size, projection_dim=128, **VISION
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.width * 8 // 3,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.width // HEAD,
            num_key_value_heads=shape.width // HEAD,
            max_position_embeddings=4096,
            **special,
        ),
        image_token_id=image_token,
        image_token_index=image_token,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    _initialise(model, seed, shape.layers)
    model.generation_config = GenerationConfig(**special)
    return model


@torch.no_grad()
def _initialise(model: LlavaForConditionalGeneration, seed: int, depth: int) -> None:
    """Matrices by fan-in, output projections smaller by depth: from this a few hundred steps suffice."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 1 and "norm" in name and name.endswith("weight"):
            parameter.fill_(1.0)
        elif parameter.ndim == 1 and "class_embedding" not in name:
            parameter.zero_()
        else:
            std = 1.0 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
            if "embed_tokens" in name:
                std = EMBEDDING_STD
            elif "position_embedding" in name:
                std = POSITION_STD
            elif "lm_head" in name:
                std = HEAD_STD
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                std /= math.sqrt(2 * depth)
            parameter.normal_(0.0, std, generator=generator)


def _build_processor(tokenizer: PreTrainedTokenizerFast, shape: TinySettings) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            do_center_crop=False,
            size={"height": shape.image_size, "width": shape.image_size},
            crop_size={"height": shape.image_size, "width": shape.image_size},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.25, 0.25, 0.25],
        ),
        tokenizer=tokenizer,
        patch_size=shape.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
