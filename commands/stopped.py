"""What a run that was interrupted says: where it stopped, and how to go on. Reads names only."""

from __future__ import annotations

from evaluation.run_record import SUPERVISED_FOLDER, newest_step
from recipe import Recipe


def stopped(recipe: Recipe) -> str:
    """One sentence for the person who interrupted a run, or whose scheduler did."""
    run, folder = recipe.run, recipe.run.folder
    if not folder.is_dir():
        return f"{run.name} stopped before it began: the same command starts it"
    if (step := newest_step(folder)) is not None:
        where = f"after step {step} of {run.steps}"
    elif (step := newest_step(folder / SUPERVISED_FOLDER)) is not None:
        where = f"after step {step} of {recipe.warm_start.steps} of its warm start"
    else:
        where = "before its first checkpoint"
    return f"{run.name} stopped {where}; go on with the same command and run.resume=true"
