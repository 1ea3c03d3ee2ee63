"""Dynamic patching (`policy.image_patches`): how many patches a processor cuts a large image into.

The processors of learner and engine must get the same arguments: both take them from here.
"""

from __future__ import annotations

import math
from typing import Any

from policies.errors import PolicyError

OVERVIEW_ONLY = 1


def patch_arguments(image_processor: Any, patches: int | None) -> dict[str, Any]:
    """The image processor's own settings for at most `patches` patches beside the overview; none for None.

    InternVL's takes the number itself. Idefics3 and SmolVLM resize the longest edge to a multiple k of the tower's
    image and cut squares: k is the largest with k x k within the number, so 4 is the smallest that cuts anything.

    Raises:
        PolicyError: the processor cuts no images.
    """
    if patches is None:
        return {}
    if hasattr(image_processor, "crop_to_patches"):
        return {"crop_to_patches": patches > OVERVIEW_ONLY, "min_patches": 1, "max_patches": patches}
    if hasattr(image_processor, "do_image_splitting"):
        squares = math.isqrt(patches)
        edge = image_processor.max_image_size["longest_edge"]
        return {"do_image_splitting": squares > OVERVIEW_ONLY, "size": {"longest_edge": squares * edge}}
    raise PolicyError(
        f"policy.image_patches: {type(image_processor).__name__} does not cut images into patches; leave it out, and "
        "set policy.image_size to choose how finely the model sees"
    )


def set_patches(processor: Any, patches: int | None) -> None:
    """Give a processor an image processor with that many patches.

    Raises:
        PolicyError: as `patch_arguments`.
    """
    own = processor.image_processor
    if arguments := patch_arguments(own, patches):
        processor.image_processor = type(own).from_dict(own.to_dict() | arguments)
