"""What `python -m cluster.plan RECIPE --simulate` prints: a table or one line of JSON; and the page it may write."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from actors.supervision.settling import settle
from cluster.errors import PlanError
from cluster.forecast import Forecast
from cluster.simulation.page import write_simulation_page
from cluster.simulation.run import WARM_UP, Simulated, simulate
from cluster.simulation.scaled import gpus_of
from cluster.simulation.world import Troubles

LABEL = 34
COLUMN = 14


def simulated(forecast: Forecast, options: argparse.Namespace) -> int:
    """Simulate the recipe of a forecast as a command line says, and print what came of it.

    Raises:
        PlanError: a flag's value is of no use, or the recipe cannot be simulated.
    """
    recipe, troubles = forecast.recipe, _troubles(options)
    if options.steps <= WARM_UP:
        raise PlanError(f"--steps {options.steps}: the first {WARM_UP} steps are not counted, so simulate at least 3")
    settle()
    began, found = time.monotonic(), list[Simulated]()
    for gpus in options.gpus or [gpus_of(recipe)]:
        found.append(simulate(recipe, forecast.given, gpus, options.steps, troubles, grow=options.grow_batch))
    figures = [one.as_dict() for one in found]
    if options.page is not None:
        path = write_simulation_page(options.page, recipe.run.name, found)
    if options.json:
        wall, share = time.monotonic() - began, max(one["driver_cpu_share"] for one in figures)
        print(json.dumps({"simulations": figures, "wall_s": round(wall, 1), "driver_cpu_share": share}))
        return 0
    print(table(figures))
    if options.page is not None:
        print(f"\nthe first steps, drawn: {path}")
    return 0


def _troubles(options: argparse.Namespace) -> Troubles:
    for flag in ("losses_per_hour", "spot_per_hour", "slow_judges"):
        if not 0 <= getattr(options, flag) < (1.0001 if flag == "slow_judges" else 1e6):
            least = "a share from 0 to 1" if flag == "slow_judges" else "0 or more"
            raise PlanError(f"--{flag.replace('_', '-')} {getattr(options, flag):g} must be {least}")
    return Troubles(
        losses_per_hour=options.losses_per_hour,
        spot_per_hour=options.spot_per_hour,
        slow_judge_share=options.slow_judges,
    )


def table(figures: Sequence[dict[str, Any]]) -> str:
    """Simulations side by side."""
    lines = [f"{name:<{LABEL}}" + "".join(f"{value:>{COLUMN}}" for value in values) for name, values in rows(figures)]
    return "\n".join(lines)


def rows(figures: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The lines of the table: what it is, and the value of each simulation."""

    def busy(one: dict[str, Any], kind: str) -> str:
        return f"{one['busy'][kind]:.0%}" if kind in one["busy"] else "none"

    def of(name: str, form: str = "{:,}") -> list[str]:
        return [form.format(one[name]) for one in figures]

    shape = [f"{one['learner_ranks']}+{one['engines']}+{one['judges']}" for one in figures]
    return [
        ("GPUs", of("gpus")),
        ("learner ranks + engines + judges", shape),
        ("prompts of a step", of("prompts_per_step")),
        ("steps of the run", of("run_steps")),
        ("a step, by the plan (s)", of("predicted_step_s", "{:.0f}")),
        ("a step, simulated (s)", of("step_s", "{:.0f}")),
        ("hours", of("hours", "{:.1f}")),
        ("USD", of("cost")),
        ("staleness, mean (most)", [f"{one['staleness_mean']:g} ({one['staleness_max']:g})" for one in figures]),
        ("engines at work", [busy(one, "generating") for one in figures]),
        ("judges at work", [busy(one, "judging") for one in figures]),
        ("learner ranks at work", [busy(one, "learning") for one in figures]),
        ("until a score, median (s)", of("score_wait_s_median", "{:.0f}")),
        ("until a score, 99th percentile (s)", of("score_wait_s_p99", "{:.0f}")),
        ("most that waited for an engine", [f"{one['queues']['engines']:,}" for one in figures]),
        ("most that waited for a judge", [f"{one['queues']['judges']:,}" for one in figures]),
        ("lost, asked again", [f"{one['losses']}, {one['retried']:,.0f}" for one in figures]),
        ("learner begun anew", of("learner_restarts", "{:.0f}")),
        ("driver's CPU, of simulated time", of("driver_cpu_share", "{:.1%}")),
        ("the simulation itself took (s)", of("wall_s", "{:.0f}")),
    ]
