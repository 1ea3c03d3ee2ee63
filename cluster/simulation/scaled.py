"""A recipe on more or fewer GPUs than it is written for: roles keep their shares of them."""

from __future__ import annotations

import math

from cluster.errors import PlanError
from recipe import Recipe


def held(recipe: Recipe) -> dict[str, tuple[int, float]]:
    """By role, in the order in which they are placed: how many processes have GPUs of their own, and how many each has.

    Where engines lie on learner ranks, they are in the ranks' GPUs, and everyone has whole ones, as in the plan.
    """
    learner, rollout, judge = recipe.learner, recipe.rollout, recipe.reward.judge
    whole = math.ceil if rollout.on_learners else float
    return {
        "learner": (learner.ranks, whole(learner.gpus)),
        "rollout": (rollout.engines - rollout.on_learners, whole(rollout.gpus)),
        "judge": (judge.engines, judge.gpus) if judge is not None and judge.url is None else (0, 0.0),
    }


def gpus_of(recipe: Recipe) -> int:
    """GPUs that learners, engines and judges hold together."""
    return round(sum(count * gpus for count, gpus in held(recipe).values()))


def scaled(recipe: Recipe, gpus: int, *, grow: bool = False) -> Recipe:
    """The recipe on `gpus` GPUs.

    Judges come first, since they are the largest processes; engines and learner ranks keep their proportion. A step
    stays as it is, or draws a prompt for each learner rank where those are more; with `grow` it draws in proportion to
    the GPUs. The number of steps is changed so that the responses of a run stay as many.

    Raises:
        PlanError: not one process of each kind has room.
    """
    own, judge = gpus_of(recipe), recipe.reward.judge
    if gpus == own:
        return recipe
    share, left, reward = gpus / own, gpus, recipe.reward
    if judge is not None and judge.url is None:
        size = max(1, round(judge.gpus))
        judges = max(1, round(judge.engines * judge.gpus * share / size))
        left -= judges * size
        reward = reward.model_copy(update={"judge": judge.model_copy(update={"engines": judges})})
    (own_ranks, rank_gpus), (own_apart, engine_gpus) = held(recipe)["learner"], held(recipe)["rollout"]
    learners, engines = own_ranks * rank_gpus, own_apart * engine_gpus
    apart = round(left * engines / (learners + engines) / engine_gpus)
    ranks = int((left - apart * engine_gpus) / rank_gpus)
    guests = min(ranks, math.ceil(recipe.rollout.on_learners * ranks / own_ranks))
    made = guests + apart
    if min(left, made, ranks) < 1 or (own_apart and not apart):
        raise PlanError(f"{gpus} GPUs have no room for one process of each role of the recipe, which holds {own}")
    own_prompts = recipe.rollout.prompts_per_step
    prompts = max(1, round(own_prompts * share)) if grow else max(own_prompts, ranks)
    steps = max(1, round(recipe.run.steps * own_prompts / prompts))
    changes = {
        "reward": reward,
        "learner": recipe.learner.model_copy(update={"ranks": ranks}),
        "rollout": recipe.rollout.model_copy(
            update={"engines": made, "prompts_per_step": prompts, "on_learners": guests}
        ),
        "run": recipe.run.model_copy(update={"steps": steps}),
    }
    return recipe.model_copy(update=changes)
