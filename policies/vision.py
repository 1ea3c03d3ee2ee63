"""The vision side of a policy: its parts, freezing them, and the features of frames when nothing there learns.

A frozen tower gives a frame the same features in every step: `FrameFeatures` computes them once and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from policies.errors import PolicyError
from policies.parts import PROJECTORS, TOWERS
from policies.prompt import tensor_bytes
from policies.views import Views

LAYERED_FEATURES = frozenset({"qwen3_vl", "mllama"})
"""Model types whose tower also feeds later layers of the text, so its output is more than one row for each token."""
PIXELS = frozenset({"pixel_values", "pixel_attention_mask", "spatial_shapes"})
"""Image tensors that only the tower reads."""
FEATURES = "image_features"
"""The name under which a batch carries features instead of pixels."""
FEATURE_CACHE_BYTES = 2 * 2**30
"""Features kept per learner, on its device; bounded, the least recently used go first."""


def freeze_vision(model: Any, *, projector: bool) -> None:
    """Let a model's vision tower, and its projector where asked for, learn nothing.

    Raises:
        PolicyError: the model has no vision tower under a known name.
    """
    parts = _parts(model, TOWERS)
    if not parts:
        raise PolicyError(
            f"policy.freeze_vision: a {model.config.model_type} model has no vision tower under a known name "
            f"({', '.join(TOWERS)})"
        )
    for part in [*parts, *(_parts(model, PROJECTORS) if projector else [])]:
        part.requires_grad_(False)


def keeps_features(model: Any) -> bool:
    """Whether what a model says of a frame never changes, and can be kept."""
    parts = [*_parts(model, TOWERS), *_parts(model, PROJECTORS)]
    learns = any(parameter.requires_grad for part in parts for parameter in part.parameters())
    return bool(parts) and not learns and model.config.model_type not in LAYERED_FEATURES


class FrameFeatures:
    """The features of sets of frames, each computed once; to be packed in place of their pixels."""

    def __init__(self, model: Any, image_tensors: Callable[[Views], dict[str, Tensor]]) -> None:
        """Take pixels from `image_tensors`; `model` is one for which `keeps_features` holds."""
        self._model, self._image_tensors = model, image_tensors
        self._kept: LRUCache[Views, dict[str, Tensor]] = LRUCache(FEATURE_CACHE_BYTES, getsizeof=tensor_bytes)

    def __call__(self, images: Views) -> dict[str, Tensor]:
        """`image_features`, and what else the model wants to know of the images (Qwen: their grids)."""
        if (kept := self._kept.get(images)) is not None:
            return kept
        tensors = self._image_tensors(images)
        if not tensors:
            return tensors
        kept = {name: tensor for name, tensor in tensors.items() if name not in PIXELS}
        with torch.no_grad():
            kept[FEATURES] = features(self._model, tensors)
        if tensor_bytes(kept) <= self._kept.maxsize:
            self._kept[images] = kept
        return kept


def features(model: Any, tensors: dict[str, Tensor]) -> Tensor:
    """What a model's tower and projector make of image tensors, one row for each token in the text."""
    parameter = next(model.parameters())
    moved = {
        name: tensor.to(parameter.device, parameter.dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }
    pooled = model.model.get_image_features(**moved, return_dict=True).pooler_output
    return torch.cat(list(pooled)) if isinstance(pooled, (list, tuple)) else pooled


def with_features(model_type: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Model inputs whose features, where they hold some, stand where the model looks for its tower's output."""
    if FEATURES not in inputs:
        return inputs
    others = {name: value for name, value in inputs.items() if name != FEATURES}
    pooled = inputs[FEATURES] if model_type in ("idefics3", "smolvlm", "internvl") else (inputs[FEATURES],)
    return others | {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}}


def _parts(model: Any, names: tuple[str, ...]) -> list[nn.Module]:
    return [part for name in names if (part := getattr(model.model, name, None)) is not None]
