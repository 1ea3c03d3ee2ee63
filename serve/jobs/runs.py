"""`Runs`: where the runs of jobs go: Ray's job submission. A run's name is its job's id and the number of the attempt.

So a run that was submitted and not written down is found under its name, and is not begun a second time.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cluster.session import ROOT

State = Literal["waiting", "running", "succeeded", "failed", "stopped", "gone"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is."""

    state: State
    """`gone`: the cluster does not know it (any more)."""
    code: int | None = None
    """The exit code of its script."""
    said: str = ""
    """The end of what it printed, where it failed."""


class Runs(Protocol):
    """A place for runs. Calls may be made again: what is done is not done twice."""

    async def submit(self, name: str, script: str, recipe: Path, about: dict[str, str]) -> None:
        """Begin a run, unless there is one of that name."""

    async def look(self, name: str) -> Look:
        """How a run is."""

    async def stop(self, name: str) -> None:
        """Ask a run to write its checkpoint and end; says nothing where there is none."""


class RayRuns:
    """Runs as jobs of the connected Ray cluster, seen in its dashboard."""

    def __init__(self, address: str, stop_s: float, *, ship: bool) -> None:
        """Use the job server at an address.

        Args:
            address: of the dashboard, `http://host:port`.
            stop_s: how long a run may take to end in good order.
            ship: whether the project is not on the nodes yet, so that it goes with each job.
        """
        from ray.job_submission import JobSubmissionClient

        self._client: Any = JobSubmissionClient(address)
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(int(stop_s))}
        self._runtime: dict[str, Any] = {"env_vars": variables}
        if ship:
            self._runtime["working_dir"] = str(ROOT)
        else:
            variables["PYTHONPATH"] = str(ROOT)
        self._scripts = "." if ship else str(ROOT)

    async def submit(self, name: str, script: str, recipe: Path, about: dict[str, str]) -> None:
        """See `Runs`."""
        python = "python" if "working_dir" in self._runtime else sys.executable
        command = shlex.join([python, f"{self._scripts}/{script}", str(recipe)])
        if (await self.look(name)).state != "gone":
            return
        await asyncio.to_thread(
            self._client.submit_job,
            entrypoint=f"exec {command}",
            submission_id=name,
            runtime_env=self._runtime,
            metadata=about,
        )

    async def look(self, name: str) -> Look:
        """See `Runs`."""
        try:
            info = await asyncio.to_thread(self._client.get_job_info, name)
        except RuntimeError as error:
            if "404" in str(error) or "does not exist" in str(error):
                return Look("gone")
            raise
        states: dict[str, State] = {
            "PENDING": "waiting",
            "RUNNING": "running",
            "SUCCEEDED": "succeeded",
            "FAILED": "failed",
            "STOPPED": "stopped",
        }
        return Look(states[str(info.status.value)], info.driver_exit_code, str(info.message or "")[-20_000:])

    async def stop(self, name: str) -> None:
        """See `Runs`."""
        if (await self.look(name)).state in ("waiting", "running"):
            await asyncio.to_thread(self._client.stop_job, name)
