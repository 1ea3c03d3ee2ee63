"""The process group of the learner ranks: where they meet, and how each joins. Knows nothing of Ray."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import deepspeed
import torch

from actors.learning.deepspeed_op import load_shared_memory_op


def free_address(host: str) -> tuple[str, int]:
    """An address of this machine and a free port of it, for a group to meet at."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def join_ranks(rank: int, ranks: int, host: str, port: int) -> None:
    """Meet the other ranks there; all must call it."""
    os.environ |= {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": "0" if torch.cuda.is_available() else str(rank),  # Ray shows an actor only its own GPU
        "LOCAL_SIZE": str(ranks),
    }
    if not torch.cuda.is_available():
        load_shared_memory_op()
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo")
    # DeepSpeed's op on CPU maps 66 MiB of shared memory for each rank and leaves its file behind for ever. Once all
    # ranks have opened it, the name may go; the memory then ends with the processes.
    torch.distributed.barrier()
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{host}_{port}_{rank}"
    Path("/dev/shm", name).unlink(missing_ok=True)
