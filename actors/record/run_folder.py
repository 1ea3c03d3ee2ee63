"""Where a run leaves its files: makes the run folder, and refuses the places where they would be lost. No ray."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from data.formats.format import option_paths
from evaluation.run_record import RECIPE_FILE, keep_previous, newest_step
from evaluation.suites.registry import IN_RECIPES, suites_of
from failures import RunFolderError
from recipe import Recipe, dump_recipe

LOCK_FILE, OWNER_FILE = ".lock", ".owner"
_owned: dict[Path, FileLock] = {}
"""The run folders of this process. The kernel lets a lock go with its process, so none is left behind."""
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's job supervisor sets this (by this very name) for the entrypoint of a submitted job and for nothing else:
`ray/dashboard/modules/job/job_supervisor.py`, `_get_driver_env_vars`."""


def in_submitted_job() -> bool:
    """Whether this process is the entrypoint of a `ray job submit` (or was started by it)."""
    return JOB_VARIABLE in os.environ


def check_paths(recipe: Recipe) -> None:
    """Refuse paths that mean something else where the run will look for them.

    Raises:
        ExtensionError: `data.source`, a benchmark of `evaluation.suites` or one of their options is unknown, or a value
            does not fit.
        RunFolderError: `run.root` is a URI, `run.name` is not a plain folder name, or the process runs as a
            submitted job and `run.root` or a data path is relative.
    """
    if "://" in recipe.run.root:
        raise RunFolderError(
            f"run.root={recipe.run.root} is a URI, and the journal writes to folders only: mount it and give the path"
        )
    name = recipe.run.name
    if name in ("", ".", "..") or Path(name).name != name or not name.isprintable():
        raise RunFolderError(f"run.name={recipe.run.name!r} must be a plain folder name; set run.root for the folder")
    paths = {
        "run.root": Path(recipe.run.root).expanduser(),
        "data.reasoning": recipe.data.reasoning,
        **option_paths(recipe.data),
    }
    if recipe.evaluation.every:
        for name, (_, options) in suites_of(recipe.evaluation.suites).items():
            paths |= {f"{IN_RECIPES}.{name}.{key}": value for key, value in options if isinstance(value, Path)}
    for key, path in paths.items():
        if path is not None:
            check_path(key, path)


def check_path(key: str, path: Path) -> None:
    """Refuse a relative path in a submitted job; `key` is the setting that names it.

    Raises:
        RunFolderError: says what to give instead.
    """
    if in_submitted_job() and not path.is_absolute():
        raise RunFolderError(
            f"{key}={path} is relative, but under `ray job submit` the working directory is a throw-away copy "
            f"on the cluster: give {key} as an absolute path that the cluster's nodes can reach"
        )


def check_new(recipe: Recipe) -> None:
    """Refuse a run folder that exists, unless the run is to go on in it.

    Raises:
        RunFolderError: says what to change.
    """
    folder = recipe.run.folder
    if folder.exists() and not (recipe.run.resume and folder.is_dir()):
        raise RunFolderError(
            f"run folder {folder} already exists: choose another run.name, or set run.resume=true to go on from its "
            "newest checkpoint"
        )
    if (step := newest_step(folder)) is not None and step > recipe.run.steps:
        raise RunFolderError(
            f"run folder {folder} stands at step {step}, and run.steps={recipe.run.steps}: set run.steps={step} or more"
        )


def create_run_folder(recipe: Recipe) -> Path:
    """Make `<run.root>/<run.name>` with the resolved recipe in it, and return its absolute path.

    With `run.resume` an existing folder is taken over (a recipe that differs is kept beside the new one) and a missing
    one is made, so that the same command can be submitted again.

    Raises:
        RunFolderError: the folder exists and `run.resume` is off, it cannot be made, another process owns it, or
            `check_paths` refuses the recipe.
    """
    check_paths(recipe)
    check_new(recipe)
    folder = recipe.run.folder
    try:
        folder.mkdir(parents=True, exist_ok=recipe.run.resume)
    except OSError as error:
        raise RunFolderError(
            f"run folder {folder} cannot be made ({error.strerror}): set run.root to a folder you can write to"
        ) from error
    claim(folder)
    recipe_path, text = folder / RECIPE_FILE, dump_recipe(recipe)
    if recipe_path.is_file() and recipe_path.read_text() != text:
        keep_previous(recipe_path)
    recipe_path.write_text(text)
    return folder


def is_in_use(folder: Path) -> bool:
    """Whether a process, perhaps this one, owns a run folder at this moment; a folder that cannot be written is not."""
    if folder.resolve() in _owned:
        return True
    if not (folder / LOCK_FILE).is_file() or not os.access(folder / LOCK_FILE, os.W_OK):
        return False
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def claim(folder: Path) -> None:
    """Make this process the one owner of a run folder until it ends, however it ends; a second time does nothing.

    Raises:
        RunFolderError: another process owns it.
    """
    if folder in _owned:
        return
    lock, owner = FileLock(folder / LOCK_FILE), folder / OWNER_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        whose = owner.read_text().strip() if owner.is_file() else "another process"
        raise RunFolderError(
            f"run folder {folder} is in use by {whose}: let it end, or choose another run.name"
        ) from None
    owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    _owned[folder] = lock
