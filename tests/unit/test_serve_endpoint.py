"""The limits on time, memory and requests at once, with an engine that does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from actors.rollout.talk import TalkPiece, TalkRequest
from data.errors import DataError
from failures import ActorLost
from recipe import Recipe
from serve.admission import FairQueue, PixelBudget
from serve.answering import Answering
from serve.chat import ChatRequest
from serve.conversation import ReadConversation
from serve.errors import ServiceError

REQUEST = ChatRequest(model="run", messages=[{"role": "user", "content": "Go?"}])


class SlowEngine:
    """Gives a piece at once and each further one after `pause_s`; remembers whether it was asked to stop."""

    def __init__(self, pause_s: float, error: Exception | None = None) -> None:
        self.pause_s, self.error = pause_s, error
        self.stopped = False

    async def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        try:
            for ids in ((1,), (2,)):
                if self.error:
                    raise self.error
                yield TalkPiece("x", ids, None, (9,))
                await asyncio.sleep(self.pause_s)
        finally:
            self.stopped = True


def answering(**settings: Any) -> Answering:
    reader: Any = SimpleNamespace(read=lambda _: ReadConversation((9,), ()))
    return Answering(Recipe(run={"name": "run"}, serve=settings), reader)


async def test_an_answer_passes_through_and_frees_its_place() -> None:
    engine, served = SlowEngine(0.0), answering()
    assert [piece.token_ids async for piece in served.answer("t", REQUEST, "id", engine)] == [(1,), (2,)]
    assert served.queue.running == 0


async def test_an_answer_that_takes_too_long_is_stopped_and_refused() -> None:
    engine = SlowEngine(60.0)
    served = answering(timeout_s=2.0)
    pieces = served.answer("t", REQUEST, "id", engine)
    await anext(pieces)
    with pytest.raises(ServiceError, match=r"the answer took longer than 2 s") as caught:
        await anext(pieces)
    assert (caught.value.status, engine.stopped, served.queue.running) == (504, True, 0)


async def test_a_request_that_waits_for_its_turn_is_answered_within_the_limit_too() -> None:
    engine, served = SlowEngine(60.0), answering(max_concurrent=1, timeout_s=4.0)
    first = served.answer("t", REQUEST, "id", engine)
    await anext(first)
    began = asyncio.get_running_loop().time()
    with pytest.raises(ServiceError, match=r"no engine was free within 4 s") as caught:
        await anext(served.answer("t", REQUEST, "id", engine, arrived=began - 3.0))
    assert caught.value.status == 503
    assert asyncio.get_running_loop().time() - began < 3.0
    await first.aclose()
    assert (served.queue.waiting, served.queue.running) == (0, 0)


async def test_a_request_beyond_the_queue_is_refused_and_one_within_it_waits() -> None:
    engine, served = SlowEngine(0.0), answering(max_concurrent=1, max_waiting=1)
    first = served.answer("t", REQUEST, "id", engine)
    await anext(first)
    second = asyncio.ensure_future(anext(served.answer("t", REQUEST, "id2", engine)))
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match="1 requests wait already") as caught:
        await anext(served.answer("t", REQUEST, "id3", engine))
    assert (caught.value.status, caught.value.headers()["retry-after"]) == (429, "1")
    await first.aclose()
    assert (await second).text == "x"


async def test_a_client_that_goes_away_stops_the_engine() -> None:
    engine = SlowEngine(60.0)
    served = answering()
    pieces = served.answer("t", REQUEST, "id", engine)
    await anext(pieces)
    await pieces.aclose()
    assert (engine.stopped, served.queue.running) == (True, 0)


@pytest.mark.parametrize(("error", "status"), [(DataError("too long"), 400), (ActorLost("engine 0 died"), 503)])
async def test_what_an_engine_cannot_do_is_a_refusal_and_no_500(error: Exception, status: int) -> None:
    engine, served = SlowEngine(0.0, error), answering()
    with pytest.raises(ServiceError) as caught:
        await anext(served.answer("t", REQUEST, "id", engine))
    assert (caught.value.status, served.queue.running) == (status, 0)


async def test_a_streams_error_is_its_last_event() -> None:
    engine, served = SlowEngine(60.0), answering(timeout_s=2.0)
    response: Any = await served.respond("t", REQUEST.model_copy(update={"stream": True}), "id", engine)
    events = [one async for one in response.body_iterator]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "timeout"


async def test_each_tenant_has_its_turn_however_much_another_asks_for() -> None:
    queue, order = FairQueue(1, 100), list[str]()

    async def ask(tenant: str) -> None:
        async with queue.place(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async with queue.place("other"):
        asked = [asyncio.ensure_future(ask(tenant)) for tenant in ["many"] * 5 + ["few"] * 2]
        await asyncio.sleep(0)
        assert queue.waiting == 7
    await asyncio.gather(*asked)
    assert order == ["many", "few", "many", "few", "many", "many", "many"]
    assert (queue.waiting, queue.running) == (0, 0)


async def test_who_gives_up_waiting_loses_no_place() -> None:
    queue = FairQueue(1, 10)
    async with queue.place("a"):
        waiting = asyncio.ensure_future(queue.place("b").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(1.0), queue.place("c"):
        assert (queue.waiting, queue.running) == (0, 1)


async def test_pixels_at_once_are_bounded_and_a_larger_request_is_served_alone() -> None:
    budget, most, held = PixelBudget(10), 0, 0

    async def decode(pixels: int) -> None:
        nonlocal most, held
        async with budget.held(pixels):
            held += min(pixels, 10)
            most = max(most, held)
            await asyncio.sleep(0)
            held -= min(pixels, 10)

    async with asyncio.timeout(5.0):
        await asyncio.gather(*(decode(pixels) for pixels in (4, 25, 6, 5, 5, 10, 1)))
    assert most == 10
