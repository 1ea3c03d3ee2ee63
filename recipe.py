"""The recipe: the typed, complete description of a run. YAML plus dotted overrides; imports only settings.

`load_recipe(["recipes/tiny.yaml", "learner.lr=1e-4", "rollout.engines=2"])` reads a file and overrides two keys.
"""

from __future__ import annotations

import copy
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from actors.settings import (
    VLLM_ONCE,
    LearnerSettings,
    RolloutSettings,
    RunSettings,
    SyncSettings,
    WarmStartSettings,
    with_engine_options,
    with_transport,
)
from cluster.settings import ClusterSettings
from data.settings import OLD_OPTIONS, DataSettings, EnvironmentSettings, with_moved_options
from evaluation.settings import EvaluationSettings
from extension import ROOT, at_home, explain, made, nearest_file, redacted
from policies.settings import ALGORITHM, ALGORITHMS, AlgorithmSettings, PolicySettings
from rewards.settings import RewardSettings
from serve.settings import ServeSettings

NAMED = {"data": "source", "algorithm": "name", "rollout": "backend", "sync": "transport"}
"""Part of the recipe to the key that names a class, whose options stand beside it as `options`."""
MOVED = {
    **{f"data.{key}": f"data.options.{key}" for key in OLD_OPTIONS},
    **{f"rollout.{key}": f"rollout.options.{key}" for key in VLLM_ONCE},
    "sync.backend": "sync.transport",
}
"""Keys of older recipes, and where they are now."""
READ_AS = {"data": with_moved_options, "rollout": with_engine_options, "sync": with_transport}
"""Part of a recipe file to what reads it where it has keys of older recipes."""


ActorOptions = Callable[[str, int], dict[str, Any]]
"""Where a recipe's actors go: from a role (`learner`, `rollout`, `judge`, ...) and an index to the Ray options that
place that actor. `cluster.placement` makes one."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file or key and what to do."""


class Recipe(BaseModel):
    """A run. Each part is documented, field by field, in the `settings.py` of the package that reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    run: RunSettings
    """Length of the run and what it leaves behind."""
    data: DataSettings = DataSettings()
    """The driving questions."""
    environment: EnvironmentSettings | None = None
    """Where the policy acts turn by turn, and is trained on whole episodes; None: it answers the questions."""
    policy: PolicySettings = PolicySettings()
    """The model that learns."""
    algorithm: AlgorithmSettings = Field(AlgorithmSettings(), validate_default=True)
    """What rewards become, and the loss."""
    rollout: RolloutSettings = RolloutSettings()
    """The engines that sample."""
    reward: RewardSettings = RewardSettings()
    """What an answer is worth."""
    learner: LearnerSettings = LearnerSettings()
    """The DeepSpeed learners."""
    sync: SyncSettings = SyncSettings()
    """The weight broadcast."""
    warm_start: WarmStartSettings = WarmStartSettings()
    """Supervised steps before RL."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out measurement."""
    cluster: ClusterSettings = ClusterSettings()
    """The Ray cluster."""
    serve: ServeSettings = ServeSettings()
    """The policy endpoint."""

    @field_validator("algorithm")
    @classmethod
    def _complete_options(cls, given: AlgorithmSettings) -> AlgorithmSettings:
        """The same with every option of its class, so that the recipe that is kept says what was trained with."""
        algorithm = _algorithm(given)
        return AlgorithmSettings(name=given.name, options=algorithm.settings.model_dump(mode="json"))

    @model_validator(mode="after")
    def _check_adapters(self) -> Self:
        if self.rollout.adapters == "merged":
            return self
        if self.policy.lora is None or not {"attention", "mlp"}.issuperset(self.policy.lora.targets):
            raise ValueError(
                "rollout.adapters=apart needs policy.lora with the targets attention and mlp alone, since engines load "
                "no other adapters: set rollout.adapters=merged"
            )
        if self.policy.heads is not None:
            raise ValueError(
                "rollout.adapters=apart leaves the rows of driving tokens behind, which no engine loads with adapters: "
                "set rollout.adapters=merged, or leave policy.heads out"
            )
        return self

    @model_validator(mode="after")
    def _check_staleness(self) -> Self:
        if self.rollout.max_staleness > 0 and self.algorithm.options.get("importance") == "none":
            raise ValueError(
                f"rollout.max_staleness={self.rollout.max_staleness} lets responses be of older weights than those "
                "that learn, and algorithm.options.importance=none corrects for nothing: set it to truncate, bound or "
                "mask, or max_staleness to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.rollout.group_size == 1 and _algorithm(self.algorithm).compares_group:
            raise ValueError(
                f"rollout.group_size=1 leaves algorithm.name={self.algorithm.name} nothing to compare: set "
                "rollout.group_size to 2 or more, or algorithm.name to ppo or reinforce_pp"
            )
        return self


def _algorithm(settings: AlgorithmSettings) -> Any:
    """As `policies.algorithms.registry.make_algorithm`, without its import."""
    name, options = settings.name, settings.options
    return made(name, options, ALGORITHMS, ALGORITHM, "algorithm.name", "algorithm.options")


def load_recipe(arguments: list[str]) -> Recipe:
    """Read a recipe file and apply dotted overrides.

    Args:
        arguments: the YAML path, then any number of `part.key=value` (the value is read as YAML).

    Raises:
        RecipeError: the file is missing or not YAML, an override is malformed, a key is unknown (with a suggestion),
            a value does not fit, or the file has stages; always one sentence.
    """
    recipes = load_stages(arguments)
    if len(recipes) > 1:
        names = ", ".join(recipe.run.name for recipe in recipes)
        raise RecipeError(f"{arguments[0]} has stages ({names}), which only the reinforcement scripts run")
    return recipes[0]


def load_stages(arguments: list[str]) -> list[Recipe]:
    """The recipes of a file's stages, in order; one recipe where the file has none.

    With `base: other.yaml` a file sets apart what differs from another one, named from its own folder or from
    the project's. A stage under
    `stages` has a `name` and dotted keys that it sets apart: `{name: decide, run.steps: 40}`. It becomes
    a run of its own, named `<run.name>-<number>-<name>`, and begins with the policy that the stage before it left.
    Overrides hold for every stage.

    Raises:
        RecipeError: as `load_recipe`.
    """
    if not arguments:
        raise RecipeError(f"name a recipe file; recipes here: {_recipes_here()}")
    path = Path(at_home(arguments[0]))
    tree = _with_base(path, _read_yaml(path))
    stages = _stages(path, tree.pop("stages", None))
    recipes: list[Recipe] = []
    for number, stage in enumerate(stages, start=1):
        own = copy.deepcopy(tree)
        _forget_options(own, stage)
        for dotted, value in stage.items():
            if dotted != "name":
                _set(own, dotted, value, f"{path}: stage {number}")
        overrides = [(override, *_parsed(override)) for override in arguments[1:]]
        _forget_options(own, {dotted: value for _, dotted, value in overrides})
        for override, dotted, value in overrides:
            _set(own, dotted, value, f"override {redacted(override)!r}")
        if "name" in stage and isinstance(own.get("run"), dict):
            own["run"]["name"] = f"{own['run'].get('name')}-{number}-{stage['name']}"
        if recipes:
            before = recipes[-1].run
            _set(own, "policy.model", str(Path(before.root) / before.name / "policy"), f"{path}: stage {number}")
        _check_characters(own, path)
        try:
            recipes.append(Recipe.model_validate(_at_home(own)))
        except ValidationError as error:
            raise RecipeError(f"{path}: " + "; ".join(explain(item, Recipe) for item in error.errors())) from None
    return recipes


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every key present; `load_recipe` reads it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without Python objects, which refuses a key written twice: the first one would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse duplicates before merge keys are resolved, which may repeat a key rightly."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is written twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _at_home(held: Any) -> Any:
    """A tree in which every path that begins with `~/` begins with the home folder; a name is none."""
    if isinstance(held, dict):
        return {key: value if key == "name" else _at_home(value) for key, value in held.items()}
    if isinstance(held, list):
        return [_at_home(one) for one in held]
    return at_home(held) if isinstance(held, str) else held


_DEEPEST = 64
"""Levels of a recipe; what is written back of a deeper one could not be read."""


def _check_characters(held: Any, path: Path, key: str = "") -> None:
    """Refuse endless nesting and control characters; texts may have line ends, a run's name and folder may not."""
    if key.count(".") > _DEEPEST:
        raise RecipeError(f"{path}: {key[:_DEEPEST]}... is nested too deeply")
    if isinstance(held, dict | list):
        for name, value in held.items() if isinstance(held, dict) else enumerate(held):
            _check_characters(name, path, key or "a key")
            _check_characters(value, path, f"{key}.{name}".lstrip("."))
    pattern = r"[\x00-\x1f\x7f-\x9f]" if key in ("run.name", "run.root") else r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    if isinstance(held, str) and (odd := re.search(pattern, held)):
        raise RecipeError(f"{path}: {key} holds the control character {odd[0]!r}: take it out")


def _recipes_here() -> str:
    """The recipes of the folder, file by file, and the folders in it, each as a pattern."""
    here = Path("recipes")
    found = {path if path.parent == here else path.parent / "*.yaml" for path in here.rglob("*.yaml")}
    return ", ".join(sorted(map(str, found))) or "none"


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        there = [*Path("recipes").rglob("*.yaml"), *path.parent.glob("*.yaml")]
        hint = nearest_file(path, there)
        raise RecipeError(f"recipe file {path} does not exist{hint}; recipes here: {_recipes_here()}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8-sig"), _UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RecipeError(f"recipe file {path} is nested too deeply") from None
    _check_characters(tree, path)
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe file {path} must hold a mapping of parts (run, data, policy, ...)")
    try:
        return tree | {part: read(tree[part]) for part, read in READ_AS.items() if isinstance(tree.get(part), dict)}
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None


def _with_base(path: Path, tree: dict[str, Any], seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's tree laid over that of the file it names as its base; a list or value replaces the base's."""
    name = tree.pop("base", None)
    if name is None:
        return tree
    if not isinstance(name, str):
        raise RecipeError(f"{path}: base must be the name of a recipe file, got {reprlib.repr(name)}")
    base = next((one for one in ((path.parent / name).resolve(), ROOT / name) if one.is_file()), path.parent / name)
    if base in seen or base == path.resolve():
        raise RecipeError(f"{path}: base {name} leads back to itself")
    if not base.is_file():
        raise RecipeError(f"{path}: base {name} does not exist (looked for {base})")
    below = _with_base(base, _read_yaml(base), (*seen, path.resolve()))
    _forget_options(below, {f"{part}.{key}": value for part, held in tree.items() for key, value in _members(held)})
    return _laid_over(below, tree)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two trees as one, mappings joined key by key."""
    joined = dict(below)
    for key, value in above.items():
        own = below.get(key)
        joined[key] = _laid_over(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return joined


def _stages(path: Path, stages: Any) -> list[dict[str, Any]]:
    """What each stage of a file sets apart; one that sets nothing where there are none."""
    if stages is None:
        return [{}]
    if not (isinstance(stages, list) and stages and all(isinstance(s, dict) and s.get("name") for s in stages)):
        raise RecipeError(f"{path}: stages must be a list of mappings, each with a name and dotted keys")
    return stages


def _members(held: Any) -> list[tuple[str, Any]]:
    return list(held.items()) if isinstance(held, dict) else []


def _forget_options(tree: dict[str, Any], above: dict[str, Any]) -> None:
    """Options belong to the class that is named beside them: where what comes above names another, they go."""
    for part, key in NAMED.items():
        own, default = tree.get(part), getattr(Recipe.model_fields[part].default, key)
        if isinstance(own, dict) and above.get(f"{part}.{key}", own.get(key, default)) != own.get(key, default):
            own.pop("options", None)


def _parsed(override: str) -> tuple[str, Any]:
    """The dotted key of an override and its value."""
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise RecipeError(f"override {redacted(override)!r} must look like part.key=value")
    try:
        return dotted, yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError):
        raise RecipeError(f"override {redacted(override)[:100]!r}: the value is not valid YAML") from None


def _default_mapping(keys: list[str]) -> dict[str, Any]:
    """The mapping that the recipe holds at a place by default, which one key is set beside; empty where there is none.

    Options are left to the class that they belong to, which has defaults of its own.
    """
    model: Any = Recipe
    default: Any = None
    for key in keys:
        field = getattr(model, "model_fields", {}).get(key)
        if field is None:
            return {}
        default = field.get_default(call_default_factory=True)
        model = type(default)
    return copy.deepcopy(default) if isinstance(default, dict) and keys[-1] != "options" else {}


def _set(tree: dict[str, Any], dotted: str, value: Any, place: str) -> None:
    *parents, leaf = MOVED.get(dotted, dotted).split(".")
    for depth, parent in enumerate(parents, start=1):
        child = tree.setdefault(parent, _default_mapping(parents[:depth]))
        if child is None:
            child = tree[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"{place}: {parent} holds a value, not a mapping")
        tree = child
    tree[leaf] = value
