"""Where an actor lives: in a process of Ray's, or as an object in the driver's own (`LocalActor`).

Pools make, ask and end actors through the same calls either way. Local ones are for what stands in for real actors
inside one process, such as the simulation of a run (`cluster/simulation`): nothing is copied, and no Ray is started.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError

from recipe import ActorOptions

LOCAL_PLACE = ""
"""The node of a local actor."""


def anywhere(cpus: float, gpus: float) -> ActorOptions:
    """The options of actors that have no place: what each needs is reserved on any node."""
    return lambda role, index: {"num_cpus": cpus, "num_gpus": gpus}


class Host(Protocol):
    """Makes an actor."""

    def __call__(self, actor_class: type[Any], placed: Mapping[str, Any], *arguments: Any) -> Any:
        """The handle of a new actor of a class, made with these arguments; `placed` are Ray's options."""
        ...


def in_ray(actor_class: type[Any], placed: Mapping[str, Any], *arguments: Any) -> Any:
    """An actor in a process of Ray's."""
    return ray.remote(actor_class).options(**placed).remote(*arguments)


def in_driver(actor_class: type[Any], placed: Mapping[str, Any], *arguments: Any) -> LocalActor:
    """An actor in this process; it needs no place."""
    return LocalActor(actor_class(*arguments))


def end_actor(actor: Any) -> None:
    """End an actor at once; what was asked of it fails as that of an actor that died."""
    if isinstance(actor, LocalActor):
        actor.die("it was ended")
    else:
        ray.kill(actor)


def end_stream(generator: Any) -> None:
    """End the work behind a stream whose reader is gone."""
    if isinstance(generator, _Stream):
        generator.cancel()
    else:
        ray.cancel(generator)


class LocalActor:
    """A handle like Ray's to an object of this process: `await actor.method.remote(...)`.

    Methods may be plain, coroutines, or asynchronous generators (with `options(num_returns="streaming")`). A call
    begins at once, whether it is awaited or not.
    """

    def __init__(self, target: Any) -> None:
        """Stand for an object."""
        self._target, self._why = target, ""
        self._open: dict[asyncio.Future[Any], asyncio.Task[Any]] = {}
        self._streams: set[_Stream] = set()

    def __getattr__(self, name: str) -> _Method:
        """A method of the object, or one that every actor of Ray's has."""
        if name == "__ray_ready__":
            return _Method(self, self._ready)
        if name == "__ray_call__":
            return _Method(self, self._apply)
        return _Method(self, getattr(self._target, name))

    def die(self, why: str) -> None:
        """End the actor: calls under way fail, and so does each later one. An object's own `died()` is called."""
        if self._why:
            return
        self._why = why
        getattr(self._target, "died", lambda: None)()
        for answer, work in list(self._open.items()):
            if not answer.done():
                answer.set_exception(self.death())
            work.cancel()
        for stream in list(self._streams):
            stream.fail(self.death())

    def _ready(self) -> bool:
        return True

    def _apply(self, function: Any, *arguments: Any) -> Any:
        return function(self._target, *arguments)

    def death(self) -> RayActorError:
        """How Ray says that an actor is gone."""
        return RayActorError(error_msg=f"the actor died: {self._why}")


class _Method:
    """What `actor.method` is, before `remote` calls it."""

    def __init__(self, actor: LocalActor, function: Any) -> None:
        self._actor, self._function = actor, function

    def options(self, **_: Any) -> _Method:
        """The method as it is: one process has no concurrency groups, and whether it streams it knows itself."""
        return self

    def remote(self, *arguments: Any, **named: Any) -> Any:
        actor, loop = self._actor, asyncio.get_running_loop()
        if _streams(getattr(self._function, "__func__", self._function)):
            return _Stream(actor, self._function(*arguments, **named))
        answer: asyncio.Future[Any] = loop.create_future()
        answer.add_done_callback(_read)
        if actor._why:
            answer.set_exception(actor.death())
            return answer
        work = loop.create_task(self._call(arguments, named))
        actor._open[answer] = work
        work.add_done_callback(lambda done: self._hand_on(done, answer))
        return answer

    async def _call(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        found = self._function(*arguments, **named)
        return await found if inspect.isawaitable(found) else found

    def _hand_on(self, work: asyncio.Task[Any], answer: asyncio.Future[Any]) -> None:
        self._actor._open.pop(answer, None)
        error = None if work.cancelled() else work.exception()
        if answer.done():
            return
        if work.cancelled():
            answer.set_exception(self._actor.death())
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(work.result())


class _Stream:
    """What a generator method yields, each item as something to await, as Ray streams references."""

    def __init__(self, actor: LocalActor, items: AsyncIterator[Any]) -> None:
        self._actor, self._came, self._ended = actor, asyncio.Queue[asyncio.Future[Any] | None](), False
        actor._streams.add(self)
        self._work = asyncio.get_running_loop().create_task(self._read(items))
        if actor._why:
            self.fail(actor.death())

    async def _read(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                self._put(item)
            self._end(None)
        except Exception as error:  # the reader gets it
            self._end(error)

    def _put(self, item: Any) -> None:
        came = asyncio.get_running_loop().create_future()
        came.set_result(item)
        self._came.put_nowait(came)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._actor._streams.discard(self)
        if error is not None:
            failed = asyncio.get_running_loop().create_future()
            failed.add_done_callback(_read)
            failed.set_exception(error)
            self._came.put_nowait(failed)
        self._came.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._end(error)
        self._work.cancel()

    def cancel(self) -> None:
        self._ended = True
        self._actor._streams.discard(self)
        self._work.cancel()

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> asyncio.Future[Any]:
        came = await self._came.get()
        if came is None:
            raise StopAsyncIteration
        return came


@cache
def _streams(function: Any) -> bool:
    return inspect.isasyncgenfunction(function)


def _read(answer: asyncio.Future[Any]) -> None:
    """Take note of a failure that nobody waits for, as Ray keeps quiet about it."""
    if not answer.cancelled():
        answer.exception()
