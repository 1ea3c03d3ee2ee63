"""Launch files of `ray up`: Ray's own schema, the cloud's description of a node, and what this project asks of each.

Ray's schema takes any key under `provider`; the models here take the ones that its providers read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.launch.commands import check_shell
from cluster.launch.finding import Findings, schema_reason, unknown
from cluster.launch.node_group import NodeGroup, check_labels
from cluster.launch.provider_api import check_aws, check_azure, check_gcp

RUN_OPTIONS = {"--user", "--ulimit", "--shm-size", "--volume", "--env"}
ENVIRONMENT = {"HF_HOME", "RAY_AUTH_MODE", "RAY_JOB_STOP_WAIT_TIME_S", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"}
LEAST_STOP_S = 300
"""A run that is asked to stop finishes its step and writes a checkpoint: Ray's own 3 s would kill it."""
SHARED = "/mnt/shared"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Aws(_Strict):
    type: Literal["aws"]
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    availability_zone: str | None = None
    cache_stopped_nodes: bool
    use_internal_ips: bool = False


class _Gcp(_Strict):
    type: Literal["gcp"]
    region: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$")
    availability_zone: str = Field(pattern=r"^[a-z]+-[a-z]+\d+-[a-z]$")
    project_id: str
    cache_stopped_nodes: bool
    use_internal_ips: bool = False


class _Azure(_Strict):
    type: Literal["azure"]
    location: str = Field(pattern=r"^[a-z0-9]+$")
    resource_group: str
    subscription_id: str
    availability_zone: str
    cache_stopped_nodes: bool
    use_internal_ips: bool
    use_external_head_ip: bool


class _Auth(_Strict):
    ssh_user: str
    ssh_private_key: str | None = None
    ssh_public_key: str | None = None
    ssh_proxy_command: str | None = None


class _Docker(_Strict):
    image: str = Field(pattern=r"^[\w.:/-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$")
    container_name: str
    pull_before_run: bool
    run_options: list[str]


class _NodeType(_Strict):
    resources: dict[Literal["CPU", "GPU"], int]
    labels: dict[str, str]
    min_workers: int = Field(ge=0)
    max_workers: int = Field(ge=0)
    node_config: dict[str, Any]


class _RayUp(_Strict):
    cluster_name: str
    max_workers: int
    idle_timeout_minutes: int = Field(gt=0, le=60)
    provider: _Aws | _Gcp | _Azure = Field(discriminator="type")
    auth: _Auth
    docker: _Docker
    head_node_type: str
    available_node_types: dict[str, _NodeType]
    file_mounts: dict[str, str]
    initialization_commands: list[str]
    setup_commands: list[str]
    head_setup_commands: list[str]
    head_start_ray_commands: list[str]
    worker_start_ray_commands: list[str]


NODES: dict[str, Callable[[Findings, str, dict[str, Any]], None]] = {
    "aws": check_aws,
    "gcp": check_gcp,
    "azure": check_azure,
}


def check_ray_up(findings: Findings, tree: dict[str, Any]) -> list[NodeGroup]:
    """Note every fault of a `ray up` file; returns the nodes that it can start."""
    file: _RayUp | None = findings.take("file", _RayUp, tree)
    if file is None:
        return []
    try:
        validate_config(prepare_config(copy.deepcopy(tree)))
    except (jsonschema.ValidationError, ValueError, KeyError, TypeError) as error:
        said = schema_reason(error) if isinstance(error, jsonschema.ValidationError) else str(error)
        findings.add("file", f"Ray refuses it: {said}")
    for name, node in file.available_node_types.items():
        NODES[file.provider.type](findings, f"available_node_types.{name}.node_config", node.node_config)
    _check_head(findings, file)
    _check_container(findings, file.docker.run_options)
    _check_commands(findings, file)
    groups = {name: node for name, node in file.available_node_types.items() if name != file.head_node_type}
    if (most := sum(node.max_workers for node in groups.values())) != file.max_workers:
        findings.add("max_workers", f"{file.max_workers}, but the groups start {most} nodes at most")
    return [
        NodeGroup(
            name,
            node.max_workers,
            {str(name): amount for name, amount in node.resources.items()},
            node.labels,
            _is_spot(node.node_config),
        )
        for name, node in groups.items()
    ]


def _is_spot(node: dict[str, Any]) -> bool:
    market = node.get("InstanceMarketOptions", {}).get("MarketType")
    model = node.get("scheduling", {}).get("provisioningModel")
    priority = node.get("azure_arm_parameters", {}).get("priority")
    return (market, model, priority) != (None, None, None) and "spot" in {
        str(x).lower() for x in (market, model, priority)
    }


def _check_head(findings: Findings, file: _RayUp) -> None:
    head = file.available_node_types.get(file.head_node_type)
    if head is None:
        findings.add("head_node_type", unknown(file.head_node_type, file.available_node_types))
    elif head.resources != {"CPU": 0}:
        findings.add(
            f"available_node_types.{file.head_node_type}", "must offer 0 CPUs, so that no learner is placed there"
        )
    else:
        check_labels(findings, f"available_node_types.{file.head_node_type}.labels", head.labels)
    mounts = {"~/.ray/auth_token", "~/.autodriverl/checkpoint.key"}
    for missing in mounts - file.file_mounts.keys():
        findings.add("file_mounts", f"{missing} is missing")
    for remote, local in file.file_mounts.items():
        if remote not in mounts or local != remote:
            findings.add(f"file_mounts.{remote}", f"unknown: {unknown(local, mounts)}")


def _check_container(findings: Findings, options: list[str]) -> None:
    environment: dict[str, str] = {}
    volumes: list[str] = []
    for option in options:
        name, _, value = option.partition("=")
        if name not in RUN_OPTIONS:
            findings.add("docker.run_options", unknown(name, RUN_OPTIONS))
        elif name == "--env":
            key, _, content = value.partition("=")
            environment[key] = content
            if key not in ENVIRONMENT:
                findings.add("docker.run_options", unknown(key, ENVIRONMENT))
        elif name == "--volume":
            volumes.append(value.partition(":")[2])
    if environment.get("RAY_AUTH_MODE") != "token":
        findings.add(
            "docker.run_options", "--env=RAY_AUTH_MODE=token is missing: anyone who reaches a port could run code"
        )
    if int(environment.get("RAY_JOB_STOP_WAIT_TIME_S", "3")) < LEAST_STOP_S:
        findings.add("docker.run_options", f"RAY_JOB_STOP_WAIT_TIME_S must be {LEAST_STOP_S} or more")
    if SHARED not in volumes:
        findings.add(
            "docker.run_options", f"--volume={SHARED}:{SHARED} is missing: runs would be lost with the container"
        )
    if not environment.get("HF_HOME", "").startswith(tuple(f"{volume}/" for volume in volumes)):
        findings.add(
            "docker.run_options", "HF_HOME must lie in a mounted volume, or every node downloads every model anew"
        )


def _check_commands(findings: Findings, file: _RayUp) -> None:
    for key in ("initialization", "setup", "head_setup", "head_start_ray", "worker_start_ray"):
        commands: list[str] = getattr(file, f"{key}_commands")
        for index, command in enumerate(commands):
            check_shell(findings, f"{key}_commands.{index}", command)
    head, worker = (" ".join(getattr(file, f"{who}_start_ray_commands")) for who in ("head", "worker"))
    for place, said, wanted in (
        ("head_start_ray_commands", head, "ray start --head"),
        ("head_start_ray_commands", head, "--dashboard-host=127.0.0.1"),
        ("head_start_ray_commands", head, "--autoscaling-config=~/ray_bootstrap_config.yaml"),
        ("head_start_ray_commands", head, "--metrics-export-port="),
        ("worker_start_ray_commands", worker, "ray start --address=$RAY_HEAD_IP:6379"),
        ("worker_start_ray_commands", worker, "--metrics-export-port="),
        ("setup_commands", " ".join(file.setup_commands), "chmod 600 ~/.ray/auth_token"),
        ("initialization_commands", " ".join(file.initialization_commands), f"mountpoint -q {SHARED} || sudo mount"),
    ):
        if wanted not in said:
            findings.add(place, f"`{wanted}` is missing")
