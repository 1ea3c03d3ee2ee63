"""The preflight over a real transport: gloo between a real learner and a real engine, and the tiny judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.crew import Crew
from actors.preflight import BEFORE, try_judge, try_weights
from actors.training import prepare
from actors.warm_start import demonstrations
from data.quarantine import Quarantine
from policies.algorithms.supervised import Supervised
from recipe import load_recipe
from tests.integration.conftest import QUICK_ENGINE, ROOT, SMALL, any_node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


async def test_weights_and_a_judgement_travel_before_the_first_step(tmp_path: Path) -> None:
    own = (f"run.root={tmp_path}", *SMALL, QUICK_ENGINE, "sync.transport=gloo")
    recipe = load_recipe([str(ROOT / "recipes/tiny_judge.yaml"), *own])
    run = prepare(recipe)
    quarantine = Quarantine(run.folder, len(run.data.split.train), 0.1, print)
    crew = await Crew.start(recipe, run.source, any_node, run.probes, run.encoder, quarantine)
    try:
        assert await try_judge(crew, run.probes) is not None
        assert crew.scorers.judge is not None
        assert crew.scorers.judge.counts.judged == 1
        await try_weights(crew)
        assert (crew.sync.version, crew.sync.learnt) == (BEFORE, None)
        (portion,) = crew.learners.portions(demonstrations(run.encoder, run.data.split.train[:4]))
        await crew.learners.update(portion, Supervised(), lr=3e-3)
        report = await crew.sync.publish(0)
        assert report.gap is not None
        assert report.gap.largest < 1e-4, "other weights than those that were tried"
    finally:
        await crew.stop()
        crew.learners.stop()
