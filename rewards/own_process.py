"""What runs in a process of `rewards.own_processes`: a user's plain functions, one call after another."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from rewards.returned import as_score, failed
from rewards.score import Score


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a reward."""

    path: str
    """`package.module:name` of a function or a class."""
    method: str
    """`score` or `group`."""
    arguments: tuple[Any, ...]

    @property
    def responses(self) -> int | None:
        """How many scores a comparison must give; None where one is asked for."""
        return len(self.arguments[1]) if self.method == "group" else None


def made(path: str) -> Any:
    """What has the method `score` of a path: an object of its class, or something around its function."""
    module_name, _, name = path.partition(":")
    found = getattr(importlib.import_module(module_name), name)
    return found() if isinstance(found, type) else SimpleNamespace(score=found)


def checked(call: Call, returned: Any) -> list[Score]:
    """What a call returned, as one score, or as one for each response of a group."""
    if call.responses is None:
        return [as_score(call.path, returned)]
    scores = list(returned)
    if len(scores) != call.responses:
        gave = f"{call.path}: gave {len(scores)} scores for {call.responses} responses"
        return [Score(0.0, failure=gave)] * call.responses
    return [as_score(call.path, one) for one in scores]


def main(descriptor: int) -> None:
    """Answer the calls that come in over a connection, each with its scores, until it is closed.

    Before the first call of a path comes the path alone, so that importing it is not on that call's time; the answer is
    None, or what went wrong.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    channel: Connection[Any, Any] = Connection(descriptor)
    waiting: SimpleQueue[str | Call] = SimpleQueue()
    threading.Thread(target=_receive, args=(channel, waiting), daemon=True).start()
    rewards: dict[str, Any] = {}
    while True:
        match waiting.get():
            case str(path):
                try:
                    rewards[path] = made(path)
                    channel.send(None)
                except BaseException as error:  # SystemExit too: a user's module can fail in any way
                    channel.send(f"{type(error).__name__}: {error}")
            case call:
                channel.send(_answer(call, rewards[call.path]))


def _answer(call: Call, reward: Any) -> list[Score]:
    try:
        returned = getattr(reward, call.method)(*call.arguments)
        return checked(call, asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the reason travels in the score
        return [failed(call.path, error)] * (call.responses or 1)


async def _awaited(returned: Any) -> Any:
    return await returned


def _receive(channel: Connection[Any, Any], waiting: SimpleQueue[str | Call]) -> None:
    """Hand on what arrives; the process ends with its parent, also while a call hangs."""
    while True:
        try:
            waiting.put(channel.recv())
        except (EOFError, OSError):
            os._exit(0)
