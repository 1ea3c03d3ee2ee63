"""Weights & Biases as a tracker. Imports wandb when it starts; without a key it writes offline, for `wandb sync`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from actors.record.tracker import SampleRow, TrackedRun

STEP = "step"
COLUMNS = ("task", "question", "truth", "response", "reward")


class WandbTracker:
    """A run at Weights & Biases."""

    class Settings(BaseModel):
        """Where the run goes."""

        model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

        project: str = "autodriverl"
        """The project."""
        entity: str | None = None
        """The user or team; None: the key's own."""
        mode: Literal["auto", "online", "offline"] = "auto"
        """`auto`: online where there is a key (WANDB_API_KEY, or `wandb login`), else offline; `offline` writes below
        `<run>/wandb`, from where `wandb sync` takes it."""

    def __init__(self, options: Settings, run: TrackedRun) -> None:
        """See `Tracker`."""
        self._options, self._run = options, run
        self._wandb: Any = None

    @staticmethod
    def lacking() -> str | None:
        """What is missing on this machine."""
        found = importlib.util.find_spec("wandb")
        return None if found else "wandb is not installed: pip install --constraint constraints.txt '.[wandb]'"

    def start(self) -> str:
        """See `Tracker`."""
        os.environ.setdefault("WANDB_SILENT", "true")  # else it talks into the live table
        import wandb

        options, run = self._options, self._run
        mode: Any = options.mode if options.mode != "auto" else "online" if _has_key() else "offline"
        self._wandb = wandb.init(
            project=options.project,
            entity=options.entity,
            name=run.name,
            tags=run.tags,
            id=run.known_as,
            resume="allow" if run.known_as else None,
            dir=str(run.folder),
            mode=mode,
            config=run.recipe,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._wandb.define_metric("*", step_metric=STEP)  # W&B's own step never goes back, and ours may come late
        return str(self._wandb.id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._wandb.log({STEP: step, **values})

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """See `Tracker`."""
        import wandb

        table = wandb.Table(columns=list(COLUMNS))
        pictures = []
        for row in rows:
            table.add_data(row.task, row.question, row.truth, row.response, row.reward)
            if (picture := row.picture()) is not None:
                pictures.append(wandb.Image(picture, caption=f"{row.question} → {row.response}"))
        self._wandb.log({STEP: step, "samples": table, **({"pictures": pictures} if pictures else {})})

    def close(self) -> None:
        """See `Tracker`."""
        if self._wandb is not None:
            self._wandb.finish()


def _has_key() -> bool:
    """Whether W&B can be reached as somebody, without asking for a key on the terminal."""
    import wandb

    return bool(wandb.login(prompt=False, verify=False))
