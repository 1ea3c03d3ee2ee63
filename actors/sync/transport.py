"""`WeightTransport`: how weights get from learner rank 0 to the engines' workers; and which class a recipe names.

A transport knows tensors, not models. Whether the right weights arrived is said by receipts, which are filled in above
it (`actors.sync.receiver`). No transport is imported before a recipe names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from extension import ExtensionError, resolve, validated
from recipe import Recipe

if TYPE_CHECKING:  # a recipe is checked without torch
    from torch import Tensor

TRANSPORTS: Mapping[str, str] = {
    "nccl": "actors.sync.collective:NcclTransport",
    "shared_memory": "actors.sync.shared_memory:SharedMemoryTransport",
    "gloo": "actors.sync.collective:GlooTransport",
}
"""What `sync.transport` may name beside `auto` and `module:Class`; `auto` is the first that serves the placement."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Weights that travel together: on-disk names and shapes, packed one after another."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str

    @property
    def sizes(self) -> list[int]:
        """Elements of each tensor."""
        return [math.prod(shape) for shape in self.shapes]

    @property
    def bytes(self) -> int:
        """Size on the way."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return sum(self.sizes) * dtype.itemsize


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the members of a transport meet. Every member gets the same one, over Ray and over vLLM's own calls."""

    transport: str
    """`gloo`, `nccl`, or `module:Class`."""
    host: str
    """The sender's node."""
    port: int
    """Free on that node, so no two meetings share it; one that needs no port may name a file or a segment after it."""
    members: int
    """The sender, which is member 0, and every engine worker."""
    timeout_s: float
    options: dict[str, Any] = field(default_factory=dict)
    """`sync.options`."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one engine worker received and installed."""

    checksums: tuple[int, ...]
    """One per bucket, of the bytes that arrived (`actors.sync.checksums`)."""
    compared: int
    """Installed parameters that could be compared with what arrived; like the next two, empty where this sync was not
    one to compare (`sync.compare_every`)."""
    incomparable: int
    """Weights that arrived and have no plain counterpart: the engine fuses, packs, shards or quantises them."""
    differing: tuple[str, ...]
    """The compared ones that hold another value."""
    receive_s: float = field(default=0.0, compare=False)
    """Seconds until all had arrived, checksums included."""
    install_s: float = field(default=0.0, compare=False)
    """Seconds of the engine's own work with what had arrived, before anything was compared."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a learner rank sent."""

    checksums: list[int]
    """One per bucket, taken before it travelled; empty on all ranks but the first."""
    gather_s: float = 0.0
    """Seconds in which the ranks put whole weights together, dtypes and checksums included."""
    send_s: float = 0.0
    """Seconds in which the transport had them; what the receivers take is in it, where it waits for them."""


class WeightTransport(Protocol):
    """One member of a group in which member 0 sends and all others receive.

    `sync.transport: my_package.my_transport:MyTransport` names a class of yours. Derive from nothing. Methods block;
    they are called from a thread or a worker process, where that does no harm. Each must raise when it has waited for
    `meeting.timeout_s`. `tests/unit/test_transport_contract.py` holds a transport to every sentence here. One that
    writes weights once for many readers (shared memory, a file) writes in `send` and maps in `receive`.
    """

    Settings: ClassVar[type[BaseModel]]
    """A pydantic model of what this transport alone takes: `sync.options` of the recipe; forbid extra keys."""

    @staticmethod
    def refusal(recipe: Recipe) -> str | None:
        """What a placement would have to have for this transport, as the end of `it needs ...`; None: it serves it."""
        ...

    def __init__(self, meeting: Meeting, member: int) -> None:
        """Join as a member; `meeting.options` are valid `Settings`.

        A member that never comes ends in an error: here, or at the latest in the first `send` or `receive`.
        """
        ...

    def send(self, tensors: Sequence[Tensor], dtype: str) -> None:
        """Send the tensors of one bucket to every receiver, in `dtype` and in this order (member 0 alone)."""
        ...

    def receive(self, bucket: Bucket) -> list[Tensor]:
        """The tensors of the next bucket, of its shapes and dtype. An engine may hold on to them: the next call must
        not write over them."""
        ...

    def abandon(self) -> None:
        """End what waits in `send` and, at the other members, in `receive`, soon and with an error.

        Called on member 0 when a receiver is gone or `send` failed: from another thread or from the sending one, and
        perhaps twice. Nothing is sent afterwards: the members that are left meet anew.
        """
        ...


def transport_of(recipe: Recipe) -> str:
    """The name or `module:Class` of the transport that a recipe asks for, `auto` decided; connects nothing.

    Raises:
        ExtensionError: the name or an option is unknown, the class lacks a method of `WeightTransport`, or it cannot
            serve the placement; one sentence.
    """
    settings = recipe.sync
    known = {"auto": "", **TRANSPORTS}
    names = tuple(TRANSPORTS) if settings.transport == "auto" else (settings.transport,)
    refusals = []
    for name in names:
        transport = resolve(name, known, WeightTransport, "sync.transport")
        refused = transport.refusal(recipe)
        if refused is None:
            validated(transport.Settings, settings.options, "sync.options")
            return name
        refusals.append(f"sync.transport={name} cannot serve this placement: it needs {refused}")
    raise ExtensionError("; ".join(refusals))


def join(meeting: Meeting, member: int) -> WeightTransport:
    """Join a meeting as one of its members; returns when the transport says so."""
    joined: WeightTransport = resolve(meeting.transport, TRANSPORTS, WeightTransport, "sync.transport")(meeting, member)
    return joined


def cut(sizes: Mapping[str, int], most: float) -> list[list[str]]:
    """Names of tensors in groups of at most as many bytes, in order; a larger one is a group of its own."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > most:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def packed(tensors: Sequence[Tensor], dtype: str, device: str = "cpu") -> Tensor:
    """Tensors one after another in one flat buffer."""
    import torch

    return torch.cat([tensor.detach().to(device, getattr(torch, dtype)).flatten() for tensor in tensors])


def unpacked(buffer: Tensor, bucket: Bucket) -> list[Tensor]:
    """The tensors of a bucket as views of a flat buffer."""
    parts = buffer.split(bucket.sizes)
    return [part.view(shape) for part, shape in zip(parts, bucket.shapes, strict=True)]
