"""Templates into pages. What a template inserts is escaped: an answer is text, never markup."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.numbers import counted_noun, fixed, percent, signed
from evaluation.pages.page import KIND_TITLES, tagged
from evaluation.pages.tone import tone
from serve.rating.sheet import title_of

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"
SECTIONS = (
    ("/pages/runs", "read", "Runs"),
    ("/pages/jobs", "read", "Jobs"),
    ("/pages/playground", "sample", "Playground"),
    ("/pages/rating", "rate", "Rating"),
    ("/pages/models", "read", "Models"),
    ("/pages/keys", "keys", "Keys"),
    ("/pages/files", "read", "Files"),
)
"""Address, the scope that it needs, and title of each part; a key without the scope is not shown the part."""


@cache
def environment() -> Environment:
    """The templates of this package."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "fixed": fixed, "percent": percent, "signed": signed, "tagged": tagged, "tone": tone, "title_of": title_of,
        "moment": moment, "camera": camera_title, "counted": counted_noun, "kind": KIND_TITLES.__getitem__,
    }  # fmt: skip
    made.globals["sections"] = SECTIONS
    for name in made.list_templates():
        made.get_template(name)  # compiled before anybody waits for a page
    return made


def html(template: str, context: Mapping[str, Any]) -> str:
    """A page."""
    return environment().get_template(template).render(context)


def moment(seconds: float | None) -> str:
    """A time as people read it (UTC); a dash for None."""
    return "–" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def camera_title(camera: str) -> str:
    """`CAM_FRONT_LEFT` in words."""
    return camera.removeprefix("CAM_").replace("_", " ").lower()
