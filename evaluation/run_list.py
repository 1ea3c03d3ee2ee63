"""The runs of a folder, and what a line about each says. Reads run folders only; no torch, no ray."""

from __future__ import annotations

from pathlib import Path

from evaluation.run_record import RECIPE_FILE


def runs_in(root: Path) -> list[Path]:
    """The run folders directly below a folder, by name; none where it is not there."""
    return sorted(path.parent for path in root.glob(f"*/{RECIPE_FILE}"))
