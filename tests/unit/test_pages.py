"""The pages show what is there: runs, samples in order, two checkpoints, models side by side, lists page by page."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import func, insert, select

from benchmarks.loopback import on_loopback
from benchmarks.made_up_run import made_up_run
from evaluation.raters import main as raters
from serve.database.page_tables import RunSample
from serve.database.tables import ClientSession, Key, Model
from serve.manage import main as manage
from serve.pages.sample_index import SampleIndex
from serve.pages.samples import word_diff
from serve.tenants.keys import tenant_named
from tests.browsers import Browser, Pages, answer, jsonl, make_pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    made = make_pages(tmp_path_factory.mktemp("pages"))
    made_up_run(made.root / "grpo", scenes=4, steps=6, rows_per_step=24)
    SampleIndex(made.database).read_now(made.root / "grpo")
    return made


@pytest.fixture(scope="module")
def browser(pages: Pages) -> Browser:
    return pages.signed_in()


def every_page(browser: Browser, path: str) -> list[str]:
    """The pages of a list, by their links."""
    found = []
    address: str | None = path
    while address is not None:
        found.append(browser.get(address).text)
        further = re.search(r'<a href="([^"]+)" rel="next">', found[-1])
        address = further[1].replace("&amp;", "&") if further else None
    return found


def test_a_run_is_listed_and_its_curves_are_drawn(browser: Browser) -> None:
    listed = browser.get("/pages/runs").text
    assert 'href="/pages/runs/grpo"' in listed
    assert "6 of 6" in listed
    assert "made-up" in listed
    assert 'hx-get="/pages/runs/grpo/curves"' in browser.get("/pages/runs/grpo").text
    curves = browser.get("/pages/runs/grpo/curves").text
    assert 'aria-label="Mean reward over the training steps"' in curves


def test_samples_come_worst_first_each_once_and_by_task(pages: Pages, browser: Browser) -> None:
    shown = every_page(browser, "/pages/runs/grpo/samples")
    values = [float(value) for text in shown for value in re.findall(r'<tr><td class="number">([\d.]+)</td>', text)]
    assert len(values) == 6 * 24
    assert values == sorted(values)
    with pages.database.reading() as session:
        tasks = dict(iter(session.execute(select(RunSample.task, func.count()).group_by(RunSample.task))))
    for task, many in tasks.items():
        of_task = every_page(browser, f"/pages/runs/grpo/samples?task={task}")
        assert sum(text.count('<td class="clip"><a') for text in of_task) == many


def test_a_sample_has_its_images_its_group_and_its_parts(browser: Browser) -> None:
    page = browser.get("/pages/runs/grpo/samples/3").text
    assert "4 responses of its group" in page
    assert page.count('alt="') >= 6
    assert "judge/concise" in page
    first = re.search(r'src="(/pages/runs/grpo/samples/3/images/0)"', page)
    assert first is not None
    image = browser.get(first[1])
    assert image.headers["content-type"] == "image/jpeg"
    assert image.headers["cache-control"].startswith("private")


def test_the_index_follows_a_file_that_changes_and_passes_over_a_damaged_one(tmp_path: Path) -> None:
    made = make_pages(tmp_path)
    folder = made.root / "one"
    made_up_run(folder, scenes=2, steps=2, rows_per_step=8)
    index = SampleIndex(made.database)
    index.read_now(folder)
    index.read_now(folder)
    made_up_run(folder, scenes=2, steps=3, rows_per_step=12)
    (folder / "samples" / "step_000009.parquet").write_bytes(b"no parquet")
    index.read_now(folder)
    with made.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RunSample)) == 3 * 12
    assert index.refresh(folder) == 0


def test_two_checkpoints_answers_are_shown_with_their_words_apart(browser: Browser) -> None:
    page = browser.get("/pages/runs/grpo/diff?a=before&b=after").text
    changes = [float(text.replace("−", "-")) for text in re.findall(r'<h2><span class="\w*">([+−][\d.]+)</span>', page)]
    assert changes
    assert changes == sorted(changes), "what lost most comes first"
    assert "<del>" in page
    assert "<ins>" in page
    pieces = word_diff("go straight on", "turn straight on")
    assert [(piece.change, piece.text) for piece in pieces] == [
        ("gone", "go"), ("new", "turn"), ("same", " straight on"),
    ]  # fmt: skip


def test_lists_are_shown_page_by_page_each_row_once(tmp_path: Path) -> None:
    made = make_pages(tmp_path)
    browser = made.signed_in()
    now = time.time()
    with made.database.writing() as session:
        owner = tenant_named(session, "lab").id
        other = tenant_named(session, "other").id
        session.execute(insert(Key), [
            {"digest": f"{number:064d}", "tenant_id": owner if number % 2 else other, "name": f"key-{number}",
             "scopes": ["read"], "created_at": now - number // 10, "expires_at": None, "revoked_at": None}
            for number in range(300)
        ])  # fmt: skip
        session.add(ClientSession(id="c", tenant_id=owner, idempotency_key="c", about={}, created_at=now, seen_at=now))
        session.flush()
        session.add_all(
            Model(id=f"model-{number}", tenant_id=owner, session_id="c", base_model="b", settings={"rank": 8}, about={},
                  state="ready", applied=0, snapshot=-1, steps=number, created_at=now, asked_at=now)
            for number in range(60)
        )  # fmt: skip
    names = re.findall(r'<tr><th scope="row">(key-\d+)<', "".join(every_page(browser, "/pages/keys")))
    assert sorted(names) == sorted(f"key-{number}" for number in range(1, 300, 2))
    models = re.findall(r'<th scope="row">(model-\d+)<', "".join(every_page(browser, "/pages/models")))
    assert models == [f"model-{number}" for number in reversed(range(60))]


def endpoint() -> FastAPI:
    """Two models: one says what it was sent, one fails."""
    api = FastAPI()
    api.state.asked = []

    @api.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"data": [{"id": "echo"}, {"id": "broken"}]}

    @api.post("/v1/chat/completions")
    async def chat(request: Request) -> JSONResponse:
        body = await request.json()
        api.state.asked.append((request.headers.get("authorization"), body))
        if body["model"] == "broken":
            return JSONResponse({"error": {"message": "<b>out of order</b>"}}, 503)
        said = f"<script>{body['messages'][0]['content'][-1]['text']}</script>"
        return JSONResponse({"choices": [{"message": {"content": said}}]})

    return api


def test_the_playground_asks_two_models_with_the_samples_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTODRIVERL_SERVE_KEY", "secret")
    api = endpoint()
    with on_loopback(api) as url:
        made = make_pages(tmp_path, pages={"endpoints": [f"{url}/v1", "http://127.0.0.1:9/v1"]})
        made_up_run(made.root / "grpo", scenes=2, steps=1, rows_per_step=4)
        SampleIndex(made.database).read_now(made.root / "grpo")
        browser = made.signed_in()
        page = browser.get("/pages/playground?run=grpo&sample=1")
        assert page.text.count("<option>echo</option>") + page.text.count("<option selected>echo</option>") == 2
        answered = browser.send(page, "/pages/playground", question="What now?", first="echo", second="broken")
        assert "&lt;script&gt;What now?&lt;/script&gt;" in answered.text
        assert "it answered 503" in answered.text
        assert "<b>out of order" not in answered.text
        unknown = browser.send(page, "/pages/playground", question="q", first="http://169.254.169.254/")
        assert unknown.status_code == 400
        assert "No endpoint of serve.pages.endpoints serves" in unknown.text
    key, body = api.state.asked[0]
    assert key == "Bearer secret"
    images = [part for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    assert len(images) == 6
    assert all(part["image_url"]["url"].startswith("data:image/jpeg;base64,") for part in images)


def test_a_service_without_jobs_and_files_says_so(pages: Pages, browser: Browser) -> None:
    assert "This service" in browser.get("/pages/jobs").text or "No job yet" in browser.get("/pages/jobs").text
    assert "This service" in browser.get("/pages/files").text or "No file yet" in browser.get("/pages/files").text
    assert browser.get("/pages/jobs/nobodys").status_code == 404


def test_the_commands_make_a_set_and_export_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_pages(tmp_path)
    monkeypatch.setenv("AUTODRIVERL_DATABASE", f"sqlite:///{tmp_path / 'service.db'}")
    common = ["--recipe", str(ROOT / "recipes/service.yaml"), "--set", f"run.root={made.root}"]
    (tmp_path / "answers.jsonl").write_bytes(jsonl([answer(number) for number in range(8)]))

    def do(*words: str) -> tuple[int, str]:
        status = manage([*common, "rate", *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    new = ("new", "--tenant", "lab", "--name", "n", "--annotators", "ada,bo,cy", "--rubric", "score", "--count", "4")
    assert do(*new, "--run", "none")[1].startswith("error: ")
    status, said = do(*new, "--answers", str(tmp_path / "answers.jsonl"), "--url", "http://testserver")
    assert status == 0
    set_id = re.search(r"set (s\w+): 4 answers", said)
    assert set_id is not None
    links = dict(re.findall(r"(\w+): http://testserver(/rate/join/\S+)", said))
    assert do("export", set_id[1], str(tmp_path / "out"))[1].startswith("error: 12 ratings of 12 are missing")
    lost = re.search(r"testserver(\S+)", do("link", set_id[1], "bo", "--url", "http://testserver")[1])
    assert lost is not None
    for place, link in enumerate((links["ada"], lost[1], links["cy"])):
        rater = made.rater(link)
        for number in range(4):
            rater.send(rater.get("/rate/"), "/rate/", points_score=str(20 * number + place))
    assert "ada 4 of 4, bo 4 of 4, cy 4 of 4" in do("list")[1]
    assert do("export", set_id[1], str(tmp_path / "out"))[0] == 0
    assert raters([str(tmp_path / "out" / f"{name}.jsonl") for name in ("ratings", "scores")] + ["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["annotators"] == ["ada", "bo", "cy"]
    assert report["partly_rated"] == []
