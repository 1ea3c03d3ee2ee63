"""Which recipe fits how many GPUs: the work of `recipes/driverx_grpo.yaml` with other policies, judges and machines.

python -m cluster.sizing             # the tables as markdown
python -m cluster.sizing --json      # every row in one line
python -m cluster.sizing --write     # docs/sizing.md; a test holds it current
python -m cluster.sizing --check     # whether that is current; exit code 1 where it is not

Each row is the fastest way to share the GPUs out that fits, by the planner (`cluster.forecast`). Starts nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.architecture import Architecture, config_of, vision_language
from cluster.facts import Facts
from cluster.forecast import Assumptions, Change, Forecast
from recipe import load_recipe

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "driverx_grpo.yaml"


@dataclass(frozen=True, slots=True)
class Model:
    """A policy or a judge of the tables."""

    name: str
    model: str
    overrides: tuple[str, ...] = ()
    """What of the recipe it wants otherwise."""
    layers: int | None = None
    """Of its text, where it is a deeper model of the same shape, which nobody published."""
    spread: tuple[int, ...] = (1,)
    """Over how many GPUs a judge may be spread."""


QWEN_IMAGES = "policy.image_size=[448,252]"
POLICIES = (
    Model("3B: Qwen2.5-VL-3B", "Qwen/Qwen2.5-VL-3B-Instruct", (QWEN_IMAGES,)),
    Model("7B: Qwen2.5-VL-7B", "Qwen/Qwen2.5-VL-7B-Instruct", (QWEN_IMAGES,)),
    Model("8B: Align-DS-V", "PKU-Alignment/Align-DS-V"),
    Model("11B: Align-DS-V's shape, 44 layers", "PKU-Alignment/Align-DS-V", layers=44),
)
JUDGES = (
    Model("7B", "Qwen/Qwen2.5-7B-Instruct"),
    Model("32B", "Qwen/Qwen2.5-32B-Instruct", spread=(2, 4)),
    Model("72B", "Qwen/Qwen2.5-72B-Instruct", spread=(4, 8)),
)
LEARNING = {"LoRA": ("policy.lora={rank: 16, alpha: 32, targets: [attention, mlp]}",), "full": ()}
ELSEWHERE = Model("elsewhere", "elsewhere")
"""A judge behind an address: `reward.judge.url`."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many GPUs there are."""

    name: str
    gpus: int
    apart: int = 0
    """GPUs for judges alone, beside `gpus`; 0: judges take theirs from `gpus`."""


SIZES = (Size("1", 1), Size("8", 8), Size("16 + 8", 16, 8))
SMALLER: tuple[tuple[Change, ...], ...] = (
    (),
    (("learner", "micro_batch_tokens", 12288),),
    (("learner", "micro_batch_tokens", 12288), ("learner", "offload_optimizer", True)),
)
"""What is tried in turn until something fits: each costs time that the planner does not see, or sees in part."""
MARGIN = 0.95
"""Share of a GPU's memory that may be filled by prediction, which may be a little too low (`benchmarks.plan`)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    gpus: str
    policy: str
    learning: str
    judge: str
    misfits: tuple[str, ...]
    """Why the way that comes nearest does not fit; empty where one does."""
    overrides: tuple[str, ...]
    """Of the recipe."""
    ranks: int
    engines: int
    judges: int
    judge_gpus: int
    """Of one judge."""
    peak_gib: Mapping[str, float]
    """Of a GPU of each role."""
    step_s: float
    hours: float
    usd: float
    """For the GPUs that are used, each at its share of the machine's price."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How the GPUs are shared out."""

    ranks: int
    engines: int
    judges: int
    judge_gpus: int


def rows(facts: Facts, sizes: Sequence[Size] = SIZES, policies: Sequence[Model] = POLICIES) -> Iterator[Row]:
    """Every row, size by size; what a pass of a policy needs is traced once for all of them.

    Raises:
        PlanError: the facts lack a model or have no machine.
    """
    known = {policy.name: _architecture(policy, facts) for policy in policies}
    passes: dict[tuple[Any, ...], int] = {}
    for size in sizes:
        for policy in policies:
            for learning in LEARNING:
                for judge in JUDGES if size.gpus > 1 else (ELSEWHERE,):
                    yield _Row(facts, known[policy.name], passes, size, policy, learning, judge).best()


def _architecture(policy: Model, facts: Facts) -> Architecture:
    config = copy.deepcopy(config_of(policy.model, None, facts, "policy.model"))
    if policy.layers is not None:
        config.get_text_config().num_hidden_layers = policy.layers
    return vision_language(config)


@dataclass(frozen=True)
class _Row:
    """A search among the ways to share the GPUs out."""

    facts: Facts
    known: Architecture
    passes: dict[tuple[Any, ...], int]
    size: Size
    policy: Model
    learning: str
    judge: Model

    def best(self) -> Row:
        """The fastest that fits; of those that do not, the one that lacks least."""
        nearest: tuple[float, Row] | None = None
        for smaller in SMALLER:
            fitting = list[Row]()
            for shares in self._shares():
                for stage in (2, 3) if shares.ranks > 1 else (0,):
                    row, over = self._row(shares, (("learner", "zero_stage", stage), *smaller))
                    if not row.misfits:
                        fitting.append(row)
                    elif nearest is None or over < nearest[0]:
                        nearest = over, row
            if fitting:
                return min(fitting, key=lambda row: (round(row.step_s), row.judge_gpus))
        assert nearest is not None
        return nearest[1]

    def _shares(self) -> Iterator[Shares]:
        if self.size.gpus == 1:
            yield Shares(1, 1, 0, 0)
            return
        for spread in self.judge.spread:
            judges = (self.size.apart or spread) // spread
            left = self.size.gpus - (0 if self.size.apart else judges * spread)
            for ranks in range(1, left) if left <= 8 else range(4, left - 3, 4):
                yield Shares(ranks, left - ranks, judges, spread)

    def _overrides(self, shares: Shares) -> tuple[str, ...]:
        own = [f"policy.model={self.policy.model}", *self.policy.overrides, *LEARNING[self.learning]]
        if self.size.gpus == 1:
            own += ["learner.gpus=0.5", "rollout.gpus=0.5", "rollout.options.gpu_cache_gib=16"]
            own += ["rollout.options.max_concurrent=64"]
            own += ["reward.judge.url=https://127.0.0.1/v1", "reward.judge.gpus=0", "reward.judge.tensor_parallel=1"]
        else:
            own += [f"reward.judge.model={self.judge.model}", f"reward.judge.engines={shares.judges}"]
            own += [f"reward.judge.gpus={shares.judge_gpus}", f"reward.judge.tensor_parallel={shares.judge_gpus}"]
        if not self.size.apart:
            own += ["cluster.learner_label=null", "cluster.rollout_label=null", "cluster.judge_label=null"]
        return (*own, f"learner.ranks={shares.ranks}", f"rollout.engines={shares.engines}")

    def _forecast(self, shares: Shares, changes: tuple[Change, ...]) -> Forecast:
        recipe = load_recipe([str(RECIPE), *self._overrides(shares)])
        forecast = Forecast(recipe, Assumptions(self.facts, {}), self.known).with_settings(*changes)
        key = (self.policy.name, self.learning, forecast.row_positions)
        if key not in self.passes:
            self.passes[key] = forecast.activations
        forecast.__dict__["activations"] = self.passes[key]
        return forecast

    def _row(self, shares: Shares, changes: tuple[Change, ...]) -> tuple[Row, float]:
        """A way to share the GPUs out, and by how many GiB it does not fit."""
        forecast = self._forecast(shares, changes)
        memory, gpus = forecast.memory(), self.size.gpus + self.size.apart
        over = sum(max(0.0, held.total - MARGIN * held.gib) for held in memory.values())
        full = [f"{role} {held.total:.0f} GiB" for role, held in memory.items() if held.total > MARGIN * held.gib]
        changed = tuple(f"{part}.{field}={str(value).lower()}" for part, field, value in changes)
        row = Row(
            self.size.name,
            self.policy.name,
            self.learning,
            self.judge.name,
            tuple(full or forecast.misfits()),
            (*self._overrides(shares), *changed),
            shares.ranks,
            shares.engines,
            shares.judges,
            shares.judge_gpus,
            {role: round(held.total, 1) for role, held in memory.items()},
            round(forecast.times().step_s, 1),
            round(forecast.hours, 1),
            round(forecast.hours * forecast.node.usd_per_hour * gpus / forecast.node.gpus),
        )
        return row, over


def main() -> int:
    """The command; see `cluster.sizing_page`."""
    from cluster.sizing_page import sizing

    return sizing()


if __name__ == "__main__":
    raise SystemExit(main())
