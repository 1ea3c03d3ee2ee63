"""How a script ends: an error a person can act on is one sentence and exit code 2; anything else keeps its traceback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from actors.checkpoint import CheckpointError
from actors.experience import TooManyMasked
from actors.learner import LearnerError
from actors.provenance import ProvenanceError
from actors.run_folder import RunFolderError
from actors.waiting import ActorLost, ActorTimeout
from actors.weight_sync import SyncError
from cluster.placement import PlacementError
from cluster.plan import PlanError
from cluster.session import SessionError
from data.errors import DataError
from policies.model import PolicyError
from recipe import RecipeError
from rewards.scorers import RewardError

UNUSABLE = (
    RecipeError,
    DataError,
    PolicyError,
    RewardError,
    RunFolderError,
    ProvenanceError,
    PlanError,
    PlacementError,
    SessionError,
)
"""The input must be mended: exit code 2."""
FAILED = (SyncError, TooManyMasked, ActorLost, ActorTimeout, LearnerError, CheckpointError)
"""The run could not go on: exit code 1."""
INTERRUPTED = 130


def command(main: Callable[[list[str]], int]) -> None:
    """Run a script's `main` with the command line's arguments and exit with its code."""
    try:
        code = main(sys.argv[1:])
    except UNUSABLE as error:
        code = _tell(error, 2)
    except FAILED as error:
        code = _tell(error, 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def _tell(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)
    return code
