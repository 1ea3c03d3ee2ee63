"""How `evaluate.py SUITE` measures: whom it asks, how often, and where the results go. Starts nothing."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class SuiteRun(BaseModel):
    """What asking a model, and having answers judged, adds to a benchmark's options; each field is a flag."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str | None = None
    """Checkpoint folder, hub name, folder of a finished run, or URL of an endpoint (key: OPENAI_API_KEY)."""
    served_model: str | None = None
    """What the endpoint at the URL calls its model."""
    temperature: float = Field(0.2, ge=0.0)
    """Of sampling."""
    repeats: int = Field(3, ge=1)
    """Times each question is asked; figures are the mean."""
    seed: int = 0
    """Of sampling (GPU engines, endpoints) and of --limit."""
    out: Path | None = None
    """Folder of answers, results.json and report (default: in run.root)."""
    cache: Path | None = None
    """Folder for images that a benchmark draws or unpacks (default: run.root)."""
    recipe: Path | None = None
    """Engines, images and judge (default: recipes/evaluate.yaml)."""
    overrides: tuple[str, ...] = ()
    """part.key=value of the recipe; reward.judge.model=NAME has answers judged."""

    @property
    def from_file_alone(self) -> bool:
        """Nothing is to be started or written: a predictions file is scored, and the result is printed."""
        return self.model is None and self.out is None and self.recipe is None and not self.overrides
