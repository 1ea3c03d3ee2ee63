"""`World`: how long everything takes in a simulated run, by the forecast of its recipe, and how it is spread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from actors.supervision.waiting import now
from cluster.architecture import Architecture
from cluster.forecast import REPLY_TOKENS, RUBRIC_TOKENS, Forecast
from cluster.simulation.scaled import held
from cluster.simulation.timeline import Row, Timeline
from cluster.stage_times import (
    Chips,
    Work,
    decode_step_s,
    learner_efficiency,
    pass_flop,
    spread_of,
    sync_s,
)
from policies.batch import TrainingGroup
from policies.micro_batches import Share

CHARACTERS_PER_TOKEN = 4
LONGEST_TEXT = 4096
"""Words."""
SWAPPING = "swapping"
MOVES = 4
"""Of a step in which engine and learner take turns on a GPU: each clears it, and each fills it."""
PROCESS_START_S = 60.0
"""Until a new process has imported everything and made its CUDA context and graphs, beside reading its weights."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """What goes wrong in a simulated run; all zero: nothing."""

    losses_per_hour: float = 0.0
    """Actors that die alone, of engines, judges and learner ranks alike."""
    spot_per_hour: float = 0.0
    """Nodes that are taken away with all that runs there."""
    spot_back_s: float = 600.0
    """Until another node is there instead."""
    slow_judge_share: float = 0.0
    """Judgements that take long."""
    slow_judge_times: float = 20.0
    """How many times the tokens of others a slow one has."""


class World:
    """Seconds of everything, and the dice."""

    def __init__(self, forecast: Forecast, troubles: Troubles, seed: int = 0) -> None:
        """Of a recipe."""
        self.forecast, self.troubles, self.timeline = forecast, troubles, Timeline()
        self.recipe, self.work, self.node = forecast.recipe, forecast.work, forecast.node
        self.policy, self.facts = forecast.policy, forecast.given.facts
        self.at_once, self._eager = forecast.decoding
        self._engine = Chips(self.node, max(1, self.recipe.rollout.tensor_parallel))
        self._learners = Chips(self.node, self.recipe.learner.ranks)
        self._lengths = spread_of(min(self.work.mean, self.recipe.rollout.max_tokens), self.recipe.rollout.max_tokens)
        self.dice, self.fate = random.Random(seed), random.Random(seed)  # apart: what is asked moves no loss
        self.away_until: dict[int, float] = {}
        """By node: when it, or another in its place, is there again."""

    # --- engines ---

    def response_tokens(self, request_id: str) -> int:
        """Tokens of a response; the same for the same request, whichever engine generates it."""
        return round(self._lengths.at(random.Random(request_id).gauss()))

    def said(self, request_id: str, tokens: int) -> str:
        """A response of about `tokens` tokens that no other one equals, and of which the judge sees all."""
        return f"{self._words[: tokens * CHARACTERS_PER_TOKEN]} {request_id}."

    def tokens_in(self, text: str) -> float:
        """About as many tokens as a text has."""
        return len(text) / CHARACTERS_PER_TOKEN

    def engine_step_s(self, active: int, context: float) -> float:
        """Seconds in which each of `active` responses gets a token."""
        return decode_step_s(self.policy, self._engine, self.facts, active=active, context=context, eager=self._eager)

    @cached_property
    def prompt_s(self) -> float:
        """Seconds that an engine needs for a prompt."""
        return pass_flop(self.policy, self.work, [1.0]) / (self._engine.peak * self.facts.efficiency("prefill"))

    async def loaded(self, role: str, index: int, model: Architecture) -> float:
        """Start a process on its node, which may have to come back first, and read a model; the seconds it took."""
        away = max(0.0, self.away_until.get(self.node_of(role, index), 0.0) - now())
        seconds = away + PROCESS_START_S + 2 * model.parameters / (self.node.disk_mbps * 1e6)
        await asyncio.sleep(seconds)
        return seconds

    # --- learners ---

    def learn_s(self, share: Share) -> float:
        """Seconds that a rank needs for forward, backward and whatever else passes over its groups."""
        return sum(map(self._micro_batch_s, share.micro_batches)) * self.forecast.passes

    def pass_s(self, share: Share) -> float:
        """Seconds of one forward pass over its groups."""
        return sum(map(self._micro_batch_s, share.micro_batches))

    def _micro_batch_s(self, groups: Sequence[TrainingGroup]) -> float:
        flop, tokens = 0.0, 0
        for group in groups:
            lengths = [float(len(one.token_ids)) for one in group.responses]
            flop += pass_flop(self.policy, self._of(group), lengths, tower=self.forecast.tower_runs)
            tokens += len(group.prompt_ids) + round(sum(lengths))
        one = Chips(self.node, 1)
        seconds = flop / (one.peak * learner_efficiency(self.node, tokens, self.facts))
        if self.recipe.learner.zero_stage < 3 or self._learners.count == 1:
            return seconds
        moved = 2 * self.policy.parameters / self._learners.link(self.facts)
        return max(seconds, moved * (3 + self.forecast.reference) / self.forecast.passes)

    def _of(self, group: TrainingGroup) -> Work:
        work = self.work
        return Work(1, len(group.responses), work.images, work.image_tokens, work.text_tokens, ())

    @cached_property
    def publish_s(self) -> float:
        """Seconds until the weights are in every engine."""
        apart = self.forecast.learning if self.recipe.rollout.adapters == "apart" else None
        return sync_s(self.policy, self._learners, self.facts, numbers=apart)

    async def swapped(self, row: Row) -> None:
        """One of `MOVES`."""
        began = now()
        await asyncio.sleep(self.facts.efficiency("colocated_swap_s") / MOVES)
        row.did(SWAPPING, began, now())

    @property
    def framework_s(self) -> float:
        """Seconds of a step that no pass accounts for."""
        return self.facts.efficiency("framework_s")

    @cached_property
    def save_s(self) -> float:
        """Seconds in which the ranks write a checkpoint, each node its part."""
        nodes = -(-self._learners.count // self.node.gpus)
        return self.forecast.checkpoint_bytes / nodes / (self.node.disk_mbps * 1e6)

    # --- judges ---

    def judge_step_s(self, active: int, context: float) -> float:
        """Seconds in which each of `active` judgements gets a token."""
        assert self.forecast.judge is not None
        assert self.recipe.reward.judge is not None
        chips = Chips(self.node, self.recipe.reward.judge.tensor_parallel)
        return decode_step_s(
            self.forecast.judge, chips, self.facts, active=active, context=RUBRIC_TOKENS + context, eager=False
        )

    def judge_prompt_s(self, tokens: float) -> float:
        """Seconds that a judge needs to read what its prefix cache does not have."""
        judge, settings = self.forecast.judge, self.recipe.reward.judge
        assert judge is not None
        assert settings is not None
        peak = Chips(self.node, settings.tensor_parallel).peak
        return tokens * 2 * (judge.body + judge.head / 8) / (peak * self.facts.efficiency("prefill"))

    def reply_tokens(self) -> float:
        """Tokens of a judgement."""
        slow = self.dice.random() < self.troubles.slow_judge_share
        return REPLY_TOKENS * self.dice.uniform(0.7, 1.3) * (self.troubles.slow_judge_times if slow else 1.0)

    # --- nodes ---

    def node_of(self, role: str, index: int) -> int:
        """The node of an actor: roles follow each other, packed; engines on learner ranks are where these are."""
        guests = self.recipe.rollout.on_learners
        if role == "rollout":
            role, index = ("learner", index) if index < guests else (role, index - guests)
        first = 0.0
        for name, (count, gpus) in held(self.recipe).items():
            if name == role:
                return int((first + index * gpus) // self.node.gpus)
            first += gpus * count
        raise ValueError(f"no role {role}")

    @cached_property
    def _words(self) -> str:
        """Words for an answer that is as long as any, no sentence of them said twice."""
        dice = random.Random(0)
        syllables = ("ka", "lo", "mi", "ren", "ta", "vu", "so", "pel", "dri", "an", "ei", "gor")
        words = ["".join(dice.choices(syllables, k=3)) for _ in range(LONGEST_TEXT)]
        return " ".join(f"{word}." if number % 12 == 11 else word for number, word in enumerate(words))
