"""Files and fine-tuning jobs by the unmodified openai client, with runs that are processes without a model."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from sqlalchemy import select

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from recipe import dump_recipe, load_recipe
from serve.database.connection import Database
from serve.database.tables import Job, StoredFile, Weights
from serve.manage import main as manage
from serve.operations.backup import back_up, restore
from serve.tenants.quotas import Quotas

CHECK = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}",
         "reference": "{{item.answer}}"}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    recipe = service_recipe(tmp_path_factory.mktemp("service"), base)
    recipe = recipe.model_copy(update={"serve": recipe.serve.model_copy(update={
        "jobs": recipe.serve.jobs.model_copy(update={"max_running": 8})})})  # fmt: skip
    with running(recipe) as service:
        yield service


def client(served: Running, tenant: str = "lab", retries: int = 0, **more: Any) -> Any:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key(tenant, **more), max_retries=retries)


def image_uri(shade: int = 0, size: tuple[int, int] = (32, 18)) -> str:
    png = io.BytesIO()
    Image.new("RGB", size, (shade, 90, 200)).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def driving(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "scene_id": f"s{number}", "task": "planning", "kind": "open_ended",
            "question": "Go?", "answer": "Yes, go.", "images": {"CAM_FRONT": image_uri(number)}} | more  # fmt: skip


def chat(number: int, said: str | None = "Go.") -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": image_uri(number)}}, {"type": "text", "text": "What now?"}]
    turns = [{"role": "system", "content": "Drive."}, {"role": "user", "content": content}]
    return {"messages": [*turns, *([{"role": "assistant", "content": said}] if said else [])]}


def jsonl(*lines: Any) -> bytes:
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)


def upload(who: openai.OpenAI, *lines: Any, name: str = "drives.jsonl") -> Any:
    lines = lines or tuple(driving(at) for at in range(8))
    return who.files.create(file=(name, jsonl(*lines)), purpose="fine-tune")


def eventually(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def ended(who: openai.OpenAI, job_id: str, state: str = "succeeded") -> Any:
    def done() -> Any:
        job = who.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in (state, "succeeded", "failed", "cancelled") else None

    job = eventually(done)
    assert job.status == state, job.error
    return job


def reinforced(who: openai.OpenAI, served: Running, file: Any, steps: int = 4, grader: Any = None, **more: Any) -> Any:
    method: Any = {"type": "reinforcement",
              "reinforcement": {"grader": grader or CHECK, "hyperparameters": {"x_steps": steps} | more}}  # fmt: skip
    return who.fine_tuning.jobs.create(model=served.service.base_name, training_file=file.id, method=method)


def test_a_file_of_samples_is_kept_listed_read_back_and_deleted(served: Running) -> None:
    who = client(served)
    file = upload(who)
    assert (file.status, file.filename, file.purpose) == ("processed", "drives.jsonl", "fine-tune")
    assert file.x_samples["samples"] == 8
    assert file.x_samples["tasks"] == {"planning": 8}
    assert file.id in [one.id for one in who.files.list()]
    assert who.files.retrieve(file.id).bytes == file.bytes
    assert who.files.content(file.id).content == jsonl(*(driving(at) for at in range(8)))
    assert who.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        who.files.retrieve(file.id)


def test_openais_chat_format_is_read_with_its_images_and_answers(served: Running) -> None:
    who = client(served)
    given = chat(2, None) | {"reference_answer": "Stop."}
    file = upload(who, chat(1), b"", given)
    assert file.x_samples["samples"] == 2
    assert file.x_samples["images"] == 2
    samples = next(Path(served.recipe.run.folder, "files").glob("*/samples.jsonl")).parent.parent
    lines = [json.loads(line) for path in samples.glob("*/samples.jsonl") for line in path.read_text().splitlines()]
    assert {line["answer"] for line in lines if line["question"] == "What now?"} == {"Go.", "Stop."}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([driving(0), b"{"], "line 2: this is no JSON"),
        ([driving(0), [1]], "line 2: a JSON object is needed"),
        ([driving(0), driving(1, kind="odd")], "line 2: "),
        ([driving(0, colour="red")], "line 1: "),
        ([driving(0, images={"CAM_FRONT": "/etc/passwd"})], "line 1: images.CAM_FRONT must be a data URI"),
        ([driving(0, images={"CAM_FRONT": "http://169.254.169.254/"})], "line 1: images.CAM_FRONT must be a data URI"),
        ([driving(0, images={"CAM_FRONT": image_uri(size=(9000, 4000))})], "line 1: images.CAM_FRONT has 9000x4000"),
        ([driving(0, images={"CAM_FRONT": "data:image/png;base64,aGFsbG8="})], "images.CAM_FRONT is no readable PNG"),
        ([driving(0, answer="")], "line 1: "),
        ([chat(0, None)], "line 1: messages: no user's turn has an assistant's answer"),
        ([{"messages": "x"}], "line 1: messages must be a list"),
        ([{"messages": [{"role": "robot", "content": "x"}]}], "line 1: messages.0.role must be one of"),
        ([{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}], "messages.0.content.0 must be a text or"),
        ([driving(0), driving(0)], "question q0 is in the file more than once"),
        ([b""], "the file holds no line"),
    ],
)
def test_what_is_wrong_with_a_file_names_line_and_field(served: Running, lines: list[Any], sentence: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        upload(client(served), *lines)
    assert sentence in caught.value.message
    assert str(served.recipe.run.folder) not in caught.value.message


def test_a_file_that_is_sent_again_is_one_file(served: Running) -> None:
    who = client(served, "again")
    first = upload(who, name="mine.jsonl")
    again = {"x-stainless-retry-count": "1"}
    second = who.files.create(file=("mine.jsonl", jsonl(*(driving(at) for at in range(8)))), purpose="fine-tune",
                              extra_headers=again)  # fmt: skip
    other = upload(who, name="mine.jsonl")
    assert second.id == first.id
    assert other.id != first.id


def test_a_form_that_is_none_is_refused(served: Running) -> None:
    key = {"Authorization": f"Bearer {served.key()}"}
    for more in ({"content": b"x"}, {"data": {"purpose": "fine-tune"}}, {"files": {"file": b"{}"}},
                 {"files": {"file": b"{}"}, "data": {"purpose": "assistants"}}):  # fmt: skip
        answer = httpx.post(f"{served.url}/v1/files", headers=key, timeout=30.0, **more)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]


def test_files_beyond_the_quota_are_refused(served: Running) -> None:
    who = client(served, "small", quotas=Quotas(file_mib=0))
    with pytest.raises(openai.RateLimitError, match="file_mib"):
        upload(who)


@pytest.mark.slow
def test_a_reinforcement_job_leaves_events_checkpoints_and_a_model(served: Running) -> None:
    who = client(served)
    job = reinforced(who, served, upload(who), steps=5, x_checkpoint_steps=2, x_rank=4)
    assert job.organization_id
    assert job.status == "queued"
    done = ended(who, job.id)
    assert done.fine_tuned_model.startswith("ft:base:")
    events = list(who.fine_tuning.jobs.list_events(job.id, limit=3))
    metrics = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in metrics] == [5, 4, 3, 2, 1]
    assert "reward/mean 100" in metrics[0].message
    assert events[-1].message == "the job is in line"
    checkpoints = list(who.fine_tuning.jobs.checkpoints.list(job.id))
    assert [one.step_number for one in checkpoints] == [5, 4, 2]
    assert checkpoints[0].metrics.train_loss == pytest.approx(0.2)
    names = {model.id for model in who.models.list()}
    assert {done.fine_tuned_model, *(one.fine_tuned_model_checkpoint for one in checkpoints)} <= names
    answer = who.chat.completions.create(model=done.fine_tuned_model, messages=[{"role": "user", "content": "Go?"}])
    assert answer.choices[0].message.content
    recipe = load_recipe([str(served.recipe.run.folder / "jobs" / f"{job.id}.d" / "recipe.yaml")])
    assert (recipe.run.steps, recipe.run.resume, recipe.policy.lora and recipe.policy.lora.rank) == (5, True, 4)
    assert recipe.policy.model == served.service.base
    grader = Path(next(iter(recipe.reward.routes[0].scorers)).removeprefix("grader/"))
    assert json.loads(grader.read_text()) == CHECK


@pytest.mark.slow
def test_a_supervised_job_takes_the_epochs_that_are_asked_for(served: Running) -> None:
    who = client(served)
    job = who.fine_tuning.jobs.create(model=served.service.base_name, training_file=upload(who).id, suffix="lab",
                                      hyperparameters={"n_epochs": 2, "batch_size": 4}, metadata={"by": "me"},
                                      seed=7)  # fmt: skip
    done = ended(who, job.id)
    assert ":lab:" in done.fine_tuned_model
    assert done.hyperparameters.n_epochs == 2
    assert done.seed == 7
    found = who.fine_tuning.jobs.list(extra_query={"metadata[by]": "me"})
    assert [one.id for one in found] == [job.id]
    recipe = load_recipe([str(served.recipe.run.folder / "jobs" / f"{job.id}.d" / "recipe.yaml")])
    assert (recipe.warm_start.steps, recipe.warm_start.batch_size) == (4, 4)


@pytest.mark.slow
def test_a_job_is_paused_resumed_and_cancelled(served: Running) -> None:
    who = client(served)
    job = reinforced(who, served, upload(who), steps=200)
    eventually(lambda: [one for one in who.fine_tuning.jobs.list_events(job.id) if one.type == "metrics"])
    who.fine_tuning.jobs.pause(job.id)
    paused = eventually(lambda: (one := who.fine_tuning.jobs.retrieve(job.id)).status == "paused" and one)
    assert paused.finished_at is None
    (checkpoint, *_) = who.fine_tuning.jobs.checkpoints.list(job.id)
    who.fine_tuning.jobs.resume(job.id)
    later = checkpoint.step_number + 3
    eventually(lambda: [one for one in who.fine_tuning.jobs.list_events(job.id)
                        if one.type == "metrics" and one.data["step"] > later])  # fmt: skip
    who.fine_tuning.jobs.cancel(job.id)
    ended(who, job.id, "cancelled")
    assert who.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="has ended"):
        who.fine_tuning.jobs.resume(job.id)
    assert len([name for name in served.runs.begun() if name.startswith(job.id)]) == 2


@pytest.mark.slow
def test_a_job_whose_script_fails_says_why(served: Running) -> None:
    who = client(served)
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"x_steps": 5}}}
    job = who.fine_tuning.jobs.create(model=served.service.base_name, training_file=upload(who).id, seed=666,
                                      method=method)  # fmt: skip
    failed = ended(who, job.id, "failed")
    assert failed.error.message == "the stub was asked to fail"
    assert failed.fine_tuned_model is None


@pytest.mark.slow
def test_a_request_that_is_sent_again_makes_no_second_job(served: Running) -> None:
    who = client(served, "twice")
    file = upload(who)
    body: dict[str, Any] = {
        "model": served.service.base_name,
        "training_file": file.id,
        "hyperparameters": {"n_epochs": 1},
    }
    first = who.fine_tuning.jobs.create(**body)
    again = who.fine_tuning.jobs.create(**body, extra_headers={"x-stainless-retry-count": "1"})
    other = who.fine_tuning.jobs.create(**body)
    keyed = [who.fine_tuning.jobs.create(**body, extra_headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert again.id == first.id
    assert len({first.id, other.id, keyed[0].id}) == 3
    assert keyed[0].id == keyed[1].id
    with pytest.raises(openai.UnprocessableEntityError, match="with another body"):
        who.fine_tuning.jobs.create(**body, seed=9, extra_headers={"Idempotency-Key": "one"})
    with served.database.reading() as session:
        rows = session.scalars(select(Job)).all()
        assert sum(row.asked["training_file"] == file.id for row in rows) == 3


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"method": {"type": "dpo"}}, "method: dpo is not served here, only 'supervised', 'reinforcement'"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "python", "name": "x"}}}},
         "a python grader is not served"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "rubric", "name": "r"}}}},
         "asks a judge, and there is none"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"x_overrides": {"run.root": "/"}}}}},
         "run.root is the operator's"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"x_overrides": {"learner.lr": "x"}}}}},
         "learner.lr"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"x_steps": 10**6}}}}, "jobs.max_steps"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"x_rank": 400}}}}, "x_rank=400 is above"),
        ({"training_file": "file-nobody"}, "there is no file 'file-nobody'"),
        ({"model": "gpt-4o"}, "there is no model 'gpt-4o' to train"),
        ({"validation_file": "file-x"}, "validation_file: a second file is not served"),
        ({"integrations": [{"type": "wandb"}]}, "integrations: none is served"),
        ({"seed": -1}, "seed: Input should be greater"),
        ({"suffix": "a:b/c"}, "suffix: String should match"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_job_is_one_sentence(served: Running, changed: dict[str, Any], sentence: str) -> None:
    who = client(served)
    body = {"model": served.service.base_name, "training_file": upload(who).id} | changed
    with pytest.raises(openai.APIStatusError) as caught:
        who.fine_tuning.jobs.create(**body)
    assert caught.value.status_code in (400, 404)
    assert sentence in caught.value.message


@pytest.mark.slow
def test_another_tenants_files_and_jobs_are_unknown(served: Running) -> None:
    mine, theirs = client(served, "mine"), client(served, "theirs")
    file = upload(mine)
    job = reinforced(mine, served, file, steps=2)
    jobs = theirs.fine_tuning.jobs
    refused: list[Callable[[], Any]] = [
        lambda: theirs.files.retrieve(file.id),
        lambda: theirs.files.content(file.id),
        lambda: theirs.files.delete(file.id),
        lambda: reinforced(theirs, served, file),
        lambda: jobs.retrieve(job.id),
        lambda: jobs.cancel(job.id),
        lambda: jobs.pause(job.id),
        lambda: jobs.resume(job.id),
        lambda: jobs.list_events(job.id),
        lambda: jobs.checkpoints.list(job.id),
        lambda: jobs.list(after=job.id),
        lambda: theirs.files.list(after=file.id),
    ]
    for call in refused:
        with pytest.raises(openai.NotFoundError):
            call()
    assert not list(theirs.files.list())
    assert not list(jobs.list())
    ended(mine, job.id)


@pytest.mark.slow
def test_a_file_that_a_job_needs_stays(served: Running) -> None:
    who = client(served)
    file = upload(who)
    job = reinforced(who, served, file, steps=100)
    with pytest.raises(openai.BadRequestError, match="uses this file"):
        who.files.delete(file.id)
    who.fine_tuning.jobs.cancel(job.id)
    ended(who, job.id, "cancelled")
    assert who.files.delete(file.id).deleted


@pytest.mark.slow
def test_jobs_beyond_the_quota_are_refused(served: Running) -> None:
    who = client(served, "few", quotas=Quotas(jobs=1))
    file = upload(who)
    job = reinforced(who, served, file, steps=50)
    with pytest.raises(openai.RateLimitError, match="the quota is 1"):
        reinforced(who, served, file)
    who.fine_tuning.jobs.cancel(job.id)


@pytest.mark.slow
def test_a_deleted_model_is_not_made_again(served: Running) -> None:
    who = client(served, "deletes")
    job = ended(who, reinforced(who, served, upload(who), steps=2).id)
    assert who.models.delete(job.fine_tuned_model).deleted
    with served.database.reading() as session:
        assert session.scalar(select(Weights.number).where(Weights.name == job.fine_tuned_model)) is None


def test_files_and_jobs_are_in_a_backup(served: Running, tmp_path: Path) -> None:
    file = upload(client(served, "kept"))
    back_up(served.database, served.recipe.run.folder, tmp_path / "backup")
    fresh = Database(f"sqlite:///{tmp_path / 'fresh.db'}")
    fresh.upgrade()
    restore(tmp_path / "backup", fresh, tmp_path / "fresh")
    with fresh.reading() as session:
        row = session.scalars(select(StoredFile).where(StoredFile.id == file.id)).one()
        assert Path(row.folder).is_relative_to(tmp_path / "fresh")
        assert len(list(Path(row.folder, "images").iterdir())) == 8
    fresh.close()


def test_a_finished_runs_adapter_becomes_a_tenants_model(served: Running, tmp_path: Path) -> None:
    who, run, overrides = client(served, "handed"), tmp_path / "mine", ["--recipe", str(tmp_path / "service.yaml")]
    (tmp_path / "service.yaml").write_text(dump_recipe(served.recipe))
    adapter = run / "policy" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    asked = [*overrides, "model", str(run), "--tenant", "handed", "--name", "mine"]
    assert manage(asked) == 2  # a run has a recipe
    (run / "recipe.yaml").write_text(dump_recipe(served.recipe))
    assert manage(asked) == 0
    assert "mine" in [model.id for model in who.models.list()]
    assert manage(asked) == 2
    assert "mine" not in [model.id for model in client(served, "other").models.list()]
