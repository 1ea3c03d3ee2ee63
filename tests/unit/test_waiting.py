"""Waiting: results come as they end, an actor's own complaint arrives as itself, and who leaves cancels the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from actors.supervision.waiting import as_they_end, batched, within
from failures import ActorLost, ActorTimeout
from policies.errors import PolicyError


async def test_results_come_as_they_end() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def wait_for(event: asyncio.Event, name: str) -> str:
        await event.wait()
        return name

    second.set()
    found = []
    async for name in as_they_end([wait_for(first, "first"), wait_for(second, "second")]):
        found.append(name)
        first.set()
    assert found == ["second", "first"]


async def test_who_stops_listening_ends_what_still_runs() -> None:
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def at_once() -> None:
        await asyncio.sleep(0)

    results = as_they_end([never(), at_once()])
    await anext(results)
    await results.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(ended.wait(), 60)


async def raising(error: Exception) -> None:
    raise error


async def test_a_complaint_of_an_actor_arrives_without_its_traceback() -> None:
    complaint = PolicyError("policy.lora: vision matches no layer")
    with pytest.raises(PolicyError) as caught:
        await within(60, "learner rank 0 (start)", raising(RayTaskError("start", "a long traceback", complaint)))
    assert caught.value is complaint


async def test_what_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(RayTaskError, match="a long traceback"):
        await within(60, "learner rank 0 (start)", raising(RayTaskError("start", "a long traceback", KeyError("x"))))


async def test_an_answer_that_does_not_come_is_reported_with_the_actor_s_name() -> None:
    with pytest.raises(ActorTimeout, match=r"learner rank 0 \(start\) gave no answer within 0.01 s"):
        await within(0.01, "learner rank 0 (start)", asyncio.Event().wait())


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        OutOfMemoryError("2 workers were killed due to the node running low on memory"),
        NodeDiedError("the node is gone"),
        WorkerCrashedError(),
    ],
)
async def test_an_actor_is_lost_however_ray_says_so(error: RayError) -> None:
    with pytest.raises(ActorLost, match=r"learner rank 0 \(update\): the actor died"):
        await within(60, "learner rank 0 (update)", raising(error))


async def counted(*pauses_before: int) -> AsyncIterator[int]:
    """A number each, those at these places after others could run."""
    for number in range(5):
        if number in pauses_before:
            await asyncio.sleep(0.01)
        yield number


async def test_what_came_together_is_one_list_and_nothing_waits_for_more() -> None:
    assert [found async for found in batched(counted(2, 4))] == [[0, 1], [2, 3], [4]]


async def test_what_ends_a_source_arrives_after_what_it_gave() -> None:
    async def ending() -> AsyncIterator[int]:
        yield 1
        raise PolicyError("no more")

    lists = batched(ending())
    assert await anext(lists) == [1]
    with pytest.raises(PolicyError, match="no more"):
        await anext(lists)


async def test_who_stops_listening_to_lists_ends_their_source() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    lists = batched(endless())
    assert await anext(lists) == [1]
    await lists.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(ended.wait(), 60)
