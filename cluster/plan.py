"""The resource plan: which processes a recipe needs, and what each of them asks of the cluster. Starts nothing.

Knows the recipe and arithmetic; may not touch Ray, so that a dry run needs no cluster.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, get_args

from actors.rollout.engine import engine_of
from actors.sync.transport import transport_of
from cluster.errors import PlanError
from cluster.labels import selector
from cluster.memory import estimate_memory
from data.environment import environment_of
from data.formats.format import images_per_prompt
from data.settings import EnvironmentSettings
from recipe import Recipe
from rewards.settings import ClipSettings, JudgeSettings

Role = Literal["learner", "rollout", "environment", "judge", "clip", "benchmark"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one process reserves; `label` names the nodes it may run on, as `cluster.labels` reads it (None: any)."""

    role: Role
    index: int
    cpus: float
    gpus: float
    label: str | None = None
    beside_learner: bool = False
    """It has its place on the devices of the learner rank with its index (`rollout.on_learners`)."""

    @property
    def resources(self) -> dict[str, float]:
        """The bundle as Ray's `placement_group` takes it; zero amounts are left out."""
        return {name: amount for name, amount in {"CPU": self.cpus, "GPU": self.gpus}.items() if amount}

    @property
    def selector(self) -> dict[str, str]:
        """The nodes it may run on, as Ray's `bundle_label_selector` takes them; empty for any node."""
        return selector(self.label) if self.label else {}

    def __str__(self) -> str:
        """The bundle as messages name it."""
        where = f" on a node labelled {self.label}" if self.label else ""
        return f"{self.role} {self.index} ({self.cpus:g} CPU, {self.gpus:g} GPU{where})"


@dataclass(frozen=True, slots=True)
class Plan:
    """Every process of a run that reserves resources, and the estimate of the memory each will hold."""

    bundles: tuple[Bundle, ...]
    memory: str
    work: str
    wait_for_nodes: bool = False
    """Nodes may still join: what the present ones cannot hold is waited for instead of refused at once."""
    invited: tuple[Bundle, ...] = ()
    """Engines that may join later (`rollout.max_engines`): nothing is reserved for them."""

    def of(self, role: Role) -> tuple[Bundle, ...]:
        """The bundles of one role in index order."""
        return tuple(bundle for bundle in self.bundles if bundle.role == role)

    @property
    def reserved(self) -> tuple[Bundle, ...]:
        """What is asked of the cluster: a learner rank and the engine beside it are one."""
        guests = {bundle.index: bundle for bundle in self.bundles if bundle.beside_learner}
        alone = (bundle for bundle in self.bundles if not bundle.beside_learner)
        return tuple(
            replace(one, cpus=one.cpus + guests[one.index].cpus, gpus=one.gpus + guests[one.index].gpus)
            if one.role == "learner" and one.index in guests
            else one
            for one in alone
        )

    @property
    def cpus(self) -> float:
        """CPUs of all bundles."""
        return sum(bundle.cpus for bundle in self.bundles)

    @property
    def gpus(self) -> float:
        """GPUs of all bundles."""
        return sum(bundle.gpus for bundle in self.bundles)

    def describe(self) -> str:
        """A readable table: the processes, the memory of each, the work of the run."""
        return "\n".join(["placement", *self._rows(), "memory of one process, without activations", self.memory,
                          "work", self.work])  # fmt: skip

    def _rows(self) -> list[str]:
        rows = [f"  {'role':<12}{'count':>6}{'CPUs each':>11}{'GPUs each':>11}  {'nodes':<24}how"]
        few = "packed on few nodes"
        how: dict[Role, str] = {
            "learner": "on one node where they fit",
            "rollout": "on the learners' devices" if any(one.beside_learner for one in self.bundles) else few,
            "environment": few,
            "judge": few,
            "clip": few,
            "benchmark": few,
        }
        for role, packing in how.items():
            if not (bundles := self.of(role)):
                continue
            first = bundles[0]
            nodes = f"labelled {first.label}" if first.label else "any"
            rows.append(f"  {role:<12}{len(bundles):>6}{first.cpus:>11g}{first.gpus:>11g}  {nodes:<24}{packing}")
        rows.append(f"  {'total':<12}{len(self.bundles):>6}{self.cpus:>11g}{self.gpus:>11g}")
        further = f"  up to {len(self.invited)} engines more join when there is room for them (rollout.max_engines)"
        return [*rows, further] if self.invited else rows


def check_named(recipe: Recipe, roles: Collection[Role] = get_args(Role)) -> None:
    """Refuse engines, a transport between them and the learners, and an environment that could not be had.

    Raises:
        ExtensionError: a class or an option is unknown, or cannot do what the recipe asks of it.
        DataError: the environment knows no such scenario, or does not measure what has a weight.
    """
    engine_of(recipe)
    if recipe.environment is not None:
        environment_of(recipe.environment)
    if {"learner", "rollout"} <= set(roles):
        transport_of(recipe)


def resource_plan(recipe: Recipe, roles: Collection[Role] = get_args(Role)) -> Plan:
    """The plan of a recipe, or of those of its processes that a script starts.

    Raises:
        PlanError: an engine reserves fewer GPUs than it spreads its model over, a judge more than that, or a process a
            GPU share that is no whole number above one; an engine shares a GPU and has no size of its cache; or a
            label is malformed.
        ExtensionError: as `check_named`.
    """
    check_named(recipe, roles)
    rollout, learner, of_learners = recipe.rollout, recipe.learner, recipe.cluster.learner_label
    of_engines = recipe.cluster.rollout_label or of_learners
    for label in filter(None, (of_learners, of_engines, recipe.cluster.judge_label)):
        selector(label)
    learners = [Bundle("learner", i, learner.cpus, learner.gpus, of_learners) for i in range(learner.ranks)]
    guests = check_guests(recipe) if {"learner", "rollout"} <= set(roles) else 0
    engines = [_engine(recipe, i, of_engines, guests) for i in range(rollout.engines)]
    _check_gpus("learner", learner.gpus, 1)
    if learner.optimizer == "adamw_8bit" and not learner.gpus:
        raise PlanError("learner.optimizer=adamw_8bit runs on GPUs only: set learner.gpus, or learner.optimizer=adamw")
    _check_four_bit(recipe)
    _check_gpus("rollout", rollout.gpus, rollout.tensor_parallel)
    _check_cache(recipe)
    judges = _judges(recipe.reward.judge, recipe.cluster.judge_label)
    clips = _clips(recipe.reward.clip)
    benchmarks, environments = _benchmarks(recipe), _environments(recipe.environment)
    bundles = tuple(b for b in (*learners, *engines, *environments, *judges, *clips, *benchmarks) if b.role in roles)
    joined = {"learner", "rollout"} <= set(roles)
    invited = [_engine(recipe, i, of_engines, 0) for i in _invited(recipe)] if joined else []
    return Plan(bundles, estimate_memory(recipe), _work(recipe, roles), recipe.cluster.wait_for_nodes, tuple(invited))


def _invited(recipe: Recipe) -> range:
    """The indices of engines that may join later.

    Raises:
        PlanError: they are fewer than none, or the others take turns with the learner.
    """
    rollout = recipe.rollout
    most = rollout.max_engines or rollout.engines
    if most < rollout.engines:
        raise PlanError(
            f"rollout.max_engines={most} is below rollout.engines={rollout.engines}, which the run waits for: raise "
            "it, or lower the other"
        )
    if most > rollout.engines and rollout.on_learners:
        raise PlanError(
            f"rollout.max_engines={most} and rollout.on_learners={rollout.on_learners} were not made for each other: "
            "engines that take turns with a learner and engines that come and go; leave one out"
        )
    return range(rollout.engines, most)


def _engine(recipe: Recipe, index: int, label: str | None, guests: int) -> Bundle:
    """An engine beside a learner rank has a part of its GPU; where some lie there, the others have a whole one."""
    rollout = recipe.rollout
    if index < guests:
        return Bundle("rollout", index, rollout.cpus, rollout.gpus, label, beside_learner=True)
    return Bundle("rollout", index, rollout.cpus, math.ceil(rollout.gpus) if guests else rollout.gpus, label)


def check_guests(recipe: Recipe) -> int:
    """`rollout.on_learners`, where engines can lie beside learner ranks.

    Raises:
        PlanError: they cannot.
    """
    rollout, learner, count = recipe.rollout, recipe.learner, recipe.rollout.on_learners
    if count == 0:
        return 0
    given = f"rollout.on_learners={count}"
    of_engines = recipe.cluster.rollout_label
    if count > rollout.engines:
        raise PlanError(f"{given} is more than rollout.engines={rollout.engines}: set it to that or less")
    if count > learner.ranks:
        raise PlanError(
            f"{given} is more than learner.ranks={learner.ranks}, and a rank has room for one: set it to less"
        )
    if of_engines is not None and of_engines != recipe.cluster.learner_label:
        raise PlanError(f"{given} puts engines on the learners' nodes: leave cluster.rollout_label out")
    if count == rollout.engines and rollout.max_staleness > 0:
        raise PlanError(
            f"{given} lets every engine sleep while the learner works, so that nothing can run ahead: set "
            "rollout.max_staleness=0, or rollout.engines higher"
        )
    if not rollout.gpus and not learner.gpus:
        return count
    if not (0 < rollout.gpus < 1 and 0 < learner.gpus < 1 and rollout.gpus + learner.gpus <= 1):
        raise PlanError(
            f"{given} lets engine and rank share a GPU, and rollout.gpus={rollout.gpus:g} and learner.gpus="
            f"{learner.gpus:g} are no parts of one: set both to 0.5"
        )
    if not getattr(engine_of(recipe).options, "sleep_mode", True):
        raise PlanError(f"{given} needs engines that give their memory up: set rollout.options.sleep_mode=true")
    if learner.zero_stage == 3 and not learner.offload_optimizer:
        raise PlanError(
            f"{given}: at learner.zero_stage=3 the optimizer cannot leave the GPU for a while: set "
            "learner.offload_optimizer=true, or a lower stage"
        )
    return count


def _check_four_bit(recipe: Recipe) -> None:
    if recipe.policy.lora is None or not recipe.policy.lora.four_bit:
        return
    if recipe.learner.zero_stage == 3:
        raise PlanError(
            "policy.lora.four_bit and learner.zero_stage=3: what is held in 4 bits cannot be cut over ranks: set "
            "learner.zero_stage=2 or lower"
        )
    if recipe.rollout.adapters == "apart":
        raise PlanError(
            "policy.lora.four_bit and rollout.adapters=apart: engines would put the adapters on weights that were "
            "never rounded: set rollout.adapters=merged"
        )


def _judges(judge: JudgeSettings | None, label: str | None) -> list[Bundle]:
    if judge is None or judge.url is not None:
        return []
    _check_gpus("reward.judge", judge.gpus, judge.tensor_parallel)
    if judge.gpus > judge.tensor_parallel:  # below one, an engine shares its GPU with others
        raise PlanError(
            f"reward.judge.gpus={judge.gpus:g} reserves more GPUs than an engine with "
            f"reward.judge.tensor_parallel={judge.tensor_parallel} uses: set "
            f"reward.judge.tensor_parallel={judge.gpus:g}, or reward.judge.gpus={judge.tensor_parallel}"
        )
    return [Bundle("judge", i, judge.cpus, judge.gpus, label) for i in range(judge.engines)]


def _environments(environment: EnvironmentSettings | None) -> list[Bundle]:
    if environment is None:
        return []
    return [Bundle("environment", i, environment.cpus, 0.0) for i in range(environment.workers)]


def _clips(clip: ClipSettings | None) -> list[Bundle]:
    if clip is None:
        return []
    _check_gpus("reward.clip", clip.gpus, 1)
    return [Bundle("clip", i, clip.cpus, clip.gpus) for i in range(clip.actors)]


def _benchmarks(recipe: Recipe) -> list[Bundle]:
    """The engines that measure snapshots beside the training."""
    if not (recipe.evaluation.every and recipe.evaluation.suites):
        return []
    rollout = recipe.rollout
    return [Bundle("benchmark", i, rollout.cpus, rollout.gpus) for i in range(recipe.evaluation.engines)]


def _check_gpus(part: str, gpus: float, spread_over: int) -> None:
    if 0 < gpus < spread_over and spread_over > 1:
        raise PlanError(
            f"{part}.tensor_parallel={spread_over} needs as many GPUs per engine, but {part}.gpus={gpus:g}: set "
            f"{part}.gpus={spread_over}"
        )
    if gpus > 1 and gpus != int(gpus):
        raise PlanError(f"{part}.gpus={gpus:g}: above one GPU only whole numbers can be reserved")


def _check_cache(recipe: Recipe) -> None:
    """An engine on a part of a GPU must say how large its cache is."""
    options = engine_of(recipe).options
    if 0 < recipe.rollout.gpus < 1 and getattr(options, "gpu_cache_gib", 0.0) is None:
        raise PlanError(
            f"rollout.gpus={recipe.rollout.gpus:g} shares a GPU, and vLLM would take what others hold there for its "
            "own: set rollout.options.gpu_cache_gib, the GiB of its KV cache"
        )


def _images(recipe: Recipe) -> str:
    policy, own = recipe.policy, images_per_prompt(recipe.data)
    count = policy.images_per_prompt if own is None else own
    size = "{}x{} pixels".format(*policy.image_size) if policy.image_size else "the size of their files"
    shown = "six frames of " if own is None else f"as {recipe.data.source} has them, "
    tiles = " in one grid" if policy.views == "stitched" else ""
    sweep = ", a LiDAR sweep" if policy.lidar else ""
    patches = f", each image in at most {policy.image_patches} patches" if policy.image_patches else ""
    return f"a prompt: {count} images ({shown}{size}{tiles}{sweep}{patches})"


def _work(recipe: Recipe, roles: Collection[Role]) -> str:
    run, rollout, warm = recipe.run, recipe.rollout, recipe.warm_start
    lines = [f"  {_images(recipe)}"]
    if "learner" in roles:
        lines.append(f"  warm start: {warm.steps:,} steps of {warm.batch_size} answers")
    if {"learner", "rollout"} <= set(roles):
        responses = run.steps * rollout.prompts_per_step * rollout.group_size
        if recipe.environment is not None:
            lines.append(
                f"  RL: {run.steps:,} steps x {rollout.prompts_per_step} starts x {rollout.group_size} episodes of at "
                f"most {recipe.environment.max_turns} turns, each a response of at most {rollout.max_tokens:,} tokens"
            )
            return "\n".join(lines)
        lines.append(
            f"  RL: {run.steps:,} steps x {rollout.prompts_per_step} prompts x {rollout.group_size} responses = "
            f"{responses:,} responses of at most {rollout.max_tokens:,} tokens"
        )
        judge, answers = recipe.reward.judge, rollout.prompts_per_step * rollout.group_size
        if judge is not None and (paced := judge.least_seconds(answers)):
            lines.append(
                f"  judge: at its limits per minute {answers:,} answers, those of a step, take {paced:,.0f} s at least"
            )
    return "\n".join(lines)


def main() -> int:
    """`python -m cluster.plan RECIPE [part.key=value ...] [--nodes TYPE:COUNT ...] [--json]`; see `cluster.planned`."""
    from cluster.planned import plan

    try:
        return plan(sys.argv[1:])
    except (ValueError, OSError) as error:  # a recipe, a model or a table that cannot be used: one sentence
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
