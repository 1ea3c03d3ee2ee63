"""Work on a Ray node that ends meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RpcError

from actors.supervision import own_node
from failures import ActorLost


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the control plane lists: this process's node, and another."""
    listed = [{"NodeID": "mine", "Alive": True}, {"NodeID": "other", "Alive": False}]
    here = SimpleNamespace(get_node_id=lambda: "mine")
    monkeypatch.setattr(own_node.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(own_node.ray, "nodes", lambda: listed)
    monkeypatch.setattr(own_node.ray, "get_runtime_context", lambda: here)
    monkeypatch.setattr(own_node, "LOOKED_EVERY_S", 0.01)
    return listed


def test_what_the_work_returns_or_raises_comes_out(nodes: list[dict[str, Any]]) -> None:
    async def work(error: Exception | None) -> int:
        await asyncio.sleep(0.05)
        if error is not None:
            raise error
        return 7

    assert asyncio.run(own_node.on_living_node(work(None))) == 7
    with pytest.raises(ValueError, match="mine"):
        asyncio.run(own_node.on_living_node(work(ValueError("mine"))))


def test_work_that_would_wait_for_ever_ends_with_its_node(nodes: list[dict[str, Any]]) -> None:
    cleared = []

    async def work() -> None:
        try:
            nodes[0]["Alive"] = False
            await asyncio.Event().wait()
        finally:
            cleared.append(True)

    with pytest.raises(ActorLost, match="raylet"):
        asyncio.run(own_node.on_living_node(work()))
    assert cleared == [True]


def test_an_interrupt_ends_the_work_and_the_watch(nodes: list[dict[str, Any]]) -> None:
    cleared = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleared.append(True)

    async def interrupted() -> None:
        running = asyncio.create_task(own_node.on_living_node(work()))
        await asyncio.sleep(0.05)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert cleared == [True]


def test_a_control_plane_that_does_not_answer_ends_the_work_too(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> list[dict[str, Any]]:
        raise RpcError("no answer")

    monkeypatch.setattr(own_node.ray, "nodes", silent)
    with pytest.raises(ActorLost, match="control plane answers no more"):
        asyncio.run(own_node.on_living_node(asyncio.sleep(60.0)))
