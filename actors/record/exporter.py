"""`Exporter`: a run's figures as Prometheus reads them, through Ray's own metrics. Lives in the driver.

The figures of a step are set when the journal records it; what pools hold at a moment is sampled every few seconds, so
that a step that never ends is seen too. Ray serves them on every node's metrics port with `ray_` before the name; the
dashboard, the alert rules and their tests (`cluster/dashboards`) are held to `EXPORTED`. Reads the journal's metrics;
may not change anything of a run.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import ray
from ray.util.metrics import Gauge

from evaluation import run_record as names
from recipe import Recipe

SAMPLE_S = 5.0
"""Seconds between two looks at the pools."""
JUDGES, CLIPS = re.compile("judge"), re.compile("clip")
EXPORTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "running": ("1 while the run goes on, 0 once it has ended", ()),
    "step": ("The step that was recorded last", ()),
    "steps": ("How many steps the run takes (run.steps)", ()),
    "step_time": ("When the last step was recorded, or the run began: seconds since 1970", ()),
    "step_seconds": ("Seconds of the last step: all of it, generating, learning, syncing, or as predicted", ("part",)),
    "tokens_per_second": ("Generated tokens of the last step by its seconds", ()),
    "staleness": ("Weight versions between the oldest response learnt from and the newest weights", ()),
    "logprob_gap": ("Largest difference of engine and learner, in nats: of the probes, of the rollouts", ("of",)),
    "logprob_gap_limit": ("sync.max_logprob_gap", ()),
    "kl": ("Divergence from the reference policy", ()),
    "reward": ("Mean reward of the last step, 0-100: of a task, or of all", ("task",)),
    "part": ("Mean of a part of the score, 0-100; kind is judge, clip or rule", ("part", "kind")),
    "masked_share": ("Share of the last step's rollouts that could not be scored", ()),
    "masked_share_limit": ("reward.max_masked_share", ()),
    "masked": ("Rollouts of the last step that could not be scored: by reason, or any", ("reason",)),
    "response_tokens": ("Mean length of the last step's responses", ()),
    "groups_without_signal": ("Groups of the last step whose rewards are all equal", ()),
    "restarts": ("How often something was started again since the run began", ("pool",)),
    "waiting": ("Requests that are not answered yet", ("pool",)),
    "healthy": ("Members of a pool that take work", ("pool",)),
    "members": ("Members of a pool", ("pool",)),
    "asked": ("Requests to a pool since the run began", ("pool",)),
    "failed": ("Requests that a pool gave up since the run began", ("pool",)),
    "judged": ("Requests that the judge answered since the run began", ()),
    "judge_seconds": ("Seconds that those requests spent with the judge", ()),
}
"""Every figure: what it says, and its labels beside `run`."""
STEP_PARTS = {
    "step_s": "all", "generate_s": "generate", "learn_s": "learn", "sync_s": "sync", "predicted_step_s": "predicted",
}  # fmt: skip
PLAIN = {
    "tokens_per_s": "tokens_per_second",
    "staleness": "staleness",
    "kl": "kl",
    names.LENGTH_MEAN: "response_tokens",
    names.ZERO_STD_GROUPS: "groups_without_signal",
}
GAPS = {names.PROBE_GAP: "probes", names.ROLLOUT_GAP: "rollouts"}


class Point(NamedTuple):
    """One figure with its labels."""

    name: str
    value: float
    labels: dict[str, str]


class PoolState(NamedTuple):
    """What a pool holds at a moment."""

    waiting: int
    asked: int = 0
    failed: int = 0
    healthy: int | None = None
    members: int | None = None
    restarted: int = 0
    judged: int | None = None
    seconds: float = 0.0


def step_points(step: int, metrics: Mapping[str, float]) -> Iterator[Point]:
    """The figures of a recorded step."""
    yield Point("step", step, {})
    for name, value in metrics.items():
        head, _, tail = name.partition("/")
        if name in STEP_PARTS:
            yield Point("step_seconds", value, {"part": STEP_PARTS[name]})
        elif name in PLAIN:
            yield Point(PLAIN[name], value, {})
        elif name in GAPS:
            yield Point("logprob_gap", value, {"of": GAPS[name]})
        elif head == "reward" and tail:
            yield Point("reward", value, {"task": "all" if name == names.REWARD_MEAN else tail})
        elif head == "parts":
            yield Point("part", value, {"part": tail, "kind": _kind(tail)})
        elif name == "learner/restarts":
            yield Point("restarts", value, {"pool": "learner"})
        elif name.startswith(f"{names.MASKED_ROLLOUTS}/"):
            yield Point("masked", value, {"reason": name.removeprefix(f"{names.MASKED_ROLLOUTS}/")})
    if rollouts := metrics.get(names.ROLLOUTS):
        masked = metrics.get(names.MASKED_ROLLOUTS, 0.0)
        yield Point("masked", masked, {"reason": "any"})
        yield Point("masked_share", masked / rollouts, {})


def pool_points(pool: str, state: PoolState) -> Iterator[Point]:
    """The figures of a pool at a moment."""
    of = {"pool": pool}
    yield from (Point(name, getattr(state, name), of) for name in ("waiting", "asked", "failed"))
    yield Point("restarts", state.restarted, of)
    if state.members is not None and state.healthy is not None:
        yield from (Point("healthy", state.healthy, of), Point("members", state.members, of))
    if state.judged is not None:
        yield from (Point("judged", state.judged, {}), Point("judge_seconds", state.seconds, {}))


class Exporter:
    """Sets the figures of one run; does nothing where this process is not connected to Ray."""

    def __init__(self, recipe: Recipe) -> None:
        """Say that the run began."""
        self._run, self._reasons = recipe.run.name, set[str]()
        self._gauges = (
            {n: Gauge(f"autodriverl_{n}", text, ("run", *labels)) for n, (text, labels) in EXPORTED.items()}
            if ray.is_initialized()
            else {}
        )
        self._latest: dict[tuple[str, ...], Point] = {}
        self._pools: dict[str, Callable[[], PoolState]] = {}
        self._ended = threading.Event()
        self._sampling = threading.Thread(target=self._sample, name="exporter", daemon=True)
        began = {"running": 1, "steps": recipe.run.steps, "step_time": time.time()}
        limits = {"logprob_gap_limit": recipe.sync.max_logprob_gap}
        limits["masked_share_limit"] = recipe.reward.max_masked_share
        for name, value in (began | limits).items():
            self._set(Point(name, value, {}))
        if self._gauges:
            self._sampling.start()

    def observe(self, step: int, metrics: Mapping[str, float]) -> None:
        """Set the figures of a step that was recorded."""
        points = list(step_points(step, metrics))
        reasons = {point.labels["reason"] for point in points if point.name == "masked"}
        gone, self._reasons = self._reasons - reasons, self._reasons | reasons
        points += [Point("masked", 0.0, {"reason": reason}) for reason in gone]
        for point in (*points, Point("step_time", time.time(), {})):
            self._set(point)

    def watch(self, pools: Mapping[str, Callable[[], PoolState]]) -> None:
        """Look at pools from now on, until the run ends."""
        self._pools = {**self._pools, **pools}

    def close(self) -> None:
        """Say that the run has ended; safe to call twice."""
        self._ended.set()
        if self._sampling.is_alive():
            self._sampling.join()
        self._set(Point("running", 0.0, {}))

    def _sample(self) -> None:
        """Look at the pools, and say everything again: Ray forgets a figure that nobody repeats, and steps are long."""
        while not self._ended.wait(SAMPLE_S):
            for pool, state in self._pools.items():
                for point in pool_points(pool, state()):
                    self._set(point)
            for point in list(self._latest.values()):
                self._set(point)

    def _set(self, point: Point) -> None:
        if self._gauges:
            self._latest[(point.name, *point.labels.values())] = point
            self._gauges[point.name].set(float(point.value), {"run": self._run, **point.labels})


def _kind(part: str) -> str:
    return "judge" if JUDGES.search(part) else "clip" if CLIPS.search(part) else "rule"
