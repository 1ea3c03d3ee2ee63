"""Recipes and run folders of before: options of a source stood beside `data.source`, and are read from there still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data.formats.format import format_of
from data.settings import DataSettings
from recipe import Recipe, RecipeError, load_recipe

WRITTEN = {
    "scenes": 400,
    "questions": "drivelm",
    "annotations": None,
    "image_root": None,
    "reasoning": None,
    "cascade": False,
    "without_images": False,
    "reasons": None,
    "reason_order": "annotation",
    "reply": "decide",
    "frames": 1,
    "visual_descriptions": None,
    "context_mode": "A",
    "language": "en",
    "name_cameras": False,
    "strict": True,
    "held_out": 0.5,
    "task_shares": {"planning": 1.0},
    "seed": 3,
}
"""What a run wrote of its data, every key present."""


def recipe_of(folder: Path, data: dict[str, Any], *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"run": {"name": "first"}, "data": data}))
    return load_recipe([str(path), *overrides])


@pytest.mark.parametrize(
    ("source", "given", "options"),
    [
        ("rendered", {"scenes": 20}, {"scenes": 20, "questions": "drivelm"}),
        ("drivelm", {"annotations": "a", "image_root": "i"}, {"annotations": "a", "image_root": "i"}),
        ("drivelmm_o1", {"annotations": "a", "image_root": "i"}, {"name_cameras": False}),
        ("drivebench", {"annotations": "a", "without_images": True}, {"without_images": True}),
        (
            "bdd_oia",
            {"annotations": "a", "reasons": "r", "image_root": "i", "frames": 8},
            {"reasons": "r", "frames": 8, "reply": "decide", "reason_order": "annotation"},
        ),
        ("driveaction", {"annotations": "a"}, {"annotations": "a", "context_mode": "A", "language": "en"}),
        ("jsonl", {"annotations": "a"}, {"annotations": "a"}),
        ("nuscenes", {"annotations": "a", "image_root": "i"}, {"image_root": "i"}),
        ("drivelm_carla", {"annotations": "a", "image_root": "i"}, {"image_root": "i"}),
    ],
)
def test_what_an_earlier_run_wrote_is_read(
    tmp_path: Path, source: str, given: dict[str, Any], options: dict[str, Any]
) -> None:
    data = recipe_of(tmp_path, {"source": source, **WRITTEN, **given}).data
    assert (data.source, data.strict, data.held_out, data.seed) == (source, True, 0.5, 3)
    assert options.items() <= data.options.items()
    assert set(data.options) <= set(type(format_of(data)).Settings.model_fields)


def test_an_option_on_the_command_line_may_stand_where_it_stood(tmp_path: Path) -> None:
    new = recipe_of(tmp_path, {"source": "rendered", "options": {"scenes": 600}}, "data.scenes=20")
    old = recipe_of(tmp_path, {"source": "rendered", "scenes": 600}, "data.options.scenes=20")
    assert new.data.options == old.data.options == {"scenes": 20}


def test_another_source_begins_without_the_options_of_the_one_before(tmp_path: Path) -> None:
    for given in ({"options": {"scenes": 600}}, {"scenes": 600}, WRITTEN):
        overrides = ("data.options.annotations=a.json", "data.source=drivelm", "data.image_root=i")
        data = recipe_of(tmp_path, {"source": "rendered", **given}, *overrides).data
        assert data.options == {"annotations": "a.json", "image_root": "i"}


def test_naming_the_same_source_again_keeps_its_options(tmp_path: Path) -> None:
    assert recipe_of(tmp_path, {"options": {"scenes": 6}}, "data.source=rendered").data.options == {"scenes": 6}


def test_a_file_that_names_another_source_than_its_base_begins_without_the_bases_options(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("run: {name: base}\ndata: {source: rendered, options: {scenes: 6}, seed: 4}\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\ndata: {source: jsonl, options: {annotations: a.jsonl}}\n")
    data = load_recipe([str(tmp_path / "own.yaml")]).data
    assert (data.options, data.seed) == ({"annotations": "a.jsonl"}, 4)
    (tmp_path / "own.yaml").write_text("base: base.yaml\ndata: {questions: describe}\n")
    assert load_recipe([str(tmp_path / "own.yaml")]).data.options == {"scenes": 6, "questions": "describe"}


def test_an_option_that_stands_in_both_places_with_two_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.scenes and data\.options\.scenes"):
        recipe_of(tmp_path, {"scenes": 3, "options": {"scenes": 4}})


def test_settings_made_in_code_are_moved_too() -> None:
    made = DataSettings.model_validate({"source": "jsonl", "annotations": "a", "scenes": 5})
    assert made == DataSettings(source="jsonl", options={"annotations": "a"})


def test_a_dataset_of_your_own_takes_the_usual_names_from_there_and_no_other() -> None:
    given = {"source": "my_drives:MyDrives", "annotations": "a"}
    assert DataSettings.model_validate(given).options == {"annotations": "a"}
    with pytest.raises(ValueError, match="language"):
        DataSettings.model_validate({**given, "language": "en"})
