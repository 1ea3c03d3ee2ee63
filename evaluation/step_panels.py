"""The reward panels of a step, computed from its groups: what the curves of a run show. No ray, no files."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from data.sample import in_order
from evaluation import run_record as names
from rewards.format import valid_format
from rewards.group import Group, ScoredRollout


def step_panels(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of one step, named as in `evaluation/run_record.py`.

    Masked rollouts (their score failed) are counted by reason and enter no reward; a mean over nothing is left out.
    """
    scored = [rollout for group in groups for rollout in group.rollouts]
    rewards = {
        names.task_reward(task): [reward for group in groups if group.sample.task == task for reward in group.rewards]
        for task in in_order(group.sample.task for group in groups)
    }
    lengths = [float(len(item.rollout.token_ids)) for item in scored]
    logprobs = [logprob for item in scored for logprob in item.rollout.logprobs]
    formats = [float(valid_format(group.sample, item.rollout.text)) for group in groups for item in group.rollouts]
    parts: dict[str, list[float]] = {}
    for item in scored:
        for part, value in item.score.parts.items():
            parts.setdefault(names.part_mean(part), []).append(value)
    means = {
        names.REWARD_MEAN: [reward for of_task in rewards.values() for reward in of_task],
        **rewards,
        names.LENGTH_MEAN: lengths,
        names.OVERLONG_SHARE: [float(item.rollout.finish_reason == "length") for item in scored],
        names.VALID_FORMAT_SHARE: formats,
        **_times(scored),
        names.LOGPROB_MEAN: logprobs,
        names.SCORING_OVERLAPPED_SHARE: [float(group.scoring_overlapped) for group in groups],
        **dict(sorted(parts.items())),
    }
    masked = Counter(names.masked_reason(item.score.failure) for item in scored if item.score.failure is not None)
    return {
        **{name: statistics.fmean(values) for name, values in means.items() if values},
        names.GROUPS: float(len(groups)),
        names.ZERO_STD_GROUPS: float(sum(bool(group.rewards) and group.has_equal_rewards for group in groups)),
        names.MASKED_GROUPS: float(sum(not group.rewards for group in groups)),
        names.ROLLOUTS: float(len(scored)),
        names.MASKED_ROLLOUTS: float(sum(masked.values())),
        **{name: float(count) for name, count in sorted(masked.items())},
    }


def _times(scored: Sequence[ScoredRollout]) -> dict[str, list[float]]:
    """Seconds of each response by where they went."""
    engines = [item.rollout.times for item in scored if item.rollout.times is not None]
    found = {name: [times[place] for times in engines] for place, name in enumerate(names.ENGINE_TIMES)}
    ended = [(item, item.scored_at) for item in scored if item.scored_at is not None]
    found[names.WAIT_TIME] = [item.scoring_started_at - item.rollout.finished_at for item, _ in ended]
    found[names.SCORE_TIME] = [at - item.scoring_started_at for item, at in ended]
    return found
