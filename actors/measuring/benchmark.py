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
from typing import Any

from actors.measuring.answerer import Answerer, Reply
from actors.rollout.rollout import SamplingSettings
from data.errors import DataError
from data.faults import Faults, first_note
from evaluation.held_out import AnswerRecord, asked_of
from evaluation.metrics.judging import Judgements, judge_all
from evaluation.suites.record import (
    NO_VALUE,
    Cost,
    SuiteRecord,
    combined_bars,
    combined_figures,
    combined_tables,
    write_record,
)
from evaluation.suites.registry import SUITES, suite_of
from evaluation.suites.suite import AnswerScore, Question, Scored
from rewards.judge import Judge

REPLIES_FILE = "replies.jsonl"
ASKED_FILE = "asked.json"
NOT_ABOUT_QUESTIONS = frozenset(
    {"model", "served_model", "predictions", "id_key", "answer_key", "details", "strict", "out", "cache"}
    | {"recipe", "overrides", "repeats", "limit", "temperature", "seed"}
)
"""Options of a benchmark that change no prompt: who answers, how often and how many (`Asking` has the rest)."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its questions loaded."""

    name: str
    options: argparse.Namespace
    questions: tuple[Question, ...]
    not_asked: dict[str, int]
    """Questions that cannot be asked, or are asked in spite of a fault, counted by reason."""
    limited: bool = False
    """Only some of its questions are asked."""

    @classmethod
    def load(cls, name: str, options: argparse.Namespace, limit: int | None, seed: int) -> Benchmark:
        """Load the questions; with `limit` those of frames drawn from the seed until there are so many or more.

        Frames stay whole, since DriveLM scores a frame's questions by the answer to its first.

        Raises:
            DataError: a file of the benchmark cannot be used, or no question can be asked.
        """
        if limit is not None and limit < 1:
            raise DataError(f"limit must be at least 1, got {limit}")
        if not SUITES[name].asks:
            raise DataError(f"{name} asks no model: it scores the result of a leaderboard")
        faults = Faults(options.strict)
        questions = tuple(suite_of(name).questions(options, faults))
        if not questions:
            raise DataError(f"no question of {name} can be asked{first_note(faults)}")
        not_asked = {f"not_asked_{reason}": len(ids) for reason, ids in faults.as_dict().items()}
        drawn = _drawn_frames(name, questions, limit, seed)
        asked = tuple(one for one in questions if _frame_of(one) in drawn)
        return cls(name, options, asked, not_asked, limited=len(asked) < len(questions))


def _drawn_frames(name: str, questions: Sequence[Question], limit: int | None, seed: int) -> set[tuple[str, str]]:
    """Frames at random, until their questions are `limit` or more; a question counts once, whatever its settings."""
    by_frame: dict[tuple[str, str], set[str]] = {}
    for question in questions:
        by_frame.setdefault(_frame_of(question), set()).add(question.sample.id)
    frames = list(by_frame)
    if limit is None:
        return set(frames)
    random.Random(f"{name}/{seed}").shuffle(frames)
    drawn, count = set[tuple[str, str]](), 0
    for frame in frames:
        if count >= limit:
            break
        drawn.add(frame)
        count += len(by_frame[frame])
    return drawn


def _frame_of(question: Question) -> tuple[str, str]:
    return question.sample.scene_id, question.sample.frame_id


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked, and what it is called in the record."""

    model: str
    sampling: SamplingSettings
    repeats: int
    judge: str | None
    """What the judge is called; None where nobody judges."""
    identity: dict[str, Any]
    """All that decides the replies beside question and sampling: the weights, and how prompts are built."""

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
    asked_about = {
        name: str(value) for name, value in vars(benchmark.options).items() if name not in NOT_ABOUT_QUESTIONS
    }
    about = {"suite": benchmark.name, "options": asked_about, "sampling": asdict(asking.sampling), **asking.identity}
    folder.mkdir(parents=True, exist_ok=True)
    asked, replies = folder / ASKED_FILE, folder / REPLIES_FILE
    if asked.is_file() and json.loads(asked.read_text()) != about:
        raise DataError(
            f"{folder} holds the replies of another measurement ({asked} says of which): choose another folder, or "
            "delete this one"
        )
    _write(asked, json.dumps(about, indent=1))
    if not replies.is_file():
        return {}
    # By the file's own lines; what stands behind the last one was cut off by the stop.
    lines = replies.read_text(encoding="utf-8").split("\n")[:-1]
    _write(replies, "".join(f"{line}\n" for line in lines))
    found = [Reply(**json.loads(line)) for line in lines]
    return {(reply.key, reply.repeat): reply for reply in found if reply.failure is None}


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


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
    asked = len({question.sample.id for question in benchmark.questions})
    tokens = [reply.response_tokens for reply in answered if reply.response_tokens is not None]
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
            response_tokens=fmean(tokens) if tokens else None,
            image_tokens=fmean(image_tokens) if image_tokens else None,
            seconds_per_question=seconds if tokens else None,
            overlong_share=fmean(reply.finish_reason == "length" for reply in answered) if tokens else None,
        ),
        faults=benchmark.not_asked | faults,
        notes=(f"Only {asked} questions were asked, of frames drawn from the seed.",) if benchmark.limited else (),
    )


def _sources(options: argparse.Namespace) -> dict[str, str]:
    """The files behind the questions."""
    return {name: str(value) for name, value in vars(options).items() if isinstance(value, Path)}


def _answer(question: Question, reply: Reply, score: AnswerScore | None) -> AnswerRecord:
    value = score.value if score is not None and reply.failure is None else None
    failure = reply.failure or (score.failure if score is not None else None)
    return AnswerRecord(
        **asked_of(question.sample),
        response=reply.text,
        finish_reason=reply.finish_reason,
        token_count=reply.response_tokens or 0,
        value=0.0 if value is None else value,
        parts=score.parts if score is not None else {},
        failure=failure or (NO_VALUE if value is None else None),
        setting=question.setting,
        repeat=reply.repeat,
        image_tokens=reply.image_tokens,
        seconds=reply.seconds,
    )
