"""A cloud's own description of the machines it makes: AWS's as botocore has it, Google's as its API client has it,
Azure's as the template that Ray fills in. Reads files that lie in installed packages; asks no cloud.
"""

from __future__ import annotations

import gzip
import importlib.resources
import importlib.util
import json
from functools import cache
from importlib.resources.abc import Traversable
from typing import Any

from cluster.launch.finding import Findings, unknown

AWS_ADDED = {"SubnetIds", "KeyName"}
"""Keys of an AWS node that are Ray's own, or resolved by it."""
AZURE_OWN = {"availability_zone"}
"""Keys of an Azure node that Ray reads itself, beside the parameters of its template."""
AZURE_FILLED = {
    "vmName",
    "vmCount",
    "vmTags",
    "msi",
    "nsg",
    "subnet",
    "adminUsername",
    "publicKey",
    "zones",
    "provisionPublicIp",
}
"""Parameters of Ray's Azure template that Ray fills in itself."""
AZURE_SIZES = {
    "Standard_D16s_v5",
    "Standard_NC24ads_A100_v4",
    "Standard_NC48ads_A100_v4",
    "Standard_NC96ads_A100_v4",
    "Standard_ND96amsr_A100_v4",
    "Standard_ND96isr_H100_v5",
    "Standard_ND96isr_H200_v5",
}
"""Sizes that were looked up; Azure publishes no list that could be read offline."""
GCP_MACHINES = {
    "n2-standard-16",
    "a2-ultragpu-1g",
    "a2-ultragpu-8g",
    "a3-highgpu-8g",
    "a3-megagpu-8g",
    "a3-ultragpu-8g",
}
"""Machine types that were looked up; Google's API description does not list them."""


def check_aws(findings: Findings, place: str, node: dict[str, Any]) -> None:
    """Hold a node against EC2's RunInstances."""
    shapes = _ec2()
    known = {name: value for name, value in node.items() if name not in AWS_ADDED}
    _aws_value(findings, place, known, shapes, "RunInstancesRequest")


def check_gcp(findings: Findings, place: str, node: dict[str, Any]) -> None:
    """Hold a node against Compute Engine's Instance."""
    _gcp_value(findings, place, node, {"$ref": "Instance"})
    if node.get("machineType") not in GCP_MACHINES:
        findings.add(f"{place}.machineType", unknown(str(node.get("machineType")), GCP_MACHINES))


def check_azure(findings: Findings, place: str, node: dict[str, Any]) -> None:
    """Hold a node against the parameters of Ray's template for a machine."""
    findings.refuse_unknown(place, node, ["azure_arm_parameters", "tags"])
    given, place = node.get("azure_arm_parameters", {}), f"{place}.azure_arm_parameters"
    parameters = _azure_template()
    findings.refuse_unknown(place, given, [*(parameters.keys() - AZURE_FILLED), *AZURE_OWN])
    kinds = {"string": str, "securestring": str, "int": int, "bool": bool, "object": dict, "array": list}
    for name in given.keys() & parameters.keys():
        if not isinstance(given[name], kinds[parameters[name]["type"]]):
            findings.add(f"{place}.{name}", f"must be of type {parameters[name]['type']}, got {given[name]!r}")
    for name, values in (("priority", ("Regular", "Spot")), ("evictionPolicy", ("Delete", "Deallocate"))):
        if given.get(name, values[0]) not in values:
            findings.add(f"{place}.{name}", unknown(given[name], values))
    if given.get("vmSize") not in AZURE_SIZES:
        findings.add(f"{place}.vmSize", unknown(str(given.get("vmSize")), AZURE_SIZES))


def installed(module: str, part: str) -> Traversable | None:
    """A file inside an installed package, which is not imported; None where the package is not there."""
    if importlib.util.find_spec(module) is None:
        return None
    return importlib.resources.files(module).joinpath(part)


@cache
def _ec2() -> dict[str, Any]:
    file = installed("botocore", "data/ec2/2016-11-15/service-2.json.gz")
    if file is None:
        raise ModuleNotFoundError("AWS's description of its machines is missing: pip install botocore")
    shapes: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))["shapes"]
    return shapes


@cache
def _compute() -> dict[str, Any]:
    file = installed("googleapiclient", "discovery_cache/documents/compute.v1.json")
    if file is None:
        raise ModuleNotFoundError(
            "Google's description of its machines is missing: pip install google-api-python-client"
        )
    schemas: dict[str, Any] = json.loads(file.read_text())["schemas"]
    return schemas


@cache
def _azure_template() -> dict[str, Any]:
    file = installed("ray", "autoscaler/_private/_azure/azure-vm-template.json")
    assert file is not None
    parameters: dict[str, Any] = json.loads(file.read_text())["parameters"]
    return parameters


def _aws_value(findings: Findings, place: str, value: Any, shapes: dict[str, Any], name: str) -> None:
    shape = shapes[name]
    kinds: dict[str, Any] = {
        "structure": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool,
        "float": (int, float), "double": (int, float), "map": dict, "timestamp": str, "blob": (str, bytes),
    }  # fmt: skip
    if not isinstance(value, kinds[shape["type"]]) or (isinstance(value, bool) and shape["type"] != "boolean"):
        findings.add(place, f"must be of type {shape['type']}, got {value!r}")
    elif shape["type"] == "structure":
        findings.refuse_unknown(place, value, shape["members"])
        for key in value.keys() & shape["members"].keys():
            _aws_value(findings, f"{place}.{key}", value[key], shapes, shape["members"][key]["shape"])
    elif shape["type"] == "list":
        for index, item in enumerate(value):
            _aws_value(findings, f"{place}.{index}", item, shapes, shape["member"]["shape"])
    elif value not in shape.get("enum", [value]):
        findings.add(place, unknown(value, shape["enum"]))


def _gcp_value(findings: Findings, place: str, value: Any, schema: dict[str, Any]) -> None:
    schema = _compute()[schema["$ref"]] if "$ref" in schema else schema
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": (str, int),
        "integer": int,
        "boolean": bool,
        "number": (int, float),
    }
    kind = schema["type"]
    if not isinstance(value, kinds.get(kind, object)) or (isinstance(value, bool) and kind != "boolean"):
        findings.add(place, f"must be of type {kind}, got {value!r}")
    elif kind == "object" and "properties" in schema:
        findings.refuse_unknown(place, value, schema["properties"])
        for key in value.keys() & schema["properties"].keys():
            _gcp_value(findings, f"{place}.{key}", value[key], schema["properties"][key])
    elif kind == "array":
        for index, item in enumerate(value):
            _gcp_value(findings, f"{place}.{index}", item, schema["items"])
    elif value not in schema.get("enum", [value]):
        findings.add(place, unknown(value, schema["enum"]))
