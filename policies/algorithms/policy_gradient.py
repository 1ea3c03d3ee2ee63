"""What most policy-gradient methods share: `GroupRelative` compares siblings, `OverBatch` the tokens of a whole batch.

An algorithm that derives from one of them adds its `Settings` and its `loss`, and what else its paper changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel

from policies.advantages import (
    generalised_advantages,
    has_zero_deviation,
    moments,
    overlong_share,
    returns_to_go,
    span_rewards,
    whitened,
)
from policies.algorithms.algorithm import Advantages, Rows, Scored, Total
from policies.algorithms.settings import CriticOptions, OverBatchOptions, PolicyOptions
from policies.kl import adapted_weight, kl_estimate
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, value_loss

if TYPE_CHECKING:
    from torch import Tensor

Options = TypeVar("Options", bound=PolicyOptions)
BatchOptions = TypeVar("BatchOptions", bound=OverBatchOptions)
WithValues = TypeVar("WithValues", bound=CriticOptions)


class PolicyGradient(Generic[Options]):
    """What the options of every policy loss decide; see `Algorithm` for each member."""

    Settings: ClassVar[type[BaseModel]]
    settings: Options
    kl_beta: float
    refills: int
    updates_per_batch: int
    temperature: float | None = None
    has_critic = False
    compares_group = True
    over_batch = False

    def __init__(self, settings: Options) -> None:
        """Follow these options, an instance of the class's `Settings`."""
        self.settings = settings
        self.kl_beta, self.refills = settings.kl_beta, settings.refills
        self.updates_per_batch = settings.updates_per_batch

    @property
    def reference(self) -> Literal["none", "loss", "reward"]:
        """The KL is a term of the loss, unless it has no weight."""
        return "loss" if self.settings.kl_beta > 0 else "none"

    def reward(self, score: float, length: int, cap: int) -> float:
        """The score, less what excess length costs (DAPO Eq. 13)."""
        return score - overlong_share(length, cap, self.settings.overlong_buffer)

    def wants_refill(self, rewards: Sequence[float | None]) -> bool:
        """A group of equal rewards; one with a failed score stays, since failures are counted and may stop the run."""
        return has_zero_deviation(rewards) and None not in rewards

    def next_kl_beta(self, kl_beta: float, kl: float, responses: int) -> float:
        """The same: a KL in the loss keeps its weight."""
        return kl_beta


class GroupRelative(PolicyGradient[Options], ABC):
    """Every token of a response has the advantage that the response has over its siblings."""

    @abstractmethod
    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """The advantage of each response of a group."""

    def keeps(self, rewards: Sequence[float | None]) -> bool:
        """Equal rewards say nothing; only a KL term learns from such a group."""
        return self.settings.kl_beta > 0 or not has_zero_deviation(rewards)

    def credits(self, group: Sequence[Scored]) -> list[tuple[float, ...] | None]:
        """The response's advantage, for each of its tokens."""
        advantages = self.measured([one.reward for one in group])
        return [None if a is None else (a,) * one.length for one, a in zip(group, advantages, strict=True)]

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """The credits."""
        return Advantages(rows.credits_R_T, metrics={})


class OverBatch(PolicyGradient[BatchOptions]):
    """Advantages from the rewards of tokens, formed over the whole batch: REINFORCE++, and with a critic PPO and A2C.

    r_t = credit_t - beta KL_t: a response's reward belongs to its last token, but for what spans of it gained, and with
    `kl_in: reward` every token pays for straying from the reference policy.
    """

    compares_group = False
    over_batch = True

    @property
    def reference(self) -> Literal["none", "loss", "reward"]:
        """Where `kl_in` says."""
        return self.settings.kl_in if self.settings.kl_beta > 0 else "none"

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """What each response of a group is worth: its reward."""
        return list(rewards)

    def keeps(self, rewards: Sequence[float | None]) -> bool:
        """All groups: they are compared with the rest of the batch."""
        return True

    def credits(self, group: Sequence[Scored]) -> list[tuple[float, ...] | None]:
        """What the response is worth, at the tokens that earned it."""
        worth = self.measured([one.reward for one in group])
        return [
            None if reward is None else tuple(span_rewards(reward, one.gains, one.gain_ends, one.length))
            for one, reward in zip(group, worth, strict=True)
        ]

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """The return of each token, what it and the later ones earn, whitened over the batch."""
        rewards_R_T, metrics = self.token_rewards(rows, kl_beta, total)
        returns_R_T = returns_to_go(rewards_R_T, rows.mask_R_T, self.settings.discount)
        return Advantages(whitened(returns_R_T, rows.mask_R_T, total), metrics)

    def token_rewards(self, rows: Rows, kl_beta: float, total: Total) -> tuple[Tensor, dict[str, float]]:
        """r_t, and how far the batch strayed from the reference."""
        if self.reference != "reward":
            return rows.credits_R_T, {}
        assert rows.logprobs_R_T is not None and rows.reference_logprobs_R_T is not None  # noqa: PT018
        estimator, clamp = self.settings.kl_estimator, self.settings.log_ratio_clamp
        kl_R_T = kl_estimate(rows.logprobs_R_T, rows.reference_logprobs_R_T, estimator, clamp)
        _, kl, _ = moments(kl_R_T, rows.mask_R_T, total)
        return rows.credits_R_T - kl_beta * kl_R_T, {"kl": kl, "kl_beta": kl_beta}

    def next_kl_beta(self, kl_beta: float, kl: float, responses: int) -> float:
        """Moved towards `kl_target`, where there is one."""
        target, horizon = self.settings.kl_target, self.settings.kl_horizon
        return kl_beta if target is None else adapted_weight(kl_beta, kl, responses, target, horizon)


class WithCritic(OverBatch[WithValues]):
    """Advantages over what a value head expected of each token, and returns that it learns from."""

    has_critic = True

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """Generalised advantages (arXiv 1506.02438 Eq. 16); whitened, if so set. The returns never are."""
        assert rows.values_R_T is not None
        rewards_R_T, metrics = self.token_rewards(rows, kl_beta, total)
        advantages_R_T, returns_R_T = generalised_advantages(
            rewards_R_T, rows.values_R_T, rows.mask_R_T, self.settings.discount, self.settings.trace
        )
        _, mean, spread = moments(returns_R_T, rows.mask_R_T, total)
        _, _, unforeseen = moments(returns_R_T - rows.values_R_T, rows.mask_R_T, total)
        # 1: the critic foresaw all of the returns' variance; 0: as much as a constant; below 0: less
        metrics |= {"value_explained": 1.0 - unforeseen / spread if spread > 0 else 0.0, "return_mean": mean}
        if self.settings.whiten:
            advantages_R_T = whitened(advantages_R_T, rows.mask_R_T, total)
        return Advantages(advantages_R_T, metrics, returns_R_T)

    def value_loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """The critic's clipped loss."""
        assert seen.values_R_T is not None and seen.old_values_R_T is not None and seen.returns_R_T is not None  # noqa: PT018
        clip = self.settings.value_clip
        return value_loss(seen.values_R_T, seen.old_values_R_T, seen.returns_R_T, seen.mask_R_T, clip, counts)
