"""Rewards as a service, and OpenAI's graders, by unmodified clients; the judge is a stand-in that counts its calls."""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from actors.scoring.judge_pool import JudgePool
from actors.scoring.scorers import Scorers
from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from docs.examples.trl_reward import ServiceReward
from rewards.judge import JudgeRequest
from rewards.settings import JudgeSettings, RewardSettings
from serve.rewards.reward_pool import RewardPool

CHECK = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}",
         "reference": "{{item.reference_answer}}"}  # fmt: skip
JUDGED = {"type": "score_model", "name": "judged", "model": "judge",
          "input": [{"role": "user", "content": "{{sample.output_text}}"}]}  # fmt: skip
SAMPLE = {"question": "May the ego vehicle go? Answer yes or no.", "answer": "Yes", "kind": "yes_no"}


class Judge:
    """Fills every sheet with the highest points."""

    identity, slots = "stand-in", 8

    def __init__(self) -> None:
        self.asked = 0

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        self.asked += 1
        return "{" + ", ".join(f'"{one.name}": {one.highest}' for one in request.criteria) + "}"

    async def stop(self) -> None:
        pass


JUDGE = Judge()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        part = service.service.part(RewardPool)
        settings = RewardSettings(judge=JudgeSettings(model="stand-in"))
        part.settings = settings
        part._scorers = Scorers(settings, JudgePool(JUDGE, settings.judge))  # type: ignore[arg-type]
        yield service


def post(served: Running, path: str, body: Any, **more: Any) -> httpx.Response:
    return served.call("POST", f"/v1{path}", served.key(**more), json=body)


def data_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_many_answers_are_scored_by_the_services_routes(served: Running) -> None:
    items = [{"sample": SAMPLE, "answer": answer} for answer in ("Yes", "No", "yes.")]
    data = data_of(post(served, "/rewards", {"items": items}))
    assert [one["value"] for one in data] == [100.0, 0.0, 100.0]
    assert [one["index"] for one in data] == [0, 1, 2]
    assert data[0]["parts"] == {"yes_no": 100.0}


def test_one_answer_needs_no_list_and_a_cut_one_is_worth_nothing(served: Running) -> None:
    (one,) = data_of(post(served, "/rewards", {"sample": SAMPLE, "answer": "Yes", "finish_reason": "length"}))
    assert (one["value"], one["parts"]) == (0.0, {"gate": 0.0, "gate_overlong": 1.0})


def test_a_grader_scores_in_place_of_the_routes_with_its_rubric(served: Running) -> None:
    (same,) = data_of(post(served, "/rewards", {"sample": SAMPLE, "answer": "Yes", "grader": CHECK}))
    assert same["value"] == 100.0
    rubric = {"type": "rubric", "name": "by_rubric", "rubric": "planning_vqa"}
    before = JUDGE.asked
    (one,) = data_of(post(served, "/rewards", {"sample": SAMPLE, "answer": "Yes, it may.", "grader": rubric}))
    assert one["value"] == 100.0
    assert one["rubrics"]["by_rubric"].startswith("planning_vqa@")
    assert one["parts"]
    assert JUDGE.asked == before + 1


def test_images_are_data_uris_and_are_checked(served: Running) -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    assert data_of(post(served, "/rewards", {"sample": SAMPLE | {"images": {"CAM_FRONT": uri}}, "answer": "Yes"}))
    for bad in ("/etc/passwd", uri[:60], "http://127.0.0.1/x.png"):
        answer = post(served, "/rewards", {"sample": SAMPLE | {"images": {"CAM_FRONT": bad}}, "answer": "Yes"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "items.0.sample.images.CAM_FRONT"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "items: Field required"),
        ({"items": []}, "items: List should have at least 1 item"),
        ({"items": [{"sample": SAMPLE, "answer": "x"}] * 257}, "items: List should have at most 256 items"),
        ({"sample": {"question": ""}, "answer": "x"}, "items.0.sample.question: String should have at least 1"),
        ({"sample": SAMPLE | {"kind": "odd"}, "answer": "x"}, "items.0.sample.kind"),
        ({"sample": SAMPLE | {"weather": "rain"}, "answer": "x"}, "items.0.sample.weather: this server does not know"),
        ({"sample": SAMPLE, "answer": "x", "grader": {"type": "python", "name": "p"}}, "a python grader is not served"),
        ({"sample": SAMPLE, "answer": "x", "grader": {"type": "clip", "name": "c"}}, "asks a CLIP, and there is none"),
        (
            {"sample": SAMPLE, "answer": "x", "grader": {"type": "coordinates", "name": "c"}},
            "items.0: the grader c needs coordinates",
        ),
        ({"sample": {"question": "Go?", "kind": "coordinates"}, "answer": "x"}, "items.0: "),
    ],
)
def test_what_is_wrong_with_a_request_is_one_sentence(served: Running, body: Any, sentence: str) -> None:
    answer = post(served, "/rewards", body)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]["message"]


def client(served: Running) -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key(), max_retries=0).fine_tuning.alpha.graders


def test_openais_client_tries_and_checks_graders(served: Running) -> None:
    graders = client(served)
    assert graders.validate(grader=CHECK).grader.name == "same"
    run = graders.run(grader=CHECK, model_sample="Go", item={"reference_answer": "Go"})
    assert (run.reward, run.metadata.type, run.metadata.scores) == (1.0, "string_check", {"same": 1.0})
    assert not any(getattr(run.metadata.errors, name) for name in ("other_error", "invalid_variable_error"))
    multi = {"type": "multi", "name": "m", "graders": {"a": CHECK, "b": JUDGED}, "calculate_output": "(a + b) / 2"}
    both = graders.run(grader=multi, model_sample="Go", item={"reference_answer": "Stop"})
    assert both.reward == pytest.approx(0.5)
    assert both.sub_rewards == {"a": 0.0, "b": 1.0}


def test_a_missing_field_of_an_item_is_reported_as_openai_reports_it(served: Running) -> None:
    run = client(served).run(grader=CHECK, model_sample="Go", item={})
    assert run.metadata.errors.invalid_variable_error
    assert run.reward == 0.0
    assert "to fill in" in run.metadata.model_dump()["failure"], "a zero says why"


@pytest.mark.parametrize(
    "grader", [{"type": "python", "name": "x", "source": "1"}, {"type": "nothing"}, CHECK | {"input": "{{x}}"}]
)
def test_a_grader_that_is_none_is_refused(served: Running, grader: Any) -> None:
    graders = client(served)
    with pytest.raises(openai.BadRequestError, match="grader: "):
        graders.validate(grader=grader)
    with pytest.raises(openai.BadRequestError, match="grader: "):
        graders.run(grader=grader, model_sample="Go")


def test_trl_is_given_a_reward_for_each_completion(served: Running) -> None:
    reward = ServiceReward(served.url, served.key())
    question = SAMPLE["question"]
    talked = [[{"role": "assistant", "content": "Yes"}], [{"role": "assistant", "content": "No"}]]
    columns = {"answer": ["Yes", "Yes"], "kind": ["yes_no", "yes_no"], "trainer_state": None}
    given = {key: value for key, value in columns.items() if key != "trainer_state"}
    assert reward([question] * 2, ["Yes", "No"], completion_ids=[[1], [2]], **given) == [1.0, 0.0]
    assert reward([[{"role": "user", "content": question}]] * 2, talked, **given) == [1.0, 0.0]
    assert reward.__name__ == "service"
    assert not inspect.iscoroutinefunction(reward)
