"""The tables of `cluster.sizing` as a page, docs/sizing.md, and as a line of JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from cluster.errors import PlanError
from cluster.facts import FACTS_FILE, Facts, load_facts
from cluster.sizing import MARGIN, RECIPE, SIZES, Row, Size, rows
from recipe import load_recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sizing.md"
HEAD = """# How many GPUs

Made from the planner by `python -m cluster.sizing --write`; a test holds it current. Nothing of it was run on a GPU:
what the planner knows and assumes says [gpu.md](gpu.md#before-you-pay-for-one-python--m-clusterplan-recipe). Each row
is the work of `recipes/driverx_grpo.yaml` ({work}),
and the fastest way to share the GPUs out that fills none beyond {margin:.0%}, at `rollout.max_staleness: {staleness}`.

- GPUs are those of {node}; USD count each at its share of the machine's list price of {date}.
- Qwen's policies see six frames of 448x252 pixels (144 tokens each), those of Align-DS-V's shape 336x336 (576 tokens).
- The 11B is Align-DS-V's shape with 44 layers instead of 32, which nobody published. Llama-3.2-11B-Vision learns here
  too, but vLLM no longer serves it: the transformers engine alone samples from it, too slowly for a run of this size.
- LoRA has rank 16 on attention and MLP. Its reference is the policy with adapters off; full learning keeps a copy.
- Not counted: what AdamW takes on the host's processors where the optimizer is offloaded.
- `python -m cluster.sizing --json` has every row with its overrides, for `python -m cluster.plan {recipe}`.
"""
SETTINGS = {
    "learner.zero_stage=2": "ZeRO-2",
    "learner.zero_stage=3": "ZeRO-3",
    "learner.micro_batch_tokens=12288": "`learner.micro_batch_tokens=12288`",
    "learner.offload_optimizer=true": "`learner.offload_optimizer=true`",
}
"""Overrides that the tables name beside the numbers of processes."""
COLUMNS = (
    "| policy | learns | judge | learners | engines | judges | settings | GiB of a learner's GPU | step | run | USD |"
)


def page(facts: Facts, found: Iterable[Row]) -> str:
    """The page."""
    recipe, found = load_recipe([str(RECIPE)]), list(found)
    work = f"{recipe.run.steps} steps of {recipe.rollout.prompts_per_step} x {recipe.rollout.group_size} answers"
    head = HEAD.format(
        work=f"{work} of at most {recipe.rollout.max_tokens:,} tokens, 700 on average",
        margin=MARGIN,
        staleness=recipe.rollout.max_staleness,
        node=next(iter(facts.nodes)),
        date=facts.date,
        recipe=RECIPE.relative_to(RECIPE.parents[1]),
    )
    return "".join([head, *(_table(size, [row for row in found if row.gpus == size.name]) for size in SIZES)])


def _table(size: Size, found: Sequence[Row]) -> str:
    title = "1 GPU" if size.gpus == 1 else f"{size.name} GPUs"
    if size.gpus == 1:
        where = (
            "Learner and engine share it, and the memory is that of both. A judge runs elsewhere (`reward.judge.url`), "
            "or rules score: its time is not in the step."
        )
    else:
        where = "The judge has the 8 to itself." if size.apart else "Learners, engines and judges have their own each."
    ruler = "|".join(["", *["---"] * COLUMNS.count(" | "), "---", ""])
    return "\n".join([f"\n## {title}\n", where, "", COLUMNS, ruler, *map(_line, found), ""])


def _line(row: Row) -> str:
    settings = ", ".join(SETTINGS[one] for one in row.overrides if one in SETTINGS) or "-"
    judges = f"{row.judges} x {row.judge_gpus} GPU{'s' * (row.judge_gpus > 1)}" if row.judges else "-"
    start = f"| {row.policy} | {row.learning} | {row.judge} |"
    if row.misfits:
        return f"{start} - | - | - | {settings} | does not fit: {'; '.join(row.misfits)} | - | - | - |"
    gib = next(held for role, held in row.peak_gib.items() if role.startswith("learner"))
    return (
        f"{start} {row.ranks} | {row.engines} | {judges} | {settings} | {gib:.0f} | {row.step_s:,.0f} s | "
        f"{row.hours:.1f} h | {row.usd:,} |"
    )


def sizing(arguments: Sequence[str] | None = None) -> int:
    """The command of `cluster.sizing`; 0, 1 where the page is not current, 2 where the facts cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m cluster.sizing", description="How many GPUs for what; see docs/")
    parser.add_argument("--facts", type=Path, default=FACTS_FILE, help="machines, prices and efficiencies of your own")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every row in one line")
    form.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    form.add_argument("--check", action="store_true", help=f"say whether {PAGE.name} is current")
    options = parser.parse_args(arguments)
    try:
        facts = load_facts(options.facts)
        found = list(rows(facts))
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"facts": str(facts.date), "rows": [asdict(row) for row in found]}))
        return 0
    made = page(facts, found)
    if options.write:
        PAGE.write_text(made)
        print(PAGE)
    elif options.check:
        current = PAGE.is_file() and PAGE.read_text() == made
        print(f"{PAGE.name} is {'current' if current else 'not current: python -m cluster.sizing --write'}")
        return 0 if current else 1
    else:
        print(made)
    return 0
