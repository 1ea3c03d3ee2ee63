"""Settings of `data/`: which driving questions a run reads, and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DataSettings(BaseModel):
    """Where the samples come from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Literal[
        "rendered",
        "jsonl",
        "drivelm",
        "drivebench",
        "drivelmm_o1",
        "bdd_oia",
        "driveaction",
        "drivelm_carla",
        "nuscenes",
    ] = "rendered"
    """`rendered`: six-camera scenes drawn here with exact ground truth; `jsonl`: your own samples (docs/data.md); the
    others: the files of that dataset (`nuscenes`: ego trajectories)."""
    scenes: int = 400
    """`rendered` only: how many scenes are drawn, training and held out together."""
    questions: Literal["drivelm", "describe"] = "drivelm"
    """`rendered` only: seven questions of a scene in DriveLM's manner, or one that asks what the cameras show."""
    annotations: Path | None = None
    """All but `rendered`: the annotation file. A folder of parquet files for `driveaction`, of frames' files for
    `drivelm_carla`, of JSON tables for `nuscenes`. What variant of its format a file has is told by its content."""
    image_root: Path | None = None
    """The folder that images are looked for in: for `drivelm`, `drivebench`, `drivelmm_o1` and `nuscenes` the one that
    holds `samples/CAM_FRONT/...` (`drivebench` also: a corruption's folder, with `CAM_FRONT/...`). `jsonl`: None is the
    file's own folder. `driveaction`: where its images are unpacked; None is a folder in `run.root`."""
    reasoning: Path | None = None
    """Reasoning for the training questions, as `prepare_data.py distil` writes it (JSONL, by sample id); None: what the
    annotations themselves hold."""
    cascade: bool = False
    """Show each training question after the true answers to its frame's questions of earlier tasks."""
    without_images: bool = False
    """`drivebench` only: ask every question without images; `image_root` is not needed then."""
    reasons: Path | None = None
    """`bdd_oia` only: the file of reasons (`*_reasons.json`) that goes with `annotations` (`*_actions.json`)."""
    reason_order: Literal["annotation", "table"] = "annotation"
    """`bdd_oia` only: in which order a file has the 21 reasons: that of the released annotations, or that of the
    paper's table."""
    reply: Literal["describe", "decide", "structure"] = "decide"
    """`bdd_oia` only: what is asked for: a description, actions and reasons, or a JSON object of all three."""
    frames: int = Field(1, ge=1)
    """`bdd_oia` only: how many frames of the clip that leads to a question are shown; 1 is the last frame alone."""
    visual_descriptions: Path | None = None
    """`drivebench` only: `visual_description.json`, whose objects some of the judge's rubrics receive."""
    context_mode: Literal["V-L-A", "V-A", "L-A", "A"] = "A"
    """`driveaction` only: which other questions of a slice, vision (V) or language (L), stand with their answers before
    its action questions (A)."""
    language: Literal["en", "cn"] = "en"
    """`driveaction` only: the language of its texts."""
    name_cameras: bool = False
    """`drivelmm_o1` only: let steps and answers name cameras instead of tiles of a stitched image."""
    strict: bool = False
    """Make a faulty entry of the files an error instead of leaving it out and counting it."""
    held_out: float = 0.25
    """Share of the scenes that is never trained on. Splits are by scene, never by question; at least one scene."""
    task_shares: dict[str, float] = {"perception": 1.0, "prediction": 1.0, "planning": 1.0, "behavior": 1.0}
    """Relative frequency at which each task is drawn in training; one left out or at 0 is neither drawn nor shown."""
    seed: int = 0
    """Seed of the scenes, of the split and of the training order."""
