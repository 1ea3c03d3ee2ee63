"""Settings of `cluster/`: how a script reaches Ray and how long it waits for its place there."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ClusterSettings(BaseModel):
    """The Ray cluster a script runs on."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    address: str | None = None
    """Ray address; None joins the cluster of the job or environment, and otherwise starts one on this machine."""
    temp_dir: str | None = None
    """Ray's own folder when one is started here (short: socket names have a length limit)."""
    object_store_mib: int = Field(256, ge=80)
    """Object store size when Ray is started here."""
    placement_timeout_s: float = Field(120.0, gt=0)
    """Longest wait for the placement group; then the bundles that could not be placed are named."""
    wait_for_nodes: bool = False
    """Nodes may still join (autoscaler): what the present ones cannot hold is waited for, not refused at once."""
    learner_label: str | None = None
    """Ray label of the nodes for learners: a word, which stands for `autodriverl/role=word`, or `key=value`
    (`autodriverl/gpu=in(A100-80GB,H100-80GB)`); None takes any node."""
    rollout_label: str | None = None
    """Ray label of the nodes for rollout engines; None takes those of `learner_label`."""
    judge_label: str | None = None
    """Ray label of the nodes for judge engines; None takes any node."""
