"""Ranks as threads of one process: their totals are what a collective would give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from policies.algorithms.algorithm import Total

T = TypeVar("T")


def alone(sums: Tensor) -> Tensor:
    """The total of a single rank."""
    return sums


def in_step(ranks: Sequence[Callable[[Total], T]]) -> list[T]:
    """What each rank gives when all run at once and meet in every total."""
    given: dict[int, Tensor] = {}
    barrier = threading.Barrier(len(ranks), timeout=30)

    def run(rank: int) -> T:
        def total(own: Tensor) -> Tensor:
            given[rank] = own.clone()
            barrier.wait()
            summed = sum(list(given.values())[1:], list(given.values())[0])
            barrier.wait()
            return summed

        return ranks[rank](total)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(run, range(len(ranks))))
