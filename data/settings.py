"""Settings of `data/`: which driving questions a run reads, and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict


class DataSettings(BaseModel):
    """Where the samples come from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Literal["rendered", "drivelm"] = "rendered"
    """`rendered`: six-camera scenes drawn here with exact ground truth; `drivelm`: DriveLM annotation files."""
    scenes: int = 400
    """`rendered` only: how many scenes are drawn, training and held out together."""
    questions: Literal["drivelm", "describe"] = "drivelm"
    """`rendered` only: seven questions of a scene in DriveLM's manner, or one that asks what the cameras show."""
    annotations: Path | None = None
    """`drivelm` only: the annotation file (train, challenge or llama format; told apart by its content)."""
    image_root: Path | None = None
    """`drivelm` only: the folder that holds `samples/CAM_FRONT/...` (nuScenes layout)."""
    reasoning: Path | None = None
    """Reasoning for the training questions, as `prepare_data.py distil` writes it (JSONL, by sample id); None: what the
    annotations themselves hold."""
    held_out: float = 0.25
    """Share of the scenes that is never trained on. Splits are by scene, never by question; at least one scene."""
    task_shares: dict[str, float] = {"perception": 1.0, "prediction": 1.0, "planning": 1.0, "behavior": 1.0}
    """Relative frequency at which each task is drawn in training; one left out or at 0 is neither drawn nor shown."""
    seed: int = 0
    """Seed of the scenes, of the split and of the training order."""
