"""What the planner takes for granted: machines and prices, efficiencies, shapes of models. Read from `facts.yaml`.

Every figure there has a date and a source; a file of one's own (`--facts`) replaces it. Imports no torch.
"""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import PlanError

FACTS_FILE = Path(__file__).with_name("facts.yaml")


class NodeType(BaseModel):
    """A machine that can be rented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    gpu: str
    """Name of its GPUs."""
    gpus: int
    """How many it has."""
    gib: float
    """Memory of one GPU, in GiB."""
    tflops: float
    """Peak of one GPU in dense bfloat16, in 1e12 FLOP a second."""
    memory_gbps: float
    """Bandwidth of one GPU's memory, in 1e9 bytes a second."""
    link_gbps: float
    """Between two GPUs of the node, one direction, in 1e9 bytes a second."""
    network_gbit: float
    """Between nodes, in 1e9 bits a second."""
    disk_mbps: float
    """Reading weights, in 1e6 bytes a second."""
    cpus: int
    """CPUs of the node."""
    usd_per_hour: float
    """Price on demand."""

    @property
    def generation(self) -> str:
        """Which of the learner's efficiencies holds for it."""
        return "h100" if self.gpu.startswith("H") else "a100"


class Figure(BaseModel):
    """A number and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    source: str


class Facts(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: date
    nodes: dict[str, NodeType]
    efficiencies: dict[str, Figure]
    overheads: dict[str, Figure]
    models: dict[str, dict[str, Any]]

    def node(self, name: str) -> NodeType:
        """A machine by its name.

        Raises:
            PlanError: the table has none of that name.
        """
        if name not in self.nodes:
            near = [known for known in self.nodes if known.startswith(name.split(".")[0])]
            near = near or difflib.get_close_matches(name, self.nodes, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise PlanError(
                f"node type {name} is not in the price table{meant}: add it under nodes in {FACTS_FILE.name}, or name "
                f"one of {', '.join(self.nodes)}"
            )
        return self.nodes[name]

    def efficiency(self, name: str) -> float:
        """A value of the table of efficiencies."""
        return self.efficiencies[name].value

    def overhead(self, name: str) -> float:
        """A value of the table of overheads, in GiB or as a share."""
        return self.overheads[name].value


def load_facts(path: Path = FACTS_FILE) -> Facts:
    """Read the table.

    Raises:
        PlanError: the file is missing or not of this form.
    """
    try:
        return Facts.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise PlanError(
            f"{path} is no table of facts for the planner ({error}): take {FACTS_FILE} as a pattern"
        ) from None
