"""How a script begins and ends: the command line is a recipe with overrides, and an error a person can act on is one
sentence with exit code 2; anything unforeseen keeps its traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable

from cluster.errors import PlacementError, PlanError, SessionError
from commands.completion import offer
from data.errors import DataError, one_line
from extension import ExtensionError, at_home
from failures import (
    ActorLost,
    ActorTimeout,
    CheckpointError,
    DiskFull,
    EngineError,
    LearnerError,
    RolloutExhausted,
    RunFolderError,
    SyncError,
    TooManyMasked,
    TooManyRefused,
    TooManySkipped,
    is_full,
)
from policies.errors import BudgetError, PolicyError
from recipe import Recipe, RecipeError, load_recipe
from rewards.errors import RewardError

UNUSABLE = (
    RecipeError,
    ExtensionError,
    DataError,
    PolicyError,
    RewardError,
    RunFolderError,
    PlanError,
    PlacementError,
    SessionError,
)
"""The input must be mended: exit code 2."""
FAILED = (
    SyncError,
    TooManyRefused,
    TooManySkipped,
    BudgetError,
    LearnerError,
    EngineError,
    CheckpointError,
)
"""The run could not go on, and would not without a person's help: exit code 1, as for what nobody foresaw."""
PASSING = (ActorLost, ActorTimeout, RolloutExhausted, DiskFull, TooManyMasked)
"""The run could not go on, and may when it is resumed: exit code 75. An actor or its node was lost, a disk is full, a
judge is away."""
RETRY = 75
"""EX_TEMPFAIL of sysexits.h."""
INTERRUPTED = 130
RETRY_WAIT_S = 30.0
"""Before a script starts itself again: a disk is cleared, or a judge is back, no sooner."""


def parse_arguments(script: str, description: str, arguments: list[str], example: str = "tiny") -> argparse.Namespace:
    """A command line as `given` (the recipe, where there is one, and overrides) and `dry_run`."""
    parser = argparse.ArgumentParser(prog=script, description=description)
    recipe = parser.add_argument("recipe", nargs="?", help=f"YAML file, such as recipes/{example}.yaml")
    overrides = parser.add_argument("overrides", nargs="*", metavar="part.key=value", help="such as learner.lr=1e-4")
    parser.add_argument("--dry-run", action="store_true", help="print recipe, placement and estimate; start nothing")
    offer(parser, recipe, overrides)
    options = parser.parse_intermixed_args(arguments)
    options.given = [one for one in (options.recipe, *options.overrides) if one is not None]
    return options


def parse_recipe(script: str, description: str, arguments: list[str]) -> tuple[Recipe, bool]:
    """The recipe a command line asks for, and whether it is only to be shown.

    Raises:
        RecipeError: as `load_recipe`.
    """
    options = parse_arguments(script, description, arguments)
    return load_recipe(options.given), options.dry_run


def start_again(retries: int) -> None:
    """Become the same command once more, going on from the newest checkpoint; returns only where that cannot be.

    A new process image: what the one before had loaded, and what had gone wrong in it, is gone.

    Args:
        retries: how often that may still be done after this time.
    """
    sys.stdout.flush()
    time.sleep(RETRY_WAIT_S)
    same = [one for one in sys.orig_argv[1:] if not one.startswith(("run.resume=", "run.retries="))]
    os.execv(sys.executable, [sys.executable, *same, "run.resume=true", f"run.retries={retries}"])


def command(main: Callable[[list[str]], int]) -> None:
    """Run a script's `main` with the command line's arguments and exit with its code."""
    sys.exit(guarded(lambda: main([at_home(one) for one in sys.argv[1:]])))


def guarded(main: Callable[[], int]) -> int:
    """What `main` returns; an error that a person can act on is printed, and becomes its exit code."""
    try:
        return main()
    except UNUSABLE as error:
        return _report(error, 2)
    except PASSING as error:
        return _report(error, RETRY)
    except FAILED as error:
        return _report(error, 1)
    except OSError as error:
        if not is_full(error):
            raise
        place = f" at {error.filename}" if error.filename else ""
        return _report(OSError(f"the disk is full{place}: free some space, then run the same command again"), RETRY)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _report(error: Exception, code: int) -> int:
    print(f"error: {one_line(str(error)) if code == 2 else error}", file=sys.stderr)
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)
    return code
