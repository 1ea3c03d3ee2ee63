"""What a process that gives no answer is doing: the stacks of its threads, read from outside by py-spy.

Works on a process that is stuck in C code or stopped, on whatever node it is. Ends nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.supervision.hosting import LOCAL_PLACE
from actors.supervision.waiting import one_line
from failures import DiskFull, writing

STACKS_FOLDER = "stacks"
"""In a run's folder: a file for each time that somebody gave no answer."""
DUMP_S = 10.0
"""Longest time for one process; reading takes a tenth of a second."""
WAIT_S = 60.0
"""Longest wait for another node, where a process must start to read them."""


class Place(NamedTuple):
    """Where an actor's process is."""

    node: str
    pid: int


async def place_of(actor: Any) -> Place:
    """Ask an actor that is well where it is; the caller limits the wait."""
    place: Place = await actor.__ray_call__.remote(here)
    return place


async def keep_stacks(folder: Path, name: str, places: list[Place]) -> None:
    """Write the stacks of the driver, of these processes and of their children to a file in `stacks/`.

    Args:
        folder: the run's folder; nothing is done where there is none, or no Ray.
        name: of whom gave no answer; the file is called after it and the time.
        places: the processes.
    """
    if not folder.is_dir() or not ray.is_initialized():
        return
    parts = [f"driver\n{await asyncio.to_thread(stacks, os.getpid())}"]
    parts += [f"{name}, process {place.pid} on node {place.node}\n{await _stacks_at(place)}" for place in places]
    file = folder / STACKS_FOLDER / f"{name.replace(' ', '_')}_{time.strftime('%Y%m%d-%H%M%S')}.txt"
    with contextlib.suppress(DiskFull), writing(file):  # a run does not end for want of these
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n\n".join(parts))


def stacks(pid: int) -> str:
    """The stacks of a process of this machine and of its children, or why they cannot be read."""
    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return f"process {pid} has ended"
    return "\n".join(_dump(one) for one in family)


def _dump(pid: int) -> str:
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DUMP_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"process {pid}: py-spy could not read it ({error})"
    return done.stdout or f"process {pid}: {' '.join(done.stderr.split())}"


def here(_: Any) -> Place:
    """Where the process is that runs this; an actor does so by `__ray_call__`, which hands itself over."""
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else LOCAL_PLACE
    return Place(node, os.getpid())


async def _stacks_at(place: Place) -> str:
    if place.node == ray.get_runtime_context().get_node_id():
        return await asyncio.to_thread(stacks, place.pid)
    there = NodeAffinitySchedulingStrategy(place.node, soft=False)
    read = ray.remote(num_cpus=0, scheduling_strategy=there)(stacks)
    try:
        return await asyncio.wait_for(asyncio.wrap_future(read.remote(place.pid).future()), WAIT_S)
    except (RayError, TimeoutError) as error:
        return f"its node gave no answer ({one_line(error) or type(error).__name__})"
