"""What a recipe needs and how long it takes: memory of each role's GPU, stages of a step, hours, cost. Starts nothing.

The learner's activations come of its own code at the recipe's shapes (`cluster.traced`), everything else of arithmetic
over the model's config (`cluster.architecture`, `cluster.stage_times`) and of `facts.yaml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from actors.rollout.engine import engine_of
from cluster.architecture import (
    Architecture,
    config_of,
    image_tokens,
    lora_widths,
    policy_config,
    text_model,
    vision_language,
)
from cluster.errors import PlanError
from cluster.facts import Facts, NodeType
from cluster.learner_bytes import after_passes, of_passes, states
from cluster.memory import BYTES, GIB, together
from cluster.plan import Plan, resource_plan
from cluster.stage_times import Chips, Work, generation_s, judging_s, learning_s, lengths_of, sync_s
from data.formats.format import images_per_prompt
from policies.algorithms.registry import make_algorithm
from policies.settings import TINY
from recipe import Recipe

Change = tuple[str, str, Any]
"""Part of a recipe, field, value."""
TYPICAL_TOKENS = 700
"""Tokens of a response where nobody says: what DriveRX's reasoning answers have, and never more than half the cap."""
TEXT_TOKENS = 200
RUBRIC_TOKENS, REPLY_TOKENS = 900, 60


@dataclass(frozen=True)
class Assumptions:
    """What the recipe does not say."""

    facts: Facts
    nodes: dict[str, int]
    """Machines that are rented, by type; empty: as many of the first type as are needed."""
    mean_tokens: float | None = None
    """Of a response."""
    text_tokens: int = TEXT_TOKENS
    """Of a prompt, beside its images."""
    colocated: bool = False
    """Engines and learners take turns on the same GPUs."""
    plain_rows: int | None = None
    """Responses of a micro-batch where each is a row with a prompt of its own; None: as this project packs them."""


@dataclass(frozen=True, slots=True)
class RoleMemory:
    """What one GPU of a role holds, in GiB."""

    parts: dict[str, float]
    gib: float
    """Of the GPU."""

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Times:
    """Seconds of a step."""

    stages: dict[str, float]
    """Generation (with what of judging it does not hide), learning, sync, framework."""
    step_s: float
    """As the recipe has it."""

    @property
    def longest(self) -> str:
        """The stage that takes longest."""
        return max(self.stages, key=lambda name: self.stages[name])


class Forecast:
    """Everything that is predicted of one recipe."""

    def __init__(self, recipe: Recipe, given: Assumptions, policy: Architecture | None = None) -> None:
        """Of a recipe; `policy` where its architecture is known already.

        Raises:
            PlanError: processes contradict each other, or the config of a model is unknown.
        """
        self.recipe, self.given = recipe, given
        self.plan: Plan = resource_plan(recipe)
        self.policy = policy or vision_language(policy_config(recipe.policy, given.facts))

    @cached_property
    def judge(self) -> Architecture | None:
        """The judge's, where engines of our own run it."""
        judge = self.recipe.reward.judge
        if judge is None or judge.url is not None or judge.model == TINY:
            return None
        return text_model(config_of(judge.model, judge.revision, self.given.facts, "reward.judge.model"))

    @cached_property
    def node(self) -> NodeType:
        """The machines' type; of several, that with the least memory, since no role says where it goes."""
        named = self.given.nodes or {next(iter(self.given.facts.nodes)): 0}
        return min((self.given.facts.node(name) for name in named), key=lambda node: node.gib)

    @cached_property
    def nodes(self) -> dict[str, int]:
        """How many of each type: those given, or as many as hold the GPUs (judges on their own where they are marked).

        Raises:
            PlanError: those given have too few GPUs.
        """
        held = self.plan.gpus
        if not self.given.nodes:
            judges = sum(bundle.gpus for bundle in self.plan.of("judge"))
            apart = judges if self.recipe.cluster.judge_label else 0.0
            name = next(iter(self.given.facts.nodes))
            return {name: math.ceil((held - apart) / self.node.gpus) + math.ceil(apart / self.node.gpus)}
        there = sum(self.given.facts.node(name).gpus * count for name, count in self.given.nodes.items())
        if there < held:
            raise PlanError(
                f"--nodes have {there} GPUs, and the recipe's processes hold {held:g}: add nodes, or lower "
                "learner.ranks, rollout.engines or reward.judge.engines"
            )
        return self.given.nodes

    @cached_property
    def work(self) -> Work:
        """One step."""
        recipe, rollout = self.recipe, self.recipe.rollout
        most, own = rollout.max_tokens, images_per_prompt(recipe.data)
        count = recipe.policy.images_per_prompt if own is None else own
        mean = self.given.mean_tokens or min(TYPICAL_TOKENS, most / 2)
        return Work(
            rollout.prompts_per_step,
            rollout.group_size,
            min(count, rollout.max_images or count),
            image_tokens(self.policy.config, recipe),
            self.given.text_tokens,
            lengths_of(min(mean, most), most),
        )

    @cached_property
    def reference(self) -> bool:
        """Whether a reference policy is asked."""
        return make_algorithm(self.recipe.algorithm).reference != "none"

    @property
    def decoding(self) -> tuple[int, bool]:
        """Responses that an engine decodes at once, and whether it does so without CUDA graphs."""
        options: Any = engine_of(self.recipe).options
        eager = bool(getattr(options, "eager", lambda gpus: True)(self.recipe.rollout.gpus))
        return getattr(options, "max_concurrent", 1), eager

    @property
    def passes(self) -> int:
        """Forward passes that learning from a group amounts to, the reference's with it; a backward pass is two."""
        learner = self.recipe.learner
        return 1 + (1 if self.recipe.policy.lora else 2) + learner.gradient_checkpointing + self.reference

    @property
    def assessed(self) -> bool:
        """Whether a batch is passed over once more before its updates."""
        algorithm = make_algorithm(self.recipe.algorithm)
        return getattr(algorithm.settings, "updates_per_batch", 1) > 1 or algorithm.has_critic

    @property
    def tower_runs(self) -> bool:
        """Whether the images' features are computed in each pass."""
        settings = self.recipe.policy
        return not (settings.freeze_vision and settings.freeze_projector and self.recipe.learner.zero_stage < 3)

    @cached_property
    def learning(self) -> int:
        """Parameters that learn."""
        settings, model = self.recipe.policy, self.policy
        if settings.lora is not None:
            widths = lora_widths(model)
            return settings.lora.rank * sum(widths.get(target, 0) for target in settings.lora.targets)
        frozen = model.vision + model.projector * settings.freeze_projector if settings.freeze_vision else 0
        return model.parameters - frozen

    @cached_property
    def row_positions(self) -> int:
        """Positions of the largest micro-batch that is allowed."""
        learner, rollout = self.recipe.learner, self.recipe.rollout
        whole = learner.micro_batch_groups * (self.work.prompt + rollout.group_size * rollout.max_tokens)
        return min(whole, learner.micro_batch_tokens or whole)

    @cached_property
    def activations(self) -> int:
        """Bytes that the largest pass adds to a learner rank, by its own code."""
        from cluster.traced import PassShape, shared_out, trace  # brings torch, and takes seconds

        recipe, work = self.recipe, self.work
        room = max(1, self.row_positions - work.prompt)
        responses = shared_out(room, recipe.rollout.max_tokens, recipe.learner.micro_batch_groups * work.group_size)
        shape = PassShape(work.images, work.image_tokens, work.text_tokens, responses)
        again = recipe.learner.gradient_checkpointing
        critic = make_algorithm(recipe.algorithm).has_critic
        return trace(
            self.policy.config,
            recipe.policy,
            shape,
            recompute=again,
            reference=self.reference,
            critic=critic,
            device="cuda" if recipe.learner.gpus else "cpu",
        ).peak

    def learner_states(self) -> dict[str, float]:
        """GiB of what a learner rank holds between passes."""
        recipe, learner, model = self.recipe, self.recipe.learner, self.policy
        parts = states(model, self.learning, learner, recipe.policy)
        if self.reference and recipe.policy.lora is None:
            parts["reference"] = parts["weights"]
        return {name: amount / GIB for name, amount in parts.items()}

    def learner_memory(self) -> RoleMemory:
        """A learner rank's GPU."""
        learner, facts = self.recipe.learner, self.given.facts
        passing = of_passes(self.policy, learner, self.recipe.policy.dtype)
        flat = after_passes(self.learning, learner, self.recipe.policy.dtype)
        parts = self.learner_states() | {
            "activations": self.activations / GIB,
            "fragments": facts.overhead("fragments_share") * self.activations / GIB,
            **{name: amount / GIB for name, amount in passing.items()},
            "flat gradients": max(0.0, flat - self.activations) / GIB,
            "CUDA and NCCL": facts.overhead("cuda_context") + facts.overhead("nccl") * (learner.ranks > 1),
        }
        return RoleMemory(parts, self.node.gib)

    def engine_memory(self) -> RoleMemory:
        """A rollout engine's GPU: weights, what a step adds, and the cache that the settings leave."""
        recipe, facts, options = self.recipe, self.given.facts, engine_of(self.recipe).options
        size, spread = BYTES[recipe.policy.dtype], recipe.rollout.tensor_parallel
        held = {
            "weights": size * self.policy.parameters / spread / GIB,
            "activations": facts.overhead("engine_activations"),
            "CUDA and NCCL": facts.overhead("cuda_context") + facts.overhead("nccl"),
        }
        share = getattr(options, "gpu_memory_share", 0.9) * self.node.gib
        cache = getattr(options, "gpu_cache_gib", None)
        return RoleMemory(
            held | {"KV cache": max(0.0, share - sum(held.values())) if cache is None else cache}, self.node.gib
        )

    def judge_memory(self) -> RoleMemory | None:
        """A GPU of a judge engine."""
        judge, model = self.recipe.reward.judge, self.judge
        if judge is None or model is None:
            return None
        facts = self.given.facts
        held = {
            "weights": 2 * model.parameters / judge.tensor_parallel / GIB,
            "activations": facts.overhead("engine_activations"),
            "CUDA and NCCL": facts.overhead("cuda_context") + facts.overhead("nccl"),
        }
        share = judge.gpu_memory_share * self.node.gib
        return RoleMemory(held | {"KV cache": max(0.0, share - sum(held.values()))}, self.node.gib)

    def memory(self) -> dict[str, RoleMemory]:
        """Of each role that has GPUs; roles that share one are one entry."""
        rollout, learner = self.recipe.rollout, self.recipe.learner
        found: dict[str, RoleMemory] = {}
        if learner.gpus:
            found["learner"] = self.learner_memory()
        if rollout.gpus:
            found["rollout"] = self.engine_memory()
        if (judge := self.judge_memory()) is not None:
            found["judge"] = judge
        if 0 < learner.gpus < 1 and 0 < rollout.gpus < 1:
            roles = {role: found.pop(role).parts for role in ("learner", "rollout")}
            both = together(roles, turns=rollout.on_learners > 0)
            found = {"learner and rollout": RoleMemory(both, self.node.gib)} | found
        return found

    def misfits(self) -> list[str]:
        """What does not fit, a sentence each."""
        wrong = [
            f"{role}: {memory.total:.1f} GiB on a GPU of {memory.gib:g} GiB"
            for role, memory in self.memory().items()
            if memory.total > memory.gib
        ]
        for role, memory in self.memory().items():
            parts = self.engine_memory().parts if role.endswith("rollout") else memory.parts
            caches = [gib for name, gib in parts.items() if name == "KV cache"]
            model = self.judge if role == "judge" else self.policy
            judge, rollout = self.recipe.reward.judge, self.recipe.rollout
            if not caches or model is None:
                continue
            spread = judge.tensor_parallel if role == "judge" and judge else rollout.tensor_parallel
            longest = judge.max_model_len if role == "judge" and judge else rollout.max_model_len
            tokens = caches[0] * GIB * spread / (2 * model.cache_per_token)
            if tokens < longest:
                wrong.append(f"{role}: its KV cache holds {tokens:,.0f} tokens, and one sequence may have {longest:,}")
        return wrong

    def times(self) -> Times:
        """Seconds of a step by stage."""
        recipe, facts, work = self.recipe, self.given.facts, self.work
        rollout, learner = recipe.rollout, recipe.learner
        engine, (at_once, eager) = Chips(self.node, max(1, rollout.tensor_parallel)), self.decoding
        generation = generation_s(self.policy, work, engine, rollout.engines, at_once, facts, eager=eager)
        judging, last = self._judging()
        first = generation * work.lengths[0] / work.lengths[-1]
        experience = max(generation + last, first + judging)
        chips = Chips(self.node, learner.ranks)
        learning = learning_s(
            self.policy,
            work,
            chips,
            facts,
            passes=self.passes + self.assessed,
            forwards=2 + self.reference,
            zero_stage=learner.zero_stage,
            shared=self.given.plain_rows is None,
            at_once=self.given.plain_rows or 1,
            tower=self.tower_runs,
        )
        apart = self.learning if rollout.adapters == "apart" else None
        sync = sync_s(self.policy, chips, facts, numbers=apart)
        stages = {
            "generation": generation,
            "judging not hidden": max(0.0, experience - generation),
            "learning": learning,
            "sync": sync,
            "framework": facts.efficiency("framework_s"),
        }
        if self.given.colocated or rollout.on_learners:
            stages["swapping"] = facts.efficiency("colocated_swap_s")
        lent = 0 < rollout.on_learners < rollout.engines
        shares = self.given.colocated or (0 < learner.gpus < 1 and not lent)
        behind = learning + stages["framework"]
        if rollout.max_staleness == 0 or shares:
            return Times(stages, sum(stages.values()))
        return Times(stages, max(experience, behind) + sync)

    def _judging(self) -> tuple[float, float]:
        """Seconds of a step's judging, and of its last answer."""
        judge, model = self.recipe.reward.judge, self.judge
        if judge is None:
            return 0.0, 0.0
        if model is None:
            return judge.least_seconds(self.work.responses), 0.0
        chips = Chips(self.node, judge.tensor_parallel)
        return judging_s(
            model,
            self.work,
            chips,
            judge.engines,
            judge.max_concurrent,
            self.given.facts,
            rubric=RUBRIC_TOKENS,
            reply=min(REPLY_TOKENS, judge.max_tokens),
        )

    @property
    def hours(self) -> float:
        """Of all steps."""
        return self.recipe.run.steps * self.times().step_s / 3600

    @property
    def cost(self) -> float:
        """USD of the machines for so long."""
        return self.hours * sum(self.given.facts.node(name).usd_per_hour * count for name, count in self.nodes.items())

    @property
    def checkpoint_bytes(self) -> int:
        """What one checkpoint takes on disk: weights, optimizer, and the policy that is exported at the end."""
        size = BYTES[self.recipe.policy.dtype]
        return size * self.policy.parameters + 12 * self.learning

    @property
    def judge_load_s(self) -> float:
        """Seconds that reading the judge's weights from disk takes at least."""
        return 0.0 if self.judge is None else 2 * self.judge.parameters / (self.node.disk_mbps * 1e6)

    def with_settings(self, *changes: Change) -> Forecast:
        """The forecast of the same recipe with (part, field, value) changed."""
        recipe = self.recipe
        for part, field, value in changes:
            held = getattr(recipe, part)
            inner = {"options": held.options | value} if field == "options" else {field: value}
            recipe = recipe.model_copy(update={part: held.model_copy(update=inner)})
        other = Forecast(recipe, replace(self.given, nodes={}), self.policy)
        passes = ("gradient_checkpointing", "micro_batch_tokens", "micro_batch_groups")
        if "activations" in self.__dict__ and not any(field in passes for _, field, _ in changes):
            other.__dict__["activations"] = self.activations
        return other
