"""Write a checkpoint whose weights are pickled anew, as safetensors.

python -m commands.to_safetensors FOLDER NEW_FOLDER

torch reads the pickle without running what it asks for (`weights_only`), and refuses one that holds more than tensors.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from commands.script import command
from policies.errors import PolicyError


def main(arguments: list[str]) -> int:
    """Convert; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.to_safetensors", description="Write pickled weights anew, as safetensors."
    )
    parser.add_argument("folder", type=Path, help="checkpoint folder with pytorch_model*.bin")
    parser.add_argument("new_folder", type=Path, help="folder to write; must not exist")
    options = parser.parse_args(arguments)
    pickled = sorted(options.folder.glob("*.bin"))
    if not pickled:
        raise PolicyError(f"{options.folder} holds no .bin file: name the folder of a checkpoint")
    if options.new_folder.exists():
        raise PolicyError(f"{options.new_folder} exists already: name another folder")
    tensors: dict[str, Tensor] = {}
    for file in pickled:
        try:
            tensors |= torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle's, torch's or zip's own: there is no common class
            raise PolicyError(f"{file} holds more than tensors, or is damaged: {error}") from error
    shutil.copytree(options.folder, options.new_folder, ignore=shutil.ignore_patterns("*.bin", "*.bin.index.json"))
    # Tied weights share memory in the pickle, and safetensors keeps each by itself.
    own = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, options.new_folder / "model.safetensors", metadata={"format": "pt"})
    print(f"{len(own)} tensors in {options.new_folder / 'model.safetensors'}")
    return 0


if __name__ == "__main__":
    command(main)
