"""Sender and receivers of a publish: what is raised when one of them fails, and that the others do not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors.weight_sync import together
from failures import ActorLost, LearnerError, LearnerLost


async def answers(value: str) -> str:
    return value


async def fails(error: Exception) -> str:
    raise error


class Sending:
    """A sender that waits for a receiver until it is asked to stop, or until its time limit."""

    def __init__(self, stops: Callable[[], None] | None = None) -> None:
        self.abandons, self._stops = 0, stops
        self._abandoned = asyncio.Event()

    async def __call__(self) -> str:
        await asyncio.wait_for(self._abandoned.wait(), 60.0)
        raise LearnerError("the weights could not be sent")

    async def abandon(self) -> None:
        self.abandons += 1
        if self._stops is None:
            self._abandoned.set()
        else:
            asyncio.get_running_loop().call_later(0.05, self._abandoned.set)  # it ends by itself
            self._stops()


def sent(*work: Awaitable[str], sending: Sending | None = None) -> Awaitable[list[str]]:
    first, *others = work if sending is None else (sending(), *work)
    return together(first, *others, abandon=None if sending is None else sending.abandon)


async def test_all_answers_come_in_order() -> None:
    assert await sent(answers("sender"), answers("first"), answers("second")) == ["sender", "first", "second"]


async def test_a_receiver_that_is_lost_is_why_the_sender_failed_and_the_sender_is_asked_to_stop_once() -> None:
    sending = Sending()
    async with asyncio.timeout(5.0):
        with pytest.raises(ActorLost, match="engine 1 died"):
            await sent(answers("first"), fails(ActorLost("engine 1 died")), sending=sending)
    assert sending.abandons == 1


async def test_a_learner_that_is_lost_comes_before_an_engine_that_is() -> None:
    with pytest.raises(LearnerLost):
        await sent(fails(LearnerLost("rank 1 died")), fails(ActorLost("engine 1 died")))


async def test_a_sender_that_cannot_be_asked_to_stop_ends_by_itself() -> None:
    def gone() -> None:
        raise ActorLost("learner rank 0 died")

    with pytest.raises(ActorLost, match="engine 1 died"):
        await sent(fails(ActorLost("engine 1 died")), sending=Sending(gone))


async def test_where_all_is_well_nobody_is_asked_to_stop() -> None:
    sending = Sending()
    assert await together(answers("sender"), answers("first"), abandon=sending.abandon) == ["sender", "first"]
    assert sending.abandons == 0
