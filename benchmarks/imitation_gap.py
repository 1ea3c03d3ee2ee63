"""The imitation gap without pictures: in the closed-loop world a small network is given, as numbers, what is in sight.

    python -m benchmarks.imitation_gap [--seeds 3] [--credit place|turn] [--discount 0.99]

In seconds, and with no engine: what imitation of the expert reaches, what imitation of as many more scenarios as RL
drives does (the control), and what RL does from the same start. `benchmarks/closed_loop.py` asks the same of a
vision-language policy on the real stack; `--credit` and `--discount` are those of `environment` in its recipe. Prints,
last, one JSON object; driving scores are Bench2Drive's, on held-out scenarios and on held-out families, with the
paired bootstrap over the scenarios of all seeds.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.driving.actions import ACTIONS
from data.driving.environment import Driving, DrivingSettings
from data.driving.expert import expert_action
from data.driving.families import FAMILIES, HELD_OUT, build_scenario
from data.driving.record import bench2drive_record
from data.driving.sensing import DISTANCES, NOTHING, coming, distance_word, in_the_way, is_dark, sight, visible
from data.driving.world import LENGTH, World
from data.episode import Start, StartOrder, measured_starts
from data.settings import EnvironmentSettings
from evaluation.driving import paired_gain
from evaluation.metrics.bench2drive import composed_score
from rewards.episode import discounted, met, places

WORDS = [word for _, word in DISTANCES] + [NOTHING]
INDEX = {action: index for index, action in enumerate(ACTIONS)}
HIDDEN_UNITS, DEMONSTRATED, EACH = 128, 132, 10
"""Units of a layer, scenarios that the first imitation copies, measured starts of each family."""
STEPS, GROUP, LR, CLIP = 15, 8, 1e-3, 0.2
"""Of RL: steps of one start from each family, episodes from each start, learning rate, clip of the ratio."""
PATIENCE = 4
LATE = (0.2, 0.4)
"""Seconds that an answer takes in further measurements of what RL left; the world goes on meanwhile."""

Turn = tuple[Tensor, int, float, float, float]
"""Features, action, log-probability, points, and those of them for progress."""


def features(world: World) -> list[float]:
    """What the six cameras and the dashboard show: kinds and distances of what is in sight, nothing that is hidden."""
    scenario, far = world.scenario, 99.0
    seen = visible(world)

    def nearest(*kinds: str) -> float:
        return min((user.s - world.s - 2.0 for user in seen if user.kind in kinds), default=far)

    light = scenario.light
    red = far
    if light is not None and light.red and 0.0 < light.s - world.s - LENGTH / 2 < sight(world):
        red = light.s - world.s - LENGTH / 2
    parked = (
        user.s - world.s - 4.0 for user in seen if user.kind == "car" and user.script == "still" and user.d > -2.3
    )
    distances = [
        nearest("van", "bus"),
        nearest("building"),
        nearest("hedge"),
        red,
        min(coming(world), default=far),
        min(parked, default=far),
        min((gap for gap, _ in in_the_way(world)), default=far),
    ]
    bent = scenario.road.curvature(world.s + 8.0) != 0.0 and scenario.road.radius < 20.0
    flags = [scenario.warning, scenario.fog is not None, is_dark(world), bent]
    words = [float(distance_word(gap) == word) for gap in distances for word in WORDS]
    return [round(world.speed) / 10, scenario.limit / 10, *map(float, flags), *words]


def network() -> nn.Sequential:
    """Two hidden layers."""
    inputs = len(features(World.begin(build_scenario("bend", 0))))
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN_UNITS),
        nn.Tanh(),
        nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
        nn.Tanh(),
        nn.Linear(HIDDEN_UNITS, len(ACTIONS)),
    )


def demonstrated(starts: Sequence[Start]) -> tuple[Tensor, Tensor]:
    """The expert's drives: features and actions of every turn."""
    rows, actions = [], []
    for start in starts:
        world = World.begin(build_scenario(start.scenario, start.seed))
        while not world.over:
            action = expert_action(world)
            rows.append(features(world))
            actions.append(INDEX[action])
            world.act(action)
    return torch.tensor(rows), torch.tensor(actions)


def imitate(policy: nn.Module, shown: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> None:
    """Copy until the held-out loss stops falling; ends with the best weights."""
    optimizer, best, since = torch.optim.Adam(policy.parameters(), 2e-3), float("inf"), 0
    kept = copy.deepcopy(policy.state_dict())
    while since < PATIENCE:
        for part in torch.randperm(len(shown[1])).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(policy(shown[0][part]), shown[1][part]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(functional.cross_entropy(policy(held_out[0]), held_out[1]))
        since = 0 if loss < best else since + 1
        if loss < best:
            best, kept = loss, copy.deepcopy(policy.state_dict())
    policy.load_state_dict(kept)


@torch.no_grad()
def drive(
    policy: nn.Module, starts: Sequence[Start], *, greedy: bool, seconds: float = 0.0
) -> tuple[list[Driving], list[list[Turn]]]:
    """Episodes side by side, each answer taking `seconds` seconds; what there is to know of every turn."""
    weights = EnvironmentSettings().weights
    episodes = [Driving(DrivingSettings()) for _ in starts]
    for episode, start in zip(episodes, starts, strict=True):
        episode.world = World.begin(build_scenario(start.scenario, start.seed))
    turns: list[list[Turn]] = [[] for _ in starts]
    while running := [number for number, episode in enumerate(episodes) if not episode.world.over]:
        rows = torch.tensor([features(episodes[number].world) for number in running])
        logprobs = policy(rows).log_softmax(-1)
        chosen = logprobs.argmax(-1) if greedy else torch.distributions.Categorical(logits=logprobs).sample()
        for row, number, action in zip(range(len(running)), running, chosen.tolist(), strict=True):
            measures = episodes[number].act(ACTIONS[action], seconds)
            points = {name: weights[name] * value for name, value in measures.items()}
            logprob = float(logprobs[row, action])
            turns[number].append((rows[row], action, logprob, sum(points.values()), points["progress"]))
    return episodes, turns


def reinforce(policy: nn.Module, order: StartOrder, credit: str, discount: float) -> None:
    """Each turn is compared with the siblings' in that turn, or at that place; four clipped updates a step."""
    optimizer = torch.optim.Adam(policy.parameters(), LR)
    for _ in range(STEPS):
        starts = [Start.of(sample) for sample in order.take(len(FAMILIES)) for _ in range(GROUP)]
        _, turns = drive(policy, starts, greedy=False)
        returns = [discounted([points for *_, points, _ in episode], discount) for episode in turns]
        if credit == "place":
            reached = [places([progress for *_, progress in episode]) for episode in turns]
        else:
            reached = [[float(turn) for turn in range(len(episode))] for episode in turns]
        rows, actions, old, advantages = [], [], [], []
        for first in range(0, len(turns), GROUP):
            siblings = range(first, first + GROUP)
            for number in range(GROUP):
                for turn, (row, action, logprob, _, _) in enumerate(turns[first + number]):
                    there = met([reached[sibling] for sibling in siblings], number, turn)
                    mean = statistics.fmean(returns[first + other][at] for other, at in there.items())
                    rows.append(row)
                    actions.append(action)
                    old.append(logprob)
                    advantages.append((returns[first + number][turn] - mean) / 100.0)
        batch = torch.stack(rows), torch.tensor(actions), torch.tensor(old), torch.tensor(advantages)
        for part in torch.randperm(len(rows)).split(-(-len(rows) // 4)):
            seen, taken, before, worth = (one[part] for one in batch)
            ratio = (policy(seen).log_softmax(-1).gather(1, taken[:, None])[:, 0] - before).exp()
            loss = -torch.min(ratio * worth, ratio.clamp(1 - CLIP, 1 + CLIP) * worth).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


Scores = dict[str, list[tuple[str, float]]]
"""By part, `scenarios` or `families`: family and driving score of each measured start."""


def scores(policy: nn.Module, seed: int, seconds: float = 0.0) -> Scores:
    """Driving scores of the measured starts, greedily driven, each answer taking `seconds` seconds."""
    found = {}
    for part, families in (("scenarios", FAMILIES), ("families", HELD_OUT)):
        episodes, _ = drive(policy, measured_starts(list(families), EACH, seed), greedy=True, seconds=seconds)
        worlds = [episode.world for episode in episodes]
        found[part] = [(world.scenario.family, composed_score(bench2drive_record(world))) for world in worlds]
    return found


def expert_scores(seed: int) -> Scores:
    """The same of the expert."""
    found: Scores = {}
    for part, families in (("scenarios", FAMILIES), ("families", HELD_OUT)):
        found[part] = []
        for start in measured_starts(list(families), EACH, seed):
            world = World.begin(build_scenario(start.scenario, start.seed))
            while not world.over:
                world.act(expert_action(world))
            found[part].append((start.scenario, composed_score(bench2drive_record(world))))
    return found


def one_seed(seed: int, credit: str, discount: float) -> dict[str, Scores]:
    """Scores of the expert, of its copy, of RL from there, and of the control."""
    torch.manual_seed(seed)
    families = list(FAMILIES)
    first = seed * 10_000

    def starts(count: int, begin: int) -> list[Start]:
        return [Start(families[n % len(families)], begin + n // len(families)) for n in range(count)]

    held_out, shown = demonstrated(starts(44, first + 5_000)), demonstrated(starts(DEMONSTRATED, first))
    policy = network()
    imitate(policy, shown, held_out)
    control = copy.deepcopy(policy)
    found = {"expert": expert_scores(seed), "before": scores(policy, seed)}
    reinforce(policy, StartOrder(families, seed), credit, discount)
    found["after"] = scores(policy, seed)
    for seconds in LATE:
        found[f"after_{seconds:g}s_late"] = scores(policy, seed, seconds)
    fresh = [Start.of(sample) for sample in StartOrder(families, seed).take(STEPS * len(families))]
    more = demonstrated(fresh)
    imitate(control, (torch.cat((shown[0], more[0])), torch.cat((shown[1], more[1]))), held_out)
    found["control"] = scores(control, seed)
    return found


def by_family(runs: Sequence[dict[str, Scores]]) -> dict[str, dict[str, float]]:
    """Mean driving score of each family under each policy."""
    found: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        rows = [row for run in runs for part in run[name].values() for row in part]
        for family in (*FAMILIES, *HELD_OUT):
            own = [score for other, score in rows if other == family]
            found.setdefault(family, {})[name] = round(statistics.fmean(own), 1)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds are pooled")
    parser.add_argument("--credit", choices=("place", "turn"), default="place", help="what a turn is compared with")
    parser.add_argument("--discount", type=float, default=0.99, help="what a point is worth one turn later")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, runs = time.time(), [one_seed(seed, given.credit, given.discount) for seed in range(given.seeds)]
    found: dict[str, object] = {"seeds": given.seeds, "credit": given.credit, "discount": given.discount}
    found["seconds"] = round(time.time() - began, 1)
    for part in ("scenarios", "families"):
        pooled = {name: [score for run in runs for _, score in run[name][part]] for name in runs[0]}
        for name, values in pooled.items():
            found[f"{part}_{name}"] = round(statistics.fmean(values), 1)
            means = [statistics.fmean(score for _, score in run[name][part]) for run in runs]
            found[f"{part}_{name}_by_seed"] = [round(mean, 1) for mean in means]
        for other in ("before", "control"):
            gain = paired_gain(pooled[other], pooled["after"])
            found[f"{part}_gain_over_{other}"] = {name: round(value or 0.0, 1) for name, value in gain.items()}
    found["by_family"] = by_family(runs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
