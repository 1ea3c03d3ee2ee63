"""Measuring a model on a benchmark: ask, keep every reply, have it judged, score each repeat, write the record.

Every reply is on disk the moment it ends, so that a measurement that was stopped goes on where it stood. The caller
gives what answers and what judges.
"""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any

from actors.measuring.answerer import Answerer, Reply
from data.errors import DataError
from data.faults import EMPTY_ANSWER, Faults, first_note, refuse_unfit
from data.rollout import SamplingSettings
from evaluation.held_out import AnswerRecord, asked_of
from evaluation.metrics.judging import Judgements, judge_all
from evaluation.metrics.predictions import Predictions
from evaluation.metrics.result import SuiteResult
from evaluation.suites.record import (
    NO_VALUE,
    Cost,
    SuiteRecord,
    combined_bars,
    combined_figures,
    combined_tables,
    write_record,
)
from evaluation.suites.registry import IN_RECIPES, suites_of
from evaluation.suites.suite import AnswerScore, OptionError, Question, Scored, Suite, SuiteOptions
from recipe import Recipe
from rewards.judge import Judge

if TYPE_CHECKING:  # it brings torch, which a recipe is checked without
    from policies.fitting import Fitting

REPLIES_FILE = "replies.jsonl"
ASKED_FILE = "asked.json"
NOTHING_SCORED = "The file holds no true answers, so nothing was scored; predictions-0.json is what to hand in."


@dataclass(frozen=True)
class Benchmark:
    """A benchmark with its questions loaded."""

    name: str
    suite: type[Suite]
    options: SuiteOptions
    questions: tuple[Question, ...]
    not_asked: dict[str, int]
    """Questions that cannot be asked, or are asked in spite of a fault, counted by reason."""
    limited: bool = False
    """Only some of its questions are asked."""

    @classmethod
    def load(cls, name: str, suite: type[Suite], options: SuiteOptions, seed: int, folder: Path) -> Benchmark:
        """Load the questions; with a limit N those of frames drawn from the seed, until there are at least N.

        Frames stay whole, since DriveLM scores a frame's questions by the answer to its first.

        Args:
            name: what the suite is called in records.
            suite: one that asks.
            options: the suite's.
            seed: of the frames that a limit draws.
            folder: where the suite may write images, shared by all runs.

        Raises:
            DataError: a file of the benchmark cannot be used, or no question can be asked.
        """
        faults = Faults(options.strict, unanswered=True)
        questions = tuple(suite(options).questions(faults, folder))
        if not questions:
            raise DataError(f"no question of {name} can be asked{first_note(faults)}")
        not_asked = {f"not_asked_{reason}": len(ids) for reason, ids in faults.as_dict().items()}
        drawn = _drawn_frames(name, questions, options.limit, seed)
        asked = tuple(one for one in questions if _frame_of(one) in drawn)
        return cls(name, suite, options, asked, not_asked, limited=len(asked) < len(questions))

    def fitted(self, fitting: Fitting, *, drop: bool) -> Benchmark:
        """The questions that a model can be asked; others are counted where they may be dropped.

        Raises:
            DataError: there are others, and none may be dropped, or all would be; with the benchmark's name.
        """
        faults = Faults()
        questions = tuple(
            replace(question, sample=sample)
            for question in self.questions
            for sample in fitting.admitted([question.sample], faults)
        )
        try:
            refuse_unfit(faults, len(questions), drop=drop)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from None
        unasked = {f"not_asked_{reason}": len(ids) for reason, ids in faults.as_dict().items()}
        return replace(self, questions=questions, not_asked=self.not_asked | unasked)

    @property
    def answered(self) -> bool:
        """Whether a true answer is known to any question; else replies are written, and nothing is scored."""
        return any(question.sample.answer for question in self.questions)

    def scoring(self) -> Suite:
        """The suite that scores the answers; those that nobody was asked for are missing, which is no fault."""
        return self.suite(self.options.model_copy(update={"strict": self.options.strict and not self.limited}))


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
    by_model: bool = True
    """A model answers; else a predictions file did."""

    def settings(self) -> dict[str, float | int | str | None]:
        """As the record keeps it: how answers that were given elsewhere came about, nobody here knows."""
        how = {**self.sampling.as_dict(), "repeats": self.repeats} if self.by_model else {}
        return {**how, "judge": self.judge}


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
        await _score(benchmark, [one for one in replies if one.repeat == repeat], judge, asking, folder, repeat)
        for repeat in range(asking.repeats)
    ]
    record = _record(benchmark, asking, scored, replies, seconds, started_at)
    by_key = {question.key: question for question in benchmark.questions}
    given = [one for one in replies if asking.by_model or one.failure is None]  # a file answers what it answers
    answers = [_answer(by_key[one.key], one, scored[one.repeat].answers.get(one.key)) for one in given]
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
    options = benchmark.options.about_questions()
    about = {"suite": benchmark.name, "options": options, "sampling": asking.sampling.as_dict(), **asking.identity}
    folder.mkdir(parents=True, exist_ok=True)
    asked, replies = folder / ASKED_FILE, folder / REPLIES_FILE
    if asked.is_file() and _as_now(json.loads(asked.read_text()), benchmark.options) != about:
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


def _as_now(about: dict[str, Any], options: SuiteOptions) -> dict[str, Any]:
    """What an earlier version asked about, less the options that are no longer about questions."""
    fields = type(options).model_fields
    kept = {name: value for name, value in about["options"].items() if name not in fields or not fields[name].exclude}
    return about | {"options": kept}


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


async def _score(
    benchmark: Benchmark, replies: Sequence[Reply], judge: Judge | None, asking: Asking, folder: Path, repeat: int
) -> Scored:
    """Score one repeat; its predictions file is written too, to be scored again by anyone."""
    suite = benchmark.scoring()
    texts = {reply.key: reply.text for reply in replies if reply.failure is None}
    if not texts:
        reasons = Counter(reply.failure for reply in replies)
        raise DataError(f"no question of {benchmark.name} was answered: {dict(reasons)}")
    file = folder / f"predictions-{repeat}.json"
    predictions = Predictions(texts, {}, by_model=asking.by_model)
    handed_in = suite.handed_in(predictions, benchmark.questions)
    file.write_text(json.dumps(handed_in, ensure_ascii=False, indent=0), encoding="utf-8")
    if not benchmark.answered:
        return Scored(SuiteResult(0, {}), (), {}, {}, faults={EMPTY_ANSWER: len(texts)})
    judgements: Judgements | None = None
    if judge is not None:
        requests = await asyncio.to_thread(suite.judge_requests, predictions)
        judgements = await judge_all(judge, requests) if requests else None
    scored = await asyncio.to_thread(suite.score, predictions, judgements)
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
        title=benchmark.suite.title,
        model=asking.model,
        sampling=asking.settings(),
        sources={name: str(path) for name, path in benchmark.options.files().items()},
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
        notes=(
            *([f"Only {asked} questions were asked, of frames drawn from the seed."] if benchmark.limited else []),
            *([] if benchmark.answered else [NOTHING_SCORED]),
        ),
    )


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


def load_benchmarks(recipe: Recipe) -> tuple[Benchmark, ...]:
    """The benchmarks of `evaluation.suites` with their questions.

    Raises:
        ExtensionError: a name or option is unknown, or does not fit; the setting is named.
        DataError: a file cannot be used.
    """
    if not recipe.evaluation.every:
        return ()
    loaded, root = [], Path(recipe.run.root).expanduser()
    for name, (suite, options) in suites_of(recipe.evaluation.suites).items():
        try:
            loaded.append(Benchmark.load(name, suite, options, recipe.data.seed, root))
        except OptionError as error:
            raise DataError(f"{IN_RECIPES}.{name}.{error.option} {error.problem}") from None
    return tuple(loaded)
