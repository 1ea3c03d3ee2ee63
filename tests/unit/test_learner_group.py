"""A rank that fails since another one died: the loss is what the loop hears, whichever of the two is reported first."""

from __future__ import annotations

import asyncio

import pytest
from ray.exceptions import RayTaskError

from actors.learning.group import LearnerGroup
from actors.supervision.hosting import LocalActor
from failures import LearnerError, LearnerLost
from recipe import load_recipe


class Rank:
    """Fails in its step at once; or it waits in a collective for the others."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def step(self) -> None:
        if self.error is None:
            await asyncio.sleep(60.0)
        else:
            raise self.error


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("step", "Read error: Connection reset by peer", cause)


async def step(*ranks: Rank, dies: int | None = None) -> None:
    """Let a group of these ranks take a step; one of them dies, reported a moment after another's error."""
    actors = [LocalActor(rank) for rank in ranks]
    group = LearnerGroup(load_recipe(["recipes/tiny.yaml", "learner.probe_timeout_s=5"]), lambda rank: None)
    group.ranks, group._up = actors, True

    async def ends_late(actor: LocalActor) -> None:
        await asyncio.sleep(0.05)
        actor.die("killed")
        raise actor.death()

    if dies is not None:
        actors[dies]._ready = lambda: ends_late(actors[dies])  # type: ignore[method-assign, assignment, return-value]
    await group.all("step")


async def test_a_collective_that_breaks_before_the_death_is_reported_is_that_loss() -> None:
    with pytest.raises(LearnerLost, match="learner rank 1.*killed"):
        await step(Rank(failed(RuntimeError("Connection reset by peer"))), Rank(), dies=1)


async def test_a_rank_that_fails_while_all_others_live_fails_as_itself() -> None:
    with pytest.raises(RayTaskError, match="Connection reset by peer"):
        await step(Rank(failed(RuntimeError("a fault of its own"))), Rank())


async def test_what_a_person_can_act_on_is_no_loss() -> None:
    with pytest.raises(LearnerError, match="accumulate one first"):
        await step(Rank(failed(LearnerError("accumulate one first"))), Rank(), dies=1)


async def test_one_rank_alone_fails_as_itself() -> None:
    with pytest.raises(RayTaskError):
        await step(Rank(failed(RuntimeError("a fault of its own"))))
