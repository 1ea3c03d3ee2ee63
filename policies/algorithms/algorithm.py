"""The `Algorithm` protocol: everything that tells one policy-gradient method from another, in one place.

`algorithm.name` in a recipe is a built-in name (`policies.settings.ALGORITHMS`) or `module:Class` of yours. The file of
a class needs no more than this protocol; `GroupRelative` and `OverBatch` (beside this file) already answer most of it.
No actor asks which algorithm it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from pydantic import BaseModel

from policies.losses import GlobalCounts, LossResult, PolicyLossInput

if TYPE_CHECKING:  # a recipe is checked against its algorithm's settings, which must not bring torch
    from torch import Tensor

Total = Callable[["Tensor"], "Tensor"]
"""Sums a tensor of sums over all ranks; the identity on one rank."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of one response when its whole group has been scored."""

    reward: float | None
    """What `Algorithm.reward` made of its score; None: no score could be given."""
    length: int
    """Its tokens."""
    gains: tuple[float, ...] = ()
    """What spans of it added to its score, in its unit; the rest of the reward belongs to the last token."""
    gain_ends: tuple[int, ...] = ()
    """For each gain, the index just behind the last token of its span."""


@dataclass(frozen=True)
class Rows:
    """One rank's responses before the first update on a batch; R responses of at most T tokens."""

    credits_R_T: Tensor
    """What `Algorithm.credits` gave each token."""
    mask_R_T: Tensor
    """1.0 on tokens that count, else 0.0; a response that only fills up is 0.0 throughout."""
    logprobs_R_T: Tensor | None = None
    """log pi of the policy as it is; None where `credits` alone was asked for."""
    reference_logprobs_R_T: Tensor | None = None
    """log pi_ref; None unless `reference` is `reward`."""
    values_R_T: Tensor | None = None
    """The critic's; None without one."""


@dataclass(frozen=True)
class Advantages:
    """What the updates on a batch learn from, and the metrics of how it came about."""

    advantages_R_T: Tensor
    """One for each token; what stands outside the mask is not read."""
    metrics: dict[str, float]
    """Figures of the global batch, the same on every rank; `kl` is the mean over its tokens."""
    returns_R_T: Tensor | None = None
    """What the critic learns to expect of each token; None without one."""


class Loss(Protocol):
    """What a learner can minimise."""

    temperature: float | None
    """That of the distribution whose log-probabilities are seen; None: the rollouts'."""

    @property
    def reference(self) -> Literal["none", "loss", "reward"]:
        """Where the log-probabilities of the reference policy are read; with `none` no reference is kept."""

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """The loss of one micro-batch: its share of the global batch's, whose denominators are `counts`."""


class Algorithm(Loss, Protocol):
    """A policy-gradient method; made as `Class(settings)` with an instance of its `Settings`, in driver and learners.

    A batch passes through it in this order: `reward` of each score and `credits` of each group in the driver,
    `advantages` on the learner ranks, then `loss` for every micro-batch. All methods are pure. Attributes that only
    `__init__` sets must be annotated in the class, so that a class that lacks one is refused before a run begins.
    """

    Settings: ClassVar[type[BaseModel]]
    """The options that a recipe may set, each field with a docstring. It is imported when a recipe is read."""
    has_critic: bool
    """Whether the policy carries a value head, whose values `advantages` and `loss` are given (`train_ppo.py`)."""
    compares_group: bool
    """Whether a response is measured by its siblings, so that `rollout.group_size` must be 2 or more."""
    over_batch: bool
    """Whether `advantages` must see the whole batch. If not, the credits are the advantages, and it is called only
    where there are several updates on a batch."""
    kl_beta: float
    """The weight of a KL in the reward in the first batch; later ones follow `next_kl_beta`."""
    updates_per_batch: int
    """Optimizer steps on a batch; each takes an equal share of its groups."""
    refills: int
    """How often, at most, groups that `wants_refill` are replaced by those of fresh questions."""

    @property
    def settings(self) -> BaseModel:
        """The options that it was made of."""

    def reward(self, score: float, length: int, cap: int) -> float:
        """What a response with this score (0-1) is worth, whose `length` tokens may have been `cap` at most."""

    def wants_refill(self, rewards: Sequence[float | None]) -> bool:
        """Whether a group with these rewards (None: not scored) should give way to one of a fresh question."""

    def keeps(self, rewards: Sequence[float | None]) -> bool:
        """Whether a group with these rewards is learnt from; responses without credits leave it all the same."""

    def credits(self, group: Sequence[Scored]) -> list[tuple[float, ...] | None]:
        """What each token of each response of a group is credited with; None: the response teaches nothing.

        That is its advantage where responses are compared within their group, and its reward where `over_batch`.
        """

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """The advantage of each token. Moments over the batch are formed with `total`, on every rank alike."""

    def next_kl_beta(self, kl_beta: float, kl: float, responses: int) -> float:
        """The weight of a KL in the reward for the next batch, after one whose responses had this mean KL, in nats."""
