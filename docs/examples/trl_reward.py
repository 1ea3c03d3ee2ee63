"""A reward for TRL's GRPOTrainer that asks the service: `python -m docs.examples.trl_reward --url URL`.

    trainer = GRPOTrainer(model=..., reward_funcs=ServiceReward(url, key), train_dataset=...)

The dataset's columns `question`, `answer`, `task` and `kind` go with each completion, and so do images in a column of
the same name, as `{camera: data URI}`. The service scores by its own judge, CLIP and rules, or by a grader of yours.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import httpx

COLUMNS = ("id", "scene_id", "task", "kind", "question", "answer", "choices", "images")
"""Columns of a dataset that are a sample's."""
AT_ONCE = 64
"""Answers in one call."""


class ServiceReward:
    """One of TRL's `reward_funcs`: None where the service could give no score, which TRL leaves out."""

    __name__ = "service"

    def __init__(self, url: str, key: str, grader: dict[str, Any] | None = None, timeout_s: float = 300.0) -> None:
        """Ask the service at an address.

        Args:
            url: such as http://127.0.0.1:8000.
            key: of the scope `sample`.
            grader: in place of the service's own routes.
            timeout_s: for one call.
        """
        self._grader = grader
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"{url.rstrip('/')}/v1", headers=headers, timeout=timeout_s)

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        """The reward of each completion, 0 to 1."""
        items = [
            {"sample": _sample(prompt, at, columns), "answer": _text(completion)}
            for at, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]
        return [one for at in range(0, len(items), AT_ONCE) for one in self._scored(items[at : at + AT_ONCE])]

    def _scored(self, items: list[dict[str, Any]]) -> list[float | None]:
        body = {"items": items} | ({"grader": self._grader} if self._grader else {})
        answer = self._http.post("/rewards", json=body)
        answer.raise_for_status()
        return [None if one["value"] is None else one["value"] / 100.0 for one in answer.json()["data"]]


def _sample(prompt: Any, at: int, columns: dict[str, Any]) -> dict[str, Any]:
    """A row of the dataset as a sample; TRL repeats it for each completion."""
    found = {name: columns[name][at] for name in COLUMNS if name in columns and columns[name][at] is not None}
    return {"question": _text(prompt)} | found


def _text(said: Any) -> str:
    """The text of a prompt or a completion: a string, or the last message of a conversation."""
    if isinstance(said, str):
        return said
    content = said[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def main() -> None:
    """Score two answers to one question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--grader", help="a grader in JSON, in place of the service's routes")
    given = parser.parse_args()
    grader = json.loads(given.grader) if given.grader else None
    reward = ServiceReward(given.url, os.environ["AUTODRIVERL_KEY"], grader)
    question = "May the ego vehicle go? Answer yes or no."
    rewards = reward([question] * 2, ["Yes", "No"], answer=["Yes"] * 2, kind=["yes_no"] * 2)
    for answer, value in zip(("Yes", "No"), rewards, strict=True):
        print(f"{answer}: {value}")


if __name__ == "__main__":
    main()
