"""`JobPage`: a submitted job's page in Ray's dashboard carries its run's latest figures and where its report lies.

They are the job's metadata, which Ray's own job server keeps in the cluster's store. May touch no other entry.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ray._private.ray_constants import KV_NAMESPACE_JOB
from ray.dashboard.modules.job.common import JOB_ID_METADATA_KEY, JobInfoStorageClient
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from actors.record.run_folder import JOB_VARIABLE
from evaluation import run_record as names

SHOWN = {
    names.REWARD_MEAN: "reward",
    "tokens_per_s": "tokens a second",
    "step_s": "seconds a step",
    names.PROBE_GAP: "log-probability gap",
    "kl": "KL",
    names.MASKED_ROLLOUTS: "masked rollouts",
}
"""Figures of a step and what the page calls them."""


class JobPage:
    """The page of the job that this process is; does nothing where it is none."""

    def __init__(self, folder: Path, steps: int) -> None:
        """Of a run in `folder` that takes `steps` steps."""
        config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
        self._job: str | None = config.get("metadata", {}).get(JOB_ID_METADATA_KEY)
        self._folder, self._steps = folder, steps

    def show(self, step: int, metrics: Mapping[str, float]) -> None:
        """Put the figures of a step on the page."""
        if self._job is None:
            return
        key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=self._job).encode()
        held = _internal_kv_get(key, namespace=KV_NAMESPACE_JOB)
        if held is None:  # the job was deleted from the list meanwhile
            return
        figures = {"step": f"{step} of {self._steps}", "run folder": str(self._folder)}
        figures |= {"report": str(self._folder / "report.html")}
        figures |= {shown: f"{metrics[name]:.4g}" for name, shown in SHOWN.items() if name in metrics}
        info = json.loads(held)
        info["metadata"] = {**(info.get("metadata") or {}), **figures}
        _internal_kv_put(key, json.dumps(info).encode(), overwrite=True, namespace=KV_NAMESPACE_JOB)
