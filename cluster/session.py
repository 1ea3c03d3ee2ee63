"""The Ray session of a script: joins the cluster it was given, or starts one here and takes it down again."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from actors.record.run_folder import in_submitted_job
from cluster.errors import SessionError
from cluster.janitor import Janitor
from cluster.joining import join
from data.uris import VARIABLE, allow
from recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
"""The folder the top-level packages lie in; actors import them from here, or from the copy that is shipped to them."""

LONGEST_TEMP_DIR = 40
"""Ray's socket names below its folder are up to 65 characters long, and a socket name may have 107."""

PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", VARIABLE)
"""Environment variables that actors on every node take over from the driver, where they are set."""

Variables = Callable[[Path], Mapping[str, str]]
"""Environment variables, made of the folder of the Ray that finds them."""


def no_variables(folder: Path) -> Mapping[str, str]:
    """None."""
    return {}


@contextmanager
def session(
    recipe: Recipe, logs: Path | None = None, *, dashboard: bool = False, variables: Variables = no_variables
) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Where the block fails, what the actors printed is kept in `logs/actor_logs`; without `logs`, in the run's folder.

    With `dashboard` a Ray that starts here takes jobs too, and shows itself on loopback. Its processes, and this one
    meanwhile, have what `variables` makes of its folder in their environment.

    Joins `cluster.address`, else the cluster of the job or of `RAY_ADDRESS`; starts Ray on this machine, guarded
    by a token of its own, when there is none, and then stops it and removes its files on the way out, also where this
    process is killed (`cluster.janitor`).

    Raises:
        SessionError: `cluster.temp_dir` is too long for Ray's socket names, or the named one cannot be joined.
    """
    allow(recipe.data)  # travels to the actors
    address = recipe.cluster.address or os.environ.get("RAY_ADDRESS")
    with _joined(address) if address else _started(recipe, logs or recipe.run.folder, dashboard, variables):
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    join(address, runtime_env=_runtime_env(None))
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _started(recipe: Recipe, logs: Path, dashboard: bool, variables: Variables) -> Iterator[None]:
    settings = recipe.cluster
    parent = Path(settings.temp_dir or "/tmp").absolute()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="adrl-", dir=parent))
    janitor = Janitor(folder)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _guard_ports()
    try:
        if len(str(folder)) > LONGEST_TEMP_DIR:
            raise SessionError(f"cluster.temp_dir={parent} is too long for Ray's socket names: take a shorter path")
        try:  # also around the start: what an interrupted one leaves running must end before its folder goes
            with _environment(variables(folder)):
                ray.init(
                    address="local",
                    _temp_dir=str(folder),
                    include_dashboard=dashboard,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=settings.object_store_mib * 2**20,
                    runtime_env=_runtime_env(folder),
                )
                yield
        except BaseException as error:
            _keep_logs(folder, logs, error)
            raise
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(folder)
        janitor.release()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The variables in this process' environment, which processes that begin inside the block take over."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _guard_ports() -> None:
    """Give the Ray that starts here a token of its own: anyone who reaches Ray's ports can run code.

    Ray asks for a token where no mode is set, and would write one to the home folder, readable by everyone. It keeps
    the first token it reads, and sets the mode then, so a process makes one token. A token that lies in the home folder
    already is used where a mode is set, as in the images, and is then closed to other users.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    mode, kept = os.environ.get("RAY_AUTH_MODE"), Path.home() / ".ray" / "auth_token"
    if mode is not None and kept.is_file():
        kept.chmod(0o600)
    elif mode in (None, "token"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _runtime_env(folder: Path | None) -> dict[str, Any]:
    """What actors find: the project's packages on their path, and the variables of `PASSED_ON`.

    Args:
        folder: that of the Ray which starts here, for their temporary files too; None where a cluster is joined.
    """
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if folder is not None:
        inherited = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(ROOT), *filter(None, [inherited])])
        return {"env_vars": variables | {"PYTHONPATH": path, "TMPDIR": str(folder)}}
    if in_submitted_job():  # its working directory is on every node already
        return {"env_vars": variables}
    return {"env_vars": variables, "working_dir": str(ROOT)}


def _keep_logs(folder: Path, logs: Path, error: BaseException) -> None:
    """Copy what the actors printed into a folder, for their log is the only witness of how one died."""
    if not logs.is_dir():
        return
    kept = logs / "actor_logs"
    kept.mkdir(exist_ok=True)
    for log in (folder / "session_latest" / "logs").glob("worker-*"):
        if log.stat().st_size:
            shutil.copy(log, kept)
    error.add_note(f"what the actors printed is kept in {kept}")
