"""The endpoint's limits on time and on requests at once, with an engine that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from serve.chat import ApiError, ChatRequest, Piece
from serve.endpoint import PolicyEndpoint
from serve.engine import Delta
from serve.settings import ServeSettings

REQUEST = ChatRequest(model="run", messages=[{"role": "user", "content": "Go?"}])


class SlowEngine:
    """Gives a piece at once and each further one after `pause_s`; remembers whether it was told to stop."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self.stopped = False

    async def answer(self, *_: Any) -> AsyncGenerator[Delta, None]:
        try:
            for ids in ((1,), (2,)):
                yield Delta(Piece("x", ids, None), (9,))
                await asyncio.sleep(self.pause_s)
        finally:
            self.stopped = True


def endpoint(engine: SlowEngine, **settings: Any) -> Any:
    return SimpleNamespace(_settings=ServeSettings(**settings), _running=0, _engine=engine, _images=lambda _: [])


def answer(of: Any) -> AsyncGenerator[Delta, None]:
    return PolicyEndpoint._answer(of, REQUEST, "id")


async def test_an_answer_passes_through_and_frees_its_place() -> None:
    served = endpoint(SlowEngine(0.0))
    assert [delta.piece.token_ids async for delta in answer(served)] == [(1,), (2,)]
    assert served._running == 0


async def test_an_answer_that_takes_too_long_is_stopped_and_refused() -> None:
    engine = SlowEngine(60.0)
    served = endpoint(engine, timeout_s=0.1)
    pieces = answer(served)
    await anext(pieces)
    with pytest.raises(ApiError, match="the answer took longer than 0.1 s") as caught:
        await anext(pieces)
    assert (caught.value.status, engine.stopped, served._running) == (504, True, 0)


async def test_a_request_beyond_the_limit_is_refused_until_a_place_is_free() -> None:
    served = endpoint(SlowEngine(0.0), max_concurrent=1)
    first = answer(served)
    await anext(first)
    with pytest.raises(ApiError, match="1 requests are being answered already") as caught:
        await anext(answer(served))
    assert caught.value.status == 429
    await first.aclose()
    assert [delta.piece.text async for delta in answer(served)] == ["x", "x"]


async def test_a_client_that_goes_away_stops_the_engine() -> None:
    engine = SlowEngine(60.0)
    served = endpoint(engine)
    pieces = answer(served)
    await anext(pieces)
    await pieces.aclose()
    assert (engine.stopped, served._running) == (True, 0)
