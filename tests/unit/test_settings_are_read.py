"""Every field of every settings model is read by the code: a recipe key that nothing reads would be a promise unkept.

Reads are found with mypy's own inference, so that `recipe.learner.timeout_s` does not stand in for `sync.timeout_s`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from mypy import build
from mypy.modulefinder import BuildSource
from mypy.options import Options
from mypy.traverser import NameAndMemberCollector
from mypy.types import Instance, Type, TypeVarType, UnionType, get_proper_type
from pydantic import BaseModel

from actors.rollout.vllm_engine import VllmSettings
from data.formats.format import FORMATS, format_class
from policies.settings import ALGORITHMS
from recipe import Recipe
from tests.algorithms import algorithm

ROOT = Path(__file__).parents[2]
WITH_SETTINGS = ("data", "rewards", "evaluation", "policies", "actors", "cluster", "serve")
PACKAGES = (*WITH_SETTINGS, "commands")


def settings_fields(model: type[BaseModel]) -> dict[str, set[str]]:
    """Full name of every model reachable from this one, with its fields."""
    found = {f"{model.__module__}.{model.__qualname__}": set(model.model_fields)}
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            found |= settings_fields(inner)
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def class_names(kind: Type | None) -> Iterator[str]:
    proper = get_proper_type(kind)
    if isinstance(proper, Instance):
        yield proper.type.fullname
    elif isinstance(proper, UnionType):
        for item in proper.items:
            yield from class_names(item)
    elif isinstance(proper, TypeVarType):
        yield from class_names(proper.upper_bound)


def attribute_reads(root: Path) -> set[str]:
    """`package.module.Class.attribute` for every attribute read outside settings.py, of this project's classes."""
    options = Options()
    options.export_types = options.preserve_asts = True
    options.incremental = False
    options.ignore_errors = options.ignore_missing_imports = options.check_untyped_defs = True
    options.follow_imports = "skip"  # what a third party returns is no settings model
    options.explicit_package_bases = options.namespace_packages = True
    options.mypy_path = [str(root)]
    options.cache_dir = "/dev/null"
    paths = [*root.glob("*.py"), *(path for package in PACKAGES for path in (root / package).rglob("*.py"))]
    names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    result = build.build([BuildSource(str(path), name) for name, path in names.items()], options)
    attributes = NameAndMemberCollector()
    for name, path in names.items():
        tree = result.graph[name].tree
        if path.name != "settings.py" and tree is not None:
            tree.accept(attributes)
    return {
        f"{owner}.{node.name}" for node in attributes.member_exprs for owner in class_names(result.types.get(node.expr))
    }


def unread(models: dict[str, set[str]], reads: set[str]) -> list[str]:
    return sorted(f"{model}.{field}" for model, fields in models.items() for field in fields - read_of(model, reads))


def read_of(model: str, reads: set[str]) -> set[str]:
    return {read.rpartition(".")[2] for read in reads if read.rpartition(".")[0] == model}


def models_of_formats() -> dict[str, set[str]]:
    """The options of every dataset, which the recipe holds as a mapping."""
    return {model: fields for name in FORMATS for model, fields in settings_fields(format_class(name).Settings).items()}


@pytest.fixture(scope="module")
def reads() -> set[str]:
    return attribute_reads(ROOT)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_option_of_an_algorithm_is_read_by_the_code(reads: set[str], name: str) -> None:
    """On its own model or on one that it derives from."""
    model = algorithm(name).Settings
    found = {field for base in model.__mro__ for field in read_of(f"{base.__module__}.{base.__qualname__}", reads)}
    assert not model.model_fields.keys() - found


def test_every_recipe_key_and_every_option_of_a_dataset_or_an_engine_is_read_by_the_code(reads: set[str]) -> None:
    options = models_of_formats() | settings_fields(VllmSettings)
    missing = unread(settings_fields(Recipe) | options, reads)
    assert not missing, "no code reads:\n" + "\n".join(missing)


@pytest.mark.parametrize(
    ("code", "left_unread"),
    [
        ("def f(s: A) -> float:\n    return s.size", ["A.inner", "B.size"]),
        ("def f(s: A) -> float:\n    inner = s.inner\n    return inner.size if inner else 0", ["A.size"]),
        ("def f(s: A, b: B) -> None:\n    print(s.inner)\n    b.other", ["A.size", "B.size"]),
        (
            "class C:\n    def __init__(self, b: B) -> None:\n        self.b = b\n    def f(self) -> float:\n"
            "        return self.b.size",
            ["A.inner", "A.size"],
        ),
        ("def f(all: list[B]) -> list[float]:\n    return [b.size for b in all]", ["A.inner", "A.size"]),
    ],
)
def test_a_field_counts_as_read_only_on_its_own_model(tmp_path: Path, code: str, left_unread: list[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").touch()
    (tmp_path / "data" / "settings.py").write_text(
        "class B:\n    size: float\n\nclass A:\n    size: float\n    inner: B | None\n    def g(self) -> float:\n"
        "        return self.size\n"
    )
    (tmp_path / "data" / "user.py").write_text(f"from data.settings import A, B\n\n{code}\n")
    models = {"data.settings.A": {"size", "inner"}, "data.settings.B": {"size"}}
    assert unread(models, attribute_reads(tmp_path)) == [f"data.settings.{name}" for name in left_unread]


def test_every_settings_model_of_the_house_is_part_of_the_recipe() -> None:
    assert {name.partition(".")[0] for name in settings_fields(Recipe)} == {*WITH_SETTINGS, "recipe"}
