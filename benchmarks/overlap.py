"""Whether generating, judging and learning overlap: `python -m benchmarks.overlap`. Prints, last, one JSON object.

The pipeline is the real one (experience, pool, weight sync over a real transport, Ray); engines, judge and learner only
take time. An engine gives the responses of a batch one after another, evenly over T seconds; each is judged within
T / 20, by a judge whose capacity fills T; an update takes T.

- `step_over_longest_stage_K`: seconds of a step at `rollout.max_staleness` K, over T. Nothing can do better than 1;
  without overlap it is 2 and more.
- `oldest_K`: how many versions the oldest response of a batch was behind.
- `driver_overhead_s`: CPU seconds that the driver spends on a step of 1,024 rollouts over 64 engines that answer at
  once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import ray
import torch

from actors.experience import Credit, experience
from actors.learning.group import LearnerGroup
from actors.rollout.engine import Ability, Health, State
from actors.rollout.pool import EnginePool
from actors.rollout.streaming import streaming
from actors.scoring.scorers import Scorers
from actors.supervision.care import Care
from actors.supervision.hosting import in_driver
from actors.supervision.supervisor import Supervisor
from actors.sync.checksums import checksum, derived
from actors.sync.transport import Bucket, Meeting, Receipt, Sent, WeightTransport, join
from actors.weight_sync import WeightSync
from cluster.session import session
from data.quarantine import Quarantine
from data.rollout import GenerationRequest, Rollout
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from extension import NoOptions
from policies.algorithms.registry import make_algorithm
from policies.micro_batches import Share
from policies.prompt import PromptEncoder
from recipe import Recipe, load_recipe
from rewards.group import ScoredRollout
from rewards.score import Score
from serve.operations.listening import free_port

ROOT = Path(__file__).resolve().parents[1]
T_S, PROMPTS, GROUP, STEPS, WARM_UP = 2.0, 16, 8, 12, 4
STALENESS = (0, 1, 2, 4)
JUDGED_WITHIN = 0.05
MANY_ENGINES, MANY_PROMPTS, MANY_GROUP, ENGINE_PROCESSES = 64, 128, 8, 2
WEIGHTS = Bucket(("weight",), ((64, 64),), "float32")
SAMPLES = [
    DrivingSample(f"q{n}", f"scene{n}", "f", "behavior", "open_ended", "What now?", "Go.", {"front": "/nowhere.png"})
    for n in range(512)
]


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-overlap-") as folder, session(recipe_at(0)):
        figures: dict[str, Any] = {}
        for staleness in STALENESS:
            figures |= asyncio.run(overlapped(staleness, options.steps, Path(folder)))
        figures |= asyncio.run(driver_overhead(options.steps, Path(folder)))
    print(json.dumps(figures | {"T_s": T_S, "steps": options.steps}))


def recipe_at(staleness: int, *more: str) -> Recipe:
    """The demonstration's, with engines that only take time."""
    own = (f"rollout.prompts_per_step={PROMPTS}", f"rollout.group_size={GROUP}", f"rollout.max_staleness={staleness}")
    return load_recipe([str(ROOT / "recipes/tiny.yaml"), "rollout.backend=benchmarks.overlap:Waits", *own, *more])


# --- what only takes time -------------------------------------------------------------------------------------------


class Waits:
    """A `RolloutEngine` that answers one request after another, and takes weights between two of them."""

    Settings = NoOptions
    seconds: ClassVar[float] = T_S / (PROMPTS * GROUP)
    """For one response."""

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """See `RolloutEngine`."""
        return frozenset({"seeds", "swaps"})

    @staticmethod
    def environment(recipe: Recipe, options: NoOptions) -> dict[str, str]:
        """See `RolloutEngine`."""
        return {}

    def __init__(self, name: str, folder: str, recipe: Recipe, options: NoOptions, seed: int) -> None:
        """See `RolloutEngine`."""
        self.name, self.version, self.running = name, -1, 0
        self.state: State = "new"
        self._turn = asyncio.Lock()
        self._free_at = 0.0
        self._channel: WeightTransport

    async def start(self) -> float:
        """See `RolloutEngine`."""
        self.state = "generating"
        return 0.0

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout]:
        """See `RolloutEngine`; the engine is one server, whichever calls its requests came with."""
        self.running += len(requests)
        for request in requests:
            async with self._turn:
                version = self.version
                self._free_at = max(self._free_at, time.monotonic()) + self.seconds
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
            self.running -= 1
            now = time.time()
            yield Rollout(
                request.request_id,
                request.sample.id,
                (1, 2),
                (7,),
                (-0.1,),
                "Go.",
                "stop",
                version,
                self.name,
                now,
                now,
            )

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """See `RolloutEngine`."""
        self._channel = await asyncio.to_thread(join, meeting, first_member)

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """See `RolloutEngine`."""
        sums = [derived(map(checksum, await asyncio.to_thread(self._channel.receive, one))) for one in buckets]
        self.version = version
        return [Receipt(tuple(sums), len(buckets), 0, ())]

    async def health(self) -> Health:
        """See `RolloutEngine`."""
        return Health(self.state, self.version, self.running)

    async def pause(self) -> None:
        """Not asked for here."""

    resume = sleep = wake = reset_caches = pause

    async def stop(self) -> None:
        """See `RolloutEngine`."""
        self.state = "stopped"


class AtOnce(Waits):
    """Answers at once."""

    seconds: ClassVar[float] = 0.0


class Sender:
    """A learner rank that holds a small matrix, and whose log-probabilities are the engines'."""

    def __init__(self) -> None:
        """Make the matrix."""
        self._tensors = [torch.randn(WEIGHTS.shapes[0])]
        self._channel: WeightTransport

    def address(self) -> tuple[str, int]:
        """See `Learner`."""
        return "127.0.0.1", free_port()

    def start(self, host: str, port: int) -> float:
        """See `Learner`."""
        return 0.0

    def shares_prefix(self) -> bool:
        """See `Learner`."""
        return True

    def prepare_sync(self, bucket_bytes: float, adapters_only: bool) -> list[Bucket]:
        """See `Learner`."""
        return [WEIGHTS]

    async def join_weight_channel(self, meeting: Meeting) -> None:
        """See `Learner`."""
        self._channel = await asyncio.to_thread(join, meeting, 0)

    async def send_weights(self) -> Sent:
        """See `Learner`."""
        sums = [derived(map(checksum, self._tensors))]
        await asyncio.to_thread(self._channel.send, self._tensors, WEIGHTS.dtype)
        return Sent(sums)

    def abandon_weights(self) -> None:
        """See `Learner`."""
        self._channel.abandon()

    def log_probs(
        self, share: Share, temperature: float | None = None, *, reference: bool = False, adapter: str = ""
    ) -> list[list[float]]:
        """See `Learner`."""
        kept = share.micro_batches[: len(share.micro_batches) - share.filler]
        return [list(one.rollout_logprobs) for groups in kept for group in groups for one in group.responses]


class Judge:
    """Scores each response within a twentieth of T, as many at once as fill T with a batch."""

    def __init__(self, seconds: float = JUDGED_WITHIN * T_S) -> None:
        """As many slots as are needed."""
        self._seconds, self._slots = seconds, asyncio.Semaphore(math.ceil(JUDGED_WITHIN * PROMPTS * GROUP))

    async def score(self, sample: DrivingSample, rollout: Rollout) -> ScoredRollout:
        """See `Scorers`."""
        if self._seconds:
            async with self._slots:
                await asyncio.sleep(self._seconds)
        return ScoredRollout(rollout, Score(float(hash(rollout.request_id) % 100)), time.time())

    async def complete(self, sample: DrivingSample, group: list[ScoredRollout]) -> list[ScoredRollout]:
        """See `Scorers`."""
        return group


# --- what is measured -----------------------------------------------------------------------------------------------


async def overlapped(staleness: int, steps: int, folder: Path) -> dict[str, float]:
    """Seconds of a step over T, and how old its oldest response was."""
    recipe = recipe_at(staleness, f"run.root={folder}")
    engines = await EnginePool.launch(recipe, "nothing", lambda role, index: {"num_cpus": 0}).started()
    took, behind = await trained(recipe, engines, Judge(), steps, update_s=T_S)
    await engines.end()
    return {
        f"step_over_longest_stage_{staleness}": round(statistics.median(took[WARM_UP:]) / T_S, 3),
        f"oldest_{staleness}": max(behind),
    }


async def trained(
    recipe: Recipe, engines: EnginePool, judge: Judge, steps: int, update_s: float
) -> tuple[list[float], list[int]]:
    """Seconds of each step, and by how many versions its oldest response was behind."""
    learners = LearnerGroup(recipe, lambda rank: in_driver(Sender, {}))
    await learners.begin_life()
    sync = WeightSync(learners, engines, recipe, SAMPLES[:1])
    await sync.connect()
    await sync.publish(0)
    order = TaskBalancedOrder(SAMPLES, {"behavior": 1.0}, seed=0)
    credit = Credit(make_algorithm(recipe.algorithm), recipe.rollout.max_tokens, cast(PromptEncoder, None))
    nobody = Quarantine(Path("no folder"), len(SAMPLES), 1.0, print)
    took, behind, began = list[float](), list[int](), time.monotonic()
    batches = experience(order, engines, cast(Scorers, judge), credit, recipe, nobody, steps=range(1, steps + 1))
    async for batch in batches:
        behind.append(sync.version - batch.oldest_version)
        await asyncio.sleep(update_s)
        await sync.publish(batch.step)
        took.append(time.monotonic() - began)
        began = time.monotonic()
    learners.stop()
    return took, behind


async def driver_overhead(steps: int, folder: Path) -> dict[str, float]:
    """CPU seconds of this process for a step of many rollouts over many engines, which share a few processes."""
    own = (f"rollout.prompts_per_step={MANY_PROMPTS}", f"rollout.group_size={MANY_GROUP}", f"run.root={folder}")
    recipe, used = recipe_at(0, *own), list[float]()
    answering = ray.remote(streaming(AtOnce)).options(num_cpus=0, max_concurrency=MANY_ENGINES)
    processes = [answering.remote(f"process {n}", "nothing", recipe, NoOptions(), 0) for n in range(ENGINE_PROCESSES)]
    members = Supervisor(
        "engine",
        MANY_ENGINES,
        lambda index: [processes[index % ENGINE_PROCESSES]],
        Care(start_timeout_s=300.0, restarts=0, budget="rollout.restarts"),
    )
    engines = await EnginePool(members, 300.0, 1, frozenset({"seeds"})).started()
    judge = Judge(seconds=0.0)
    order = TaskBalancedOrder(SAMPLES, {"behavior": 1.0}, seed=0)
    credit = Credit(make_algorithm(recipe.algorithm), recipe.rollout.max_tokens, cast(PromptEncoder, None))
    nobody, before = Quarantine(Path("no folder"), len(SAMPLES), 1.0, print), time.process_time()
    batches = experience(order, engines, cast(Scorers, judge), credit, recipe, nobody, steps=range(1, steps + 1))
    async for _ in batches:
        used.append(time.process_time() - before)
        before = time.process_time()
    await engines.end()
    return {"driver_overhead_s": round(statistics.median(used[WARM_UP:]), 3)}


if __name__ == "__main__":
    main()
