"""What can end a run: each failure under its own type, reported by the scripts as one sentence. Knows no layer."""

from __future__ import annotations

from typing import Literal


class TooManyMasked(RuntimeError):
    """Too many rollouts could not be scored: learning from the rest would mislead."""


class SyncError(RuntimeError):
    """Engine and learner do not hold the same policy; the message gives the numbers."""


class RunFolderError(ValueError):
    """A run folder or a data path that cannot be used; one sentence that names the recipe key and what to do."""


class CheckpointError(RuntimeError):
    """No checkpoint could be used; the message names the folder and why."""


class ActorLost(RuntimeError):
    """An actor died; the message names it and what it was doing."""

    reason: Literal["actor_lost"] = "actor_lost"
    """The name under which it is counted."""


class ActorTimeout(RuntimeError):
    """An actor gave no answer in time; the message names it and what it was doing."""

    reason: Literal["timeout"] = "timeout"
    """The name under which it is counted."""


class TooManySkipped(RuntimeError):
    """One update after another could not be applied; the message names the folder with their batches."""


class RolloutExhausted(RuntimeError):
    """A request was sent again and again, and every time the engine was lost; the message names its sample."""


class LearnerLost(ActorLost):
    """A rank of the learner died or gave no answer; the others cannot go on without it."""


class LearnerError(RuntimeError):
    """A step that must not be taken; the message says why."""


class EngineError(RuntimeError):
    """An engine was asked for something that its state or its options do not allow; the message names it and why."""
