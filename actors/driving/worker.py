"""`EnvironmentWorker`: a process that holds many environments and moves them together. Knows no policy and no reward.

Whatever an environment does, the worker returns: what one raises or shows wrongly becomes a `Fault` of its episode.
What hangs or kills the process is the supervisor's business (`actors/driving/environments.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from data.environment import Environment, Observation, Outcome, environment_of, fault_of
from data.episode import Start
from data.errors import DataError
from data.settings import EnvironmentSettings


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation whose images lie in files."""

    question: str
    images: Mapping[str, str]
    state: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Moved:
    """What one action led to."""

    seen: Seen | None
    """None: the episode is over."""
    measures: Mapping[str, float]
    events: tuple[str, ...]
    record: Mapping[str, Any] | None = None
    """With the last step: `Outcome.record`."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False
    """See `data.environment.Step`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An episode that cannot go on; `why` begins with the name that it is counted under."""

    why: str


@dataclass
class _Running:
    environment: Environment
    first: Observation
    turn: int = 0


class EnvironmentWorker:
    """A Ray actor. Episodes are known by keys of the caller's."""

    def __init__(self, settings: EnvironmentSettings) -> None:
        """Remember what to make."""
        self._settings = settings
        self._running: dict[str, _Running] = {}

    def start(self) -> None:
        """Make one environment, so that what is wrong with its class shows now.

        Raises:
            ExtensionError, DataError: as `environment_of`.
        """
        environment_of(self._settings)

    def begin(self, folder: str, starts: Mapping[str, Start]) -> dict[str, Seen | Fault]:
        """Begin episodes, each under its key, and write their images into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return {key: self._begin(Path(folder), key, start) for key, start in starts.items()}

    def move(self, folder: str, answers: Mapping[str, tuple[str, float]]) -> dict[str, Moved | Fault]:
        """Hand each environment its response and the seconds it took."""
        return {key: self._move(Path(folder), key, *answer) for key, answer in answers.items()}

    def forget(self, keys: Sequence[str]) -> None:
        """Let go of episodes that are given up."""
        for key in keys:
            self._running.pop(key, None)

    def _begin(self, folder: Path, key: str, start: Start) -> Seen | Fault:
        try:
            environment = environment_of(self._settings)
            observation: object = environment.reset(start.scenario, start.seed)
        except DataError as error:
            return Fault(f"refused: {error}")
        except Exception as error:  # a user's environment can fail in any way; the cause is kept
            return _raised("reset", error)
        if not isinstance(observation, Observation):
            return Fault(f"ended_at_once: reset of {start.id} gave {type(observation).__name__}, no Observation")
        if (why := fault_of(observation, observation)) is not None:
            return Fault(why)
        self._running[key] = _Running(environment, observation)
        return _written(folder, key, 0, observation)

    def _move(self, folder: Path, key: str, response: str, seconds: float) -> Moved | Fault:
        running = self._running.get(key)
        if running is None:
            return Fault("lost: the worker that held it was started again")
        try:
            step = running.environment.step(response, seconds)
            running.turn += 1
            last = step.observation is None or running.turn >= self._settings.max_turns
            why = None if step.observation is None else fault_of(step.observation, running.first)
            outcome = running.environment.outcome() if last else None
            if last or why is not None:
                del self._running[key]
        except Exception as error:  # as above
            self._running.pop(key, None)
            return _raised("step", error)
        if why is not None:
            return Fault(why)
        moved = Moved(None, dict(step.measures), step.events, complete=step.complete)
        if outcome is not None or step.observation is None:
            outcome = outcome or Outcome()
            return replace(moved, record=outcome.record, trace=outcome.trace)
        return replace(moved, seen=_written(folder, key, running.turn, step.observation))


def _raised(where: str, error: Exception) -> Fault:
    return Fault(f"raised: {where} raised {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _written(folder: Path, key: str, turn: int, observation: Observation) -> Seen:
    paths = {}
    for name, image in observation.images.items():
        path = folder / f"{key.replace('/', '-')}-{turn:03d}-{name}.png"
        Image.fromarray(image).save(path, compress_level=1)
        paths[name] = str(path)
    return Seen(observation.question, paths, dict(observation.state))
