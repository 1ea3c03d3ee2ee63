"""The gatherer on real Ray actors: requests that come together travel together, and each gets its own reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.scoring.gatherer import Gatherer
from actors.supervision.supervisor import Supervised
from failures import ActorLost
from tests.integration.workers import LONG_S, MakePool, until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session"), pytest.mark.asyncio(loop_scope="module")]


async def test_requests_that_come_together_travel_in_one_call_and_each_gets_its_own_reply(
    make_pool: MakePool,
) -> None:
    sizes: list[int] = []

    async def call(member: Supervised, words: list[str]) -> AsyncIterator[tuple[int, str]]:
        sizes.append(len(words))
        for position, reply in reversed(list(enumerate(await member.call(LONG_S, "echo", words)))):
            yield position, reply

    gatherer = Gatherer[str, str](await make_pool(), call, wait_s=0.05, most=8, calls=1)
    words = [f"word {number}" for number in range(20)]
    assert await asyncio.gather(*map(gatherer.ask, words)) == [word.upper() for word in words]
    assert sizes == [8, 8, 4]
    assert gatherer.pool.members[0].load == 0


async def test_a_call_that_fails_or_leaves_requests_unanswered_fails_all_that_wait_for_it(make_pool: MakePool) -> None:
    async def call(member: Supervised, words: list[str]) -> AsyncIterator[tuple[int, str]]:
        if "bad" in words:
            raise ValueError("a fault of ours")
        yield 0, words[0]

    gatherer = Gatherer[str, str](await make_pool(), call, wait_s=0.05, most=8, calls=1)
    first, second = await asyncio.gather(gatherer.ask("a"), gatherer.ask("b"), return_exceptions=True)
    assert first == "a"
    assert isinstance(second, ActorLost)
    with pytest.raises(ValueError, match="a fault of ours"):
        await gatherer.ask("bad")


async def test_closing_a_gatherer_fails_what_it_gathered_and_what_is_under_way(
    make_pool: MakePool, tmp_path: Path
) -> None:
    async def call(member: Supervised, words: list[str]) -> AsyncIterator[tuple[int, str]]:
        yield 0, await member.call(LONG_S, "hold")

    gatherer = Gatherer[str, str](await make_pool(), call, wait_s=0.0, most=1, calls=1)
    asked = [asyncio.create_task(gatherer.ask(word)) for word in ("under way", "gathered", "gathered too")]
    await until((tmp_path / "held").exists)
    await gatherer.close()
    failed = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in failed] == [ActorLost] * 3
