"""The process group that carries weights from learner rank 0 to the engine workers. Knows tensors, not models."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroupGloo, TCPStore

Backend = Literal["gloo", "nccl"]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Weights that travel in one collective: on-disk names and shapes, packed one after another."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str

    @property
    def sizes(self) -> list[int]:
        """Elements of each tensor."""
        return [torch.Size(shape).numel() for shape in self.shapes]

    @property
    def bytes(self) -> int:
        """Size on the way."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return sum(self.sizes) * dtype.itemsize


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where a group meets and how long its members wait for each other."""

    host: str
    port: int
    world: int
    backend: Backend
    timeout_s: float


class WeightChannel:
    """One member of a broadcast group; rank 0 sends."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        """Join the group; returns when all members have. Raises torch's `DistStoreError` on a timeout."""
        timeout = timedelta(seconds=meeting.timeout_s)
        store = TCPStore(meeting.host, meeting.port, meeting.world, rank == 0, timeout, wait_for_workers=False)
        self._group = _group(meeting, store, rank, timeout)
        self._store = store  # the server of the group lives as long as rank 0 holds it
        self._timeout = timeout
        self._device = "cuda" if meeting.backend == "nccl" else "cpu"

    def send(self, tensors: list[Tensor], dtype: str) -> int:
        """Broadcast tensors as one buffer; returns the checksum of what was meant to be sent."""
        buffer = torch.cat([tensor.detach().to(self._device, getattr(torch, dtype)).flatten() for tensor in tensors])
        receipt = checksum(buffer)
        self._broadcast(buffer)
        return receipt

    def receive(self, bucket: Bucket) -> tuple[list[Tensor], int]:
        """The tensors of a bucket, and the checksum of what arrived."""
        buffer = torch.empty(sum(bucket.sizes), dtype=getattr(torch, bucket.dtype), device=self._device)
        self._broadcast(buffer)
        parts = buffer.split(bucket.sizes)
        return [part.view(shape) for part, shape in zip(parts, bucket.shapes, strict=True)], checksum(buffer)

    def _broadcast(self, buffer: Tensor) -> None:
        self._group.broadcast(buffer, 0).wait(self._timeout)


def _group(meeting: Meeting, store: TCPStore, rank: int, timeout: timedelta) -> Any:
    if meeting.backend == "gloo":
        return ProcessGroupGloo(store, rank, meeting.world, timeout)
    from torch.distributed import ProcessGroupNCCL  # builds of torch for CPU have none

    options = ProcessGroupNCCL.Options()
    options._timeout = timeout
    return ProcessGroupNCCL(store, rank, meeting.world, options)


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a tensor's bytes."""
    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
