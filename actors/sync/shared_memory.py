"""`SharedMemoryTransport`: weights are written once into memory that the engines of this machine read.

The memory is anonymous (`memfd_create`): it has no name that could be taken, and goes with the processes that hold it,
however they end. Two buckets are kept, so that the next is written while the engines still take the one before.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import weakref
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from actors.sync.transport import Bucket, Meeting, unpacked
from extension import NoOptions
from failures import EngineError
from recipe import Recipe

if TYPE_CHECKING:  # a recipe is checked without torch
    from torch import Tensor

SLOTS = 2
ABANDONED = "null"
"""Stands where a bucket would be."""
KEPT = 4
"""Buffers that an engine keeps between buckets and syncs."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SharedMemoryTransport:
    """A `WeightTransport`. Joining returns at once; torch raises `DistStoreError` where a member keeps another waiting.

    The members tell each other over a store what was written and what was read; the bytes never leave memory.
    """

    Settings = NoOptions

    @staticmethod
    def refusal(recipe: Recipe) -> str | None:
        """Where a run starts Ray itself and waits for no nodes, all is on its machine; else nobody knows before."""
        if not BOOT_ID.is_file():
            return "Linux"
        if recipe.cluster.wait_for_nodes:
            return "a run that no nodes join, and this one has cluster.wait_for_nodes=true"
        joined = recipe.cluster.address or os.environ.get("RAY_ADDRESS")
        return None if joined is None else f"a run that starts Ray on its own machine, and this one joins {joined}"

    def __init__(self, meeting: Meeting, member: int) -> None:
        """See `WeightTransport`.

        Raises:
            EngineError: this member is on another machine than the sender.
        """
        from torch.distributed import TCPStore

        self._member, self._number, self._meeting = member, 0, meeting
        self._awaited, self._abandoned = list[str](), False
        self._timeout = timedelta(seconds=meeting.timeout_s)
        # The server of the store lives as long as the sender holds it.
        self._store = TCPStore(
            meeting.host, meeting.port, meeting.members, member == 0, self._timeout, wait_for_workers=False
        )
        self._slots: dict[int, _Memory] = {}
        self._buffers = _Buffers()
        machine = BOOT_ID.read_text().strip()
        self._receivers = range(1, meeting.members)
        if member == 0:
            self._store.set("sender", json.dumps([machine, os.getpid()]))
            return
        self._store.set(_joined(member), "")
        sender_on, self._sender = json.loads(self._store.get("sender"))
        if sender_on != machine:
            raise EngineError("sync.transport=shared_memory reaches one machine, and an engine is on another: use gloo")

    def send(self, tensors: Sequence[Tensor], dtype: str) -> None:
        """See `WeightTransport`."""
        import torch

        self._number += 1
        before = self._number - SLOTS
        self._awaited = [_taken(before, one) if before > 0 else _joined(one) for one in self._receivers]
        self._end_if_abandoned()
        self._store.wait(self._awaited, self._timeout)
        self._end_if_abandoned()
        if before > 0:
            for key in (_written(before), *self._awaited):
                self._store.delete_key(key)
        kind: torch.dtype = getattr(torch, dtype)
        size = sum(tensor.numel() for tensor in tensors) * kind.itemsize
        memory = self._slots.get(self._number % SLOTS)
        if memory is None or memory.size < size:
            memory = self._slots[self._number % SLOTS] = _Memory.made(max(size, 1))  # no memory is of no bytes
        written = torch.frombuffer(memory.map, dtype=kind, count=size // kind.itemsize)
        at = 0
        for tensor in tensors:
            written[at : at + tensor.numel()].view(tensor.shape).copy_(tensor.detach())
            at += tensor.numel()
        self._store.set(_written(self._number), json.dumps([memory.file.fileno(), memory.made_as, memory.size]))

    def receive(self, bucket: Bucket) -> list[Tensor]:
        """See `WeightTransport`; a copy, since an engine may hold on to a tensor until its layer is whole."""
        import torch

        self._number += 1
        self._store.wait([_written(self._number)], self._timeout)
        if (written := json.loads(self._store.get(_written(self._number)))) is None:
            raise EngineError("sync.transport=shared_memory: the learner stopped sending, since an engine is gone")
        file, made_as, size = written
        memory = self._slots.get(self._number % SLOTS)
        if memory is None or memory.made_as != made_as:
            memory = self._slots[self._number % SLOTS] = _Memory.of(self._sender, file, made_as, size)
        kind: torch.dtype = getattr(torch, bucket.dtype)
        arrived = self._buffers.take(sum(bucket.sizes) * kind.itemsize).view(kind)
        arrived.copy_(torch.frombuffer(memory.map, dtype=kind, count=len(arrived)))
        self._store.set(_taken(self._number, self._member), "")
        return unpacked(arrived, bucket)

    def _end_if_abandoned(self) -> None:
        if self._abandoned:
            raise EngineError("sync.transport=shared_memory: sending was abandoned, since an engine is gone")

    def abandon(self) -> None:
        """See `WeightTransport`; with a client of its own, since one that waits holds the store's other calls up."""
        from torch.distributed import TCPStore

        where = self._meeting
        store = TCPStore(where.host, where.port, where.members, False, self._timeout, wait_for_workers=False)
        self._abandoned = True  # a `send` that begins now sees it; one that waits already has said for what
        for key in self._awaited:
            store.set(key, "")
        for number in (self._number, self._number + 1):
            store.compare_set(_written(number), "", ABANDONED)


class _Memory:
    """Shared memory of a size in bytes, mapped into this process; `made_as` numbers what a sender made."""

    _made = itertools.count()

    def __init__(self, file: BinaryIO, made_as: int, size: int) -> None:
        self.file, self.made_as, self.size = file, made_as, size
        self.map = mmap.mmap(file.fileno(), size)

    @classmethod
    def made(cls, size: int) -> _Memory:
        """New memory, which other processes find as long as its file is open here."""
        file = os.fdopen(os.memfd_create("weights"), "r+b")
        file.truncate(size)
        return cls(file, next(cls._made), size)

    @classmethod
    def of(cls, process: int, file: int, made_as: int, size: int) -> _Memory:
        """The memory that another process made.

        Raises:
            EngineError: this process may not see the other's.
        """
        try:
            with open(f"/proc/{process}/fd/{file}", "r+b") as opened:
                return cls(opened, made_as, size)
        except OSError as error:
            raise EngineError(
                f"sync.transport=shared_memory: an engine cannot read the learner's memory ({error}); use gloo"
            ) from error


class _Buffers:
    """Memory for what arrived, taken again once no tensor is in it: fresh pages cost more than the copy itself."""

    def __init__(self) -> None:
        self._free: deque[bytearray] = deque(maxlen=KEPT)

    def take(self, size: int) -> Tensor:
        """A tensor of `size` bytes; its memory comes back when the last view of it is gone."""
        import torch

        fitting = [buffer for buffer in self._free if len(buffer) >= size]
        buffer = min(fitting, key=len) if fitting else bytearray(size)
        if fitting:
            self._free.remove(buffer)
        array = np.frombuffer(buffer, np.uint8, count=size)
        weakref.finalize(array, self._free.append, buffer).atexit = False
        return torch.from_numpy(array)


def _joined(member: int) -> str:
    return f"joined-{member}"


def _written(number: int) -> str:
    return f"written-{number}"


def _taken(number: int, member: int) -> str:
    return f"taken-{number}-{member}"
