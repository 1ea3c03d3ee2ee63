"""Low-rank adapters: adding them to the language model, and the weights that result when they are merged."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from policies.errors import PolicyError
from policies.four_bit import unpacked
from policies.parts import LANGUAGE_MODELS, LANGUAGE_PROJECTIONS, PROJECTORS, TOWERS
from policies.settings import LoraSettings

if TYPE_CHECKING:  # a second of imports, for runs with adapters alone
    from peft.tuners.lora import LoraLayer


def add_adapters(model: Any, settings: LoraSettings, name: str = "default") -> Any:
    """The PEFT model whose linear layers of the chosen groups carry adapters of this name; all else is frozen.

    On a model that is one already they stand beside those that are there, which stay the ones that act.

    Raises:
        PolicyError: a group matches no layer of this model.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    names = [layer for group in settings.targets for layer in _layers_of(base, group)]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=names)
    if not isinstance(model, PeftModel):
        return get_peft_model(model, config, adapter_name=name)
    model.add_adapter(name, config)
    return model


def _layers_of(model: Any, group: str) -> list[str]:
    """The full names of a group's linear layers."""
    parts = {"vision": TOWERS, "projector": PROJECTORS}.get(group, LANGUAGE_MODELS)
    inside = tuple(f"model.{part}." for part in parts)
    linear = [
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(inside) and ".lora_" not in name
    ]
    wanted = LANGUAGE_PROJECTIONS.get(group)
    found = [name for name in linear if wanted is None or name.rpartition(".")[2] in wanted]
    if not found:
        there = sorted({name.rpartition(".")[2] for name in linear}) or ["none"]
        raise PolicyError(
            f"policy.lora.targets: {group} matches no layer of a {model.config.model_type} model; its linear layers "
            f"under {', '.join(parts)}: {', '.join(there)}"
        )
    return found


def adapted_layers(model: nn.Module) -> dict[str, LoraLayer]:
    """The layers that carry an adapter, by module name."""
    if "peft" not in sys.modules:  # then nothing carries one
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def adapter_name(parameter: str) -> str:
    """The name of an adapter's matrix in PEFT's own files."""
    return parameter.replace(".default.", ".")


def adapter_config(settings: LoraSettings) -> dict[str, Any]:
    """What PEFT's `adapter_config.json` says of adapters on the language model's projections."""
    modules = [name for group in settings.targets for name in LANGUAGE_PROJECTIONS[group]]
    return {
        "peft_type": "LORA",
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "target_modules": modules,
        "bias": "none",
    }


def merged_weight(layer: LoraLayer) -> Tensor:
    """The weight W + scale * B A that the layer acts with; the layer itself is left alone."""
    weight = unpacked(layer.get_base_layer().weight)
    adapters = [layer.get_delta_weight(name) for name in layer.active_adapters]
    return weight + sum(delta.to(weight.dtype) for delta in adapters)
