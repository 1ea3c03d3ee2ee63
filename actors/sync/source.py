"""The learner's side of the weight sync: which weights exist, and each bucket's values, gathered only when needed.

Under ZeRO-3 a bucket is gathered on all ranks, sent, and let go again: never the whole model on one rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn

from actors.sync.checksums import checksum, derived
from actors.sync.transport import Bucket, Meeting, Sent, WeightTransport, cut, join
from failures import LearnerError
from policies.checkpoint import disk_name, plain_name
from policies.four_bit import shape_of, unpacked
from policies.heads.rows import ROWS, grown
from policies.lora import adapted_layers, adapter_name, merged_weight
from policies.model import Policy
from policies.settings import PolicySettings


class WeightSource:
    """The weights the policy acts with, in buckets of about `bucket_bytes`: adapters merged, or the adapters alone."""

    def __init__(self, policy: Policy, dtype: str, bucket_bytes: float, *, adapters_only: bool = False) -> None:
        """List the policy's weights once; names and shapes never change during a run."""
        self._policy, self._dtype, self._adapters_only = policy, dtype, adapters_only
        self._adapted = {f"{name}.base_layer.weight": layer for name, layer in adapted_layers(policy.model).items()}
        self._grown = {f"{name}.weight": matrix for name, matrix in grown(policy.model).items()}
        rows = {f"{name}.{ROWS}" for name in grown(policy.model)}
        named = ((n, p) for n, p in policy.model.named_parameters() if n not in rows)
        self._parameters = {n: p for n, p in named if (".lora_" in n) == adapters_only}
        width = getattr(torch, dtype).itemsize
        sizes = {name: width * math.prod(full_shape(p)) for name, p in self._parameters.items()}
        self._groups = cut(sizes, bucket_bytes)

    def buckets(self) -> list[Bucket]:
        """What will be sent: on-disk names and full shapes, bucket by bucket."""
        return [
            Bucket(
                names=tuple(map(self._disk_name, names)),
                shapes=tuple(full_shape(self._parameters[name]) for name in names),
                dtype=self._dtype,
            )
            for names in self._groups
        ]

    def gathered(self) -> Iterator[list[tuple[str, Tensor]]]:
        """Each bucket's (in-memory name, value), valid until the next is asked for; all ranks must iterate."""
        for names in self._groups:
            parts = [part for name in names for part in self._parts(name)]
            with whole(parts):
                yield [(plain_name(name), self._value(name)) for name in names]

    def _disk_name(self, name: str) -> str:
        return adapter_name(name) if self._adapters_only else disk_name(plain_name(name), self._policy.model_type)

    def _parts(self, name: str) -> list[nn.Parameter]:
        layer: nn.Module | None = self._adapted.get(name) or self._grown.get(name)
        return list(layer.parameters()) if layer is not None else [self._parameters[name]]

    def _value(self, name: str) -> Tensor:
        if (matrix := self._grown.get(name)) is not None:
            return matrix.whole().detach()
        layer = self._adapted.get(name)
        return (merged_weight(layer) if layer is not None else unpacked(self._parameters[name])).detach()


class WeightSender:
    """Methods of a learner rank, the other side of `WeightReceiver`; rank 0 sends, all help to gather."""

    rank: int
    policy: Policy
    policy_settings: PolicySettings
    channel: WeightTransport
    source: WeightSource

    def prepare_sync(self, bucket_bytes: float, adapters_only: bool) -> list[Bucket]:
        """List what every sync will send; the same on every rank."""
        dtype = self.policy_settings.dtype
        self.source = WeightSource(self.policy, dtype, bucket_bytes, adapters_only=adapters_only)
        return self.source.buckets()

    def join_weight_channel(self, meeting: Meeting) -> None:
        """Join the weight transport as its sender (rank 0 alone)."""
        self.channel = join(meeting, 0)

    def abandon_weights(self) -> None:
        """End a `send_weights` that waits for a receiver which is gone; called from another thread."""
        self.channel.abandon()

    def send_weights(self) -> Sent:
        """Send every bucket, its checksum taken here, before it travels.

        Raises:
            LearnerError: the transport failed.
        """
        dtype, checksums, failure = self.policy_settings.dtype, list[int](), None
        kind: torch.dtype = getattr(torch, dtype)
        began, send_s = time.monotonic(), 0.0
        for bucket in self.source.gathered():  # to the end, also when a receiver is gone: the other ranks gather too
            if self.rank == 0 and failure is None:
                tensors = [tensor.to(kind) for _, tensor in bucket]
                checksums.append(derived(map(checksum, tensors)))
                given = time.monotonic()
                try:
                    self.channel.send(tensors, dtype)
                except Exception as error:  # each transport has its own
                    failure = error
                send_s += time.monotonic() - given
        if failure is not None:
            try:
                self.channel.abandon()  # the other receivers would wait for the next bucket
            finally:
                raise LearnerError(f"the weights could not be sent: {type(failure).__name__}: {failure}") from failure
        return Sent(checksums, time.monotonic() - began - send_s, send_s)


def full_shape(parameter: Any) -> tuple[int, ...]:
    """A parameter's shape before ZeRO-3 sharded it away, or it was packed into 4 bits."""
    return tuple(getattr(parameter, "ds_shape", shape_of(parameter)))


@contextmanager
def whole(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Make ZeRO-3 parameters whole on every rank for the duration; does nothing for others."""
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
        yield
