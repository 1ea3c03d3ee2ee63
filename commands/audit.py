"""What a run learnt from, and what it would have learnt from under another reward.

    python -m commands.audit runs/tiny                            every update: its advantages derived once more
    python -m commands.audit runs/tiny --step 3                   each response of one update
    python -m commands.audit runs/tiny --rollout 04f3             the whole life of one response, by its id
    python -m commands.audit runs/tiny --reward mine.yaml         the same responses scored by that recipe's reward

Reads the run's folder; engines and learners are not started, judge or CLIP only where the other reward asks them.
"""

from __future__ import annotations

import argparse
import asyncio
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from actors.driving.credit import EpisodeCredit
from actors.experience import Credit
from actors.scoring.scorers import Scorers
from actors.supervision.own_node import on_living_node
from commands.scoring import places_of_scorers
from commands.script import command
from data.errors import DataError
from data.load import load_data
from data.rollout import Rollout
from data.sample import DrivingSample
from evaluation.ledger import Changes, changes, find_rollout, largest_gap, learnt, published, updates
from evaluation.numbers import fixed, short, signed
from evaluation.run_record import POLICY_FOLDER, RECIPE_FILE, read_run
from failures import RunFolderError
from policies.algorithms.registry import make_algorithm
from policies.model import load_processor
from policies.prompt import PromptEncoder
from recipe import ActorOptions, Recipe, load_recipe
from rewards.group import Group, ScoredRollout

SHOWN = 10
"""How many changed responses are listed."""
WIDTH = 100


def main(arguments: list[str]) -> int:
    """Audit; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.audit", description="What a run learnt from, and what another reward would change."
    )
    parser.add_argument("run_folder", type=Path, help="folder of the run, such as runs/tiny")
    parser.add_argument("overrides", nargs="*", metavar="reward.key=value", help="changes of the run's own reward")
    parser.add_argument("--step", type=int, help="the update of this step alone, with each response")
    parser.add_argument("--rollout", metavar="ID", help="the whole life of one response")
    parser.add_argument("--reward", metavar="RECIPE", type=Path, help="score anew by the `reward` of this recipe")
    options = parser.parse_intermixed_args(arguments)
    folder: Path = options.run_folder
    if not (folder / RECIPE_FILE).is_file():
        raise RunFolderError(f"{folder} is not the folder of a run: there is no {RECIPE_FILE} in it")
    recipe = load_recipe([str(folder / RECIPE_FILE), *options.overrides])
    if options.reward is not None:
        recipe = recipe.model_copy(update={"reward": load_recipe([str(options.reward), *options.overrides]).reward})
    if options.rollout is not None:
        print("\n".join(life(folder, recipe, options.rollout)))
    elif options.reward is not None or options.overrides:
        print("\n".join(scored_anew(folder, recipe, options.step)))
    elif options.step is not None:
        print("\n".join(responses(folder, recipe, options.step)))
    else:
        print("\n".join(derived_again(folder, recipe)))
    return 0


def derived_again(folder: Path, recipe: Recipe) -> list[str]:
    """A row for each update: where its responses come from, and its advantages derived once more."""
    credit, metrics = credit_of(folder, recipe), {int(step["step"]): step for step in read_run(folder).steps}
    rows = [f"{'step':>5}{'responses':>11}{'masked':>8}{'versions':>10}{'engines':>9}{'advantages':>12}"
            f"{'off by':>9}{'learner by':>12}{'probe gap':>11}{'grad norm':>11}"]  # fmt: skip
    compared, largest = 0, 0.0
    for update in updates(folder):
        again = credit.of_batch(update.groups)
        found, used = changes(update.step, update.groups, again), largest_gap(again, learnt(folder, update.step))
        compared, largest = compared + found.compared, max(largest, found.largest)
        rollouts, (oldest, newest) = update.rollouts, update.versions
        masked = sum(one.score.failure is not None for one in rollouts)
        versions = str(oldest) if oldest == newest else f"{oldest}-{newest}"
        engines, of_step = len({one.rollout.engine for one in rollouts}), metrics.get(update.step, {})
        gap, norm = (_short(of_step.get(name)) for name in ("probe_gap", "grad_norm"))
        rows.append(f"{update.step:>5}{len(rollouts):>11}{masked:>8}{versions:>10}{engines:>9}{found.compared:>12}"
                    f"{short(found.largest):>9}{_short(used):>12}{gap:>11}{norm:>11}")  # fmt: skip
    if credit.algorithm.over_batch:
        return [
            *rows,
            f"{recipe.algorithm.name} forms advantages over a whole batch, on the learners: --rollout shows theirs",
        ]
    return [*rows, f"{compared:,} advantages derived again; the largest difference is {short(largest)}"]


def responses(folder: Path, recipe: Recipe, step: int) -> list[str]:
    """Each response of an update: its id, reward and advantage, and whose it is."""
    credit, lines = credit_of(folder, recipe), list[str]()
    for update in updates(folder, step):
        for group, again in zip(update.groups, credit.of_batch(update.groups), strict=True):
            lines.append(f"{group.sample.id}  {group.sample.task}: {textwrap.shorten(group.sample.question, WIDTH)}")
            recorded = group.advantages or (None,) * len(group.rollouts)
            for scored, then, now in zip(group.rollouts, recorded, again.advantages or recorded, strict=True):
                one = scored.rollout
                lines.append(
                    f"  {one.request_id}  reward {_reward(scored):>6}  advantage {signed(then, 3):>7}"
                    f" (again {signed(now, 3)})  {one.engine}, version {one.weight_version}, seed {one.seed}"
                )
    return lines


def _versions(rollout: Rollout) -> str:
    """Which weights sampled which tokens, where they were several."""
    spans = ", ".join(f"{span.version} tokens {span.start} to {span.end}" for span in rollout.weight_spans)
    again = f"; begun again {rollout.dropped} times for newer weights" if rollout.dropped else ""
    return (f"; weights {spans}" if spans else "") + again


def life(folder: Path, recipe: Recipe, name: str) -> list[str]:
    """All that is recorded of one response."""
    update, group, scored = find_rollout(folder, name)
    rollout, sample = scored.rollout, group.sample
    place = [one.rollout.request_id for one in group.rollouts].index(rollout.request_id)
    again = credit_of(folder, recipe).of_batch(update.groups)[update.groups.index(group)]
    recorded = group.advantages[place] if group.advantages else None
    metrics = next((one for one in read_run(folder).steps if one["step"] == update.step), {})
    sync = published(folder, rollout.weight_version)
    others = ", ".join(_reward(one) for one in group.rollouts)
    lines = [
        f"response {rollout.request_id} of step {update.step}",
        f"asked      {sample.id} ({sample.task}, {sample.kind}) of scene {sample.scene_id}: {sample.question}",
        *(f"           {camera}: {path}" for camera, path in sample.images.items()),
        f"truth      {sample.answer}",
        f"generated  by {rollout.engine} with weights {rollout.weight_version} and seed {rollout.seed}, "
        f"{rollout.finished_at - rollout.started_at:.2f} s" + _versions(rollout),
        f"prompt     {len(rollout.prompt_ids)} tokens; response {len(rollout.token_ids)} tokens, ended by "
        f"{rollout.finish_reason}, log-probability {sum(rollout.logprobs):.3f} in all",
        f"text       {rollout.text!r}",
        f"scored     {scored.scoring_started_at - rollout.finished_at:.2f} s later: {_reward(scored)}"
        + (f" ({scored.score.failure})" if scored.score.failure else ""),
        *(f"           {part} {value:g}" for part, value in scored.score.parts.items()),
        f"group      rewards {others}",
        f"advantage  {signed(recorded, 4)}; derived again "
        f"{signed(again.advantages[place] if again.advantages else None, 4)}",
        f"learnt     with {len(update.rollouts)} responses: loss {_short(metrics.get('loss'))}, grad norm "
        f"{_short(metrics.get('grad_norm'))}, learning rate {_short(metrics.get('lr'))}",
    ]
    if (seen := learnt(folder, update.step).get(rollout.request_id)) is not None:
        named = ("old_logprobs", "reference_logprobs", "values", "advantages")
        means = ", ".join(f"{name} {_short(_mean(seen[name]))}" for name in named if seen[name])
        lines.append(f"learner    means over its tokens: {means}")
    if sync is not None:
        lines.append(
            f"weights    version {sync['version']} went to {', '.join(sync['engines'])}: {sync['compared']} compared, "
            f"{sync['incomparable']} not comparable, probe gap {_short(sync['gap'])}"
        )
    return lines


def scored_anew(folder: Path, recipe: Recipe, step: int | None) -> list[str]:
    """What the recipe's reward makes of responses that were scored by another."""
    if recipe.environment is not None:
        raise DataError("episodes are scored by their environment while they are driven: nothing scores them anew")
    split = load_data(recipe.data, Path(recipe.run.root).expanduser()).split
    samples = {sample.id: sample for sample in (*split.train, *split.held_out)}
    recorded = [(one.step, one.groups) for one in updates(folder, step)]
    pairs = _with_scorers(credit_of(folder, recipe), recipe, recorded, samples)
    rows = [f"{'step':>5}{'responses':>11}{'reward':>16}{'advantages':>12}{'largest':>9}{'turned':>8}"
            f"{'silenced':>10}{'awakened':>10}"]  # fmt: skip
    for number, then, now in pairs:
        found = changes(number, then, now)
        rows.append(_row(found))
    moved = sorted(_moved(pairs), key=lambda one: -abs(one[3]))[:SHOWN]
    rows += [f"the {len(moved)} responses whose advantage changes most:"] * bool(moved)
    return rows + [
        f"  {one.rollout.request_id}  step {number}  reward {_reward(one)} -> {_reward(other)}, advantage "
        f"{signed(change, 3)}  {textwrap.shorten(one.rollout.text, WIDTH // 2)!r}"
        for number, one, other, change in moved
    ]


Anew = tuple[int, Sequence[Group], Sequence[Group]]
"""A step, its groups as recorded, and the same scored anew."""


def _with_scorers(
    credit: Credit | EpisodeCredit,
    recipe: Recipe,
    recorded: Sequence[tuple[int, Sequence[Group]]],
    samples: Mapping[str, DrivingSample],
) -> list[Anew]:
    with places_of_scorers(recipe) as placed:
        return asyncio.run(on_living_node(_score(credit, recipe, recorded, samples, placed)))


async def _score(
    credit: Credit | EpisodeCredit,
    recipe: Recipe,
    recorded: Sequence[tuple[int, Sequence[Group]]],
    samples: Mapping[str, DrivingSample],
    options: ActorOptions,
) -> list[Anew]:
    scorers = await Scorers.start(recipe, options)

    async def anew(group: Group) -> Group:
        if group.sample.id not in samples:
            raise DataError(f"the recipe's data holds no sample {group.sample.id} any more, so nothing can score it")
        sample = samples[group.sample.id]
        scored = await asyncio.gather(*(scorers.score(sample, one.rollout) for one in group.rollouts))
        complete = await scorers.complete(sample, scored)
        return replace(group, rollouts=tuple(complete), advantages=())

    try:
        return [(step, groups, credit.of_batch(await asyncio.gather(*map(anew, groups)))) for step, groups in recorded]
    finally:
        await scorers.stop()


def credit_of(folder: Path, recipe: Recipe) -> Credit | EpisodeCredit:
    """What the recipe's algorithm credits responses with.

    Raises:
        DataError: scores came sentence by sentence, and the run has no policy whose tokenizer says where one ends.
    """
    if recipe.environment is not None:
        return EpisodeCredit(make_algorithm(recipe.algorithm), recipe.environment, recipe.rollout.max_tokens)
    policy, encoder = folder / POLICY_FOLDER, cast(PromptEncoder, None)
    if recipe.reward.clip is not None and recipe.reward.clip.increments is not None:
        if not policy.is_dir():
            raise DataError(f"{policy} is not there yet, and its tokenizer says where a sentence ends: let the run end")
        settings = recipe.policy.model_copy(update={"revision": None})
        encoder = PromptEncoder(load_processor(policy, settings), settings)
    return Credit(make_algorithm(recipe.algorithm), recipe.rollout.max_tokens, encoder)


def _moved(pairs: Sequence[Anew]) -> list[tuple[int, ScoredRollout, ScoredRollout, float]]:
    return [
        (step, one, other, b - a)
        for step, then, now in pairs
        for before, after in zip(then, now, strict=True)
        for one, other, a, b in zip(before.rollouts, after.rollouts, _known(before), _known(after), strict=True)
        if a is not None and b is not None and a != b
    ]


def _known(group: Group) -> Sequence[float | None]:
    return group.advantages or (None,) * len(group.rollouts)


def _row(found: Changes) -> str:
    reward = " -> ".join(fixed(one) for one in found.reward)
    return (f"{found.step:>5}{found.responses:>11}{reward:>16}{found.compared:>12}{short(found.largest):>9}"
            f"{found.turned:>8}{found.silenced:>10}{found.awakened:>10}")  # fmt: skip


def _reward(scored: ScoredRollout) -> str:
    return "masked" if scored.score.failure is not None else fixed(scored.score.value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _short(value: float | None) -> str:
    return "–" if value is None else short(value)


if __name__ == "__main__":
    command(main)
