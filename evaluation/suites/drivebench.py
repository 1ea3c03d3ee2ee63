"""`evaluate.py drivebench`: the same questions with clean images, under corruptions and with black images.

No torch, no ray.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from data.corruptions.corruption import CORRUPTIONS
from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.drivebench import frame_questions, read_drivebench
from data.sample import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH, TASKS, DrivingSample
from evaluation.metrics.drivebench import (
    CLEAN,
    NO_IMAGE,
    RobustnessTable,
    SettingScore,
    accuracy_table,
    judge_table,
    rule_score,
)
from evaluation.metrics.judging import Judgements, failures, judged_value
from evaluation.metrics.predictions import Predictions, PredictionsFile, match
from evaluation.metrics.result import SuiteResult
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes, left_out, needed_folder
from evaluation.suites.published import BY_RULES, DRIVEBENCH_CLEAN_CORRUPTED, OTHER_JUDGE
from evaluation.suites.suite import AnswerScore, Bars, OptionError, Question, Scored, Suite, SuiteOptions, Table
from rewards.answer import answer_part
from rewards.judge import JudgeRequest
from rewards.rubric import load_rubric, rubric_for

KNOWN_SETTINGS = (CLEAN, *(corruption.name for corruption in CORRUPTIONS), NO_IMAGE)
NO_DESCRIPTIONS = "Judged without --visual-descriptions, which two of the rubrics ask for."

_CAMERA = re.compile(r"\bCAM_[A-Z_]+\b")


@dataclass(frozen=True, slots=True)
class DriveBenchResult(SuiteResult):
    """Both tables; `judge` is None without a judge. `unreadable` counts answers that choose nothing, or several."""

    accuracy: RobustnessTable
    judge: RobustnessTable | None
    unreadable: int


class DriveBenchOptions(SuiteOptions):
    """Its files, and the conditions in which questions are asked."""

    answers: Path
    """DriveBench's question file."""
    visual_descriptions: Path | None = None
    """visual_description.json, which two rubrics read."""
    image_root: Path | None = None
    """Folder that holds samples/CAM_FRONT/..., the clean images; needed to ask a model."""
    corruptions: Path | None = None
    """Folder of the corruptions: Fog/CAM_FRONT/..., Rain/..., ..."""
    settings: str | None = None
    """clean,no_image,Fog,... (default: all there are images for); with a predictions file, the setting of records
    without ids (default: clean)."""


@dataclass(frozen=True)
class DriveBench(Suite):
    """The same questions with clean images, under corruptions and with black images; each time is a setting.

    A predictions file calls a question setting/scene_frame_i, or scene_frame_i for clean images; what the benchmark's
    own inference writes has no ids and is read too.
    """

    options: DriveBenchOptions
    Options: ClassVar[type[SuiteOptions]] = DriveBenchOptions
    title: ClassVar[str] = "DriveBench: clean images, corruptions and no image"
    headline: ClassVar[tuple[str, ...]] = tuple(f"{by}/clean/{task}" for by in ("judge", "accuracy") for task in TASKS)
    judged: ClassVar[bool] = True

    def questions(self, faults: Faults, folder: Path) -> list[Question]:
        """Every question in every setting.

        A question is asked with the cameras that it names, or with all six where it names none, as DriveBench does.

        Raises:
            DataError: a file or the images cannot be used, or a setting has none.
        """
        options = self.options
        return [
            Question(_shown(sample, setting, folder), setting, (sample.id,) if setting == CLEAN else ())
            for setting, root in _roots(options).items()
            for sample in read_drivebench(options.answers, root, faults, options.visual_descriptions)
        ]

    def predictions(self, file: PredictionsFile) -> Predictions:
        """The predictions file. What the benchmark's own inference writes has no ids: `pred` beside a question's entry.

        Such a record belongs to the question of its text about its scene and frame, wherever it stands.

        Raises:
            DataError: as `PredictionsFile.read`; a text is that of several questions, or the setting of such a file is
                unknown.
        """
        asked, taken = frame_questions(self.options.answers), Counter[str]()
        setting = self.options.settings or CLEAN
        id_key, answer_key = file.id_key or "id", file.answer_key
        pred = "pred" if answer_key == "answer" else answer_key  # its `answer` is the truth

        def as_record(record: dict[str, Any]) -> dict[str, Any]:
            scene_id, frame_id = record.get("scene_token"), record.get("frame_token")
            if id_key in record or not isinstance(scene_id, str) or not isinstance(frame_id, str):
                return record
            if setting not in KNOWN_SETTINGS:
                raise OptionError(
                    "settings",
                    f"{setting} is no setting of a predictions file without ids; settings: {', '.join(KNOWN_SETTINGS)}",
                )
            said = text if isinstance(text := record.get("question"), str) else ""
            places, of_frame = _places(said, asked.get((scene_id, frame_id), [])), f"{scene_id}_{frame_id}"
            if len({asked[scene_id, frame_id][place] for place in places}) > 1:
                raise DataError(
                    f"{file.predictions} has no ids, and {self.options.answers} asks several questions of frame "
                    f"{frame_id} that {said!r} may mean, with different answers: give its records ids"
                )
            which = f"{of_frame}/{said}"  # of questions that are alike in all, the next
            place = places[min(taken[which], len(places) - 1)] if places else repr(said)
            taken[which] += 1
            return {id_key: _name(setting, f"{of_frame}_{place}"), answer_key: record.get(pred)}

        return file.read(as_record=as_record)

    def judge_requests(self, predictions: Predictions) -> dict[str, JudgeRequest]:
        """Every answer, by the rubric for its task and kind."""
        faults = Faults()
        pairs, _ = _paired(_truths(self.options, faults), predictions.texts, faults, strict=self.options.strict)
        return {
            key: load_rubric(rubric_for(sample)).request(sample, answer_part(text))
            for key, (sample, _, text) in pairs.items()
        }

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score by rule what a rule decides, and by the judgements everything, where there are any."""
        strict = self.options.strict
        faults = Faults(strict)
        pairs, unmatched = _paired(_truths(self.options, faults), predictions.texts, faults, strict=strict)
        scores = {
            key: rule_score(sample, setting, text, judged_value(judgements, key)[0])
            for key, (sample, setting, text) in pairs.items()
        }
        accuracy = accuracy_table(scores.values())
        judge = judge_table(scores.values()) if judgements is not None else None
        unreadable = sum(one.unreadable for one in scores.values())
        result = DriveBenchResult(
            scored=len(pairs), faults=unmatched, accuracy=accuracy, judge=judge, unreadable=unreadable
        )
        tables = {"accuracy": accuracy} | ({"judge": judge} if judge else {})
        return Scored(
            result=result,
            rows=tuple(row for name, table in tables.items() for row in _rows(name, table))
            + (("answers that choose nothing, or several", f"{unreadable:,}"),),
            reported=asdict(result),
            figures={name: value for of, table in tables.items() for name, value in _figures(of, table).items()},
            answers={key: _answer_score(one, judgements, key) for key, one in scores.items()},
            tables=tuple(shown for name, table in tables.items() for shown in _tables(name, table)),
            bars=tuple(_bars(name, table) for name, table in tables.items()),
            faults=fault_counts(result, faults, predictions.faults) | failures(judgements),
            notes=(
                *([NO_DESCRIPTIONS] if judge and not self.options.visual_descriptions else []),
                *fault_notes(result, faults, predictions.faults),
            ),
        )


# --- asking -----------------------------------------------------------------------------------------------------------


def _roots(options: DriveBenchOptions) -> dict[str, Path]:
    """Where the images of each setting lie; black images take the clean ones' names."""
    roots = {CLEAN: needed_folder("image_root", options.image_root)}
    if options.corruptions is not None:
        if not options.corruptions.is_dir():
            raise OptionError("corruptions", f"{options.corruptions} does not exist or is not a folder")
        folders = sorted(path for path in options.corruptions.iterdir() if _has_cameras(path))
        strange = [path.name for path in folders if path.name not in KNOWN_SETTINGS]
        if strange or not folders:
            found = f"{strange[0]}, which is none of them" if strange else "no folder of one (Fog/CAM_FRONT/...)"
            known = ", ".join(KNOWN_SETTINGS[1:-1])
            raise OptionError("corruptions", f"{options.corruptions} holds {found}; corruptions: {known}")
        roots |= {path.name: path for path in folders}
    roots[NO_IMAGE] = roots[CLEAN]
    chosen = options.settings.split(",") if options.settings else list(roots)
    unknown = [name for name in chosen if name not in roots]
    if unknown:
        raise OptionError("settings", f"{unknown[0]} has no images; settings: {', '.join(roots)}")
    return {name: roots[name] for name in chosen}


def _has_cameras(path: Path) -> bool:
    return any((path / camera).is_dir() for camera in CAMERAS)


def _shown(sample: DrivingSample, setting: str, folder: Path) -> DrivingSample:
    """The sample with the images of the cameras that its question names, black ones where it is asked without."""
    named = [camera for camera in _CAMERA.findall(sample.question) if camera in sample.images] or list(sample.images)
    images = {camera: path for camera, path in sample.images.items() if camera in named}
    if setting == NO_IMAGE:
        images = dict.fromkeys(images, str(_black_image(folder)))
    return replace(sample, images=images)


def _black_image(folder: Path) -> Path:
    path = (folder / "drivebench-black.png").resolve()
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (IMAGE_WIDTH, IMAGE_HEIGHT)).save(path)
    return path


# --- scoring ----------------------------------------------------------------------------------------------------------


def _places(said: str, asked: Sequence[tuple[str, str]]) -> list[int]:
    """Which questions of a frame a text is, or else holds, as a prompt does: of these the longest."""
    words = " ".join(said.split())
    texts = [" ".join(question.split()) for question, _ in asked]
    longest = max((len(text) for text in texts if text in words), default=0)
    return [place for place, text in enumerate(texts) if text in words and len(text) == longest > 0]


def _truths(options: DriveBenchOptions, faults: Faults) -> dict[str, DrivingSample]:
    samples = read_drivebench(options.answers, None, faults, options.visual_descriptions)
    truths = {sample.id: sample for sample in samples}
    if not truths:
        raise DataError(f"{options.answers} holds no usable question{first_note(faults)}")
    return truths


def _paired(
    truths: Mapping[str, DrivingSample], responses: Mapping[str, str], faults: Faults, *, strict: bool
) -> tuple[dict[str, tuple[DrivingSample, str, str]], dict[str, list[str]]]:
    """Sample, setting and response by the key of each question that was answered; the other ids by their fault."""
    texts = {_key(id_): text for id_, text in responses.items()}
    settings = dict.fromkeys(setting for setting, _ in texts if setting in KNOWN_SETTINGS)
    asked = {(setting, id_): sample for setting in settings for id_, sample in truths.items()}
    named = {_name(*key): key for key in (*asked, *texts)}
    unused = [_name(setting, id_) for setting in settings for id_ in left_out(faults)]
    predicted, true = {_name(*key): None for key in texts}, [_name(*key) for key in asked]
    matched = match(predicted, true, strict=strict, left_out=unused)
    keys: Iterator[tuple[str, str]] = (named[name] for name in matched.ids)
    return {_name(*key): (asked[key], key[0], texts[key]) for key in keys}, matched.faults


def _key(id_: str) -> tuple[str, str]:
    setting, slash, rest = id_.partition("/")
    return (setting, rest) if slash else (CLEAN, id_)


def _name(setting: str, id_: str) -> str:
    return f"{setting}/{id_}"


def _answer_score(one: SettingScore, judgements: Judgements | None, key: str) -> AnswerScore:
    parts = {} if one.right is None else {"right": 100.0 * one.right}
    if judgements is None:
        return AnswerScore(parts.get("right"), parts)
    return AnswerScore(one.judged, parts, judged_value(judgements, key)[1])


# --- showing ----------------------------------------------------------------------------------------------------------


def _rows(name: str, table: RobustnessTable) -> list[tuple[str, str]]:
    lines = [(CLEAN, table.rows.get(CLEAN, {})), ("mean corrupted", table.mean_corrupted)]
    lines += [(NO_IMAGE, table.rows[NO_IMAGE])] if NO_IMAGE in table.rows else []
    return [
        (f"{name}, {setting}: {task}", fixed(row.get(task), 2))
        for setting, row in lines
        for task in TASKS
        if row.get(task) is not None
    ]


def _figures(name: str, table: RobustnessTable) -> dict[str, float | None]:
    figures = {f"{name}/{setting}/{task}": value for setting, row in table.rows.items() for task, value in row.items()}
    for key, row in (("corrupted", table.mean_corrupted), ("drop", table.drop), ("no_image_drop", table.no_image_drop)):
        figures |= {f"{name}/{key}/{task}": value for task, value in row.items()}
    return figures


def _tables(name: str, table: RobustnessTable) -> tuple[Table, Table]:
    """AutoDriveRL's Table 1, and its Tables 10 to 14 in one: a row for each setting."""
    clean = table.rows.get(CLEAN, {})
    cells = tuple(value for task in TASKS for value in (clean.get(task), table.mean_corrupted[task]))
    settings = [CLEAN, *table.corruptions, NO_IMAGE]
    rows = [
        (setting, tuple(table.rows[setting][task] for task in TASKS)) for setting in settings if setting in table.rows
    ]
    rows.append(("mean corrupted", tuple(table.mean_corrupted[task] for task in TASKS)))
    rows.append(("clean less corrupted", tuple(table.drop[task] for task in TASKS)))
    rows.append(("clean less no image", tuple(table.no_image_drop[task] for task in TASKS)))
    what = "score by the judge" if name == "judge" else "right by rule (%)"
    columns = tuple(f"{task.capitalize()} {kind}" for task in TASKS for kind in ("clean", "corr."))
    judged = name == "judge"
    return (
        Table(
            f"DriveBench: {what}",
            columns,
            (("this run", cells),),
            DRIVEBENCH_CLEAN_CORRUPTED,
            OTHER_JUDGE if judged else f"Multiple choice and yes/no alone. {BY_RULES.format(OTHER_JUDGE)}",
        ),
        Table(f"Every setting: {what}", tuple(task.capitalize() for task in TASKS), tuple(rows)),
    )


def _bars(name: str, table: RobustnessTable) -> Bars:
    settings = tuple(setting for setting in (CLEAN, *table.corruptions, NO_IMAGE) if setting in table.rows)
    present = [task for task in TASKS if any(table.rows[setting][task] is not None for setting in settings)]
    series = tuple((task, tuple(table.rows[setting][task] for setting in settings)) for task in present)
    title = "Score by the judge in each setting" if name == "judge" else "Right by rule in each setting"
    return Bars(title, "points" if name == "judge" else "%", settings, series, 100.0)
