"""The engine's side of the weight sync: receives buckets into a vLLM worker and checks what was installed.

`WeightReceiver` is mixed into vLLM's worker class (`worker_extension_cls`), so it runs in every worker process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from actors.sync.checksums import checksum, derived
from actors.sync.transport import Bucket, Meeting, Receipt, WeightTransport, join

if TYPE_CHECKING:
    from torch import nn


class WeightReceiver:
    """Methods added to vLLM's worker. Arguments and results are plain containers: they cross vLLM's own RPC."""

    channel: WeightTransport
    model_runner: Any

    def join_weight_channel(self, meeting: dict[str, Any], first_member: int) -> None:
        """Join the weight transport; `first_member` is the number of this engine's first worker in it."""
        self.channel = join(Meeting(**meeting), first_member + int(getattr(self, "rank", 0)))

    def receive_weights(self, buckets: list[dict[str, Any]], compare: bool) -> dict[str, Any]:
        """Receive every bucket, install the weights in place, and compare what can be compared if so (a `Receipt`)."""
        arrival = Arrival(self.channel, [Bucket(**bucket) for bucket in buckets])
        self.reload_weights(weights_iterator=iter(arrival))  # type: ignore[attr-defined]
        if not compare:
            return asdict(arrival.uncompared)
        model = self.model_runner.get_model()
        mapper = getattr(model, "hf_to_vllm_mapper", None)
        return asdict(arrival.receipt(model, mapper.map_name if mapper is not None else None))

    def receive_adapter(self, buckets: list[dict[str, Any]], folder: str, config: dict[str, Any]) -> dict[str, Any]:
        """Receive the adapters and write them to `folder` in PEFT's layout, for the engine to load (a `Receipt`)."""
        arrival = Arrival(self.channel, [Bucket(**bucket) for bucket in buckets])
        tensors = {name: tensor.cpu().contiguous() for name, tensor in arrival}
        weights = Path(folder, "adapter_model.safetensors")
        if int(getattr(self, "rank", 0)) == 0:
            save_file(tensors, weights)
            Path(folder, "adapter_config.json").write_text(json.dumps(config))
        written = load_file(weights) if weights.is_file() else tensors
        return asdict(arrival.compared(written))


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is remembered of one tensor after it was installed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    checksum: int

    def same_as(self, installed: Tensor) -> bool | None:
        """Whether an installed tensor holds exactly the values that arrived; None where that cannot be said.

        Engines may store the same values in another form, which is no difference: in a wider dtype (vLLM keeps the
        bias of a packed layer in float32), as more rows than arrived (a padded vocabulary), or transposed. A narrower
        dtype, other shapes and emptied tensors (their values were packed elsewhere) cannot be compared.
        """
        if installed.is_meta or not lossless(self.dtype, installed.dtype):
            return None
        shape = tuple(installed.shape)
        if shape != self.shape:
            padded = len(shape) == len(self.shape) > 0 and shape[0] > self.shape[0] and shape[1:] == self.shape[1:]
            return self._equals(installed[: self.shape[0]]) if padded else None
        square = len(shape) == 2 and shape[0] == shape[1]
        return self._equals(installed) or (square and self._equals(installed.t()))

    def _equals(self, installed: Tensor) -> bool:
        if installed.dtype == self.dtype:
            return checksum(installed) == self.checksum
        travelled = installed.to(self.dtype)
        exact = checksum(travelled.to(installed.dtype)) == checksum(installed)  # nothing was lost on the way back
        return exact and checksum(travelled) == self.checksum


def lossless(travelled: torch.dtype, installed: torch.dtype) -> bool:
    """Whether `installed` can hold every value of `travelled`; a quantised dtype holds none but its own."""
    if travelled == installed:
        return True
    floats = travelled.is_floating_point and installed.is_floating_point
    if not floats or min(travelled.itemsize, installed.itemsize) < 2:  # torch promotes no float8
        return False
    return torch.promote_types(travelled, installed) == installed


class Arrival:
    """The weights of one sync as they come in; remembers a checksum of every tensor."""

    def __init__(self, channel: WeightTransport, buckets: list[Bucket]) -> None:
        """Read `buckets` from `channel` when iterated."""
        self._channel, self._buckets = channel, buckets
        self._bucket_checksums: list[int] = []
        self._arrived: dict[str, Arrived] = {}
        self._began, self._receive_s = time.monotonic(), 0.0

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (on-disk name, tensor) of all buckets in order."""
        for bucket in self._buckets:
            asked = time.monotonic()
            tensors = self._channel.receive(bucket)
            arrived = [Arrived(tuple(one.shape), one.dtype, checksum(one)) for one in tensors]
            self._bucket_checksums.append(derived(one.checksum for one in arrived))
            self._arrived.update(zip(bucket.names, arrived, strict=True))
            self._receive_s += time.monotonic() - asked
            yield from zip(bucket.names, tensors, strict=True)

    @property
    def uncompared(self) -> Receipt:
        """What arrived, and no word on what was installed."""
        return Receipt(tuple(self._bucket_checksums), 0, 0, (), *self._seconds())

    def _seconds(self) -> tuple[float, float]:
        return self._receive_s, time.monotonic() - self._began - self._receive_s

    def receipt(self, model: nn.Module, engine_name: Callable[[str], str | None] | None) -> Receipt:
        """Compare the model's parameters with what arrived, where name and form allow it."""
        return self.compared(dict(model.named_parameters()), engine_name)

    def compared(
        self, installed: Mapping[str, Tensor], engine_name: Callable[[str], str | None] | None = None
    ) -> Receipt:
        """Compare tensors with what arrived, by value in the dtype that travelled, exactly."""
        compared, differing, seconds = 0, [], self._seconds()
        for name, arrived in self._arrived.items():
            mapped = engine_name(name) if engine_name is not None else name
            parameter = installed.get(mapped) if mapped is not None else None
            same = arrived.same_as(parameter.detach()) if parameter is not None else None
            if same is None:
                continue
            compared += 1
            if not same:
                differing.append(name)
        incomparable = len(self._arrived) - compared
        return Receipt(tuple(self._bucket_checksums), compared, incomparable, tuple(differing), *seconds)
