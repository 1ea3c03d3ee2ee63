"""How a vLLM engine takes new weights between two tokens of the responses that are under way (`rollout.in_flight`).

`keep` goes on with keys and values of the older weights. So that no later prompt finds them, whatever an engine caches
is named after the weights that it was computed with (`cache_names`). `recompute` and `drop` empty the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from actors.rollout.engine import InFlight
from data.rollout import WeightSpan

ABORTED = "abort"
"""vLLM's reason for a response that was dropped."""


async def hold(llm: Any, in_flight: InFlight) -> None:
    """Stop AsyncLLM between two tokens, and do with what is under way as the setting says."""
    mode: Literal["abort", "keep"] = "abort" if in_flight == "drop" else "keep"
    await llm.pause_generation(mode=mode, clear_cache=in_flight != "keep")


def cache_names(in_flight: InFlight, version: int, image_ids: Sequence[str]) -> dict[str, Any]:
    """The names of a prompt's images, and of its keys and values, in vLLM's caches.

    Naming the images spares hashing their pixels. Where the caches are emptied for new weights, names need not tell
    versions apart.
    """
    if in_flight != "keep":
        return {"multi_modal_uuids": {"image": list(image_ids)}}
    return {
        "multi_modal_uuids": {"image": [f"{version}:{one}" for one in image_ids]},
        "cache_salt": f"weights {version}",
    }


def spans_of(versions: Sequence[Any] | None) -> tuple[WeightSpan, ...]:
    """vLLM's record of which weights sampled which tokens; the weights of its checkpoint are -1."""
    return tuple(
        WeightSpan(-1 if span.version == "default" else int(span.version), span.start, span.end)
        for span in versions or ()
    )
