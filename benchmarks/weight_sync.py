"""What a publish of weights costs: `python -m benchmarks.weight_sync`. Prints, last, one JSON object with its figures.

500 MB of float32, a fifth of it an embedding, go from one learner's process to two engines' processes on this machine.
Figures are medians of publishes that alternate over all ways.

- `transport_over_memcpy`: seconds in which one thread copies 500 MB between buffers that were touched before, over
  those from the call until both receivers hold the tensors in memory of their own; through shared memory.
- `gloo_over_raw_broadcast`: seconds of torch's own broadcasts of buckets of the same sizes, over those through gloo's
  transport.
- `publish_over_transport`: seconds of a publish with checksums on both sides and installation, over those of the
  transport and bare installation, shared memory both. `compared_over_transport`: where all that was installed is
  compared too, as at the first publish and every tenth.
- `lora_only_s`: a publish of adapters of rank 16 alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from actors.sync.checksums import checksum, derived
from actors.sync.receiver import Arrival
from actors.sync.transport import Bucket, Meeting, WeightTransport, cut, join
from failures import SyncError
from serve.operations.listening import free_port

ENGINES, BUCKET_BYTES, TIMEOUT_S = 2, 64 * 2**20, 120.0
WIDTH, LAYERS, WORDS, RANK = 1024, 24, 24_000, 16
"""24 layers of four square matrices and 24,000 rows of embedding: 500 MB in float32."""
DTYPE = "float32"


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measured(options.rounds)))


def weights(*, adapters: bool = False) -> nn.ParameterDict:
    """The model's parameters by name, or those of its adapters."""
    draws, made = torch.Generator().manual_seed(0), nn.ParameterDict()
    shapes = [(RANK, WIDTH), (WIDTH, RANK)] if adapters else [(WIDTH, WIDTH)]
    for layer in range(LAYERS):
        for matrix in range(4):
            for part, shape in enumerate(shapes):
                made[f"layer_{layer}_{matrix}_{part}"] = nn.Parameter(torch.randn(shape, generator=draws))
    if not adapters:
        made["embedding"] = nn.Parameter(torch.randn((WORDS, WIDTH), generator=draws))
    return made


def buckets_of(parameters: nn.ParameterDict) -> list[Bucket]:
    """The parameters cut as the learner cuts them."""
    sizes = {name: parameter.numel() * parameter.element_size() for name, parameter in parameters.items()}
    groups = cut(sizes, BUCKET_BYTES)
    return [Bucket(tuple(names), tuple(tuple(parameters[n].shape) for n in names), DTYPE) for names in groups]


# --- the engines' side ----------------------------------------------------------------------------------------------


def engine(pipe: Any, member: int, gloo: Meeting, shared: Meeting) -> None:
    """A process that receives as it is asked to, and answers when it is through."""
    torch.set_num_threads(1)
    held = {adapters: weights(adapters=adapters) for adapters in (False, True)}
    channels = {"gloo": join(gloo, member), "shared": join(shared, member)}
    pipe.send("joined")
    while (asked := pipe.recv()) is not None:
        way, channel, adapters = asked
        parameters = held[adapters]
        kept = receive(way, channels[channel], buckets_of(parameters), parameters)
        pipe.send(kept)
    pipe.close()


def receive(way: str, channel: WeightTransport, buckets: list[Bucket], parameters: nn.ParameterDict) -> list[int]:
    """Take one publish; the checksums, where some are formed."""
    if way == "raw":
        raw: Any = channel
        for bucket in buckets:
            raw._broadcast(torch.empty(sum(bucket.sizes)))
        return []
    if way in ("hold", "bare"):
        for bucket in buckets:
            tensors = channel.receive(bucket)
            if way == "bare":
                install(zip(bucket.names, tensors, strict=True), parameters)
        return []
    arrival = Arrival(channel, buckets)
    install(arrival, parameters)
    receipt = arrival.compared(dict(parameters.items())) if way == "compared" else arrival.uncompared
    if receipt.differing:
        raise SyncError(f"installed other values than arrived: {receipt.differing}")
    return list(receipt.checksums)


def install(arriving: Any, parameters: nn.ParameterDict) -> None:
    """Put tensors in place, as vLLM does."""
    with torch.no_grad():
        for name, tensor in arriving:
            parameters[name].copy_(tensor)


# --- the learner's side ---------------------------------------------------------------------------------------------


class Learner:
    """Sends what it holds to all engines."""

    def __init__(self) -> None:
        """Start the engines and meet them."""
        meetings = [
            Meeting(name, "127.0.0.1", free_port(), ENGINES + 1, TIMEOUT_S) for name in ("gloo", "shared_memory")
        ]
        spawning = multiprocessing.get_context("spawn")
        pairs = [spawning.Pipe() for _ in range(ENGINES)]
        self.pipes = [ours for ours, _ in pairs]
        self.engines = [
            spawning.Process(target=engine, args=(theirs, number + 1, *meetings), daemon=True)
            for number, (_, theirs) in enumerate(pairs)
        ]
        for process in self.engines:
            process.start()
        self.channels = {"gloo": join(meetings[0], 0), "shared": join(meetings[1], 0)}
        self.held = {adapters: weights(adapters=adapters) for adapters in (False, True)}
        for pipe in self.pipes:
            assert pipe.recv() == "joined"

    def publish(self, way: str, channel: str, *, adapters: bool = False) -> float:
        """Seconds from the call until all engines are through."""
        parameters = self.held[adapters]
        buckets = buckets_of(parameters)
        began = time.perf_counter()
        for pipe in self.pipes:
            pipe.send((way, channel, adapters))
        sent = [
            self._send(way, self.channels[channel], [parameters[name].detach() for name in b.names]) for b in buckets
        ]
        answers = [pipe.recv() for pipe in self.pipes]
        seconds = time.perf_counter() - began
        if way in ("receipts", "compared") and answers != [sent] * ENGINES:
            raise SyncError("what arrived is not what was sent")
        return seconds

    @staticmethod
    def _send(way: str, channel: WeightTransport, tensors: list[Tensor]) -> int | None:
        if way == "raw":
            raw: Any = channel
            raw._broadcast(torch.cat([tensor.flatten() for tensor in tensors]))
            return None
        found = derived(map(checksum, tensors)) if way in ("receipts", "compared") else None
        channel.send(tensors, DTYPE)
        return found

    def end(self) -> None:
        """Let the engines go."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.engines:
            process.join(timeout=60)


def measured(rounds: int) -> dict[str, Any]:
    """All figures."""
    torch.set_num_threads(1)
    learner = Learner()
    source = torch.randn(sum(parameter.numel() for parameter in learner.held[False].values()))
    target = torch.empty_like(source)
    ways: dict[str, Callable[[], float]] = {
        "memcpy": lambda: copied(source, target),
        "transport": lambda: learner.publish("hold", "shared"),
        "gloo": lambda: learner.publish("hold", "gloo"),
        "raw_broadcast": lambda: learner.publish("raw", "gloo"),
        "bare": lambda: learner.publish("bare", "shared"),
        "publish": lambda: learner.publish("receipts", "shared"),
        "compared": lambda: learner.publish("compared", "shared"),
        "lora_only": lambda: learner.publish("compared", "shared", adapters=True),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            found = work()
            if number:  # the first round touches every buffer
                seconds[way].append(found)
    learner.end()
    return figures(seconds) | {"megabytes": round(source.numel() * 4 / 1e6), "engines": ENGINES, "rounds": rounds}


def figures(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The ratios, each the median of its rounds, and the seconds."""

    def ratio(one: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)), 3)

    return {
        "transport_over_memcpy": ratio("memcpy", "transport"),
        "gloo_over_raw_broadcast": ratio("raw_broadcast", "gloo"),
        "publish_over_transport": ratio("publish", "bare"),
        "compared_over_transport": ratio("compared", "bare"),
    } | {f"{way}_s": round(statistics.median(found), 4) for way, found in seconds.items()}


def copied(source: Tensor, target: Tensor) -> float:
    """Seconds in which one thread copies."""
    began = time.perf_counter()
    target.copy_(source)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
