"""What joins GPUs and nodes, and who holds Ray's ports: each wrong thing comes with its mend."""

from __future__ import annotations

import socket
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from cluster.interconnect import check_fabric, check_links, check_nccl, links_of
from cluster.ports import PORTS, check_ports, holder_of, is_held

HEAD = "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m"
JOINED = f"""{HEAD}
GPU0\t X \tNV12\tNV12\tSYS\t0-47\t0
GPU1\tNV12\t X \tNV12\tSYS\t0-47\t0
GPU2\tNV12\tNV12\t X \tPXB\t48-95\t1
NIC0\tSYS\tSYS\tPXB\t X \t\t

Legend:
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes
"""


def printed(text: str, code: int = 0) -> object:
    return lambda *_, **__: subprocess.CompletedProcess([], code, text, "")


def links(text: str, code: int = 0) -> tuple[str, str, str]:
    found = check_links(printed(text, code), lambda name: f"/usr/bin/{name}")  # type: ignore[arg-type]
    return found.state, found.found, found.advice


def test_the_matrix_of_links_is_read_through_its_underlines() -> None:
    assert links_of(JOINED) == {("GPU0", "GPU1"): "NV12", ("GPU0", "GPU2"): "NV12", ("GPU1", "GPU2"): "NV12"}
    assert links_of("No devices were found") == {}


def test_gpus_that_are_all_joined_by_nvlink_are_fine() -> None:
    assert links(JOINED) == ("ok", "NV12 between all 3 pairs of GPUs", "")
    assert links("", 9)[0] == "ok"
    assert check_links(which=lambda name: None).state == "ok"


def test_a_pair_without_nvlink_is_named_with_what_to_do() -> None:
    state, found, advice = links(JOINED.replace("GPU1\tNV12\t X \tNV12", "GPU1\tNV12\t X \tSYS"))
    assert (state, found) == ("note", "GPU1 and GPU2 are joined by SYS, not by NVLink (1 of 3 pairs)")
    assert "nvidia-fabricmanager" in advice
    assert "at PCIe's speed" in links(JOINED.replace("NV12", "PHB"))[2]


def test_a_driver_that_hangs_is_missing() -> None:
    def hang(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("nvidia-smi", 1.0)

    assert check_links(hang, lambda name: name).state == "missing"


@pytest.mark.parametrize(
    ("installed", "loaded", "state", "said"),
    [
        ({"nvidia-nccl-cu13": "2.28.9"}, (2, 28, 9), "ok", "2.28.9, from nvidia-nccl-cu13"),
        ({"nvidia-nccl-cu12": "2.27.3"}, (2, 21, 5), "missing", "torch loads 2.21.5, and nvidia-nccl-cu12 is 2.27.3"),
        ({}, (2, 21, 5), "note", "2.21.5, from no wheel"),
    ],
)
def test_the_nccl_that_is_loaded_must_be_the_one_that_is_installed(
    installed: dict[str, str], loaded: tuple[int, ...], state: str, said: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    found = check_nccl(version, loaded, cuda=True)
    assert (found.state, found.found) == (state, said)
    assert bool(found.advice) == (state != "ok")
    assert check_nccl(version, loaded, cuda=False).state == "ok"


def test_the_fabric_is_named_and_what_it_lacks(tmp_path: Path) -> None:
    assert check_fabric(tmp_path / "none").found.startswith("Ethernet alone")
    (tmp_path / "rdmap16s27").mkdir()
    lacking = check_fabric(tmp_path, (tmp_path / "no plugin",))
    assert (lacking.state, "aws-ofi-nccl" in lacking.advice) == ("note", True)
    assert check_fabric(tmp_path, (tmp_path,)).state == "ok"
    port = tmp_path / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text("1: DOWN\n")
    down = check_fabric(tmp_path, (tmp_path,))
    assert (down.state, down.found) == ("note", "mlx5_0, rdmap16s27; not active: mlx5_0")
    (port / "state").write_text("4: ACTIVE\n")
    assert check_fabric(tmp_path, (tmp_path,)).state == "ok"


def test_ports_are_free_or_rays_own_or_somebody_elses() -> None:
    assert check_ports(lambda port: False).found == "free: 6379, 8265, 10001, 8000"
    rays = check_ports(lambda port: port == 6379, lambda port: (7, "/ray/core/src/ray/gcs/gcs_server --log_dir"))
    assert (rays.state, rays.found) == ("ok", "in use: 6379 by Ray's GCS")
    taken = check_ports(lambda port: port == 6379, lambda port: (7, "redis-server *:6379"))
    assert (taken.state, taken.found) == (
        "note",
        "6379 (Ray's GCS) is held by process 7 (redis-server *:6379)",
    )
    assert taken.advice == f"end it, or: {PORTS[6379][1]}"
    assert "another user's process" in check_ports(lambda port: True, lambda port: None).found


def test_who_listens_is_found_on_this_machine() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert is_held(port)
        assert holder_of(port) is not None
    assert not is_held(port)
