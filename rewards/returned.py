"""What a reward of a user's returned, made into a `Score` of plain numbers: checked once, where it comes in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rewards.score import Increment, Score


def as_score(name: str, returned: Any) -> Score:
    """A number from 0 to 100, or a `Score`, as a `Score` that holds Python's own numbers alone.

    numpy's and torch's scalars are numbers; a part that is None says nothing and is left out. Whatever else a value, a
    part or an increment is, fails the score: the failure names the scorer and what it returned.
    """
    if not isinstance(returned, Score):
        value = _number(returned)
        if value is None or not 0.0 <= value <= 100.0:
            return Score(0.0, failure=f"{name}: returned {returned!r:.200}, not a number from 0 to 100")
        return Score(value)
    if returned.failure:
        return replace(returned, failure=f"{name}: {returned.failure}", value=0.0, parts={}, increments=None)
    value = _number(returned.value)
    if value is None:
        return Score(0.0, failure=f"{name}: returned the value {returned.value!r:.200}, not a number from 0 to 100")
    parts: dict[str, float] = {}
    given: Any = returned.parts or {}
    if not isinstance(given, Mapping):
        return Score(0.0, failure=f"{name}: returned parts that are no mapping: {given!r:.200}")
    for part, said in given.items():
        figure = _number(said, flag=True)
        if figure is not None:
            parts[str(part)] = figure
        elif said is not None:
            return Score(0.0, failure=f"{name}: returned the part {part} as {said!r:.200}, not a number")
    increments = None if returned.increments is None else tuple(map(_increment, returned.increments))
    if increments is not None and None in increments:
        wrong = returned.increments[increments.index(None)] if returned.increments else None
        return Score(0.0, failure=f"{name}: returned the increment {wrong!r:.200}, not a gain and where its span ends")
    return Score(value, parts, increments)  # type: ignore[arg-type]


def failed(name: str, error: BaseException) -> Score:
    """The score of a reward that raised."""
    return Score(0.0, failure=f"{name}: {type(error).__name__}: {error}")


def _number(value: Any, *, flag: bool = False) -> float | None:
    """A finite number as a float; None for anything else. `flag`: true and false are 1 and 0."""
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return None
    if not flag and (isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))):
        return None  # true as a reward would be 1 of 100
    try:
        number = float(value)
    except Exception:  # an array of several numbers, or a class of the user's own
        return None
    return number if math.isfinite(number) else None


def _increment(given: Any) -> Increment | None:
    gain, end = _number(getattr(given, "gain", None)), _number(getattr(given, "end", None))
    return None if gain is None or end is None or end != int(end) else Increment(gain, int(end))


def seem_fractions(parts: Iterable[Mapping[str, float]]) -> list[str]:
    """The rewards of a user's all of whose values in a batch lie within [0, 1], some above 0: meant as 0 to 1?

    Args:
        parts: those of each score of the batch.
    """
    values: dict[str, list[float]] = {}
    for one in parts:
        for name, value in one.items():
            if ":" in name and "/" not in name and not name.startswith("failed_"):
                values.setdefault(name, []).append(value)
    return [name for name, all_of in values.items() if len(all_of) > 1 and 0.0 < max(all_of) <= 1.0]
