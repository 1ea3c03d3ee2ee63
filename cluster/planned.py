"""What `python -m cluster.plan` prints of a forecast: the useful lines first, then each figure with its parts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.advice import Advice, faster, smaller
from cluster.bounds import impossible, lengths_refused
from cluster.errors import PlanError
from cluster.facts import FACTS_FILE, load_facts
from cluster.forecast import Assumptions, Forecast
from cluster.memory import GIB
from cluster.plan import Plan
from evaluation.predicted import PLAN_FILE
from recipe import Recipe, load_recipe


def arguments_of(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster.plan", description="What a recipe needs; starts nothing.")
    parser.add_argument("recipe", nargs="+", metavar="RECIPE [part.key=value ...]")
    parser.add_argument(
        "--nodes", nargs="+", default=[], metavar="TYPE[:COUNT]", help="machines; default: as many as needed"
    )
    parser.add_argument("--mean-tokens", type=float, help="tokens of a response on average")
    parser.add_argument("--facts", type=Path, default=FACTS_FILE, help="machines, prices and efficiencies of your own")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    group = parser.add_argument_group("simulation", "the real driver against actors that only take time")
    group.add_argument("--simulate", action="store_true", help="simulate the first steps, and print what came of it")
    group.add_argument(
        "--gpus", nargs="+", type=int, metavar="N", help="numbers of GPUs to try (default: the recipe's own)"
    )
    group.add_argument("--steps", type=int, default=6, help="steps to simulate, at least 3 (default: 6)")
    group.add_argument("--grow-batch", action="store_true", help="prompts of a step in proportion to the GPUs")
    group.add_argument("--losses-per-hour", type=float, default=0.0, metavar="N", help="actors that die alone")
    group.add_argument("--spot-per-hour", type=float, default=0.0, metavar="N", help="nodes that are taken away")
    group.add_argument("--slow-judges", type=float, default=0.0, metavar="SHARE", help="replies 20 times as long")
    group.add_argument("--page", type=Path, metavar="FILE", help="also write a page with a picture of the steps")
    return parser.parse_intermixed_args(given)


def forecast_of(options: argparse.Namespace) -> Forecast:
    """The forecast that a command line asks for.

    Raises:
        RecipeError, PlanError, PolicyError: one sentence on what to mend.
    """
    facts = load_facts(options.facts)
    nodes = dict[str, int]()
    for named in options.nodes:
        name, _, count = named.partition(":")
        facts.node(name)
        if count and not count.isdigit():
            raise PlanError(f"--nodes {named} must look like TYPE or TYPE:COUNT, such as p4de.24xlarge:3")
        nodes[name] = int(count or 1)
    return Forecast(load_recipe(options.recipe), Assumptions(facts, nodes, options.mean_tokens))


def as_dict(forecast: Forecast) -> dict[str, Any]:
    """The figures of a forecast."""
    memory, misfits = forecast.memory(), [*forecast.misfits(), *lengths_refused(forecast)]
    found: dict[str, Any] = {
        "fits": not misfits,
        "misfits": misfits,
        "peak_gib": {role: round(held.total, 1) for role, held in memory.items()},
        "parameters": forecast.policy.parameters,
        "learning": forecast.learning,
        "micro_batch_positions": forecast.row_positions,
        "checkpoint_gib": round(forecast.checkpoint_bytes / GIB, 1),
    }
    if not forecast.plan.gpus:
        return found | {"activations_gib": round(forecast.activations / GIB, 3)}
    times, synchronous = forecast.times(), forecast.with_settings(("rollout", "max_staleness", 0)).times()
    ahead = forecast.with_settings(("rollout", "max_staleness", 1)).times()
    return found | {
        "step_s": round(times.step_s, 1),
        "step_s_synchronous": round(synchronous.step_s, 1),
        "step_s_staleness_1": round(ahead.step_s, 1),
        "longest_stage": times.longest,
        "stages": {name: round(seconds, 1) for name, seconds in times.stages.items()},
        "hours": round(forecast.hours, 2),
        "cost": round(forecast.cost),
        "nodes": forecast.nodes,
        "judge_load_s": round(forecast.judge_load_s),
        "mean_tokens": round(forecast.work.mean),
        "facts": str(forecast.given.facts.date),
    }


def keep_prediction(recipe: Recipe, folder: Path) -> None:
    """Write what is predicted of a step into a run's folder, for its report; nothing for CPUs or an unknown model."""
    if not recipe.learner.gpus or not recipe.rollout.gpus:
        return
    try:
        times = Forecast(recipe, Assumptions(load_facts(), {})).times()
    except PlanError:
        return
    generating = times.stages["generation"] + times.stages["judging not hidden"]
    predicted = {"generate_s": generating, "learn_s": times.stages["learning"], "sync_s": times.stages["sync"]}
    (folder / PLAN_FILE).write_text(json.dumps(predicted | {"step_s": times.step_s}))


def outline(recipe: Recipe, placed: Plan) -> list[str]:
    """The useful lines of a dry run: how long and how dear; nothing for CPUs. Memory is what `plan` adds.

    Raises:
        PlanError: something cannot fit (`cluster.bounds`).
    """
    if not placed.of("learner") or not placed.of("rollout") or not recipe.learner.gpus:
        return []
    try:
        forecast = Forecast(recipe, Assumptions(load_facts(), {}))
        hours, step_s = forecast.hours, forecast.times().step_s
    except PlanError as error:
        return [f"not planned: {error}"]
    if wrong := impossible(forecast):
        raise PlanError("; ".join(wrong))
    nodes = ", ".join(f"{count} x {name}" for name, count in forecast.nodes.items())
    return [
        f"about {hours:.1f} hours in steps of {step_s:.0f} s, {forecast.cost:,.0f} USD on {nodes}; what it needs "
        "of each GPU's memory says: python -m cluster.plan RECIPE\n"
    ]


def described(forecast: Forecast) -> str:
    """The forecast as text."""
    found = as_dict(forecast)
    lines = [*_first(forecast, found), "", "memory of one GPU (GiB)"]
    for role, held in forecast.memory().items():
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in held.parts.items() if gib >= 0.05)
        lines.append(f"  {role:<10}{held.total:>7.1f} of {held.gib:g}: {parts}")
    states = sum(forecast.learner_states().values())
    lines.append(f"  plain arithmetic for a learner rank, activations apart: {states:.1f}")
    lines.append(f"  the largest micro-batch has {forecast.row_positions:,} positions (learner.micro_batch_tokens)")
    if forecast.plan.gpus:
        lines += ["", "a step (seconds)"]
        lines += [f"  {name:<20}{seconds:>8.1f}" for name, seconds in found["stages"].items()]
        lines.append(f"  {'synchronous':<20}{found['step_s_synchronous']:>8.1f}")
        lines.append(f"  {'staleness 1':<20}{found['step_s_staleness_1']:>8.1f}")
        lines.append(f"  with responses of {found['mean_tokens']} tokens on average (--mean-tokens)")
    lines += ["", "faster", *_advised(faster(forecast), "h")] if forecast.plan.gpus else []
    if forecast.misfits():
        lines += ["", "smaller", *_advised(smaller(forecast), "GiB")]
    source = f"facts of {forecast.given.facts.date} (cluster/facts.yaml); nothing of this was run on a GPU"
    return "\n".join([*lines, "", source])


def _first(forecast: Forecast, found: dict[str, Any]) -> list[str]:
    lines = ["it fits" if found["fits"] else "it does not fit: " + "; ".join(found["misfits"])]
    if not forecast.plan.gpus:
        activations = f"a pass adds {found['activations_gib']:.2f} GiB to a learner rank"
        return [*lines, f"{activations}; times are predicted for GPUs alone"]
    nodes = ", ".join(f"{count} x {name}" for name, count in found["nodes"].items())
    lines.append(
        f"{found['hours']:.1f} hours for {forecast.recipe.run.steps:,} steps of {found['step_s']:.0f} s, "
        f"{found['cost']:,} USD on {nodes}; the longest stage is {found['longest_stage']}"
    )
    lines.append(f"a checkpoint takes {found['checkpoint_gib']} GiB")
    judge = forecast.recipe.reward.judge
    if judge is not None and forecast.judge_load_s > 0.8 * judge.start_timeout_s:
        lines.append(
            f"the judge's weights take {forecast.judge_load_s:.0f} s to read at least; reward.judge.start_timeout_s "
            f"is {judge.start_timeout_s:g}: raise it"
        )
    return lines


def _advised(advice: list[Advice], unit: str) -> list[str]:
    lines = []
    for one in advice:
        gain = f"{one.hours:.1f} h less" if unit == "h" else f"{one.gib:.1f} GiB less"
        cost = f", {one.gpus:+g} GPUs" if one.gpus else ""
        slower = f", {-one.hours:.1f} h more" if unit == "GiB" and one.hours < -0.05 else ""
        lines.append(f"  {one.settings:<44}{gain}{cost}{slower}")
    return lines or ["  nothing that is known here"]


def plan(given: Sequence[str]) -> int:
    """Print the plan of a command line; 1 where it does not fit."""
    options = arguments_of(given)
    forecast = forecast_of(options)
    if options.simulate:
        from cluster.simulation.command import simulated  # brings torch and Ray

        return simulated(forecast, options)
    print(json.dumps(as_dict(forecast)) if options.json else described(forecast))
    return 0 if not [*forecast.misfits(), *lengths_refused(forecast)] else 1
