"""A simulated run: the real driver on a clock that jumps, against actors that only take time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cluster.errors import PlanError
from cluster.facts import load_facts
from cluster.forecast import Assumptions
from cluster.planned import plan
from cluster.simulation import clock
from cluster.simulation.clock import Stuck, run_simulated
from cluster.simulation.page import write_simulation_page
from cluster.simulation.run import NOTHING, Simulated, simulate
from cluster.simulation.scaled import gpus_of, scaled
from cluster.simulation.server import Decoded, Server
from cluster.simulation.timeline import Row
from cluster.simulation.world import Troubles
from recipe import load_recipe

ROOT = Path(__file__).parents[2]
DRIVERX = str(ROOT / "recipes/driverx_grpo.yaml")
SMALL = ("rollout.prompts_per_step=16", "rollout.group_size=4", "learner.ranks=4", "rollout.engines=4")


def run(*overrides: str, steps: int = 4, troubles: Troubles = NOTHING, gpus: int = 16) -> Simulated:
    recipe = load_recipe([DRIVERX, *SMALL, *overrides])
    return simulate(recipe, Assumptions(load_facts(), {}), gpus, steps, troubles)


@pytest.fixture(scope="module")
def ahead() -> Simulated:
    return run()


# --- the clock ------------------------------------------------------------------------------------------------------


def test_an_hour_is_slept_on_the_simulated_clock_alone() -> None:
    async def sleep() -> float:
        async with asyncio.timeout(4000.0):
            await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    assert run_simulated(sleep()) == (3600.0, 3600.0)


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def both() -> tuple[int, float]:
        waiting = asyncio.create_task(asyncio.sleep(3600.0))
        found = await asyncio.to_thread(sum, range(100_000))
        moment = asyncio.get_running_loop().time()
        await waiting
        return found, moment

    (found, moment), seconds = run_simulated(both())
    assert (found, moment, seconds) == (sum(range(100_000)), 0.0, 3600.0)


def test_a_run_that_waits_for_nothing_ends_by_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LONGEST_SILENCE_S", 0.01)

    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="that nobody will do"):
        run_simulated(forever())


# --- the server -----------------------------------------------------------------------------------------------------


def ended(
    *tokens: float, at_once: int = 2, prefill_s: float = 0.0, dropped: int | None = None, paused_at: float | None = None
) -> list[float]:
    """When each of some sequences ends, where a step of `n` takes `n` seconds, and a pause ten."""
    ends = dict[int, float]()

    async def decode() -> None:
        loop = asyncio.get_running_loop()
        server = Server(lambda active, context: float(active), at_once, Row("one", "decoding"))
        begun = [
            Decoded(10, count, prefill_s, lambda one: ends.update({one.about: loop.time()}), number)
            for number, count in enumerate(tokens)
        ]
        for one in begun:
            server.begin(one)
        if dropped is not None:
            server.drop(begun[dropped])
        if paused_at is not None:
            await asyncio.sleep(paused_at)
            server.pause()
            await asyncio.sleep(10.0)
            server.resume()
        await asyncio.sleep(1000.0)

    run_simulated(decode())
    return [ends[number] for number in sorted(ends)]


def test_sequences_advance_together_and_faster_once_one_has_ended() -> None:
    assert ended(2, 5) == pytest.approx([4.0, 7.0])


def test_what_finds_no_place_waits_and_prompts_hold_everyone_up() -> None:
    assert ended(2, 2, 3) == pytest.approx([4.0, 4.0, 7.0])
    assert ended(2, 5, prefill_s=1.0) == pytest.approx([6.0, 9.0])


def test_a_pause_puts_everything_off_by_as_much() -> None:
    assert ended(2, 5, paused_at=3.0) == pytest.approx([14.0, 17.0])
    assert ended(2, 5, paused_at=0.0) == pytest.approx([14.0, 17.0])
    assert ended(2, 5, prefill_s=1.0, paused_at=1.5) == pytest.approx([16.0, 19.0]), "amid the prompts"
    assert ended(2, 2, 3, paused_at=3.0) == pytest.approx([14.0, 14.0, 17.0]), "one waits for a place meanwhile"


def test_what_is_dropped_takes_no_time() -> None:
    assert ended(4, 5, dropped=0) == pytest.approx([5.0])


# --- a run ----------------------------------------------------------------------------------------------------------


def test_generation_runs_ahead_as_far_as_the_recipe_lets_it(ahead: Simulated) -> None:
    assert [step["staleness"] for step in ahead.steps] == [0.0, 1.0, 1.0, 1.0]
    waiting = run("rollout.max_staleness=0")
    assert {step["staleness"] for step in waiting.steps} == {0.0}
    assert waiting.step_s > ahead.step_s
    for one in (ahead, waiting):
        assert 0.5 < one.step_s / one.predicted_step_s < 1.6, "the plan's arithmetic, and what queues make of it"


def test_engines_that_lie_on_learner_ranks_take_turns_with_them() -> None:
    halves = ["rollout.gpus=0.5", "learner.gpus=0.5", "learner.zero_stage=2", "cluster.rollout_label=null"]
    halves += ["rollout.options.sleep_mode=true", "rollout.options.gpu_cache_gib=8"]
    alone = run(*halves, "rollout.on_learners=4", "rollout.max_staleness=0", gpus=12)
    lent = run(*halves, "rollout.on_learners=2", "rollout.options.max_concurrent=16", gpus=14)
    for one, guests in ((alone, 4), (lent, 2)):
        for number in range(guests):
            engine, rank = one.timeline.rows[f"engine {number}"], one.timeline.rows[f"learner {number}"]
            assert any(span.kind == "swapping" for span in engine.spans)
            assert not together(engine, rank), "one works while the other sleeps"
    assert 0.5 < alone.step_s / alone.predicted_step_s < 1.6
    assert max(step["staleness"] for step in lent.steps) == 1, "the others generate meanwhile"
    other = lent.timeline.rows["engine 2"]
    assert not any(span.kind == "swapping" for span in other.spans)
    assert together(other, lent.timeline.rows["learner 0"])


def together(engine: Row, rank: Row) -> list[float]:
    """When both work."""
    works = [(span.began, span.ended) for span in rank.spans if span.kind == "learning"]
    said = [(span.began, span.ended) for span in engine.spans if span.kind == "generating"]
    return [max(a, c) for a, b in works for c, d in said if min(b, d) - max(a, c) > 1e-6]


def test_what_processes_did_fills_the_time_and_no_more(ahead: Simulated) -> None:
    assert set(ahead.busy) == {"generating", "judging", "learning"}
    assert all(0 < share <= 1 for share in ahead.busy.values())
    assert len(ahead.timeline.of("generating")) == ahead.recipe.rollout.engines
    assert ahead.as_dict()["losses"] == 0


def test_a_run_outlives_actors_and_nodes_that_are_lost() -> None:
    many = Troubles(losses_per_hour=40.0, spot_per_hour=5.0, spot_back_s=60.0)
    often = ("learner.restarts=100", "rollout.restarts=100", "reward.judge.restarts=100", "rollout.dispatches=100")
    found = run(*often, "learner.ranks=8", "rollout.engines=8", troubles=many, steps=8, gpus=24)
    figures = found.as_dict()
    assert len(found.steps) == 8
    assert figures["losses"] > 1
    assert figures["learner_restarts"] > 0
    assert max(step["staleness"] for step in found.steps) <= 1


def test_a_run_that_would_not_outlive_its_losses_says_where_it_ends() -> None:
    with pytest.raises(PlanError, match=r"on 16 GPUs the run would end in step \d of 4, as a real one: "):
        run("learner.restarts=0", troubles=Troubles(losses_per_hour=600.0))


def test_slow_judges_make_scores_wait(ahead: Simulated) -> None:
    slow = run(troubles=Troubles(slow_judge_share=0.3, slow_judge_times=50.0)).as_dict()
    assert slow["score_wait_s_p99"] > ahead.as_dict()["score_wait_s_p99"]


# --- more and fewer GPUs --------------------------------------------------------------------------------------------


def test_roles_keep_their_shares_of_more_and_fewer_gpus() -> None:
    recipe = load_recipe([DRIVERX])
    for gpus in (16, 64, 512):
        other = scaled(recipe, gpus)
        assert abs(gpus_of(other) - gpus) <= 1
        assert other.rollout.prompts_per_step >= other.learner.ranks
        responses = [one.run.steps * one.rollout.prompts_per_step for one in (recipe, other)]
        assert responses[0] == pytest.approx(responses[1], rel=0.01)
    grown = scaled(recipe, 48, grow=True)
    assert (grown.rollout.prompts_per_step, grown.run.steps) == (256, 117)
    assert scaled(recipe, 24) is recipe
    halves = ["rollout.gpus=0.5", "learner.gpus=0.5", "learner.zero_stage=2", "rollout.max_staleness=0"]
    halves.append("cluster.rollout_label=null")
    shared = scaled(load_recipe([DRIVERX, *halves, "rollout.on_learners=8"]), 40)
    assert shared.rollout.on_learners == shared.rollout.engines == shared.learner.ranks
    assert gpus_of(shared) == 40
    lent = load_recipe([DRIVERX, *SMALL, *halves[:3], "cluster.rollout_label=null", "rollout.on_learners=3"])
    assert gpus_of(lent) == 4 + 1 + 8, "ranks have whole GPUs with a guest each, and so has the engine without"
    assert scaled(lent, 18).rollout.on_learners < scaled(lent, 18).rollout.engines, "one goes on all the time"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--gpus", "9"], "9 GPUs have no room for one process of each role"),
        (["--steps", "2"], "--steps 2: the first 2 steps are not counted"),
        (["--slow-judges", "2"], "--slow-judges 2 must be a share from 0 to 1"),
        (["--losses-per-hour", "-1"], "--losses-per-hour -1 must be 0 or more"),
        (["reward.judge.url=http://localhost:1/v1"], "its judge is a URL's"),
        (["rollout.max_engines=12"], "it has rollout.max_engines, and no nodes join here"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_sentence(given: list[str], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan([DRIVERX, "--simulate", *given])


def test_a_recipe_for_cpus_is_refused() -> None:
    with pytest.raises(PlanError, match="times are predicted for GPUs alone"):
        plan([str(ROOT / "recipes/tiny.yaml"), "--simulate"])


# --- what is shown --------------------------------------------------------------------------------------------------


def test_the_page_draws_the_first_steps_and_fetches_nothing(ahead: Simulated, tmp_path: Path) -> None:
    page = write_simulation_page(tmp_path / "deep" / "sim.html", "<b>run</b>", [ahead, ahead]).read_text()
    assert page.count('class="chart gantt"') == 2
    assert "learner 0: learning, " in page
    assert "weight sync" in page
    assert "step 3 ends" in page
    assert "&lt;b&gt;run&lt;/b&gt;" in page
    assert "Side by side" in page
    assert "src=" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_one_line_of_json_says_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan([DRIVERX, *SMALL, "--simulate", "--steps", "3", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert set(found) == {"simulations", "wall_s", "driver_cpu_share"}
    assert found["simulations"][0]["driver_cpu_share"] == found["driver_cpu_share"] > 0
