"""`AdapterLearner`: a learner rank whose adapters come and go, each learning from the datums of its own client.

The base and the own adapter stay as they are. Weights, optimizer and gradient of an added adapter are whole on every
rank; what is on disk of one is safetensors and JSON, so that nothing unpickles a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from actors.learning.adapters import AddedAdapter
from actors.learning.deepspeed_learner import DeepSpeedLearner
from actors.learning.learner import OWN, Gathered
from failures import LearnerError, writing
from policies.algorithms.algorithm import Loss
from policies.batch import TrainingGroup
from policies.datums import Datum, DatumShare, pack_datums, unpack
from policies.lora import adapter_config
from policies.losses import GlobalCounts, PolicyLossInput
from policies.settings import LoraSettings

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
"""The layout of PEFT, which vLLM and transformers load."""
STATE_FILE = "optimizer.safetensors"
NO_COUNTS = GlobalCounts(responses=1, tokens=1)
"""Sums need no denominators."""


@dataclass
class DatumsSeen:
    """What a pass over a rank's share gave."""

    gathered: Gathered = field(default_factory=Gathered)
    logprobs: dict[int, np.ndarray] = field(default_factory=dict)
    """By the place of the datum: (N, K) float32."""


class AdapterLearner(DeepSpeedLearner):
    """One rank; see `Learner` for what it has from there."""

    def create_adapter(self, adapter: str, lora: LoraSettings, seed: int) -> None:
        """As `add_adapter`, with first weights that depend on nothing but the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.add_adapter(adapter, lora)

    def remove_adapter(self, adapter: str) -> None:
        """Forget an adapter with its gradient and its optimizer; nothing where there is none."""
        self._seen.pop(adapter, None)
        if self._added.pop(adapter, None) is not None:
            self.policy.model.delete_adapter(adapter)
            self.policy.model.set_adapter(OWN)

    def learn(self, adapter: str, share: DatumShare, loss: Loss, sequence: int | None) -> DatumsSeen:
        """Add the gradient of a rank's share to what the adapter's next step applies, and return what was seen.

        Where it raises, part of the gradient may have been added: remove the adapter then, and load it again.

        Args:
            adapter: the one that acts and learns.
            share: this rank's datums.
            loss: a sum over their targets.
            sequence: the number of the call, as in `Learner.accumulate`; None: only look, and add no gradient.

        Raises:
            LearnerError: the number was already seen, or there is no such adapter.
        """
        if sequence is not None:
            self._take(adapter, sequence)
        added, seen = self._adapter(adapter), DatumsSeen()
        seen.logprobs = {place: np.zeros(datum.targets_N_K.shape, np.float32) for place, datum in share.datums.items()}
        self.engine.train(sequence is not None)
        with added.active() if sequence is None else added.gathering():
            for groups in share.micro_batches:
                with torch.no_grad() if sequence is None else nullcontext():
                    self._pass(groups, share.datums, loss, seen, backward=sequence is not None)
        return seen

    def _pass(
        self, groups: list[TrainingGroup], datums: dict[int, Datum], loss: Loss, seen: DatumsSeen, *, backward: bool
    ) -> None:
        batch, readings = pack_datums(
            groups,
            datums,
            self.packed.image_inputs,
            pad_id=self.encoder.processor.tokenizer.pad_token_id or 0,
            shared_prefix=self.policy.shares_prefix,
            prompt_positions=self.policy.prompt_positions,
        )
        batch = batch.to(self.engine.device)
        logprobs_R_T, _ = self.policy(batch, loss.temperature)
        result = loss.loss(
            PolicyLossInput(
                logprobs_R_T,
                logprobs_R_T.detach(),
                batch.rollout_logprobs_R_T,
                None,
                batch.credits_R_T,
                batch.mask_R_T,
            ),
            NO_COUNTS,
        )
        if backward:
            result.loss.backward()
        seen.gathered.add(result)
        unpack(logprobs_R_T, readings, seen.logprobs)

    def waits(self, adapter: str) -> bool:
        """Whether a gradient of the adapter waits for a step."""
        return self._adapter(adapter).waits

    def save_adapter(self, adapter: str, folder: str, optimizer: bool) -> None:
        """Write an adapter for `load_adapter` and, in PEFT's layout, for engines (rank 0 writes).

        Raises:
            DiskFull: there is no room.
        """
        if self.rank != 0:
            return
        added, place = self._adapter(adapter), Path(folder)
        state = added.state()
        weights = {_file_name(name, adapter): tensor.cpu().contiguous() for name, tensor in state["weights"].items()}
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            save_file(weights, place / WEIGHTS_FILE)
            (place / CONFIG_FILE).write_text(json.dumps(adapter_config(added.lora)))
            if optimizer:
                moments = state["optimizer"]["state"]
                flat = {f"{i}.{key}": v.cpu().contiguous() for i, held in moments.items() for key, v in held.items()}
                save_file(flat, place / STATE_FILE)

    def load_adapter(self, adapter: str, folder: str, optimizer: bool) -> None:
        """Give an adapter the weights of a folder, and its optimizer's state or a fresh one.

        Raises:
            LearnerError: the folder holds an adapter of another form.
        """
        added, place = self._adapter(adapter), Path(folder)
        state = added.state()
        held = load_file(place / WEIGHTS_FILE)
        wanted = {name: _file_name(name, adapter) for name in state["weights"]}
        for name, written in wanted.items():
            if written not in held or held[written].shape != state["weights"][name].shape:
                raise LearnerError(f"{folder} holds an adapter of another form: {written} is missing or differs")
        weights = {name: held[written] for name, written in wanted.items()}
        moments: dict[int, dict[str, Any]] = {}
        if optimizer and (place / STATE_FILE).is_file():
            for name, tensor in load_file(place / STATE_FILE).items():
                index, _, key = name.partition(".")
                moments.setdefault(int(index), {})[key] = tensor
        groups = state["optimizer"]["param_groups"]
        added.load_state({"weights": weights, "optimizer": {"state": moments, "param_groups": groups}})

    def _adapter(self, adapter: str) -> AddedAdapter:
        if adapter not in self._added:
            raise LearnerError(f"there is no adapter {adapter} here")
        return self._added[adapter]


def merged_seen(parts: Sequence[DatumsSeen]) -> DatumsSeen:
    """What all ranks saw of a request together."""
    merged = DatumsSeen()
    for part in parts:
        merged.gathered.loss += part.gathered.loss
        merged.logprobs |= part.logprobs
        for name, value in part.gathered.token_sums.items():
            merged.gathered.token_sums[name] = merged.gathered.token_sums.get(name, 0.0) + value
        for name, value in part.gathered.maxima.items():
            merged.gathered.maxima[name] = float(np.maximum(merged.gathered.maxima.get(name, 0.0), value))
    return merged


def _file_name(parameter: str, adapter: str) -> str:
    """The name of an adapter's matrix in PEFT's own files."""
    return parameter.replace(f".{adapter}.", ".")
