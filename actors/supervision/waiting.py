"""Waiting on actors: every wait has a timeout, and every failure names the actor it came from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, TypeVar

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    RpcError,
    WorkerCrashedError,
)

from actors.supervision.hosting import end_stream
from data.errors import DataError
from failures import ActorLost, ActorTimeout, DiskFull, EngineError, LearnerError
from policies.errors import BudgetError, PolicyError
from rewards.errors import RewardError

T = TypeVar("T")

REPORTED = (PolicyError, DataError, RewardError, BudgetError, LearnerError, EngineError, DiskFull)
"""What an actor may raise that a person can act on: it arrives as itself."""

GONE = (
    RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError, ObjectLostError, RpcError
)  # fmt: skip
"""How Ray says that an actor's process, or its answer, is gone: it died, Ray ended it for want of memory, or its node
was lost."""


async def within(timeout_s: float, what: str, answer: Awaitable[T]) -> T:
    """Await an actor's answer.

    Args:
        timeout_s: longest wait in seconds.
        what: the actor and what it does, as the subject of an error sentence.
        answer: an object reference or any awaitable.

    Raises:
        ActorTimeout: no answer in time.
        ActorLost: the actor's process died (`GONE`).
        one of `REPORTED`: what the actor raised, without its traceback.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        raise ActorTimeout(f"{what} gave no answer within {timeout_s:g} s") from None
    except RayTaskError as error:
        if isinstance(error.cause, REPORTED):
            raise error.cause from None
        raise
    except GONE as error:
        raise ActorLost(f"{what}: the actor died ({one_line(error)})") from error


async def stream(timeout_s: float, what: str, generator: Any) -> AsyncIterator[Any]:
    """Iterate a Ray streaming generator, waiting at most `timeout_s` for each item. Closing it ends that work.

    Raises:
        ActorTimeout, ActorLost: as `within`.
    """
    iterator = aiter(generator)
    try:
        while True:
            try:
                reference = await within(timeout_s, what, anext(iterator))
            except StopAsyncIteration:
                return
            yield await within(timeout_s, what, reference)
    except (asyncio.CancelledError, GeneratorExit):
        end_stream(generator)
        raise


async def as_they_end(work: Iterable[Awaitable[T]]) -> AsyncIterator[T]:
    """Run all at once and yield each result when it is ready. Closing the generator cancels the rest."""
    running = [asyncio.ensure_future(one) for one in work]
    try:
        for finished in asyncio.as_completed(running):
            yield await finished
    finally:
        for task in running:
            task.cancel()


async def batched(items: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """What has come since the last list, in one list, the moment there is something. Closing it ends the source."""
    came: asyncio.Queue[T | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async for item in items:
                came.put_nowait(item)
        finally:
            came.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        ended = False
        while not ended:
            batch = [await came.get()]
            while not came.empty():
                batch.append(came.get_nowait())
            ended = batch[-1] is None
            if found := [item for item in batch if item is not None]:
                yield found
        await reading
    finally:
        reading.cancel()


def now() -> float:
    """Seconds on the running event loop's clock, for durations: `time.monotonic`, unless time itself is simulated."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:  # no loop runs: its clock is this one
        return time.monotonic()


def one_line(error: BaseException) -> str:
    """What an error says, short enough to stand inside a sentence."""
    return " ".join(str(error).split())[:500]
