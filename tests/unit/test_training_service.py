"""The training service with the unmodified Tinker client, around a learner that is one number: order, once, after all.

A step that is taken twice, left out or out of order shows in every later number.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker
from PIL import Image
from sqlalchemy import select
from tinker import types

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from benchmarks.stub_workers import StubPool, StubTrainer
from serve.database.tables import Model
from serve.errors import ServiceError
from serve.tenants.quotas import Quotas

PNG = io.BytesIO()
Image.new("RGB", (40, 24), (90, 120, 60)).save(PNG, "PNG")
ADAM = types.AdamParams(learning_rate=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def served(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        yield service


def client(served: Running, tenant: str = "lab", **more: Any) -> tinker.ServiceClient:
    return tinker.ServiceClient(base_url=served.url, api_key=served.key(tenant, **more))


def datum(weight: float = 1.0, images: int = 1, expected: int | None = 4) -> types.Datum:
    image = types.ImageChunk(data=PNG.getvalue(), format="png", expected_tokens=expected)
    chunks = [types.EncodedTextChunk(tokens=[40, 41, 42]), *[image] * images, types.EncodedTextChunk(tokens=[43, 44])]
    length = 5 + 4 * images
    weights = np.zeros(length, np.float32)
    weights[-1] = weight
    inputs: dict[str, Any] = {"target_tokens": np.arange(length) + 40, "weights": weights}
    return types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs=inputs)


def loss_of(policy: Any) -> float:
    """The learner's number, as it shows in a loss."""
    return float(policy.forward([datum()], "cross_entropy").result().metrics["loss:sum"])


def steps(policy: Any, count: int) -> list[float]:
    """Losses of some supervised steps, sent without waiting in between."""
    sent = [(policy.forward_backward([datum()], "cross_entropy"), policy.optim_step(ADAM)) for _ in range(count)]
    return [looked.result().metrics["loss:sum"] for looked, stepped in sent if stepped.result()]


def test_steps_that_are_in_flight_together_are_taken_in_their_order(served: Running) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
    np.testing.assert_allclose(steps(policy, 5), [1.0, 0.9, 0.8, 0.7, 0.6], atol=1e-6)


def test_chunks_of_a_large_request_come_back_in_its_order(served: Running) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
    result = policy.forward_backward([datum(images=0) for _ in range(2100)], "cross_entropy").result()
    assert len(result.loss_fn_outputs) == 2100
    assert result.metrics["datums:sum"] == 2100


def test_a_custom_loss_and_the_next_step_go_on_from_each_other(served: Running) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()

    def custom(data: list[types.Datum], logprobs: list[Any]) -> tuple[Any, dict[str, float]]:
        return sum(row.sum() for row in logprobs), {"rows": float(len(logprobs))}

    assert policy.forward_backward_custom([datum()], custom).result().metrics["rows"] == 1.0
    policy.optim_step(ADAM).result()
    assert loss_of(policy) != 1.0


@pytest.mark.parametrize(
    ("send", "said"),
    [
        (
            lambda p: p.forward_backward([datum(expected=5)], "cross_entropy"),
            "expected_tokens is 5, and this model makes 4",
        ),
        (lambda p: p.forward_backward([datum()], "dro"), "loss_fn 'dro' is not served here; served are cross_entropy"),
        (lambda p: p.forward_backward([datum()], "ppo"), "weights is not read by ppo"),
        (lambda p: p.forward_backward([datum()], "cross_entropy", {"beta": 1.0}), "has no option 'beta'"),
        (lambda p: p.optim_step(ADAM), "no gradient waits for a step"),
        (lambda p: p.save_state("a name"), "is no name"),
    ],
)
def test_what_is_wrong_fails_through_its_future_and_the_next_call_goes_on(
    served: Running, send: Any, said: str
) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
    with pytest.raises(tinker.RequestFailedError, match=said):
        send(policy).result()
    np.testing.assert_allclose(steps(policy, 2), [1.0, 0.9], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"no image at all", "is no readable PNG image"),
        (PNG.getvalue()[:60], "is truncated or damaged"),
    ],
)
def test_an_image_that_is_none_is_named(served: Running, image: bytes, said: str) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
    chunks = [types.ImageChunk(data=image, format="png", expected_tokens=4)]
    inputs: dict[str, Any] = {"target_tokens": np.zeros(4, np.int64)}
    bad = types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs=inputs)
    with pytest.raises(tinker.RequestFailedError, match=said):
        policy.forward_backward([bad], "cross_entropy").result()
    assert loss_of(policy) == pytest.approx(1.0)


def test_a_model_that_cannot_be_had_is_refused_with_what_can(served: Running) -> None:
    service = client(served)
    with pytest.raises(tinker.RequestFailedError, match="adapters of a rank up to 64"):
        service.create_lora_training_client(base_model=served.service.base, rank=512).result()
    with pytest.raises(tinker.RequestFailedError, match="is not served here"):
        service.create_lora_training_client(base_model="some/other", rank=8).result()


def test_a_model_made_from_a_checkpoint_goes_on_where_it_was_saved(served: Running) -> None:
    service = client(served)
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    steps(policy, 3)
    saved = policy.save_state("three").result().path
    steps(policy, 2)
    again = service.create_training_client_from_state(saved).result()
    assert loss_of(again) == pytest.approx(0.7)
    assert loss_of(policy) == pytest.approx(0.5)


def test_samples_carry_one_id_each_and_prompts_are_scored(served: Running) -> None:
    policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
    sampler = policy.save_weights_and_get_sampling_client().result()
    prompt = datum().model_input
    answer = sampler.sample(prompt, 3, types.SamplingParams(max_tokens=5, temperature=0.7)).result()
    assert len({one.sequence_id for one in answer.sequences}) == 3
    words = datum(images=0).model_input
    scored = sampler.compute_logprobs(words, 2).result()
    assert len(scored) == words.length
    assert [one is None for one in scored[-3:]] == [True, False, False]


def test_training_runs_and_checkpoints_are_listed(served: Running) -> None:
    service = client(served, "lister")
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    path = policy.save_state("kept").result().path
    rest = tinker.RestClient(base_url=served.url, api_key=served.key("lister"))
    assert [run.training_run_id for run in rest.list_training_runs().result().training_runs] == [policy.model_id]
    assert [one.tinker_path for one in rest.list_user_checkpoints().result().checkpoints] == [path]
    assert rest.get_weights_info_by_tinker_path(path).result().lora_rank == 4
    rest.delete_checkpoint_from_tinker_path(path).result()
    assert rest.list_user_checkpoints().result().checkpoints == []


def test_quotas_fail_through_the_future_and_say_what_is_left(served: Running) -> None:
    small = Quotas(tokens_per_day=30, models=1)
    service = client(served, "poor", quotas=small)
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    with pytest.raises(tinker.RequestFailedError, match=r"quota is 1 \(models\)"):
        service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    policy.forward_backward([datum()], "cross_entropy").result()
    with pytest.raises(tinker.RequestFailedError, match="of today's 30 are left"):
        policy.forward_backward([datum(), datum(), datum()], "cross_entropy").result()


def raw_step(served: Running, key: str, model: str, seq: int, lr: float = 0.1) -> Any:
    body = {"model_id": model, "seq_id": seq, "type": "optim_step", "adam_params": {"learning_rate": lr}}
    return served.call("POST", "/api/v1/optim_step", key, json=body)


def test_the_same_request_posted_twice_is_one_request_and_another_body_is_refused(served: Running) -> None:
    key = served.key()
    service = tinker.ServiceClient(base_url=served.url, api_key=key)
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    policy.forward_backward([datum()], "cross_entropy").result()
    first, second = (raw_step(served, key, policy.model_id, 2) for _ in range(2))
    assert (first.status_code, first.json()) == (200, second.json())
    other = raw_step(served, key, policy.model_id, 2, lr=0.5)
    assert other.status_code == 422
    assert "already used for another request" in other.json()["detail"]
    assert loss_of_raw(served, key, policy.model_id, first.json()["request_id"]) == 1.0


@pytest.mark.parametrize("times", [1, 3])
def test_a_request_that_is_on_disk_and_not_in_line_is_taken_up_once_when_it_is_sent_again(
    served: Running, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    key = served.key(f"lost {times}")
    service = tinker.ServiceClient(base_url=served.url, api_key=key)
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    policy.forward_backward([datum()], "cross_entropy").result()

    async def lost(taken: Any) -> None:
        raise ServiceError(503, "the call ended here", "gone")

    with monkeypatch.context() as patched:
        patched.setattr(served.service.training, "arrived", lost)
        assert raw_step(served, key, policy.model_id, 2).status_code == 503
    sent = [raw_step(served, key, policy.model_id, 2) for _ in range(times)]
    assert [one.status_code for one in sent] == [200] * times
    assert loss_of_raw(served, key, policy.model_id, sent[0].json()["request_id"]) == 1.0
    raw_step(served, key, policy.model_id, 2)  # and when it has ended it is not taken up again
    with served.database.reading() as session:
        assert session.scalar(select(Model.steps).where(Model.id == policy.model_id)) == 1
    assert len(served.service.training) == 0


def loss_of_raw(served: Running, key: str, model: str, request_id: str) -> float:
    answer = served.call("POST", "/api/v1/retrieve_future", key, json={"request_id": request_id}).json()
    assert answer["metrics"]["skipped:sum"] == 0.0
    return float(answer["metrics"]["grad_norm:mean"])


def test_a_session_asked_for_again_after_a_lost_answer_is_the_same_session(served: Running) -> None:
    key = served.key()
    body: dict[str, Any] = {"tags": [], "user_metadata": None, "sdk_version": "0.38.0"}
    ids = {
        served.call("POST", "/api/v1/create_session", key, json=body, headers={"X-Idempotency-Key": "one"}).json()[
            "session_id"
        ]
        for _ in range(3)
    }
    assert len(ids) == 1


def losing(base: Path, folder: Path, trainer: StubTrainer, count: int, snapshot_steps: int) -> list[float]:
    with running(service_recipe(folder, base, snapshot_steps=snapshot_steps), trainer) as served:
        policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
        losses: list[float] = []
        for step in range(count):
            trainer.losses = 1 if step % 3 == 1 else 0
            losses += steps(policy, 1)
        return losses


@pytest.mark.parametrize("snapshot_steps", [1, 2, 100])
def test_a_learner_that_is_lost_over_a_step_neither_loses_it_nor_takes_it_twice(
    base: Path, tmp_path: Path, snapshot_steps: int
) -> None:
    trainer = StubTrainer()
    losses = losing(base, tmp_path, trainer, 8, snapshot_steps)
    np.testing.assert_allclose(losses, 1.0 - 0.1 * np.arange(8), atol=1e-6)
    assert trainer.restarts == 3


def test_a_request_that_the_learner_is_always_lost_over_fails_and_the_others_go_on(base: Path, tmp_path: Path) -> None:
    trainer = StubTrainer()
    with running(service_recipe(tmp_path, base), trainer) as served:
        policy = client(served).create_lora_training_client(base_model=served.service.base, rank=4).result()
        trainer.losses = 3
        with pytest.raises(tinker.RequestFailedError, match="the server failed on this forward_backward"):
            policy.forward_backward([datum()], "cross_entropy").result()
        np.testing.assert_allclose(steps(policy, 2), [1.0, 0.9], atol=1e-6)


def test_an_engine_that_is_lost_answers_later(base: Path, tmp_path: Path) -> None:
    pool = StubPool(losses=2)
    with running(service_recipe(tmp_path, base), pool=pool) as served:
        sampler = client(served).create_sampling_client(base_model=served.service.base).result()
        answer = sampler.sample(datum().model_input, 2, types.SamplingParams(max_tokens=5)).result()
        assert len(answer.sequences) == 2
        assert pool.asked == 3


def test_a_model_that_made_room_for_others_comes_back_as_it_was(base: Path, tmp_path: Path) -> None:
    with running(service_recipe(tmp_path, base, resident_models=1)) as served:
        service = client(served)
        first, second = (
            service.create_lora_training_client(base_model=served.service.base, rank=4).result() for _ in "ab"
        )
        for _ in range(3):
            steps(first, 1)
            steps(second, 2)
        assert loss_of(first) == pytest.approx(0.7)
        assert loss_of(second) == pytest.approx(0.4)


def test_a_server_that_takes_over_goes_on_with_what_is_on_disk(base: Path, tmp_path: Path) -> None:
    recipe = service_recipe(tmp_path, base, snapshot_steps=100)
    with running(recipe) as served:
        service = client(served)
        policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
        steps(policy, 3)
        served.service.training.drain()  # what comes now is put on disk and not applied
        waiting: list[Any] = [policy.forward_backward([datum()], "cross_entropy"), policy.optim_step(ADAM)]
        while len(served.service.training) < 2:
            asyncio.run(asyncio.sleep(0.05))
    with running(recipe) as again:
        assert waiting[0].result().metrics["loss:sum"] == pytest.approx(0.7)
        waiting[1].result()
        assert loss_of(policy) == pytest.approx(0.6)
        assert again.service.lease.epoch == 2
