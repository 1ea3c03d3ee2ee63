"""The engine's side of the weight sync: receives buckets into a vLLM worker and checks what was installed.

`WeightReceiver` is mixed into vLLM's worker class (`worker_extension_cls`), so it runs in every worker process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from actors.transport import Bucket, Meeting, WeightChannel, checksum

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one engine worker received and installed."""

    checksums: tuple[int, ...]
    """One per bucket, of the bytes that arrived."""
    compared: int
    """Installed parameters that could be compared bit by bit with what arrived (fused or packed ones cannot)."""
    differing: tuple[str, ...]
    """Those of them that differ."""


class WeightReceiver:
    """Methods added to vLLM's worker. Arguments and results are plain containers: they cross vLLM's own RPC."""

    channel: WeightChannel
    model_runner: Any

    def join_weight_channel(self, meeting: dict[str, Any], first_rank: int) -> None:
        """Join the broadcast group; `first_rank` is the group rank of this engine's first worker."""
        self.channel = WeightChannel(Meeting(**meeting), first_rank + int(getattr(self, "rank", 0)))

    def receive_weights(self, buckets: list[dict[str, Any]]) -> dict[str, Any]:
        """Receive every bucket, install the weights in place, and compare what can be compared (a `Receipt`)."""
        arrival = Arrival(self.channel, [Bucket(**bucket) for bucket in buckets])
        self.reload_weights(weights_iterator=iter(arrival))  # type: ignore[attr-defined]
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


class Arrival:
    """The weights of one sync as they come in; remembers a checksum of every tensor."""

    def __init__(self, channel: WeightChannel, buckets: list[Bucket]) -> None:
        """Read `buckets` from `channel` when iterated."""
        self._channel, self._buckets = channel, buckets
        self._bucket_checksums: list[int] = []
        self._expected: dict[str, tuple[tuple[int, ...], int]] = {}

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (on-disk name, tensor) of all buckets in order."""
        for bucket in self._buckets:
            tensors, received = self._channel.receive(bucket)
            self._bucket_checksums.append(received)
            for name, tensor in zip(bucket.names, tensors, strict=True):
                self._expected[name] = (tuple(tensor.shape), checksum(tensor))
                yield name, tensor

    def receipt(self, model: nn.Module, engine_name: Callable[[str], str | None] | None) -> Receipt:
        """Compare the model's parameters with what arrived, where name and shape are the same on both sides."""
        return self.compared(dict(model.named_parameters()), engine_name)

    def compared(
        self, installed: Mapping[str, Tensor], engine_name: Callable[[str], str | None] | None = None
    ) -> Receipt:
        """Compare tensors with what arrived, where name and shape are the same on both sides."""
        compared, differing = 0, []
        for name, (shape, expected) in self._expected.items():
            mapped = engine_name(name) if engine_name is not None else name
            parameter = installed.get(mapped) if mapped is not None else None
            if parameter is None or tuple(parameter.shape) != shape:
                continue
            compared += 1
            if checksum(parameter) != expected:
                differing.append(name)
        return Receipt(tuple(self._bucket_checksums), compared, tuple(differing))
