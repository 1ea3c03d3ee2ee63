"""What is wrong with a model's folder can be seen from its files: named before torch is imported."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from policies.errors import PolicyError

INDEX_FILE = "model.safetensors.index.json"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def check_folder(model: str) -> None:
    """Check that a folder has a config, a processor and whole files of weights; a hub name is not looked at.

    The weights themselves are not read.

    Raises:
        PolicyError: says what is missing.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise PolicyError(f"policy.model={folder} is neither a checkpoint folder nor a known hub name: no config.json")
    refuse_pickled(folder, "policy.model")
    for file in weight_files(folder):
        if not file.is_file():
            raise PolicyError(f"policy.model: {file} is missing, though {file.parent / INDEX_FILE} names it")
        try:
            with safe_open(file, framework="np"):  # reads the table of contents, and compares the file's length with it
                pass
        except SafetensorError as error:
            raise PolicyError(f"policy.model: {file} is damaged or cut short ({error}): copy it again") from error
    if not any(folder.glob("*.safetensors")):
        raise PolicyError(
            f"policy.model={folder} holds no weights: put the model's safetensors files there (python -m cluster.plan "
            "alone can do without)"
        )
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise PolicyError(
            f"policy.model={folder} has no processor: put {', '.join(PROCESSOR_FILES)} and the tokenizer files of the "
            "original model beside its weights"
        )


def refuse_pickled(folder: Path, setting: str) -> None:
    """Refuse a folder whose weights are pickled: loading a pickle can run whatever its writer wants.

    Raises:
        PolicyError: names the file, and how it becomes safetensors.
    """
    pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled and not any(folder.glob("*.safetensors")):
        raise PolicyError(
            f"{setting}: {pickled[0]} is pickled, and loading it could run code: where you trust it, write it anew as "
            f"safetensors, python -m commands.to_safetensors {folder} NEW_FOLDER"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are there, and those that the index names.

    Raises:
        PolicyError: the index is damaged.
    """
    index = folder / INDEX_FILE
    try:
        named = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()
    except (ValueError, KeyError, AttributeError) as error:
        raise PolicyError(f"policy.model: {index} is damaged or cut short ({error}): copy it again") from error
    return sorted({*folder.glob("*.safetensors"), *(folder / name for name in named)})
