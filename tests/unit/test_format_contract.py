"""What every dataset keeps to, the built-in ones and one of a user's: the contract of `data.formats.format.Format`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from commands.script import guarded
from data.errors import DataError
from data.faults import Faults
from data.formats.format import FORMATS, Format, absent_options, format_class, format_of, frames_of
from data.jsonl import write_jsonl
from data.load import load_data
from data.sample import DrivingSample
from data.settings import DataSettings
from data.source_arguments import add_format_arguments, given_settings
from docs.examples.notes import NAME, Notes
from extension import ExtensionError
from prepare_data import main
from tests.drawn import draw
from tests.loaded import load_as, read_as
from tests.unit.test_formats import DRAWN

MADE_HERE = {"rendered", "driving"}
"""Those that are drawn by the project itself, and need no file."""
FILE_ONLY = {"jsonl", "driveaction", "chat", "hf"}
"""Those whose images lie beside, or in, their annotations."""


def jsonl(root: Path) -> dict[str, Any]:
    given = DRAWN["drivelm"](root)
    write_jsonl(root / "own.jsonl", read_as("drivelm", root, Faults(), **given))
    return {"annotations": root / "own.jsonl", "licence": "CC-BY-4.0", "attribution": "Me"}


def notes(root: Path) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        draw(root / f"{name}.jpg")
    lines = [f"scene-{name}|{name}.jpg|What is {name} ahead?|A car." for name in ("a", "b", "c")]
    (root / "notes.txt").write_text("\n".join(lines))
    return {"annotations": root / "notes.txt", "image_root": root, "polite": True}


def chat(root: Path) -> dict[str, Any]:
    lines = []
    for name in ("a", "b", "c"):
        draw(root / f"{name}.jpg")
        turns = [{"from": "human", "value": "<image>\nWhat is ahead?"}, {"from": "gpt", "value": "A car."}]
        lines.append(json.dumps({"id": name, "conversations": turns, "images": [f"{name}.jpg"] * 6}))
    (root / "chat.jsonl").write_text("\n".join(lines))
    return {"annotations": root / "chat.jsonl", "licence": "CC-BY-4.0", "attribution": "Me"}


def hf(root: Path) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        draw(root / f"{name}.jpg")
    rows = [
        {"prompt": f"What is {name} ahead?", "answer": "A car.", "image": [f"{name}.jpg"] * 6}
        for name in ("a", "b", "c")
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "train.parquet")
    own = {"annotations": root / "train.parquet", "columns": {"question": "prompt"}}
    return {**own, "licence": "CC-BY-4.0", "attribution": "Me"}


SAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    **DRAWN,
    "jsonl": jsonl,
    "chat": chat,
    "hf": hf,
    "rendered": lambda root: {"scenes": 2, "questions": "describe"},
    "driving": lambda root: {"scenarios": 2},
    NAME: notes,
}


NUSCENES_TERMS = ("CC-BY-NC-SA-4.0", True)
LICENCES = {
    "rendered": ("Apache-2.0", False),
    "driving": ("Apache-2.0", False),
    **dict.fromkeys(("jsonl", "chat", "hf"), ("CC-BY-4.0", False)),
    NAME: ("CC-BY-4.0", False),
    "bdd_oia": ("LicenseRef-BDD100K", True),
    "driveaction": ("CC-BY-4.0", False),
    **dict.fromkeys(("drivelm", "drivebench", "drivelmm_o1", "drivelm_carla", "nuscenes"), NUSCENES_TERMS),
}
"""SPDX identifier, and whether it forbids commercial use: of annotations and images together."""


def read(name: str, root: Path, given: dict[str, Any]) -> tuple[list[DrivingSample], Faults]:
    faults = Faults()
    return list(read_as(name, root / "cache", faults, **given)), faults


def test_every_built_in_format_is_held_to_the_contract() -> None:
    assert set(SAMPLES) == {*FORMATS, NAME}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_have_ids_of_their_own_and_come_the_same_each_time(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    first, faults = read(name, tmp_path, given)
    assert first
    assert faults.as_dict() == {}
    assert len({sample.id for sample in first}) == len(first)
    assert all(Path(path).is_absolute() for sample in first for path in sample.images.values())
    assert read(name, tmp_path, given)[0] == first


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - MADE_HERE))
def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    whole, _ = read(name, tmp_path, given)
    for image in {Path(path) for path in whole[0].images.values()}:
        image.write_bytes(b"no picture")
    left, faults = read(name, tmp_path, given)
    assert len(left) < len(whole)
    assert sum(map(len, faults.dropped.values())) == len(whole) - len(left)
    assert len(faults.notes) > 0


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_absent_is_named_in_words(name: str) -> None:
    fields = format_class(name).Settings.model_fields
    needed = [option for option, field in fields.items() if field.is_required()]
    assert needed == ([] if name in MADE_HERE else ["annotations", *needed[1:]])
    assert ("image_root" in needed) == (name not in FILE_ONLY | MADE_HERE)
    absent = absent_options(DataSettings(source=name))
    assert [item.partition(" (")[0] for item in absent] == [f"data.options.{option}" for option in needed]
    assert all(len(item.partition(" (")[2]) > len("file)") for item in absent)


@pytest.mark.parametrize("name", SAMPLES)
def test_it_says_under_which_terms_and_from_which_files_it_is(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    source = format_of(DataSettings(source=name, options=given))
    assert (source.licence.spdx, source.licence.non_commercial) == LICENCES[name]
    assert source.licence.name
    assert source.licence.attribution
    assert all(path.exists() and given[option] == path for option, path in source.files().items())
    assert ("annotations" in source.files()) == ("annotations" in given)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_prompt_has_no_more_images_than_it_says(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    most = format_of(DataSettings(source=name, options=given)).images_per_prompt
    samples, _ = read(name, tmp_path, given)
    assert max(len(sample.images) for sample in samples) == (6 if most is None else most)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_option_is_documented(name: str) -> None:
    undocumented = [key for key, field in format_class(name).Settings.model_fields.items() if not field.description]
    assert not undocumented


@pytest.mark.parametrize("name", SAMPLES)
def test_flags_and_a_mapping_give_the_same_options(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    kind = format_class(name)
    parser = argparse.ArgumentParser()
    add_format_arguments(parser, kind, "FILE")
    flags = [f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}") for key, value in given.items()]
    line = [flag.removeprefix("--annotations=") for flag in flags]
    assert given_settings(parser.parse_args(line)) == kind.Settings.model_validate(given)


@pytest.mark.parametrize("name", ["jsonl", "drivelm", "drivebench", "drivelmm_o1", NAME])
def test_a_file_names_the_frames_of_its_samples(tmp_path: Path, name: str) -> None:
    given = SAMPLES[name](tmp_path)
    samples, _ = read(name, tmp_path, given)
    assert frames_of(given["annotations"], name).ids == {sample.frame_id for sample in samples}


def test_a_format_without_frame_ids_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="NuScenes does not say which frames a file names"):
        frames_of(tmp_path / "a.json", "nuscenes")


# --- a dataset of a user's --------------------------------------------------------------------------------------------


def test_a_users_dataset_is_loaded_and_split_like_any_other(tmp_path: Path) -> None:
    loaded = load_data(DataSettings(source=NAME, options=notes(tmp_path)), tmp_path)
    assert (len(loaded.split.train), len(loaded.split.held_out), loaded.faults) == (2, 1, {})
    assert all(sample.question.startswith("Please: ") for sample in loaded.split.train)
    assert set(loaded.corpus) == {text for sample in loaded.split.train for text in (sample.question, sample.answer)}


def test_a_users_dataset_is_converted_checked_built_from_and_kept_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = notes(tmp_path)
    own, flags = str(given["annotations"]), ("--image-root", str(tmp_path), "--polite")
    target = tmp_path / "out" / "notes.jsonl"
    assert main(["convert", NAME, own, str(target), *flags]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["samples"] == 3
    assert "add data.options.licence=CC-BY-4.0 data.options.non_commercial=false" in printed.err
    assert load_as("jsonl", target, strict=True).samples == tuple(read(NAME, tmp_path, given)[0])
    assert main(["check", own, "--format", NAME, *flags]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["samples"] == 3
    (tmp_path / "kept-out.txt").write_text("scene-a|a.jpg|broken")
    out = ("--out", str(tmp_path / "set"), "--exclude", f"{NAME}={tmp_path / 'kept-out.txt'}")
    assert main(["build", "unfiltered", own, "--format", NAME, *flags, *out]) == 0
    assert {sample.frame_id for sample in load_as("jsonl", tmp_path / "set" / "samples.jsonl").samples} == {
        "b.jpg",
        "c.jpg",
    }


def test_a_recipe_names_a_users_dataset_and_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    from train_grpo import main as train

    given = ["recipes/tiny.yaml", "--dry-run", f"data.source={NAME}", "data.options.image_root=drives"]
    assert guarded(lambda: train(given)) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "to be given before it runs: data.options.annotations (the text file)"
    assert f"a prompt: 1 images (as {NAME} has them, " in said
    assert guarded(lambda: train([*given, "data.options.polit=true"])) == 2
    assert "unknown key data.options.polit (did you mean polite?)" in capsys.readouterr().err


class Unread(Format):
    """A format that forgot its reader and its licence."""

    Settings = Notes.Settings


class Bare:
    """A class that knows nothing of `Format`."""

    Settings = Notes.Settings


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("Unread", "Unread lacks licence, read of Format (data/formats/format.py)"),
        ("Bare", "Bare lacks settings, licence, read, files, images_per_prompt, frames_in, corpus of Format"),
    ],
)
def test_a_class_that_lacks_something_is_refused_and_what_it_lacks_is_named(name: str, lacks: str) -> None:
    with pytest.raises(ExtensionError) as caught:
        format_class(f"{__name__}:{name}")
    assert lacks in str(caught.value)


def test_images_of_driveaction_are_unpacked_into_the_cache(tmp_path: Path) -> None:
    given = {key: value for key, value in SAMPLES["driveaction"](tmp_path).items() if key != "image_root"}
    samples, _ = read("driveaction", tmp_path, given)
    images = {Path(path) for sample in samples for path in sample.images.values()}
    assert {path.parent for path in images} == {(tmp_path / "cache" / "driveaction-images").resolve()}
    assert all(Image.open(path).size for path in images)
