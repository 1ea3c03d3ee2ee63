"""`EpisodeDriver`: drives hundreds of episodes at once, a request to the engines for every turn of each.

The episodes move in waves. A wave asks the engines for its turn while another one moves in its worlds, so that neither
waits for the other longer than it must. Knows no learner.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from actors.driving.environments import Environments
from actors.driving.worker import Fault, Moved, Seen
from actors.rollout.pool import EnginePool
from data.episode import Start
from data.rollout import Refusal, Rollout, SamplingSettings
from data.settings import EnvironmentSettings
from rewards.episode import Episode, Turn

FRAMES = "frames"
"""Folder of a run for the images of turns that may have to be learnt from again."""


class EpisodeDriver:
    """Drives episodes with the policy that the engines hold."""

    def __init__(
        self, environments: Environments, engines: EnginePool, settings: EnvironmentSettings, folder: Path
    ) -> None:
        """Drive in these environments with these engines; images go below the run's `folder`."""
        self.environments, self.engines, self.settings = environments, engines, settings
        self._frames = folder / FRAMES

    async def drive(
        self, starts: Sequence[Start], count: int, sampling: SamplingSettings, draw: str
    ) -> tuple[list[Episode], dict[str, float]]:
        """`count` episodes from each start, side by side, and the metrics of driving them.

        Args:
            starts, count: where they begin, and how many from each.
            sampling: of every response.
            draw: what they are for (`step 3`): it names the folder of their images, and the seeds of the responses.

        Raises:
            ActorLost, ActorTimeout, RolloutExhausted: no engine or no worker is left.
        """
        began, folder = time.time(), self.folder_of(draw)
        shutil.rmtree(folder, ignore_errors=True)  # of a batch that a stop cut off
        episodes = [Episode(start, number) for start in starts for number in range(count)]
        waves = [wave for first in range(self.settings.waves) if (wave := episodes[first :: self.settings.waves])]
        await asyncio.gather(*(self._wave(wave, sampling, draw, str(folder)) for wave in waves))
        return episodes, figures(episodes, began, time.time())

    def folder_of(self, draw: str) -> Path:
        """Where the images of a draw lie."""
        return self._frames / draw.replace(" ", "-")

    def forget_frames(self, draw: str) -> None:
        """Remove the images of a draw that need not be seen again."""
        shutil.rmtree(self.folder_of(draw), ignore_errors=True)

    def forget_steps(self, last: int) -> None:
        """Remove the images of the steps up to `last`."""
        for folder in self._frames.glob("step-*"):
            if int(folder.name.removeprefix("step-")) <= last:
                shutil.rmtree(folder, ignore_errors=True)

    async def _wave(self, episodes: list[Episode], sampling: SamplingSettings, draw: str, folder: str) -> None:
        """Turn after turn, until the last of these episodes is over."""
        keys = {f"{draw} {episode.key}": episode for episode in episodes}
        begun = await self.environments.begin(folder, {key: episode.start for key, episode in keys.items()})
        seen = {key: one for key, one in begun.items() if isinstance(one, Seen)}
        self._note_faults(keys, begun)
        while seen:
            answered = await self._ask(keys, seen, sampling, draw)
            if not answered:
                break
            said = {key: (one.text, self._seconds(one)) for key, one in answered.items()}
            moved = await self.environments.move(folder, said)
            self._note_faults(keys, moved)
            for key, step in moved.items():
                if isinstance(step, Moved):
                    self._note_turn(keys[key], seen[key], answered[key], step)
            seen = {key: one.seen for key, one in moved.items() if isinstance(one, Moved) and one.seen is not None}
        await self.environments.forget(list(keys))

    async def _ask(
        self, keys: Mapping[str, Episode], seen: Mapping[str, Seen], sampling: SamplingSettings, draw: str
    ) -> dict[str, Rollout]:
        """The responses to one turn, by key; an episode whose prompt is refused fails."""
        asked = {key: keys[key].sample(one.question, one.images) for key, one in seen.items()}
        requests = self.engines.requests(list(asked.values()), 1, sampling, draw)
        owner = dict(zip((sample.id for sample in asked.values()), asked, strict=True))
        answered: dict[str, Rollout] = {}

        def take(rollout: Rollout) -> None:
            answered[owner[rollout.sample_id]] = rollout

        def refuse(refusal: Refusal) -> None:
            self._fail(keys[owner[refusal.sample_id]], f"refused: {refusal.why}")

        await self.engines.generate(requests, take, refuse)
        return answered

    def _note_turn(self, episode: Episode, seen: Seen, rollout: Rollout, moved: Moved) -> None:
        weights = self.settings.weights
        points = {name: weight * moved.measures.get(name, 0.0) for name, weight in weights.items()}
        sample = episode.sample(seen.question, seen.images)
        if moved.complete:  # the cap cut nothing off
            rollout = replace(rollout, finish_reason="stop")
        episode.turns.append(Turn(sample, rollout, points, moved.events, seen.state))
        if moved.seen is None:
            episode.record, episode.trace = moved.record, moved.trace

    def _note_faults(self, keys: Mapping[str, Episode], answers: Mapping[str, object]) -> None:
        for key, answer in answers.items():
            if isinstance(answer, Fault):
                self._fail(keys[key], answer.why)

    def _fail(self, episode: Episode, why: str) -> None:
        episode.failure = f"environment_{why}"
        self.environments.counts.failed[why.partition(":")[0]] += 1

    def _seconds(self, rollout: Rollout) -> float:
        return self.settings.seconds_per_token * len(rollout.token_ids)


def frames_of(step: int) -> str:
    """What the episodes of a step are drawn as."""
    return f"step {step}"


def figures(episodes: Sequence[Episode], began: float, ended: float) -> dict[str, float]:
    """The metrics of some episodes: what became of them, their scores, and how long the engines had nothing to do."""
    scored = [episode for episode in episodes if episode.failure is None]
    turns = [turn for episode in episodes for turn in episode.turns]
    busy = busy_seconds([(turn.rollout.started_at, turn.rollout.finished_at) for turn in turns])
    found = {
        "episodes": float(len(episodes)),
        "episodes/failed": float(len(episodes) - len(scored)),
        "episodes/turns": float(len(turns)),
        "episodes/drive_s": ended - began,
        "episodes/engine_wait_s": max(0.0, ended - began - busy),
        "episodes/unknown_actions": float(
            sum(event.startswith("unknown_action") for turn in turns for event in turn.events)
        ),
    }
    if scored:
        found["episodes/score"] = statistics.fmean(episode.score for episode in scored)
        found["episodes/collisions"] = statistics.fmean(
            sum(event.startswith("collision") for turn in episode.turns for event in turn.events) for episode in scored
        )
    return found


def busy_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that at least one of the spans (from, to) covers."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered
