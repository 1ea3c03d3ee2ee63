"""Settings of `evaluation/`: what a policy is measured on before, during and after training."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EvaluationSettings(BaseModel):
    """Held-out evaluation with the run's own rewards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    before_and_after: bool = True
    """Measure the policy on the held-out scenes before the first and after the last step."""
    samples_per_task: int = Field(50, ge=1)
    """At most this many held-out questions of each task, drawn once from the data seed."""
    temperature: float = Field(0.0, ge=0.0)
    """Sampling temperature; 0 is greedy."""
    answers_shown: int = Field(4, ge=0)
    """How many answers of each gallery (best, worst, largest gains and losses) the report shows with their images."""
    swapped_images: bool = False
    """Also ask every held-out question with the images of another scene: what remains was never seen."""
    canaries_per_task: int = Field(1, ge=0)
    """Held-out questions of each task on which the judge, where there is one, is tried with answers that deserve
    nothing: injections, and phrases that are known to please judges. Each costs a judgement for every answer of
    `rewards/canaries.yaml` and one for the empty answer. 0 leaves it out."""
    held_out_every: int = Field(0, ge=0)
    """Steps between measurements of the run's own held-out questions during training, on the rollout engines, as the
    curves `benchmark/held_out/...`; training waits for them. 0 makes none."""
    held_out_per_task: int = Field(25, ge=1)
    """At most this many of each task are asked then, drawn from those that are asked before and after."""
    every: int = Field(0, ge=0)
    """Steps between measurements of `suites` during training; 0 makes none."""
    suites: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The benchmarks that are measured then, by name, or `module:Class` of your own; each with its options, which are
    the flags of `evaluate.py NAME`: `{drivelm_hard: {answers: hard.jsonl, limit: 100}}`."""
    engines: int = Field(1, ge=1)
    """Engines that answer them, each reserving as much as a rollout engine; training keeps its own."""
    cascade: bool = False
    """Ask task after task, each question after the policy's own answers to its frame's questions of earlier tasks;
    give `samples_per_task` room for all of them: an earlier answer is shown only where its question is asked too."""
    control: bool = False
    """After training, also continue the warm start for as long as RL took, from where RL began, and measure that."""
