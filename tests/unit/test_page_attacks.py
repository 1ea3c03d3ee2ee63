"""Every page against everything that is thrown at it: no key, another's form, another tenant, script, paths, size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from benchmarks.made_up_run import made_up_run
from evaluation.run_record import METRICS_FILE
from serve.database.page_tables import Rating, RatingItem, RatingSet
from serve.database.tables import Key
from serve.pages.application import make_pages as make_application
from serve.pages.door import FORM_BYTES, HEADERS
from serve.pages.visit import COOKIE
from serve.settings import ServeSettings
from serve.tenants.keys import make_key, revoke_keys
from tests.browsers import Browser, Pages, answer, jsonl, make_pages, new_set

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
OPEN = ("/", "/pages", "/pages/", "/pages/sign-in", "/rate/join/{secret}")
"""Pages that anybody may see."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    made = make_pages(tmp_path_factory.mktemp("pages"), max_body_mib=1)
    made_up_run(made.root / "one", scenes=2, steps=2, rows_per_step=8)
    return made


@pytest.fixture(scope="module")
def organiser(pages: Pages) -> Browser:
    return pages.signed_in()


@pytest.fixture(scope="module")
def links(pages: Pages, organiser: Browser) -> dict[str, str]:
    return new_set(organiser, jsonl([answer(number) for number in range(3)]))[1]


def routes(pages: Pages) -> Iterator[tuple[str, str, str]]:
    """Method, path and kind of every page."""
    api: FastAPI = make_application(pages.database, pages.root / "service", ServeSettings())
    found = [route for route in api.routes if isinstance(route, APIRoute)]
    assert len(found) > 30
    for route in found:
        kinds = [getattr(one.call, "page_kind", "") for one in route.dependant.dependencies]
        assert kinds, f"{route.path} takes no Visit"
        assert kinds[0], f"{route.path} takes no Visit"
        for method in sorted(route.methods):
            yield method, route.path, kinds[0]


def filled(path: str, value: str = "7") -> str:
    return re.sub(r"{[^}]+}", value, path)


def ask(browser: Browser, method: str, path: str, **more: Any) -> Any:
    return browser.client.request(method, path, follow_redirects=False, **more)


def test_every_page_but_the_open_ones_asks_who_is_there(pages: Pages) -> None:
    for method, path, kind in routes(pages):
        answered = ask(pages.browser(), method, filled(path))
        if method == "GET" and path not in OPEN:
            assert answered.status_code in (303, 401), path
            assert answered.status_code == 401 or answered.headers["location"] == "/pages/sign-in"
        elif method == "POST":
            assert answered.status_code in (401, 403), path
        assert kind.startswith("open") == (path in (*OPEN, "/rate/join", "/pages/sign-out")), path


def test_a_form_is_done_only_with_this_browsers_own_token(pages: Pages, links: dict[str, str]) -> None:
    for method, path, kind in routes(pages):
        if method != "POST":
            continue
        assert kind.endswith("form"), path
        browser = pages.rater(links["bo"]) if path.startswith("/rate") else pages.signed_in()
        foreign = pages.signed_in()
        token = foreign.form(foreign.get("/pages/keys"), "/pages/keys")["token"]
        for data in ({}, {"token": ""}, {"token": token}, {"token": "é"}):
            answered = ask(browser, "POST", filled(path), data=data)
            assert (answered.status_code, "not of this browser" in answered.text) == (403, True), path


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"},
     {"origin": "null"}],
)  # fmt: skip
def test_a_form_of_another_site_is_refused_whatever_it_holds(pages: Pages, headers: dict[str, str]) -> None:
    browser = pages.signed_in()
    fields = {**browser.form(browser.get("/pages/keys"), "/pages/keys"), "name": "stolen"}
    answered = browser.client.post("/pages/keys", data=fields, headers=headers)
    assert answered.status_code == 403
    assert "another site" in answered.text
    with pages.database.reading() as session:
        assert session.scalar(select(func.count()).where(Key.name == "stolen")) == 0


def test_cookies_are_strict_unreadable_to_scripts_and_secure_behind_tls(pages: Pages) -> None:
    for area, path in (("pages", "/pages/sign-in"), ("rate", "/rate/join/x")):
        given = pages.browser().get(path).headers.get("set-cookie")
        if given is None:  # a refusal sets none
            continue
        assert given.startswith(COOKIE[area])
        assert {"httponly", "samesite=strict", f"path=/{area}"} <= {part.strip().lower() for part in given.split(";")}
        assert "secure" not in given.lower()
    client = TestClient(pages.app, base_url="https://testserver")
    assert "; secure" in client.get("/pages/sign-in").headers["set-cookie"].lower()


def test_signing_in_gives_a_cookie_that_nobody_could_plant(pages: Pages) -> None:
    browser = pages.browser()
    planted = "a" * 43
    browser.client.cookies.set(COOKIE["pages"], planted, path="/pages")
    key = make_key(pages.database, "lab", "fixation")
    browser.send(browser.get("/pages/sign-in"), "/pages/sign-in", key=key)
    assert browser.get("/pages/keys").status_code == 200
    other = pages.browser()
    other.client.cookies.set(COOKIE["pages"], planted, path="/pages")
    assert ask(other, "GET", "/pages/keys").status_code == 303


def test_signing_out_and_revoking_the_key_end_the_session(pages: Pages) -> None:
    browser = pages.signed_in("leaver")
    cookie = browser.client.cookies.get(COOKIE["pages"])
    browser.send(browser.get("/pages/keys"), "/pages/sign-out")
    again = pages.browser()
    again.client.cookies.set(COOKIE["pages"], str(cookie), path="/pages")
    assert ask(again, "GET", "/pages/keys").status_code == 303
    browser = pages.signed_in("leaver")
    assert revoke_keys(pages.database, "leaver", "test") == 2
    assert ask(browser, "GET", "/pages/keys").status_code == 303


def test_a_key_without_the_scope_sees_nothing(pages: Pages) -> None:
    browser = pages.signed_in("scopeless", scopes=("metrics",))
    for method, path, kind in routes(pages):
        if kind.split()[0] in ("read", "rate", "keys", "sample"):
            answered = ask(browser, method, filled(path))
            assert (answered.status_code, "lacks the scope" in answered.text) == (403, True), path


def test_a_key_hands_on_no_scope_that_it_lacks(pages: Pages) -> None:
    browser = pages.signed_in("modest", scopes=("keys", "read"))
    page = browser.get("/pages/keys")
    assert 'id="scope-train"' not in page.text
    fields = {**browser.form(page, "/pages/keys"), "name": "more", "scope-train": "1"}
    answered = browser.client.post("/pages/keys", data=fields)
    assert answered.status_code == 403
    assert "lacks the scope &#39;train&#39;" in answered.text


def test_a_new_key_is_shown_once_works_and_can_be_revoked(pages: Pages) -> None:
    browser = pages.signed_in("maker")
    form = browser.form(browser.get("/pages/keys"), "/pages/keys")
    made = browser.client.post("/pages/keys", data={**form, "name": "new", "scope-read": "1"})
    key = re.search(r"tml-[\w-]{40,}", made.text)
    assert key is not None
    assert made.headers["cache-control"] == "no-store"
    assert key[0] not in browser.get("/pages/keys").text
    other = pages.browser()
    assert other.send(other.get("/pages/sign-in"), "/pages/sign-in", key=key[0]).status_code == 200
    listed = browser.get("/pages/keys").text
    digest = re.search(r'/pages/keys/(\w{64})/revoke"(?:(?!/form).)*Revoke new"', listed, re.DOTALL)
    assert digest is not None
    browser.send(browser.get("/pages/keys"), f"/pages/keys/{digest[1]}/revoke")
    assert ask(other, "GET", "/pages/runs").status_code == 303
    stranger = pages.signed_in("stranger")
    token = stranger.form(stranger.get("/pages/keys"), "/pages/keys")["token"]
    assert stranger.client.post(f"/pages/keys/{digest[1]}/revoke", data={"token": token}).status_code == 404


def test_every_answer_has_the_headers_that_keep_others_out(pages: Pages, organiser: Browser) -> None:
    answers = [ask(organiser, method, filled(path)) for method, path, _ in routes(pages)]
    answers += [organiser.get(path) for path in ("/pages/static/htmx.min.js", "/pages/static/x", "/rate/")]
    answers.append(organiser.client.post("/pages/keys", content=b"x" * (FORM_BYTES + 1)))
    for answered in answers:
        for name, value in HEADERS:
            assert answered.headers[name.decode()] == value.decode(), answered.url
    assert b"unsafe" not in HEADERS[0][1]


def test_no_page_loads_anything_from_elsewhere_or_holds_script_of_its_own(
    pages: Pages, organiser: Browser, links: dict[str, str]
) -> None:
    set_path = re.search(r"/pages/rating/s\w+", organiser.get("/pages/rating").text)
    assert set_path is not None
    paths = ["/pages/sign-in", "/pages/runs", "/pages/runs/one", "/pages/runs/one/curves", "/pages/runs/one/samples",
             "/pages/runs/one/samples/1", "/pages/runs/one/diff", "/pages/playground?run=one&sample=1", "/pages/models",
             "/pages/jobs",
             "/pages/keys", "/pages/files", "/pages/rating", set_path[0], f"{set_path[0]}/disagreements"]  # fmt: skip
    organiser.get("/pages/runs/one/samples")
    for page in [*(organiser.get(path) for path in paths), pages.rater(links["ada"]).get("/rate/")]:
        assert page.status_code == 200, page.url
        for address in re.findall(r'(?:src|href|action|hx-get)="([^"]*)"', page.text):
            assert address.startswith(("/pages", "/rate", "#")), (page.url, address)
        assert re.findall(r"<script(?![^>]*src=)", page.text) == [], page.url
        assert re.findall(r"\s(?:on\w+|style)=", page.text) == [], page.url


def test_script_in_whatever_people_and_models_write_is_shown_as_text(pages: Pages) -> None:
    organiser = pages.signed_in("scripted")
    line = answer(1, question=SCRIPT, answer=SCRIPT, reference=SCRIPT, item=SCRIPT, choices={SCRIPT: SCRIPT},
                  scores={SCRIPT: 50.0})  # fmt: skip
    line["images"] = {SCRIPT: line["images"]["CAM_FRONT"]}
    page = organiser.send(
        organiser.get("/pages/rating"), "/pages/rating/sets", file=("../" + SCRIPT, jsonl([line])), name=SCRIPT,
        annotators=f"{SCRIPT}\nbo\ncy", rubric="score",
    )  # fmt: skip
    assert page.status_code == 200, page.text
    found = re.findall(r"http://testserver(/rate/join/[\w-]+)", page.text)
    set_path = re.search(r"/pages/rating/s\w+", page.text)
    assert set_path is not None
    shown = [page]
    for link in found:
        browser = pages.rater(link)
        shown += [browser.get(link), browser.get("/rate/")]
        browser.send(browser.get("/rate/"), "/rate/", points_score="30")
    shown += [organiser.get(path) for path in ("/pages/rating", set_path[0], f"{set_path[0]}/figures",
                                               f"{set_path[0]}/disagreements")]  # fmt: skip
    for one in shown:
        assert one.status_code == 200, one.url
        assert "<script>alert" not in one.text
        assert "<img src=x" not in one.text
    assert sum("&lt;script&gt;alert(1)" in one.text for one in shown) == len(shown) - 2, (
        "but for the greetings of bo and cy"
    )
    with pages.database.reading() as session:
        source = session.scalar(select(RatingSet.source).where(RatingSet.name == SCRIPT))
        assert source is not None
        assert not set("<>/") & set(source)
    export = organiser.get(f"{set_path[0]}/ratings.jsonl")
    assert re.fullmatch(r'attachment; filename="[\w.-]+"', export.headers["content-disposition"])
    assert json.loads(export.text.splitlines()[0])["item"] == SCRIPT


def test_script_in_a_runs_responses_is_shown_as_text(pages: Pages, organiser: Browser) -> None:
    folder = pages.root / "scripted"
    made_up_run(folder, scenes=2, steps=1, rows_per_step=4)
    path = next((folder / "samples").glob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    changed = [{**row, "response": SCRIPT, "question": SCRIPT, "ground_truth": SCRIPT} for row in rows]
    pq.write_table(pa.Table.from_pylist(changed, schema=pq.read_schema(path)), path)
    (folder / METRICS_FILE).write_text('{"step": 1, "reward/<script>alert(1)</script>": 3.0}\n')
    organiser.get("/pages/runs/scripted/samples")
    listed = organiser.get("/pages/runs/scripted/samples")
    while "still being read" in listed.text:
        listed = organiser.get("/pages/runs/scripted/samples")
    number = re.search(r"/pages/runs/scripted/samples/(\d+)", listed.text)
    assert number is not None
    for page in (listed, organiser.get(number[0]), organiser.get("/pages/runs/scripted/curves"),
                 organiser.get(f"/pages/playground?run=scripted&sample={number[1]}")):  # fmt: skip
        assert page.status_code == 200
        assert "<script>alert" not in page.text


@pytest.mark.parametrize("name", ["%2e%2e", "..%2fone", "one%2f..", "%00", "a" * 300, "%2fetc", "scenes"])
def test_a_name_of_a_run_never_becomes_a_path_elsewhere(organiser: Browser, name: str) -> None:
    for rest in ("", "/samples", "/curves", "/diff"):
        assert organiser.get(f"/pages/runs/{name}{rest}").status_code == 404


@pytest.mark.parametrize("name", ["..%2f..%2frecipe", "%2e%2e", "none", "before%00", "%2fetc%2fpasswd"])
def test_neither_does_a_name_of_an_evaluation(organiser: Browser, name: str) -> None:
    assert organiser.get(f"/pages/runs/one/diff?a={name}").status_code == 404
    assert organiser.get(f"/pages/runs/one/evaluations/{name}/0/images/0").status_code == 404


@pytest.mark.parametrize("index", ["-1", "99", "9" * 30, "..%2f..%2fetc%2fpasswd", "CAM_FRONT", "1.5"])
def test_an_image_is_known_by_its_place_alone(
    pages: Pages, organiser: Browser, links: dict[str, str], index: str
) -> None:
    organiser.get("/pages/runs/one/samples")
    rater = pages.rater(links["ada"])
    number = rater.form(rater.get("/rate/"), "/rate/")["rating"]
    assert rater.get(f"/rate/image/{number}/0").headers["content-type"] == "image/png"
    assert rater.get(f"/rate/image/{number}/{index}").status_code == 404
    assert rater.get(f"/rate/image/{index}/0").status_code == 404
    assert organiser.get(f"/pages/runs/one/samples/1/images/{index}").status_code == 404
    assert organiser.get(f"/pages/runs/one/evaluations/after/{index}/images/0").status_code == 404


def test_another_tenants_set_is_unknown(pages: Pages, links: dict[str, str]) -> None:
    with pages.database.reading() as session:
        found = session.scalars(select(RatingSet)).first()
        assert found is not None
        item = session.scalars(select(RatingItem).where(RatingItem.set_number == found.number)).first()
        assert item is not None
    stranger = pages.signed_in("stranger")
    assert found.name not in stranger.get("/pages/rating").text
    base = f"/pages/rating/{found.id}"
    for path in (base, f"{base}/figures", f"{base}/disagreements", f"{base}/ratings.jsonl?partial=1",
                 f"{base}/scores.jsonl", f"{base}/items/{item.number}/images/0"):  # fmt: skip
        assert stranger.get(path).status_code == 404, path
    token = stranger.form(stranger.get("/pages/keys"), "/pages/keys")["token"]
    assert stranger.client.post(f"{base}/links", data={"token": token, "annotator": "ada"}).status_code == 404
    _, own = new_set(stranger, jsonl([answer(0)]))
    own_id = re.search(r"/pages/rating/(s\w+)", stranger.get("/pages/rating").text)
    assert own_id is not None
    assert stranger.get(f"/pages/rating/{own_id[1]}/items/{item.number}/images/0").status_code == 404


def test_another_annotators_answers_cannot_be_seen_or_rated(pages: Pages, links: dict[str, str]) -> None:
    ada, bo = pages.rater(links["ada"]), pages.rater(links["bo"])
    form = bo.form(bo.get("/rate/"), "/rate/")
    own = ada.form(ada.get("/rate/"), "/rate/")
    assert ada.get(f"/rate/image/{form['rating']}/0").status_code == 404
    sent = {**own, "rating": form["rating"], "revision": form["revision"], "points-score": "1"}
    assert ada.client.post("/rate/", data=sent).status_code == 404
    assert ada.client.post("/rate/undo", data=sent).status_code == 404
    with pages.database.reading() as session:
        assert session.get_one(Rating, int(form["rating"])).value is None


def test_forms_that_are_too_large_or_none_are_refused_and_never_break_a_page(pages: Pages, organiser: Browser) -> None:
    token = organiser.form(organiser.get("/pages/keys"), "/pages/keys")["token"]
    large = organiser.client.post("/pages/keys", data={"token": token, "name": "x" * FORM_BYTES})
    assert large.status_code == 413
    chunked = organiser.client.post("/pages/keys", content=iter([b"x" * 40_000] * 3))
    assert chunked.status_code == 413
    file = ("a.jsonl", b"x" * (2**20 + 1))
    upload = organiser.send(organiser.get("/pages/rating"), "/pages/rating/sets", file=file, name="n", annotators="a")
    assert upload.status_code == 413
    kinds = ("application/json", "multipart/form-data", "multipart/form-data; boundary=x",
             "application/x-www-form-urlencoded", "text/plain")  # fmt: skip
    bodies = (b"", b"{", b"\x00\xff", b"--x\r\n", b"--x\r\ncontent-disposition: form-data\r\n\r\n--x--",
              b"token=" + token.encode() + b"&rating=9" * 3000, b"&" * 30_000)  # fmt: skip
    for method, path, _ in routes(pages):
        if method == "POST":
            for kind in kinds:
                for body in bodies:
                    answered = ask(organiser, "POST", filled(path), content=body, headers={"content-type": kind})
                    assert answered.status_code < 500, (path, kind, body[:20])


@pytest.mark.parametrize("value", ["0", "-1", "9" * 40, "%00", "..%2f", "x", "%F0%9F%9A%97", "nan"])
def test_odd_addresses_never_break_a_page(pages: Pages, organiser: Browser, links: dict[str, str], value: str) -> None:
    rater = pages.rater(links["ada"])
    for method, path, _ in routes(pages):
        if method == "GET":
            address = f"{filled(path, value)}?after={value}&task={value}&a={value}&run=one&sample={value}"
            for browser in (organiser, rater):
                assert ask(browser, "GET", address).status_code < 500, address
    for after in ("nan_1", "inf_1", "1_x", "1e400_3", f"{value}_{value}"):
        for path in ("/pages/runs/one/samples", "/pages/keys", "/pages/models", "/pages/runs", "/pages/files"):
            assert organiser.get(f"{path}?after={after}").status_code < 500


def test_a_link_of_nobody_and_a_key_of_nobody_get_one_sentence(pages: Pages) -> None:
    browser = pages.browser()
    assert browser.get("/rate/join/" + "x" * 43).status_code == 404
    page = browser.send(browser.get("/pages/sign-in"), "/pages/sign-in", key="tml-nobody")
    assert page.status_code == 401
    assert "This API key is unknown, revoked or expired" in page.text
    assert "tml-nobody" not in page.text


def test_runs_are_shown_to_the_tenants_that_are_named(tmp_path: Path) -> None:
    made = make_pages(tmp_path, pages={"runs_of": ["lab"]})
    made_up_run(made.root / "one", scenes=2, steps=1, rows_per_step=4)
    assert "/pages/runs/one" in made.signed_in("lab").get("/pages/runs").text
    stranger = made.signed_in("stranger")
    assert "/pages/runs/one" not in stranger.get("/pages/runs").text
    for path in ("/pages/runs/one", "/pages/runs/one/samples", "/pages/playground?run=one"):
        assert stranger.get(path).status_code == 404
    assert "one" not in re.findall(r"<option[^>]*>(.*?)</option>", stranger.get("/pages/rating").text)
