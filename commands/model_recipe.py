"""Which recipe a model is run by: its own for the folder of a run, else one that is given. Loads and starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.session import ROOT
from recipe import RecipeError

DEFAULT_RECIPE = ROOT / "recipes" / "evaluate.yaml"
OWN_WEIGHTS = ("policy.lora=null", "rollout.adapters=merged")
"""The policy that a run leaves has its adapters merged."""


def recipe_arguments(model: str | None, recipe: Path | None, overrides: Sequence[str]) -> list[str]:
    """The recipe that a model is run by, as a command line: its own for the folder of a run, else the one given.

    Raises:
        RecipeError: the folder is that of a run which is not finished.
    """
    folder = Path(model) if model is not None and not is_url(model) else None
    if folder is None:
        return [str(recipe or DEFAULT_RECIPE), *overrides]
    if (folder / "config.json").is_file() or not folder.is_dir():
        return [str(recipe or DEFAULT_RECIPE), f"policy.model={model}", *overrides]
    for needed in ("recipe.yaml", "policy/config.json"):
        if not (folder / needed).is_file():
            raise RecipeError(f"{folder} is not the folder of a finished run: it has no {needed}")
    return [str(recipe or folder / "recipe.yaml"), f"policy.model={folder / 'policy'}", *OWN_WEIGHTS, *overrides]


def is_url(model: str) -> bool:
    """Whether a model is named by the address of its endpoint."""
    return model.startswith(("http://", "https://"))
