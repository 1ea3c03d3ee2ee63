"""What a weight sync finds out: one fault at a time between sound syncs, on one engine and one learner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from safetensors.torch import load_file

from actors.crew import Crew
from actors.training import Run, prepare
from actors.warm_start import demonstrations
from actors.weight_sync import SyncReport
from data.quarantine import Quarantine
from failures import SyncError
from policies.algorithms.supervised import Supervised
from recipe import load_recipe
from tests.integration import faults
from tests.integration.conftest import ROOT, SMALL, any_node

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session"), pytest.mark.asyncio(loop_scope="module")]

Started = tuple[Run, Crew]


async def start(folder: Path, engine_class: type[Any], *overrides: str) -> Started:
    recipe = load_recipe([str(ROOT / "recipes/tiny.yaml"), f"run.root={folder}", *SMALL, *overrides])
    run = prepare(recipe)
    crew = await Crew.start(
        recipe,
        run.source,
        any_node,
        run.probes,
        run.encoder,
        Quarantine(run.folder, len(run.data.split.train), 0.1, print),
        learner_class=faults.FaultyLearner,
        engine_class=engine_class,
    )
    return run, crew


async def end(crew: Crew) -> None:
    await crew.stop()
    crew.learners.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Started]:
    run, crew = await start(tmp_path_factory.mktemp("sync"), faults.FaultyEngine)
    await crew.sync.publish(0)
    yield run, crew
    await end(crew)


async def published(started: Started) -> SyncReport:
    """The next version: weights that an update has moved."""
    run, crew = started
    (portion,) = crew.learners.portions(demonstrations(run.encoder, run.data.split.train[:4]))
    await crew.learners.update(portion, Supervised(), lr=3e-3)
    return await crew.sync.publish(crew.sync.version + 1)


async def switch(crew: Crew, fault: str | None) -> None:
    (engine,) = crew.engines.engines.members
    await engine.call(300.0, "switch", fault)


def gap_of(report: SyncReport) -> float:
    assert report.gap is not None, "no engine was there to be asked"
    return report.gap.largest


async def test_a_byte_that_changes_on_the_way_is_found_with_its_bucket(started: Started) -> None:
    (learner,) = started[1].learners.ranks
    assert gap_of(await published(started)) < 1e-4
    await learner.damage.remote(True)
    with pytest.raises(SyncError, match=r"rollout engine 0 received bucket\(s\) \[0\].*in transit"):
        await published(started)
    await learner.damage.remote(False)
    assert gap_of(await published(started)) < 1e-4


@pytest.mark.parametrize("fault", ["perturbed weight", "stale images"])
async def test_what_no_checksum_can_see_is_found_by_the_probes(started: Started, fault: str) -> None:
    assert gap_of(await published(started)) < 1e-4
    await switch(started[1], fault)
    with pytest.raises(SyncError, match=r"sync\.max_logprob_gap"):
        await published(started)
    await switch(started[1], None)
    assert gap_of(await published(started)) < 1e-4


async def test_biases_that_an_engine_keeps_in_float32_are_the_same_weights(tmp_path: Path) -> None:
    half = ("policy.dtype=bfloat16", "sync.max_logprob_gap=0.2")
    _, crew = await start(tmp_path, faults.EngineWithWideBiases, *half)
    report = await crew.sync.publish(0)
    await crew.learners.export(tmp_path / "policy")
    await end(crew)
    biases = [name for name in load_file(tmp_path / "policy/model.safetensors") if name.endswith("bias")]
    assert report.compared > len(biases), "norms and embeddings are compared too"
    assert report.incomparable > 0, "fused and packed weights are not"
