"""Manifests for Kubernetes: models of the fields of KubeRay's resources and of a pod that are used here; no others.

Compared field by field with KubeRay's custom resource definitions of version 1.7.0 (`ray.io/v1`), which no package has.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray.serve.schema import ServeDeploySchema

from cluster.launch.commands import START_OPTIONS, check_training
from cluster.launch.finding import Findings, unknown
from cluster.launch.node_group import NodeGroup, check_labels

SPOT = {"cloud.google.com/gke-spot", "eks.amazonaws.com/capacityType", "kubernetes.azure.com/scalesetpriority"}
"""Node labels by which the providers mark spot nodes."""
GPU_PRODUCTS = {"NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe", "NVIDIA-H100-80GB-HBM3", "NVIDIA-H200"}
"""Names that NVIDIA's device plugin gives a node's GPUs."""

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Image = Annotated[str, Field(pattern=r"^[\w.:/-]+:\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Part):
    name: Name | None = None
    generateName: str | None = None
    namespace: Name | None = None
    labels: dict[str, str] = {}


class _Amounts(_Part):
    requests: dict[Literal["cpu", "memory", "storage", "nvidia.com/gpu"], Quantity]
    limits: dict[Literal["cpu", "memory", "nvidia.com/gpu"], Quantity] = {}


class _SecretKey(_Part):
    name: Name
    key: str


class _ValueFrom(_Part):
    secretKeyRef: _SecretKey


class _Variable(_Part):
    name: Literal[
        "AUTODRIVERL_CHECKPOINT_KEY", "AUTODRIVERL_SERVE_KEY", "RAY_JOB_STOP_WAIT_TIME_S", "HF_HOME",
        "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME",
    ]  # fmt: skip
    value: str | None = None
    valueFrom: _ValueFrom | None = None


class _Port(_Part):
    containerPort: int = Field(ge=1, le=65535)
    name: Name


class _Mount(_Part):
    name: Name
    mountPath: str
    readOnly: bool = False


class _Container(_Part):
    name: Name
    image: Image
    command: list[str] | None = None
    ports: list[_Port] = []
    env: list[_Variable] = []
    resources: _Amounts
    volumeMounts: list[_Mount]


class _Claim(_Part):
    claimName: Name


class _Secret(_Part):
    secretName: Name


class _EmptyDir(_Part):
    medium: Literal["Memory"] | None = None
    sizeLimit: Quantity


class _Volume(_Part):
    name: Name
    persistentVolumeClaim: _Claim | None = None
    secret: _Secret | None = None
    emptyDir: _EmptyDir | None = None


class _Profile(_Part):
    type: Literal["RuntimeDefault"]


class _Security(_Part):
    runAsNonRoot: Literal[True]
    runAsUser: int = Field(ge=1)
    runAsGroup: int = Field(ge=1)
    fsGroup: int = Field(ge=1)
    seccompProfile: _Profile


class _Toleration(_Part):
    key: str
    operator: Literal["Exists", "Equal"]
    value: str | None = None
    effect: Literal["NoSchedule"]


class _Pod(_Part):
    terminationGracePeriodSeconds: int = 30
    securityContext: _Security
    nodeSelector: dict[str, str] = {}
    tolerations: list[_Toleration] = []
    initContainers: list[_Container] = []
    containers: list[_Container] = Field(min_length=1, max_length=1)
    volumes: list[_Volume]


class _Template(_Part):
    spec: _Pod


class _Head(_Part):
    labels: dict[str, str]
    rayStartParams: dict[str, str]
    template: _Template


class _Group(_Part):
    groupName: Name
    replicas: int
    minReplicas: int
    maxReplicas: int
    labels: dict[str, str]
    rayStartParams: dict[str, str]
    template: _Template


class _Authentication(_Part):
    mode: Literal["token"]
    secretName: Name


class _Autoscaler(_Part):
    version: Literal["v2"]  # the one that knows labels
    idleTimeoutSeconds: int
    resources: _Amounts


class _NetworkPolicy(_Part):
    mode: Literal["DenyAll", "DenyAllIngress"]


class _ClusterSpec(_Part):
    rayVersion: str
    authOptions: _Authentication
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: _Autoscaler | None = None
    networkPolicy: _NetworkPolicy | None = None
    headGroupSpec: _Head
    workerGroupSpecs: list[_Group]


class _JobSpec(_Part):
    clusterSelector: dict[Literal["ray.io/cluster"], str]
    submissionMode: Literal["K8sJobMode", "HTTPMode"]
    entrypoint: str


class _ServiceSpec(_Part):
    serviceUnhealthySecondThreshold: int
    deploymentUnhealthySecondThreshold: int
    serveConfigV2: str
    rayClusterConfig: _ClusterSpec


class _ClaimSpec(_Part):
    accessModes: list[Literal["ReadWriteMany"]]
    storageClassName: str
    resources: _Amounts


class _Manifest(_Part):
    apiVersion: str
    kind: str
    metadata: _Metadata
    spec: dict[str, Any]


KINDS: dict[tuple[str, str], type[_Part]] = {
    ("v1", "PersistentVolumeClaim"): _ClaimSpec,
    ("ray.io/v1", "RayCluster"): _ClusterSpec,
    ("ray.io/v1", "RayJob"): _JobSpec,
    ("ray.io/v1", "RayService"): _ServiceSpec,
}


def check_kuberay(findings: Findings, documents: list[Any], ray_version: str) -> list[NodeGroup]:
    """Note every fault of the manifests of a file; returns the nodes that a RayCluster in it can start."""
    groups: list[NodeGroup] = []
    for index, document in enumerate(documents):
        manifest: _Manifest | None = findings.take(f"document {index}", _Manifest, document)
        if manifest is None:
            continue
        place, key = manifest.kind, (manifest.apiVersion, manifest.kind)
        if key not in KINDS:
            findings.add(place, unknown("/".join(key), ["/".join(known) for known in KINDS]))
            continue
        spec: Any = findings.take(place, KINDS[key], manifest.spec)
        if isinstance(spec, _ServiceSpec):
            _check_serving(findings, spec.serveConfigV2)
            _check_cluster(findings, f"{place}.rayClusterConfig", spec.rayClusterConfig, ray_version)
        elif isinstance(spec, _JobSpec):
            check_training(findings, f"{place}.entrypoint", spec.entrypoint.split())
        elif isinstance(spec, _ClusterSpec):
            groups += _check_cluster(findings, place, spec, ray_version)
            if not spec.enableInTreeAutoscaling or spec.autoscalerOptions is None or spec.networkPolicy is None:
                findings.add(place, "enableInTreeAutoscaling, autoscalerOptions and networkPolicy belong to it")
    return groups


def _check_cluster(findings: Findings, place: str, spec: _ClusterSpec, ray_version: str) -> list[NodeGroup]:
    if spec.rayVersion != ray_version:
        findings.add(f"{place}.rayVersion", f"{spec.rayVersion}, but the images hold Ray {ray_version}")
    if spec.headGroupSpec.rayStartParams.get("num-cpus") != "0":
        findings.add(f"{place}.headGroupSpec", "num-cpus must be 0, so that no learner is placed on the head")
    check_labels(findings, f"{place}.headGroupSpec.labels", spec.headGroupSpec.labels)
    pods: dict[str, _Head | _Group] = {
        "headGroupSpec": spec.headGroupSpec,
        **{group.groupName: group for group in spec.workerGroupSpecs},
    }
    for name, pod in pods.items():
        for parameter in pod.rayStartParams:
            if f"--{parameter}" not in START_OPTIONS:
                findings.add(f"{place}.{name}.rayStartParams", unknown(parameter, (o[2:] for o in START_OPTIONS)))
        if "metrics-export-port" not in pod.rayStartParams:
            findings.add(
                f"{place}.{name}.rayStartParams", "metrics-export-port is missing: Prometheus finds no metrics"
            )
        _check_pod(findings, f"{place}.{name}", pod.template.spec)
    for group in spec.workerGroupSpecs:
        check_labels(findings, f"{place}.{group.groupName}.labels", group.labels)
    return [_nodes(group) for group in spec.workerGroupSpecs]


def _check_pod(findings: Findings, place: str, pod: _Pod) -> None:
    volumes = {volume.name for volume in pod.volumes}
    for container in (*pod.initContainers, *pod.containers):
        for mount in container.volumeMounts:
            if mount.name not in volumes:
                findings.add(f"{place}.volumeMounts", unknown(mount.name, volumes))
        for amounts in (container.resources.requests, container.resources.limits):
            if "storage" in amounts:
                findings.add(f"{place}.resources", "storage is asked for by a claim, not by a container")
    if not any(mount.mountPath == "/mnt/shared" for mount in pod.containers[0].volumeMounts):
        findings.add(f"{place}.volumeMounts", "/mnt/shared is missing")
    product = pod.nodeSelector.get("nvidia.com/gpu.product")
    if "nvidia.com/gpu" in pod.containers[0].resources.requests and product not in GPU_PRODUCTS:
        findings.add(f"{place}.nodeSelector", unknown(str(product), GPU_PRODUCTS))
    for name in pod.nodeSelector.keys() - SPOT - {"nvidia.com/gpu.product"}:
        findings.add(f"{place}.nodeSelector", unknown(name, ["nvidia.com/gpu.product", *SPOT]))
    for toleration in pod.tolerations:
        if toleration.key not in SPOT | {"nvidia.com/gpu"}:
            findings.add(f"{place}.tolerations", unknown(toleration.key, ["nvidia.com/gpu", *SPOT]))


def _nodes(group: _Group) -> NodeGroup:
    pod = group.template.spec
    requests = pod.containers[0].resources.requests
    resources = {"CPU": float(requests["cpu"]), "GPU": float(requests.get("nvidia.com/gpu", "0"))}
    return NodeGroup(group.groupName, group.maxReplicas, resources, group.labels, bool(SPOT & pod.nodeSelector.keys()))


def _check_serving(findings: Findings, text: str) -> None:
    try:
        config = ServeDeploySchema.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        findings.add("serveConfigV2", " ".join(str(error).split()))
        return
    for application in config.applications:
        module, _, name = application.import_path.partition(":")
        try:
            getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            findings.add("serveConfigV2.import_path", str(error))
