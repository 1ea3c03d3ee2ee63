"""The memory estimate of a recipe's processes, from the checkpoint's headers. Loads no weights, asks no network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from actors.rollout.engine import engine_of
from policies.algorithms.registry import make_algorithm
from policies.errors import PolicyError
from policies.parts import LANGUAGE_PROJECTIONS, PROJECTORS, TOWERS
from policies.settings import TINY, PolicySettings
from recipe import Recipe

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}


FOUR_BIT_BYTES = 4.127 / 8
"""Of a weight in NF4 with its share of the scales: 8 bits for 64 weights, and 32 for 256 of those."""


def held_in_four_bit(policy: PolicySettings, matrices: int) -> int:
    """How many of the parameters of a language model's matrices are held in 4 bits."""
    return matrices if policy.lora is not None and policy.lora.four_bit else 0


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the headers of a checkpoint tell; counts are parameters."""

    parameters: int
    vision: int
    projector: int
    projections: dict[str, int]
    """Sum of inputs + outputs of the matrices of each LoRA target group."""
    cache_per_token: int
    """Elements of the KV cache per token: 2 x layers x KV heads x head size."""
    matrices: int = 0
    """Parameters of the language model's attention and MLP."""


def estimate_memory(recipe: Recipe) -> str:
    """Indented lines for a learner rank and a rollout engine, or one that says why nothing is known yet."""
    name = recipe.policy.model
    if name == TINY:
        return f"  {name}: built when the run starts"
    folder = checkpoint_folder(name, recipe.policy.revision)
    if folder is None:
        return f"  {name}: unknown until downloaded"
    shape = read_shape(folder)
    if shape is None:
        return f"  {name}: unknown, {folder} does not hold both config.json and safetensors weights"
    return f"  {name}: {shape.parameters:,} parameters\n{_learner_line(recipe, shape)}\n{_engine_line(recipe, shape)}"


def checkpoint_folder(model: str, revision: str | None) -> Path | None:
    """The folder of a checkpoint that is on this machine: a path, or a hub name in the local cache; else None.

    Raises:
        PolicyError: it is neither a folder nor a hub name.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError:
        raise PolicyError(
            f"policy.model={model} is neither a folder nor the name of one on the hub (owner/name)"
        ) from None


def read_shape(folder: Path) -> ModelShape | None:
    """Parameter counts and cache size of a checkpoint folder, from its safetensors headers and config.json."""
    config_path = folder / "config.json"
    shapes = dict(_tensor_shapes(folder))
    if not shapes or not config_path.is_file():
        return None
    text = json.loads(config_path.read_text())
    text = text.get("text_config", text)
    vision = {name for name in shapes if any(f"{part}." in name for part in TOWERS)}
    projector = {name for name in shapes if any(f"{part}." in name for part in PROJECTORS)}
    groups = {"vision": vision, "projector": projector} | {
        group: {name for name in shapes.keys() - vision if name.endswith(tuple(f".{matrix}.weight" for matrix in own))}
        for group, own in LANGUAGE_PROJECTIONS.items()
    }
    language = {name for group in LANGUAGE_PROJECTIONS for name in groups[group]}
    projections = {
        group: sum(sum(shapes[name]) for name in names if len(shapes[name]) == 2 and "embed" not in name)
        for group, names in groups.items()
    }
    return ModelShape(
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        vision=sum(math.prod(shapes[name]) for name in vision),
        projector=sum(math.prod(shapes[name]) for name in projector),
        projections=projections,
        cache_per_token=2 * text["num_hidden_layers"] * _kv_width(text),
        matrices=sum(math.prod(shapes[name]) for name in language),
    )


def _kv_width(text: dict[str, Any]) -> int:
    heads = text["num_attention_heads"]
    head_size = text.get("head_dim") or text["hidden_size"] // heads
    return (text.get("num_key_value_heads") or heads) * head_size


def _tensor_shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor; a safetensors file opens with its header's length and the header as JSON."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield from ((name, entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _learner_line(recipe: Recipe, shape: ModelShape) -> str:
    policy, learner = recipe.policy, recipe.learner
    size = BYTES[policy.dtype]
    frozen = (shape.vision + shape.projector * policy.freeze_projector) if policy.freeze_vision else 0
    trained = shape.parameters - frozen
    if policy.lora is not None:
        trained = policy.lora.rank * sum(shape.projections[group] for group in policy.lora.targets)
    # AdamW keeps two moments, and below float32 a float32 master copy of what it trains.
    moments = 2 if learner.optimizer == "adamw_8bit" else 8
    optimizer = trained * (moments if policy.dtype == "float32" else moments + 4)
    reads_reference = make_algorithm(recipe.algorithm).reference != "none"
    copies = 2 if reads_reference and policy.lora is None else 1  # the reference policy is a full copy
    sharded = {stage: learner.ranks if learner.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    packed = held_in_four_bit(policy, shape.matrices)
    parts = {
        "weights": (size * (shape.parameters - packed) + FOUR_BIT_BYTES * packed) / sharded[3] * copies,
        "gradients": size * trained / sharded[2],
        "optimizer": optimizer / sharded[1],
    }
    if learner.offload_optimizer:
        parts["optimizer (in CPU memory)"] = parts.pop("optimizer")
    return f"  learner: {_listed(parts)} ({trained:,} parameters trained)"


def _engine_line(recipe: Recipe, shape: ModelShape) -> str:
    rollout = recipe.rollout
    size = BYTES[recipe.policy.dtype]
    weights = {"weights": size * shape.parameters / rollout.tensor_parallel}
    options = engine_of(recipe).options
    share, reserved = getattr(options, "gpu_memory_share", None), getattr(options, "memory_gib", None)
    if rollout.gpus and share is not None:
        return f"  rollout: {_listed(weights)} per GPU, KV cache up to {share:.0%} of its memory"
    if rollout.gpus or reserved is None:
        return f"  rollout: {_listed(weights)}"
    tokens = int(reserved * GIB // (size * shape.cache_per_token))
    cache = f"KV cache {reserved:g} GiB = {tokens:,} tokens"
    return f"  rollout: {_listed(weights)}, {cache} = {tokens // rollout.max_model_len:,} prompts of full length"


def _listed(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {amount / GIB:.2f} GiB" for name, amount in parts.items())


def together(parts: Mapping[str, Mapping[str, float]], *, turns: bool) -> dict[str, float]:
    """What learner and engine hold on one GPU, each part under its role's name.

    Args:
        parts: of `learner` and `rollout`.
        turns: whether one rests while the other works (`rollout.on_learners`); then it is what the larger turn holds,
            with what stays there of the one that rests.
    """
    resting = {"learner": ("weights", "CUDA and NCCL"), "rollout": ("CUDA and NCCL",)} if turns else {}
    turns_of = [{**parts, role: {name: parts[role][name] for name in kept}} for role, kept in resting.items()]
    cases = turns_of or [dict(parts)]
    named = [{f"{role}: {name}": gib for role, own in case.items() for name, gib in own.items()} for case in cases]
    return max(named, key=lambda one: sum(one.values()))
