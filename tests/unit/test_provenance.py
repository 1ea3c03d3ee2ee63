"""Provenance: the commit and its diff, hashes that follow the data, licences, and the model card that names them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from actors.record.model_card import model_card
from actors.record.provenance import REPOSITORY, data_origin, record_provenance
from data.errors import DataError
from data.sample import DrivingSample, KeyObject
from recipe import Recipe

pytestmark = pytest.mark.slow  # git runs beside every record


def sample(folder: Path, number: int) -> DrivingSample:
    image = folder / f"{number}.jpg"
    image.write_bytes(b"x" * (number + 1))
    return DrivingSample(
        id=f"q{number}",
        scene_id=f"scene-{number // 2}",
        frame_id=f"frame-{number}",
        task="behavior",
        kind="open_ended",
        question="What is the ego vehicle doing?",
        answer="It is stopped.",
        images={"CAM_FRONT": str(image)},
        objects=(KeyObject("<c1,CAM_FRONT,1.0,2.0>", "Vehicle", "Red car."),),
    )


@pytest.fixture
def samples(tmp_path: Path) -> list[DrivingSample]:
    folder = tmp_path / "images"
    folder.mkdir()
    return [sample(folder, number) for number in range(4)]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "data").mkdir(parents=True)
    (root / "data" / "sample.py").write_text("ONE = 1\n")
    return root


RECIPE = Recipe.model_validate({"run": {"name": "first"}})


def drivelm(annotations: Path) -> Recipe:
    options = {"annotations": str(annotations), "image_root": str(annotations.parent)}
    data = {"source": "drivelm", "options": options}
    return Recipe.model_validate({"run": {"name": "first"}, "data": data, "policy": {"model": "Qwen/Qwen2.5-VL-3B"}})


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(root: Path) -> str:
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return git(root, "rev-parse", "HEAD")


def test_a_clean_checkout_is_its_commit(samples: list[DrivingSample], run_folder: Path, repository: Path) -> None:
    commit = committed(repository)
    provenance = record_provenance(RECIPE, samples, run_folder, repository)
    assert (provenance.code.commit, provenance.code.changed, provenance.code.untracked) == (commit, False, ())
    assert (run_folder / "provenance" / "diff.patch").read_text() == ""
    assert json.loads((run_folder / "provenance.json").read_text()) == provenance.model_dump(mode="json")


def test_local_changes_are_in_the_diff_and_new_files_are_named(
    samples: list[DrivingSample], run_folder: Path, repository: Path
) -> None:
    committed(repository)
    clean = record_provenance(RECIPE, samples, run_folder, repository)
    (repository / "data" / "sample.py").write_text("TWO = 2\n")
    (repository / "secret.txt").write_text("password")
    changed = record_provenance(RECIPE, samples, run_folder, repository)
    diff = (run_folder / "provenance" / "diff.patch").read_text()
    assert changed.code.changed
    assert "-ONE = 1\n+TWO = 2" in diff
    assert changed.code.untracked == ("secret.txt",)
    assert "password" not in diff
    assert changed.code.source_sha256 != clean.code.source_sha256


def test_an_earlier_provenance_is_kept_when_a_run_is_resumed(
    samples: list[DrivingSample], run_folder: Path, repository: Path
) -> None:
    record_provenance(RECIPE, samples, run_folder, repository)
    first = (run_folder / "provenance.json").read_text()
    record_provenance(RECIPE, samples[:1], run_folder, repository)
    assert (run_folder / "provenance.1.json").read_text() == first
    assert json.loads((run_folder / "provenance.json").read_text())["data"]["samples"] == 1


@pytest.mark.parametrize("nested", [False, True])
def test_outside_a_checkout_the_sources_hash_names_the_code(
    samples: list[DrivingSample], run_folder: Path, repository: Path, nested: bool
) -> None:
    if nested:  # a copy that lies, untracked, below someone else's checkout is not that checkout
        git(repository.parent, "init", "-q")
    code = record_provenance(RECIPE, samples, run_folder, repository).code
    assert (code.commit, code.changed, len(code.source_sha256)) == (None, None, 64)


def test_the_ground_truth_hash_follows_the_truth_and_not_the_order(samples: list[DrivingSample]) -> None:
    origin = data_origin(RECIPE, samples)
    assert data_origin(RECIPE, samples[::-1]) == origin
    other = [*samples[:-1], replace(samples[-1], answer="It is turning left.")]
    assert data_origin(RECIPE, other).ground_truth_sha256 != origin.ground_truth_sha256
    assert data_origin(RECIPE, other).images_sha256 == origin.images_sha256
    assert (origin.samples, origin.scenes, origin.images) == (4, 2, 4)


def test_the_image_hash_follows_names_and_sizes_and_missing_images_are_counted(samples: list[DrivingSample]) -> None:
    origin = data_origin(RECIPE, samples)
    Path(samples[0].images["CAM_FRONT"]).write_bytes(b"longer than before")
    grown = data_origin(RECIPE, samples)
    Path(samples[0].images["CAM_FRONT"]).unlink()
    missing = data_origin(RECIPE, samples)
    assert len({origin.images_sha256, grown.images_sha256, missing.images_sha256}) == 3
    assert (origin.missing_images, missing.missing_images, missing.images) == (0, 1, 4)


EMPTY_OBJECT = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def reading(source: str, **options: str) -> Recipe:
    return Recipe.model_validate({"run": {"name": "first"}, "data": {"source": source, "options": options}})


def test_every_annotation_file_is_hashed(tmp_path: Path, samples: list[DrivingSample]) -> None:
    names = {"annotations": "actions.json", "reasons": "reasons.json", "reasoning": "reasoning.jsonl"}
    files = {name: str(tmp_path / file) for name, file in names.items()}
    for file in files.values():
        Path(file).write_bytes(b"{}")
    actions = files["annotations"]
    assert data_origin(drivelm(Path(actions)), samples).annotations == {actions: EMPTY_OBJECT}
    recipe = reading("bdd_oia", annotations=actions, reasons=files["reasons"], image_root=str(tmp_path))
    reasoned = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"reasoning": Path(files["reasoning"])})}
    )
    assert data_origin(reasoned, samples).annotations == dict.fromkeys(files.values(), EMPTY_OBJECT)
    assert data_origin(RECIPE, samples).annotations == {}


def test_a_folder_of_annotations_is_hashed_with_its_names(tmp_path: Path, samples: list[DrivingSample]) -> None:
    recipe = reading("nuscenes", annotations=str(tmp_path / "tables"), image_root=str(tmp_path))
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "sample.json"
    hashes = set()
    for text in ("[]", "[1]"):
        table.write_text(text)
        hashes |= set(data_origin(recipe, samples).annotations.values())
    table.rename(tmp_path / "tables" / "scene.json")
    assert len(hashes | set(data_origin(recipe, samples).annotations.values())) == 3


def test_the_code_that_is_hashed_is_the_whole_project() -> None:
    assert (REPOSITORY / "recipe.py").is_file()


@pytest.mark.parametrize(
    ("options", "licence", "said"),
    [
        ({}, {"license": "unknown"}, "The licence of the training data is unknown"),
        ({"licence": "CC-BY-4.0", "attribution": "Me"}, {"license": "cc-by-4.0"}, "(CC-BY-4.0). Made by: Me."),
        ({"licence": "CC-BY-NC-4.0"}, {"license": "cc-by-nc-4.0"}, "**That is a non-commercial licence"),
        (
            {"licence": "Ours, all rights reserved"},
            {"license": "other", "license_name": "in-words"},
            "under Ours, all rights reserved (LicenseRef-in-words). Whether that allows commercial use nobody said",
        ),
        ({"licence": "Ours, for research", "non_commercial": True}, {"license": "other"}, "**That is a non-commercial"),
    ],
)
def test_the_card_says_of_your_own_data_what_you_said(
    tmp_path: Path,
    samples: list[DrivingSample],
    run_folder: Path,
    repository: Path,
    options: dict[str, str],
    licence: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "own.jsonl").write_text("{}")
    recipe = reading("jsonl", annotations=str(tmp_path / "own.jsonl"), **options)
    card = model_card(recipe, record_provenance(recipe, samples, run_folder, repository))
    assert licence.items() <= yaml.safe_load(card.split("---")[1]).items()
    assert said in card
    assert "DriveLM" not in card


def test_the_card_of_bdd_oia_names_its_own_licence_and_not_drivelms(
    tmp_path: Path, samples: list[DrivingSample], run_folder: Path, repository: Path
) -> None:
    (tmp_path / "a.json").write_text("{}")
    files = dict.fromkeys(("annotations", "reasons"), str(tmp_path / "a.json"))
    recipe = reading("bdd_oia", image_root=str(tmp_path), **files)
    card = model_card(recipe, record_provenance(recipe, samples, run_folder, repository))
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["license_name"]) == ("other", "bdd100k")
    assert "Regents of the University of California" in card
    assert "DriveLM" not in card


def test_annotations_that_cannot_be_read_are_named(tmp_path: Path, samples: list[DrivingSample]) -> None:
    with pytest.raises(DataError, match=r"gone\.json cannot be read: No such file or directory"):
        data_origin(drivelm(tmp_path / "gone.json"), samples)


def test_the_card_of_a_model_trained_on_drivelm_says_non_commercial(
    tmp_path: Path, samples: list[DrivingSample], run_folder: Path, repository: Path
) -> None:
    annotations = tmp_path / "drivelm.json"
    annotations.write_text("{}")
    recipe = drivelm(annotations)
    card = model_card(recipe, record_provenance(recipe, samples, run_folder, repository))
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-nc-sa-4.0"
    assert front["base_model"] == "Qwen/Qwen2.5-VL-3B"
    assert "CC-BY-NC-SA-4.0" in card
    assert "non-commercial licence" in card


def test_the_card_of_a_model_trained_on_rendered_scenes_is_free(
    samples: list[DrivingSample], run_folder: Path, repository: Path
) -> None:
    provenance = record_provenance(RECIPE, samples, run_folder, repository)
    card = model_card(RECIPE, provenance)
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert "base_model" not in front
    assert "non-commercial" not in card
    assert provenance.data.ground_truth_sha256 in card


def test_versions_name_what_is_installed(samples: list[DrivingSample], run_folder: Path, repository: Path) -> None:
    provenance = record_provenance(RECIPE, samples, run_folder, repository)
    assert provenance.packages["pydantic"].startswith("2.")
    assert provenance.memory_gib > 0
