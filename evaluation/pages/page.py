"""What every page shares: the templates' environment, object tags in a text, and the file written whole. No network.

The form of a page is in `page.html.j2` (head and style sheet) and `parts.html.j2` (tiles, counts, cards of answers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from data.sample import KINDS, Task
from evaluation.numbers import fixed, percent, signed
from evaluation.pages.gallery import TAG
from evaluation.pages.tone import own_tones, tone

REPORT_FILE = "report.html"
KIND_TITLES = {kind: kind.replace("_", " ") for kind in KINDS} | {"yes_no": "yes/no"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the top of a page."""

    label: str
    value: str
    note: str


def write_page(
    folder: Path, template: str, context: Mapping[str, Any], name: str = REPORT_FILE, *, tasks: Iterable[Task] = ()
) -> Path:
    """Write `report.html`, or a page of another name, into a folder from a template of this package; its path.

    The page appears under its name when it is complete. Everything that the template inserts is escaped. `tasks` are
    those that the page speaks of: they get their colours.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": fixed, "percent": percent, "signed": signed, "tagged": tagged, "tone": tone}
    environment.globals |= {"kinds": KIND_TITLES, "own_tones": own_tones(tasks), "renewed_s": 0}
    page = environment.get_template(template).render(context)
    path = folder / name
    part = path.with_suffix(".html.part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    return path


def tagged(text: str) -> Markup:
    """A text, escaped, with its object tags in a style of their own."""
    marked = Markup("")
    end = 0
    for found in TAG.finditer(text):
        marked += Markup('{}<span class="tag">{}</span>').format(text[end : found.start()], found[0])
        end = found.end()
    return marked + escape(text[end:])
