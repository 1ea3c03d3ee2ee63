"""What cannot fit however it is run: sentences that arithmetic alone finds, in no time, for a dry run to refuse by.

`Forecast.misfits` says more, but traces the learner's code for it, which takes half a minute.
"""

from __future__ import annotations

from cluster.forecast import Forecast
from cluster.memory import BYTES, GIB


def impossible(forecast: Forecast) -> list[str]:
    """A sentence, with what to change, for each thing that no run of the recipe could hold."""
    return [*lengths_refused(forecast), *_learner(forecast), *_engines(forecast)]


def lengths_refused(forecast: Forecast) -> list[str]:
    """Limits of tokens that no prompt, or not every response, keeps to."""
    recipe, work = forecast.recipe, forecast.work
    rollout, limit, shown = recipe.rollout, recipe.learner.micro_batch_tokens, work.images * work.image_tokens
    found = []
    if shown >= rollout.max_model_len:
        found.append(
            f"the {work.images} images of a prompt are {shown:,} tokens, and rollout.max_model_len="
            f"{rollout.max_model_len}: raise it, or lower policy.image_size or policy.image_patches"
        )
    if limit is not None and shown + rollout.max_tokens > limit:
        found.append(
            f"learner.micro_batch_tokens={limit} holds no prompt of {shown:,} image tokens with a response of "
            f"rollout.max_tokens={rollout.max_tokens}: raise it to {shown + work.text_tokens + rollout.max_tokens} or "
            "more, or lower rollout.max_tokens"
        )
    return found


def _learner(forecast: Forecast) -> list[str]:
    if not forecast.recipe.learner.gpus:
        return []
    node, states = forecast.node, sum(forecast.learner_states().values())
    if states > node.gib:
        return [
            f"a learner rank holds {states:.0f} GiB of weights, gradients, optimizer; {node.gpu} has {node.gib:g}: set "
            "learner.zero_stage=3 or more learner.ranks, or policy.lora"
        ]
    model, positions = forecast.policy, forecast.row_positions
    kept = BYTES[forecast.recipe.policy.dtype] * model.hidden * model.layers * positions / GIB
    if states + kept > node.gib:
        return [
            f"a micro-batch of {positions:,} positions keeps {kept:.0f} GiB for its backward pass at least, beside "
            f"{states:.0f} GiB of weights, gradients, optimizer; {node.gpu} has {node.gib:g}: lower "
            "learner.micro_batch_tokens or learner.micro_batch_groups"
        ]
    return []


def _engines(forecast: Forecast) -> list[str]:
    recipe, node, found = forecast.recipe, forecast.node, list[str]()
    judge = recipe.reward.judge
    held = {}
    if recipe.rollout.gpus:
        size = BYTES[recipe.policy.dtype] * forecast.policy.parameters
        held["rollout"] = (size, recipe.rollout.tensor_parallel)
    if judge is not None and forecast.judge is not None and judge.gpus:
        held["reward.judge"] = (2 * forecast.judge.parameters, judge.tensor_parallel)
    for part, (size, spread) in held.items():
        if size / spread / GIB > node.gib:
            found.append(
                f"{part}.tensor_parallel={spread} puts {size / spread / GIB:.0f} GiB of weights on a GPU; {node.gpu} "
                f"has {node.gib:g}: raise it, and {part}.gpus with it"
            )
    return found
