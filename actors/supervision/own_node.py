"""Work that ends when the Ray node of its own process does.

A lost actor is started anew, and so is one whose node was lost. But where the node that this process belongs to is gone
(its raylet was killed, or ended for want of memory), new actors are never granted and answers never come: without a
look at it the work would wait until its longest time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from failures import ActorLost

T = TypeVar("T")

LOOKED_EVERY_S = 5.0
ANSWER_S = 120.0
"""Longest wait for the control plane; Ray itself gives it up after a minute."""
END_S = 30.0
"""Longest time for the work to clear away after itself then."""


async def on_living_node(work: Coroutine[Any, Any, T]) -> T:
    """The work's result, for `asyncio.run`; without Ray there is no node to watch.

    Raises:
        ActorLost: this process's Ray node ended; the work was cancelled.
        what the work raises.
    """
    if not ray.is_initialized():
        return await work
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_until_lost(ray.get_runtime_context().get_node_id()))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        watching.result()  # what looking raised
        raise ActorLost(
            "the Ray node of this process ended (its raylet was killed, or the machine was out of memory), or Ray's "
            "control plane answers no more: actors there are gone with it"
        )
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=END_S)


async def _until_lost(node: str) -> None:
    """Return when the control plane counts a node as gone, or does not answer any more."""
    try:
        while any(one["NodeID"] == node and one["Alive"] for one in await _nodes()):
            await asyncio.sleep(LOOKED_EVERY_S)
    except (RayError, TimeoutError):
        return


async def _nodes() -> list[dict[str, Any]]:
    return await asyncio.wait_for(asyncio.to_thread(ray.nodes), ANSWER_S)
