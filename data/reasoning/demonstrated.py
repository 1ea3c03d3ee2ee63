"""Which samples a supervised warm start demonstrates."""

from __future__ import annotations

import random
from collections.abc import Sequence

from data.errors import DataError
from data.reasoning.reasoning import Variant, demonstration
from data.sample import DrivingSample
from data.sample_store import chosen, scenes_of


def of_drawn_scenes(samples: Sequence[DrivingSample], wanted: int | None, seed: int) -> Sequence[DrivingSample]:
    """The samples of `warm_start.scenes` scenes, drawn from the seed.

    Raises:
        DataError: there are fewer scenes.
    """
    if wanted is None:
        return samples
    scenes = sorted(set(scenes_of(samples)))
    if wanted > len(scenes):
        raise DataError(f"warm_start.scenes={wanted}, and there are {len(scenes)} training scenes: lower it")
    drawn = set(random.Random(seed).sample(scenes, wanted))
    return chosen(samples, (index for index, scene in enumerate(scenes_of(samples)) if scene in drawn))


def demonstrated(asked: Sequence[DrivingSample], variant: Variant) -> Sequence[DrivingSample]:
    """Those that `warm_start.variant` can demonstrate.

    Raises:
        DataError: no sample has the reasoning that it needs.
    """
    found = chosen(asked, (i for i, sample in enumerate(asked) if demonstration(sample, variant) is not None))
    if not found:
        raise DataError(
            f"warm_start.variant={variant} needs reasoning, and none of the {len(asked)} training samples "
            "has any: name a file of it in data.reasoning (prepare_data.py distil makes one), or set "
            "warm_start.variant=simple"
        )
    return found
