"""What looks at samples for a recipe: whether its model and its engines can be asked them."""

from __future__ import annotations

from dataclasses import replace

from data.faults import Faults, refuse_unfit
from data.load import LoadedData
from data.sample_store import stored
from data.split import Split
from policies.errors import PolicyError
from policies.fitting import OVERLONG, Fitting, Limits, most_images
from policies.prompt_lengths import PromptLengths
from recipe import Recipe


def fitting_of(recipe: Recipe, lengths: PromptLengths, *, answers: bool, engines: bool = True) -> Fitting:
    """What looks at samples for a recipe; see `Fitting`. Without engines nothing bounds images and lengths.

    Raises:
        PolicyError: the model takes fewer tokens than `rollout.max_model_len`, which vLLM would refuse.
    """
    strip = recipe.data.special_tokens == "strip"
    longest = recipe.data.max_prompt_tokens
    if not engines:
        return Fitting(lengths, Limits(None, None, "", longest), strip=strip, answers=answers)
    rollout, context = recipe.rollout, lengths.context
    if rollout.backend == "vllm" and context and rollout.max_model_len > context and not lengths.stretches:
        raise PolicyError(
            f"rollout.max_model_len={rollout.max_model_len} is more than the {context} tokens that "
            f"policy.model={recipe.policy.model} takes: set it to {context} or less"
        )
    room_by = f"rollout.max_model_len={rollout.max_model_len} less rollout.max_tokens={rollout.max_tokens}"
    limits = Limits(
        rollout.max_images or most_images(recipe.data, recipe.policy),
        rollout.max_model_len - rollout.max_tokens,
        room_by,
        longest if answers else None,  # a benchmark is asked as it stands
    )
    return Fitting(lengths, limits, strip=strip, answers=answers)


def fitted_data(recipe: Recipe, data: LoadedData, lengths: PromptLengths, *, engines: bool = True) -> LoadedData:
    """The samples that can be asked.

    Raises:
        DataError: there are others, and `data.unfit` does not leave them out; the first is named.
    """
    faults, fitting = Faults(), fitting_of(recipe, lengths, answers=True, engines=engines)
    train = stored(fitting.admitted(data.split.train, faults))
    held_out = stored(fitting.admitted(data.split.held_out, faults))
    left = min(len(train), len(held_out))
    refuse_unfit(faults, left, drop=recipe.data.unfit == "drop", wanted=[OVERLONG] if left else [])
    return replace(data, split=Split(train, held_out), faults=data.faults | faults.as_dict())
