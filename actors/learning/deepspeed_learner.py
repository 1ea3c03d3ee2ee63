"""`DeepSpeedLearner`: one rank around a DeepSpeed engine, made to run as a Ray actor. See `Learner` for its methods."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import ray
import torch
from torch import Tensor
from transformers.integrations import HfDeepSpeedConfig

from actors.learning.adapters import AddedAdapter
from actors.learning.deepspeed_config import VALUE_HEAD, clip_at, deepspeed_config, forget_moments, make_optimizer
from actors.learning.learner import OWN, Gathered, Held, OptimizerSettings, Stepped
from actors.learning.own_adapter import write_adapter
from actors.learning.packing import Packing
from actors.learning.process_group import free_address, join_ranks
from actors.learning.put_aside import PutAside
from actors.settings import LearnerSettings
from actors.sync.source import WeightSender, WeightSource
from evaluation.run_record import ADAPTER_FOLDER
from extension import nearest
from failures import LearnerError, writing
from policies.algorithms.algorithm import Algorithm, Loss, Rows
from policies.assessment import Known, formed
from policies.batch import Batch, TrainingGroup, credits_and_mask
from policies.checkpoint import save_checkpoint
from policies.heads.files import copy_files
from policies.learnt import Learnt
from policies.losses import GlobalCounts, LossResult, PolicyLossInput
from policies.micro_batches import Share
from policies.model import Policy, ReferencePolicy, has_adapters, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import LoraSettings, PolicySettings

CHECKPOINT_TAG = "learner"
ADDED_FILE = "adapters.pt"
EXPORT_BUCKET_BYTES = 64 * 2**20
"""Under ZeRO-3 so much is gathered at once."""


class DeepSpeedLearner(WeightSender):
    """One rank: a DeepSpeed engine around a `Policy`."""

    def __init__(
        self,
        rank: int,
        folder: str,
        policy: PolicySettings,
        algorithm: Algorithm,
        settings: LearnerSettings,
        temperature: float,
        seed: int,
    ) -> None:
        """Remember what to load; `start` loads it. `temperature` is the rollout engines' sampling temperature."""
        self.rank, self.folder, self.seed = rank, folder, seed
        self.policy_settings, self.algorithm, self.settings = policy, algorithm, settings
        self.temperature = temperature
        self._seen = {OWN: -1}
        self._waiting = False
        self._added: dict[str, AddedAdapter] = {}
        self._held: list[tuple[Share, list[Known]]] = []
        self._learnt = Learnt()
        self._reference: ReferencePolicy | None = None
        self._config = deepspeed_config(settings, policy.dtype)

    @property
    def applied(self) -> int:
        """The last number that the own adapter has seen."""
        return self._seen[OWN]

    @property
    def _four_bit(self) -> bool:
        """Whether frozen weights are in 4 bits: checkpoints leave them out, since the policy's own folder has them."""
        return self.policy_settings.lora is not None and self.policy_settings.lora.four_bit

    def address(self) -> tuple[str, int]:
        """A host and a free port on this actor's node, for a group to meet at."""
        # Ray's address of the node: the machine's own name is 127.0.1.1 in the hosts file of a stock Debian or Ubuntu.
        return free_address(ray.util.get_node_ip_address() if self.settings.gpus else "127.0.0.1")

    def start(self, host: str, port: int) -> float:
        """Join the learner group and load the model; returns the seconds it took. All ranks must call it."""
        began = time.time()
        join_ranks(self.rank, self.settings.ranks, host, port)
        if self.settings.threads is not None or not self.settings.gpus:
            torch.set_num_threads(self.settings.threads or max(1, int(self.settings.cpus)))
        torch.manual_seed(self.seed)
        self.policy = self._load_policy()
        if self.rank == 0 and not self.policy.shares_prefix:
            print(f"{self.policy.model_type}: one row for each response, a group's prompt is not shared", flush=True)
        if self.settings.gradient_checkpointing:
            self.policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        optimizer = make_optimizer(self.policy, self.settings)
        self.engine, *_ = deepspeed.initialize(
            model=self.policy, optimizer=optimizer, config=self._config, dist_init_required=False
        )
        self._aside = PutAside(self.engine, self.settings.zero_stage)
        self.encoder = PromptEncoder(load_processor(self.folder, self.policy_settings), self.policy_settings)
        self.packed = Packing(self.policy, self.encoder, self.settings, self.engine.device)
        return time.time() - began

    def model(self) -> str:
        """What is trained, in words: two learners whose weights fit each other's checkpoints say the same."""
        added = tuple(f".{name}." for name in self._added)
        own = [p for name, p in self.policy.named_parameters() if not any(part in name for part in added)]
        sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in own]
        every, learning = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
        return f"a {self.policy.model_type} model of {every:,} weights ({learning:,} of them learning)"

    def shares_prefix(self) -> bool:
        """Whether a group is packed as one row."""
        return self.policy.shares_prefix

    def _load_policy(self) -> Policy:
        # Under ZeRO-3 transformers shards the weights while loading, for as long as this object lives.
        sharded_loading = HfDeepSpeedConfig(self._config) if self.settings.zero_stage == 3 else None
        critic = self.algorithm.has_critic
        policy = load_policy(self.folder, self.policy_settings, self.temperature, critic=critic)
        del sharded_loading
        return policy

    def freeze_reference(self) -> None:
        """Take the policy as it is now as the reference of the KL; does nothing when the algorithm reads none.

        A policy with adapters has the model below them for its reference, without what a warm start taught them.
        """
        if self.algorithm.reference == "none":
            return
        if has_adapters(self.policy):
            self._reference = ReferencePolicy(self.policy)
        elif self.settings.zero_stage < 3:
            self._reference = ReferencePolicy(copy.deepcopy(self.policy))
        else:
            frozen = self._load_policy().requires_grad_(False)
            deepspeed.initialize(model=frozen, config=self._config, dist_init_required=False)
            for kept, current in zip(frozen.parameters(), self.policy.parameters(), strict=True):
                shard: Any = current
                kept.ds_tensor.data.copy_(shard.ds_tensor.data)  # type: ignore[attr-defined]  # both are sharded alike
            self._reference = ReferencePolicy(frozen)

    def assess(self, shares: Sequence[Share], kl_beta: float) -> dict[str, float]:
        """See `Learner.assess`; the model runs only where its answers are wanted. All ranks must call it."""
        keep_old, in_reward = len(shares) > 1, self.algorithm.reference == "reward"
        asks_model = keep_old or in_reward or self.algorithm.has_critic
        found = list[Rows]()
        for share in shares:
            for index, groups in enumerate(share.micro_batches):
                one = self._found(groups, in_reward=in_reward) if asks_model else self._credited(groups)
                fills_up = index >= len(share.micro_batches) - share.filler
                found.append(replace(one, mask_R_T=torch.zeros_like(one.mask_R_T)) if fills_up else one)
        known, metrics = formed(found, self.algorithm, kl_beta, self._total, keep_old=keep_old)
        rest = iter(known)
        self._held = [(share, [next(rest) for _ in share.micro_batches]) for share in shares]
        return metrics

    @torch.no_grad()
    def _found(self, groups: list[TrainingGroup], *, in_reward: bool) -> Rows:
        self.engine.eval()
        batch = self.packed(groups)
        logprobs_R_T, values_R_T = self.policy(batch)
        reference_R_T = self._reference_of(batch) if in_reward else None
        return Rows(batch.credits_R_T, batch.mask_R_T, logprobs_R_T, reference_R_T, values_R_T)

    def _credited(self, groups: list[TrainingGroup]) -> Rows:
        credits_R_T, mask_R_T = credits_and_mask(groups)
        return Rows(credits_R_T.to(self.engine.device), mask_R_T.to(self.engine.device))

    def _total(self, sums: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.settings.ranks > 1:
            torch.distributed.all_reduce(sums)
        return sums

    def accumulate(self, adapter: str, batch: Share | Held, loss: Loss, sequence: int) -> Gathered:
        """See `Learner.accumulate`."""
        self._take(adapter, sequence)
        share, known = self._held[batch.index] if isinstance(batch, Held) else (batch, [])
        added = self._added.get(adapter)
        self.engine.train()
        self.engine.set_gradient_accumulation_boundary(False)
        gathered = Gathered()
        real = len(share.micro_batches) - share.filler
        with added.gathering() if added else nullcontext():
            for index, groups in enumerate(share.micro_batches):
                model = self.policy if added else self.engine
                with gathered.timed("pack"):
                    packed = self.packed(groups)
                with gathered.timed("forward"):
                    result = self._loss(model, groups, packed, known[index] if known else None, loss, share.counts)
                weight = 1.0 if index < real else 0.0
                with gathered.timed("backward"):
                    if added:
                        (result.loss * weight).backward()
                    else:  # DeepSpeed averages over the ranks, the loss is already a share of the global mean: undo it
                        self.engine.backward(result.loss * weight * self.settings.ranks)
                if index < real:
                    gathered.add(result)
        self._waiting |= added is None
        return gathered

    def step(self, adapter: str, optimizer: OptimizerSettings, sequence: int) -> Stepped:
        """See `Learner.step`. The ranks meet in the same collectives and see the same norm."""
        self._take(adapter, sequence)
        if adapter not in self._waiting_adapters():
            raise LearnerError(f"step {sequence} of adapter {adapter} has no gradient: accumulate one first")
        if added := self._added.get(adapter):
            norm = added.step(optimizer)
            return Stepped(norm, math.isfinite(norm))
        for group in self.engine.optimizer.param_groups:
            group |= optimizer.given()
            if group.get("name") == VALUE_HEAD and self.settings.value_lr is not None:
                group["lr"] = self.settings.value_lr
        own = optimizer.max_grad_norm
        clip_at(self.engine, self.settings.max_grad_norm if own is None else own)
        self._gather()
        norm = self._step()
        self._waiting = False
        return Stepped(norm, math.isfinite(norm))

    def _take(self, adapter: str, sequence: int) -> None:
        if adapter not in self._seen:
            raise LearnerError(f"there is no adapter {adapter} ({nearest(adapter, self._seen)})")
        if sequence <= self._seen[adapter]:
            raise LearnerError(f"call {sequence} was already applied (the last one was {self._seen[adapter]})")
        self._seen[adapter] = sequence

    def _waiting_adapters(self) -> list[str]:
        return [*([OWN] if self._waiting else []), *(name for name, added in self._added.items() if added.waits)]

    def add_adapter(self, adapter: str, lora: LoraSettings) -> None:
        """See `Learner.add_adapter`; only without ZeRO (see `actors.learning.adapters`)."""
        reason = None
        if self.settings.zero_stage > 0:
            reason = f"learner.zero_stage={self.settings.zero_stage} has room for one adapter alone: set it to 0"
        elif not has_adapters(self.policy):
            reason = "all weights learn: set policy.lora, so that adapters share a base that stays as it is"
        elif self.policy.value_head is not None:
            reason = "the critic's value head belongs to the own adapter: choose an algorithm without a critic"
        elif self.packed.keeps_features and {"vision", "projector"} & set(lora.targets):
            reason = "the features of frames are kept here, and would change: target attention or mlp alone"
        elif adapter in self._seen or not adapter.isidentifier():
            reason = f"{adapter!r} is taken, or is no name of letters, digits and underscores"
        if reason is not None:
            raise LearnerError(f"adapter {adapter} cannot be added: {reason}")
        self._added[adapter] = AddedAdapter(adapter, lora, self.policy, self.settings)
        self._seen[adapter] = -1

    def _gather(self) -> None:
        """Make the gradient that the ranks have accumulated that of all of them."""
        self.engine.set_gradient_accumulation_boundary(True)
        if self.settings.zero_stage >= 2:  # which reduce with every backward pass
            self.engine.optimizer.finalize_gradient_accumulation_boundary()
        else:
            self.engine.allreduce_gradients()

    def _step(self) -> float:
        """Apply the gathered gradient if it is finite; its norm before clipping (infinite: nothing was applied)."""
        if self.settings.zero_stage > 0 or self.policy_settings.dtype == "bfloat16":
            self.engine.step()  # DeepSpeed's own optimizers look before they step
            return float(self.engine.get_global_grad_norm()) if self.engine.was_step_applied() else math.inf
        # Here DeepSpeed would clip by a norm that is not finite, and does not tell it.
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in self.policy.parameters() if p.grad is not None]))
        if not math.isfinite(norm):
            self.engine.zero_grad()
            return math.inf
        self.engine.step()
        return norm

    def _loss(
        self,
        model: Any,
        groups: list[TrainingGroup],
        batch: Batch,
        known: Known | None,
        loss: Loss,
        counts: GlobalCounts,
    ) -> LossResult:
        logprobs_R_T, values_R_T = model(batch, loss.temperature)
        known = known or Known(batch.credits_R_T, None, None, None)
        seen = PolicyLossInput(
            logprobs_R_T,
            logprobs_R_T.detach() if known.old_logprobs_R_T is None else known.old_logprobs_R_T,
            batch.rollout_logprobs_R_T,
            self._reference_of(batch) if loss.reference == "loss" else None,
            known.advantages_R_T,
            batch.mask_R_T,
            values_R_T,
            known.old_values_R_T,
            known.returns_R_T,
        )
        self._learnt.add(groups, seen)
        return loss.loss(seen, counts)

    def forget_moments(self) -> None:
        """See `Learner`."""
        forget_moments(self.engine)

    def record(self, path: str) -> None:
        """See `Learner.record`."""
        with writing(Path(path)):
            self._learnt.write(Path(path))

    def _reference_of(self, batch: Batch) -> Tensor:
        if self._reference is None:
            raise LearnerError("no reference policy was kept: call freeze_reference first")
        return self._reference.logprobs(batch)

    @torch.no_grad()
    def log_probs(
        self, share: Share, temperature: float | None = None, *, reference: bool = False, adapter: str = OWN
    ) -> list[list[float]]:
        """See `Learner.log_probs`. All ranks must call it."""
        self.engine.eval()
        rows: list[list[float]] = []
        with self._added[adapter].active() if adapter != OWN else nullcontext():
            for groups in share.micro_batches:
                batch = self.packed(groups)
                logprobs_R_T = self._reference_of(batch) if reference else self.policy(batch, temperature)[0]
                lengths = batch.mask_R_T.sum(dim=1).int().tolist()
                rows += [row[:length].tolist() for row, length in zip(logprobs_R_T, lengths, strict=True)]
        return rows[: len(share.places)]

    def export(self, folder: str) -> None:
        """Write the policy in Hugging Face layout, adapters merged (rank 0 writes, all ranks gather)."""
        source = WeightSource(self.policy, self.policy_settings.dtype, EXPORT_BUCKET_BYTES)
        tensors = {name: t.cpu().clone() for bucket in source.gathered() for name, t in bucket if self.rank == 0}
        if self.rank == 0:
            with writing(Path(folder)):
                save_checkpoint(Path(folder), self.policy.body, self.encoder.processor, tensors)
                copy_files(self.folder, Path(folder))
        if self.policy_settings.lora is not None:
            with writing(Path(folder)):
                write_adapter(self.policy, Path(folder, ADAPTER_FOLDER), writes=self.rank == 0)

    def offload(self) -> None:
        """See `Learner.offload`."""
        self._aside.offload(self._reference.copied if self._reference else ())

    def reload(self) -> None:
        """See `Learner.reload`."""
        self._aside.reload()

    def save(self, folder: str) -> None:
        """See `Learner.save`; every rank writes its part, rank 0 the added adapters."""
        if waiting := self._waiting_adapters():
            raise LearnerError(f"gradients of adapter {waiting[0]} wait for a step and would be lost: step first")
        with writing(Path(folder)):
            client = {"applied": self.applied}
            self.engine.save_checkpoint(folder, CHECKPOINT_TAG, client, exclude_frozen_parameters=self._four_bit)
            if self.policy_settings.lora is not None:  # what an engine can load while the run goes on
                write_adapter(self.policy, Path(folder, ADAPTER_FOLDER), writes=self.rank == 0)
            if self._added and self.rank == 0:
                states = {name: added.state() | {"seen": self._seen[name]} for name, added in self._added.items()}
                torch.save(states, Path(folder, ADDED_FILE))
            self._random_state(folder).write_text(json.dumps({"torch": torch.get_rng_state().tolist()}))

    def load(self, folder: str, universal: str | None = None) -> int:
        """See `Learner.load`.

        Args:
            folder: where `save` wrote.
            universal: the same in DeepSpeed's universal layout, for another number of ranks than wrote it. A rank that
                did not exist then goes on with the random state it has.
        """
        self._load_added(Path(folder, ADDED_FILE))
        self.engine._config.load_universal_checkpoint = universal is not None  # which DeepSpeed reads at every load
        every = not self._four_bit
        _, client = self.engine.load_checkpoint(universal or folder, tag=CHECKPOINT_TAG, load_module_strict=every)
        self._seen[OWN], self._waiting = int(client["applied"]), False
        if (path := self._random_state(folder)).is_file():
            state = json.loads(path.read_text())
            torch.set_rng_state(torch.from_numpy(np.array(state["torch"], dtype=np.uint8)))
        return max(self._seen.values())

    def _load_added(self, path: Path) -> None:
        device = str(self.engine.device)
        kept: dict[str, Any] = torch.load(path, map_location=device, weights_only=True) if path.is_file() else {}
        if strangers := self._added.keys() - kept.keys():
            raise LearnerError(f"{path.parent} holds no adapter {', '.join(sorted(strangers))}, which was added here")
        for name, state in kept.items():
            if name not in self._added:
                self.add_adapter(name, LoraSettings.model_validate(state["lora"]))
            self._added[name].load_state(state)
            self._seen[name] = state["seen"]

    def _random_state(self, folder: str) -> Path:
        return Path(folder, f"random_rank{self.rank}.json")
