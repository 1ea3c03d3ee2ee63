"""Rewards of a user's, named by their import path: what they must look like, checked before a run."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from extension import where_looked
from rewards.errors import RewardError
from rewards.settings import RewardSettings

SERVICES = ("judge", "clip")
TRL_PARAMETER = "completions"
"""What TRL calls the responses that it hands to a reward function."""


@dataclass(frozen=True, slots=True)
class OwnReward:
    """A reward of yours: what was found under its import path."""

    score: Callable[..., Any]
    """Called as `score(sample, text)` with the whole response, and with the services it wants by name."""
    services: frozenset[str]
    """Which of `judge` and `clip` its parameters name."""
    compares: bool
    """Whether it compares the responses of a group."""
    waits: bool
    """Whether `score` is a coroutine function."""


def own_reward(path: str, setting: str, settings: RewardSettings) -> OwnReward:
    """Find a reward, and look whether it can be called as `rewards.scorers.find_scorer` says.

    Raises:
        RewardError: its module, function or class cannot be had, or it takes other arguments; `setting` is named.
    """
    module_name, _, name = path.partition(":")
    try:
        module: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module can fail in any way; the cause is kept
        raise RewardError(
            f"{setting}: cannot import {module_name} of scorer {path}: {type(error).__name__}: {error}"
            f"{where_looked(module_name, error)}"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        close = difflib.get_close_matches(name, [n for n in dir(module) if callable(getattr(module, n))], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RewardError(f"{setting}: {module_name} has no function {name!r}{hint}")
    score, compares = found, False
    if isinstance(found, type):
        if not callable(getattr(found, "score", None)):
            raise RewardError(f"{setting}: the class {path} lacks score(sample, text)")
        try:
            reward = found()
        except (Exception, SystemExit) as error:  # as above
            problem = f"{type(error).__name__}: {error}"
            raise RewardError(f"{setting}: {path} cannot be made without arguments: {problem}") from error
        score, compares = reward.score, getattr(reward, "group", None) is not None
    waits = any(map(inspect.iscoroutinefunction, (score, getattr(score, "__call__", None))))  # noqa: B004
    return OwnReward(score, _services(score, waits, path, setting, settings), compares, waits)


def _services(
    function: Callable[..., Any], waits: bool, path: str, setting: str, settings: RewardSettings
) -> frozenset[str]:
    """Which services a function's parameters name."""
    signature = inspect.signature(function)
    if TRL_PARAMETER in signature.parameters:
        raise RewardError(
            f"{setting}: {path} takes a list of completions, as TRL's rewards do. Here a reward takes one question and "
            f"one response, and gives 0 to 100: wrap it, as `def mine(sample, text): return 100 * "
            f"{path.partition(':')[2]}(prompts=[sample.question], completions=[text])[0]`, and name that"
        )
    wanted = frozenset(name for name in SERVICES if name in signature.parameters)
    try:
        signature.bind(None, "", **dict.fromkeys(wanted))
    except TypeError as error:
        takes = "(sample, text), and may name judge and clip"
        raise RewardError(f"{setting}: {path} must take {takes}: {error}") from None
    for name in sorted(wanted):
        if getattr(settings, name) is None:
            raise RewardError(f"{setting}: {path} wants the {name}, but reward.{name} is not set")
        if not waits:
            raise RewardError(f"{setting}: {path} wants the {name}, which has to be awaited: make it async def")
    return wanted
