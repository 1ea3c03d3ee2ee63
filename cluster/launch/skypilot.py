"""Launch files for SkyPilot: the schemas of its own wheel, and what this project asks of a task.

SkyPilot pins packages that Ray and vLLM pin otherwise, so it is installed without its dependencies (setup.sh does that
in a checkout), and of its code only the module with the schemas is executed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import jsonschema

from cluster.labels import ROLE
from cluster.launch.commands import check_shell
from cluster.launch.finding import Findings, schema_reason, unknown
from cluster.launch.node_group import NodeGroup
from cluster.launch.ray_up import ENVIRONMENT

ACCELERATORS = {"A100-80GB": 80, "H100": 80, "H200": 141}
"""SkyPilot's names of the GPUs that the recipes were planned for, to GiB."""
RECOVERY = ("strategy", "max_restarts_on_errors", "recover_on_exit_codes")
DISK_TIERS = ("high", "ultra", "best")
IMAGE = r"^docker:[\w.:/-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$"
SCHEMAS = "sky.utils.schemas"
ROLES = "AUTODRIVERL_ROLES"
"""Variable of a task that gives each rank its role."""


def check_skypilot(findings: Findings, tree: dict[str, Any]) -> list[NodeGroup]:
    """Note every fault of a SkyPilot task; returns the nodes that it starts."""
    resources = tree.get("resources", {})
    for place, value, schema in (("task", tree, _schemas()["task"]), ("resources", resources, _schemas()["resources"])):
        for error in _Validator(schema).iter_errors(value):
            findings.add(".".join([place, *map(str, error.path)]), schema_reason(error))
    findings.refuse_unknown("resources.job_recovery", resources.get("job_recovery", {}), RECOVERY)  # Sky's allows any
    if str(resources.get("disk_tier")) not in DISK_TIERS:
        findings.add("resources.disk_tier", f"must be one of {', '.join(DISK_TIERS)}: models are loaded from there")
    check_shell(findings, "run", str(tree.get("run", "")))
    if not re.fullmatch(IMAGE, str(resources.get("image_id"))):
        findings.add("resources.image_id", "must be docker:IMAGE:1.2.3, pinned to a full version")
    if resources.get("ports"):
        findings.add("resources.ports", "opens a port: leave it out, and reach the dashboard through `ssh -L`")
    roles, nodes = str(tree.get("envs", {}).get(ROLES, "")).split(), tree.get("num_nodes", "an unknown number of")
    if len(roles) != nodes:
        findings.add(f"envs.{ROLES}", f"names {len(roles)} roles for {nodes} nodes (num_nodes)")
    for wanted in ("auth_token", "umask 077", "--dashboard-host=127.0.0.1", f"${ROLES}"):
        if wanted not in str(tree.get("run", "")):
            findings.add("run", f"`{wanted}` is missing")
    declared = {**tree.get("envs", {}), **tree.get("secrets", {})}
    for name in sorted(
        set(re.findall(r"\$(AUTODRIVERL_\w+)", str(tree.get("run", "")))) ^ {n for n in declared if "AUTO" in n}
    ):
        findings.add("run", f"{name} is {'never used' if name in declared else 'neither in envs nor in secrets'}")
    findings.refuse_unknown("envs", tree.get("envs", {}), [ROLES, *ENVIRONMENT])
    if tree.get("envs", {}).get("RAY_AUTH_MODE") != "token":
        findings.add("envs.RAY_AUTH_MODE", "must be token: anyone who reaches a port could run code")
    if "/mnt/shared" not in tree.get("volumes", {}):
        findings.add("volumes", "/mnt/shared is missing: runs would be lost with the machines")
    gpus = _gpus(findings, resources.get("accelerators"))
    return [NodeGroup(f"rank {rank}", 1, {"CPU": 96, "GPU": gpus}, {ROLE: role}) for rank, role in enumerate(roles)]


def _gpus(findings: Findings, accelerators: Any) -> int:
    """How many GPUs each node has; the smallest number where several kinds are allowed."""
    counts = []
    for name, count in (accelerators or {}).items() if isinstance(accelerators, dict) else []:
        if name not in ACCELERATORS:
            findings.add("resources.accelerators", f"{name} is none of {', '.join(ACCELERATORS)}")
        counts.append(int(count))
    if not counts:
        findings.add("resources.accelerators", f"must map {' or '.join(ACCELERATORS)} to a number of GPUs")
    return min(counts, default=0)


def _in_any_case(_: Any, allowed: list[str], value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """The one keyword that SkyPilot's schemas add to JSON Schema's."""
    if isinstance(value, str) and value.lower() not in {word.lower() for word in allowed}:
        yield jsonschema.ValidationError(unknown(value, allowed))


_Validator = jsonschema.validators.extend(jsonschema.Draft7Validator, {"case_insensitive_enum": _in_any_case})


@cache
def _schemas() -> dict[str, Any]:
    """SkyPilot's schemas of a task and its resources.

    Raises:
        ModuleNotFoundError: SkyPilot is not installed.
    """
    spec = importlib.util.find_spec("sky")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("SkyPilot's schema is missing: pip install --no-deps skypilot==0.14.1")
    package: Any = ModuleType("sky")  # its own __init__ imports every cloud's client
    package.__path__, package.__version__ = list(spec.submodule_search_locations), metadata.version("skypilot")
    autostop: Any = ModuleType("sky.skylet.autostop_lib")  # imports a server, for three words
    autostop.AutostopWaitFor = SimpleNamespace(supported_modes=lambda: ["jobs_and_ssh", "jobs", "none"])
    stood_in = {"sky": package, autostop.__name__: autostop}
    before = dict(sys.modules)
    sys.modules.update(stood_in)
    try:
        schemas: Any = importlib.import_module(SCHEMAS)
        schemas._task_config_schema = lambda: {"type": "object", "maxProperties": 0}  # needs the server's database
        return {"task": schemas.get_task_schema(), "resources": schemas.get_resources_schema()}
    finally:
        for name in [name for name in sys.modules if name == "sky" or name.startswith("sky.")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.startswith("sky")})
