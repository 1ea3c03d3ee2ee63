"""Measuring a model on a benchmark: ask, keep every reply, have it judged, score each repeat, write the record.

Every reply is on disk the moment it ends, so that a measurement that was stopped goes on where it stood. Who answers
and who judges comes from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from actors.answerer import Answerer, Reply
from actors.rollout import SamplingSettings
from data.errors import DataError
from evaluation.held_out import AnswerRecord
from evaluation.judging import judge_all
from evaluation.suite import AnswerScore, Judgements, Question, Scored
from evaluation.suite_record import (
    NO_VALUE,
    Cost,
    SuiteRecord,
    combined_bars,
    combined_figures,
    combined_tables,
    write_record,
)
from evaluation.suites import SUITES, suite_of
from rewards.judge import Judge

REPLIES_FILE = "replies.jsonl"
ASKED_FILE = "asked.json"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its questions loaded."""

    name: str
    options: argparse.Namespace
    questions: tuple[Question, ...]
    limited: bool
    """Only some of its questions are asked."""

    @classmethod
    def load(cls, name: str, options: argparse.Namespace, limit: int | None, seed: int) -> Benchmark:
        """Load the questions; with `limit` only so many, drawn once from the seed, each in all of its settings.

        Raises:
            DataError: a file of the benchmark cannot be used.
        """
        questions = tuple(suite_of(name).questions(options))
        ids = list(dict.fromkeys(question.sample.id for question in questions))
        if limit is None or limit >= len(ids):
            return cls(name, options, questions, limited=False)
        drawn = frozenset(random.Random(f"{name}/{seed}").sample(ids, limit))
        return cls(name, options, tuple(one for one in questions if one.sample.id in drawn), limited=True)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked, and what it is called in the record."""

    model: str
    sampling: SamplingSettings
    repeats: int
    judge: str | None
    """What the judge is called; None where nobody judges."""

    def settings(self) -> dict[str, float | int | str | None]:
        """As the record keeps it."""
        return {**asdict(self.sampling), "repeats": self.repeats, "judge": self.judge}


async def measure(
    benchmark: Benchmark, answerer: Answerer, judge: Judge | None, asking: Asking, folder: Path
) -> SuiteRecord:
    """Ask what was not answered yet, judge, score and write `results.json` and `answers.jsonl` into `folder`.

    Raises:
        DataError: the folder holds the replies of another measurement, or no question was answered.
        ActorLost, ActorTimeout: an engine stopped answering; the replies that came are kept.
    """
    started_at = datetime.now(UTC)
    replies, seconds = await _ask(benchmark, answerer, asking, folder)
    scored = [
        await _score(benchmark, [one for one in replies if one.repeat == repeat], judge, folder, repeat)
        for repeat in range(asking.repeats)
    ]
    record = _record(benchmark, asking, scored, replies, seconds, started_at)
    by_key = {question.key: question for question in benchmark.questions}
    answers = [_answer(by_key[one.key], one, scored[one.repeat].answers.get(one.key)) for one in replies]
    await asyncio.to_thread(write_record, folder, record, answers)
    return record


async def _ask(
    benchmark: Benchmark, answerer: Answerer, asking: Asking, folder: Path
) -> tuple[list[Reply], float | None]:
    """All replies in the order of the questions, and the seconds this call's took; None where all were there."""
    known = _known_replies(benchmark, asking, folder)
    wanted = [(question, repeat) for repeat in range(asking.repeats) for question in benchmark.questions]
    missing = [(question, repeat) for question, repeat in wanted if (question.key, repeat) not in known]
    began = time.time()
    if missing:
        with (folder / REPLIES_FILE).open("a", encoding="utf-8") as file:

            def keep(reply: Reply) -> None:
                known[reply.key, reply.repeat] = reply
                file.write(json.dumps(asdict(reply), ensure_ascii=False) + "\n")
                file.flush()

            await answerer.answer(missing, asking.sampling, keep)
    seconds = (time.time() - began) / len(missing) if missing else None
    return [known[question.key, repeat] for question, repeat in wanted], seconds


def _known_replies(benchmark: Benchmark, asking: Asking, folder: Path) -> dict[tuple[str, int], Reply]:
    """The replies of an earlier, interrupted call; those that failed are asked for again."""
    sources = {name: str(value) for name, value in vars(benchmark.options).items()}
    about = {"suite": benchmark.name, "model": asking.model, "sampling": asdict(asking.sampling), "sources": sources}
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / ASKED_FILE
    if asked.is_file() and json.loads(asked.read_text()) != about:
        raise DataError(f"{folder} holds the replies of another measurement ({asked}): choose another folder")
    asked.write_text(json.dumps(about, indent=1))
    if not (folder / REPLIES_FILE).is_file():
        return {}
    lines = (folder / REPLIES_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    found = [Reply(**json.loads(line)) for line in lines if line.endswith("\n")]
    (folder / REPLIES_FILE).write_text("".join(line for line in lines if line.endswith("\n")), encoding="utf-8")
    return {(reply.key, reply.repeat): reply for reply in found if reply.failure is None}


async def _score(
    benchmark: Benchmark, replies: Sequence[Reply], judge: Judge | None, folder: Path, repeat: int
) -> Scored:
    """Score one repeat from the predictions file that is written for it."""
    suite = suite_of(benchmark.name)
    predictions = folder / f"predictions-{repeat}.json"
    texts = {reply.key: reply.text for reply in replies if reply.failure is None}
    if not texts:
        reasons = Counter(reply.failure for reply in replies)
        raise DataError(f"no question of {benchmark.name} was answered: {dict(reasons)}")
    predictions.write_text(json.dumps(texts, ensure_ascii=False, indent=0), encoding="utf-8")
    options = argparse.Namespace(**vars(benchmark.options))
    options.predictions, options.strict = predictions, options.strict and not benchmark.limited
    judgements: Judgements | None = None
    if judge is not None:
        requests = await asyncio.to_thread(suite.judge_requests, options)
        judgements = await judge_all(judge, requests) if requests else None
    scored = await asyncio.to_thread(suite.score, options, judgements)
    lost = Counter(f"no_reply_{reply.failure}" for reply in replies if reply.failure is not None)
    asked = {
        key: value for key, value in scored.faults.items() if not (benchmark.limited and key == "missing_prediction")
    }
    return replace(scored, faults=asked | lost)


def _record(
    benchmark: Benchmark,
    asking: Asking,
    scored: Sequence[Scored],
    replies: Sequence[Reply],
    seconds: float | None,
    started_at: datetime,
) -> SuiteRecord:
    faults: Counter[str] = Counter()
    for one in scored:
        faults.update(one.faults)
    answered = [reply for reply in replies if reply.failure is None]
    image_tokens = [reply.image_tokens for reply in answered if reply.image_tokens is not None]
    notes = [f"Only {len({q.sample.id for q in benchmark.questions})} questions were asked, drawn from the seed."]
    return SuiteRecord(
        suite=benchmark.name,
        title=SUITES[benchmark.name].title,
        model=asking.model,
        sampling=asking.settings(),
        sources=_sources(benchmark.options),
        started_at=started_at.isoformat(timespec="seconds"),
        questions=len(benchmark.questions),
        settings=tuple(dict.fromkeys(question.setting for question in benchmark.questions)),
        figures=combined_figures(scored),
        tables=combined_tables(scored),
        bars=combined_bars(scored),
        cost=Cost(
            response_tokens=fmean(reply.response_tokens for reply in answered),
            image_tokens=fmean(image_tokens) if image_tokens else None,
            seconds_per_question=seconds,
            overlong_share=fmean(reply.finish_reason == "length" for reply in answered),
        ),
        faults=dict(faults),
        notes=tuple(notes) if benchmark.limited else (),
    )


def _sources(options: argparse.Namespace) -> dict[str, str]:
    """The files behind the questions."""
    return {name: str(value) for name, value in vars(options).items() if isinstance(value, Path)}


def _answer(question: Question, reply: Reply, score: AnswerScore | None) -> AnswerRecord:
    sample = question.sample
    value = score.value if score is not None and reply.failure is None else None
    failure = reply.failure or (score.failure if score is not None else None)
    return AnswerRecord(
        sample_id=sample.id,
        scene_id=sample.scene_id,
        task=sample.task,
        kind=sample.kind,
        question=sample.question,
        choices=sample.choices,
        images=sample.images,
        ground_truth=sample.answer,
        response=reply.text,
        finish_reason=reply.finish_reason,
        token_count=reply.response_tokens,
        value=0.0 if value is None else value,
        parts=score.parts if score is not None else {},
        failure=failure or (NO_VALUE if value is None else None),
        setting=question.setting,
        repeat=reply.repeat,
        image_tokens=reply.image_tokens,
        seconds=reply.seconds,
    )
