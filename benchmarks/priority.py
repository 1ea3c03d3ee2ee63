"""The priority of a benchmark's own process: Ray lowers that of its actors, which would decide a race."""

from __future__ import annotations

import os
from typing import Any

from actors.supervision.waiting import within

TIMEOUT_S = 60.0


async def step_down_to(actor: Any) -> list[int]:
    """Step down to the priority of an actor; the children of this process inherit it.

    Returns the niceness of this process and of the actor; they differ when this one was started with more of it.
    """
    call = actor.__ray_call__.remote(lambda actor: os.getpriority(os.PRIO_PROCESS, 0))
    theirs = await within(TIMEOUT_S, "an actor (its priority)", call)
    if theirs > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, theirs)
    return [os.getpriority(os.PRIO_PROCESS, 0), theirs]
