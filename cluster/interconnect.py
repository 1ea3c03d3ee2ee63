"""The doctor's checks of what joins GPUs: NVLink inside a node, EFA or InfiniBand between nodes, and NCCL on both."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from cluster.finding import Finding

DRIVER_TIMEOUT_S = 20.0
NVLINK = re.compile(r"NV\d+")
NCCL_WHEELS = ("nvidia-nccl-cu13", "nvidia-nccl-cu12")
EFA_PLUGINS = (Path("/opt/amazon/ofi-nccl"), Path("/opt/aws-ofi-nccl"))
"""Where the machine images of AWS keep the plugin that lets NCCL use EFA."""
_UNDERLINE = re.compile(r"\x1b\[[\d;]*m")

Run = Callable[..., subprocess.CompletedProcess[str]]


def check_links(run: Run = subprocess.run, which: Callable[[str], str | None] = shutil.which) -> Finding:
    """Whether all GPUs of the node reach each other by NVLink."""
    if which("nvidia-smi") is None:
        return Finding("links", "ok", "no nvidia-smi: recipes for CPU only")
    try:
        done = run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Finding("links", "missing", f"nvidia-smi topo -m hangs ({DRIVER_TIMEOUT_S:g} s)", "restart the node")
    links = links_of(done.stdout)
    if done.returncode != 0 or not links:
        return Finding("links", "ok", "one GPU, or a driver that does not say how they are joined")
    slow = {pair: how for pair, how in links.items() if not NVLINK.fullmatch(how)}
    if not slow:
        return Finding(
            "links", "ok", f"{', '.join(sorted(set(links.values())))} between all {len(links)} pairs of GPUs"
        )
    (one, other), how = next(iter(slow.items()))
    found = f"{one} and {other} are joined by {how}, not by NVLink ({len(slow)} of {len(links)} pairs)"
    if len(slow) < len(links):
        advice = (
            "keep an engine's or the learner's GPUs within those that are joined by NVLink; where all of them should "
            "be, look at nvidia-smi nvlink --status and start nvidia-fabricmanager"
        )
    else:
        advice = (
            "where this machine has NVLink, start nvidia-fabricmanager (nvidia-smi nvlink --status); else "
            "tensor_parallel and zero_stage 3 go at PCIe's speed: link_gbps of the planner's table is then about 25"
        )
    return Finding("links", "note", found, advice)


def links_of(matrix: str) -> dict[tuple[str, str], str]:
    """How each pair of GPUs is joined, by what `nvidia-smi topo -m` prints: `NV12`, or `PIX`, `PHB`, `NODE`, `SYS`."""
    lines = [_UNDERLINE.sub("", line).split("\t") for line in matrix.splitlines()]
    head = next((line for line in lines if any(cell.strip() == "GPU0" for cell in line)), None)
    if head is None:
        return {}
    columns = [cell.strip() for cell in head]
    found = {}
    for line in lines[lines.index(head) + 1 :]:
        name = line[0].strip()
        if not re.fullmatch(r"GPU\d+", name):
            continue
        for other, how in zip(columns, map(str.strip, line), strict=False):
            if re.fullmatch(r"GPU\d+", other) and int(other[3:]) > int(name[3:]):
                found[name, other] = how
    return found


def check_nccl(
    version: Callable[[str], str] = metadata.version, loaded: tuple[int, ...] | None = None, *, cuda: bool | None = None
) -> Finding:
    """The NCCL that torch loads is the one that was installed with it."""
    if cuda is None or loaded is None:
        cuda, loaded = _torch_nccl()
    if not cuda:
        return Finding("nccl", "ok", "not used: this torch is for CPUs")
    here = ".".join(map(str, loaded))
    for wheel in NCCL_WHEELS:
        try:
            installed = version(wheel)
        except metadata.PackageNotFoundError:
            continue
        if installed.split(".")[:3] != here.split(".")[:3]:
            advice = (
                f"take another NCCL off LD_LIBRARY_PATH and LD_PRELOAD, or pip install {wheel}=={here}: learners and "
                "engines must speak one version"
            )
            return Finding("nccl", "missing", f"torch loads {here}, and {wheel} is {installed}", advice)
        return Finding("nccl", "ok", f"{here}, from {wheel}")
    return Finding("nccl", "note", f"{here}, from no wheel", "see that every node has the same (ls /usr/lib*/libnccl*)")


def _torch_nccl() -> tuple[bool, tuple[int, ...]]:
    try:
        import torch
    except ImportError:
        return False, ()
    if torch.version.cuda is None:
        return False, ()
    return True, tuple(torch.cuda.nccl.version())


def check_fabric(devices: Path = Path("/sys/class/infiniband"), plugins: tuple[Path, ...] = EFA_PLUGINS) -> Finding:
    """What joins this node to others beside Ethernet: EFA or InfiniBand; wanted where learners span nodes."""
    names = sorted(path.name for path in devices.glob("*")) if devices.is_dir() else []
    if not names:
        return Finding("fabric", "ok", "Ethernet alone: sync and ZeRO-3 over nodes go at its speed")
    down = [name for name in names if (state := _port_state(devices / name)) is not None and state != "ACTIVE"]
    if down:
        advice = "look at ibstat and at the cable or the subnet manager; NCCL_IB_HCA names the devices to use"
        return Finding("fabric", "note", f"{', '.join(names)}; not active: {', '.join(down)}", advice)
    efa = [name for name in names if name.startswith(("efa", "rdmap"))]
    if efa and not any(path.exists() for path in plugins):
        advice = (
            "install aws-ofi-nccl and put its lib folder on LD_LIBRARY_PATH, else NCCL goes over TCP; a run says "
            "which it took with NCCL_DEBUG=INFO"
        )
        return Finding("fabric", "note", f"{', '.join(efa)} (EFA) without NCCL's plugin in {plugins[0]}", advice)
    return Finding("fabric", "ok", ", ".join(names))


def _port_state(device: Path) -> str | None:
    """`ACTIVE`, `DOWN`, ...; None where the device does not say, as EFA's do not."""
    file = device / "ports" / "1" / "state"
    return file.read_text().rpartition(":")[2].strip() if file.is_file() else None
