"""The weight transports that are one broadcast per bucket: gloo through host memory, NCCL from GPU to GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from actors.sync.transport import Bucket, Meeting, packed, unpacked
from extension import NoOptions
from failures import EngineError
from recipe import Recipe

if TYPE_CHECKING:  # a recipe is checked without torch
    from torch import Tensor


class GlooTransport:
    """Serves every placement. Joining returns when all members have; torch raises `DistStoreError` on a timeout."""

    Settings = NoOptions
    device: ClassVar[str] = "cpu"

    @staticmethod
    def refusal(recipe: Recipe) -> str | None:
        """See `WeightTransport`."""
        return None

    def __init__(self, meeting: Meeting, member: int) -> None:
        """See `WeightTransport`."""
        from torch.distributed import TCPStore

        self._timeout = timedelta(seconds=meeting.timeout_s)
        # The server of the group lives as long as the sender holds the store.
        self._store = TCPStore(
            meeting.host, meeting.port, meeting.members, member == 0, self._timeout, wait_for_workers=False
        )
        self._group = self._joined(member, meeting.members)

    def _joined(self, member: int, members: int) -> Any:
        from torch.distributed import ProcessGroupGloo

        return ProcessGroupGloo(self._store, member, members, self._timeout)

    def send(self, tensors: Sequence[Tensor], dtype: str) -> None:
        """See `WeightTransport`."""
        self._broadcast(packed(tensors, dtype, self.device))

    def receive(self, bucket: Bucket) -> list[Tensor]:
        """See `WeightTransport`."""
        import torch

        buffer = torch.empty(sum(bucket.sizes), dtype=getattr(torch, bucket.dtype), device=self.device)
        self._broadcast(buffer)
        return unpacked(buffer, bucket)

    def abandon(self) -> None:
        """See `WeightTransport`: the connections close once nobody waits in them, in a thread that may wait for that.

        A wait for a process that ended is ended by the operating system. A wait for a node that vanished without
        closing its connections is ended by the time limit alone: gloo's own `abort` and `shutdown` do not end it.
        """
        group, self._group = self._group, None
        threading.Thread(target=lambda held: None, args=(group,), daemon=True).start()

    def _broadcast(self, buffer: Tensor) -> None:
        if self._group is None:
            raise EngineError("sending was abandoned, since an engine is gone")
        self._group.broadcast(buffer, 0).wait(self._timeout)


class NcclTransport(GlooTransport):
    """Never leaves the GPUs; refuses two members on one GPU."""

    device = "cuda"

    @staticmethod
    def refusal(recipe: Recipe) -> str | None:
        """See `WeightTransport`."""
        learner, rollout = recipe.learner, recipe.rollout
        if learner.gpus >= 1 and rollout.gpus >= 1:
            return None
        return (
            "a whole GPU for every learner rank and engine, and this recipe has "
            f"learner.gpus={learner.gpus:g} and rollout.gpus={rollout.gpus:g}"
        )

    def abandon(self) -> None:
        """See `WeightTransport`; no socket tells NCCL that a member is gone. Not run by us."""
        self._group.abort()

    def _joined(self, member: int, members: int) -> Any:
        from torch.distributed import ProcessGroupNCCL  # builds of torch for CPU have none

        options = ProcessGroupNCCL.Options()
        options._timeout = self._timeout
        return ProcessGroupNCCL(self._store, member, members, options)
