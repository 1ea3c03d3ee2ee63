"""What the time of a run's steps is made of: the names of its parts, and their medians. No files, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from evaluation import run_record as names
from evaluation.numbers import short
from evaluation.run_record import RunRecord

LEARN_PARTS = {
    "assess_s": "assess", "pack_s": "pack", "forward_s": "forward", "backward_s": "backward", "optimizer_s": "optimizer"
}  # fmt: skip
"""What a step's learning is made of, each part's time over all micro-batches and updates together."""
SYNC_PARTS = {"gather_s": "gather", "send_s": "send", "install_s": "install", "probe_s": "probe"}
"""What a weight sync is made of; buckets are gathered, sent and installed side by side."""
ENGINE_PARTS = ("prepare", "queue", "prefill", "decode")
"""Of `data.rollout.EngineTimes`."""
RESPONSE_PARTS = dict(zip(names.ENGINE_TIMES, ENGINE_PARTS, strict=True)) | {
    names.WAIT_TIME: "wait for scoring",
    names.SCORE_TIME: "score",
}
"""What passes from where an engine takes a request up to its score, as the mean of a step's responses, many of which
run side by side. What a request waits for before, in the pool or at a full engine, is not in it."""
STEP = "step_s"
STAGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "generate_s": ("generating and scoring", {}),
    "learn_s": ("learning", LEARN_PARTS | {"turns_s": "take turns with engines"}),
    "sync_s": ("weight sync", SYNC_PARTS),
    STEP: ("a whole step", {}),
}
"""The stages of a step, which overlap where generation runs ahead, with their parts."""


@dataclass(frozen=True, slots=True)
class TimePart:
    """A part of a step, or of a response."""

    name: str
    seconds: str
    """The median over the steps, in words."""
    share: float | None
    """Of a whole step; None for what is of a response."""
    inner: bool
    """It is part of the one before it that is not."""


def step_parts(run: RunRecord) -> list[TimePart]:
    """The stages of a step and their parts, as far as they were measured."""
    whole = _median(run, STEP)
    return [
        TimePart(name, short(took), took / whole if whole else None, inner)
        for metric, (title, parts) in STAGES.items()
        for key, name, inner in [(metric, title, False), *((key, name, True) for key, name in parts.items())]
        if (took := _median(run, key)) is not None
    ]


def response_parts(run: RunRecord) -> list[TimePart]:
    """The parts of a response, from request to score."""
    found = {name: _median(run, metric) for metric, name in RESPONSE_PARTS.items()}
    return [TimePart(name, short(took), None, False) for name, took in found.items() if took is not None]


def in_words(metrics: Mapping[str, float]) -> str:
    """A step's time and its stages: `9.4 s (generate 2.9, learn 4.7, sync 1.6)`; nothing where it was not measured."""
    if STEP not in metrics:
        return ""
    named = {"generate_s": "generate", "learn_s": "learn", "sync_s": "sync"}
    stages = ", ".join(f"{name} {short(metrics[key])}" for key, name in named.items() if key in metrics)
    return f"{short(metrics[STEP])} s{f' ({stages})' if stages else ''}"


def _median(run: RunRecord, metric: str) -> float | None:
    values = [value for _, value in run.series(metric)]
    return median(values) if values else None
