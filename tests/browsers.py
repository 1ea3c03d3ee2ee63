"""The pages of a service as browsers without a window see them: cookies are kept, and forms are sent as they stand."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from serve.database.connection import Database
from serve.pages.application import pages_alone
from serve.settings import ServeSettings
from serve.tenants.keys import SCOPES, make_key

TASKS = ("perception", "prediction", "planning", "behavior")


class Forms(HTMLParser):
    """The forms of a page: where each goes, and its fields as they stand."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((given.get("action", ""), {}))
        elif tag == "input" and self.found and "name" in given:
            self.found[-1][1][given["name"]] = given.get("value", "")


@dataclass
class Browser:
    """One browser."""

    client: TestClient

    def get(self, path: str, **more: Any) -> Any:
        """A page."""
        return self.client.get(path, **more)

    def form(self, page: Any, action: str) -> dict[str, str]:
        """The fields of a page's form."""
        return next(fields for where, fields in Forms(page.text).found if where == action)

    def send(self, page: Any, action: str, **fields: Any) -> Any:
        """Send a form of a page, with some fields filled in."""
        files = {name: value for name, value in fields.items() if isinstance(value, tuple)}
        plain = {name.replace("_", "-"): value for name, value in fields.items() if name not in files}
        return self.client.post(action, data={**self.form(page, action), **plain}, files=files or None)


@dataclass
class Pages:
    """The pages, alone."""

    database: Database
    root: Path
    app: Any

    def browser(self) -> Browser:
        """A browser that has never been here."""
        return Browser(TestClient(self.app, raise_server_exceptions=False))

    def signed_in(self, tenant: str = "lab", scopes: tuple[str, ...] = SCOPES) -> Browser:
        """One that is signed in with a new key of a tenant."""
        browser, key = self.browser(), make_key(self.database, tenant, "test", scopes)
        page = browser.send(browser.get("/pages/sign-in"), "/pages/sign-in", key=key)
        assert page.history, page.text
        return browser

    def rater(self, link: str) -> Browser:
        """One that followed an annotator's link."""
        browser = self.browser()
        page = browser.send(browser.get(link), "/rate/join")
        assert page.status_code == 200, page.text
        return browser


def make_pages(folder: Path, **settings: Any) -> Pages:
    """The pages on a new database and an empty folder of runs."""
    root = folder / "runs"
    root.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'service.db'}")
    database.upgrade()
    return Pages(database, root, pages_alone(database, root / "service", ServeSettings.model_validate(settings)))


def data_uri(colour: str = "grey", size: tuple[int, int] = (32, 18)) -> str:
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def answer(number: int, **more: Any) -> dict[str, Any]:
    """A line of a file of answers."""
    image = data_uri()
    return {
        "item": f"item-{number:03d}",
        "task": TASKS[number % 4],
        "question": f"What of <c{number},CAM_FRONT,800.0,450.0>?",
        "answer": f"Answer {number}",
        "reference": f"Truth {number}",
        "images": {"CAM_FRONT": image, "CAM_BACK": image},
        "scores": {"qwen": float(number * 7 % 101)},
        **more,
    }


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """A file of them."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def new_set(browser: Browser, lines: bytes, **fields: Any) -> tuple[str, dict[str, str]]:
    """Make a set in a browser; its id, and annotator to link."""
    given = {"name": "A set", "annotators": "ada\nbo\ncy", "rubric": "score", **fields}
    page = browser.send(browser.get("/pages/rating"), "/pages/rating/sets", file=("a.jsonl", lines), **given)
    assert page.status_code == 200, page.text
    links = dict(re.findall(r"<dt>(.*?)</dt><dd><code>http://testserver(.*?)</code>", page.text))
    set_id = re.search(r'href="/pages/rating/(s\w+)"', page.text)
    assert set_id is not None
    return set_id[1], links
