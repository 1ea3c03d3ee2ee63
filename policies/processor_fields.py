"""What a LLaVA-shaped checkpoint's processor must know of the model's tower, taken from the model's config.

Processors saved before these fields existed, such as Align-DS-V's, lack them: vLLM fills them in on its side, while
transformers divides by None, or puts a token too few into the prompt. Reads configs alone.
"""

from __future__ import annotations

from typing import Any

from policies.errors import PolicyError

CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""Types of towers to the tokens that they put before those of the patches."""


def may_lack_fields(processor: Any) -> bool:
    """Whether it is of LLaVA's kind and may lack fields: where it is silent, it means that no token comes first."""
    if not hasattr(processor, "vision_feature_select_strategy"):
        return False
    return None in (processor.patch_size, processor.vision_feature_select_strategy) or not getattr(
        processor, "num_additional_image_tokens", 0
    )


def fill_from_config(processor: Any, config: Any) -> None:
    """Give a processor of LLaVA's kind what its model's config says of patches and class token."""
    tower = getattr(config, "vision_config", None)
    if processor.patch_size is None:
        processor.patch_size = getattr(tower, "patch_size", None)
    if processor.vision_feature_select_strategy is None:
        processor.vision_feature_select_strategy = getattr(config, "vision_feature_select_strategy", None)
    if (before := CLASS_TOKENS.get(getattr(tower, "model_type", ""))) is not None:
        processor.num_additional_image_tokens = before


def check_image_tokens(folder: str, config: Any, prompt_ids: tuple[int, ...], pixels: Any) -> None:
    """Check that one image of a prompt has the tokens that the model will make features for.

    Args:
        folder: of the checkpoint, for messages.
        config: the model's.
        prompt_ids: of a prompt with one image.
        pixels: `pixel_values` of that image, (1, 3, height, width) in LLaVA's kind.

    Raises:
        PolicyError: the processor does not fit the model.
    """
    names = ("image_token_id", "image_token_index")
    image_token = next((id_ for name in names if (id_ := getattr(config, name, None)) is not None), None)
    found = prompt_ids.count(image_token)
    if found == 0:
        raise PolicyError(
            f"policy.model={folder}: its processor puts no image token {image_token} of config.json into a prompt with "
            "an image: take processor, tokenizer and config.json of the same checkpoint"
        )
    tower: Any = getattr(config, "vision_config", None)
    if config.model_type != "llava" or getattr(tower, "model_type", "") not in CLASS_TOKENS:
        return
    height, width = pixels.shape[-2:]
    features = (height // tower.patch_size) * (width // tower.patch_size)
    if config.vision_feature_select_strategy != "default":
        features += CLASS_TOKENS[tower.model_type]
    elif CLASS_TOKENS[tower.model_type] == 0:
        features -= 1  # LLaVA leaves out the first, whatever it is
    if found != features:
        raise PolicyError(
            f"policy.model={folder}: its processor puts {found} tokens into a prompt for an image that the tower makes "
            f"{features} features of: mend patch_size, vision_feature_select_strategy and num_additional_image_tokens "
            "in its processor_config.json"
        )
