"""What a forward and backward pass of the learner adds to memory: the policy's own code on tensors without numbers.

torch's fake tensors carry shapes and are freed as real ones are; a mode beneath the operations adds up what lives. No
GPU is needed, and no weights. Not in it: fragments, communication buffers, gathered weights, CUDA's context
(`cluster.forecast` adds them), and flash attention's workspaces.
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForImageTextToText

from policies import vocabulary
from policies.attention import take_kernel
from policies.batch import Batch
from policies.lora import add_adapters
from policies.model import ROTARY_GRID_MODELS, SHARED_PREFIX_MODELS, Policy
from policies.settings import PolicySettings
from policies.vision import FEATURES, freeze_vision

FEW_LAYERS = (2, 4)
"""Layers of text that a deep model is traced with: every further one adds the same."""
NO_TOKEN_CHECK = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""transformers compares counts of image tokens otherwise, which tensors without numbers cannot tell."""


@dataclass(frozen=True, slots=True)
class PassShape:
    """One micro-batch: a row in which responses share a prompt."""

    images: int
    image_tokens: int
    text_tokens: int
    responses: tuple[int, ...]
    """Tokens of each response."""

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.images * self.image_tokens + self.text_tokens

    @property
    def positions(self) -> int:
        """Of the row."""
        return self.prompt + sum(self.responses)


def shared_out(positions: int, longest: int, count: int) -> tuple[int, ...]:
    """As many positions as responses: of the greatest length, or equal shares where that would make more than `count`.

    A micro-batch of short responses is mostly prompts; each response costs the tracing time and memory of its own.
    """
    if positions <= longest * count:
        whole, rest = divmod(positions, longest)
        return (longest,) * whole + ((rest,) if rest else ())
    share, more = divmod(positions, count)
    return (share + 1,) * more + (share,) * (count - more)


@dataclass(frozen=True, slots=True)
class Traced:
    """What was found."""

    peak: int
    """Bytes that the pass adds at most to weights, gradients and optimizer."""
    learning: int
    """Parameters that learn."""


_FOUND: dict[tuple[Any, ...], Traced] = {}
"""What this process found already, by all that it depends on: models that differ in depth alone share theirs."""


class LiveBytes(TorchDispatchMode):
    """Bytes of storages that operations made and that are alive, and the most there were."""

    def __init__(self, apart: set[int]) -> None:
        """Storages whose keys are in `apart` are not counted."""
        super().__init__()
        self._known, self.now, self.peak = set(apart), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        self.peak = max(self.peak, self.now)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def trace(
    config: Any,
    policy: PolicySettings,
    shape: PassShape,
    *,
    recompute: bool,
    reference: bool,
    critic: bool = False,
    device: str = "cpu",
) -> Traced:
    """Run one pass at a shape.

    Args:
        config: transformers' config of the model.
        policy: how it learns.
        shape: the micro-batch.
        recompute: whether activations are computed again in the backward pass.
        reference: whether a reference policy is asked while the policy's graph waits.
        critic: whether there is a value head.
        device: kind of device that the learner has, cpu or cuda: chunks of the vocabulary are as large as there.
    """
    layers = config.get_text_config().num_hidden_layers
    before = os.environ.get(NO_TOKEN_CHECK)
    os.environ[NO_TOKEN_CHECK] = "1"

    def at(count: int) -> Traced:
        fewer = _with_layers(config, count)
        known = (fewer.to_json_string(), policy.model_dump_json(), shape, recompute, reference, critic, device)
        if known not in _FOUND:
            with FakeTensorMode(), _chunks_of(device):
                made = _policy(fewer, policy, recompute=recompute, critic=critic)
                _FOUND[known] = _traced(made, shape, reference=reference)
        return _FOUND[known]

    try:
        if layers <= sum(FEW_LAYERS):
            return at(layers)
        fewer, more = FEW_LAYERS
        found = at(fewer), at(more)
        return Traced(*(_onward(getattr(found[0], name), getattr(found[1], name), layers) for name in Traced.__slots__))
    finally:
        if before is None:
            del os.environ[NO_TOKEN_CHECK]
        else:
            os.environ[NO_TOKEN_CHECK] = before


def _onward(at_fewer: int, at_more: int, layers: int) -> int:
    """What grows by the same amount with every layer, at more layers than it was found for."""
    fewer, more = FEW_LAYERS
    return at_fewer + (at_more - at_fewer) * (layers - fewer) // (more - fewer)


def _with_layers(config: Any, count: int) -> Any:
    """The config of the same model with `count` layers of text."""
    changed = copy.deepcopy(config)
    text = changed.get_text_config()
    text.num_hidden_layers = count
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:count]
    return changed


def _policy(config: Any, settings: PolicySettings, *, recompute: bool, critic: bool) -> Policy:
    dtype = getattr(torch, settings.dtype)
    model: Any = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa", dtype=dtype)
    if settings.freeze_vision:
        freeze_vision(model, projector=settings.freeze_projector)
    kernel = take_kernel(model, settings, shares_prefix=config.model_type in SHARED_PREFIX_MODELS)
    if settings.lora is not None:
        with _without_swaps():
            model = add_adapters(model, settings.lora)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    made = Policy(model, (5,), 1.0, critic=critic, kernel=kernel)
    for parameter in made.parameters():
        if parameter.requires_grad:  # kept gradients are counted apart
            parameter.register_post_accumulate_grad_hook(lambda done: setattr(done, "grad", None))
    return made.train()


class _without_swaps(AbstractContextManager[None]):
    """`nn.Module._apply` that makes new parameters: fake ones cannot be swapped in place, as PEFT's `to` does."""

    def __enter__(self) -> None:
        self._own = nn.Module._apply

        def apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
            for part in module.modules():
                for name, parameter in part._parameters.items():
                    if parameter is not None:
                        part._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
            return module

        nn.Module._apply = apply  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        nn.Module._apply = self._own  # type: ignore[method-assign]


@contextmanager
def _chunks_of(device: str) -> Iterator[None]:
    """Tensors without numbers count as the CPU's: let the vocabulary be cut for them as for `device`."""
    own = vocabulary.CHUNK_BYTES["cpu"]
    vocabulary.CHUNK_BYTES["cpu"] = vocabulary.CHUNK_BYTES[device]
    try:
        yield
    finally:
        vocabulary.CHUNK_BYTES["cpu"] = own


def _traced(policy: Policy, shape: PassShape, *, reference: bool, batch: Batch | None = None) -> Traced:
    kept = [*policy.parameters(), *policy.buffers()]
    batch = batch or _batch(policy, shape)
    with LiveBytes({tensor.untyped_storage()._cdata for tensor in kept}) as live:
        logprobs_R_T, values_R_T = policy(batch)
        if reference:
            adapters = hasattr(policy.model, "disable_adapter")
            with torch.no_grad(), policy.model.disable_adapter() if adapters else nullcontext():
                held = policy(batch)
        loss = logprobs_R_T.mean() if values_R_T is None else (logprobs_R_T + values_R_T).mean()
        loss.backward()
        if reference:
            del held
    return Traced(live.peak, sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad))


def _batch(policy: Policy, shape: PassShape) -> Batch:
    """A row as `policies.batch.pack` makes it, of tensors without numbers."""
    config, positions = policy.body.config, shape.positions
    ids = torch.zeros(1, positions, dtype=torch.long)
    qwen = policy.model_type in ROTARY_GRID_MODELS
    numbered = torch.zeros(1, positions, dtype=torch.long)
    inputs = {"input_ids": ids, "position_ids": numbered.expand(3, 1, -1) if qwen else numbered}
    if qwen or policy.model_type != "llava":
        # The towers of the others read sizes of images as numbers; `cluster.forecast` adds them by arithmetic.
        inputs[FEATURES] = torch.zeros(shape.images * shape.image_tokens, config.get_text_config().hidden_size)
    else:
        side = config.vision_config.image_size
        inputs["pixel_values"] = torch.zeros(shape.images, 3, side, side)
    ends = [shape.prompt]
    for length in shape.responses:
        ends.append(ends[-1] + length)
    rows, width, tokens = len(shape.responses), max(shape.responses), sum(shape.responses)
    zeros_R_T = torch.zeros(rows, width)
    return Batch(
        model_inputs=inputs,
        shared=(tuple(ends),),
        source_R_T=torch.zeros(rows, width, dtype=torch.long),
        token_ids_R_T=torch.zeros(rows, width, dtype=torch.long),
        mask_R_T=zeros_R_T,
        real_N=torch.zeros(tokens, dtype=torch.long),
        rollout_logprobs_R_T=zeros_R_T,
        credits_R_T=zeros_R_T,
    )
