"""Checkpoints in Hugging Face layout, under the names that both transformers and vLLM load."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor

LLAVA_PREFIXES = (
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)


def plain_name(parameter: str) -> str:
    """A parameter's name without what PEFT adds to it."""
    return parameter.removeprefix("base_model.model.").replace(".base_layer.", ".")


def disk_name(name: str, model_type: str) -> str:
    """The on-disk name of an in-memory parameter.

    transformers 5 names LLaVA's tower `vision_tower.embeddings...`; vLLM and the hub's own checkpoints call it
    `vision_tower.vision_model.embeddings...`. Other families are loaded by both under their in-memory names.
    """
    if model_type != "llava":
        return name
    for memory, disk in LLAVA_PREFIXES:
        if name.startswith(memory):
            return disk + name.removeprefix(memory)
    return name


def save_checkpoint(folder: Path, model: Any, processor: Any, tensors: dict[str, Tensor]) -> None:
    """Write config, generation settings, processor and weights (safetensors, sharded when large) to a folder.

    Args:
        folder: created when missing.
        model: the bare Hugging Face model (for its configs).
        processor: its processor.
        tensors: in-memory parameter name to weight, on CPU; tied weights once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    vars(config).pop("quantization_config", None)  # the weights are written in full, however the model held them
    config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        # Not `save_pretrained`, which refuses settings that the checkpoint came with and that nothing here reads.
        model.generation_config.to_json_file(folder / "generation_config.json")
    processor.save_pretrained(folder)
    named = {disk_name(name, model.config.model_type): tensor.contiguous() for name, tensor in tensors.items()}
    save_torch_state_dict(named, folder, metadata={"format": "pt"})
