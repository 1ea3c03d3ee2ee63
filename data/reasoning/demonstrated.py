"""Which samples a supervised warm start demonstrates."""

from __future__ import annotations

import random
from collections.abc import Sequence

from data.errors import DataError
from data.reasoning.reasoning import Variant, demonstration
from data.sample import DrivingSample


def of_drawn_scenes(samples: Sequence[DrivingSample], wanted: int | None, seed: int) -> list[DrivingSample]:
    """The samples of `warm_start.scenes` scenes, drawn from the seed.

    Raises:
        DataError: there are fewer scenes.
    """
    scenes = sorted({sample.scene_id for sample in samples})
    if wanted is None:
        return list(samples)
    if wanted > len(scenes):
        raise DataError(f"warm_start.scenes={wanted}, and there are {len(scenes)} training scenes: lower it")
    drawn = set(random.Random(seed).sample(scenes, wanted))
    return [sample for sample in samples if sample.scene_id in drawn]


def demonstrated(asked: Sequence[DrivingSample], variant: Variant) -> list[DrivingSample]:
    """Those that `warm_start.variant` can demonstrate.

    Raises:
        DataError: no sample has the reasoning that it needs.
    """
    found = [sample for sample in asked if demonstration(sample, variant) is not None]
    if not found:
        raise DataError(
            f"warm_start.variant={variant} needs reasoning, and none of the {len(asked)} training samples "
            "has any: name a file of it in data.reasoning (prepare_data.py distil makes one), or set "
            "warm_start.variant=simple"
        )
    return found
