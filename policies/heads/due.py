"""Which tokens are due: what may be sampled next in an answer that holds driving tokens, and the same for the learner.

Each token of an answer is sampled in a state that the tokens before it tell. Engine and learner ask the same rule, so
that both know the same distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from policies.heads.files import heads_in
from policies.heads.words import token_ids
from policies.settings import PolicySettings

State = Literal["text", "x", "y", "action", "after"]
STATES: tuple[State, ...] = ("text", "x", "y", "action", "after")
"""`text`: anything, or the first token of a plan; `x`, `y`: the next number of a waypoint; `action`: a motion; `after`:
the plan is whole."""


@dataclass(frozen=True)
class Due:
    """The rule of one model."""

    x: frozenset[int]
    """Ids of bins across."""
    y: frozenset[int]
    """Ids of bins ahead."""
    actions: frozenset[int]
    """Ids of motions."""
    end: int
    """The id that ends an answer."""
    points: int
    """Waypoints of a trajectory."""
    at_once: bool
    """An answer is a plan and nothing else; where not, text comes first and may come afterwards."""

    def after(self, ids: Sequence[int]) -> State:
        """What is due after these tokens of an answer; looks at the last few alone."""
        tail = 0
        while tail < min(len(ids), 2 * self.points) and self._is_point(ids[-1 - tail]):
            tail += 1
        return self._state(tail, whole=bool(ids) and ids[-1] in self.actions, first=not ids)

    def states(self, ids: Sequence[int]) -> list[int]:
        """What each token of an answer was sampled in, as places in `STATES`."""
        found, tail, whole = list[int](), 0, False
        for place, id_ in enumerate(ids):
            found.append(STATES.index(self._state(tail, whole=whole, first=place == 0)))
            tail = min(tail + 1, 2 * self.points) if self._is_point(id_) else 0
            whole = id_ in self.actions
        return found

    def mask(self, vocabulary: int) -> Tensor:
        """Which ids have no probability, (states, V)."""
        plans = self.x | self.y | self.actions
        barred = torch.ones(len(STATES), vocabulary, dtype=torch.bool)
        for state, ids in (("x", self.x), ("y", self.y), ("action", self.actions), ("after", {self.end})):
            barred[STATES.index(state), sorted(ids)] = False
        barred[STATES.index("text")] = False
        barred[STATES.index("text"), sorted(self.y)] = True
        if not self.at_once:
            barred[STATES.index("after")] = False
            barred[STATES.index("after"), sorted(plans)] = True
        elif self.x and self.actions:  # either may begin
            barred[STATES.index("text")] = True
            barred[STATES.index("text"), sorted(self.x | self.actions)] = False
        return barred

    def allows(self, ids: Sequence[int]) -> bool:
        """Whether an answer could be sampled."""
        barred = self._narrow
        pairs = zip(self.states(ids), ids, strict=True)
        return not any(barred[state][min(id_, len(barred[state]) - 1)] for state, id_ in pairs)

    def _state(self, tail: int, *, whole: bool, first: bool) -> State:
        if tail:
            return "after" if tail >= 2 * self.points else "y" if tail % 2 else "x"
        if whole:
            return "after"
        if first and self.at_once and not (self.x and self.actions):
            return "x" if self.x else "action"
        return "text"

    def _is_point(self, id_: int) -> bool:
        return id_ in self.x or id_ in self.y

    @cached_property
    def _narrow(self) -> list[list[bool]]:
        """The mask up to the first id beyond those that it names; all later ones are as that one is."""
        beyond = max((*self.x, *self.y, *self.actions, self.end)) + 1
        mask: list[list[bool]] = self.mask(beyond + 1).tolist()
        return mask


def due_of(folder: Path | str, settings: PolicySettings, tokenizer: Any) -> Due | None:
    """The rule for the model of a folder; None where a recipe constrains nothing.

    Raises:
        PolicyError: the model does not have the tokens.
    """
    if settings.heads is None or settings.heads.answer == "free":
        return None
    return due_in(Path(folder), tokenizer, at_once=settings.heads.answer == "tokens")


def due_in(folder: Path, tokenizer: Any, *, at_once: bool) -> Due:
    """The rule for the model of a folder.

    Raises:
        PolicyError: as `due_of`.
    """
    heads = heads_in(folder)
    ids = token_ids(tokenizer, heads)
    x, y, actions = (
        frozenset(id_ for word, id_ in ids.items() if word.startswith(prefix))
        for prefix in ("<traj_x_", "<traj_y_", "<act_")
    )
    points = heads.bins.points if heads.bins else 0
    return Due(x, y, actions, int(tokenizer.eos_token_id), points, at_once)
