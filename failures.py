"""What can end a run: each failure under its own type, reported by the scripts as one sentence. Knows no layer."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a disk, a quota or a largest file size that leaves no room."""
FULL_SAYS = ("inline_container", "PytorchStreamWriter", "os error 28", "No space left on device")
"""What torch and safetensors say then, which raise no OSError."""


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


class DiskFull(RuntimeError):
    """There is no room to write; the message names the place. What was there before is as it was."""


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Give what a writer raises on a full disk one type.

    Raises:
        DiskFull: there is no room at `place`.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if is_full(error):
            raise DiskFull(f"no room to write {place}: free some space on that disk") from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether something could not be written because there is no room."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(said in str(error) for said in FULL_SAYS)


class TooManyRefused(RuntimeError):
    """Too many questions cannot be asked: the data lies elsewhere, or is damaged; the message has the latest reason."""


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
