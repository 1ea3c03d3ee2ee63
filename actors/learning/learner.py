"""`Learner`: one rank of the DeepSpeed learner group, made to run as a Ray actor.

It turns groups into packed batches, takes optimizer steps, and gives weights away. It knows losses and log-probs; how
groups came to be and what they were scored with is not its business.
"""

from __future__ import annotations

import copy
import json
import math
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import deepspeed
import numpy as np
import torch
from torch import Tensor
from transformers.integrations import HfDeepSpeedConfig

from actors.errors import LearnerError
from actors.learning.deepspeed_config import VALUE_HEAD, deepspeed_config, make_optimizer
from actors.learning.deepspeed_op import load_shared_memory_op
from actors.settings import LearnerSettings
from actors.sync.source import WeightSource
from actors.sync.transport import Bucket, Meeting, join
from data.reasoning.reasoning import Variant, demonstration
from data.sample import DrivingSample
from policies.batch import Batch, TrainingGroup, TrainingResponse, pack
from policies.checkpoint import save_checkpoint
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, policy_loss, supervised_loss, value_loss
from policies.model import Policy, ReferencePolicy, has_adapters, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import AlgorithmSettings, PolicySettings
from policies.views import BLANK, views_of
from policies.vision import FrameFeatures, keeps_features

Objective = Literal["policy", "supervised"]
CHECKPOINT_TAG = "learner"
EXPORT_BUCKET_BYTES = 64 * 2**20
"""Under ZeRO-3 so much is gathered at once."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step's share of one rank. All ranks get equally many micro-batches."""

    sequence: int
    """Number of the step; a number that was already applied is refused, so a retried call cannot learn twice."""
    objective: Objective
    micro_batches: list[list[TrainingGroup]]
    counts: GlobalCounts
    lr: float
    filler: int = 0
    """How many of the last micro-batches only keep this rank in step: they add no gradient."""


@dataclass(slots=True)
class StepMetrics:
    """Sums over this rank's share of a step; the caller divides by the global counts."""

    loss: float = 0.0
    grad_norm: float = 0.0
    applied: bool = True
    """False: the gradient was not finite, on every rank alike, and no weight was changed."""
    token_sums: dict[str, float] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, result: LossResult) -> None:
        """Add one micro-batch."""
        self.loss += float(result.loss.detach())
        for name, value in result.token_sums.items():
            self.token_sums[name] = self.token_sums.get(name, 0.0) + value
        for name, value in result.maxima.items():
            self.maxima[name] = float(np.maximum(self.maxima.get(name, 0.0), value))  # keeps NaN, unlike max


class Learner:
    """One rank: a DeepSpeed engine around a `Policy`."""

    def __init__(
        self,
        rank: int,
        folder: str,
        policy: PolicySettings,
        algorithm: AlgorithmSettings,
        settings: LearnerSettings,
        temperature: float,
        seed: int,
    ) -> None:
        """Remember what to load; `start` loads it. `temperature` is the rollout engines' sampling temperature."""
        self.rank, self.folder, self.seed = rank, folder, seed
        self.policy_settings, self.algorithm, self.settings = policy, algorithm, settings
        self.temperature = temperature
        self.applied = -1
        self._reference: ReferencePolicy | None = None
        self._config = deepspeed_config(settings, policy.dtype)

    def address(self) -> tuple[str, int]:
        """A host and a free port on this actor's node, for a group to meet at."""
        host = socket.gethostbyname(socket.gethostname()) if self.settings.gpus else "127.0.0.1"
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, probe.getsockname()[1]

    def start(self, host: str, port: int) -> float:
        """Join the learner group and load the model; returns the seconds it took. All ranks must call it."""
        began = time.time()
        self._join(host, port)
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
        self.encoder = PromptEncoder(load_processor(self.folder, self.policy_settings), self.policy_settings)
        # Not under ZeRO-3, where all ranks must run the tower together: one may have kept what another has not.
        keeps = self.settings.zero_stage < 3 and keeps_features(self.policy.body)
        pixels = self.encoder.image_tensors
        self._image_inputs = FrameFeatures(self.policy.body, pixels) if keeps else pixels
        return time.time() - began

    def model(self) -> str:
        """What is trained, in words: two learners whose weights fit each other's checkpoints say the same."""
        sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in self.policy.parameters()]
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

    def _join(self, host: str, port: int) -> None:
        os.environ |= {
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.settings.ranks),
            "LOCAL_RANK": "0" if torch.cuda.is_available() else str(self.rank),  # Ray shows an actor only its own GPU
            "LOCAL_SIZE": str(self.settings.ranks),
        }
        if not torch.cuda.is_available():
            load_shared_memory_op()
        deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
        # DeepSpeed's op on CPU maps 66 MiB of shared memory for each rank and leaves its file behind for ever. Once all
        # ranks have opened it, the name may go; the memory then ends with the processes.
        torch.distributed.barrier()
        name = f"deepspeed_allreduce_buffer_{os.getuid()}_{host}_{port}_{self.rank}"
        Path("/dev/shm", name).unlink(missing_ok=True)

    def freeze_reference(self) -> None:
        """Take the policy as it is now as the reference of the KL term; does nothing when the term is off.

        A policy with adapters has the model below them for its reference, without what a warm start taught them.
        """
        if self.algorithm.kl_beta == 0:
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

    def update(self, step: Step) -> StepMetrics:
        """Take one optimizer step over this rank's micro-batches.

        A gradient that is not finite, also through one rank's loss, changes no weight on any rank: the ranks meet in
        the same collectives and see the same norm.

        Raises:
            LearnerError: the step was already taken.
        """
        if step.sequence <= self.applied:
            raise LearnerError(f"step {step.sequence} was already applied (the last one was {self.applied})")
        began = time.time()
        for group in self.engine.optimizer.param_groups:
            head = group.get("name") == VALUE_HEAD and self.settings.value_lr is not None
            group["lr"] = self.settings.value_lr if head else step.lr
        self.engine.train()
        metrics = StepMetrics()
        last = len(step.micro_batches) - 1
        for index, groups in enumerate(step.micro_batches):
            self.engine.set_gradient_accumulation_boundary(index == last)
            result = self._loss(groups, step)
            counts_for_nothing = index > last - step.filler
            # DeepSpeed averages gradients over the ranks, the loss is already a share of the global mean: undo it.
            weight = 0.0 if counts_for_nothing else float(self.settings.ranks)
            self.engine.backward(result.loss * weight)
            if not counts_for_nothing:
                metrics.add(result)
        self.applied = step.sequence
        metrics.grad_norm = self._step()
        metrics.applied = math.isfinite(metrics.grad_norm)
        metrics.seconds = time.time() - began
        return metrics

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

    def _loss(self, groups: list[TrainingGroup], step: Step) -> LossResult:
        batch = self.packed(groups)
        logprobs_R_T: Tensor
        values_R_T: Tensor | None
        if step.objective == "supervised":
            logprobs_R_T, _ = self.engine(batch, 1.0)
            return supervised_loss(logprobs_R_T, batch.mask_R_T, step.counts)
        logprobs_R_T, values_R_T = self.engine(batch)
        reference = None
        if self._reference is not None and self.algorithm.kl_in == "loss":
            reference = self._reference.logprobs(batch)
        # In the first update on a batch, the policy it was first trained on is the policy of this very pass.
        old_R_T = logprobs_R_T.detach() if batch.old_logprobs_R_T is None else batch.old_logprobs_R_T
        loss_input = PolicyLossInput(
            logprobs_R_T,
            old_R_T,
            batch.rollout_logprobs_R_T,
            reference,
            batch.advantages_R_T,
            batch.mask_R_T,
        )
        result = policy_loss(loss_input, self.algorithm, step.counts)
        if values_R_T is None or batch.values_R_T is None or batch.returns_R_T is None:
            return result
        clip, weight = self.algorithm.value_clip, self.algorithm.value_weight
        critic = value_loss(values_R_T, batch.values_R_T, batch.returns_R_T, batch.mask_R_T, clip, step.counts)
        return result.plus(critic, weight)

    def packed(self, groups: Sequence[TrainingGroup]) -> Batch:
        """Groups as one micro-batch on this rank's device.

        Where the other ranks may show images and these groups show none, a black one goes along, as a prompt without
        responses: ZeRO reduces gradients in the order of their arrival, so that all ranks must compute the same way.
        """
        pad = self.encoder.processor.tokenizer.pad_token_id or 0
        towers_meet = self.settings.ranks > 1 and not isinstance(self._image_inputs, FrameFeatures)
        if towers_meet and not any(group.images for group in groups):
            groups = [*groups, TrainingGroup((BLANK,), self.encoder.blank_prompt(), ())]
        batch = pack(
            groups,
            self._image_inputs,
            pad_id=pad,
            shared_prefix=self.policy.shares_prefix,
            prompt_positions=self.policy.prompt_positions,
        )
        return batch.to(self.engine.device)

    @torch.no_grad()
    def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, reference: bool = False
    ) -> list[list[float]]:
        """Log-probabilities of every response's tokens under the current weights. All ranks must call it.

        Args:
            groups: prompts with their responses.
            temperature: that of the distribution; None: the rollouts'.
            reference: under the reference policy instead, at the rollouts' temperature.
        """
        self.engine.eval()
        batch = self.packed(groups)
        if reference:
            assert self._reference is not None, "kl_beta is 0, so there is no reference policy"
            logprobs_R_T = self._reference.logprobs(batch)
        else:
            logprobs_R_T, _ = self.policy(batch, temperature)
        return _rows(logprobs_R_T, batch)

    @torch.no_grad()
    def assess(self, groups: Sequence[TrainingGroup]) -> list[tuple[list[float], list[float]]]:
        """What policy and critic now say of every response: log-probabilities and values (zeros without a critic).

        At the rollouts' temperature. All ranks must call it.
        """
        self.engine.eval()
        batch = self.packed(groups)
        logprobs_R_T, values_R_T = self.policy(batch)
        values_R_T = torch.zeros_like(logprobs_R_T) if values_R_T is None else values_R_T
        return list(zip(_rows(logprobs_R_T, batch), _rows(values_R_T, batch), strict=True))

    def tokens_until(self, responses: Sequence[TrainingResponse]) -> list[list[int]]:
        """For each response, how many tokens it takes to write up to each of its `gain_ends`."""
        return [self.encoder.tokens_until(response.token_ids, response.gain_ends) for response in responses]

    def prepare_sync(self, bucket_bytes: float, *, adapters_only: bool = False) -> list[Bucket]:
        """List what will be sent."""
        dtype = self.policy_settings.dtype
        self._source = WeightSource(self.policy, dtype, bucket_bytes, adapters_only=adapters_only)
        return self._source.buckets()

    def join_weight_channel(self, meeting: Meeting) -> None:
        """Join the weight transport as its sender (rank 0 of the learners only)."""
        self._channel = join(meeting, 0)

    def send_weights(self) -> list[int]:
        """Send every bucket (rank 0; the others help to gather); returns the checksums of what was sent."""
        dtype = self.policy_settings.dtype
        checksums = []
        for bucket in self._source.gathered():
            if self.rank == 0:
                checksums.append(self._channel.send([tensor for _, tensor in bucket], dtype))
        return checksums

    def export(self, folder: str) -> None:
        """Write the policy in Hugging Face layout, adapters merged (rank 0 writes, all ranks gather)."""
        source = WeightSource(self.policy, self.policy_settings.dtype, EXPORT_BUCKET_BYTES)
        tensors = {name: t.cpu().clone() for bucket in source.gathered() for name, t in bucket if self.rank == 0}
        if self.rank == 0:
            save_checkpoint(Path(folder), self.policy.body, self.encoder.processor, tensors)

    def save(self, folder: str) -> None:
        """Write weights, optimizer, step number and random state for `load`."""
        self.engine.save_checkpoint(folder, tag=CHECKPOINT_TAG, client_state={"applied": self.applied})
        state = {"torch": torch.get_rng_state().tolist()}
        self._random_state(folder).write_text(json.dumps(state))

    def load(self, folder: str, universal: str | None = None) -> int:
        """Read what `save` wrote; returns the number of the last applied step.

        Args:
            folder: where `save` wrote.
            universal: the same in DeepSpeed's universal layout, for another number of ranks than wrote it. A rank that
                did not exist then goes on with the random state it has.
        """
        self.engine._config.load_universal_checkpoint = universal is not None  # which DeepSpeed reads at every load
        _, client = self.engine.load_checkpoint(universal or folder, tag=CHECKPOINT_TAG)
        self.applied = int(client["applied"])
        if (path := self._random_state(folder)).is_file():
            state = json.loads(path.read_text())
            torch.set_rng_state(torch.from_numpy(np.array(state["torch"], dtype=np.uint8)))
        return self.applied

    def _random_state(self, folder: str) -> Path:
        return Path(folder, f"random_rank{self.rank}.json")

    def demonstrations(self, samples: Sequence[DrivingSample], variant: Variant = "simple") -> list[TrainingGroup]:
        """Samples with their true answers as groups of one response; no engine sampled them, so ids are made here.

        A sample without the reasoning that the variant demonstrates gives no group.
        """
        groups = []
        for sample in samples:
            if (text := demonstration(sample, variant)) is None:
                continue
            answer = self.encoder.answer_ids(text)
            response = TrainingResponse(answer, rollout_logprobs=(0.0,) * len(answer), advantages=(1.0,) * len(answer))
            groups.append(TrainingGroup(views_of(sample), self.encoder.prompt_ids(sample), (response,)))
        return groups


def _rows(values_R_T: Tensor, batch: Batch) -> list[list[float]]:
    """Each response's own part of a tensor over the batch."""
    lengths = batch.mask_R_T.sum(dim=1).int().tolist()
    return [row[:length].tolist() for row, length in zip(values_R_T, lengths, strict=True)]
