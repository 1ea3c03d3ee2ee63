"""Settings of the CLIP behind R1. They belong at `reward.clip`; only pydantic is imported."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ClipSettings(BaseModel):
    """The CLIP that compares captions with frames, and the actors that hold it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = "tiny"
    """`tiny` trains a small one on rendered scenes (a minute or two, kept in `run.root`); a folder in open_clip's
    layout; `hf-hub:owner/name`; or the name of an architecture of open_clip, such as ViT-B-32."""
    pretrained: str | None = None
    """For the name of an architecture: the tag of its weights, such as openai, or a checkpoint file."""
    reads: Literal["answer", "description", "justification"] = "answer"
    """The caption: the answer part, or that field where the answer is a JSON object."""
    increments: Literal["sentence", "clause", "word"] | None = None
    """Also give the reward in increments along the caption, one for each such span (A2C)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the weights."""
    actors: int = Field(1, ge=1)
    """How many actors; a scene always goes to the same one while that one lives."""
    cpus: float = Field(1.0, gt=0)
    """CPUs reserved for one actor."""
    gpus: float = Field(0.0, ge=0)
    """GPUs reserved for one actor."""
    threads: int | None = Field(None, ge=1)
    """Compute threads of an actor on CPU, and threads that decode its images; None takes `cpus`."""
    batch_size: int = Field(64, ge=1)
    """Frames, or texts, in one forward pass; and rollouts in one call to an actor."""
    max_wait_ms: float = Field(5.0, ge=0)
    """How long rollouts are gathered for one call, unless `batch_size` of them are there before."""
    cache_mib: float = Field(256.0, gt=0)
    """Frame embeddings that an actor keeps, in MiB; a frame takes about 2 KiB (ViT-B-32: 2.5)."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest wait for one call to an actor; one that takes longer is taken for lost."""
    attempts: int = Field(3, ge=1)
    """Attempts at one rollout when actors are lost."""
    restarts: int = Field(3, ge=0)
    """How often a lost actor is started again."""
    start_timeout_s: float = Field(600.0, gt=0)
    """Longest wait for an actor to start and to load the model."""
