"""The pages on clusters: every alert has its paragraph, and every file, command, panel and key they name exists."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from ray.scripts.scripts import cli

from cluster.dashboards import grafana
from cluster.launch.commands import check_training
from cluster.launch.finding import Findings
from commands.reference import PAGE as REFERENCE

ROOT = Path(__file__).parents[2]
PAGES = ("cloud.md", "operations.md", "sizing.md", "gpu.md")
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PLACES = ["actors", "cluster", "commands", "data", "docker", "docs", "recipes", "serve", "tests"]


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    """The text of a page."""
    return (ROOT / "docs" / request.param).read_text()


def test_every_alert_has_a_paragraph_and_every_paragraph_an_alert() -> None:
    rules = yaml.safe_load((ROOT / "cluster/dashboards/alerts.yaml").read_text())["groups"][0]["rules"]
    section = OPERATIONS.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    paragraphs = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=\n\n###|\n*\Z)", section, re.MULTILINE | re.DOTALL))
    assert list(paragraphs) == [rule["alert"] for rule in rules]
    assert [name for name, text in paragraphs.items() if len(text.split()) < 30] == []


def test_the_alerts_that_wake_somebody_are_those_of_the_rules() -> None:
    rules = yaml.safe_load((ROOT / "cluster/dashboards/alerts.yaml").read_text())["groups"][0]["rules"]
    waking = re.search(r"those of severity `page`: ([\w, ]+)\.", OPERATIONS)
    assert waking is not None
    assert re.split(r", | and ", waking[1]) == [r["alert"] for r in rules if r["labels"]["severity"] == "page"]


def test_the_panels_that_are_named_are_there() -> None:
    titles = [panel.title for row in grafana.ROWS.values() for panel in row]
    named = [" ".join(name.split()) for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", OPERATIONS)]
    assert len(named) > 10
    assert [name for name in named if not any(title.startswith(name) for title in titles)] == []
    rows = re.findall(
        r"^- \*\*([^*]+)\*\*: ", OPERATIONS.partition("## Reading")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert rows == list(grafana.ROWS)


def test_the_modules_that_are_run_exist(page: str) -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", page))
    assert [name for name in modules if find_spec(name.rstrip(".")) is None] == []


def test_the_files_that_are_named_exist(page: str) -> None:
    named = re.findall(rf"(?<![\w/.-])((?:{'|'.join(PLACES)})/[\w./*-]+[\w/])", page)
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []
    linked = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page)
    assert [path for path in linked if not (ROOT / "docs" / path).exists()] == []


def test_the_trainings_that_are_submitted_are_known_to_the_recipes(page: str) -> None:
    commands = re.findall(r"(python train_\w+\.py recipes/.*)", page.replace("\\\n", " "))
    findings = Findings("page")
    for command in commands:
        check_training(findings, command, command.partition("  #")[0].rstrip("`").split())
    assert findings.faults == []


def test_the_keys_that_are_named_are_those_of_recipes(page: str) -> None:
    known = set(re.findall(r"^\| `([\w.]+)`", REFERENCE.read_text(), re.MULTILINE))
    parts = {key.partition(".")[0] for key in known} - {"", "tests"}
    named = re.findall(rf"`((?:{'|'.join(sorted(parts))})(?:\.\w+)+)", page)
    known |= {f"rollout.options.{key}" for key in known}  # which stand without it in tables of their own
    files = re.compile(r"\.(py|yaml|md|json|jsonl)$")
    unknown = [key for key in named if key not in known and not files.search(key)]
    assert [key for key in unknown if not (ROOT / key.replace(".", "/")).with_suffix(".py").is_file()] == []


def test_the_commands_of_ray_that_are_named_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w/.-])`?ray ([a-z][a-z-]+)(?: ([a-z]+))?", "\n".join(commands_in(page))))
    unknown = [first for first, _ in named if first not in cli.commands]
    assert unknown == []
    jobs = {second for first, second in named if first == "job"}
    assert jobs <= set(cli.commands["job"].commands)


def commands_in(page: str) -> list[str]:
    """What stands as code: indented lines and what is between backticks."""
    return [*re.findall(r"^    (.*)", page, re.MULTILINE), *re.findall(r"`([^`\n]+)`", page)]
