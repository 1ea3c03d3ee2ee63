"""A simulated run: the real loop, experience, pools, supervisors, weight sync and updates over actors that take time.

What is not real: the actors (`serving.py`, `learning.py`), the clock, and the journal, which only counts. Batches and
checkpoints are written to a temporary folder, as a run writes them, since a lost learner comes back from these.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from actors.crew import Crew
from actors.learning.group import LearnerGroup
from actors.loop import reinforce
from actors.measuring.in_loop import InLoop
from actors.record.journal import Journal
from actors.rollout.pool import EnginePool
from actors.scoring.judge_engines import JudgeEngines
from actors.scoring.judge_pool import JudgeCounts, JudgePool
from actors.scoring.scorers import Scorers
from actors.supervision.hosting import in_driver
from actors.supervision.waiting import now
from actors.turns import Turns
from actors.updates import Updates
from actors.weight_sync import WeightSync
from cluster.errors import PlanError
from cluster.forecast import Assumptions, Forecast
from cluster.simulation.clock import run_simulated
from cluster.simulation.learning import LEARNING, SimulatedRank
from cluster.simulation.scaled import gpus_of, scaled
from cluster.simulation.serving import GENERATING, JUDGING, SimulatedEngine, SimulatedJudge
from cluster.simulation.timeline import Timeline
from cluster.simulation.troubles import TroubleMaker
from cluster.simulation.world import Troubles, World
from data.quarantine import Quarantine
from data.rollout import Rollout
from data.sample import ANY, CAMERAS, TASKS, DrivingSample, Task
from data.split import TaskBalancedOrder
from evaluation.checkpoint_key import KEY_VARIABLE
from evaluation.step_panels import step_panels
from failures import ActorLost, ActorTimeout, RolloutExhausted, TooManyMasked
from policies.prompt import PromptEncoder
from policies.settings import TINY
from recipe import Recipe
from rewards.group import Group, ScoredRollout
from rewards.score import Score
from rewards.settings import RewardSettings, RouteSettings

STEPS = 6
"""Steps that are simulated where no other number is given; the first two are not counted."""
WARM_UP = 2
QUESTIONS = 6000
NOTHING = Troubles()
SIMULATED_SCORERS = {"judge", "rouge_l"}
"""Those that say something of any answer."""
SAMPLED_S = 1.0
"""Simulated seconds between two looks at the queues."""


@dataclass(frozen=True)
class Simulated:
    """What came of it."""

    gpus: int
    recipe: Recipe
    predicted_step_s: float
    """By the plan."""
    steps: Sequence[Mapping[str, float]]
    """The loop's metrics of each step."""
    timeline: Timeline
    began_at: float
    """When the first step began."""
    simulated_s: float
    wall_s: float
    cpu_s: float
    """Of this process for all of it: the driver's, the stand-ins' and the clock's."""
    scoring_s: Sequence[float]
    """From the end of each response to its score."""
    queues: Mapping[str, int]
    """Most that waited at once, by where."""
    usd_per_hour: float

    @property
    def step_s(self) -> float:
        """Mean seconds of the steps that are counted."""
        return statistics.fmean(step["step_s"] for step in self._counted)

    @property
    def hours(self) -> float:
        """Of all the recipe's steps at that pace."""
        return self.step_s * self.recipe.run.steps / 3600

    @property
    def busy(self) -> dict[str, float]:
        """The share of the counted steps in which processes of each kind work, on average."""
        end = self.began_at + sum(step["step_s"] for step in self.steps)
        began = end - sum(step["step_s"] for step in self._counted)
        kinds = {kind: self.timeline.of(kind) for kind in (GENERATING, JUDGING, LEARNING)}
        return {kind: statistics.fmean(r.share(began, end) for r in rows) for kind, rows in kinds.items() if rows}

    @property
    def _counted(self) -> Sequence[Mapping[str, float]]:
        return self.steps[min(WARM_UP, len(self.steps) - 1) :]

    def as_dict(self) -> dict[str, Any]:
        """The figures."""
        ordered = sorted(self.scoring_s) or [0.0]
        last, counted = self.steps[-1], self._counted
        recipe, judge = self.recipe, self.recipe.reward.judge
        return {
            "gpus": self.gpus,
            "learner_ranks": recipe.learner.ranks,
            "engines": recipe.rollout.engines,
            "judges": judge.engines if judge else 0,
            "prompts_per_step": recipe.rollout.prompts_per_step,
            "run_steps": recipe.run.steps,
            "simulated_steps": len(self.steps),
            "step_s": round(self.step_s, 1),
            "predicted_step_s": round(self.predicted_step_s, 1),
            "hours": round(self.hours, 2),
            "cost": round(self.hours * self.usd_per_hour),
            "staleness_mean": round(statistics.fmean(step["staleness"] for step in counted), 2),
            "staleness_max": max(step["staleness"] for step in self.steps),
            "busy": {kind: round(share, 2) for kind, share in self.busy.items()},
            "score_wait_s_median": round(ordered[len(ordered) // 2], 1),
            "score_wait_s_p99": round(ordered[int(0.99 * (len(ordered) - 1))], 1),
            "queues": dict(self.queues),
            "losses": len(self.timeline.losses),
            "retried": last.get("engines/retried", 0.0) + last.get("judge/retried", 0.0),
            "learner_restarts": last.get("learner/restarts", 0.0),
            "simulated_s": round(self.simulated_s),
            "wall_s": round(self.wall_s, 1),
            "driver_cpu_s_per_step": round(self.cpu_s / len(self.steps), 2),
            "driver_cpu_share": round(self.cpu_s / self.simulated_s, 4),
        }


def simulate(
    recipe: Recipe,
    given: Assumptions,
    gpus: int,
    steps: int = STEPS,
    troubles: Troubles = NOTHING,
    *,
    grow: bool = False,
) -> Simulated:
    """Simulate a recipe on `gpus` GPUs; see `scaled` for `grow`.

    Raises:
        PlanError: the recipe is for CPUs, has what no stand-in knows, has no room on `gpus` GPUs, or does not outlive
            what goes wrong.
    """
    _check(recipe)
    recipe = scaled(recipe, gpus, grow=grow)
    forecast = Forecast(recipe, replace(given, nodes={}))
    world = World(forecast, troubles)
    with tempfile.TemporaryDirectory(prefix="simulated-") as made, _key_in(Path(made) / "key"):
        run = recipe.run.model_copy(update={"root": f"{made}/runs", "steps": steps, "trackers": {}, "keep_best": None})
        judged = _judged(recipe.reward)
        own = recipe.model_copy(update={"run": run, "reward": judged, "evaluation": _unmeasured(recipe)})
        own.run.folder.mkdir(parents=True)
        (own.run.folder / "samples").mkdir()
        wall, cpu = time.monotonic(), time.process_time()
        found = _Found(world)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the loop's own lines
                _, seconds = run_simulated(_run(own, world, found))
        except (ActorLost, ActorTimeout, RolloutExhausted, TooManyMasked) as error:
            raise PlanError(
                f"on {gpus} GPUs the run would end in step {len(found.steps) + 1} of {steps}, as a real one: {error}"
            ) from error
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    usd = sum(given.facts.node(name).usd_per_hour * count for name, count in forecast.nodes.items())
    return Simulated(
        gpus_of(recipe), recipe, forecast.times().step_s, found.steps, world.timeline, found.began_at,
        seconds - found.began_at, wall, cpu, found.scoring_s, found.queues, usd,
    )  # fmt: skip


def _check(recipe: Recipe) -> None:
    judge = recipe.reward.judge
    refused = None
    if not (recipe.learner.gpus and recipe.rollout.gpus):
        refused = "learner.gpus or rollout.gpus is 0, and times are predicted for GPUs alone"
    elif recipe.rollout.max_engines not in (None, recipe.rollout.engines):
        refused = "it has rollout.max_engines, and no nodes join here; leave it out, or set rollout.engines to it"
    elif recipe.environment is not None:
        refused = "it has an environment, and nothing stands in for episodes"
    elif recipe.reward.clip is not None:
        refused = "it has reward.clip, and nothing stands in for that; take it out to simulate the rest"
    elif judge is not None and (judge.url is not None or judge.model == TINY):
        refused = "its judge is a URL's or the tiny one, of which no times are known: set reward.judge.model alone"
    if refused is not None:
        raise PlanError(f"--simulate cannot take this recipe: {refused}")


class _Found:
    """What is noted on the way; the loop takes it for a journal."""

    def __init__(self, world: World) -> None:
        self._world, self.began_at = world, 0.0
        self.steps: list[dict[str, float]] = []
        self.scoring_s: list[float] = []
        self.queues = {"engines": 0, "judges": 0}

    def record(self, step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        self.steps.append(dict(step_panels(groups)) | dict(metrics))

    def warn(self, step: int, kind: str, message: str) -> None:
        self._world.timeline.losses.append((now(), message))

    async def watch(self, crew: Crew) -> None:
        """Look at the queues now and then."""
        judge = crew.scorers.judge
        while True:
            waits = sum(max(0, one.load - self._world.at_once) for one in crew.engines.engines.members)
            self.queues["engines"] = max(self.queues["engines"], waits)
            if judge is not None:
                self.queues["judges"] = max(self.queues["judges"], max(0, judge.waiting - _places(judge)))
            await asyncio.sleep(SAMPLED_S)


def _places(judge: JudgePool) -> int:
    return judge.settings.max_concurrent * judge.settings.engines


class _Scorers(Scorers):
    """The recipe's, timed; without a judge each response is worth what dice say."""

    def __init__(self, settings: RewardSettings, judge: JudgePool | None, found: _Found, world: World) -> None:
        super().__init__(settings, judge)
        self._found, self._world = found, world

    async def score(self, sample: DrivingSample, rollout: Rollout) -> ScoredRollout:
        if self.judge is None:  # rules would find all simulated answers alike
            return ScoredRollout(rollout, Score(self._world.dice.uniform(0.0, 100.0)), now())
        began = now()
        scored = await super().score(sample, rollout)
        self._found.scoring_s.append(now() - rollout.finished_at)
        return replace(scored, scoring_started_at=began, scored_at=now())


async def _run(recipe: Recipe, world: World, found: _Found) -> None:
    samples, folder = _samples(recipe), recipe.run.folder
    async with _crew(recipe, world, found, samples) as crew:

        async def nothing_to_warm_up() -> bool:
            return True

        updates = await Updates.begin(crew, folder, nothing_to_warm_up)
        assert updates is not None
        found.began_at = now()
        watching = asyncio.create_task(found.watch(crew))
        trouble = asyncio.create_task(TroubleMaker(world, crew).go_on())
        journal = cast(Journal, found)
        in_loop = InLoop(recipe, (), folder, lambda role, index: {}, journal, None)

        def order(position: int) -> TaskBalancedOrder:
            return TaskBalancedOrder(samples, recipe.data.task_shares, recipe.data.seed, position)

        try:
            await reinforce(updates, samples, order, journal, lambda: False, in_loop)
        finally:
            watching.cancel()
            trouble.cancel()
        world.timeline.close(now())


@contextlib.asynccontextmanager
async def _crew(recipe: Recipe, world: World, found: _Found, samples: list[DrivingSample]) -> AsyncIterator[Crew]:
    """Everything that a run keeps alive, its actors in this process."""
    engine_class = type("Engine", (SimulatedEngine,), {"world": world})
    engines = EnginePool.launch(recipe, "", lambda role, index: {}, engine_class, host=in_driver)
    learners = LearnerGroup(recipe, lambda rank: in_driver(SimulatedRank, {}, world, rank))
    judge = None
    if recipe.reward.judge is not None:
        judge_class = type("Judge", (SimulatedJudge,), {"world": world})
        counts = JudgeCounts()
        backend = JudgeEngines(recipe.reward.judge, "", lambda *_: {}, counts, judge_class, in_driver)
        judge = JudgePool(backend, recipe.reward.judge, None, counts)
        await asyncio.gather(backend.engines.start(), engines.started())
    else:
        await engines.started()

    async def begun() -> LearnerGroup:
        await learners.begin_life()
        return learners

    turns = await Turns.start(engines, begun)
    sync = WeightSync(learners, engines, recipe, samples[:1])
    await sync.connect()
    nobody = Quarantine(recipe.run.folder, len(samples), 1.0, print)
    scorers = _Scorers(recipe.reward, judge, found, world)
    crew = Crew(recipe, turns, engines, sync, scorers, cast(PromptEncoder, None), nobody)
    try:
        yield crew
    finally:
        await crew.stop()
        learners.stop()


def _samples(recipe: Recipe) -> list[DrivingSample]:
    """Questions whose images nobody opens, of the tasks that the recipe names."""
    named = [task for task, share in recipe.data.task_shares.items() if share > 0 and task != ANY]
    tasks: Sequence[Task] = named or TASKS
    images: dict[str, str] = {camera: f"/nowhere/{camera}.jpg" for camera in CAMERAS}
    return [
        DrivingSample(
            f"q{n}", f"scene{n // 20}", f"f{n}", tasks[n % len(tasks)], "open_ended", f"What now, {n}?", "Go.", images
        )
        for n in range(QUESTIONS)
    ]


def _judged(reward: RewardSettings) -> RewardSettings:
    """The recipe's routes where the simulated questions can be scored by them, else the judge alone."""
    named = {name for route in reward.routes for name in route.scorers}
    if reward.judge is None or (named <= SIMULATED_SCORERS and all(route.kind == "any" for route in reward.routes)):
        return reward
    return reward.model_copy(update={"routes": (RouteSettings(kind="any", scorers={"judge": 1.0}),)})


def _unmeasured(recipe: Recipe) -> Any:
    return recipe.evaluation.model_copy(update={"every": 0, "held_out_every": 0, "suites": {}, "control": False})


@contextlib.contextmanager
def _key_in(path: Path) -> Iterator[None]:
    """Sign the simulated checkpoints with a key of their own."""
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEY_VARIABLE]
        else:
            os.environ[KEY_VARIABLE] = before
