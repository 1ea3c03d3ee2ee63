"""`python -m cluster.dashboards.grafana`: writes `grafana/dashboards/autodriverl.json` from the panels below.

The file is kept beside this one, so that Grafana needs nothing of this project; a test says when it is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "autodriverl.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, ACROSS = 8, 7, 3


class Panel(NamedTuple):
    """A panel: its title, its queries with their legends, and the unit as Grafana names it."""

    title: str
    queries: dict[str, str]
    unit: str = "short"


def _of(name: str, by: str = "") -> str:
    """The figure of the chosen run, whatever process reported it."""
    labels = f"run, {by}" if by else "run"
    return f'max by ({labels}) (ray_autodriverl_{name}{{run=~"$run"}})'


ROWS: dict[str, list[Panel]] = {
    "Learning": [
        Panel("Reward by task (0-100)", {"{{run}} {{task}}": _of("reward", "task")}),
        Panel("Parts of the score (0-100)", {"{{run}} {{part}}": _of("part", "part")}),
        Panel("KL against the reference", {"{{run}}": _of("kl")}),
        Panel("Response length (tokens)", {"{{run}}": _of("response_tokens")}),
        Panel(
            "Masked share and its limit",
            {"{{run}}": _of("masked_share"), "limit": _of("masked_share_limit")},
            "percentunit",
        ),
        Panel("Masked rollouts by reason", {"{{run}} {{reason}}": _of("masked", "reason")}),
    ],
    "Speed": [
        Panel("Step and steps in all", {"{{run}}": _of("step"), "{{run}} of": _of("steps")}),
        Panel("Seconds of a step, measured and predicted", {"{{run}} {{part}}": _of("step_seconds", "part")}, "s"),
        Panel("Generated tokens a second", {"{{run}}": _of("tokens_per_second")}),
        Panel("Staleness (weight versions)", {"{{run}}": _of("staleness")}),
        Panel("Since the last step", {"{{run}}": f"time() - {_of('step_time')}"}, "s"),
        Panel("Groups without a signal", {"{{run}}": _of("groups_without_signal")}),
    ],
    "Engines, judge, CLIP": [
        Panel("Waiting requests", {"{{run}} {{pool}}": _of("waiting", "pool")}),
        Panel(
            "Seconds a judged request takes",
            {"{{run}}": f"rate({_of('judge_seconds')}[5m:10s]) / rate({_of('judged')}[5m:10s])"},
            "s",
        ),
        Panel("Requests given up, a second", {"{{run}} {{pool}}": f"rate({_of('failed', 'pool')}[5m:10s])"}),
        Panel(
            "Members that take work",
            {"{{run}} {{pool}}": _of("healthy", "pool"), "{{run}} {{pool}} of": _of("members", "pool")},
        ),
        Panel("Restarts", {"{{run}} {{pool}}": _of("restarts", "pool")}),
        Panel("Requests a second", {"{{run}} {{pool}}": f"rate({_of('asked', 'pool')}[5m:10s])"}),
    ],
    "Engine against learner, and the machines": [
        Panel("Log-probability gap (nats)", {"{{of}}": _of("logprob_gap", "of"), "limit": _of("logprob_gap_limit")}),
        Panel(
            "GPU memory taken",
            {"{{instance}} {{GpuIndex}}": "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)"},
            "percentunit",
        ),
        Panel("Main memory taken", {"{{instance}}": "ray_node_mem_used / ray_node_mem_total"}, "percentunit"),
    ],
}


def queries() -> list[str]:
    """Every query of the dashboard, for all runs."""
    panels = (panel for row in ROWS.values() for panel in row)
    return [query.replace("$run", ".*") for panel in panels for query in panel.queries.values()]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}}
        )
        for index, panel in enumerate(row):
            place = {
                "x": index % ACROSS * WIDTH,
                "y": top + 1 + index // ACROSS * HEIGHT,
                "w": WIDTH,
                "h": HEIGHT,
            }
            panels.append(_panel(len(panels) + 1, panel, place))
        top += 1 + (len(row) + ACROSS - 1) // ACROSS * HEIGHT
    run = {"name": "run", "type": "query", "datasource": SOURCE, "query": "label_values(ray_autodriverl_running, run)"}
    return {
        "uid": "autodriverl",
        "title": "AutoDriveRL",
        "tags": ["ray"],
        "timezone": "browser",
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus"},
                run | {"multi": True, "includeAll": True, "allValue": ".*", "refresh": 2},
            ]
        },
        "panels": panels,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
