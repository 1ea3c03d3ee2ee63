"""Runs a function over many items in worker processes that outlive neither an interrupt nor their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from data.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 4
"""Items given to the pool for each worker."""


@contextmanager
def worker_pool(
    workers: int, function: Callable[[Item], Result]
) -> Iterator[Callable[[Iterable[Item]], Iterator[tuple[Item, Result]]]]:
    """Gives a map that yields each item with its result, in the order in which they are done.

    With one worker all is done in this process. `function` lives at the top of a module.

    Raises:
        DataError: `workers` is not positive, or a worker process died.
    """
    if workers < 1:
        raise DataError(f"--workers must be at least 1, got {workers}")
    if workers == 1:
        yield lambda items: ((item, function(item)) for item in items)
        return
    context = multiprocessing.get_context("forkserver")  # forking this process would copy the locks its threads hold
    context.set_forkserver_preload([function.__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_begin)
    try:
        yield lambda items: _map(pool, function, items, workers * AHEAD)
    except BrokenProcessPool:
        raise DataError(
            "a worker process died, perhaps for want of memory: run the same command again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _map(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Result]]:
    pending: dict[Future[Result], Item] = {}
    left = iter(items)
    while True:
        while len(pending) < ahead and (item := next(left, None)) is not None:
            pending[pool.submit(function, item)] = item
        if not pending:
            return
        finished, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in finished:
            yield pending.pop(future), future.result()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
