"""The run folder: made once, never overwritten, and refused where a job's files would be lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.record.run_folder import JOB_VARIABLE, claim, create_run_folder
from evaluation.run_record import keep_previous
from failures import RunFolderError
from recipe import Recipe, load_recipe


def recipe_at(root: Path | str, **parts: Any) -> Recipe:
    return Recipe.model_validate({**parts, "run": {"name": "first", "root": str(root), **parts.get("run", {})}})


def test_a_new_folder_holds_the_resolved_recipe(tmp_path: Path) -> None:
    recipe = recipe_at(tmp_path / "runs", learner={"lr": 0.5})
    folder = create_run_folder(recipe)
    assert folder == tmp_path / "runs" / "first"
    assert load_recipe([str(folder / "recipe.yaml")]) == recipe


def test_an_existing_folder_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    folder = create_run_folder(recipe_at(tmp_path))
    before = (folder / "recipe.yaml").read_text()
    with pytest.raises(RunFolderError, match=r"run\.name.*run\.resume=true"):
        create_run_folder(recipe_at(tmp_path, learner={"lr": 0.5}))
    assert (folder / "recipe.yaml").read_text() == before


def test_resume_takes_over_a_folder_and_keeps_the_recipe_it_replaces(tmp_path: Path) -> None:
    folder = create_run_folder(recipe_at(tmp_path))
    (folder / "metrics.jsonl").write_text("{}\n")
    earlier = (folder / "recipe.yaml").read_text()
    resumed = recipe_at(tmp_path, run={"resume": True})
    assert create_run_folder(resumed) == folder
    assert create_run_folder(resumed) == folder
    assert (folder / "recipe.1.yaml").read_text() == earlier
    assert not (folder / "recipe.2.yaml").exists()
    assert (folder / "metrics.jsonl").read_text() == "{}\n"


def test_resume_without_a_folder_starts_a_run(tmp_path: Path) -> None:
    assert create_run_folder(recipe_at(tmp_path, run={"resume": True})).is_dir()


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "first").write_text("mine")
    with pytest.raises(RunFolderError, match="already exists"):
        create_run_folder(recipe_at(tmp_path, run={"resume": resume}))
    assert (tmp_path / "first").read_text() == "mine"


def test_a_root_that_cannot_hold_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"Not a directory.*run\.root"):
        create_run_folder(recipe_at(tmp_path / "file"))


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "/tmp/a"])
def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFolderError, match=r"run\.name"):
        create_run_folder(recipe_at(tmp_path, run={"name": name}))


def test_a_uri_as_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"run\.root=s3://bucket/runs is a URI"):
        create_run_folder(recipe_at("s3://bucket/runs"))


def test_a_relative_root_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert create_run_folder(recipe_at("runs")) == tmp_path / "runs" / "first"


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("run.root", {"run": {"root": "runs"}}),
        ("data.options.annotations", {"data": {"source": "drivelm", "options": {"annotations": "drivelm.json"}}}),
        ("data.options.image_root", {"data": {"source": "nuscenes", "options": {"image_root": "nuscenes"}}}),
        ("data.reasoning", {"data": {"reasoning": "reasoning.jsonl"}}),
    ],
)
def test_under_a_submitted_job_a_relative_path_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, parts: dict[str, Any]
) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError, match=rf"^{key}=.* working directory is a throw-away copy .* absolute path"):
        create_run_folder(recipe_at(tmp_path, **parts))
    assert list(tmp_path.iterdir()) == []


def test_under_a_submitted_job_absolute_paths_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    options = {"annotations": "/data/drivelm.json", "image_root": "/data/nuscenes"}
    data = {"source": "drivelm", "options": options}
    assert create_run_folder(recipe_at(tmp_path, data=data)).is_dir()


def test_the_variable_is_the_one_that_ray_sets_for_a_job() -> None:
    constants = pytest.importorskip("ray._private.runtime_env.constants")
    assert constants.RAY_JOB_CONFIG_JSON_ENV_VAR == JOB_VARIABLE


def test_previous_files_are_kept_under_rising_numbers(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    keep_previous(path)
    for text in ("one", "two"):
        path.write_text(text)
        keep_previous(path)
    assert (tmp_path / "provenance.1.json").read_text() == "one"
    assert (tmp_path / "provenance.2.json").read_text() == "two"
    assert not path.exists()


@pytest.mark.slow
def test_a_run_folder_has_one_owner_that_a_second_process_names(tmp_path: Path) -> None:
    folder = create_run_folder(recipe_at(tmp_path))
    create_run_folder(recipe_at(tmp_path, run={"resume": True}))  # the owner may
    again = f"""
from actors.record.run_folder import create_run_folder
from recipe import Recipe
run = {{"name": {folder.name!r}, "root": {str(tmp_path)!r}, "resume": True}}
create_run_folder(Recipe.model_validate({{"run": run}}))
"""
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, timeout=300)
    assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in done.stderr


@pytest.mark.slow
def test_a_lock_ends_with_its_owner_killed_outright(tmp_path: Path) -> None:
    folder = create_run_folder(recipe_at(tmp_path)).with_name("killed")
    folder.mkdir()
    code = f"""
import os, signal
from pathlib import Path
from actors.record.run_folder import claim
claim(Path({str(folder)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == -signal.SIGKILL
    claim(folder)
