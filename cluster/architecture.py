"""What a model is made of, from its config alone: a folder, a hub name in the cache, or one that the facts know.

Loads no weights and asks no network. Imports torch only to build the model without memory.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import PlanError
from cluster.facts import Facts
from cluster.memory import checkpoint_folder
from policies.parts import PROJECTORS, TOWERS
from policies.settings import TINY, PolicySettings
from recipe import Recipe


@dataclass(frozen=True, slots=True)
class Architecture:
    """Numbers of a vision-language model that time and memory follow from."""

    config: Any
    """transformers' config."""
    parameters: int
    vision: int
    """Parameters of the tower."""
    projector: int
    embeddings: int
    """Parameters that are looked up, and multiply nothing."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    largest_layer: int
    """Parameters of a layer of the text: gathered together under ZeRO-3."""

    @property
    def head(self) -> int:
        """Parameters of the vocabulary projection."""
        return self.vocabulary * self.hidden

    @property
    def body(self) -> int:
        """Parameters that every token of the text is multiplied by, the vocabulary projection apart."""
        return self.largest_layer * self.layers

    @property
    def cache_per_token(self) -> int:
        """Numbers of the KV cache per token."""
        return 2 * self.layers * self.kv_heads * self.head_size


def config_of(model: str, revision: str | None, facts: Facts, field: str) -> Any:
    """The config of a model.

    Args:
        model: folder or hub name.
        revision: of the hub.
        facts: what is known of models beside.
        field: of the recipe, for messages.

    Raises:
        PlanError: nothing is known of it.
    """
    from transformers import AutoConfig

    folder = checkpoint_folder(model, revision)
    if folder is not None and (folder / "config.json").is_file():
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if model in facts.models:
        with tempfile.TemporaryDirectory() as made:
            Path(made, "config.json").write_text(json.dumps(facts.models[model]))
            return AutoConfig.from_pretrained(made, trust_remote_code=False)
    raise PlanError(
        f"{field}={model}: its config is not on this machine: put its config.json, alone, into a folder and name that, "
        f"or download it once (hf download {model} config.json)"
    )


def policy_config(policy: PolicySettings, facts: Facts) -> Any:
    """The config of a recipe's policy; that of the tiny one is made on the spot."""
    if policy.model != TINY:
        return config_of(policy.model, policy.revision, facts, "policy.model")
    from transformers import AutoConfig

    from data.rendered.questions import driving_text
    from policies.tiny import build_tiny_policy

    with tempfile.TemporaryDirectory() as made:
        return AutoConfig.from_pretrained(build_tiny_policy(Path(made) / TINY, 0, list(driving_text())))


def vision_language(config: Any) -> Architecture:
    """The numbers of a vision-language model, counted on the model built without memory.

    Raises:
        PlanError: transformers builds no such model.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    except (ValueError, AttributeError, KeyError, ImportError) as error:
        raise PlanError(f"a {config.model_type} model cannot be planned: transformers builds none ({error})") from error
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    text = config.get_text_config()

    def of(parts: tuple[str, ...]) -> int:
        return sum(size for name, size in sizes.items() if any(f"{part}." in name for part in parts))

    return Architecture(
        config=config,
        parameters=sum(sizes.values()),
        vision=of(TOWERS),
        projector=of(PROJECTORS),
        embeddings=text.vocab_size * text.hidden_size,
        largest_layer=sum(size for name, size in sizes.items() if _first_layer(name)),
        **_text(text),
    )


def _first_layer(name: str) -> bool:
    return ("language_model.layers.0." in name or "text_model.layers.0." in name) and "vision" not in name


def _text(text: Any) -> dict[str, int]:
    heads = text.num_attention_heads
    return {
        "layers": text.num_hidden_layers,
        "hidden": text.hidden_size,
        "heads": heads,
        "kv_heads": getattr(text, "num_key_value_heads", None) or heads,
        "head_size": getattr(text, "head_dim", None) or text.hidden_size // heads,
        "vocabulary": text.vocab_size,
    }


def text_model(config: Any) -> Architecture:
    """The numbers of a chat model of Llama's shape, by arithmetic."""
    own = _text(config)
    hidden, width = own["hidden"], own["head_size"]
    attention = hidden * width * (2 * own["heads"] + 2 * own["kv_heads"])
    layer = attention + 3 * hidden * config.intermediate_size
    tied = bool(getattr(config, "tie_word_embeddings", False))
    embeddings = own["vocabulary"] * hidden
    total = layer * own["layers"] + embeddings * (1 if tied else 2)
    return Architecture(
        config=config,
        parameters=total,
        vision=0,
        projector=0,
        embeddings=embeddings,
        largest_layer=layer,
        **own,
    )


def image_tokens(config: Any, recipe: Recipe) -> int:
    """Tokens that one image has in a prompt.

    Raises:
        PlanError: the config does not say so in a way that is known here.
    """
    try:
        return _image_tokens(config, recipe)
    except (AttributeError, TypeError, ZeroDivisionError) as error:
        raise PlanError(
            f"policy.model={recipe.policy.model}: its config does not say how many tokens an image has ({error}); the "
            "shapes that are known are LLaVA's, InternVL's, SmolVLM's and Qwen's"
        ) from error


def _image_tokens(config: Any, recipe: Recipe) -> int:
    policy, tower = recipe.policy, config.vision_config
    if config.model_type in ("qwen2_5_vl", "qwen3_vl"):
        width, height = policy.image_size or (1600, 900)
        patch = tower.patch_size * tower.spatial_merge_size
        return max(1, round(width / patch)) * max(1, round(height / patch))
    side = tower.image_size[0] if isinstance(tower.image_size, (list, tuple)) else tower.image_size
    patch = tower.patch_size[0] if isinstance(tower.patch_size, (list, tuple)) else tower.patch_size
    scale = getattr(config, "scale_factor", None) or (1 / math.sqrt(getattr(config, "downsample_ratio", 1.0)))
    one = round((side // patch) ** 2 / (scale**2 if hasattr(config, "scale_factor") else scale**4))
    return one * ((policy.image_patches or 1) + (1 if (policy.image_patches or 1) > 1 else 0))


def lora_widths(model: Architecture) -> dict[str, int]:
    """Inputs + outputs of the matrices that adapters of each target lie on, over all layers of the text."""
    text = model.config.get_text_config()
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    attention = 2 * (model.hidden + queries) + 2 * (model.hidden + keys)
    mlp = 3 * (model.hidden + text.intermediate_size)
    return {"attention": model.layers * attention, "mlp": model.layers * mlp}
