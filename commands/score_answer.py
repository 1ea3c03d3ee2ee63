"""What one answer is worth under a recipe, and why: the reward, debugged before GPUs are spent on it.

python -m commands.score_answer recipes/tiny_judge.yaml --sample ID --answer "A. Going ahead."

Prints the question, what each judge was shown and replied, and every part of the score. Without --sample it lists
some samples. A cluster is started, or joined, only when the recipe's reward needs actors.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
from pathlib import Path

from actors.record.run_folder import check_paths
from actors.scoring.scorers import Scorers
from actors.supervision.own_node import on_living_node
from commands.scoring import places_of_scorers
from commands.script import command
from data.errors import DataError
from data.load import load_data
from data.sample import DrivingSample
from recipe import ActorOptions, Recipe, load_recipe
from rewards.judge import Judge, Judgement, JudgeRequest
from rewards.route import Router
from rewards.score import Score

LISTED = 8


class Witness:
    """A judge that prints what it was asked and what it replied."""

    def __init__(self, judge: Judge) -> None:
        """Stand before a judge."""
        self._judge = judge

    async def judge(self, request: JudgeRequest) -> Judgement:
        """Pass on a request, and the judgement."""
        print(f"--- judge, rubric {request.rubric}: system\n{request.system}\n--- user\n{request.user}")
        judgement = await self._judge.judge(request)
        print(f"--- reply\n{judgement.reply}")
        return judgement


def main(arguments: list[str]) -> int:
    """Score one answer; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.score_answer", description="What one answer is worth, and why."
    )
    parser.add_argument("recipe", help="YAML file, such as recipes/tiny_judge.yaml")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    parser.add_argument("--sample", help="id of a sample of the recipe's data; left out: some ids are listed")
    parser.add_argument("--answer", default="", help="the response to be scored")
    parser.add_argument("--finish-reason", choices=("stop", "length"), default="stop", help="length: was cut off")
    options = parser.parse_intermixed_args(arguments)
    recipe = load_recipe([options.recipe, *options.overrides])
    check_paths(recipe)
    split = load_data(recipe.data, Path(recipe.run.root).expanduser()).split
    samples = {sample.id: sample for sample in (*split.held_out, *split.train)}
    Router(recipe.reward).check_routes(samples.values())
    if options.sample is None:
        shown = {(sample.task, sample.kind): sample for sample in samples.values()}
        print(
            "name one with --sample:",
            *(f"  {s.id}  {s.task} / {s.kind}: {s.question}" for s in shown.values()),
            sep="\n",
        )
        return 0
    sample = _find(samples, options.sample)
    print(
        f"--- sample {sample.id} ({sample.task} / {sample.kind})\n{sample.question}\n--- ground truth\n{sample.answer}"
    )
    score = _scored(recipe, sample, options.answer, options.finish_reason)
    print("--- score")
    for part, value in score.parts.items():
        print(f"{part:<40}{value:>8.2f}")
    print(f"masked: {score.failure}" if score.failure else f"{'value':<40}{score.value:>8.2f}")
    return 0


def _find(samples: dict[str, DrivingSample], name: str) -> DrivingSample:
    if name not in samples:
        close = difflib.get_close_matches(name, samples, n=3) or list(samples)[:LISTED]
        raise DataError(f"--sample {name}: the recipe's data has no such sample; some that it has: {', '.join(close)}")
    return samples[name]


def _scored(recipe: Recipe, sample: DrivingSample, answer: str, finish_reason: str) -> Score:
    with places_of_scorers(recipe) as placed:
        return asyncio.run(on_living_node(_score(recipe, sample, answer, finish_reason, placed)))


async def _score(
    recipe: Recipe, sample: DrivingSample, answer: str, finish_reason: str, options: ActorOptions
) -> Score:
    scorers = await Scorers.start(recipe, options)
    try:
        judge = Witness(scorers.judge) if scorers.judge else None
        return await Router(recipe.reward, judge, scorers.clip).score(sample, answer, finish_reason)
    finally:
        await scorers.stop()


if __name__ == "__main__":
    command(main)
