"""Low-rank adapters: adding them to the language model, and the weights that result when they are merged."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from policies.settings import LoraSettings

TARGET_PROJECTIONS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def add_adapters(model: nn.Module, settings: LoraSettings) -> Any:
    """The PEFT model whose language-model projections of the chosen groups carry adapters; all else is frozen."""
    names = [name for group in settings.targets for name in TARGET_PROJECTIONS[group]]
    pattern = rf".*language_model.*\.({'|'.join(names)})"
    return get_peft_model(model, LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=pattern))


def adapted_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that carry an adapter, by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def merged_weight(layer: LoraLinear) -> Tensor:
    """The weight W + scale * B A that the layer acts with; the layer itself is left alone."""
    weight = layer.get_base_layer().weight
    adapters = [layer.get_delta_weight(name) for name in layer.active_adapters]
    return weight + sum(delta.to(weight.dtype) for delta in adapters)
